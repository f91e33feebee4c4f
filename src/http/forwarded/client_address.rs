//! Header fields in which some proxies send the client's address and nothing else.

use hyper::HeaderMap;
use hyper::header::HeaderName;

use super::{ChainEnd, Forwarded, x_forwarded_hop};
use crate::client::ClientAddr;
use crate::http::fields::single_value;

impl Forwarded {
    /// Reads the client's address from one of [`CLIENT_ADDRESS_HEADERS`], and everything but the addresses
    /// as [`Self::from_x_forwarded`] does.
    pub fn from_client_address(
        headers: &HeaderMap,
        name: &'static str,
        is_trusted: impl Fn(&ClientAddr) -> bool,
    ) -> Self {
        let mut found = Self::default();
        match single_value(headers, &HeaderName::from_static(name), DIFFERENT) {
            Ok(None) => {}
            Ok(Some(value)) => {
                let text = value.to_str().unwrap_or_default().trim_ascii();
                match x_forwarded_hop(text).and_then(|hop| hop.addr) {
                    Some(addr) => found.set_client_address(addr, is_trusted(&addr)),
                    None => found.ignore_client_address(name, NO_ADDRESS),
                }
            }
            Err(reason) => found.ignore_client_address(name, reason),
        }
        found.read_x_forwarded(headers);
        found
    }

    fn set_client_address(&mut self, addr: ClientAddr, trusted: bool) {
        self.chain.push(addr);
        self.chain_end = if trusted { ChainEnd::AllTrusted } else { ChainEnd::Client };
    }

    fn ignore_client_address(&mut self, name: &'static str, reason: &'static str) {
        self.chain_end = ChainEnd::Invalid;
        self.ignore(name, "", reason);
    }
}

/// The header fields, in lower case, with the provider or program that sets them.
pub const CLIENT_ADDRESS_HEADERS: [&str; 7] = [
    // Cloudflare.
    "cf-connecting-ip",
    // Akamai, and Cloudflare if it is configured to.
    "true-client-ip",
    // nginx.
    "x-real-ip",
    "fly-client-ip",
    "fastly-client-ip",
    // Azure Front Door. A client can forge its X-Azure-ClientIP.
    "x-azure-socketip",
    // DigitalOcean App Platform.
    "do-connecting-ip",
];

const NO_ADDRESS: &str = "not an IP address";
const DIFFERENT: &str = "more than one, with different values";

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::http::forwarded::{X_FORWARDED_FOR, X_FORWARDED_PROTO};

    const NAME: &str = "cf-connecting-ip";

    /// The client, where reading stopped, and what was ignored. 10.0.0.1 is a trusted proxy.
    fn read(values: &[&str]) -> (Option<String>, ChainEnd, Vec<String>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, value.parse().unwrap());
        }
        headers.insert(X_FORWARDED_FOR, "6.6.6.6".parse().unwrap());
        headers.insert(X_FORWARDED_PROTO, "https".parse().unwrap());
        let is_trusted = |addr: &ClientAddr| addr.ip() == Ipv4Addr::new(10, 0, 0, 1);
        let found = Forwarded::from_client_address(&headers, NAME, is_trusted);
        assert_eq!(found.secure, Some(true));
        assert!(found.chain.len() < 2, "{found:?}");
        let client = found.chain.first().map(ClientAddr::to_string);
        (client, found.chain_end, found.invalid.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn only_address_is_the_client() {
        for (sent, addr) in [
            ("203.0.113.7", "203.0.113.7"),
            (" 2001:db8::7 ", "2001:db8::7"),
            ("203.0.113.7:4711", "203.0.113.7:4711"),
        ] {
            assert_eq!(read(&[sent]), (Some(addr.to_owned()), ChainEnd::Client, vec![]));
            assert_eq!(read(&[sent, sent]), read(&[sent]));
        }
        let proxy = Some("10.0.0.1".to_owned());
        assert_eq!(read(&["10.0.0.1"]), (proxy, ChainEnd::AllTrusted, vec![]));
        assert_eq!(read(&[]), (None, ChainEnd::Absent, vec![]));
    }

    #[test]
    fn anything_else_is_ignored_and_named() {
        let ignored = |reason: &str| (None, ChainEnd::Invalid, vec![format!("{NAME}: {reason}")]);
        for sent in ["", "unknown", "203.0.113.7, 203.0.113.8", "0.0.0.0", "a.example"] {
            assert_eq!(read(&[sent]), ignored(NO_ADDRESS), "{sent}");
        }
        assert_eq!(read(&["203.0.113.7", "203.0.113.8"]), ignored(DIFFERENT));
    }
}
