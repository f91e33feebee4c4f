//! Paths for routing, with every interpretation that a backend may use.

/// The path of a request target, in all its interpretations.
///
/// The backend receives the path as the client sent it and may interpret it in its own way: decode
/// `%2e`, treat `%2F` as a separator, strip `;x` from a segment, merge slashes. If the proxy chose
/// a route by one interpretation and the backend a resource by another, a rule on `/admin` could be
/// bypassed. All interpretations are therefore tried, and they must lead to the same route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePath {
    /// Unreserved octets decoded, dot segments removed (RFC 3986 6.2.2).
    normal: String,
    /// Other interpretations, each different from `normal`.
    variants: Vec<String>,
}

impl RoutePath {
    /// Computes the interpretations of an absolute path without its query.
    pub fn new(raw: &str) -> Self {
        if !may_be_ambiguous(raw) {
            return Self { normal: raw.to_owned(), variants: Vec::new() };
        }
        let normal = remove_dot_segments(&decode(raw, is_unreserved));
        let decoded = decode(raw, |_| true);
        let merged = merge_segments(&decoded);
        let mut variants = vec![
            raw.to_owned(),
            remove_dot_segments(&decoded),
            decoded,
            remove_dot_segments(&merged),
            merged,
        ];
        variants.retain(|variant| *variant != normal);
        variants.sort_unstable();
        variants.dedup();
        Self { normal, variants }
    }

    /// The normalised path.
    pub fn normalized(&self) -> &str {
        &self.normal
    }

    /// The result of `find` if it is the same for every interpretation of the path; `None` if a
    /// backend's interpretation could lead to another result.
    pub fn unanimous<T: PartialEq>(&self, find: impl Fn(&str) -> T) -> Option<T> {
        let found = find(&self.normal);
        self.variants.iter().all(|variant| find(variant) == found).then_some(found)
    }
}

/// Whether two interpretations of the path could differ.
fn may_be_ambiguous(raw: &str) -> bool {
    raw.contains(['%', ';']) || raw.contains("//") || raw.contains("/.")
}

/// The most permissive interpretation known from backends: `\` counts as a slash, path parameters
/// are removed and slashes merged. Dot segments stay, as WSGI passes them to the application.
fn merge_segments(decoded: &str) -> String {
    let mut path = String::with_capacity(decoded.len());
    let mut ends_with_slash = false;
    for segment in decoded.split(['/', '\\']).map(without_parameters) {
        ends_with_slash = segment.is_empty();
        if !ends_with_slash {
            path.push('/');
            path.push_str(segment);
        }
    }
    if ends_with_slash {
        path.push('/');
    }
    path
}

fn without_parameters(segment: &str) -> &str {
    segment.split_once(';').map_or(segment, |(name, _)| name)
}

/// Decodes the percent-encoded octets selected by `should_decode`. Invalid UTF-8 in the result is
/// replaced, as a configured path cannot contain it.
fn decode(raw: &str, should_decode: impl Fn(u8) -> bool) -> String {
    let bytes = raw.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octet = match bytes.get(at + 1..at + 3) {
            Some(&[high, low]) if byte == b'%' => hex(high).zip(hex(low)).map(|(h, l)| h << 4 | l),
            Some(_) | None => None,
        };
        match octet {
            Some(octet) if should_decode(octet) => {
                decoded.push(octet);
                at += 3;
            }
            Some(_) | None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 5.2.4, for an absolute path.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            name => {
                kept.push(name);
                continue;
            }
        }
        // A dot segment at the end becomes a trailing slash.
        if is_last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The routes `/a`, `/admin` and `/`, by whole segments.
    fn route(path: &str) -> &'static str {
        let within = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        ["/admin", "/a"].into_iter().find(|prefix| within(prefix)).unwrap_or("/")
    }

    #[test]
    fn plain_paths_have_one_interpretation() {
        for raw in ["/", "/chat", "/a/b.c/", "/~x/-y_z"] {
            let path = RoutePath::new(raw);
            assert_eq!(path.normalized(), raw);
            assert!(path.variants.is_empty(), "{raw}");
        }
    }

    // Requirements: RL12.
    #[test]
    fn path_that_routes_differently_is_ambiguous() {
        for raw in [
            "/a/../admin",
            "/a/%2e%2e/admin",
            "/a/.%2E/admin/",
            "/a/..%2fadmin",
            "/a%2F..%2Fadmin",
            "/a/..%5cadmin",
            "/admin%2fx",
            "/admin;x/y",
            "/x/..;/admin",
            "//admin",
            "/./admin",
            "/%61dmin",
            "/x/../../admin",
            // A backend may keep the dot segments, or remove them before it merges slashes.
            "/%61dmin/..",
            "/%61dmin%2f..",
            "/admin%2f%2f..",
        ] {
            assert_eq!(RoutePath::new(raw).unanimous(route), None, "{raw}");
        }
    }

    // Requirements: RL12.
    #[test]
    fn unusual_paths_to_one_route_pass() {
        for (raw, found) in [
            ("/admin/%2e/x", "/admin"),
            ("/a/b%2Fc", "/a"),
            ("/a/x;v=1", "/a"),
            ("/a//b", "/a"),
            ("/x%20y", "/"),
            ("/%C3%A9", "/"),
            ("/%ff%zz%", "/"),
            ("/xadmin/..;x/", "/"),
        ] {
            assert_eq!(RoutePath::new(raw).unanimous(route), Some(found), "{raw}");
        }
        // A single catch-all route is never ambiguous.
        assert_eq!(RoutePath::new("/a%2Fb/../c;x").unanimous(|_| "/"), Some("/"));
    }

    #[test]
    fn dot_segments_are_removed() {
        for (raw, normal) in [
            ("/a/b/c/./../../g", "/a/g"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/../../a", "/a"),
            ("/a//../b", "/a/b"),
            ("/...", "/..."),
            ("/%7Ea%2f", "/~a%2f"),
        ] {
            assert_eq!(RoutePath::new(raw).normalized(), normal, "{raw}");
        }
    }

    #[test]
    fn merging_drops_parameters_and_empty_segments() {
        assert_eq!(merge_segments("//a;x//b\\c/../"), "/a/b/c/../");
        assert_eq!(merge_segments("/;/"), "/");
        assert_eq!(merge_segments("/"), "/");
    }
}
