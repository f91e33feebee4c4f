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

/// A client's socket address, IPv4-mapped IPv6 unfolded and zone removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(SocketAddr);

impl ClientAddr {
    /// Takes the address as the kernel gave it.
    pub fn new(addr: SocketAddr) -> Self {
        Self(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// The address without the port.
    pub fn ip(&self) -> IpAddr {
        self.0.ip()
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

/// One connection's client, known before its first HTTP byte is read.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The peer's address.
    pub addr: ClientAddr,
    /// What it is counted under.
    pub key: ClientKey,
    /// Name of the listener it came in by.
    pub listener: Arc<str>,
    /// Present when the connection is TLS.
    pub tls: Option<TlsFacts>,
}

/// What the TLS handshake told us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// Server name the client asked for, lower-case, without a trailing dot.
    pub sni: Option<Box<str>>,
    /// `"1.2"` or `"1.3"`.
    pub version: &'static str,
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

    #[test]
    fn tc19_mapped_ipv6_is_the_ipv4_client() {
        assert_eq!(key("[::ffff:203.0.113.7]:1"), key("203.0.113.7:9"));
    }

    #[test]
    fn tc20_a_zone_is_not_part_of_the_key() {
        let scoped: SocketAddr =
            std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, 3).into();
        let plain: SocketAddr = "[fe80::1]:1".parse().unwrap();
        assert_eq!(ClientAddr::new(scoped), ClientAddr::new(plain));
    }

    #[test]
    fn prefixes_may_be_as_wide_as_everything() {
        let addr = ClientAddr::new("203.0.113.7:1".parse().unwrap());
        let all = ClientKey::new(&addr, KeyPrefixes { v4: 0, v6: 0 });
        assert_eq!(all.to_string(), "0.0.0.0/0");
    }
}
