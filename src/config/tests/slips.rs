//! What was meant, where something else was written: keys of other programs, other words for no
//! limit, slips in addresses.

use super::*;

// Requirements: CF04.
#[test]
fn similar_key_in_same_table_comes_first() {
    assert_eq!(
        told_below("[trusted_proxies]\naddress = [\"10.0.0.1\"]"),
        ["trusted_proxies.address: unknown key (did you mean \"addresses\"?)"]
    );
    // Far from any key here, and a key elsewhere.
    assert_eq!(
        told_below("[limits]\ninterval = \"5s\""),
        ["limits.interval: unknown key \
          (\"interval\" belongs in [heartbeat] or in [route.heartbeat])"]
    );
}

// Requirements: CF04.
#[test]
fn keys_of_other_proxies_are_translated() {
    for (table, key, meant) in [
        ("access", "path", "to"),
        ("access", "file", "to"),
        ("heartbeat", "client_interval", "interval"),
        ("route.heartbeat", "client_interval", "interval"),
        ("heartbeat", "client_timeout", "timeout"),
        ("timeouts", "read", "idle"),
        ("timeouts", "proxy_read", "idle"),
    ] {
        let place = table.replace("route", "route[0]");
        assert_eq!(
            told_below(&format!("[{table}]\n{key} = \"5s\"")),
            [format!("{place}.{key}: unknown key (did you mean \"{meant}\"?)")]
        );
    }
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
        let place = table.replace("route", "route[0]");
        assert_eq!(
            told_below(&format!("[{table}]\n{former} = \"5s\"")),
            [format!("{place}.{former}: unknown key (did you mean \"{meant}\"?)")]
        );
    }
    assert_eq!(
        told_below("lost_backends = \"drain\""),
        ["route[0].lost_backends: unknown key (did you mean \"on_backend_loss\"?)"]
    );
    assert_eq!(
        told_below("[caps]\ntunnels = 9"),
        ["caps: unknown table (did you mean \"concurrency\"?)"]
    );
    assert_eq!(
        told_below("[concurrency]\nhandshakes_per_client = \"20/s\""),
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
        assert_eq!(told_below(text), [format!("{found} {list}")]);
    }
}

// Requirements: CF05.
#[test]
fn non_loopback_admin_address_is_explained() {
    let told = |address: &str| told_below(&format!("[admin]\naddress = {address}"));
    let both = "(write \"127.0.0.1:9181\", or \"[::1]:9181\" for IPv6)";
    for (address, problem) in [
        ("9181", "9181 has no IP address"),
        ("\"9181\"", "\"9181\" has no IP address"),
        ("\":9181\"", "\":9181\" has no IP address"),
        ("\"localhost:9181\"", "\"localhost:9181\" is a name, not an IP address"),
    ] {
        assert_eq!(told(address), [format!("admin.address: {problem} {both}")]);
    }
    assert_eq!(
        told("\"127.0.0.1\""),
        ["admin.address: \"127.0.0.1\" has no port \
          (write \"127.0.0.1:9180\" if the port is 9180)"]
    );
    assert_eq!(
        told_instead("\"0.0.0.0:443\"", "\"8443\""),
        ["listener[0].address: \"8443\" has no IP address \
          (write \"0.0.0.0:8443\", or \"[::]:8443\" for IPv6)"]
    );
}

// Requirements: CF06.
#[test]
fn unlimited_values_suggest_off() {
    for word in ["none", "unlimited", "OFF", "Off", "0", "never"] {
        let told = told_below(&format!(
            "tunnels = \"{word}\"\n[limits]\nmessage_from_client = \"{word}\"\nidle = \"{word}\"\n\
             bytes_from_client = \"{word}\"\n[heartbeat]\ninterval = \"{word}\""
        ));
        let problem =
            format!("expected a limit, found \"{word}\" (write \"off\" if there is to be none)");
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(told.iter().all(|told| told.ends_with(&problem)), "{told:?}");
        let told = told_below(&format!("[limits]\nmessage_from_client = {{ max = \"{word}\" }}"));
        assert!(told[0].contains("write \"off\" without the braces"), "{told:?}");
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
                told_below(&format!("[{table}]\n{key} = {word}")),
                [format!(
                    "{table}.{key}: one client cannot be without a limit \
                     (there is always one: write a larger number)"
                )]
            );
        }
    }
}

// Requirements: CF05.
#[test]
fn route_accepts_only_one_host() {
    let told = told_instead("\"chat.example.com\"", "[\"a.example\", \"b.example\"]");
    let help = "write one [[route]] for each, or \"*.example.com\" for every name below it";
    assert_eq!(told, [format!("route[0].host: a route has one host, not a list ({help})")]);
}

// Requirements: CF05.
#[test]
fn mistakes_in_addresses_are_explained() {
    let blank = "has a blank in it";
    let zero = "has a number with a zero in front";
    for (address, problem) in [
        (" 10.0.0.1:80", format!("\" 10.0.0.1:80\" {blank} (write \"10.0.0.1:80\")")),
        ("10.0.0.1: 80", format!("\"10.0.0.1: 80\" {blank} (write it without)")),
        ("10.0.0.01:80", format!("\"10.0.0.01\" {zero} (write \"10.0.0.1\" if it is that)")),
    ] {
        for (key, old) in
            [("listener[0].address", "0.0.0.0:443"), ("route[0].backends[0]", "127.0.0.1:9001")]
        {
            assert_eq!(told_instead(old, address), [format!("{key}: {problem}")]);
        }
    }
    for (address, problem) in [
        ("10.0.0.1 ", format!("\"10.0.0.1 \" {blank} (write \"10.0.0.1\")")),
        ("010.0.0.0/8", format!("\"010.0.0.0\" {zero} (write \"10.0.0.0\" if it is that)")),
    ] {
        let told = told_below(&format!("[trusted_proxies]\naddresses = [\"{address}\"]"));
        assert_eq!(told, [format!("trusted_proxies.addresses[0]: {problem}")]);
    }
}

// Requirements: CF17.
#[test]
fn rejects_variables_in_literal_values() {
    let none = |key: &str, variable: &str| {
        let told =
            "would be taken as it stands here (there are no variables: write the value itself)";
        [format!("{key}: \"{variable}\" {told}")]
    };
    assert_eq!(
        told_instead("fullchain.pem", "${CERTS}/a.pem"),
        none("certificate[0].chain", "${CERTS}")
    );
    assert_eq!(told_instead("privkey.pem", "/etc/$HOST.key"), none("certificate[0].key", "$HOST"));
    for (lines, key) in [
        ("name = \"${SITE}\"", "route[0].name"),
        ("path = \"/${SITE}/ws\"", "route[0].path"),
        ("[access]\nto = \"${SITE}\"", "access.to"),
        ("[control]\nsocket = \"${SITE}/ctl\"", "control.socket"),
        ("[drain]\nreason = \"${SITE} restarts\"", "drain.reason"),
    ] {
        assert_eq!(told_below(lines), none(key, "${SITE}"), "{lines}");
    }
    let listener = "0.0.0.0:443\"\nhealth_path = \"/${SITE}";
    assert_eq!(told_instead("0.0.0.0:443", listener), none("listener[0].health_path", "${SITE}"));
    // Everywhere else it is no value at all.
    for (old, new) in [
        ("0.0.0.0:443", "${SITE}:443"),
        ("chat.example.com", "${SITE}"),
        ("same-origin", "https://${SITE}"),
        ("127.0.0.1:9001", "${SITE}:9001"),
    ] {
        assert_eq!(told_instead(old, new).len(), 1, "{new}");
    }
    for lines in ["tunnels = \"${N}\"", "[limits]\nidle = \"${T}\"", "[log]\nredact = [\"${T}\"]"] {
        assert_eq!(told_below(lines).len(), 1, "{lines}");
    }
    // What the environment holds changes nothing; and a dollar may be a dollar.
    parse(&format!("{PLAIN}path = \"/odata/$metadata\"\nname = \"5$ a month\"\n"));
}
