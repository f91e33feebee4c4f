use proptest::prelude::*;

use super::*;

#[test]
fn origins_are_normalised() {
    for (text, scheme, host, port) in [
        ("https://chat.example.com", "https", "chat.example.com", Some(443)),
        ("HTTPS://Chat.Example.COM:443", "https", "chat.example.com", Some(443)),
        ("http://localhost:3000", "http", "localhost", Some(3000)),
        ("http://127.0.0.1", "http", "127.0.0.1", Some(80)),
        ("https://[2001:DB8::0:1]:8443", "https", "[2001:db8::1]", Some(8443)),
        ("chrome-extension://abcdef", "chrome-extension", "abcdef", None),
        ("capacitor://localhost", "capacitor", "localhost", None),
        ("https://xn--bcher-kva.example", "https", "xn--bcher-kva.example", Some(443)),
    ] {
        let expected = Origin { scheme: scheme.into(), host: host.into(), port };
        assert_eq!(Origin::parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_origin_has_a_name() {
    use OriginError::*;

    for (text, fault) in [
        ("", NoScheme),
        ("chat.example.com", NoScheme),
        ("null", NoScheme),
        ("://a.b", BadScheme),
        ("1ttp://a.b", BadScheme),
        ("ht tp://a.b", BadScheme),
        ("https://a.b/", Path),
        ("https://a.b/c", Path),
        ("https://a.b?c", Path),
        ("https://a.b#c", Path),
        ("https://a.b\\c", Path),
        ("https://user@a.b", User),
        ("https://user:word@a.b", User),
        ("https://", NoHost),
        ("https://:443", NoHost),
        ("https://bücher.example", NotAscii),
        ("https://a b", BadHost),
        ("https://a.b https://c.d", Path),
        ("https://.a.b", BadHost),
        ("https://a..b", BadHost),
        ("https://[::1", BadHost),
        ("https://[::1]x", BadHost),
        ("https://[::g]", BadHost),
        ("https://::1", BadHost),
        ("https://*.a.b", BadHost),
        ("https://a.b:", BadPort),
        ("https://a.b:0", BadPort),
        ("https://a.b:+1", BadPort),
        ("https://a.b:65536", BadPort),
        ("https://a.b:x", BadPort),
        ("https://a.b\0", BadHost),
    ] {
        assert_eq!(Origin::parse(text), Err(fault), "{text}");
    }
}

#[test]
fn rules_are_words_origins_or_all_below_one() {
    let parent = Origin::parse("https://example.com:8443").unwrap();
    for (text, rule) in [
        ("*", OriginRule::Any),
        ("same-origin", OriginRule::SameOrigin),
        ("null", OriginRule::Null),
        ("missing", OriginRule::Missing),
        ("https://example.com:8443", OriginRule::Exact(parent.clone())),
        ("https://*.example.com:8443", OriginRule::Subdomains(parent)),
    ] {
        assert_eq!(OriginRule::parse(text).unwrap(), rule, "{text}");
    }
}

#[test]
fn other_rules_are_refused_with_what_may_be_meant() {
    for (text, expected) in [
        (
            "chat.example.com",
            "an origin begins with its scheme (write \"https://chat.example.com\")",
        ),
        ("same_origin", "an origin begins with its scheme (did you mean \"same-origin\"?)"),
        ("NULL", "an origin begins with its scheme (did you mean \"null\"?)"),
        (
            "https://a.b/",
            "an origin has no path, not even a slash at its end (write \"https://a.b\")",
        ),
        ("https://u:p@a.b", "an origin has no user name (write \"https://a.b\")"),
        ("https://a.b:x", "that is no port (ports are 1 to 65535)"),
        ("file://", "the host is missing (pages that are local files send \"null\")"),
        (
            "wss://a.b",
            "an origin names the page, not the WebSocket it opens (write \"https://a.b\")",
        ),
        (
            "ws://*.a.b:1",
            "an origin names the page, not the WebSocket it opens (write \"http://*.a.b:1\")",
        ),
        ("*.a.b", "\"*.a.b\" has a * in a place where it means nothing (write \"https://*.a.b\")"),
        ("https://*.10.0.0.1", "an IP address has no names below it (write \"https://10.0.0.1\")"),
        (
            "https://*.a.b/",
            "an origin has no path, not even a slash at its end (write \"https://*.a.b\")",
        ),
    ] {
        assert_eq!(OriginRule::parse(text).unwrap_err().to_string(), expected);
    }
    for text in ["https://*", "https://a*.b", "https://a.*", "https://*.*.b", "http*://a.b", "**"] {
        assert!(OriginRule::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_shown_reads_as_what_it_was(text in "(https?|app)://[a-zA-Z0-9.\\[\\]:-]{1,16}(:[0-9]{1,5})?") {
        if let Ok(origin) = Origin::parse(&text) {
            prop_assert_eq!(Origin::parse(&origin.to_string()), Ok(origin));
        }
    }

    #[test]
    fn no_text_ends_the_program(text in "\\PC{0,16}|[a-z:/.*@\\[\\]]{0,16}") {
        let _ = (Origin::parse(&text), OriginRule::parse(&text));
    }
}
