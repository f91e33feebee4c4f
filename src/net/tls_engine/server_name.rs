//! The server name that a client requests.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A server name as the client wrote it.
pub(super) struct RequestedName(pub(super) Box<str>);

impl RequestedName {
    /// Takes the name in the ClientHello that this thread has processed last.
    pub(super) fn take() -> Option<Self> {
        SERVER_NAME.take().map(Self)
    }
}

/// Records the server name that a client requests, because rustls' unbuffered connections do not
/// expose it. rustls calls a resolver on the thread that processes the ClientHello.
#[derive(Debug)]
pub(super) struct SniRecorder(Arc<dyn ResolvesServerCert>);

impl SniRecorder {
    /// Records the names of the hellos that `resolver` gets.
    pub(super) fn new(resolver: Arc<dyn ResolvesServerCert>) -> Self {
        Self(resolver)
    }
}

impl ResolvesServerCert for SniRecorder {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        SERVER_NAME.set(hello.server_name().map(Into::into));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

// The name in the ClientHello that this thread is processing.
thread_local! {
    static SERVER_NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}
