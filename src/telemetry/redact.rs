//! Client-supplied text made fit for a record: credentials hidden, characters and length bounded.
//! Quotes are the formatter's: it gets such text as a string, never bare.

/// A request target with the values of telling parameters hidden. `names` are
/// those whose value is never shown: as a whole, or as one word of a longer name, so that `token`
/// also covers `auth.token`, `token[]` and `accessToken`.
pub fn target(raw: &str, names: &[String]) -> String {
    let mut shown = String::with_capacity(raw.len());
    // Parameters stand behind `?` and `&`, and behind `;` in a path or an old-fashioned query.
    for piece in raw.split_inclusive(['?', '&', ';', '/', '#']) {
        let (pair, separator) = match piece.char_indices().next_back() {
            Some((end, '?' | '&' | ';' | '/' | '#')) => piece.split_at(end),
            Some(_) | None => (piece, ""),
        };
        match pair.split_once('=') {
            Some((name, value))
                if is_telling(&decoded(name), names) || is_telling_within(value, names) =>
            {
                shown.push_str(name);
                shown.push_str("=[redacted]");
            }
            Some(_) | None => shown.push_str(pair),
        }
        shown.push_str(separator);
    }
    cut(&shown)
}

/// A subprotocol, which some clients make of a credential, having no other place for it.
pub fn subprotocol(raw: &str, names: &[String]) -> String {
    if is_telling(raw, names) { REDACTED.to_owned() } else { cut(raw) }
}

/// An Origin, which a program may fill with anything.
pub fn origin(raw: &str, names: &[String]) -> String {
    authority(&target(raw, names))
}

/// An authority without the credentials in front of its `@`.
pub fn authority(raw: &str) -> String {
    match raw.rsplit_once('@') {
        Some((_, host)) => cut(&format!("[redacted]@{host}")),
        None => cut(raw),
    }
}

/// About 256 characters at most, all of them printable ASCII: whoever reads records in a terminal
/// is steered neither by control characters nor by those that turn the direction of writing.
pub fn cut(raw: &str) -> String {
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
    shown
}

/// A `traceparent` in the shape of W3C Trace Context (3.2): `version-traceid-parentid-flags`, in
/// lower-case hexadecimal. Anything else is none.
pub fn traceparent(raw: &[u8]) -> Option<&str> {
    let text = str::from_utf8(raw).ok().filter(|text| text.len() == TRACEPARENT_LEN)?;
    let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let null = |part: &str| part.bytes().all(|byte| byte == b'0');
    let mut parts = text.split('-');
    let [version, trace, parent, flags] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let lengths = [version, trace, parent, flags].map(str::len);
    // Version ff is forbidden, and ids of zeros are invalid (3.2.2).
    let lawful = lengths == [2, 32, 16, 2]
        && [version, trace, parent, flags].into_iter().all(hex)
        && version != "ff"
        && !null(trace)
        && !null(parent);
    lawful.then_some(text)
}

/// `%74oken` is `token` to the application, so it is to us.
fn decoded(name: &str) -> String {
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
    String::from_utf8_lossy(&plain).into_owned()
}

/// Whether a value is itself a query with something to hide: `next=%2Fin%3Ftoken%3D1`.
fn is_telling_within(value: &str, names: &[String]) -> bool {
    let plain = decoded(value);
    let mut pairs = plain.split(['?', '&', ';', '/', '#']).filter_map(|pair| pair.split_once('='));
    plain != value && pairs.any(|(name, _)| is_telling(&decoded(name), names))
}

/// Whether a name, or one of its words, is listed; case and punctuation do not count.
fn is_telling(name: &str, names: &[String]) -> bool {
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
    word_found || (bare(rest).next().is_some() && listed(rest)) || listed(name)
}

/// Letters and digits alone, in lower case.
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
        let shown = |raw: &str| target(raw, &names);
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
    }

    #[test]
    fn credentials_in_front_of_a_host_are_hidden() {
        assert_eq!(authority("user:pw@a.example:80"), "[redacted]@a.example:80");
        assert_eq!(authority("a.example"), "a.example");
        assert_eq!(origin("https://u:pw@evil", &[]), "[redacted]@evil");
    }

    #[test]
    fn length_and_characters_are_tamed() {
        assert_eq!(cut(&"x".repeat(1000)).len(), SHOWN_MAX + 3);
        assert_eq!(cut("a\u{1b}[31m\n\u{202e}"), "a\\u{1b}[31m\\u{a}\\u{202e}");
        assert_eq!(cut("short"), "short");
        assert_eq!(target("/%zz?%=1&%4=2&=", &["x".into()]), "/%zz?%=1&%4=2&=");
    }
    #[test]
    fn only_a_lawful_traceparent_is_shown() {
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
    fn a_credential_in_a_nested_query_or_a_subprotocol_is_hidden() {
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
