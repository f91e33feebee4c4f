//! What of a request decides about its backend.

use std::fmt;

use hyper::header::HeaderName;
use toml::de::DeValue;

use crate::config::toml::diagnostic::Problem;
use crate::config::toml::nearest::nearest;
use crate::config::toml::scalar::{digits, text};
use crate::config::toml::value::TomlValue;
use crate::http::fields::is_token;

/// What is hashed to select a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashSource {
    /// The client key.
    Client,
    /// The value of a cookie.
    Cookie(String),
    /// The value of a header field.
    Header(HeaderName),
    /// The value of a query parameter.
    Query(String),
    /// A segment of the path, from 1.
    PathSegment(usize),
    /// Parts of the path.
    PathCapture(PathCapture),
}

/// A path such as `/room/{id}`, whose parts in braces are captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathCapture {
    /// As written.
    text: String,
    /// The literal segments; `None` for one that is captured.
    segments: Vec<Option<String>>,
}

impl PathCapture {
    /// The captured segments of a path that starts with this one, separated by `/`; `None` if the path does
    /// not, or if a captured segment is empty.
    pub fn captured(&self, path: &str) -> Option<String> {
        let mut captured = Vec::new();
        let mut segments = path.split('/').skip(1);
        for expected in &self.segments {
            let segment = segments.next()?;
            match expected {
                Some(literal) if literal != segment => return None,
                Some(_) => {}
                None if segment.is_empty() => return None,
                None => captured.push(segment),
            }
        }
        Some(captured.join("/"))
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let segment = |segment: &str| {
            let name = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
            match name {
                Some(name) if is_token(name.as_bytes()) && !name.contains(['{', '}']) => Ok(None),
                None if !segment.is_empty() && !segment.contains(['{', '}', '*', '?', ':']) => {
                    Ok(Some(segment.to_owned()))
                }
                Some(_) | None => {
                    let problem = format!("\"{segment}\" is neither text nor a name in braces");
                    Err(Problem::new(problem).help(PATH_FORM))
                }
            }
        };
        let segments = text.split('/').skip(1).map(segment).collect::<Result<Vec<_>, _>>()?;
        if segments.iter().all(Option::is_some) {
            let problem =
                Problem::new("nothing of the path is in braces, so all requests would be equal");
            return Err(problem.help(PATH_FORM));
        }
        Ok(Self { text: text.to_owned(), segments })
    }
}

/// A cookie, header field or query parameter that sends a request to the canary backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CanaryMark(pub(crate) HashSource);

impl TomlValue for CanaryMark {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        match HashSource::read(value) {
            Ok(source @ (HashSource::Cookie(_) | HashSource::Header(_) | HashSource::Query(_))) => {
                Ok(Self(source))
            }
            Ok(_) | Err(_) => {
                let problem = "expected \"cookie:NAME\", \"header:NAME\" or \"query:NAME\"";
                Err(Problem::new(problem).help("write one such as \"header:X-Canary\""))
            }
        }
    }
}

/// As in the configuration file.
impl fmt::Display for HashSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::PathSegment(number) => write!(f, "path:{number}"),
            Self::PathCapture(path) => f.write_str(&path.text),
        }
    }
}

impl TomlValue for HashSource {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let written = text(value, EXPECTED)?;
        if written.starts_with('/') {
            return PathCapture::parse(written).map(Self::PathCapture);
        }
        if written == "client" {
            return Ok(Self::Client);
        }
        let (kind, name) = written.split_once(':').unwrap_or((written, ""));
        let invalid = |example: &str| {
            Problem::new(format!("\"{name}\" cannot be used with {kind}:"))
                .help(format!("write one such as \"{example}\""))
        };
        match kind {
            "cookie" => is_token(name.as_bytes())
                .then(|| Self::Cookie(name.to_owned()))
                .ok_or_else(|| invalid("cookie:sessionid")),
            "header" => HeaderName::from_bytes(name.as_bytes())
                .map(Self::Header)
                .map_err(|_| invalid("header:X-Room")),
            "query" => is_parameter(name)
                .then(|| Self::Query(name.to_owned()))
                .ok_or_else(|| invalid("query:room")),
            "path" => match digits(name).and_then(|number| usize::try_from(number).ok()) {
                Some(number @ 1..=SEGMENTS_MAX) => Ok(Self::PathSegment(number)),
                Some(_) | None => {
                    Err(Problem::new(format!("\"{name}\" is not the number of a path segment"))
                        .help(format!(
                            "write path:1 for the first one; the maximum is path:{SEGMENTS_MAX}"
                        )))
                }
            },
            _ => {
                let problem = Problem::new(format!("expected {EXPECTED}, found \"{written}\""));
                let kinds = ["client", "cookie", "header", "query", "path"];
                Err(match OTHER_NAMES.iter().find(|(other, _)| *other == kind) {
                    Some((_, meant)) => problem.help(format!("write \"{meant}\"")),
                    None => match nearest(kind, kinds) {
                        Some("client") => problem.help("did you mean \"client\"?"),
                        Some(meant) => problem.help(format!("did you mean \"{meant}:{name}\"?")),
                        None => problem,
                    },
                })
            }
        }
    }
}

/// Whether it can be the name of a query parameter, which is compared as sent.
fn is_parameter(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=#?".contains(&byte))
}

const EXPECTED: &str = "\"client\", \"cookie:NAME\", \"header:NAME\", \"query:NAME\", \"path:NUMBER\" or a \
                        path such as \"/room/{id}\"";
const PATH_FORM: &str = "write each part that is hashed as {name}: \"/room/{id}\"";
/// What other proxies call the same.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("ip", "client"),
    ("source", "client"),
    ("ip_hash", "client"),
    ("client_ip", "client"),
    ("uri", "path:1"),
];
/// Maximum number of a segment.
const SEGMENTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HashSource, Problem> {
        HashSource::read(&DeValue::String(text.into()))
    }

    #[test]
    fn sources_are_shown_as_written() {
        for text in [
            "client",
            "cookie:sid",
            "header:x-room",
            "query:room[id]",
            "path:64",
            "/room/{id}",
            "/a/{tenant}/b/{room}",
        ] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn captures_join_their_segments() {
        let captured = |pattern: &str, path: &str| {
            let HashSource::PathCapture(capture) = read(pattern).unwrap() else {
                panic!("{pattern}")
            };
            capture.captured(path)
        };
        assert_eq!(captured("/room/{id}", "/room/7").as_deref(), Some("7"));
        assert_eq!(captured("/room/{id}", "/room/7/ws").as_deref(), Some("7"));
        assert_eq!(captured("/a/{t}/b/{r}", "/a/1/b/2/c").as_deref(), Some("1/2"));
        for path in ["/", "/room", "/room/", "/rooms/7", "/Room/7", "//room/7"] {
            assert_eq!(captured("/room/{id}", path), None, "{path}");
        }
    }

    #[test]
    fn mistakes_have_suggestions() {
        let help = |text: &str| read(text).unwrap_err().to_string();
        for (text, part) in [
            ("cokie:sid", "did you mean \"cookie:sid\"?"),
            ("Client", "did you mean \"client\"?"),
            ("ip", "write \"client\""),
            ("path:0", "write path:1"),
            ("path:x", "path:1"),
            ("cookie:", "cookie:sessionid"),
            ("header:a b", "header:X-Room"),
            ("query:a=b", "query:room"),
            ("/room", "nothing of the path is in braces"),
            ("/room/*", "/room/{id}"),
            ("/room/:id", "/room/{id}"),
            ("/room/{id}x", "/room/{id}"),
            ("/room/{}", "/room/{id}"),
            ("zebra", "expected \"client\""),
        ] {
            assert!(help(text).contains(part), "{text}: {}", help(text));
        }
    }
}
