//! A client for the tests of this room.

use std::net::SocketAddr;

use crate::client::{ClientInfo, KeyPrefixes, TlsInfo, TlsVersion};

/// In the documentation network, over TLS.
pub(super) fn visitor() -> ClientInfo {
    let addr = SocketAddr::from(([203, 0, 113, 7], 5000));
    let mut visitor = ClientInfo::new(addr, KeyPrefixes::default(), "main".into());
    visitor.tls = Some(TlsInfo {
        sni: Some("a.example".into()),
        version: TlsVersion::V13,
        cipher: "TLS_AES_128_GCM_SHA256",
    });
    visitor
}
