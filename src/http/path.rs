//! Paths for routing, with every reading that a backend may have of them.

mod readings;

use self::readings::{Decoding, check_all, decode, remove_dot_segments};

/// The path of a request target.
///
/// The backend receives the path as the client sent it and may read it in its own way: decode `%2e`, treat
/// `%2F` as a separator, strip `;x` from a segment, merge slashes, take the name after `//` for a host. If the
/// proxy chose a route by one reading and the backend a resource by another, a rule on `/admin` could be
/// bypassed. All readings must therefore lead to the same route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePath {
    raw: String,
    /// Unreserved octets decoded, dot segments removed (RFC 3986 6.2.2); `None` if that changes nothing and no
    /// other reading exists.
    normal: Option<String>,
}

impl RoutePath {
    /// Takes an absolute path without its query.
    pub fn new(raw: &str) -> Self {
        let normal = || {
            let decoded = decode(raw, Decoding::Unreserved);
            remove_dot_segments(decoded.as_deref().unwrap_or(raw))
        };
        Self { raw: raw.to_owned(), normal: may_be_ambiguous(raw).then(normal) }
    }

    /// The normalised path.
    pub fn normalized(&self) -> &str {
        self.normal.as_deref().unwrap_or(&self.raw)
    }

    /// Checks whether every reading of the path has the same result as the normalised path.
    ///
    /// # Errors
    /// The steps to a reading with another result, as in "another one for servers that do this: merging slashes".
    pub fn check_readings<T: PartialEq>(&self, result: impl Fn(&str) -> T) -> Result<(), String> {
        let Some(normal) = &self.normal else { return Ok(()) };
        let expected = result(normal);
        check_all(&self.raw, |reading| result(reading) == expected)
    }
}

/// Whether some step changes the path.
fn may_be_ambiguous(raw: &str) -> bool {
    let mut before = b'/';
    let is_mark = |byte| {
        let (first, second) = (std::mem::replace(&mut before, byte), byte);
        matches!(second, b'%' | b';' | b'$')
            || matches!((first, second), (b'/', b'/' | b'.') | (b'.', b'/'))
    };
    raw.bytes().skip(1).any(is_mark) || raw.ends_with('.')
}

/// A text for comparisons that ignore case, as loosely as any server compares.
pub fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// A configured path with its octets decoded; `None` if none is encoded.
pub fn decoded(path: &str) -> Option<String> {
    decode(path, Decoding::All)
}

#[cfg(test)]
mod tests;
