//! The client of a connection or request: its address, its client key, its TLS parameters and the
//! listener it connected to.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use self::ascii::{push_decimal, push_ip, push_socket};

/// The prefix lengths that turn an address into a client key (`[client_key]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPrefixes {
    /// IPv4 bits, 1 to 32.
    pub v4: u8,
    /// IPv6 bits, 1 to 128; one subscriber usually receives a /64.
    pub v6: u8,
}

impl Default for KeyPrefixes {
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

/// A client's address and port. IPv4-mapped IPv6 addresses are converted to IPv4 and the zone is
/// removed. The port is 0 if a proxy in front reported the address only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(SocketAddr);

impl ClientAddr {
    /// Normalises a socket address.
    pub fn new(addr: SocketAddr) -> Self {
        Self(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// Normalises an address whose port is unknown; the port is 0.
    pub fn without_port(ip: IpAddr) -> Self {
        Self::new(SocketAddr::new(ip, 0))
    }

    /// The IP address.
    pub fn ip(&self) -> IpAddr {
        self.0.ip()
    }

    /// Address and port; the port is 0 if it is unknown.
    pub fn socket(&self) -> SocketAddr {
        self.0
    }

    /// Appends what [`Display`](fmt::Display) writes.
    pub fn write_to(&self, bytes: &mut Vec<u8>) {
        match self.0.port() {
            0 => push_ip(bytes, self.ip()),
            _ => push_socket(bytes, self.0),
        }
    }

    /// Whether a client can have this address: it is not unspecified, multicast or broadcast.
    pub fn is_unicast(&self) -> bool {
        let broadcast = IpAddr::V4(Ipv4Addr::BROADCAST);
        !self.ip().is_unspecified() && !self.ip().is_multicast() && self.ip() != broadcast
    }
}

/// Omits the port if it is unknown.
impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == 0 { self.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

/// The network prefix of a client's address, an IPv4 address or an IPv6 /64 by default. Limits,
/// rates, backend selection and records treat addresses with the same key as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientKey {
    network: IpAddr,
    bits: u8,
}

impl ClientKey {
    /// Truncates the address to its prefix.
    pub fn new(addr: &ClientAddr, prefixes: KeyPrefixes) -> Self {
        match addr.ip() {
            IpAddr::V4(v4) => {
                let bits = prefixes.v4.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { network: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(v6) => {
                let bits = prefixes.v6.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { network: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), bits }
            }
        }
    }

    /// Whether it stands for this address alone.
    pub fn is_address(&self, ip: IpAddr) -> bool {
        self.network == ip && self.is_whole_address()
    }

    /// Appends what [`Display`](fmt::Display) writes.
    pub fn write_to(&self, bytes: &mut Vec<u8>) {
        push_ip(bytes, self.network);
        if !self.is_whole_address() {
            bytes.push(b'/');
            push_decimal(bytes, self.bits.into());
        }
    }

    fn is_whole_address(&self) -> bool {
        self.bits == if self.network.is_ipv4() { 32 } else { 128 }
    }

    /// A stable encoding for hashing: family, network, prefix length. It must not change between
    /// releases, because backend selection depends on it.
    pub fn to_bytes(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        match self.network {
            IpAddr::V4(v4) => {
                bytes[0] = 4;
                bytes[1..5].copy_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                bytes[0] = 6;
                bytes[1..17].copy_from_slice(&v6.octets());
            }
        }
        bytes[17] = self.bits;
        bytes
    }
}

/// The derived one feeds the hasher four pieces, and a request has its client looked up several times.
impl Hash for ClientKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.network {
            IpAddr::V4(v4) => {
                state.write_u64(u64::from(self.bits) << u32::BITS | u64::from(v4.to_bits()));
            }
            IpAddr::V6(v6) => {
                state.write_u128(v6.to_bits());
                state.write_u8(self.bits);
            }
        }
    }
}

#[cfg(test)]
impl ClientKey {
    /// The key of 192.0.2.`last`, for tests.
    pub fn sample(last: u8) -> Self {
        let addr = ClientAddr::without_port(Ipv4Addr::new(192, 0, 2, last).into());
        Self::new(&addr, KeyPrefixes::default())
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_whole_address() {
            self.network.fmt(f)
        } else {
            write!(f, "{}/{}", self.network, self.bits)
        }
    }
}

/// The client of a connection or request: the peer, or the client that a trusted proxy reports.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// Address and port, as far as known.
    pub addr: ClientAddr,
    /// The key for limits, rates and backend selection.
    pub key: ClientKey,
    /// Where the address was taken from.
    pub addr_source: AddrSource,
    /// The peer's address if the peer is a trusted proxy that reported another address as the
    /// client's; otherwise `addr` is the peer. Boxed, because most connections have none.
    pub peer: Option<Box<ClientAddr>>,
    /// Whether the client uses TLS, terminated here or by a trusted proxy in front.
    pub secure: bool,
    /// The protocol of the connection to this proxy.
    pub protocol: HttpProtocol,
    /// Name of the listener that accepted the connection.
    pub listener: Arc<str>,
    /// TLS parameters, if TLS is terminated here.
    pub tls: Option<TlsInfo>,
}

/// Where a client's address was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrSource {
    /// The peer address of the socket.
    Socket,
    /// The PROXY header of a trusted proxy.
    ProxyHeader,
    /// `X-Forwarded-For` or `Forwarded`, written by trusted proxies.
    Forwarded,
    /// The same header; all its addresses are trusted proxies and the leftmost is used.
    ForwardedAllTrusted,
    /// The same header with an invalid entry; the trusted proxy next to that entry is used.
    ForwardedInvalid,
}

impl AddrSource {
    /// The sources that metrics and records report: all except the socket itself.
    pub const REPORTED: [Self; 4] =
        [Self::ProxyHeader, Self::Forwarded, Self::ForwardedAllTrusted, Self::ForwardedInvalid];

    /// The value in records and metric labels; `None` for the peer's own address.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::Socket => None,
            Self::ProxyHeader => Some("proxy_header"),
            Self::Forwarded => Some("forwarded"),
            Self::ForwardedAllTrusted => Some("all_trusted"),
            Self::ForwardedInvalid => Some("invalid"),
        }
    }
}

impl ClientInfo {
    /// The client of a new connection, before any data is read: its peer.
    pub fn new(peer: SocketAddr, prefixes: KeyPrefixes, listener: Arc<str>) -> Self {
        let addr = ClientAddr::new(peer);
        let key = ClientKey::new(&addr, prefixes);
        let addr_source = AddrSource::Socket;
        Self {
            addr,
            key,
            addr_source,
            peer: None,
            secure: false,
            protocol: HttpProtocol::Http1,
            listener,
            tls: None,
        }
    }

    /// The client that a trusted proxy reports on this connection.
    pub fn forwarded_for(
        &self,
        addr: ClientAddr,
        addr_source: AddrSource,
        prefixes: KeyPrefixes,
    ) -> Self {
        let peer = self.peer.clone().unwrap_or_else(|| Box::new(self.addr));
        let key = ClientKey::new(&addr, prefixes);
        Self { addr, key, addr_source, peer: Some(peer), ..self.clone() }
    }
}

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpProtocol {
    /// HTTP/1.1 or HTTP/1.0: one request at a time.
    Http1,
    /// HTTP/2: many streams, each of which carries a request or a tunnel.
    Http2,
}

impl HttpProtocol {
    /// The value in records, which is that of ALPN.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// The negotiated TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V12,
    /// TLS 1.3 (RFC 8446).
    V13,
}

impl TlsVersion {
    /// The value in records, such as `1.3`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }
}

/// Parameters of a completed TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// Server name that the client requested, lower case, without a trailing dot.
    pub sni: Option<Box<str>>,
    /// Protocol version.
    pub version: TlsVersion,
    /// Cipher suite by its IANA name.
    pub cipher: &'static str,
}

pub mod ascii;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(addr: &str) -> String {
        let addr = ClientAddr::new(addr.parse().unwrap());
        ClientKey::new(&addr, KeyPrefixes::default()).to_string()
    }

    #[test]
    fn key_is_the_network_prefix() {
        assert_eq!(key("203.0.113.7:1"), "203.0.113.7");
        assert_eq!(key("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::/64");
    }

    // Requirements: TC19.
    #[test]
    fn mapped_ipv6_equals_the_ipv4_client() {
        assert_eq!(key("[::ffff:203.0.113.7]:1"), key("203.0.113.7:9"));
    }

    // Requirements: TC20.
    #[test]
    fn zone_is_not_part_of_the_key() {
        let scoped: SocketAddr =
            std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, 3).into();
        let plain: SocketAddr = "[fe80::1]:1".parse().unwrap();
        assert_eq!(ClientAddr::new(scoped), ClientAddr::new(plain));
    }

    #[test]
    fn unspecified_and_multicast_addresses_are_rejected() {
        for ip in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
            assert!(!ClientAddr::without_port(ip.parse().unwrap()).is_unicast(), "{ip}");
        }
        for ip in ["127.0.0.1", "::1", "10.0.0.255", "fe80::1", "203.0.113.7"] {
            assert!(ClientAddr::without_port(ip.parse().unwrap()).is_unicast(), "{ip}");
        }
    }

    #[test]
    fn peer_is_kept_across_forwarding() {
        let peer =
            ClientInfo::new("10.0.0.1:7".parse().unwrap(), KeyPrefixes::default(), "a".into());
        let client = |last: u8| ClientAddr::without_port([203, 0, 113, last].into());
        let first = peer.forwarded_for(client(7), AddrSource::ProxyHeader, KeyPrefixes::default());
        let second = first.forwarded_for(client(8), AddrSource::Forwarded, KeyPrefixes::default());
        assert_eq!((second.addr, second.key.to_string()), (client(8), "203.0.113.8".to_owned()));
        assert_eq!(second.peer.as_deref(), Some(&peer.addr));
    }

    #[test]
    fn written_addresses_equal_the_displayed_ones() {
        for addr in ["203.0.113.7:0", "203.0.113.7:80", "[2001:db8::1]:0", "[2001:db8::1]:80"] {
            let addr = ClientAddr::new(addr.parse().unwrap());
            for (v4, v6) in [(32, 128), (24, 64)] {
                let key = ClientKey::new(&addr, KeyPrefixes { v4, v6 });
                let (mut shown, mut key_shown) = (Vec::new(), Vec::new());
                addr.write_to(&mut shown);
                key.write_to(&mut key_shown);
                assert_eq!(shown, addr.to_string().as_bytes());
                assert_eq!(key_shown, key.to_string().as_bytes());
                assert_eq!(key.is_address(addr.ip()), key.to_string() == addr.ip().to_string());
            }
        }
    }

    #[test]
    fn zero_length_prefix_covers_all_addresses() {
        let addr = ClientAddr::new("203.0.113.7:1".parse().unwrap());
        let all = ClientKey::new(&addr, KeyPrefixes { v4: 0, v6: 0 });
        assert_eq!(all.to_string(), "0.0.0.0/0");
    }
}
