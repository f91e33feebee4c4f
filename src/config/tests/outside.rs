//! What is believed of, told to and changed for those outside: proxies in front, header fields,
//! records.

use super::*;
use crate::config::settings::{
    AccessTarget, Compression, ForwardedHeader, HeaderRules, ListenerSettings, RouteSettings,
    Settings,
};

fn route(lines: &str) -> RouteSettings {
    parse(&format!("{PLAIN}{lines}\n")).routes.remove(0)
}

/// What is told of this list of trusted addresses.
fn told_of(list: &str) -> Vec<String> {
    told_below(&format!("[trusted_proxies]\naddresses = [{list}]"))
}

#[test]
fn nobody_is_believed_by_default() {
    let settings = parse(PLAIN);
    assert!(settings.trusted.networks.is_empty());
    assert_eq!(settings.trusted.header, ForwardedHeader::XForwardedFor);
    assert!(!settings.listeners[0].proxy_protocol);
    assert_eq!(settings.timeouts.proxy_header, Duration::from_secs(3));
    let route = &settings.routes[0];
    assert_eq!((route.send_proxy, route.send_forwarded), (false, false));
    assert_eq!(route.compression, Compression::Inspect);
    assert_eq!(route.request_headers, HeaderRules::default());
    assert_eq!(route.response_headers, HeaderRules::default());
    assert_eq!((settings.access.to, settings.access.start), (AccessTarget::Stderr, false));
}

#[test]
fn proxies_in_front_are_addresses_and_networks() {
    let settings = parse(&PLAIN.replace("443\"", "443\"\nproxy_protocol = true")
        .replace("[[route]]", "[timeouts]\nproxy_header = \"5s\"\n[trusted_proxies]\n\
          addresses = [\"10.0.0.0/8\", \"192.0.2.7\", \"::1\", \"2001:db8::/32\"]\nheader = \"Forwarded\"\n[[route]]"));
    let networks: Vec<String> =
        settings.trusted.networks.iter().map(|network| network.to_string()).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32", "::1/128", "2001:db8::/32"]);
    assert_eq!(settings.trusted.header, ForwardedHeader::Forwarded);
    assert!(matches!(settings.listeners[0], ListenerSettings { proxy_protocol: true, .. }));
    assert_eq!(settings.timeouts.proxy_header, Duration::from_secs(5));
}

// Requirements: CF05.
#[test]
fn invalid_network_shows_what_to_write() {
    for (address, problem) in [
        (
            "\"10.0.0.1/8\"",
            "\"10.0.0.1/8\" has bits set behind its first 8 \
             (write \"10.0.0.0/8\" for the network, or \"10.0.0.1\" for this address)",
        ),
        (
            "\"2001:db8::1/32\"",
            "\"2001:db8::1/32\" has bits set behind its first 32 \
             (write \"2001:db8::/32\" for the network, or \"2001:db8::1\" for this address)",
        ),
        ("\"10.0.0.0/33\"", "\"33\" is not a prefix length (write 1 to 32 behind the slash)"),
        ("\"::/129\"", "\"129\" is not a prefix length (write 1 to 128 behind the slash)"),
        ("\"10.0.0.0/+8\"", "\"+8\" is not a prefix length (write 1 to 32 behind the slash)"),
        ("\"10.0.0.0/\"", "\"\" is not a prefix length (write 1 to 32 behind the slash)"),
        ("\"10.0.0.0/255.0.0.0\"", "\"255.0.0.0\" is not a prefix length (write \"10.0.0.0/8\")"),
        ("\"10.0.0.1:80\"", "\"10.0.0.1:80\" has a port (write \"10.0.0.1\")"),
        ("\"[::1]\"", "\"[::1]\" has brackets (write \"::1\")"),
        ("\"fe80::1%eth0\"", "\"fe80::1%eth0\" has a zone (write \"fe80::1\")"),
        (
            "\"proxy.internal\"",
            "\"proxy.internal\" is not an IP address \
             (write an address or a network, as in \"10.0.0.7\" or \"10.0.0.0/8\")",
        ),
        (
            "\"*\"",
            "\"*\" is not an IP address \
             (write an address or a network, as in \"10.0.0.7\" or \"10.0.0.0/8\")",
        ),
        ("10", "expected a network such as \"10.0.0.0/8\", found the number 10"),
        (
            "\"::ffff:10.0.0.0/104\"",
            "\"::ffff:10.0.0.0/104\" is IPv4 in IPv6 clothing (write \"10.0.0.0/8\")",
        ),
        (
            "\"::ffff:10.0.0.1\"",
            "\"::ffff:10.0.0.1\" is IPv4 in IPv6 clothing (write \"10.0.0.1\")",
        ),
        (
            "\"0.0.0.0\"",
            "no proxy has the address 0.0.0.0 (list the addresses of your own proxies only)",
        ),
    ] {
        assert_eq!(told_of(address), [format!("trusted_proxies.addresses[0]: {problem}")]);
    }
    assert_eq!(
        told_below("[trusted_proxies]\naddresses = \"10.0.0.1\""),
        ["trusted_proxies.addresses: expected a list, found \"10.0.0.1\" (write [\"10.0.0.1\"])"]
    );
}

// Requirements: CF13.
#[test]
fn rejects_trusting_every_address() {
    let lie = "so that everybody could lie about his own \
               (list the addresses of your own proxies only)";
    for (everybody, what) in [
        ("\"0.0.0.0/0\"", "0.0.0.0/0 is every address there is"),
        ("\"::/0\"", "::/0 is every address there is"),
        ("\"::ffff:0:0/96\"", "this is every IPv4 address there is"),
    ] {
        assert_eq!(told_of(everybody), [format!("trusted_proxies.addresses[0]: {what}, {lie}")]);
    }
    let halves = "\"128.0.0.0/1\", \"10.0.0.0/8\", \"0.0.0.0/2\", \"64.0.0.0/2\"";
    assert_eq!(
        told_of(halves),
        [format!("trusted_proxies.addresses: together these are every address there is, {lie}")]
    );
}

// Requirements: CF12.
#[test]
fn forwarded_header_requires_trusted_proxies() {
    assert_eq!(
        told_below("[trusted_proxies]\nheader = \"forwarded\""),
        ["trusted_proxies.header: no proxy is trusted, so this header is read from nobody \
          (list the proxies in front: addresses = [\"10.0.0.7\"])"]
    );
    assert_eq!(
        told_below("[trusted_proxies]\nheader = \"x-real-ip\""),
        ["trusted_proxies.header: expected \"x-forwarded-for\" or \"forwarded\", \
          found \"x-real-ip\""]
    );
}

// Requirements: CF12.
#[test]
fn proxy_protocol_requires_trusted_proxies() {
    let problem = "no proxy is trusted, so every connection would be dropped \
                   (list the proxies that connect here: [trusted_proxies] addresses = [\"10.0.0.7\"])";
    let text = PLAIN.replace("443\"", "443\"\nproxy_protocol = true");
    assert_eq!(told(&text), [format!("listener[0].proxy_protocol: {problem}")]);
    let empty = format!("{text}[trusted_proxies]\naddresses = []\n");
    assert_eq!(told(&empty), [format!("listener[0].proxy_protocol: {problem}")]);
    // Told once, where the list is.
    let faulty = format!("{text}[trusted_proxies]\naddresses = [\"x\"]\n");
    assert!(told(&faulty)[0].starts_with("trusted_proxies.addresses[0]: "));
    assert_eq!(told(&faulty).len(), 1);
}

#[test]
fn backends_are_told_of_the_client_as_the_route_says() {
    let route = route("proxy_protocol = true\nforwarded = true\ncompression = \"strip\"");
    assert_eq!((route.send_proxy, route.send_forwarded), (true, true));
    assert_eq!(route.compression, Compression::Strip);
}

#[test]
fn header_fields_are_set_and_removed() {
    let route = route(
        "[route.request_headers]\nremove = [\"X-Debug\", \"X-Request-Id\"]\n\
         set = [\"X-Env:  prod \", \"Authorization: Basic YTpi\"]\n\
         [route.response_headers]\nremove = [\"Server\"]\nset = [\"X-Url: https://a.example\"]",
    );
    let HeaderRules { remove, set } = route.request_headers;
    assert_eq!(remove, ["x-debug", "x-request-id"]);
    let set: Vec<String> =
        set.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    assert_eq!(set, ["x-env: prod", "authorization: Basic YTpi"]);
    assert_eq!(route.response_headers.remove, ["server"]);
    assert_eq!(route.response_headers.set[0].1, "https://a.example");
}

// Requirements: CF05.
#[test]
fn invalid_header_field_shows_what_to_write() {
    for (key, item, problem) in [
        ("set", "X-Env=prod", "\"X-Env=prod\" has no colon (write \"X-Env: prod\")"),
        ("set", "X-Env prod", "\"X-Env prod\" has no colon (write \"X-Env: prod\")"),
        ("set", "X-Env", "\"X-Env\" has no colon (write name and value, as in \"X-Env: prod\")"),
        (
            "set",
            "X-Env : prod",
            "\"X-Env \" is not the name of a header field (write \"X-Env\", without blanks)",
        ),
        ("set", ": prod", "the name of the field is empty"),
        ("set", "X-Env: ", "x-env has no value (to take a field off, list its name in remove)"),
        (
            "set",
            "X-Env: a\\r\\nHost: b",
            "the value of x-env is not lawful in a field (write printable ASCII in one line)",
        ),
        (
            "set",
            "X-Env: \u{fc}",
            "the value of x-env is not lawful in a field (write printable ASCII in one line)",
        ),
        (
            "set",
            "X Env: prod",
            "\"X Env\" is not the name of a header field (write one such as \"X-Env\")",
        ),
        ("remove", "X-Env: prod", "to remove a field its name is enough (write \"X-Env\")"),
        (
            "remove",
            "X-Debug-*",
            "\"X-Debug-*\" is not the name of a header field \
             (a name is written out; * does not stand for other letters)",
        ),
        ("remove", "", "the name of the field is empty"),
    ] {
        let told = told_below(&format!("[route.request_headers]\n{key} = [\"{item}\"]"));
        assert_eq!(told, [format!("route[0].request_headers.{key}[0]: {problem}")]);
    }
    let told = told_below("[route.response_headers]\nset = [5]\nremove = \"Server\"");
    assert_eq!(
        told,
        [
            "route[0].response_headers.set[0]: \
             expected a header field such as \"X-Env: prod\", found the number 5",
            "route[0].response_headers.remove: \
             expected a list, found \"Server\" (write [\"Server\"])",
        ]
    );
}

// Requirements: CF05.
#[test]
fn header_value_is_taken_verbatim() {
    for (value, variable) in [
        ("$remote_addr", "$remote_addr"),
        ("https://${host}/a", "${host}"),
        ("a;%{REMOTE_ADDR}s b", "%{REMOTE_ADDR}s"),
    ] {
        let told = told_below(&format!("[route.request_headers]\nset = [\"X-A: {value}\"]"));
        let problem = format!("\"{variable}\" would be sent as it stands here");
        let help = "there are no variables: write the value itself";
        assert_eq!(told, [format!("route[0].request_headers.set[0]: {problem} ({help})")]);
    }
    for value in ["costs $5", "100% {a}", "$2y$10$Nq", "a$b", "%20"] {
        route(&format!("[route.request_headers]\nset = [\"X-A: {value}\"]"));
    }
}

// Requirements: CF05.
#[test]
fn redacted_parameters_must_have_names() {
    let problem = |name: &str| {
        format!(
            "log.redact[1]: \"{name}\" is not a name, and would hide nothing \
             (write a word such as \"token\": it counts in longer names, too (auth.token))"
        )
    };
    for name in ["*", "?", "-", "token*", "token, sid", "a=b", "schl\u{fc}ssel"] {
        let told = told_below(&format!("[log]\nredact = [\"sid\", \"{name}\"]"));
        assert_eq!(told, [problem(name)]);
    }
    let log = parse(&format!("{PLAIN}[log]\nredact = [\"Token[]\", \"x-a.b_1\"]\n")).log;
    assert_eq!(*log.redact, ["token[]", "x-a.b_1"]);
    assert!(parse(&format!("{PLAIN}[log]\nredact = []\n")).log.redact.is_empty());
}

#[test]
fn header_fields_that_tidegate_answers_for_are_protected() {
    let hop = "it frames the message, or is between two neighbours only";
    let handshake = "it belongs to the WebSocket handshake";
    let client = "by it tidegate says who asked, and by which way";
    for (name, why) in [
        ("Host", hop),
        ("Connection", hop),
        ("Upgrade", hop),
        ("Keep-Alive", hop),
        ("TE", hop),
        ("Trailer", hop),
        ("Transfer-Encoding", hop),
        ("Content-Length", hop),
        ("Expect", hop),
        ("Proxy-Authorization", hop),
        ("Proxy-Anything", hop),
        ("Sec-WebSocket-Key", handshake),
        ("Sec-WebSocket-Anything", handshake),
        ("Via", client),
        ("X-Real-IP", client),
        ("X-Forwarded-For", client),
        ("X-Forwarded-Anything", client),
        ("X_Forwarded_For", client),
    ] {
        for table in ["request_headers", "response_headers"] {
            for (key, item) in [("remove", name.to_owned()), ("set", format!("{name}: 1"))] {
                let told = told_below(&format!("[route.{table}]\n{key} = [\"{item}\"]"));
                let lower = name.to_lowercase();
                let problem = format!("{lower} is not to be changed: {why}");
                let help = "leave it out of this list";
                assert_eq!(told, [format!("route[0].{table}.{key}[0]: {problem} ({help})")]);
            }
        }
    }
    assert_eq!(
        told_below("[route.request_headers]\nset = [\"Forwarded: for=a\", \"X-Request-Id: 1\"]"),
        [
            "route[0].request_headers.set[0]: forwarded is not to be changed: by it tidegate says \
             who asked, and by which way \
             (to send Forwarded as well, write forwarded = true in the route)",
            "route[0].request_headers.set[1]: x-request-id is not to be changed: tidegate gives \
             each request its number (leave it out of this list)",
        ]
    );
}

// Requirements: CF12.
#[test]
fn header_field_may_be_listed_only_once() {
    let help = "(list a field once; one that is set takes the place of any that came)";
    assert_eq!(
        told_below(
            "[route.request_headers]\nremove = [\"X-Env\"]\nset = [\"x-env: a\", \"X-B: 1\", \"X-B: 2\"]\n\
             [route.response_headers]\nset = [\"X-Env: a\"]"
        ),
        [
            format!(
                "route[0].request_headers.set[0]: x-env is listed already: \
                 route[0].request_headers.remove[0] {help}"
            ),
            format!(
                "route[0].request_headers.set[2]: x-b is listed already: \
                 route[0].request_headers.set[1] {help}"
            ),
        ]
    );
}

#[test]
fn records_go_to_a_file_beside_the_configuration() {
    let access = |lines: &str| {
        let text = format!("{PLAIN}{lines}\n");
        Settings::parse(&text, "/etc/tidegate/proxy.toml").unwrap().access
    };
    let settings = access("[log]\nformat = \"json\"");
    assert_eq!((settings.to, settings.format), (AccessTarget::Stderr, LogFormat::Json));
    let settings = access("[access]\nto = \"access.log\"\nformat = \"json\"\nstart = true");
    assert_eq!(settings.to, AccessTarget::File("/etc/tidegate/access.log".into()));
    assert_eq!((settings.format, settings.start), (LogFormat::Json, true));
    let settings = access("[access]\nto = \"/var/log/access.log\"\n[log]\nformat = \"json\"");
    assert_eq!(settings.to, AccessTarget::File("/var/log/access.log".into()));
    assert_eq!(access("[access]\nto = \"stderr\"").to, AccessTarget::Stderr);
}

// Requirements: CF05.
#[test]
fn access_log_goes_to_stderr_or_file() {
    let where_to = "(write \"stderr\", which systemd keeps in its journal, or the path of a file)";
    for (to, problem) in [
        ("\"stdout\"", format!("records do not go to \"stdout\" {where_to}")),
        ("\"off\"", format!("records do not go to \"off\" {where_to}")),
        ("\"Syslog\"", format!("records do not go to \"Syslog\" {where_to}")),
        ("false", format!("expected a place for records, found false {where_to}")),
        ("\"\"", "\"\" is not a path".to_owned()),
        ("\"/var/log/\"", "\"/var/log/\" is a folder (name the file in it)".to_owned()),
        (
            "\"privkey.pem\"",
            "this file is certificate[0].key (records are written into it: name another)"
                .to_owned(),
        ),
        (
            "\"./fullchain.pem\"",
            "this file is certificate[0].chain (records are written into it: name another)"
                .to_owned(),
        ),
    ] {
        let told = told_below(&format!("[access]\nto = {to}"));
        assert_eq!(told, [format!("access.to: {problem}")]);
    }
}
