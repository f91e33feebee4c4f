//! The key that selects a backend: the client, or a part of the request.

use std::borrow::Cow;

use hyper::http::request::Parts;

use super::rendezvous::KeyHash;
use crate::client::ClientKey;
use crate::config::values::hash_source::HashSource;
use crate::http::path::RoutePath;
use crate::http::{cookies, query};

/// The key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChoiceKey {
    /// The hash of the key.
    pub hash: KeyHash,
    /// Whether the request lacks what the pool hashes, so that the client key is used.
    pub is_fallback: bool,
}

impl ChoiceKey {
    /// Reads the key of a request. The client key is used if the request lacks the source, or if its value is
    /// empty or longer than 4,096 bytes, the size of a cookie (RFC 6265 6.1). The same value has the same hash
    /// whatever its source.
    pub fn of_request(
        source: &HashSource,
        head: &Parts,
        path: &RoutePath,
        client: ClientKey,
    ) -> Self {
        let value = value(source, head, path);
        match value.filter(|value| (1..=VALUE_BYTES_MAX).contains(&value.len())) {
            Some(value) => Self { hash: KeyHash::of_text(&value), is_fallback: false },
            None => Self {
                hash: KeyHash::of_client(client),
                is_fallback: *source != HashSource::Client,
            },
        }
    }
}

/// Whether a request has a value of this source that is not empty.
pub fn has_value(source: &HashSource, head: &Parts, path: &RoutePath) -> bool {
    value(source, head, path).is_some_and(|value| !value.is_empty())
}

fn value<'r>(source: &HashSource, head: &'r Parts, path: &'r RoutePath) -> Option<Cow<'r, [u8]>> {
    let segment = |number: &usize| path.normalized().split('/').nth(*number);
    match source {
        HashSource::Client => None,
        HashSource::Cookie(name) => cookies::values(&head.headers, name).next().map(Cow::from),
        HashSource::Header(name) => {
            head.headers.get(name).map(|value| value.as_bytes().trim_ascii().into())
        }
        HashSource::Query(name) => {
            query::parameter(head.uri.query()?, name).map(|value| value.as_bytes().into())
        }
        HashSource::PathSegment(number) => segment(number).map(|text| text.as_bytes().into()),
        HashSource::PathCapture(capture) => {
            capture.captured(path.normalized()).map(|text| text.into_bytes().into())
        }
    }
}

/// Longest value that is hashed, in bytes.
const VALUE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use hyper::Request;
    use toml::de::DeValue;

    use super::*;
    use crate::config::toml::value::TomlValue as _;

    fn key(source: &str, target: &str, cookie: &str, room: &str) -> ChoiceKey {
        let source = HashSource::read(&DeValue::String(source.into())).unwrap();
        let request =
            Request::builder().uri(target).header("cookie", cookie).header("x-room", room);
        let (head, ()) = request.body(()).unwrap().into_parts();
        let path = RoutePath::new(head.uri.path());
        ChoiceKey::of_request(&source, &head, &path, ClientKey::sample(1))
    }

    #[test]
    fn every_source_reads_its_value() {
        let expected = ChoiceKey { hash: KeyHash::of_text(b"r7"), is_fallback: false };
        for source in [
            "cookie:room",
            "header:X-Room",
            "query:room",
            "path:2",
            "path:3",
            "/room/{id}",
            "/room/x/{id}",
        ] {
            let target = match source {
                "path:3" | "/room/x/{id}" => "/room/x/r7",
                _ => "/./room/r7?room=r7&room=x",
            };
            assert_eq!(key(source, target, "a=b; room=r7", " r7"), expected, "{source}");
        }
    }

    #[test]
    fn client_key_replaces_a_missing_or_long_value() {
        let client = KeyHash::of_client(ClientKey::sample(1));
        let fallback = ChoiceKey { hash: client, is_fallback: true };
        for source in ["cookie:id", "header:X-Other", "query:id", "path:3", "/rooms/{id}"] {
            assert_eq!(key(source, "/room/r7?id=", "id=", ""), fallback, "{source}");
        }
        let long = |length: usize| key("header:X-Room", "/", "", &"x".repeat(length));
        assert_eq!(long(VALUE_BYTES_MAX + 1), fallback);
        assert!(!long(VALUE_BYTES_MAX).is_fallback);
        assert_eq!(key("client", "/", "", ""), ChoiceKey { is_fallback: false, ..fallback });
    }
}
