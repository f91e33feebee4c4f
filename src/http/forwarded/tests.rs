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

/// The chain as text, and how the walk ended.
fn walked(
    by: fn(&HeaderMap) -> Forwarded,
    name: &HeaderName,
    lines: &[&str],
) -> (String, ForwardedChain) {
    let lines: Vec<_> = lines.iter().map(|line| (name, *line)).collect();
    let said = by(&headers(&lines));
    let chain: Vec<String> = said.chain.iter().map(ClientAddr::to_string).collect();
    (chain.join(" "), said.walk)
}

fn xff(lines: &[&str]) -> (String, ForwardedChain) {
    walked(|headers| Forwarded::by_x_forwarded(headers, trusted), &X_FORWARDED_FOR, lines)
}

fn rfc(lines: &[&str]) -> (String, ForwardedChain) {
    walked(|headers| Forwarded::by_forwarded(headers, trusted), &FORWARDED, lines)
}

fn said(lines: &[(&HeaderName, &str)]) -> Forwarded {
    Forwarded::by_x_forwarded(&headers(lines), trusted)
}

// Requirements: XF02.
#[test]
fn client_is_the_rightmost_untrusted_address() {
    let client = |chain: &str| (chain.to_owned(), ForwardedChain::Client);
    assert_eq!(xff(&["6.6.6.6, 203.0.113.7"]), client("203.0.113.7"));
    assert_eq!(xff(&["6.6.6.6, 203.0.113.7, 10.0.0.2"]), client("203.0.113.7 10.0.0.2"));
    assert_eq!(xff(&["!, 203.0.113.7"]), client("203.0.113.7"));
    assert_eq!(xff(&["\"open, 203.0.113.7"]), client("203.0.113.7"));
    assert_eq!(rfc(&["for=6.6.6.6, for=203.0.113.7"]), client("203.0.113.7"));
    assert_eq!(rfc(&["for=\"open, for=203.0.113.7;by=x"]), client("203.0.113.7"));
}

// Requirements: XF03.
#[test]
fn reads_the_last_sixteen_addresses_across_lines() {
    let client = |chain: &str| (chain.to_owned(), ForwardedChain::Client);
    assert_eq!(xff(&["6.6.6.6", "203.0.113.7,", " ,10.0.0.2 ,,"]), client("203.0.113.7 10.0.0.2"));
    let proxies = |n| vec!["10.0.0.1"; n].join(", ");
    let far = xff(&[&format!("203.0.113.7, {}", proxies(15))]);
    assert_eq!((far.0.split(' ').count(), far.1), (16, ForwardedChain::Client));
    let too_far = xff(&[&format!("203.0.113.7, {}", proxies(16))]);
    assert_eq!((too_far.0.split(' ').count(), too_far.1), (16, ForwardedChain::AllTrusted));
    assert_eq!(xff(&[&proxies(1000)]).1, ForwardedChain::AllTrusted);
    assert_eq!(xff(&[]), (String::new(), ForwardedChain::Absent));
    assert_eq!(xff(&["", " , ,"]), (String::new(), ForwardedChain::Absent));
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
        assert_eq!(xff(&[text]), (read.to_owned(), ForwardedChain::Client), "{text}");
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
        assert_eq!(xff(&[text]), (String::new(), ForwardedChain::Bad), "{text}");
        let behind = xff(&[&format!("203.0.113.7, {text}, 10.0.0.2")]);
        assert_eq!(behind, ("10.0.0.2".to_owned(), ForwardedChain::Bad), "{text}");
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
        assert_eq!(rfc(&[text]), (read.to_owned(), ForwardedChain::Client), "{text}");
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
        assert_eq!(rfc(&[text]), (String::new(), ForwardedChain::Bad), "{text}");
    }
    let many =
        |n| format!("{}for=203.0.113.7", (0..n).map(|i| format!("a{i}=1;")).collect::<String>());
    assert_eq!(rfc(&[&many(15)]).1, ForwardedChain::Client);
    assert_eq!(rfc(&[&many(16)]).1, ForwardedChain::Bad);
}

/// A host that the client chose, quoted by its proxy, forges no element.
// Requirements: XF02.
#[test]
fn quoted_text_cannot_forge_an_address() {
    for host in ["x, for=6.6.6.6", "x, for=6.6.6.6;a=b", "x, for=6.6.6.6;", "x, for=6.6.6.6, ", ","]
    {
        let line = format!("for=203.0.113.7;host=\"{host}\"");
        assert_eq!(rfc(&[&line]), (String::new(), ForwardedChain::Bad), "{line}");
    }
    let escaped = "for=203.0.113.7;host=\"x, for=6.6.6.6;a=\\\"b\"";
    assert_eq!(rfc(&[escaped]).1, ForwardedChain::Bad);
}

// Requirements: XF10.
#[test]
fn client_is_leftmost_if_all_are_trusted() {
    assert_eq!(
        xff(&["10.0.0.3, 10.0.0.2"]),
        ("10.0.0.3 10.0.0.2".to_owned(), ForwardedChain::AllTrusted)
    );
    assert_eq!(rfc(&["for=\"[fd00::1]\""]), ("fd00::1".to_owned(), ForwardedChain::AllTrusted));
}

#[test]
fn the_scheme_is_read() {
    for (text, secure) in [
        ("https", Some(true)),
        ("HTTPS", Some(true)),
        ("wss", Some(true)),
        ("http", Some(false)),
        ("ws", Some(false)),
        ("https, http", None),
        ("ftp", None),
        ("", None),
    ] {
        assert_eq!(said(&[(&X_FORWARDED_PROTO, text)]).secure, secure, "{text}");
    }
    let twice = said(&[(&X_FORWARDED_PROTO, "https"), (&X_FORWARDED_PROTO, "https")]);
    assert_eq!(twice.secure, None);
}

#[test]
fn host_port_and_id_are_taken_over_if_well_formed() {
    let good = said(&[
        (&X_FORWARDED_HOST, "Chat.Example:8443"),
        (&X_FORWARDED_PORT, "8443"),
        (&X_REQUEST_ID, "a-1/2"),
    ]);
    assert_eq!(good.host.as_deref(), Some("Chat.Example:8443"));
    assert_eq!((good.port, good.request_id.as_deref()), (Some(8443), Some("a-1/2")));
    for (name, text) in [
        (&X_FORWARDED_HOST, "a b"),
        (&X_FORWARDED_HOST, "a, b"),
        (&X_FORWARDED_HOST, ""),
        (&X_FORWARDED_PORT, "0"),
        (&X_FORWARDED_PORT, "65536"),
        (&X_FORWARDED_PORT, "443, 443"),
        (&X_FORWARDED_PORT, ""),
        (&X_REQUEST_ID, ""),
        (&X_REQUEST_ID, "a b"),
        (&X_REQUEST_ID, &"a".repeat(129)),
    ] {
        assert_eq!(said(&[(name, text)]), Forwarded::default(), "{name}: {text}");
    }
    assert!(said(&[(&X_REQUEST_ID, &"a".repeat(128))]).request_id.is_some());
    assert_eq!(said(&[(&X_REQUEST_ID, "a"), (&X_REQUEST_ID, "b")]).request_id, None);
}

#[test]
fn what_the_proxy_next_to_the_client_wrote_of_it_counts() {
    let line = "for=6.6.6.6;proto=https;host=evil, for=203.0.113.7;proto=https;host=\"a:1\", \
                for=10.0.0.2;proto=http;host=b";
    let by = |line: &str| Forwarded::by_forwarded(&headers(&[(&FORWARDED, line)]), trusted);
    let said = by(line);
    assert_eq!((said.secure, said.host.as_deref()), (Some(true), Some("a:1")));
    let hidden = by("for=_gone;proto=https;host=a, for=10.0.0.2;proto=http;host=b");
    assert_eq!((hidden.secure, hidden.host.as_deref()), (Some(true), Some("a")));
    assert_eq!((hidden.walk, hidden.chain.len()), (ForwardedChain::Bad, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// However a proxy spreads its list over lines, and whatever stands left of it.
    #[test]
    fn the_walk_sees_the_right_end_only(
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
        let (chain, walk) = xff(&lines);
        prop_assert_eq!(walk, ForwardedChain::Client);
        prop_assert!(chain.starts_with("203.0.113.7"));
        prop_assert_eq!(chain.split(' ').count(), 1 + proxies.len());
    }
}
