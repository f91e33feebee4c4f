//! Header fields whose values are lists (RFC 9110 5.6.1), fields that have one value, and the
//! Connection field.

use hyper::HeaderMap;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue};

/// The members of a comma-separated field over all its lines, in order, trimmed. Empty members are
/// skipped, as RFC 9110 5.6.1.2 requires of a recipient.
pub fn list_members<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Whether the field lists this member, in any case, and nothing else. It may be listed repeatedly.
pub fn lists_only(headers: &HeaderMap, name: &HeaderName, member: &str) -> bool {
    let mut members = list_members(headers, name).peekable();
    members.peek().is_some() && members.all(|one| one.eq_ignore_ascii_case(member.as_bytes()))
}

/// The value of a field that is not a list. Equal lines count as one (some proxies and libraries
/// repeat fields); `different` is the error if the lines differ, because two recipients could then
/// use different values. The caller must forward a single line.
///
/// # Errors
/// `different`.
pub fn single_value<'h, E>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    different: E,
) -> Result<Option<&'h HeaderValue>, E> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next();
    if lines.all(|line| Some(line) == first) { Ok(first) } else { Err(different) }
}

/// The value of `Content-Length`.
///
/// # Errors
/// It is no number, or several values are not equal (RFC 9112 6.3).
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut common = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        for member in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let digits = !member.is_empty() && member.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(member).ok().filter(|_| digits);
            let length = length.and_then(|text| text.parse::<u64>().ok());
            match (common, length) {
                (None, Some(length)) => common = Some(length),
                (Some(before), Some(length)) if before == length => {}
                (_, _) => return Err("Content-Length is malformed"),
            }
        }
    }
    Ok(common)
}

/// Whether the text is a token (RFC 9110 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(allowed)
}

/// Hop-by-hop headers (RFC 9110 7.6.1), and headers exchanged only between proxies.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The options of the `Connection` field (RFC 9110 7.6.1), combined from all its field lines:
/// options for this hop and names of hop-by-hop fields, compared case-insensitively.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionOptions(Vec<HeaderName>);

impl ConnectionOptions {
    /// Combines all Connection lines.
    ///
    /// # Errors
    /// A member that is not a token, or more than 64 members.
    pub fn parse(headers: &HeaderMap) -> Result<Self, &'static str> {
        let mut options = Vec::new();
        for member in list_members(headers, &CONNECTION) {
            if options.len() == OPTIONS_MAX {
                return Err("Connection has too many options");
            }
            let option = HeaderName::from_bytes(member);
            options.push(option.map_err(|_| "Connection is not a list of tokens")?);
        }
        Ok(Self(options))
    }

    /// Whether the option, given in lower case, is present.
    pub fn has(&self, option: &str) -> bool {
        self.0.iter().any(|name| name.as_str() == option)
    }

    /// Whether a field is listed that must reach the backend. Removing it would hide
    /// information from the backend or undo a header that the proxy adds.
    pub fn lists_protected_field(&self) -> bool {
        self.0.iter().any(|name| {
            let name = name.as_str();
            PROTECTED.contains(&name)
                || name.starts_with("sec-websocket-")
                || name.starts_with("x-forwarded-")
        })
    }
}

/// Maximum options in one request head; real requests have up to three.
const OPTIONS_MAX: usize = 64;

/// Fields that a client must not be able to remove with `Connection`.
const PROTECTED: [&str; 10] = [
    "authorization",
    "cdn-loop",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "host",
    "origin",
    "via",
    "x-real-ip",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let lines = lines.iter().map(|line| (CONNECTION, line.parse().unwrap()));
        lines.collect()
    }

    // Requirements: H4.
    #[test]
    fn options_are_case_insensitive_across_lines() {
        let options =
            ConnectionOptions::parse(&headers(&["foo, ,UPGRADE,", "Keep-Alive"])).unwrap();
        assert!(options.has("upgrade") && options.has("keep-alive") && options.has("foo"));
        assert!(!options.has("bar") && !options.lists_protected_field());
    }

    // Requirements: RL42.
    #[test]
    fn rejects_many_or_malformed_options() {
        assert!(ConnectionOptions::parse(&headers(&[&"a,".repeat(64)])).is_ok());
        assert!(ConnectionOptions::parse(&headers(&[&"a,".repeat(65)])).is_err());
        assert!(ConnectionOptions::parse(&headers(&["a b"])).is_err());
        assert!(ConnectionOptions::parse(&headers(&["\"upgrade\""])).is_err());
    }

    // Requirements: H3.
    #[test]
    fn protected_names_are_recognised() {
        for name in [
            "Host",
            "Origin",
            "Cookie",
            "Authorization",
            "Sec-WebSocket-Key",
            "Via",
            "CDN-Loop",
            "Forwarded",
            "Sec-WebSocket-Extensions",
            "X-Forwarded-For",
            "x-forwarded-anything",
        ] {
            let options = ConnectionOptions::parse(&headers(&["upgrade", name])).unwrap();
            assert!(options.lists_protected_field(), "{name}");
        }
    }

    #[test]
    fn equal_lines_count_as_one_value() {
        let value = |lines| {
            single_value(&headers(lines), &CONNECTION, "different")
                .map(|found| found.map(|value| value.to_str().unwrap().to_owned()))
        };
        assert_eq!(value(&[]), Ok(None));
        assert_eq!(value(&["a"]), Ok(Some("a".to_owned())));
        assert_eq!(value(&["a", "a", "a"]), Ok(Some("a".to_owned())));
        for lines in [&["a", "A"][..], &["a", ""], &["a", "a", "b"], &["a, a", "a"]] {
            assert_eq!(value(lines), Err("different"), "{lines:?}");
        }
    }

    #[test]
    fn a_list_may_repeat_its_only_member() {
        let only = |lines| lists_only(&headers(lines), &CONNECTION, "a");
        for lines in [&["a"][..], &["a, A"], &["a", "a"], &[",a,, "], &["", "a"]] {
            assert!(only(lines), "{lines:?}");
        }
        for lines in [&[][..], &[""], &[","], &["a, b"], &["a", "b"], &["ab"], &["a b"]] {
            assert!(!only(lines), "{lines:?}");
        }
    }

    #[test]
    fn tokens_exclude_separators_and_whitespace() {
        assert!(is_token(b"chat.v2~!#$%&'*+-.^_`|"));
        for text in [&b""[..], b"a b", b"a,b", b"a;b", b"a=b", b"\"a\"", b"a/b", b"\xe9", b"a\t"] {
            assert!(!is_token(text), "{text:?}");
        }
    }
}
