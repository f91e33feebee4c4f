//! Test fixtures.

use std::net::SocketAddr;

use crate::client::{ClientInfo, KeyPrefixes, TlsInfo, TlsVersion};

/// A client over TLS with an address of the documentation network (RFC 5737).
pub(crate) fn client() -> ClientInfo {
    let addr = SocketAddr::from(([203, 0, 113, 7], 5000));
    let mut client = ClientInfo::new(addr, KeyPrefixes::default(), "main".into());
    client.tls = Some(TlsInfo {
        sni: Some("a.example".into()),
        version: TlsVersion::V13,
        cipher: "TLS_AES_128_GCM_SHA256",
    });
    client
}
