//! What listeners and routes do with HTTP requests before a backend is involved.

use super::*;
use crate::config::settings::HttpsRedirect;

/// A listener for plain HTTP with these keys.
fn plain_listener(keys: &str) -> String {
    format!("{PLAIN}[[listener]]\naddress = \"0.0.0.0:80\"\ntls = false\n{keys}\n")
}

#[test]
fn redirects_except_challenges_of_authorities() {
    let listener = |keys: &str| parse(&plain_listener(keys)).listeners[1].clone();
    let paths = |keys: &str| {
        let except = listener(keys).redirect_except;
        except.iter().map(|path| path.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listener("").redirect, None);
    assert_eq!(listener("redirect = \"https\"").redirect, Some(HttpsRedirect::Permanent));
    assert_eq!(listener("redirect = \"https-301\"").redirect, Some(HttpsRedirect::Moved));
    assert_eq!(paths("redirect = \"https\""), ["/.well-known/acme-challenge"]);
    assert_eq!(paths("redirect_except = [\"/health/\"]"), ["/health"]);
    assert_eq!(paths("redirect_except = []"), [""; 0]);
}

#[test]
fn only_plain_listeners_redirect() {
    for (value, word) in [("true", "https"), ("false", "off")] {
        assert_eq!(
            errors(&plain_listener(&format!("redirect = {value}"))),
            [format!(
                "listener[1].redirect: expected \"off\", \"https\" or \"https-301\", found {value} \
                 (write \"{word}\")"
            )]
        );
    }
    let tls = PLAIN.replace("\n\n[[certificate]]", "\nredirect = \"https\"\n[[certificate]]");
    assert_eq!(
        errors(&tls),
        ["listener[0].redirect: this listener uses TLS, so there is nothing to redirect \
          (write it in the listener for plain HTTP, which has tls = false)"]
    );
}

#[test]
fn port_80_without_a_redirect_is_a_warning() {
    let keys = |text: &str| {
        let warnings = parse(text).redirect_warnings().into_iter();
        warnings.map(|warning| warning.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(&plain_listener("")), ["listener[1].address"]);
    assert_eq!(keys(&plain_listener("redirect = \"https\"")), [""; 0]);
    assert_eq!(keys(&plain_listener("redirect = \"off\"")), [""; 0]);
    assert_eq!(keys(&plain_listener("").replace("0.0.0.0:80", "0.0.0.0:8080")), [""; 0]);
    assert_eq!(keys(&PLAIN.replace("0.0.0.0:443", "0.0.0.0:80")), [""; 0]);
}

#[test]
fn redirect_without_tls_is_a_warning() {
    let keys = |text: &str| {
        let warnings = parse(text).redirect_warnings().into_iter();
        warnings.map(|warning| warning.key).collect::<Vec<_>>()
    };
    let only = PLAIN.replace("0.0.0.0:443\"", "0.0.0.0:80\"\ntls = false\nredirect = \"https\"");
    assert_eq!(keys(&only), ["listener[0].redirect"]);
    assert_eq!(keys(&format!("{only}[[listener]]\naddress = \"0.0.0.0:443\"\n")), [""; 0]);
    assert_eq!(keys(&format!("{only}[trusted_proxies]\naddresses = [\"10.0.0.1\"]\n")), [""; 0]);
}

#[test]
fn hsts_is_a_time_of_days_or_years() {
    let age = |value: &str| {
        let settings = parse(&format!("{PLAIN}hsts = \"{value}\"\n"));
        settings.routes[0].hsts.map(|age| age.as_secs())
    };
    assert_eq!(parse(PLAIN).routes[0].hsts, None);
    for (value, seconds) in [
        ("1y", Some(31_536_000)),
        ("2y", Some(63_072_000)),
        ("180d", Some(15_552_000)),
        ("300s", Some(300)),
        ("0s", Some(0)),
        ("off", None),
    ] {
        assert_eq!(age(value), seconds, "{value}");
    }
    for (value, expected) in [
        ("31536000", "31536000 has no unit (write \"31536000s\" if you mean seconds)"),
        ("true", "expected a duration, found true (write one such as \"1y\")"),
        ("\"11y\"", "\"11y\" is longer than ten years (the maximum is \"10y\")"),
        ("\"1w\"", "\"w\" is not a unit of time (the units are s, m, h, d and y, as in \"1y\")"),
        (
            "\"max-age=300; includeSubDomains\"",
            "\"max-age=300; includeSubDomains\" is not a duration (write only the time, as in \
             \"1y\"; for includeSubDomains or preload, set the whole field in \
             [route.response_headers] instead)",
        ),
    ] {
        assert_eq!(
            errors_below(&format!("hsts = {value}")),
            [format!("route[0].hsts: {expected}")]
        );
    }
}

#[test]
fn hsts_is_set_in_one_place() {
    for rules in [
        "set = [\"Strict-Transport-Security: max-age=1\"]",
        "remove = [\"Strict-Transport-Security\"]",
    ] {
        let lines = |hsts: &str| format!("hsts = \"{hsts}\"\n[route.response_headers]\n{rules}");
        assert_eq!(
            errors_below(&lines("1y")),
            ["route[0].hsts: response_headers of this route changes the same field \
              (remove hsts, or strict-transport-security from response_headers)"]
        );
        parse(&format!("{PLAIN}{}\n", lines("off")));
    }
}

#[test]
fn address_lists_take_networks_and_addresses() {
    let keys = "allow = [\"10.0.0.0/8\", \"::/0\"]\ndeny = [\"10.0.0.7\", \"0.0.0.0/0\"]";
    let settings = parse(&format!("{PLAIN}{keys}\n"));
    let shown = |networks: &[ipnet::IpNet]| {
        networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let rules = &settings.routes[0].addresses;
    assert_eq!(shown(&rules.allow), "10.0.0.0/8 ::/0");
    assert_eq!(shown(&rules.deny), "10.0.0.7/32 0.0.0.0/0");
    assert_eq!(parse(PLAIN).routes[0].addresses, parse(PLAIN).listeners[0].addresses);
    let listener = parse(&plain_listener(keys)).listeners[1].clone();
    assert_eq!(listener.addresses, *rules);
}

#[test]
fn mistakes_in_address_lists_are_explained() {
    let all = "remove it: an address in neither list is rejected if there is an allow list, and else admitted";
    for (entry, expected) in [
        ("all", format!("\"all\" is not an IP address ({all})")),
        ("0.0.0.0", format!("0.0.0.0 cannot be the address of a client ({all})")),
        (
            "::ffff:10.0.0.7",
            "\"::ffff:10.0.0.7\" is an IPv4-mapped IPv6 address (write \"10.0.0.7\")".to_owned(),
        ),
        (
            "10.0.0.7/8",
            "\"10.0.0.7/8\" has bits set after the first 8 \
             (write \"10.0.0.0/8\" for the network, or \"10.0.0.7\" for this address)"
                .to_owned(),
        ),
    ] {
        let expected = format!("route[0].deny[0]: {expected}");
        assert_eq!(errors_below(&format!("deny = [\"{entry}\"]")), [expected]);
    }
    assert_eq!(
        errors_below("deny = \"all\"\nallow = \"10.0.0.1\""),
        [
            &format!("route[0].deny: expected a list, found \"all\" ({all})"),
            "route[0].allow: expected a list, found \"10.0.0.1\" (write [\"10.0.0.1\"])",
        ]
    );
    assert_eq!(
        errors(&plain_listener("allow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.7\", \"10.0.0.0/8\"]")),
        ["listener[1].deny[1]: 10.0.0.0/8 is allowed by listener[1].allow[0] \
          (remove it from one of the two lists)"]
    );
}

#[test]
fn via_is_off_or_a_token() {
    let via = |lines: &str| parse(&format!("{PLAIN}{lines}\n")).routes[0].via.clone();
    assert_eq!((via(""), via("via = \"off\"")), (None, None));
    assert_eq!(via("via = \"edge-1.example\"").as_deref(), Some("edge-1.example"));
    for name in ["a b", "", "caf\u{e9}", "1.1\\tx"] {
        let errors = errors_below(&format!("via = \"{name}\""));
        assert!(errors.len() == 1 && errors[0].contains("cannot be a name in Via"), "{errors:?}");
    }
}

#[test]
fn error_pages_are_files_near_the_configuration() {
    let pages = |lines: &str| {
        let text = format!("{PLAIN}[error_pages]\n{lines}\n");
        let settings = Settings::parse(&text, "/etc/tidegate/proxy.toml").unwrap();
        settings.error_pages.map(|file| file.map(|file| file.display().to_string()))
    };
    assert_eq!(pages(""), [const { None }; 6]);
    let [forbidden, .., unavailable, late] =
        pages("403 = \"off\"\n503 = \"503.html\"\n504 = \"/srv/x\"");
    assert_eq!(forbidden, None);
    assert_eq!(unavailable.as_deref(), Some("/etc/tidegate/503.html"));
    assert_eq!(late.as_deref(), Some("/srv/x"));
    for (value, expected) in [
        ("\"none\"", "expected a path, found \"none\" (write \"off\" for none)"),
        ("false", "expected a path, found false (write \"off\" for none)"),
        ("\"pages/\"", "\"pages/\" is a directory (name the file in it)"),
    ] {
        assert_eq!(
            errors_below(&format!("[error_pages]\n503 = {value}")),
            [format!("error_pages.503: {expected}")]
        );
    }
}

#[test]
fn maintenance_file_is_near_the_configuration() {
    let file = |lines: &str| {
        let text = format!("{PLAIN}{lines}\n");
        let settings = Settings::parse(&text, "/etc/tidegate/proxy.toml").unwrap();
        settings.routes[0].maintenance_file.as_ref().map(|file| file.display().to_string())
    };
    assert_eq!((file(""), file("maintenance_file = \"off\"")), (None, None));
    let relative = file("maintenance_file = \"maintenance\"");
    assert_eq!(relative.as_deref(), Some("/etc/tidegate/maintenance"));
    assert_eq!(file("maintenance_file = \"/run/m\"").as_deref(), Some("/run/m"));
}

#[test]
fn paths_of_one_host_differ_in_more_than_ignored_case() {
    let ignoring = "host = \"chat.example.com\"\npath = \"/Ws\"\ncase_sensitive = false";
    let with_path = PLAIN.replace("host", "path = \"/ws\"\nhost");
    let both = |second: &str| {
        format!("{with_path}[[route]]\norigins = [\"*\"]\nbackends = [\"b:1\"]\n{second}\n")
    };
    assert_eq!(
        errors(&both(ignoring)),
        [
            "route[1].path: host \"chat.example.com\" and path \"/Ws\" are already served by route[0] \
          (give one of them another path, or list all backends in one)"
        ]
    );
    parse(&both(&ignoring.replace("false", "true")));
}

#[test]
fn http2_is_a_choice_of_each_listener() {
    let http2 =
        |keys: &str| parse(&PLAIN.replace("443\"", &format!("443\"\n{keys}"))).listeners[0].http2;
    assert!(http2(""));
    assert!(!http2("http2 = false"));
    assert!(!http2("tls = false"));
    assert!(http2("tls = false\nhttp2 = true"));
}
