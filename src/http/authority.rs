//! Host and port of a Host header field or of an absolute request target.

use std::fmt;
use std::net::Ipv6Addr;

/// The host and port a request is for (RFC 3986 3.2, without userinfo), normalised for routing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Lower-case, no trailing dot; IPv6 in brackets and in its canonical form.
    pub host: String,
    /// `None` if the port is absent or empty.
    pub port: Option<u16>,
}

impl Authority {
    /// Parses a domain name in its ASCII form, an IPv4 address or an IPv6 address in brackets,
    /// optionally followed by a port from 1 to 65535.
    ///
    /// Narrower than RFC 3986: percent-encoding and sub-delimiters are not accepted in a name,
    /// because the value is forwarded in `X-Forwarded-Host` and real clients do not send them.
    ///
    /// # Errors
    /// Anything else, or more than 260 bytes. The text is suitable for a record.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| INVALID)?;
        if text.len() > AUTHORITY_BYTES_MAX {
            return Err(INVALID);
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(INVALID)?;
            let address: Ipv6Addr = address.parse().map_err(|_| INVALID)?;
            let port = match port.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if port.is_empty() => None,
                None => return Err(INVALID),
            };
            return Ok(Self { host: format!("[{address}]"), port });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, parse_port(port)?),
            None => (text, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if !name.split('.').all(is_label) {
            return Err(INVALID);
        }
        Ok(Self { host: name.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// RFC 3986 3.2.3: an empty port means the scheme's default.
fn parse_port(text: &str) -> Result<Option<u16>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > 5 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(INVALID);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(INVALID),
        Ok(port) => Ok(Some(port)),
    }
}

/// One label of a domain name. Underscores are accepted, as host names with them are in use.
fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
    !label.is_empty() && label.bytes().all(allowed)
}

const INVALID: &str = "invalid host or port";

/// A domain name has at most 253 characters, a port with its colon six.
const AUTHORITY_BYTES_MAX: usize = 260;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Authority::parse(text.as_bytes()).unwrap().to_string()
    }

    // Requirements: RL18.
    #[test]
    fn case_trailing_dot_and_default_port_are_equivalent() {
        assert_eq!(parsed("Example.COM."), "example.com");
        assert_eq!(Authority::parse(b"EXAMPLE.com:443").unwrap().host, "example.com");
        assert_eq!(parsed("example.com:"), "example.com");
        assert_eq!(parsed("example.com.:8443"), "example.com:8443");
        assert_eq!(parsed("[2001:DB8:0::1]:443"), "[2001:db8::1]:443");
        assert_eq!(parsed("[::1]"), "[::1]");
        assert_eq!(parsed("127.0.0.1:1"), "127.0.0.1:1");
    }

    // Requirements: RL17.
    #[test]
    fn rejects_invalid_hosts() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            ":80",
            "a/b",
            "u@a",
            "u:p@a",
            "a:99999",
            "a:65536",
            "a:0",
            "a:+1",
            "a:-1",
            "a:8x",
            "a:1:2",
            "a:000080",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]8",
            "[::1%25eth0]",
            "[::1%eth0]",
            "[v1.a]",
            "[1.2.3.4]",
            "[:::]",
            "[]",
            "a b",
            "a,b",
            "a%41",
            "a\\b",
            "a?b",
            "a#b",
            "a\u{e9}",
            "*",
            "*.a",
        ] {
            assert!(Authority::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Authority::parse("a".repeat(300).as_bytes()).is_err());
        assert!(Authority::parse(b"a\xff").is_err());
    }
}
