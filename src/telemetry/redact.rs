//! Makes client-supplied text safe for records: hides credentials, bounds the length and escapes
//! everything except printable ASCII. Quoting is left to the formatter.

use std::borrow::Cow;

/// A request target in which the values of sensitive parameters are replaced by `[redacted]`.
/// `names` lists the sensitive parameters; a name matches as a whole or as one word of a longer
/// name, so that `token` also covers `auth.token`, `token[]` and `accessToken`.
pub fn target<'r>(raw: &'r str, names: &[String]) -> Cow<'r, str> {
    // Without a branch for each byte, the compiler uses vector instructions.
    let has_value = raw.bytes().fold(false, |has, byte| has | (byte == b'=') | (byte == b'%'));
    if !has_value {
        return truncate(raw);
    }
    // `None` as long as nothing was hidden.
    let mut shown: Option<String> = None;
    let (mut at, mut before, mut in_query, mut hides) = (0, "", false, false);
    // Parameters follow `?` and `&`, and `;` in a path or an old-style query.
    for piece in raw.split_inclusive(['?', '&', ';', '/', '#']) {
        let (pair, separator) = match piece.char_indices().next_back() {
            Some((end, '?' | '&' | ';' | '/' | '#')) => piece.split_at(end),
            Some(_) | None => (piece, ""),
        };
        // In a query, the other separators may be a part of the value, as in base64.
        let is_next = before == "&" || (before == ";" && pair.contains('='));
        if !hides || is_next {
            let kept = without_value(pair, names);
            if let Some(shown) = &mut shown {
                shown.push_str(before);
            } else if kept.is_some() {
                shown = Some(raw[..at].to_owned());
            }
            if let Some(shown) = &mut shown {
                shown.push_str(kept.unwrap_or(pair));
                shown.push_str(if kept.is_some() { REDACTED } else { "" });
            }
            hides = kept.is_some() && in_query;
        }
        in_query |= separator == "?";
        before = separator;
        at += piece.len();
    }
    match shown {
        None => truncate(raw),
        Some(mut shown) => {
            shown.push_str(if hides { "" } else { before });
            truncate(&shown).into_owned().into()
        }
    }
}

/// What is shown of a parameter before `[redacted]`, if its value is sensitive: its name and `=`.
fn without_value<'p>(pair: &'p str, names: &[String]) -> Option<&'p str> {
    match pair.split_once('=') {
        Some((name, value)) => {
            let is_hidden = is_sensitive(&decoded(name), names) || contains_sensitive(value, names);
            is_hidden.then(|| &pair[..=name.len()])
        }
        None => contains_sensitive(pair, names).then_some(""),
    }
}

/// A subprotocol, redacted if it contains a sensitive name: some clients send credentials here,
/// because browsers let them set no other header field.
pub fn subprotocol<'r>(raw: &'r str, names: &[String]) -> Cow<'r, str> {
    if is_sensitive(raw, names) { REDACTED.into() } else { truncate(raw) }
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

/// Truncates text to about 256 characters and escapes everything except printable ASCII, so that
/// neither control characters nor bidirectional overrides reach a terminal.
pub fn truncate(raw: &str) -> Cow<'_, str> {
    let is_shown = |byte: u8| (b' '..=b'~').contains(&byte);
    if raw.len() <= SHOWN_MAX && raw.bytes().fold(true, |all, byte| all & is_shown(byte)) {
        return raw.into();
    }
    let mut shown = String::new();
    for letter in raw.chars() {
        if shown.len() >= SHOWN_MAX {
            shown.push_str("...");
            break;
        }
        if letter.is_ascii_graphic() || letter == ' ' {
            shown.push(letter);
        } else {
            shown.extend(letter.escape_unicode());
        }
    }
    shown.into()
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

/// Percent-decodes a name, because the application reads `%74oken` as `token`.
fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return name.into();
    }
    let bytes = name.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = name.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                at += 3;
            }
            (byte, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned().into()
}

/// Whether a value is itself a query with a sensitive parameter: `next=%2Fin%3Ftoken%3D1`.
fn contains_sensitive(value: &str, names: &[String]) -> bool {
    let Cow::Owned(plain) = decoded(value) else { return false };
    let mut pairs = plain.split(['?', '&', ';', '/', '#']).filter_map(|pair| pair.split_once('='));
    plain != value && pairs.any(|(name, _)| is_sensitive(&decoded(name), names))
}

/// Whether a name or one of its words is listed, ignoring case and punctuation.
fn is_sensitive(name: &str, names: &[String]) -> bool {
    let listed = |word: &str| names.iter().any(|name| bare(name).eq(bare(word)));
    let begins = |at: usize| {
        let (before, letter) = (name.as_bytes()[at - 1], name.as_bytes()[at]);
        !before.is_ascii_alphanumeric()
            || before.is_ascii_lowercase() && letter.is_ascii_uppercase()
    };
    let mut rest = name;
    let mut word_found = false;
    let mut offset = 0;
    for at in (1..name.len()).filter(|at| name.is_char_boundary(*at)) {
        if begins(at) {
            let (word, tail) = rest.split_at(at - offset);
            word_found = word_found || (bare(word).next().is_some() && listed(word));
            (rest, offset) = (tail, at);
        }
    }
    word_found || (bare(rest).next().is_some() && listed(rest)) || (offset > 0 && listed(name))
}

/// The letters and digits of a text, in lower case.
fn bare(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase())
}

const REDACTED: &str = "[redacted]";
const SHOWN_MAX: usize = 256;
const TRACEPARENT_LEN: usize = 55;

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(target(raw, &names), shown);
        }
        assert_eq!(subprotocol("base64url.bearer.k8s.io.c2VjcmV0", &names), "[redacted]");
        assert_eq!(subprotocol("graphql-transport-ws", &names), "graphql-transport-ws");
    }
}
