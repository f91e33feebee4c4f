use proptest::prelude::*;

use super::*;

#[test]
fn hosts_are_normalised() {
    for (text, host) in [
        ("Chat.Example.COM", HostPattern::Exact("chat.example.com".into())),
        ("chat.example.com.", HostPattern::Exact("chat.example.com".into())),
        ("localhost", HostPattern::Exact("localhost".into())),
        ("192.0.2.1", HostPattern::Exact("192.0.2.1".into())),
        ("[2001:DB8::0:1]", HostPattern::Exact("[2001:db8::1]".into())),
        ("*.Example.com", HostPattern::Subdomains("example.com".into())),
        ("*", HostPattern::Any),
    ] {
        assert_eq!(HostPattern::parse(text).unwrap(), host, "{text}");
    }
}

#[test]
fn invalid_hosts_get_a_suggestion() {
    for (text, expected) in [
        ("", "the host is empty"),
        ("a..b", "\"a..b\" is neither a host name nor an IP address"),
        ("[a.b]", "only an IPv6 address is written in brackets (write \"a.b\")"),
        (" a.b", "\" a.b\" contains a space (write \"a.b\")"),
        (
            "a.b c.d",
            "a route takes exactly one host (write one [[route]] for each, or \"*.example.com\" for every subdomain)",
        ),
        (
            "192.0.2.01",
            "\"192.0.2.01\" has a number with a leading zero (write \"192.0.2.1\" if that is meant)",
        ),
        ("192.0.2.256", "\"192.0.2.256\" is not an IPv4 address"),
        (
            "a.b:443",
            "a route's host must not contain a port: it matches every port (write \"a.b\")",
        ),
        (
            "[::1]:443",
            "a route's host must not contain a port: it matches every port (write \"[::1]\")",
        ),
        ("https://a.b:1/c", "a host must not contain a scheme (write \"a.b\")"),
        ("a.b/c", "a host must not contain a path (write host = \"a.b\" and path = \"/c\")"),
        (
            "~^(.+)\\.example\\.com$",
            "there are no regular expressions in a route's host (write one [[route]] for each, or \"*.example.com\" for every subdomain)",
        ),
        (
            ".example.com",
            "\".example.com\" starts with a dot (write \"*.example.com\" for every subdomain, and one more [[route]] for \"example.com\" itself)",
        ),
        (
            "_default",
            "\"_default\" cannot be a host: no client sends it (write \"*\" for any host that no other route matches)",
        ),
        (
            "_",
            "\"_\" cannot be a host: no client sends it (write \"*\" for any host that no other route matches)",
        ),
        ("*.192.0.2.1", "an IP address has no subdomains (write the address without \"*.\")"),
        (
            "bücher.example",
            "\"bücher.example\" is not ASCII (write the name in punycode, as in \
          \"xn--bcher-kva.example\")",
        ),
    ] {
        assert_eq!(HostPattern::parse(text).unwrap_err().to_string(), expected);
    }
    for text in ["a.*", "chat*.example.com", "*example.com", "*.*.a", "[127.0.0.1", "**"] {
        assert!(HostPattern::parse(text).is_err(), "{text}");
    }
    assert!(HostPattern::parse(&format!("{}.example", "a".repeat(64))).is_err());
    assert!(HostPattern::parse(&"a.".repeat(128)).is_err());
}

#[test]
fn paths_are_normalised() {
    for (text, path) in [("/", "/"), ("/ws", "/ws"), ("/ws/", "/ws"), ("/a%20b/c", "/a%20b/c")] {
        assert_eq!(PathPrefix::parse(text).unwrap().as_str(), path);
    }
    for (text, expected) in [
        ("", "\"\" does not start with / (write \"/\")"),
        ("ws", "\"ws\" does not start with / (write \"/ws\")"),
        ("https://a.b/ws", "\"https://a.b/ws\" does not start with / (write \"/ws\")"),
        (
            "/ws/*",
            "a path has no wildcards: it matches every path that starts with it (write \"/ws\")",
        ),
        ("/*", "a path has no wildcards: it matches every path that starts with it (write \"/\")"),
        (
            "/ws?a=b",
            "\"/ws?a=b\" has a query or a fragment (only the path is matched: remove the part after ? or #)",
        ),
        ("/a//b", "\"/a//b\" has an empty, \".\" or \"..\" segment"),
        ("/a/../b", "\"/a/../b\" has an empty, \".\" or \"..\" segment"),
        (
            "/a b",
            "\"/a b\" contains U+0020, which is not allowed in a request path \
             (write the character percent-encoded: %20)",
        ),
        (
            "/\u{fc}",
            "\"/\u{fc}\" contains U+00FC, which is not allowed in a request path \
             (write the character percent-encoded: %C3%BC)",
        ),
    ] {
        assert_eq!(PathPrefix::parse(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn regular_expressions_are_recognised() {
    for (text, prefix) in [
        ("~ ^/ws", "/ws"),
        ("~* ^/ws/?$", "/ws"),
        ("= /exact", "/exact"),
        ("^~ /x/", "/x"),
        ("^/ws$", "/ws"),
        ("/.*", "/"),
        ("/ws.*", "/ws"),
        ("/ws(/.*)?$", "/ws"),
        ("/api/v[0-9]+", "/api"),
        ("~ \\.php$", "/"),
    ] {
        let expected = format!(
            "there are no regular expressions: a path matches itself and every path below it (write \
             a prefix of whole segments: \"{prefix}\")"
        );
        assert_eq!(PathPrefix::parse(text).unwrap_err().to_string(), expected, "{text}");
        assert!(PathPrefix::parse(prefix).is_ok());
    }
    // Valid characters of a path.
    for text in ["/odata/$metadata", "/a(b)", "/a.b+c", "/$"] {
        assert_eq!(PathPrefix::parse(text).unwrap().as_str(), text);
    }
}

proptest! {
    #[test]
    fn display_and_parse_round_trip(text in "(\\*\\.)?[a-z0-9.:\\[\\]-]{1,16}(:[0-9]{1,5})?") {
        if let Ok(host) = HostPattern::parse(&text) {
            prop_assert_eq!(HostPattern::parse(&host.to_string()).unwrap(), host);
        }
    }

    #[test]
    fn parsing_never_panics(text in "\\PC{0,12}|[/*.:@\\[\\]?#]{0,8}") {
        let _ = (HostPattern::parse(&text), PathPrefix::parse(&text));
    }
}
