//! The client of a request: the peer of the connection or, if that is a trusted proxy, the client that
//! its headers name.

use hyper::HeaderMap;

use crate::client::{AddrSource, ClientInfo, KeyPrefixes};
use crate::config::settings::ForwardedHeader;
use crate::config::trusted_proxies::TrustedProxies;
use crate::http::forwarded::{ChainEnd, Forwarded};

/// Returns the client of a request on this connection, and what trusted proxies report about the
/// request. The client is `None` if it is the client of the connection itself. The chain of addresses
/// starts with the client and ends with the peer.
pub fn identify(
    connection: &ClientInfo,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
    prefixes: KeyPrefixes,
) -> (Option<ClientInfo>, Forwarded) {
    let is_trusted = |addr: &_| trusted.contains(addr);
    let mut forwarded = match trusted.header {
        _ if !trusted.contains(&connection.addr) => Forwarded::default(),
        ForwardedHeader::XForwardedFor => Forwarded::from_x_forwarded(headers, is_trusted),
        ForwardedHeader::Forwarded => Forwarded::from_forwarded(headers, is_trusted),
        ForwardedHeader::ClientAddress(name) => {
            Forwarded::from_client_address(headers, name, is_trusted)
        }
    };
    forwarded.from_trusted = trusted.contains(&connection.addr);
    forwarded.chain.push(connection.addr);
    let addr_source = match forwarded.chain_end {
        ChainEnd::Absent => connection.addr_source,
        ChainEnd::Client => AddrSource::Forwarded,
        ChainEnd::AllTrusted => AddrSource::ForwardedAllTrusted,
        ChainEnd::Invalid => AddrSource::ForwardedInvalid,
    };
    let client = forwarded.chain.first().copied().unwrap_or(connection.addr);
    let secure = forwarded.secure.unwrap_or(connection.secure);
    if (client, addr_source, secure) == (connection.addr, connection.addr_source, connection.secure)
    {
        return (None, forwarded);
    }
    let mut info = if client == connection.addr {
        ClientInfo { addr_source, ..connection.clone() }
    } else {
        connection.forwarded_for(client, addr_source, prefixes)
    };
    info.secure = secure;
    (Some(info), forwarded)
}
