//! Says what is wrong with a request head that hyper rejected, for the record. hyper's own messages
//! do not say where.

use std::fmt::Write as _;

use hyper::StatusCode;

use super::unread_head::addressed;
use crate::http::fields::is_token;
use crate::http::head_limits::HeadLimits;
use crate::reject::invalid_head::{Addressed, InvalidHead};

/// What hyper has received and not processed when a connection ends.
#[derive(Clone, Copy, Debug)]
pub struct Unread<'b> {
    /// After most parse errors, they start with the rejected head.
    pub bytes: &'b [u8],
    /// The limits that the head was held to.
    pub limits: HeadLimits,
    /// [`FramingChecker::is_body_endless`](super::framing::FramingChecker::is_body_endless).
    pub is_body_endless: bool,
}

/// What is known about a head that hyper could not parse.
pub fn invalid_head(error: &hyper::Error, unread: Unread<'_>) -> InvalidHead {
    let Unread { bytes, limits, is_body_endless } = unread;
    let text = error.to_string();
    // As hyper answers. Targets do not reach its own limit, for which that would be 414.
    let status = if error.is_parse_version_h2() {
        None
    } else if error.is_parse_too_large() {
        Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    } else {
        Some(StatusCode::BAD_REQUEST)
    };
    // hyper judges the target and the framing after it has taken the head from its buffer, which then starts
    // with the body. It has no other sign of it than the text.
    let unnamed = if text.contains("URI") {
        Some(INVALID_TARGET.to_owned())
    } else if error.is_parse_too_large() && is_body_endless {
        Some("content-length larger than any body".to_owned())
    } else if text.contains("content-length") || text.contains("transfer-encoding") {
        Some(text.clone())
    } else {
        other_protocol(bytes.trim_ascii_start()).map(str::to_owned)
    };
    match unnamed {
        Some(detail) => InvalidHead { detail, status, addressed: Addressed::default() },
        None => {
            let detail = describe(bytes, limits).unwrap_or(text);
            InvalidHead { detail, status, addressed: addressed(bytes) }
        }
    }
}

/// Describes the first mistake in the unread bytes of a connection, which start with the rejected
/// head. It contains no values of header fields, and no text that may be one. `None` if there is no mistake that
/// hyper rejects.
fn describe(unread: &[u8], limits: HeadLimits) -> Option<String> {
    let head = unread.trim_ascii_start();
    let mut lines =
        head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if let Some(mistake) = request_line(lines.next()?, head.len() >= limits.bytes) {
        return Some(mistake);
    }
    let mut largest: (&[u8], usize) = (b"", 0);
    let mut count = 0;
    for line in lines {
        if line.is_empty() {
            break;
        }
        count += 1;
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => line.split_at(colon),
            None => (line, &b""[..]),
        };
        if line.len() > largest.1 {
            let is_name = !value.is_empty() && is_token(name);
            largest = (if is_name { name } else { b"" }, line.len());
        }
        // The last line may be incomplete if the head is too large.
        let is_complete = head.len() < limits.bytes || count < limits.fields;
        if let Some(mistake) = field_line(count, name, value).filter(|_| is_complete) {
            return Some(mistake);
        }
    }
    if count > limits.fields {
        return Some(format!(
            "request head with more than {} header fields (listener.request_head_fields)",
            limits.fields
        ));
    }
    if unread.len() < limits.bytes {
        return None;
    }
    let (name, size) = largest;
    Some(format!(
        "request head larger than {} bytes (listener.request_head_size); its largest header field is \
         {} with {size} bytes",
        limits.bytes,
        shown(name)
    ))
}

/// The first bytes of protocols that arrive at the wrong port.
fn other_protocol(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"\x16\x03") {
        Some("TLS on a plain listener: use ws:// or http://, or set tls = true on the listener")
    } else if head.starts_with(b"PRI * HTTP/2") {
        Some("HTTP/2 without negotiation; only HTTP/1.1 is supported")
    } else if head.starts_with(b"PROXY ") || head.starts_with(b"\0\r\nQUIT\n") {
        Some("PROXY header on a listener without proxy_protocol = true")
    } else {
        None
    }
}

fn request_line(line: &[u8], is_truncated: bool) -> Option<String> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        if let (Some(at), false) = (invalid_byte(line), is_truncated) {
            let (byte, at) = (byte_at(line, at), at + 1);
            return Some(format!("request line: invalid {byte} at position {at}"));
        }
        if is_truncated {
            return Some(
                "request target longer than a request head may be (listener.request_head_size)"
                    .to_owned(),
            );
        }
        let spaces = words.len() - 1;
        return Some(format!(
            "request line with {spaces} spaces instead of method, target, version"
        ));
    };
    if !is_token(method) {
        let at = method.iter().position(|byte| !is_token(&[*byte])).unwrap_or_default();
        let (byte, at) = (byte_at(method, at), at + 1);
        return Some(format!("request line: invalid {byte} at position {at} of the method"));
    }
    if let Some(at) = invalid_byte(target) {
        let (byte, at) = (byte_at(target, at), at + 1);
        return Some(format!("request line: invalid {byte} at position {at} of the target"));
    }
    if !version.starts_with(b"HTTP/") {
        return Some("request line does not end with an HTTP version".to_owned());
    }
    if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Some(format!("request line: {} is not HTTP/1.1 or HTTP/1.0", shown(version)));
    }
    None
}

fn field_line(number: usize, name: &[u8], value: &[u8]) -> Option<String> {
    if name.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        return Some(format!(
            "header line {number} starts with a space or tab (obsolete line folding)"
        ));
    }
    // Text without a colon or with an invalid byte may be a value, for example after a line end in one.
    if value.is_empty() {
        return Some(format!("header line {number} has no colon"));
    }
    if name.is_empty() {
        return Some(format!("header line {number} has no name"));
    }
    if let Some(at) = name.iter().position(|byte| !is_token(&[*byte])) {
        let (byte, at) = (byte_at(name, at), at + 1);
        return Some(format!("header line {number}: invalid {byte} at position {at} of the name"));
    }
    let at = value.iter().position(|byte| !matches!(byte, b'\t' | b' '..=b'~' | 0x80..))?;
    let byte = byte_at(value, at);
    // Positions start at 1, and the value after the colon.
    let name = shown(name);
    Some(format!("header line {number}: invalid {byte} at position {at} of the value of {name}"))
}

/// The position of the first byte that a request line must not contain.
fn invalid_byte(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| !matches!(byte, b' '..=b'~' | 0x80..))
}

fn byte_at(text: &[u8], at: usize) -> String {
    format!("byte 0x{:02x}", text.get(at).copied().unwrap_or_default())
}

/// The beginning of a text, in quotes and escaped.
fn shown(text: &[u8]) -> String {
    let mut shown = String::from("\"");
    let _ = write!(shown, "{}", text[..text.len().min(SHOWN_BYTES_MAX)].escape_ascii());
    shown.push_str(if text.len() > SHOWN_BYTES_MAX { "...\"" } else { "\"" });
    shown
}

const INVALID_TARGET: &str = "request target that is neither a path nor a URI, or with a character that \
                              must be percent-encoded, such as a quotation mark, < or >";
/// Maximum bytes of a method, version or field name in the record.
const SHOWN_BYTES_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 4 };

    fn described(text: &str) -> String {
        describe(text.as_bytes(), LIMITS).unwrap_or_default()
    }

    // Requirements: RL46.
    #[test]
    fn the_first_mistake_is_located() {
        let field =
            |line: &str| described(&format!("\r\nGET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"));
        assert_eq!(
            field("X-A: a\u{1}b"),
            "header line 2: invalid byte 0x01 at position 3 of the value of \"X-A\""
        );
        assert_eq!(field("X A: b"), "header line 2: invalid byte 0x20 at position 2 of the name");
        assert_eq!(field("X-A : b"), "header line 2: invalid byte 0x20 at position 4 of the name");
        assert_eq!(field(" b"), "header line 2 starts with a space or tab (obsolete line folding)");
        assert_eq!(field(": b"), "header line 2 has no name");
        assert_eq!(field("X-A"), "header line 2 has no colon");
        assert_eq!(field("X-A: \u{e9}\t"), "");
        for (line, expected) in [
            (
                "GET /a\u{7f} HTTP/1.1",
                "request line: invalid byte 0x7f at position 3 of the target",
            ),
            ("GET /a b HTTP/1.1", "request line with 3 spaces instead of method, target, version"),
            ("GE\u{1}T / HTTP/1.1", "request line: invalid byte 0x01 at position 3 of the method"),
            ("GET / HTTP/1.2", "request line: \"HTTP/1.2\" is not HTTP/1.1 or HTTP/1.0"),
            ("password is secret", "request line does not end with an HTTP version"),
            ("garbage", "request line with 0 spaces instead of method, target, version"),
        ] {
            assert_eq!(described(&format!("{line}\r\n\r\n")), expected);
        }
    }

    // Requirements: RL46.
    #[test]
    fn exceeded_limits_are_named() {
        let fields = "A: b\r\n".repeat(5);
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(
            described(&head),
            "request head with more than 4 header fields (listener.request_head_fields)"
        );
        let cookie = format!("Cookie: {}", "c".repeat(2000));
        assert_eq!(
            described(&format!("GET / HTTP/1.1\r\nHost: a\r\n{cookie}")),
            "request head larger than 1024 bytes (listener.request_head_size); its largest header field is \"Cookie\" with 2008 bytes"
        );
        let target = format!("GET /{}", "a".repeat(2000));
        assert_eq!(
            described(&target),
            "request target longer than a request head may be (listener.request_head_size)"
        );
    }

    // Requirements: RL46.
    #[test]
    fn other_protocols_are_recognised() {
        for (bytes, expected) in [
            (&b"\x16\x03\x01\x02\0\x01"[..], "TLS on a plain listener"),
            (b"PRI * HTTP/2.0\r\n\r\n", "HTTP/2"),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY header"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", "PROXY header"),
        ] {
            let found = other_protocol(bytes.trim_ascii_start()).unwrap();
            assert!(found.starts_with(expected), "{found}");
        }
    }

    proptest! {
        #[test]
        fn description_never_panics_and_is_short(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let described = describe(&bytes, LIMITS).unwrap_or_default();
            prop_assert!(described.len() < 300 && described.is_ascii());
        }
    }
}
