//! Makes client-supplied text safe for records: hides credentials, bounds the length and escapes
//! everything except printable ASCII. Quoting is left to the formatter.

use std::borrow::Cow;

use self::secret::{Signs, is_separator};
use super::line::is_verbatim;

/// A request target in which values of sensitive parameters and other secrets are replaced by `[redacted]`.
/// `names` lists the sensitive parameters; a name matches as a whole or as one word of a longer
/// name, so that `token` also covers `auth.token`, `token[]` and `accessToken`.
pub fn target<'r>(raw: &'r str, names: &[String]) -> Cow<'r, str> {
    let signs = Signs::of(raw);
    if signs == Signs::None || (signs == Signs::Names && !secret::has_name(raw, names)) {
        return truncate(raw);
    }
    without_secrets(raw, names, signs)
}

fn without_secrets<'r>(raw: &'r str, names: &[String], signs: Signs) -> Cow<'r, str> {
    // `None` as long as nothing was hidden.
    let mut shown: Option<String> = None;
    let (mut at, mut in_query, mut hides, mut after_slashes) = (0, false, false, false);
    let mut before = "";
    // Parameters follow `?` and `&`, and `;` in a path or an old-style query.
    while at < raw.len() {
        // What follows is not shown.
        if shown.as_ref().map_or(at, String::len) > SHOWN_MAX {
            break;
        }
        let rest = &raw[at..];
        let end = rest.bytes().position(is_separator);
        let (pair, separator) = match end {
            Some(end) => (&rest[..end], &rest[end..=end]),
            None => (rest, ""),
        };
        // In a query, the other separators may be a part of the value, as in base64.
        let is_next = before == "&" || (before == ";" && pair.contains('='));
        if !hides || is_next {
            let hidden = around_secret(pair, names, signs, after_slashes);
            if let Some(shown) = &mut shown {
                shown.push_str(before);
            } else if hidden.is_some() {
                shown = Some(raw[..at].to_owned());
            }
            if let Some(shown) = &mut shown {
                match hidden {
                    Some([start, end]) => shown.extend([start, REDACTED, end]),
                    None => shown.push_str(pair),
                }
            }
            hides = hidden.is_some() && in_query;
        }
        in_query |= separator == "?";
        after_slashes = pair.is_empty() && before == "/" && separator == "/";
        before = separator;
        at += pair.len() + separator.len();
    }
    match shown {
        None => truncate(raw),
        Some(mut shown) => {
            shown.push_str(if hides { "" } else { before });
            truncate(&shown).into_owned().into()
        }
    }
}

/// What is shown before and after `[redacted]`, if a part of a target contains a secret.
fn around_secret<'p>(
    pair: &'p str,
    names: &[String],
    signs: Signs,
    after_slashes: bool,
) -> Option<[&'p str; 2]> {
    if signs == Signs::Names {
        let (name, value) = pair.split_once('=')?;
        let of_value = value.split_once('=').map_or("", |(name, _)| name);
        let is_secret = [name, of_value].into_iter().any(|name| secret::is_name(name, names));
        return is_secret.then(|| [&pair[..=name.len()], ""]);
    }
    let is_secret = match pair.split_once('=') {
        Some((name, value)) if !secret::is_in_value(name, names) => {
            if secret::is_name(name, names) || secret::is_in_value(value, names) {
                return Some([&pair[..=name.len()], ""]);
            }
            false
        }
        Some(_) => true,
        None => secret::is_in_value(pair, names),
    };
    // RFC 3986 3.2.1: credentials before a host.
    let host = pair.rfind('@').filter(|_| after_slashes).map(|at| &pair[at..]);
    if is_secret { Some(["", ""]) } else { host.map(|host| ["", host]) }
}

/// A subprotocol, redacted if it contains a sensitive name or a token, or is longer than those that name a
/// protocol: some clients send credentials here, because browsers let them set no other header field.
pub fn subprotocol<'r>(raw: &'r str, names: &[String]) -> Cow<'r, str> {
    let is_secret = raw.len() > SUBPROTOCOL_BYTES_MAX
        || secret::is_name(raw, names)
        || secret::is_in_value(raw, names);
    if is_secret { REDACTED.into() } else { truncate(raw) }
}

/// An `Origin` header field, redacted like a target and an authority: programs may send anything.
pub fn origin<'r>(raw: &'r str, names: &[String]) -> Cow<'r, str> {
    match target(raw, names) {
        Cow::Borrowed(shown) => authority(shown),
        Cow::Owned(shown) => authority(&shown).into_owned().into(),
    }
}

/// An authority with the credentials before `@` replaced by `[redacted]` (RFC 3986 3.2.1).
pub fn authority(raw: &str) -> Cow<'_, str> {
    match raw.rsplit_once('@') {
        Some((_, host)) => truncate(&format!("{REDACTED}@{host}")).into_owned().into(),
        None => truncate(raw),
    }
}

/// Truncates text to about 256 bytes as they are written, and escapes everything except printable ASCII, so that
/// neither control characters nor bidirectional overrides reach a terminal.
pub fn truncate(raw: &str) -> Cow<'_, str> {
    if raw.len() <= SHOWN_MAX && is_verbatim(raw) {
        return raw.into();
    }
    let is_shown = |byte: u8| (b' '..=b'~').contains(&byte);
    if written_len(raw) <= SHOWN_MAX && raw.bytes().all(is_shown) {
        return raw.into();
    }
    let (mut shown, mut written) = (String::new(), 0);
    for letter in raw.chars() {
        if written >= SHOWN_MAX {
            shown.push_str("...");
            break;
        }
        let at = shown.len();
        if letter.is_ascii_graphic() || letter == ' ' {
            shown.push(letter);
        } else {
            shown.extend(letter.escape_unicode());
        }
        written += written_len(&shown[at..]);
    }
    shown.into()
}

/// The bytes of a printable text in a record: `"` and `\` are preceded by `\`.
fn written_len(text: &str) -> usize {
    let is_escaped = |byte: &u8| matches!(byte, b'"' | b'\\');
    text.len() + text.as_bytes().iter().filter(|byte| is_escaped(byte)).count()
}

/// A valid `traceparent` (W3C Trace Context 3.2): `version-traceid-parentid-flags` in lower-case
/// hexadecimal; `None` for anything else.
pub fn traceparent(raw: &[u8]) -> Option<&str> {
    let text = str::from_utf8(raw).ok().filter(|text| text.len() == TRACEPARENT_LEN)?;
    let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let null = |part: &str| part.bytes().all(|byte| byte == b'0');
    let mut parts = text.split('-');
    let [version, trace, parent, flags] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let lengths = [version, trace, parent, flags].map(str::len);
    // Version ff is forbidden, and ids of zeros are invalid (3.2.2).
    let valid = lengths == [2, 32, 16, 2]
        && [version, trace, parent, flags].into_iter().all(hex)
        && version != "ff"
        && !null(trace)
        && !null(parent);
    valid.then_some(text)
}

const REDACTED: &str = "[redacted]";
const SHOWN_MAX: usize = 256;
const TRACEPARENT_LEN: usize = 55;
/// The longest registered name has 40 bytes.
const SUBPROTOCOL_BYTES_MAX: usize = 64;

mod secret;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quick_look_hides_as_much(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "token", "Token", "sid", "a", "1", "-", "=", "?", "&", ";", "/", "#", "%", "%3d", "@", "\"",
                    ":", "eyJhbGciOiJIUzI1NiJ9", "\u{e9}",
                ]),
                0..12,
            ),
        ) {
            let (raw, names) = (parts.concat(), ["token".to_owned(), "s-id".to_owned()]);
            prop_assert_eq!(target(&raw, &names), without_secrets(&raw, &names, Signs::Any));
        }
    }

    // Requirements: UH37.
    #[test]
    fn redacts_credentials_in_the_query() {
        let names = ["token".to_owned(), "sid".to_owned()];
        let shown = |raw: &str| target(raw, &names).into_owned();
        assert_eq!(shown("/ws?token=s3cret&room=1"), "/ws?token=[redacted]&room=1");
        assert_eq!(shown("/ws?a=1&SID=x"), "/ws?a=1&SID=[redacted]");
        assert_eq!(shown("/ws?%74oken=s3cret"), "/ws?%74oken=[redacted]");
        assert_eq!(shown("/ws?tokens=1&token"), "/ws?tokens=1&token");
        assert_eq!(shown("/a/;sid=x/b"), "/a/;sid=[redacted]/b");
        for raw in ["auth.token", "token[]", "accessToken", "x-token", "token%5B%5D", "+token"] {
            let given = format!("/?{raw}=s3cret;a=1");
            assert_eq!(shown(&given), format!("/?{raw}=[redacted];a=1"));
        }
        assert_eq!(shown("/?tokens=1&stoken=2"), "/?tokens=1&stoken=2");
        // All of these may be a part of a value.
        for value in ["a/s3cret", "a?s3cret", "a#s3cret", "a;s3cret", "a/s3=c/ret==", "/", "?"] {
            assert_eq!(shown(&format!("/?token={value}")), "/?token=[redacted]", "{value}");
            let more = format!("/?token={value}&room=1/2?3");
            assert_eq!(shown(&more), "/?token=[redacted]&room=1/2?3");
        }
        assert_eq!(shown("/x;sid=1?room=2"), "/x;sid=[redacted]?room=2");
        assert_eq!(shown("/?token%3Ds3cret&a"), "/?[redacted]&a");
        assert_eq!(shown("/a/?b/c?"), "/a/?b/c?");
    }

    #[test]
    fn credentials_before_a_host_are_redacted() {
        assert_eq!(authority("user:pw@a.example:80"), "[redacted]@a.example:80");
        assert_eq!(authority("a.example"), "a.example");
        assert_eq!(origin("https://u:pw@evil", &[]), "[redacted]@evil");
    }

    #[test]
    fn length_and_characters_are_bounded() {
        assert_eq!(truncate(&"x".repeat(1000)).len(), SHOWN_MAX + 3);
        assert_eq!(truncate("a\u{1b}[31m\n\u{202e}"), "a\\u{1b}[31m\\u{a}\\u{202e}");
        assert_eq!(truncate("short"), "short");
        // As they are written, in text and in JSON.
        for letter in ["\"", "\\", "\u{1}", "\u{10ffff}", "\u{e9}", "x\""] {
            let written = written_len(&truncate(&letter.repeat(1000)));
            assert!((SHOWN_MAX..=SHOWN_MAX + 16).contains(&written), "{letter:?}: {written}");
        }
        let fits = "\"".repeat(SHOWN_MAX / 2);
        assert_eq!(truncate(&fits), fits);
        assert_eq!(target("/%zz?%=1&%4=2&=", &["x".into()]), "/%zz?%=1&%4=2&=");
    }

    #[test]
    fn only_a_valid_traceparent_is_shown() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(good.as_bytes()), Some(good));
        let later = good.replace("00-4", "cc-4");
        assert_eq!(traceparent(later.as_bytes()), Some(&*later));
        for (from, to) in [
            ("00-4", "ff-4"),
            ("4bf9", "4BF9"),
            ("4bf9", "4bg9"),
            ("4bf9", "4bf"),
            ("-01", "-01-"),
            ("-01", "-1"),
            ("-", "_"),
            ("36-00", "3-600"),
            ("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            ("00f067aa0ba902b7", "0000000000000000"),
            ("01", "\u{e9}"),
        ] {
            assert_eq!(traceparent(good.replace(from, to).as_bytes()), None, "{from} {to}");
        }
        assert_eq!(traceparent(b""), None);
        assert_eq!(traceparent(&[0xff; 55]), None);
    }

    #[test]
    fn credentials_in_nested_queries_are_redacted() {
        let names = ["token".to_owned(), "bearer".to_owned()];
        for (raw, shown) in [
            ("/in?next=%2Fa%3Ftoken%3D1&b=2", "/in?next=[redacted]&b=2"),
            ("/in?x=token%3dS", "/in?x=[redacted]"),
            ("/in?a=1%26token=S&b", "/in?a=[redacted]&b"),
            ("/in?next=%2Fa%3Fb%3D1", "/in?next=%2Fa%3Fb%3D1"),
            ("/in?next=%252Fa%253Ftoken%253D1&b", "/in?next=[redacted]&b"),
            ("/?q={\"token\":\"x\"}&b", "/?q=[redacted]&b"),
            ("/?next=https://u:p@h/x&b=1", "/?next=https://[redacted]@h&b=1"),
            ("/?eyJhbGciOiJIUzI1NiJ9.eyJzIjoiMSJ9.c2ln&b", "/?[redacted]&b"),
            ("/?eyJhbGciOiJIUzI1NiJ9.eyJzIjoiMSJ9.c2ln==&b", "/?[redacted]&b"),
            ("/a/eyJhbGciOiJIUzI1NiJ9.eyJzIjoiMSJ9.c2ln/b", "/a/[redacted]/b"),
            ("/a//u:p@h/b", "/a//[redacted]@h/b"),
        ] {
            assert_eq!(target(raw, &names), shown);
        }
        // Too long to be examined, unlike the same without anything that a secret has.
        let long = "%2F".repeat(400);
        assert_eq!(target(&format!("/?a=1&next={long}&b=2"), &names), "/?a=1&next=[redacted]&b=2");
        assert!(
            target(&format!("/?a=1&next={}", "x".repeat(2000)), &names)
                .starts_with("/?a=1&next=xxx")
        );
        // What is not shown is not examined.
        let many = format!("/?{}token=S", "a=1&".repeat(100));
        assert_eq!(target(&many, &names), format!("{}...", &many[..SHOWN_MAX]));
        let hidden = format!("/?token=S&{}", "a=1&".repeat(100));
        let expected = format!("/?token=[redacted]&{}", "a=1&".repeat(100));
        assert_eq!(target(&hidden, &names), format!("{}...", &expected[..SHOWN_MAX]));
        assert_eq!(subprotocol("base64url.bearer.k8s.io.c2VjcmV0", &names), "[redacted]");
        assert_eq!(subprotocol("header-eyJob3N0IjoiYS5leGFtcGxlIn0", &names), "[redacted]");
        assert_eq!(subprotocol(&"x".repeat(SUBPROTOCOL_BYTES_MAX + 1), &names), "[redacted]");
        assert_eq!(subprotocol("graphql-transport-ws", &names), "graphql-transport-ws");
    }
}
