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
fn rejects_invalid_origins() {
    use OriginError::*;

    for (text, error) in [
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
        assert_eq!(Origin::parse(text), Err(error), "{text}");
    }
}

proptest! {
    #[test]
    fn display_and_parse_round_trip(text in "(https?|app)://[a-zA-Z0-9.\\[\\]:-]{1,16}(:[0-9]{1,5})?") {
        if let Ok(origin) = Origin::parse(&text) {
            prop_assert_eq!(Origin::parse(&origin.to_string()), Ok(origin));
        }
    }

    #[test]
    fn parsing_never_panics(text in "\\PC{0,16}|[a-z:/.*@\\[\\]]{0,16}") {
        let _ = Origin::parse(&text);
    }
}
