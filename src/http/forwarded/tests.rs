use proptest::prelude::*;

use super::*;

fn trusted(addr: &ClientAddr) -> bool {
    match addr.ip() {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(v6) => v6.segments()[0] == 0xfd00,
    }
}

fn headers(lines: &[(&HeaderName, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| ((*name).clone(), value.parse().unwrap())).collect()
}

/// The chain as text, and where reading it stopped.
fn read_lines(
    parse: fn(&HeaderMap) -> Forwarded,
    name: &HeaderName,
    lines: &[&str],
) -> (String, ChainEnd) {
    let lines: Vec<_> = lines.iter().map(|line| (name, *line)).collect();
    let forwarded = parse(&headers(&lines));
    let chain: Vec<String> = forwarded.chain.iter().map(ClientAddr::to_string).collect();
    (chain.join(" "), forwarded.chain_end)
}

fn xff(lines: &[&str]) -> (String, ChainEnd) {
    read_lines(|headers| Forwarded::from_x_forwarded(headers, trusted), &X_FORWARDED_FOR, lines)
}

fn rfc7239(lines: &[&str]) -> (String, ChainEnd) {
    read_lines(|headers| Forwarded::from_forwarded(headers, trusted), &FORWARDED, lines)
}

fn x_forwarded(lines: &[(&HeaderName, &str)]) -> Forwarded {
    Forwarded::from_x_forwarded(&headers(lines), trusted)
}

// Requirements: XF02.
#[test]
fn client_is_the_rightmost_untrusted_address() {
    let client = |chain: &str| (chain.to_owned(), ChainEnd::Client);
    assert_eq!(xff(&["6.6.6.6, 203.0.113.7"]), client("203.0.113.7"));
    assert_eq!(xff(&["6.6.6.6, 203.0.113.7, 10.0.0.2"]), client("203.0.113.7 10.0.0.2"));
    assert_eq!(xff(&["!, 203.0.113.7"]), client("203.0.113.7"));
    assert_eq!(xff(&["\"open, 203.0.113.7"]), client("203.0.113.7"));
    assert_eq!(rfc7239(&["for=6.6.6.6, for=203.0.113.7"]), client("203.0.113.7"));
    assert_eq!(rfc7239(&["for=\"open, for=203.0.113.7;by=x"]), client("203.0.113.7"));
}

// Requirements: XF03.
#[test]
fn at_most_sixteen_addresses_are_read() {
    let client = |chain: &str| (chain.to_owned(), ChainEnd::Client);
    assert_eq!(xff(&["6.6.6.6", "203.0.113.7,", " ,10.0.0.2 ,,"]), client("203.0.113.7 10.0.0.2"));
    let proxies = |n| vec!["10.0.0.1"; n].join(", ");
    let far = xff(&[&format!("203.0.113.7, {}", proxies(15))]);
    assert_eq!((far.0.split(' ').count(), far.1), (16, ChainEnd::Client));
    let too_far = xff(&[&format!("203.0.113.7, {}", proxies(16))]);
    assert_eq!((too_far.0.split(' ').count(), too_far.1), (16, ChainEnd::AllTrusted));
    assert_eq!(xff(&[&proxies(1000)]).1, ChainEnd::AllTrusted);
    assert_eq!(xff(&[]), (String::new(), ChainEnd::Absent));
    assert_eq!(xff(&["", " , ,"]), (String::new(), ChainEnd::Absent));
}

// Requirements: XF04.
#[test]
fn addresses_are_parsed_strictly() {
    for (text, read) in [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7:4711"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "[2001:db8::7]:4711"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
    ] {
        assert_eq!(xff(&[text]), (read.to_owned(), ChainEnd::Client), "{text}");
    }
    for text in [
        "unknown",
        "_hidden",
        "example.com",
        "localhost",
        "203.0.113",
        "0203.0.113.7",
        "203.0.113.07",
        "0xcb.0.113.7",
        "3405803783",
        "203.0.113.7.",
        "203.0.113.7:",
        "203.0.113.7:65536",
        "203.0.113.7:+1",
        "203.0.113.780",
        "203.0.113.7:x",
        "203.0.113.7 10.0.0.1",
        "203.0.113.7;10.0.0.1",
        "\"203.0.113.7\"",
        "[203.0.113.7]",
        "[2001:db8::7",
        "2001:db8::7]",
        "[2001:db8::7]4711",
        "[2001:db8::7]:",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "2001:db8:::7",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "for=203.0.113.7",
        "-",
        "*",
    ] {
        assert_eq!(xff(&[text]), (String::new(), ChainEnd::Invalid), "{text}");
        let not_first = xff(&[&format!("203.0.113.7, {text}, 10.0.0.2")]);
        assert_eq!(not_first, ("10.0.0.2".to_owned(), ChainEnd::Invalid), "{text}");
    }
}

// Requirements: XF04.
#[test]
fn forwarded_elements_are_parsed_strictly() {
    for (text, read) in [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=\"203.0.113.7:4711\";Proto=https;BY=_x;host=a", "203.0.113.7:4711"),
        ("proto=http; for=\"[2001:db8::7]:4711\" ;", "[2001:db8::7]:4711"),
        ("for=\"[2001:db8::7]\"", "2001:db8::7"),
        ("for=\"203.0.113.7:_p.1\"", "203.0.113.7"),
        ("secret=\"a b\";for=203.0.113.7", "203.0.113.7"),
    ] {
        assert_eq!(rfc7239(&[text]), (read.to_owned(), ChainEnd::Client), "{text}");
    }
    for text in [
        "for=unknown",
        "for=_hidden",
        "for=\"_hidden:1\"",
        "proto=https",
        "for",
        "for=",
        "for=203.0.113.7:4711",
        "for=\"203.0.113.7",
        "for=203.0.113.7\"",
        "for=2001:db8::7",
        "for=\"2001:db8::7\"",
        "for=[2001:db8::7]",
        "for=\"[2001:db8::7]",
        "for = 203.0.113.7",
        "for=203.0.113.7;for=203.0.113.7",
        "for=203.0.113.7;proto=x;proto=https",
        "for=\"203.0.113.\\7\"",
        "203.0.113.7",
        "for=\"203.0.113.7:_\"",
        "for=203.0.113.7;a b=c",
        "for=0.0.0.0",
        "for=\"\"",
        "for=203.0.113.7;=a",
    ] {
        assert_eq!(rfc7239(&[text]), (String::new(), ChainEnd::Invalid), "{text}");
    }
    let many =
        |n| format!("{}for=203.0.113.7", (0..n).map(|i| format!("a{i}=1;")).collect::<String>());
    assert_eq!(rfc7239(&[&many(15)]).1, ChainEnd::Client);
    assert_eq!(rfc7239(&[&many(16)]).1, ChainEnd::Invalid);
}

/// A host chosen by the client and quoted by its proxy must not create another element.
// Requirements: XF02.
#[test]
fn quoted_text_cannot_forge_an_address() {
    for host in ["x, for=6.6.6.6", "x, for=6.6.6.6;a=b", "x, for=6.6.6.6;", "x, for=6.6.6.6, ", ","]
    {
        let line = format!("for=203.0.113.7;host=\"{host}\"");
        assert_eq!(rfc7239(&[&line]), (String::new(), ChainEnd::Invalid), "{line}");
    }
    let escaped = "for=203.0.113.7;host=\"x, for=6.6.6.6;a=\\\"b\"";
    assert_eq!(rfc7239(&[escaped]).1, ChainEnd::Invalid);
}

// Requirements: XF10.
#[test]
fn client_is_leftmost_if_all_are_trusted() {
    assert_eq!(
        xff(&["10.0.0.3, 10.0.0.2"]),
        ("10.0.0.3 10.0.0.2".to_owned(), ChainEnd::AllTrusted)
    );
    assert_eq!(rfc7239(&["for=\"[fd00::1]\""]), ("fd00::1".to_owned(), ChainEnd::AllTrusted));
}

#[test]
fn https_and_wss_are_secure() {
    for (text, secure) in [
        ("https", Some(true)),
        ("HTTPS", Some(true)),
        ("wss", Some(true)),
        ("http", Some(false)),
        ("ws", Some(false)),
        ("https, http", Some(true)),
        (" ,http,https", Some(false)),
        ("ftp, https", None),
        ("", None),
    ] {
        assert_eq!(x_forwarded(&[(&X_FORWARDED_PROTO, text)]).secure, secure, "{text}");
    }
    let twice = x_forwarded(&[(&X_FORWARDED_PROTO, "https"), (&X_FORWARDED_PROTO, "http")]);
    assert_eq!((twice.secure, twice.invalid), (Some(true), Vec::new()));
}

#[test]
fn invalid_host_port_or_request_id_is_ignored() {
    let good = x_forwarded(&[
        (&X_FORWARDED_HOST, "Chat.Example:8443"),
        (&X_FORWARDED_PORT, "8443"),
        (&X_REQUEST_ID, "a-1/2"),
    ]);
    assert_eq!(good.host.as_deref(), Some("Chat.Example:8443"));
    assert_eq!((good.port, good.request_id.as_deref()), (Some(8443), Some("a-1/2")));
    for (name, text) in [
        (&X_FORWARDED_PROTO, "on"),
        (&X_FORWARDED_HOST, "a b"),
        (&X_FORWARDED_PORT, "0"),
        (&X_FORWARDED_PORT, "65536"),
        (&X_REQUEST_ID, "a b"),
        (&X_REQUEST_ID, &"a".repeat(129)),
    ] {
        let read = x_forwarded(&[(name, text)]);
        let [invalid] = &read.invalid[..] else { panic!("{name}: {text}: {read:?}") };
        assert_eq!(invalid.name, name.as_str());
        assert_eq!(*invalid.value, text[..text.len().min(64)]);
        assert!(invalid.to_string().starts_with(&format!("{name}: ")), "{invalid}");
        let rest = Forwarded { invalid: read.invalid.clone(), ..Forwarded::default() };
        assert_eq!(read, rest, "{name}: {text}");
    }
    for name in [&X_FORWARDED_PROTO, &X_FORWARDED_HOST, &X_FORWARDED_PORT, &X_REQUEST_ID] {
        assert_eq!(x_forwarded(&[(name, "")]), Forwarded::default(), "{name}");
    }
    assert!(x_forwarded(&[(&X_REQUEST_ID, &"a".repeat(128))]).request_id.is_some());
    let different = x_forwarded(&[(&X_REQUEST_ID, "a"), (&X_REQUEST_ID, "b")]);
    assert_eq!((different.request_id, different.invalid.len()), (None, 1));
}

#[test]
fn leftmost_host_and_port_count() {
    let read = x_forwarded(&[
        (&X_FORWARDED_HOST, ", a.example , b"),
        (&X_FORWARDED_HOST, "c"),
        (&X_FORWARDED_PORT, "8443, 443"),
    ]);
    assert_eq!((read.host.as_deref(), read.port), (Some("a.example"), Some(8443)));
    assert_eq!(read.invalid, []);
}

#[test]
fn port_that_contradicts_the_scheme_is_ignored() {
    for (proto, port, expected) in [
        ("https", "80", None),
        ("http", "443", None),
        ("https", "443", Some(443)),
        ("http", "80", Some(80)),
        ("https", "8080", Some(8080)),
    ] {
        let read = x_forwarded(&[(&X_FORWARDED_PROTO, proto), (&X_FORWARDED_PORT, port)]);
        assert_eq!(read.port, expected, "{proto} {port}");
        assert_eq!(read.invalid.len(), usize::from(expected.is_none()), "{read:?}");
    }
    assert_eq!(x_forwarded(&[(&X_FORWARDED_PORT, "80")]).port, Some(80));
}

#[test]
fn invalid_parameters_of_an_element_are_named() {
    for (element, reason) in [
        ("for=203.0.113.7;proto=on", "forwarded: proto is neither http nor https"),
        ("for=203.0.113.7;host=\"a b\"", "forwarded: host is not a host name or address"),
        ("for=unknown", "forwarded: an element is malformed or its `for` is not an address"),
    ] {
        let read = Forwarded::from_forwarded(&headers(&[(&FORWARDED, element)]), trusted);
        let named: Vec<String> = read.invalid.iter().map(ToString::to_string).collect();
        assert_eq!(named, [reason]);
    }
}

#[test]
fn scheme_and_host_come_from_the_first_proxy() {
    let line = "for=6.6.6.6;proto=https;host=evil, for=203.0.113.7;proto=https;host=\"a:1\", \
                for=10.0.0.2;proto=http;host=b";
    let read = |line: &str| Forwarded::from_forwarded(&headers(&[(&FORWARDED, line)]), trusted);
    let first = read(line);
    assert_eq!((first.secure, first.host.as_deref()), (Some(true), Some("a:1")));
    let hidden = read("for=_gone;proto=https;host=a, for=10.0.0.2;proto=http;host=b");
    assert_eq!((hidden.secure, hidden.host.as_deref()), (Some(true), Some("a")));
    assert_eq!((hidden.chain_end, hidden.chain.len()), (ChainEnd::Invalid, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Neither the split into lines nor text left of the client affects the result.
    #[test]
    fn text_left_of_the_client_is_ignored(
        junk in "[ -~]{0,60}",
        proxies in prop::collection::vec(0..=255u8, 0..15),
        breaks in any::<u16>(),
    ) {
        let mut lines = vec![format!("{junk}, 203.0.113.7")];
        for (place, last) in proxies.iter().enumerate() {
            let hop = format!("10.0.0.{last}");
            match lines.last_mut() {
                Some(line) if breaks & (1 << place) == 0 => *line = format!("{line},{hop}"),
                _ => lines.push(hop),
            }
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (chain, end) = xff(&lines);
        prop_assert_eq!(end, ChainEnd::Client);
        prop_assert!(chain.starts_with("203.0.113.7"));
        prop_assert_eq!(chain.split(' ').count(), 1 + proxies.len());
    }
}
