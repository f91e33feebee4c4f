//! Whom a request is from: the other end of its connection, or, where that is a trusted proxy,
//! whom it names.

use hyper::HeaderMap;

use crate::client::{AddrSource, ClientInfo, KeyPrefixes};
use crate::config::settings::{ForwardedHeader, TrustedProxies};
use crate::http::forwarded::{ChainEnd, Forwarded};

/// Reads whom a request on this connection is from, and what trusted proxies say of it. The
/// visitor is `None` where it is the connection's own. The chain of addresses always ends with
/// that one, and begins with the client.
pub fn identify(
    connection: &ClientInfo,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
    prefixes: KeyPrefixes,
) -> (Option<ClientInfo>, Forwarded) {
    let is_trusted = |addr: &_| trusted.contains(addr);
    let mut said = match trusted.header {
        _ if !trusted.contains(&connection.addr) => Forwarded::default(),
        ForwardedHeader::XForwardedFor => Forwarded::from_x_forwarded(headers, is_trusted),
        ForwardedHeader::Forwarded => Forwarded::from_forwarded(headers, is_trusted),
    };
    said.chain.push(connection.addr);
    let addr_source = match said.chain_end {
        ChainEnd::Absent => connection.addr_source,
        ChainEnd::Client => AddrSource::Forwarded,
        ChainEnd::AllTrusted => AddrSource::ForwardedAllTrusted,
        ChainEnd::Invalid => AddrSource::ForwardedInvalid,
    };
    let client = said.chain.first().copied().unwrap_or(connection.addr);
    let secure = said.secure.unwrap_or(connection.secure);
    if (client, addr_source, secure) == (connection.addr, connection.addr_source, connection.secure)
    {
        return (None, said);
    }
    let mut visitor = if client == connection.addr {
        ClientInfo { addr_source, ..connection.clone() }
    } else {
        connection.forwarded_for(client, addr_source, prefixes)
    };
    visitor.secure = secure;
    (Some(visitor), said)
}
