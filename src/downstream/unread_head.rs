//! Reads the target and the host from a head that hyper rejected, for the record. Anything else in it may be
//! a secret, and after its first mistake it is not known what is a field and what a value: nothing is
//! read from there on.

use hyper::Uri;

use crate::http::fields::is_token;
use crate::reject::invalid_head::Addressed;

/// Reads the beginning of the unread bytes of a connection, which start with the rejected head.
pub fn addressed(unread: &[u8]) -> Addressed {
    // The last line may be incomplete.
    let mut lines = unread
        .trim_ascii_start()
        .split_inclusive(|byte| *byte == b'\n')
        .map_while(|line| line.strip_suffix(b"\n"))
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let Some(target) = lines.next().and_then(target) else { return Addressed::default() };
    let copy = |text: &str| text[..text.len().min(TARGET_BYTES_MAX)].into();
    if target.starts_with('/') {
        return Addressed { target: Some(copy(target)), host: host(lines).and_then(short) };
    }
    // RFC 9112 3.2.2: the target names the host.
    match Uri::try_from(target).map(Uri::into_parts) {
        Ok(parts) if parts.scheme.is_some() => Addressed {
            target: parts.path_and_query.map(|target| copy(target.as_str())),
            host: parts.authority.and_then(|authority| short(authority.as_str())),
        },
        Ok(_) | Err(_) => Addressed::default(),
    }
}

/// The target in a complete request line.
fn target(line: &[u8]) -> Option<&str> {
    let words: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return None };
    let is_version = matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if
            major.is_ascii_digit() && minor.is_ascii_digit());
    if is_token(method) && is_version { visible(target) } else { None }
}

/// The value of the only `Host` in the lines before the first that is not a field.
fn host<'h>(lines: impl Iterator<Item = &'h [u8]>) -> Option<&'h str> {
    let mut hosts: Option<&[u8]> = None;
    let mut is_host_last = false;
    for line in lines {
        let is_folded = matches!(line.first(), Some(b' ' | b'\t'));
        if is_folded && is_host_last {
            return None;
        }
        let Some((name, value)) = field(line) else { break };
        is_host_last = name.eq_ignore_ascii_case(b"host");
        if is_host_last && hosts.replace(value).is_some() {
            return None;
        }
    }
    hosts.and_then(visible)
}

/// Name and value of a valid field line (RFC 9112 5).
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
    let is_valid = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
    (is_token(name) && is_valid).then(|| (name, value.trim_ascii()))
}

/// The text if it is visible ASCII.
fn visible(text: &[u8]) -> Option<&str> {
    let is_visible = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    str::from_utf8(text).ok().filter(|_| is_visible)
}

/// A host of an ordinary length. The beginning of a longer one might be credentials, which redaction finds by
/// the `@` behind them.
fn short(host: &str) -> Option<Box<str>> {
    (host.len() <= HOST_BYTES_MAX).then(|| host.into())
}

/// Bytes of a target that are kept; more than a record shows, because redaction shortens it.
const TARGET_BYTES_MAX: usize = 512;
/// Longest host, with port and credentials: more than a name in DNS has (255 bytes).
const HOST_BYTES_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(head: &str) -> [String; 2] {
        let Addressed { target, host } = addressed(head.as_bytes());
        [target, host].map(|text| text.map_or("-".into(), String::from))
    }

    // Requirements: RL48.
    #[test]
    fn target_and_host_are_read_before_the_first_mistake() {
        for (head, expected) in [
            (
                "GET /ws?a=<b> HTTP/1.1\r\nhost:\ta.example:80 \r\nX Y: z\r\n\r\n",
                ["/ws?a=<b>", "a.example:80"],
            ),
            ("\r\nGET / HTTP/1.2\nA: \u{e9}\nHost: a\n\n", ["/", "a"]),
            ("GET / HTTP/1.1\r\nX Y: z\r\nHost: a\r\n\r\n", ["/", "-"]),
            ("GET / HTTP/1.1\r\nX: a\nb; c\r\nHost: secret\r\n\r\n", ["/", "-"]),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", ["/", "-"]),
            ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", ["/", "-"]),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n b\r\n\r\n", ["/", "a"]),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", ["/", "-"]),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", ["/", "-"]),
            ("GET / HTTP/1.1\r\n\r\nHost: body\r\n", ["/", "-"]),
            // Incomplete.
            ("GET / HTTP/1.1\r\nHost: a", ["/", "-"]),
            ("GET /secret HTTP/1.1", ["-", "-"]),
            ("GET http://b.example/p?q HTTP/1.1\r\nHost: a\r\n\r\n", ["/p?q", "b.example"]),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", ["-", "-"]),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", ["-", "-"]),
        ] {
            assert_eq!(read(head), expected, "{head}");
        }
    }

    // Requirements: RL48.
    #[test]
    fn nothing_is_read_without_a_request_line() {
        let fields = "Host: a\r\n\r\n";
        for line in [
            "secret",
            "a b",
            "GET /a b HTTP/1.1",
            "GET  / HTTP/1.1",
            "G(T / HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /\u{1} HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/1.1 ",
            "PRI * HTTP/2.0",
        ] {
            assert_eq!(read(&format!("{line}\r\n{fields}")), ["-", "-"], "{line}");
        }
    }

    #[test]
    fn long_texts_are_bounded() {
        let [target, host] =
            read(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000)));
        assert_eq!((target.len(), &*host), (TARGET_BYTES_MAX, "a"));
        let long = format!("user:{}@a", "p".repeat(9000));
        assert_eq!(read(&format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n")), ["/", "-"]);
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let head = [b"GET / HTTP/1.1\r\n", &bytes[..]].concat();
            for sent in [&bytes[..], &head] {
                let Addressed { target, host } = addressed(sent);
                for text in [target, host].into_iter().flatten() {
                    prop_assert!(text.len() <= TARGET_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic()));
                }
            }
        }
    }
}
