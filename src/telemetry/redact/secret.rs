//! Recognizes secrets in text that a client sent: values of sensitive parameters, credentials before a host, and
//! tokens. Applications decode a value once or several times, so this does too.

use std::borrow::Cow;

/// What in a text may show a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    /// Nothing, as in most texts.
    None,
    /// Only names before a `=`: nothing is encoded or quoted, and there are neither credentials nor a token.
    Names,
    /// Anything.
    Any,
}

impl Signs {
    /// Looks at a text, which takes few instructions.
    pub fn of(text: &str) -> Self {
        // Without a branch for each byte, the compiler uses vector instructions.
        let (mut has_names, mut has_others) = (false, false);
        for byte in text.bytes() {
            has_names |= byte == b'=';
            has_others |= matches!(byte, b'%' | b'"' | b'@');
        }
        match has_others || text.contains(TOKEN_START) {
            true => Self::Any,
            false if has_names => Self::Names,
            false => Self::None,
        }
    }
}

/// Whether a text has a sensitive name before a `=`.
pub fn has_name(text: &str, names: &[String]) -> bool {
    let mut pieces = text.split('=');
    pieces.next_back();
    pieces.any(|piece| {
        let start = piece.bytes().rposition(is_separator).map_or(0, |at| at + 1);
        piece.get(start..).is_none_or(|name| has_listed_word(name, names))
    })
}

/// Whether a value contains a secret after some decodings: a token, credentials before a host, or a query or
/// a JSON object with a sensitive name. So does a value that is still encoded after more decodings than any
/// application makes, and one that may contain a secret and is too long to be examined.
pub fn is_in_value(value: &str, names: &[String]) -> bool {
    if value.len() > EXAMINED_BYTES_MAX {
        return Signs::of(value) != Signs::None;
    }
    let mut text = Cow::Borrowed(value);
    for _ in 0..=DECODINGS_MAX {
        if Signs::of(&text) != Signs::None && is_in_plain(&text, names) {
            return true;
        }
        text = match decoded(&text) {
            Cow::Owned(plain) if plain != text => plain.into(),
            Cow::Owned(_) | Cow::Borrowed(_) => return false,
        };
    }
    true
}

fn is_in_plain(text: &str, names: &[String]) -> bool {
    let mut pairs = text
        .split(|letter| u8::try_from(letter).is_ok_and(is_separator))
        .filter_map(|pair| pair.split_once('='));
    has_token(text)
        || has_credentials(text)
        || pairs.any(|(name, _)| is_name(name, names))
        || has_json_member(text, names)
}

/// Whether a text contains what begins like a JSON object in base64, as a JWT (RFC 7519) does.
pub fn has_token(text: &str) -> bool {
    text.match_indices(TOKEN_START).any(|(at, _)| {
        let rest = text.as_bytes().iter().skip(at);
        rest.take_while(|byte| byte.is_ascii_alphanumeric() || b"-_+/".contains(byte)).count()
            >= TOKEN_BYTES_MIN
    })
}

/// Whether a text contains a URL with credentials before its host (RFC 3986 3.2.1).
fn has_credentials(text: &str) -> bool {
    let mut authorities = text.split("//").skip(1);
    authorities
        .any(|rest| rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')))
}

/// Whether a text contains a JSON member with a sensitive name. The quotes may be escaped, as in a JSON text
/// within another.
fn has_json_member(text: &str, names: &[String]) -> bool {
    let mut parts = text.split('"').peekable();
    while let Some(part) = parts.next() {
        let is_name_before = parts.peek().is_some_and(|next| next.trim_start().starts_with(':'));
        if is_name_before && is_name(part, names) {
            return true;
        }
    }
    false
}

/// Whether a name or one of its words is listed, ignoring case and punctuation, after some decodings.
pub fn is_name(name: &str, names: &[String]) -> bool {
    let mut name = Cow::Borrowed(name);
    for _ in 0..DECODINGS_MAX {
        name = match decoded(&name) {
            Cow::Owned(plain) if plain != name => plain.into(),
            Cow::Owned(_) | Cow::Borrowed(_) => break,
        };
    }
    has_listed_word(&name, names)
}

/// Four times as long as what is shown. Decoding it several times takes 10 µs.
const EXAMINED_BYTES_MAX: usize = 1024;

/// Percent-decodes a text once, because the application reads `%74oken` as `token`.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit =
            |index: usize| after.get(index).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            (byte, ..) => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned().into()
}

/// Whether a name or one of its words is listed, ignoring case and punctuation.
fn has_listed_word(name: &str, names: &[String]) -> bool {
    let listed = |word: &str| is_listed(word, names);
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
            word_found = word_found || listed(word);
            (rest, offset) = (tail, at);
        }
    }
    word_found || listed(rest) || (offset > 0 && listed(name))
}

/// Whether a word with letters or digits is listed.
fn is_listed(word: &str, names: &[String]) -> bool {
    let mut letters = bare(word);
    let Some(first) = letters.next() else { return false };
    let second = letters.next().unwrap_or_default();
    // Most names begin with other letters.
    let may_be = |name: &&String| match *name.as_bytes() {
        [one, ..] if one != first && one.is_ascii_lowercase() => false,
        [one, two, ..] => one != first || two == second || !two.is_ascii_lowercase(),
        _ => true,
    };
    names.iter().filter(may_be).any(|name| bare(name).eq(bare(word)))
}

/// The letters and digits of a text, in lower case.
fn bare(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase())
}

/// Whether a byte separates parameters, or the parts of a URL.
pub fn is_separator(byte: u8) -> bool {
    matches!(byte, b'?' | b'&' | b';' | b'/' | b'#')
}

/// `{"` in base64.
const TOKEN_START: &str = "eyJ";
/// Bytes of the shortest token: 12 bytes of JSON, as in `{"alg":"no"}`.
const TOKEN_BYTES_MIN: usize = 16;
/// A URL within a URL within a URL is encoded three times.
const DECODINGS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_secret(value: &str) -> bool {
        is_in_value(value, &["token".to_owned(), "bearer".to_owned()])
    }

    #[test]
    fn secrets_are_found_through_encodings() {
        for value in [
            "%2Fa%3Ftoken%3D1",
            "%252Fa%253Ftoken%253D1",
            "%25252Fa%25253Ftoken%25253D1",
            "%2Fa%3Fnext%3D%252Fb%253Ftoken%253D1",
            "%2Fa%3F%2574oken%3D1",
            "{\"a\":1,\"token\":\"x\"}",
            "%7B%22a%22%3A1%2C%22accessToken%22%20%3A%22x%22%7D",
            "{\"a\":\"{\\\"token\\\":1}\"}",
            "https://user:pw@a.example/",
            "https%3A%2F%2Fuser%3Apw%40a.example%2F",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            "a%2FeyJhbGciOiJIUzI1NiJ9%2EeyJzdWIiOiIxIn0",
            // More encodings than any application decodes.
            "%2525252574",
        ] {
            assert!(is_secret(value), "{value}");
        }
    }

    #[test]
    fn usual_values_are_no_secrets() {
        for value in [
            "",
            "1",
            "a.example",
            "%2Fa%3Fb%3D1",
            "100%",
            "%zz%4",
            "%25",
            "a@b.example",
            "https://a.example/@user",
            "{\"a\":\"token\"}",
            "c2VjcmV0==",
            "keyJ",
            "eyJhbGciOi",
            "%e9%ff",
        ] {
            assert!(!is_secret(value), "{value}");
        }
    }

    #[test]
    fn decoding_ignores_what_is_no_escape() {
        for (encoded, plain) in
            [("%41%", "A%"), ("%4", "%4"), ("%+5", "%+5"), ("%%41", "%A"), ("%zz", "%zz")]
        {
            assert_eq!(decoded(encoded), plain);
        }
    }
}
