//! A certificate and a client that trusts it, made once for all runs.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// The proxy's certificate, and a connector for clients.
#[derive(Clone)]
pub struct Tls {
    pub chain: String,
    pub key: String,
    pub connector: TlsConnector,
}

impl Tls {
    pub fn shared() -> Self {
        static TLS: OnceLock<Tls> = OnceLock::new();
        TLS.get_or_init(Self::new).clone()
    }

    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            connector: TlsConnector::from(Arc::new(config)),
        }
    }
}
