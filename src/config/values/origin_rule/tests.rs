use proptest::prelude::*;

use super::*;

fn own() -> Origin {
    Origin::parse("https://chat.example.com").unwrap()
}

#[test]
fn parses_origin_rules() {
    let parent = Origin::parse("https://example.com:8443").unwrap();
    for (text, rule) in [
        ("*", OriginRule::Any),
        ("same-origin", OriginRule::SameOrigin),
        ("null", OriginRule::Null),
        ("missing", OriginRule::Missing),
        ("https://example.com:8443", OriginRule::Exact(parent.clone())),
        ("https://*.example.com:8443", OriginRule::Subdomains(parent)),
        ("moz-extension://*", OriginRule::Scheme("moz-extension".into())),
        ("App://*", OriginRule::Scheme("app".into())),
    ] {
        let parsed = OriginRule::parse(text).unwrap();
        assert_eq!(parsed, rule, "{text}");
        assert_eq!(parsed.to_string(), text.to_lowercase());
    }
}

// Requirements: UH38.
#[test]
fn any_text_of_a_device_can_be_listed() {
    for text in [
        "",
        "file://",
        "file:///android_asset/index.html",
        "app://.",
        "http://192.168.1.9/path",
        "https://a.b/",
        "https://a.b:x",
        "https://u:p@a.b",
        "192.168.1.9:8080",
        "host:port",
        "chat.example.com",
        "arduino",
        "a \"quoted\" \\ text",
        "https://a.b, https://c.d",
    ] {
        let rule = OriginRule::parse(text).unwrap();
        assert_eq!(rule, OriginRule::Text(text.into()));
        assert_eq!(rule.to_string(), text);
        assert!(rule.allows(text, &own()), "{text:?}");
        for other in [format!("{text}x"), format!("x{text}"), format!("{text}/")] {
            assert!(!rule.allows(&other, &own()), "{text:?} {other:?}");
        }
        assert!(text.is_empty() || !rule.allows("", &own()), "{text:?}");
        assert!(!rule.allows("https://a.b", &own()), "{text:?}");
    }
}

// Requirements: UH39.
#[test]
fn scheme_matches_every_origin_with_it() {
    let rule = OriginRule::parse("vscode-webview://*").unwrap();
    for text in ["vscode-webview://0f3k", "VSCode-Webview://a/b", "vscode-webview://"] {
        assert!(rule.allows(text, &own()), "{text}");
    }
    for text in [
        "",
        "vscode-webview",
        "vscode-webview:a",
        "vscode-webviewx://a",
        "https://a/vscode-webview://a",
        " vscode-webview://a",
        "https://vscode-webview",
    ] {
        assert!(!rule.allows(text, &own()), "{text}");
    }
}

// Requirements: UH39.
#[test]
fn schemes_of_web_pages_cannot_be_listed_as_a_whole() {
    for scheme in WEB_SCHEMES.iter().chain(&["HTTPS", "Ipfs"]) {
        let problem = OriginRule::parse(&format!("{scheme}://*")).unwrap_err().to_string();
        assert!(problem.contains("would admit pages of every site"), "{problem}");
    }
    assert_eq!(
        OriginRule::parse("https://*").unwrap_err().to_string(),
        "\"https://*\" would admit pages of every site (list the sites, such as \
         \"https://chat.example.com\" or \"https://*.example.com\";\nif the application checks \
         the Origin itself, write \"*\")"
    );
    assert!(OriginRule::parse("file://*").unwrap_err().to_string().contains("write that"));
}

#[test]
fn invalid_rules_get_a_suggestion() {
    for (text, expected) in [
        (
            "same_origin",
            "\"same_origin\" is not an origin: it has no scheme (did you mean \"same-origin\"?)",
        ),
        ("NULL", "\"NULL\" is not an origin: it has no scheme (did you mean \"null\"?)"),
        (
            "ws://*.a.b:1",
            "\"ws://*.a.b:1\" is not an origin: it is the address of a WebSocket, not that of a page \
             (write \"http://*.a.b:1\")",
        ),
        ("*.a.b", "\"*.a.b\" has no scheme (write \"https://*.a.b\")"),
        (
            "https://*.10.0.0.1",
            "\"https://*.10.0.0.1\" is not an origin: an IP address has no subdomains \
             (write \"https://10.0.0.1\")",
        ),
        (
            "https://*.a.b/",
            "\"https://*.a.b/\" is not an origin: it ends with a path, which may be just a slash \
             (write \"https://*.a.b\")",
        ),
        (
            "https://b\u{fc}cher.example",
            "\"https://b\u{fc}cher.example\" is not an origin: the host is not ASCII \
             (write the name in punycode, as browsers send it: \
             \"https://xn--bcher-kva.example\")",
        ),
    ] {
        assert_eq!(OriginRule::parse(text).unwrap_err().to_string(), expected);
    }
    let long = "a".repeat(257);
    for text in [
        "://*",
        "a b://*",
        "https://a*.b",
        "https://a.*",
        "https://*.*.b",
        "http*://a.b",
        "**",
        " ",
        "a\tb",
        "a ",
        &long,
    ] {
        assert!(OriginRule::parse(text).is_err(), "{text}");
    }
}

#[test]
fn probable_mistakes_are_warned_about() {
    for (text, page) in [
        ("https://a.b/", "https://a.b"),
        ("http://192.168.1.9/path", "http://192.168.1.9"),
        ("chat.example.com", "https://chat.example.com"),
        ("192.168.1.9:8080/x", "https://192.168.1.9:8080"),
        ("wss://a.b:1", "https://a.b:1"),
        ("self", "same-origin"),
        ("'self'", "same-origin"),
        ("any", "*"),
        ("all", "*"),
        ("none", "missing"),
        ("localhost", "http://localhost"),
        ("arduino", "https://arduino"),
    ] {
        let warning = OriginRule::parse(text).unwrap().warning().unwrap();
        assert!(warning.contains(&format!("exactly \"{text}\"")), "{warning}");
        assert!(warning.ends_with(&format!("write \"{page}\"")), "{warning}");
    }
    for text in ["*", "null", "https://a.b", "", "file://", "app://.", "app://*"] {
        assert_eq!(OriginRule::parse(text).unwrap().warning(), None, "{text}");
    }
}

#[test]
fn entries_for_a_rejected_origin_would_admit_it() {
    for (text, entries) in [
        ("https://a.b", Some("\"https://a.b\"")),
        ("", Some("\"\"")),
        ("null", Some("\"null\"")),
        ("file://", Some("\"file://\"")),
        ("moz-extension://0a", Some("\"moz-extension://0a\" or \"moz-extension://*\"")),
        ("a\"\\b", Some("\"a\\\"\\\\b\"")),
        ("https://u:p@a.b", None),
        ("https://a.b?token=x", None),
        ("https://*", None),
        ("app://*", None),
        ("*", None),
    ] {
        assert_eq!(entries_for(text).as_deref(), entries, "{text}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC{0,16}|[a-z:/.*@\\[\\]]{0,16}") {
        if let Ok(rule) = OriginRule::parse(&text) {
            let _ = (rule.warning(), rule.allows(&text, &own()), entries_for(&text));
        }
    }
}
