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
            Some((name, _)) if is_telling(&decoded(name), names) => {
                shown.push_str(name);
                shown.push_str("=[redacted]");
            }
            Some(_) | None => shown.push_str(pair),
        }
        shown.push_str(separator);
    }
    cut(&shown)
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

const SHOWN_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uh37_credentials_in_the_query_are_hidden() {
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
}
