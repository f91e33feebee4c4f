//! The fields of a request that its record shows, as the client sent them.

use hyper::Request;
use hyper::header::{HOST, HeaderName, ORIGIN, USER_AGENT};

use crate::telemetry::redact::traceparent;

/// The beginning of each field, in one allocation. They are copied, because hyper's header values would keep
/// its read buffer alive.
#[derive(Debug)]
pub struct SentFields {
    text: Box<str>,
    /// Where each field ends, in the order of [`Field`].
    ends: [u16; FIELDS],
    has_origin: bool,
}

#[derive(Clone, Copy)]
enum Field {
    Host,
    Target,
    Origin,
    UserAgent,
    Traceparent,
    RequestId,
}

impl SentFields {
    /// Copies the fields of a request.
    pub fn copy<B>(request: &Request<B>, request_id: &str) -> Self {
        let (uri, headers) = (request.uri(), request.headers());
        let value = |name: HeaderName| headers.get(name).map(|value| value.as_bytes());
        let host = match uri.authority() {
            Some(authority) => Some(authority.as_str().as_bytes()),
            None => value(HOST),
        };
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        let (origin, user_agent) = (value(ORIGIN), value(USER_AGENT));
        let fields = [
            host.unwrap_or_default(),
            target.as_bytes(),
            origin.unwrap_or_default(),
            user_agent.unwrap_or_default(),
            only_traceparent(request).as_bytes(),
            request_id.as_bytes(),
        ]
        .map(|field| &field[..field.len().min(FIELD_BYTES_MAX)]);
        let mut text = String::with_capacity(fields.iter().map(|field| field.len()).sum());
        let ends = fields.map(|field| {
            match str::from_utf8(field) {
                Ok(field) => text.push_str(field),
                Err(_) => text.push_str(&String::from_utf8_lossy(field)),
            }
            u16::try_from(text.len()).unwrap_or(u16::MAX)
        });
        Self { text: text.into(), ends, has_origin: origin.is_some() }
    }

    /// The host that the request names; empty if there is none.
    pub fn host(&self) -> &str {
        self.get(Field::Host)
    }

    /// The request target; empty if there is none.
    pub fn target(&self) -> &str {
        self.get(Field::Target)
    }

    /// The first `Origin`.
    pub fn origin(&self) -> Option<&str> {
        self.has_origin.then(|| self.get(Field::Origin))
    }

    /// The first `User-Agent`; empty if there is none.
    pub fn user_agent(&self) -> &str {
        self.get(Field::UserAgent)
    }

    /// `traceparent`, if there is one and it is valid; otherwise empty.
    pub fn traceparent(&self) -> &str {
        self.get(Field::Traceparent)
    }

    /// The id of the request.
    pub fn request_id(&self) -> &str {
        self.get(Field::RequestId)
    }

    fn get(&self, field: Field) -> &str {
        let end = |index: usize| usize::from(self.ends.get(index).copied().unwrap_or_default());
        let index = field as usize;
        let start = index.checked_sub(1).map_or(0, end);
        self.text.get(start..end(index)).unwrap_or_default()
    }
}

/// The value of `traceparent`; empty if the header occurs more than once (W3C Trace Context 3.2).
fn only_traceparent<B>(request: &Request<B>) -> &str {
    let mut values = request.headers().get_all("traceparent").iter();
    let only = values.next().filter(|_| values.next().is_none());
    only.and_then(|value| traceparent(value.as_bytes())).unwrap_or_default()
}

/// Number of fields.
const FIELDS: usize = Field::RequestId as usize + 1;
/// Bytes of a field that are kept; more than a record shows, because redaction shortens a value.
const FIELD_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_request() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let request = Request::get("/ws?a=1").header("host", "a.example").header("origin", "");
        let request = request.header("traceparent", parent).header("user-agent", "b\u{e9}");
        let sent = SentFields::copy(&request.body(()).unwrap(), "4e6a");
        assert_eq!((sent.host(), sent.target()), ("a.example", "/ws?a=1"));
        assert_eq!((sent.origin(), sent.user_agent()), (Some(""), "b\u{e9}"));
        assert_eq!((sent.traceparent(), sent.request_id()), (parent, "4e6a"));
        let twice = Request::get("http://b.example/").header("traceparent", parent);
        let twice = twice.header("traceparent", parent).header("host", "a.example");
        let sent = SentFields::copy(&twice.body(()).unwrap(), "");
        assert_eq!((sent.host(), sent.target()), ("b.example", "/"));
        assert_eq!((sent.origin(), sent.user_agent(), sent.traceparent()), (None, "", ""));
    }

    #[test]
    fn long_fields_are_cut() {
        let request = Request::get("/").header("host", [0xff; 9000].as_slice());
        let sent = SentFields::copy(&request.body(()).unwrap(), "id");
        assert_eq!(sent.host(), "\u{fffd}".repeat(FIELD_BYTES_MAX));
        assert_eq!((sent.target(), sent.request_id()), ("/", "id"));
    }
}
