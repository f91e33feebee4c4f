//! The server name that a client requests.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::Error as TlsError;
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

/// Adds the requested name to the error that no certificate covers it: `... for NAME`.
pub(super) fn with_name(error: TlsError) -> TlsError {
    if error != TlsError::General(NO_CERTIFICATE_CHAIN.to_owned()) {
        return error;
    }
    let name = RequestedName::take();
    name.map_or(error, |RequestedName(name)| {
        TlsError::General(format!("{NO_CERTIFICATE_CHAIN} for {name}"))
    })
}

/// What rustls says if the resolver has no certificate; it has no error variant for this.
pub const NO_CERTIFICATE_CHAIN: &str = "no server certificate chain resolved";

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
