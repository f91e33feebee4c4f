//! Trusted proxies, header fields and access records.

use super::*;
use crate::config::settings::{
    AccessTarget, Compression, ForwardedHeader, HeaderRules, ListenerSettings, RouteSettings,
    Settings,
};

fn route(lines: &str) -> RouteSettings {
    parse(&format!("{PLAIN}{lines}\n")).routes.remove(0)
}

/// The errors of this list of trusted addresses.
fn trusted_address_errors(list: &str) -> Vec<String> {
    errors_below(&format!("[trusted_proxies]\naddresses = [{list}]"))
}

#[test]
fn no_proxy_is_trusted_by_default() {
    let settings = parse(PLAIN);
    assert!(settings.trusted_proxies.networks.is_empty());
    assert!(settings.trusted_proxies.files.is_empty());
    assert_eq!(settings.trusted_proxies.header, ForwardedHeader::XForwardedFor);
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
fn trusted_proxies_are_addresses_and_networks() {
    let settings = parse(&PLAIN.replace("443\"", "443\"\nproxy_protocol = true")
        .replace("[[route]]", "[timeouts]\nproxy_header = \"5s\"\n[trusted_proxies]\n\
          addresses = [\"10.0.0.0/8\", \"192.0.2.7\", \"::1\", \"2001:db8::/32\"]\nheader = \"Forwarded\"\n[[route]]"));
    let networks: Vec<String> =
        settings.trusted_proxies.networks.iter().map(|network| network.to_string()).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32", "::1/128", "2001:db8::/32"]);
    assert_eq!(settings.trusted_proxies.header, ForwardedHeader::Forwarded);
    assert!(matches!(settings.listeners[0], ListenerSettings { proxy_protocol: true, .. }));
    assert_eq!(settings.timeouts.proxy_header, Duration::from_secs(5));
}

// Requirements: CF05.
#[test]
fn invalid_network_suggests_a_valid_one() {
    for (address, problem) in [
        (
            "\"10.0.0.1/8\"",
            "\"10.0.0.1/8\" has bits set after the first 8 \
             (write \"10.0.0.0/8\" for the network, or \"10.0.0.1\" for this address)",
        ),
        (
            "\"2001:db8::1/32\"",
            "\"2001:db8::1/32\" has bits set after the first 32 \
             (write \"2001:db8::/32\" for the network, or \"2001:db8::1\" for this address)",
        ),
        ("\"10.0.0.0/33\"", "\"33\" is not a prefix length (write 1 to 32 after the slash)"),
        ("\"::/129\"", "\"129\" is not a prefix length (write 1 to 128 after the slash)"),
        ("\"10.0.0.0/+8\"", "\"+8\" is not a prefix length (write 1 to 32 after the slash)"),
        ("\"10.0.0.0/\"", "\"\" is not a prefix length (write 1 to 32 after the slash)"),
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
            "\"::ffff:10.0.0.0/104\" is an IPv4-mapped IPv6 address (write \"10.0.0.0/8\")",
        ),
        (
            "\"::ffff:10.0.0.1\"",
            "\"::ffff:10.0.0.1\" is an IPv4-mapped IPv6 address (write \"10.0.0.1\")",
        ),
        (
            "\"0.0.0.0\"",
            "0.0.0.0 cannot be the address of a proxy (list the addresses of your own proxies only)",
        ),
    ] {
        assert_eq!(
            trusted_address_errors(address),
            [format!("trusted_proxies.addresses[0]: {problem}")]
        );
    }
    assert_eq!(
        errors_below("[trusted_proxies]\naddresses = \"10.0.0.1\""),
        ["trusted_proxies.addresses: expected a list, found \"10.0.0.1\" (write [\"10.0.0.1\"])"]
    );
}

// Requirements: CF13.
#[test]
fn rejects_trusting_every_address() {
    let reason = "so any client could forge its address \
               (list the addresses of your own proxies only)";
    for (network, message) in [
        ("\"0.0.0.0/0\"", "0.0.0.0/0 covers every IPv4 address"),
        ("\"::/0\"", "::/0 covers every IPv6 address"),
        ("\"::ffff:0:0/96\"", "\"::ffff:0:0/96\" covers every IPv4 address"),
    ] {
        assert_eq!(
            trusted_address_errors(network),
            [format!("trusted_proxies.addresses[0]: {message}, {reason}")]
        );
    }
    let networks = "\"128.0.0.0/1\", \"10.0.0.0/8\", \"0.0.0.0/2\", \"64.0.0.0/2\"";
    assert_eq!(
        trusted_address_errors(networks),
        [format!(
            "trusted_proxies.addresses: together these networks cover every IPv4 address, {reason}"
        )]
    );
}

// Requirements: CF12.
#[test]
fn forwarded_header_requires_trusted_proxies() {
    assert_eq!(
        errors_below("[trusted_proxies]\nheader = \"forwarded\""),
        ["trusted_proxies.header: trusted_proxies.addresses is empty, so this header is ignored \
          (list the proxies in front of tidegate: addresses = [\"10.0.0.7\"])"]
    );
    assert_eq!(
        errors_below("[trusted_proxies]\nheader = \"client\""),
        ["trusted_proxies.header: expected \"x-forwarded-for\", \"forwarded\", \
          \"cf-connecting-ip\", \"true-client-ip\", \"x-real-ip\", \"fly-client-ip\", \
          \"fastly-client-ip\", \"x-azure-socketip\" or \"do-connecting-ip\", \
          found \"client\""]
    );
}

#[test]
fn addresses_may_come_from_files() {
    let text = PLAIN.replace("443\"", "443\"\nproxy_protocol = true");
    let settings = parse(&format!(
        "{text}[trusted_proxies]\naddress_files = [\"a.txt\", \"/b.txt\"]\n\
         header = \"CF-Connecting-IP\"\n"
    ));
    let trusted = &settings.trusted_proxies;
    assert_eq!(trusted.header, ForwardedHeader::ClientAddress("cf-connecting-ip"));
    let files: Vec<_> = trusted.files.iter().map(|file| file.to_str().unwrap()).collect();
    assert_eq!(files, ["a.txt", "/b.txt"]);
    assert!(trusted.networks.is_empty());
}

// Requirements: CF12.
#[test]
fn proxy_protocol_requires_trusted_proxies() {
    let problem = "no proxy is trusted, so every connection would be dropped \
                   (list the proxies that connect here: [trusted_proxies] addresses = [\"10.0.0.7\"])";
    let text = PLAIN.replace("443\"", "443\"\nproxy_protocol = true");
    assert_eq!(errors(&text), [format!("listener[0].proxy_protocol: {problem}")]);
    let empty = format!("{text}[trusted_proxies]\naddresses = []\n");
    assert_eq!(errors(&empty), [format!("listener[0].proxy_protocol: {problem}")]);
    // Reported once, at the list.
    let invalid = format!("{text}[trusted_proxies]\naddresses = [\"x\"]\n");
    assert!(errors(&invalid)[0].starts_with("trusted_proxies.addresses[0]: "));
    assert_eq!(errors(&invalid).len(), 1);
}

#[test]
fn route_sends_proxy_header_and_forwarded() {
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
fn invalid_header_field_suggests_a_valid_one() {
    for (key, item, problem) in [
        ("set", "X-Env=prod", "\"X-Env=prod\" has no colon (write \"X-Env: prod\")"),
        ("set", "X-Env prod", "\"X-Env prod\" has no colon (write \"X-Env: prod\")"),
        ("set", "X-Env", "\"X-Env\" has no colon (write name and value, as in \"X-Env: prod\")"),
        (
            "set",
            "X-Env : prod",
            "\"X-Env \" is not the name of a header field (write \"X-Env\", without spaces)",
        ),
        ("set", ": prod", "the name of the field is empty (write one such as \"X-Env: prod\")"),
        ("set", "X-Env: ", "x-env has no value (to remove a field, list its name in remove)"),
        (
            "set",
            "X-Env: a\\r\\nHost: b",
            "the value of x-env is not valid in a header field (write printable ASCII on one line)",
        ),
        (
            "set",
            "X-Env: \u{fc}",
            "the value of x-env is not valid in a header field (write printable ASCII on one line)",
        ),
        (
            "set",
            "X Env: prod",
            "\"X Env\" is not the name of a header field (write one such as \"X-Env\")",
        ),
        ("remove", "X-Env: prod", "only the name is needed to remove a field (write \"X-Env\")"),
        (
            "remove",
            "X-Debug-*",
            "\"X-Debug-*\" is not the name of a header field \
             (wildcards are not supported: write each name in full)",
        ),
        ("remove", "", "the name of the field is empty (write one such as \"X-Env\")"),
    ] {
        let errors = errors_below(&format!("[route.request_headers]\n{key} = [\"{item}\"]"));
        assert_eq!(errors, [format!("route[0].request_headers.{key}[0]: {problem}")]);
    }
    let errors = errors_below("[route.response_headers]\nset = [5]\nremove = \"Server\"");
    assert_eq!(
        errors,
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
fn variables_in_header_values_are_rejected() {
    let address = " (the client address is sent in X-Forwarded-For)";
    for (value, variable, help) in [
        ("$remote_addr", "$remote_addr", address),
        ("https://${host}/a", "${host}", " (write a fixed text)"),
        ("a;%{REMOTE_ADDR}s b", "%{REMOTE_ADDR}s", address),
    ] {
        let errors = errors_below(&format!("[route.request_headers]\nset = [\"X-A: {value}\"]"));
        let problem = format!("variables such as \"{variable}\" are not filled in");
        let problem = format!("{problem}; this file is read as it is{help}");
        assert_eq!(errors, [format!("route[0].request_headers.set[0]: {problem}")]);
    }
    for value in ["costs $5", "100% {a}", "$2y$10$Nq", "a$b", "%20"] {
        route(&format!("[route.request_headers]\nset = [\"X-A: {value}\"]"));
    }
}

// Requirements: CF05.
#[test]
fn redact_entries_must_be_parameter_names() {
    let problem = |name: &str| {
        format!(
            "log.redact[1]: \"{name}\" is not a parameter name and would redact nothing \
             (write a word such as \"token\"; it also matches parts of longer names (auth.token))"
        )
    };
    for name in ["*", "?", "-", "token*", "token, sid", "a=b", "schl\u{fc}ssel"] {
        let errors = errors_below(&format!("[log]\nredact = [\"sid\", \"{name}\"]"));
        assert_eq!(errors, [problem(name)]);
    }
    let log = parse(&format!("{PLAIN}[log]\nredact = [\"Token[]\", \"x-a.b_1\"]\n")).log;
    assert_eq!(*log.redact, ["token[]", "x-a.b_1"]);
    assert!(parse(&format!("{PLAIN}[log]\nredact = []\n")).log.redact.is_empty());
}

#[test]
fn protected_header_fields_cannot_be_changed() {
    let hop = "it controls message framing or applies to one hop only";
    let handshake = "it is part of the WebSocket handshake";
    let backends = "tidegate sets it for backends";
    let host = "it selects the route and is passed on as the client sent it";
    for (name, why) in [
        ("Host", host),
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
        ("CDN-Loop", "tidegate uses it to detect loops"),
        ("X-Real-IP", backends),
        ("X-Forwarded-For", backends),
        ("X-Forwarded-Anything", backends),
        ("X_Forwarded_For", backends),
    ] {
        for table in ["request_headers", "response_headers"] {
            for (key, item) in [("remove", name.to_owned()), ("set", format!("{name}: 1"))] {
                let errors = errors_below(&format!("[route.{table}]\n{key} = [\"{item}\"]"));
                let lower = name.to_lowercase();
                let problem = format!("{lower} cannot be changed: {why}");
                let help = "remove it from this list";
                assert_eq!(errors, [format!("route[0].{table}.{key}[0]: {problem} ({help})")]);
            }
        }
    }
    assert_eq!(
        errors_below(
            "[route.request_headers]\nset = [\"Forwarded: for=a\", \"X-Request-Id: 1\", \"Via: 1.1 a\"]"
        ),
        [
            "route[0].request_headers.set[0]: forwarded cannot be changed: tidegate sets it for backends \
             (to send Forwarded as well, write forwarded = true in the route)",
            "route[0].request_headers.set[1]: x-request-id cannot be set: tidegate sets the request id itself (remove it from this list)",
            "route[0].request_headers.set[2]: via cannot be changed: each proxy adds its own name (to send Via, write via = \"NAME\" in the route)",
        ]
    );
}

// Requirements: CF12.
#[test]
fn header_field_may_be_listed_only_once() {
    let help = "(list a field once; a field that is set replaces a received one)";
    assert_eq!(
        errors_below(
            "[route.request_headers]\nremove = [\"X-Env\"]\nset = [\"x-env: a\", \"X-B: 1\", \"X-B: 2\"]\n\
             [route.response_headers]\nset = [\"X-Env: a\"]"
        ),
        [
            format!(
                "route[0].request_headers.set[0]: x-env is already listed in \
                 route[0].request_headers.remove[0] {help}"
            ),
            format!(
                "route[0].request_headers.set[2]: x-b is already listed in \
                 route[0].request_headers.set[1] {help}"
            ),
        ]
    );
}

#[test]
fn access_log_path_is_resolved_against_configuration_directory() {
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
    let where_to =
        "(write \"stderr\", which goes to the journal under systemd, or the path of a file)";
    for (to, problem) in [
        ("\"stdout\"", format!("access records cannot be written to \"stdout\" {where_to}")),
        ("\"off\"", format!("access records cannot be turned off {where_to}")),
        ("\"Syslog\"", format!("access records cannot be written to \"Syslog\" {where_to}")),
        ("false", format!("access records cannot be turned off {where_to}")),
        ("\"\"", "\"\" is not a path".to_owned()),
        ("\"/var/log/\"", "\"/var/log/\" is a directory (name the file in it)".to_owned()),
        (
            "\"privkey.pem\"",
            "privkey.pem is already used as certificate[0].key (access records would be appended to it: name another file)"
                .to_owned(),
        ),
        (
            "\"./fullchain.pem\"",
            "./fullchain.pem is already used as certificate[0].chain (access records would be appended to it: name another file)"
                .to_owned(),
        ),
    ] {
        let errors = errors_below(&format!("[access]\nto = {to}"));
        assert_eq!(errors, [format!("access.to: {problem}")]);
    }
}
