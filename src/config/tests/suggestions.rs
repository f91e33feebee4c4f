//! Suggestions for unknown keys, keys of other programs, other words for "no limit", and mistakes
//! in addresses.

use super::*;
use crate::config::schema::known_keys;

// Requirements: CF04.
#[test]
fn long_list_of_keys_is_wrapped() {
    let diagnostics =
        Settings::parse(&format!("{PLAIN}[limits]\nzebra = 1\n"), "proxy.toml").unwrap_err();
    let help = diagnostics.iter().next().unwrap().help().unwrap();
    assert!(help.lines().count() > 1 && help.lines().all(|line| line.len() <= 90), "{help}");
    for key in known_keys().iter().filter_map(|key| key.strip_prefix("limits.")) {
        assert!(help.contains(key), "{key} is not in {help}");
    }
    let line = diagnostics.lines().next().unwrap();
    assert!(!line.contains('\n') && !line.contains(';'), "{line}");
}

// Requirements: CF04.
#[test]
fn unknown_key_suggests_the_nearest_one() {
    assert_eq!(
        rendered(&format!("{PLAIN}\n[limits]\nidel = \"3h\"\n")),
        "proxy.toml:14:1: limits.idel: unknown key\n \
         14 | idel = \"3h\"\n    \
            | ^^^^\n    \
            help: did you mean \"idle\"?\n\nproxy.toml: 1 error"
    );
    assert_eq!(
        errors_below("[limit]\n[heartbeats]\n[limits]\nclose-grace = \"1s\"\n[drain]\nzebra = 1"),
        [
            "limit: unknown table (did you mean \"limits\"?)",
            "heartbeats: unknown table (did you mean \"heartbeat\"?)",
            "limits.close-grace: unknown key (did you mean \"close_grace\"?)",
            "drain.zebra: unknown key (the keys here are delay, window, rate, deadline, code, reason)",
        ]
    );
}

// Requirements: CF04.
#[test]
fn misspelled_key_is_not_also_reported_missing() {
    assert_eq!(
        errors_replacing("origins", "origin"),
        ["route[0].origin: unknown key (did you mean \"origins\"?)"]
    );
}

// Requirements: CF04.
#[test]
fn misplaced_key_names_the_right_table() {
    assert_eq!(
        errors_below("idle = \"5s\"\ntls = false\n[route.concurrency]\n"),
        [
            "route[0].idle: unknown key (\"idle\" belongs in [limits] or in [route.limits] \
             or in [route.timeouts] or in [timeouts])",
            "route[0].tls: unknown key (\"tls\" belongs in [[listener]] or in [[pool]] \
             or in [timeouts])",
            "route[0].concurrency: unknown table (\"concurrency\" belongs at the top level)",
        ]
    );
}

// Requirements: CF04.
#[test]
fn similar_key_in_same_table_comes_first() {
    assert_eq!(
        errors_below("[trusted_proxies]\naddress = [\"10.0.0.1\"]"),
        ["trusted_proxies.address: unknown key (did you mean \"addresses\"?)"]
    );
    // Not similar to a key of this table, but a key of another table.
    assert_eq!(
        errors_below("[limits]\ninterval = \"5s\""),
        ["limits.interval: unknown key \
          (\"interval\" belongs in [heartbeat] or in [pool.probe] or in [route.heartbeat])"]
    );
}

// Requirements: CF05.
#[test]
fn former_keys_suggest_the_new_name() {
    for (table, former, meant) in [
        ("heartbeat", "patience", "timeout"),
        ("route.heartbeat", "patience", "timeout"),
        ("heartbeat", "backend_patience", "backend_timeout"),
        ("timeouts", "dial", "connect"),
        ("timeouts", "backend_answer", "response_header"),
        ("timeouts", "head", "request_header"),
        ("timeouts", "http_silence", "idle"),
        ("limits", "write_trickle", "min_write_rate"),
        ("limits", "write_stall", "write_timeout"),
        ("route.limits", "controls_from_client", "control_frames_from_client"),
        ("limits", "controls_from_backend", "control_frames_from_backend"),
    ] {
        let location = table.replace("route", "route[0]");
        assert_eq!(
            errors_below(&format!("[{table}]\n{former} = \"5s\"")),
            [format!("{location}.{former}: unknown key (did you mean \"{meant}\"?)")]
        );
    }
    assert_eq!(
        errors_below("lost_backends = \"drain\""),
        ["route[0].lost_backends: unknown key (did you mean \"on_backend_loss\"?)"]
    );
    assert_eq!(
        errors_below("[caps]\ntunnels = 9"),
        ["caps: unknown table (did you mean \"concurrency\"?)"]
    );
    assert_eq!(
        errors_below("[concurrency]\nhandshakes_per_client = \"20/s\""),
        ["concurrency.handshakes_per_client: unknown key \
          (\"handshakes_per_client\" belongs in [rates])"]
    );
}

#[test]
fn header_table_suggests_the_list_form() {
    let found = "route[0].request_headers.set: expected a list, found a table";
    let list = "(write set = [\"X-Env: prod\", \"X-Tier: 1\"])";
    for text in [
        "[route.request_headers]\nset = { X-Env = \"prod\", X-Tier = \"1\" }",
        "[route.request_headers.set]\nX-Env = \"prod\"\nX-Tier = \"1\"",
    ] {
        assert_eq!(errors_below(text), [format!("{found} {list}")]);
    }
}

// Requirements: CF05.
#[test]
fn non_loopback_admin_address_is_explained() {
    let errors = |address: &str| errors_below(&format!("[admin]\naddress = {address}"));
    let both = "(write \"127.0.0.1:9181\", or \"[::1]:9181\" for IPv6)";
    for (address, problem) in [
        ("9181", "9181 has no IP address"),
        ("\"9181\"", "\"9181\" has no IP address"),
        ("\":9181\"", "\":9181\" has no IP address"),
        ("\"localhost:9181\"", "\"localhost:9181\" is a name, not an IP address"),
    ] {
        assert_eq!(errors(address), [format!("admin.address: {problem} {both}")]);
    }
    assert_eq!(
        errors("\"127.0.0.1\""),
        ["admin.address: \"127.0.0.1\" has no port \
          (write \"127.0.0.1:9180\" if the port is 9180)"]
    );
    assert_eq!(
        errors_replacing("\"0.0.0.0:443\"", "\"8443\""),
        ["listener[0].address: \"8443\" has no IP address \
          (write \"0.0.0.0:8443\", or \"[::]:8443\" for IPv6)"]
    );
}

// Requirements: CF06.
#[test]
fn unlimited_values_suggest_off() {
    for word in ["none", "unlimited", "OFF", "Off", "0", "never"] {
        let errors = errors_below(&format!(
            "tunnels = \"{word}\"\n[limits]\nmessage_from_client = \"{word}\"\nidle = \"{word}\"\n\
             bytes_from_client = \"{word}\"\n[heartbeat]\ninterval = \"{word}\""
        ));
        let problem = format!("expected a limit, found \"{word}\" (write \"off\" to turn it off)");
        assert_eq!(errors.len(), 5, "{errors:?}");
        assert!(errors.iter().all(|errors| errors.ends_with(&problem)), "{errors:?}");
        let errors =
            errors_below(&format!("[limits]\nmessage_from_client = {{ max = \"{word}\" }}"));
        assert!(errors[0].contains("write \"off\" in place of the whole table"), "{errors:?}");
    }
}

// Requirements: CF06.
#[test]
fn per_client_limits_cannot_be_off() {
    for (table, key) in [
        ("concurrency", "connections_per_client"),
        ("concurrency", "tunnels_per_client"),
        ("rates", "handshakes_per_client"),
    ] {
        for word in ["\"off\"", "\"unlimited\"", "false"] {
            assert_eq!(
                errors_below(&format!("[{table}]\n{key} = {word}")),
                [format!(
                    "{table}.{key}: the limit for one client cannot be turned off \
                     (write a number large enough for one client)"
                )]
            );
        }
    }
}

// Requirements: CF05.
#[test]
fn route_accepts_only_one_host() {
    let errors = errors_replacing("\"chat.example.com\"", "[\"a.example\", \"b.example\"]");
    let help = "write one [[route]] for each, or \"*.example.com\" for every subdomain";
    assert_eq!(
        errors,
        [format!("route[0].host: a route takes exactly one host, not a list ({help})")]
    );
}

// Requirements: CF05.
#[test]
fn mistakes_in_addresses_are_explained() {
    let blank = "contains a space";
    let zero = "has a number with a leading zero";
    for (address, problem) in [
        (" 10.0.0.1:80", format!("\" 10.0.0.1:80\" {blank} (write \"10.0.0.1:80\")")),
        ("10.0.0.1: 80", format!("\"10.0.0.1: 80\" {blank} (remove the space)")),
        ("10.0.0.01:80", format!("\"10.0.0.01\" {zero} (write \"10.0.0.1\" if that is meant)")),
    ] {
        for (key, old) in
            [("listener[0].address", "0.0.0.0:443"), ("route[0].backends[0]", "127.0.0.1:9001")]
        {
            assert_eq!(errors_replacing(old, address), [format!("{key}: {problem}")]);
        }
    }
    for (address, problem) in [
        ("10.0.0.1 ", format!("\"10.0.0.1 \" {blank} (write \"10.0.0.1\")")),
        ("010.0.0.0/8", format!("\"010.0.0.0\" {zero} (write \"10.0.0.0\" if that is meant)")),
    ] {
        let errors = errors_below(&format!("[trusted_proxies]\naddresses = [\"{address}\"]"));
        assert_eq!(errors, [format!("trusted_proxies.addresses[0]: {problem}")]);
    }
}

// Requirements: CF05.
#[test]
fn parameters_after_an_address_are_explained() {
    let tls = "ssl: nothing to write: a listener uses TLS unless it has tls = false";
    for (address, problem) in [
        (
            "443 ssl",
            format!(
                "443\" has no IP address (write \"0.0.0.0:443\", or \"[::]:443\" for IPv6 {tls})"
            ),
        ),
        (
            "10.0.0.1:443 ssl reuseport;",
            format!(
                "10.0.0.1:443 ssl reuseport;\" has more than an address (write \"10.0.0.1:443\" {tls})"
            ),
        ),
        (
            "10.0.0.1:80 proxy_protocol",
            "10.0.0.1:80 proxy_protocol\" has more than an address (write \"10.0.0.1:80\" \
             proxy_protocol: write proxy_protocol in [[listener]])"
                .to_owned(),
        ),
    ] {
        let found = errors_replacing("0.0.0.0:443", address);
        assert_eq!(found, [format!("listener[0].address: \"{problem}")]);
    }
    for (backend, help) in [
        ("10.0.0.7:9001 weight=2", "{ address = \"10.0.0.7:9001\", weight = 2 }"),
        ("10.0.0.7:9001 resolve;", "\"10.0.0.7:9001\""),
        ("app:9001 weight=3 backup", "{ address = \"app:9001\", weight = 3, backup = true }"),
    ] {
        let found = errors_replacing("127.0.0.1:9001", backend);
        let problem = "route[0].backends[0]: a backend is only a host and a port";
        assert_eq!(found, [format!("{problem} (write {help})")]);
    }
}

// Requirements: CF17.
#[test]
fn rejects_variables_in_literal_values() {
    let none = |key: &str, variable: &str| {
        let problem = format!("variables such as \"{variable}\" are not filled in");
        [format!("{key}: {problem}; this file is read as it is (write the value itself)")]
    };
    assert_eq!(
        errors_replacing("fullchain.pem", "${CERTS}/a.pem"),
        none("certificate[0].chain", "${CERTS}")
    );
    assert_eq!(
        errors_replacing("privkey.pem", "/etc/$HOST.key"),
        none("certificate[0].key", "$HOST")
    );
    for (lines, key) in [
        ("name = \"${SITE}\"", "route[0].name"),
        ("path = \"/${SITE}/ws\"", "route[0].path"),
        ("[access]\nto = \"${SITE}\"", "access.to"),
        ("[control]\nsocket = \"${SITE}/ctl\"", "control.socket"),
        ("[drain]\nreason = \"${SITE} restarts\"", "drain.reason"),
    ] {
        assert_eq!(errors_below(lines), none(key, "${SITE}"), "{lines}");
    }
    let listener = "0.0.0.0:443\"\nhealth_path = \"/${SITE}";
    assert_eq!(
        errors_replacing("0.0.0.0:443", listener),
        none("listener[0].health_path", "${SITE}")
    );
    // Elsewhere the value is invalid anyway, and the variable is the cause.
    for (old, new, key) in [
        ("0.0.0.0:443", "${SITE}:443", "listener[0].address"),
        ("chat.example.com", "${SITE}", "route[0].host"),
        ("same-origin", "https://${SITE}", "route[0].origins[0]"),
        ("127.0.0.1:9001", "${SITE}:9001", "route[0].backends[0]"),
        ("127.0.0.1:9001", "http://${SITE}/ws", "route[0].backends[0]"),
        ("\"127.0.0.1:9001\"", "{ address = \"${SITE}\" }", "route[0].backends[0].address"),
    ] {
        assert_eq!(errors_replacing(old, new), none(key, "${SITE}"), "{new}");
    }
    for (lines, key) in [
        ("tunnels = \"${T}\"", "route[0].tunnels"),
        ("[limits]\nidle = \"${T}\"", "limits.idle"),
        ("[log]\nredact = [\"${T}\"]", "log.redact[0]"),
    ] {
        assert_eq!(errors_below(lines), none(key, "${T}"), "{lines}");
    }
    // A dollar sign that does not start a variable is allowed.
    parse(&format!("{PLAIN}path = \"/odata/$metadata\"\nname = \"5$ a month\"\n"));
}
