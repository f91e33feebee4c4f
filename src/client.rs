//! Who is at the door: the client's address, the key it is counted under, and where it came in.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// How many leading bits of an address make one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPrefixes {
    /// IPv4 bits, 1 to 32.
    pub v4: u8,
    /// IPv6 bits, 1 to 128; 64 is what one subscriber usually gets.
    pub v6: u8,
}

impl Default for KeyPrefixes {
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

/// A client's address and port, IPv4-mapped IPv6 unfolded and zone removed. The port is 0 where a
/// proxy in front named the address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(SocketAddr);

impl ClientAddr {
    /// Takes the address as the kernel gave it.
    pub fn new(addr: SocketAddr) -> Self {
        Self(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// The same with an address whose port nobody told: port 0.
    pub fn without_port(ip: IpAddr) -> Self {
        Self::new(SocketAddr::new(ip, 0))
    }

    /// The address without the port.
    pub fn ip(&self) -> IpAddr {
        self.0.ip()
    }

    /// Address and port; port 0 where it is not known.
    pub fn socket(&self) -> SocketAddr {
        self.0
    }

    /// Whether a client may have it: it is neither unspecified, nor multicast, nor broadcast.
    pub fn is_possible(&self) -> bool {
        let broadcast = IpAddr::V4(Ipv4Addr::BROADCAST);
        !self.ip().is_unspecified() && !self.ip().is_multicast() && self.ip() != broadcast
    }
}

/// Without the port where that is not known.
impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == 0 { self.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

/// The one notion of "the same client": caps, rates, choice of backend and records all use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey {
    network: IpAddr,
    bits: u8,
}

impl ClientKey {
    /// Cuts the address down to its network.
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

    /// A stable encoding for hashing: family, network, bits. Never changes between releases,
    /// because the choice of backend hangs on it.
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

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network {
            IpAddr::V4(_) if self.bits == 32 => self.network.fmt(f),
            IpAddr::V6(_) if self.bits == 128 => self.network.fmt(f),
            IpAddr::V4(_) | IpAddr::V6(_) => write!(f, "{}/{}", self.network, self.bits),
        }
    }
}

/// Whom a connection or a request is from: the peer itself, or whom a trusted proxy names.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// The client's address.
    pub addr: ClientAddr,
    /// What it is counted under.
    pub key: ClientKey,
    /// How its address is known.
    pub known_by: AddrSource,
    /// The other end of the socket, where that is not the client; boxed, because it seldom is.
    pub peer: Option<Box<ClientAddr>>,
    /// Whether the client speaks TLS, to us or to a trusted proxy in front.
    pub secure: bool,
    /// Name of the listener it came in by.
    pub listener: Arc<str>,
    /// Present when the connection is TLS.
    pub tls: Option<TlsInfo>,
}

/// How a client's address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrSource {
    /// It is the socket's peer.
    Socket,
    /// By the PROXY header of a trusted proxy.
    ProxyHeader,
    /// By `X-Forwarded-For` or `Forwarded`, as trusted proxies wrote it.
    Forwarded,
    /// All addresses in that header are trusted proxies; it is the first of them.
    ForwardedAllTrusted,
    /// That header has something unreadable in it; it is the last trusted proxy before that.
    ForwardedBad,
}

impl AddrSource {
    /// All that need mention.
    pub const MENTIONED: [Self; 4] =
        [Self::ProxyHeader, Self::Forwarded, Self::ForwardedAllTrusted, Self::ForwardedBad];

    /// The name in records and metric labels; `None` for what needs no mention.
    pub fn slug(self) -> Option<&'static str> {
        match self {
            Self::Socket => None,
            Self::ProxyHeader => Some("proxy_header"),
            Self::Forwarded => Some("forwarded"),
            Self::ForwardedAllTrusted => Some("all_trusted"),
            Self::ForwardedBad => Some("invalid"),
        }
    }
}

impl ClientInfo {
    /// The peer of a socket, before its first byte is read.
    pub fn new(peer: SocketAddr, prefixes: KeyPrefixes, listener: Arc<str>) -> Self {
        let addr = ClientAddr::new(peer);
        let key = ClientKey::new(&addr, prefixes);
        let known_by = AddrSource::Socket;
        Self { addr, key, known_by, peer: None, secure: false, listener, tls: None }
    }

    /// On the same connection, the client that a trusted proxy named.
    pub fn on_behalf_of(
        &self,
        addr: ClientAddr,
        known_by: AddrSource,
        prefixes: KeyPrefixes,
    ) -> Self {
        let peer = self.peer.clone().unwrap_or_else(|| Box::new(self.addr));
        let key = ClientKey::new(&addr, prefixes);
        Self { addr, key, known_by, peer: Some(peer), ..self.clone() }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246
    V12,
    /// RFC 8446
    V13,
}

impl TlsVersion {
    /// As records write it.
    pub fn slug(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }
}

/// What the TLS handshake told us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// Server name the client asked for, lower-case, without a trailing dot.
    pub sni: Option<Box<str>>,
    /// Which TLS.
    pub version: TlsVersion,
    /// The cipher suite, as IANA names it.
    pub cipher: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(addr: &str) -> String {
        let addr = ClientAddr::new(addr.parse().unwrap());
        ClientKey::new(&addr, KeyPrefixes::default()).to_string()
    }

    #[test]
    fn addresses_are_counted_by_network() {
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
    fn some_addresses_are_nobodys() {
        for ip in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
            assert!(!ClientAddr::without_port(ip.parse().unwrap()).is_possible(), "{ip}");
        }
        for ip in ["127.0.0.1", "::1", "10.0.0.255", "fe80::1", "203.0.113.7"] {
            assert!(ClientAddr::without_port(ip.parse().unwrap()).is_possible(), "{ip}");
        }
    }

    #[test]
    fn the_peer_stays_known_through_all_who_speak_for_others() {
        let peer =
            ClientInfo::new("10.0.0.1:7".parse().unwrap(), KeyPrefixes::default(), "a".into());
        let named = |last: u8| ClientAddr::without_port([203, 0, 113, last].into());
        let first = peer.on_behalf_of(named(7), AddrSource::ProxyHeader, KeyPrefixes::default());
        let second = first.on_behalf_of(named(8), AddrSource::Forwarded, KeyPrefixes::default());
        assert_eq!((second.addr, second.key.to_string()), (named(8), "203.0.113.8".to_owned()));
        assert_eq!(second.peer.as_deref(), Some(&peer.addr));
    }

    #[test]
    fn prefixes_may_be_as_wide_as_everything() {
        let addr = ClientAddr::new("203.0.113.7:1".parse().unwrap());
        let all = ClientKey::new(&addr, KeyPrefixes { v4: 0, v6: 0 });
        assert_eq!(all.to_string(), "0.0.0.0/0");
    }
}
