//! Keys of other programs, written where their users would write them, lead to the key that does it.

use super::*;

// Requirements: CF04.
#[test]
fn keys_of_the_same_table_are_suggested() {
    for (table, key, meant) in [
        ("access", "path", "to"),
        ("access", "file", "to"),
        ("heartbeat", "client_interval", "interval"),
        ("route.heartbeat", "client_interval", "interval"),
        ("heartbeat", "client_timeout", "timeout"),
        ("timeouts", "read", "idle"),
        ("timeouts", "client", "idle"),
        ("route.timeouts", "readTimeout", "idle"),
        ("timeouts", "proxy_read", "idle"),
        ("limits", "proxy_read_timeout", "idle"),
        ("timeouts", "keepalive_timeout", "keep_alive"),
        ("timeouts", "keepalive", "backend_keep_alive"),
    ] {
        let location = table.replace("route", "route[0]");
        let found = errors_below(&format!("[{table}]\n{key} = \"5s\""));
        let expected = format!("{location}.{key}: unknown key (did you mean \"{meant}\"?)");
        assert_eq!(found, [expected]);
    }
    for (key, meant) in [
        ("server", "backends"),
        ("servers", "backends"),
        ("upstream", "backends"),
        ("proxy_pass", "backends"),
        ("proxyPass", "backends"),
        ("allowed_origins", "origins"),
        ("server_name", "host"),
        ("location", "path"),
        ("access_log", "log_requests"),
    ] {
        let found = errors_below(&format!("{key} = \"x\""));
        assert_eq!(found, [format!("route[0].{key}: unknown key (did you mean \"{meant}\"?)")]);
    }
    assert_eq!(
        errors_replacing("\"127.0.0.1:9001\"", "{ server = \"127.0.0.1:9001\" }"),
        ["route[0].backends[0].server: unknown key (did you mean \"address\"?)"]
    );
    // The key that is meant is not reported as missing too.
    assert_eq!(
        errors_replacing("backends", "proxy-pass"),
        ["route[0].proxy-pass: unknown key (did you mean \"backends\"?)"]
    );
}

// Requirements: CF04.
#[test]
fn keys_of_other_tables_are_named_with_their_table() {
    let with = |key: &str| errors(&format!("{key} = \"x\"\n{PLAIN}")).remove(0);
    for (key, help) in [
        ("certificate_key", "write key in [[certificate]]"),
        ("listen", "write address in [[listener]]"),
        ("bind", "write address in [[listener]]"),
        ("server_name", "write host in [[route]]"),
        ("cert", "write chain in [[certificate]]"),
        ("ssl_certificate", "write chain in [[certificate]]"),
        ("ssl_certificate_key", "write key in [[certificate]]"),
        ("proxy_pass", "write backends in [[route]]"),
        ("upstream", "write backends in [[route]]"),
        ("allowed_origins", "write origins in [[route]]"),
        ("location", "write path in [[route]]"),
        ("connect", "\"connect\" belongs in [route.timeouts] or in [timeouts]"),
        ("proxy_connect_timeout", "write connect in [timeouts]"),
        (
            "proxy_read_timeout",
            "write idle in [timeouts] or idle in [limits]: the first is for plain requests, the \
             second for tunnels",
        ),
        ("return", "write redirect in [[listener]]"),
        ("keepalive_timeout", "write keep_alive in [timeouts]"),
        (
            "keepalive",
            "write backend_keep_alive in [timeouts]: connections to backends are always kept; \
             keep_alive is for clients",
        ),
        (
            "default_server",
            "write default in [[certificate]]: default = true; a route for any other host has host \
             = \"*\"",
        ),
        (
            "expires",
            "write set in [route.response_headers]: \"Cache-Control: max-age=3600\", for example",
        ),
        ("error_page", "did you mean \"error_pages\"?"),
        ("include", "there are no includes: write everything in this file"),
        (
            "client_max_body_size",
            "write message_from_client in [limits]: it limits WebSocket messages; the bodies of \
             plain requests are not limited",
        ),
    ] {
        assert_eq!(with(key), format!("{key}: unknown key ({help})"));
    }
    let misplaced = |key: &str| errors_replacing("address =", &format!("{key} = \"x\"\naddress ="));
    for key in ["certificate", "cert", "tls_cert"] {
        let expected = format!("listener[0].{key}: unknown key (write chain in [[certificate]])");
        assert_eq!(misplaced(key), [expected]);
    }
}

// Requirements: CF04.
#[test]
fn keys_of_tables_with_the_same_key_are_not_confused() {
    assert_eq!(
        errors_below("[timeouts]\ntunnel = \"1h\""),
        ["timeouts.tunnel: unknown key (write idle in [limits])"]
    );
    assert_eq!(
        errors_replacing("address =", "keepalive_timeout = \"5s\"\naddress ="),
        ["listener[0].keepalive_timeout: unknown key (write keep_alive in [timeouts])"]
    );
    assert_eq!(
        errors_replacing("address =", "send_proxy = true\naddress ="),
        ["listener[0].send_proxy: unknown key (write proxy_protocol in [[route]])"]
    );
}

// Requirements: CF04.
#[test]
fn directives_without_a_counterpart_say_what_happens() {
    for (key, note) in [
        ("gzip", "plain responses are passed on as they are; "),
        ("proxy_redirect", "there is no rewriting: responses are passed on unchanged"),
        ("if", "there are no conditions: "),
        ("sni", "nothing to write: the names in a certificate decide"),
        ("middlewares", "there are no middlewares: write keys of [[route]]"),
        ("max_fails", "nothing to write: a backend that refuses connections gets none"),
        ("ssl", "nothing to write: a listener uses TLS"),
    ] {
        let top = errors(&format!("{key} = \"x\"\n{PLAIN}")).remove(0);
        assert!(top.starts_with(&format!("{key}: unknown key ({note}")), "{top}");
        let in_route = errors_below(&format!("{key} = \"x\""));
        assert_eq!(in_route, [format!("route[0].{top}")]);
    }
    let backend = |key: &str| format!("{{ address = \"127.0.0.1:9001\", {key} = true }}");
    for (key, note) in [
        ("max_fails", "nothing to write: a backend that refuses"),
        ("tls", "write tls in [[pool]]"),
    ] {
        let found = errors_replacing("\"127.0.0.1:9001\"", &backend(key));
        let expected = format!("route[0].backends[0].{key}: unknown key ({note}");
        assert!(found[0].starts_with(&expected), "{found:?}");
    }
}

// Requirements: CF04.
#[test]
fn blocks_of_other_programs_are_recognised() {
    assert_eq!(
        errors_below("[[upstream]]\nname = \"x\"\n[frontend.a]\nbind = 1\n[http]\na = 1"),
        [
            "upstream: unknown table (write backends in [[route]])",
            "frontend: unknown table (write [[listener]] or [[route]]: the first has the address, \
             the second a host, a path and its backends)",
            "http: unknown table (write [[listener]] or [[certificate]] or [[route]]: this is a block of \
             another program)",
        ]
    );
    assert_eq!(
        errors_below("[[server]]\nlisten = 443\nserver_name = \"a.example\""),
        [
            "server: expected a table, found a list (write [[listener]] or [[route]]: the first has \
             the address, the second a host and its backends; [server] has workers)",
            "server.listen: unknown key (write address in [[listener]])",
            "server.server_name: unknown key (write host in [[route]])",
        ]
    );
}

// Requirements: CF05.
#[test]
fn help_for_huge_numbers_is_their_maximum() {
    let huge = "99999999999999999999999";
    for (lines, problem) in [
        (format!("tunnels = {huge}"), format!("{huge} is too large (the maximum is 4294967295)")),
        (
            "tunnels = -1".into(),
            "-1 is negative; a positive number is required (write \"off\" for no limit)".into(),
        ),
        (
            format!("[limits]\nidle = {huge}"),
            format!("{huge} is too large (the maximum is \"365d\")"),
        ),
        (
            "[limits]\nidle = 99999999999".into(),
            "\"99999999999s\" is longer than a year (the maximum is \"365d\")".into(),
        ),
        (
            format!("[limits]\nidle = \"{huge}s\""),
            format!("\"{huge}s\" is longer than a year (the maximum is \"365d\")"),
        ),
        (
            format!("[limits]\nmessage_from_client = \"{huge}GiB\""),
            format!("\"{huge}GiB\" is too large (the maximum is \"9223372036854775807B\")"),
        ),
        (
            format!("[client_key]\nipv6_prefix = {huge}"),
            format!("{huge} is too large (the maximum is 128)"),
        ),
        (format!("[drain]\ncode = {huge}"), format!("{huge} is too large (the maximum is 4999)")),
        (
            "[rates]\nhandshakes_per_client = 99999999999".into(),
            "\"99999999999/s\" is more than 4294967295/s (the maximum is \"4294967295/s\")".into(),
        ),
    ] {
        let found = errors_below(&lines).remove(0);
        assert!(found.ends_with(&format!(": {problem}")), "{found} is not {problem}");
    }
    for address in ["99999", "\"99999\"", "\"0.0.0.0:99999\"", "\":99999\""] {
        assert_eq!(
            errors_replacing("\"0.0.0.0:443\"", address),
            ["listener[0].address: \"99999\" is not a port (ports are 1 to 65535)"]
        );
    }
    for backend in ["99999", "\"app:99999\""] {
        assert_eq!(
            errors_replacing("\"127.0.0.1:9001\"", backend),
            ["route[0].backends[0]: \"99999\" is not a port (ports are 1 to 65535)"]
        );
    }
}
