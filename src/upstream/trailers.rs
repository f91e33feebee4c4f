//! Trailer fields (RFC 9110 6.5): which may be announced to the next hop. hyper sends only those that the
//! head announces, and to a client only if it said `TE: trailers`.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue, TE, TRAILER};

use crate::config::settings::HeaderRules;
use crate::http::fields::{ConnectionOptions, is_hop_by_hop, list_members};
use crate::http::proxy_fields::is_proxy_field;

/// Whether the sender of this head accepts trailers (RFC 9110 10.1.4).
pub fn are_accepted(headers: &HeaderMap) -> bool {
    list_members(headers, &TE).any(|member| member.eq_ignore_ascii_case(b"trailers"))
}

/// The `Trailer` field for the next hop: the announced names that may be forwarded. `rules` are the changes
/// of the route to fields of this direction; a field that they concern is not accepted as a trailer.
pub fn announcement(headers: &HeaderMap, rules: &HeaderRules) -> Option<HeaderValue> {
    // A head without the field needs no further look.
    headers.get(TRAILER)?;
    let options = ConnectionOptions::parse(headers).ok()?;
    let names =
        list_members(headers, &TRAILER).filter_map(|name| HeaderName::from_bytes(name).ok());
    let names = names.filter(|name| {
        let is_ruled = rules.remove.contains(name) || rules.set.iter().any(|(set, _)| set == name);
        !is_ruled && !options.has(name.as_str()) && is_allowed(name)
    });
    let mut text = String::new();
    for name in names.take(NAMES_MAX) {
        let separator = if text.is_empty() { "" } else { ", " };
        text.extend([separator, name.as_str()]);
    }
    if text.is_empty() { None } else { HeaderValue::try_from(text).ok() }
}

/// Whether a field may be a trailer: not if it is needed for framing, routing, authentication, modifying
/// the request, controlling the response or understanding the content (RFC 9110 6.5.1).
fn is_allowed(name: &HeaderName) -> bool {
    let text = name.as_str();
    let is_forbidden = is_hop_by_hop(name)
        || is_proxy_field(text)
        // CGI maps `-` and `_` to the same character.
        || text.contains('_')
        || ["content-", "if-", "sec-", "access-control-"]
            .iter()
            .any(|start| text.starts_with(start))
        || FORBIDDEN.contains(&text);
    // A digest of the content is known only at its end.
    text == "content-digest" || text == "content-md5" || !is_forbidden
}

const FORBIDDEN: [&str; 21] = [
    "age",
    "authorization",
    "cache-control",
    "cookie",
    "date",
    "expect",
    "expires",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];

/// Maximum number of announced names, as of fields in a head.
const NAMES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(lines: &[&str], rules: &HeaderRules) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(TRAILER, line.parse().unwrap());
        }
        headers.append("connection", "x-hop".parse().unwrap());
        announcement(&headers, rules).map(|value| value.to_str().unwrap().to_owned())
    }

    // Requirements: RL33.
    #[test]
    fn only_harmless_names_are_announced() {
        let none = HeaderRules::default();
        assert_eq!(announced(&[], &none), None);
        assert_eq!(announced(&["Host, Content-Length,"], &none), None);
        for name in [
            "Transfer-Encoding",
            "Authorization",
            "Cookie",
            "Set-Cookie",
            "Content-Type",
            "If-Match",
            "X-Forwarded-For",
            "X_Y",
            "Connection",
            "TE",
            "Sec-WebSocket-Key",
            "X-Hop",
            "a b",
        ] {
            assert_eq!(announced(&[name], &none), None, "{name}");
        }
        let kept = announced(&["Grpc-Status, Host", "Server-Timing", "Content-Digest"], &none);
        assert_eq!(kept.as_deref(), Some("grpc-status, server-timing, content-digest"));
    }

    // Requirements: RL33.
    #[test]
    fn fields_with_a_rule_are_no_trailers() {
        let name = |text: &str| text.parse::<HeaderName>().unwrap();
        let rules = HeaderRules {
            remove: vec![name("x-internal")],
            set: vec![(name("x-set"), "1".parse().unwrap())],
        };
        assert_eq!(announced(&["X-Internal, X-Set, X-App"], &rules).as_deref(), Some("x-app"));
    }

    #[test]
    fn trailers_are_accepted_if_te_lists_them() {
        let with = |value: &str| [(TE, value.parse().unwrap())].into_iter().collect::<HeaderMap>();
        assert!(are_accepted(&with("trailers")) && are_accepted(&with("deflate;q=0.5, Trailers")));
        assert!(!are_accepted(&with("gzip")) && !are_accepted(&HeaderMap::new()));
    }
}
