//! A client for the tests of this room.

use std::net::SocketAddr;

use crate::client::{KeyPrefixes, TlsFacts, TlsVersion, Visitor};

/// In the documentation network, over TLS.
pub(super) fn visitor() -> Visitor {
    let addr = SocketAddr::from(([203, 0, 113, 7], 5000));
    let mut visitor = Visitor::new(addr, KeyPrefixes::default(), "main".into());
    visitor.tls = Some(TlsFacts {
        sni: Some("a.example".into()),
        version: TlsVersion::V13,
        cipher: "TLS_AES_128_GCM_SHA256",
    });
    visitor
}
