//! Rules between keys.

use super::*;
use crate::config::schema::known_keys;
use crate::config::settings::Settings;

// Requirements: CF09.
#[test]
fn rejects_two_listeners_on_one_address() {
    let second = |address: &str| errors_below(&format!("[[listener]]\naddress = \"{address}\""));
    assert_eq!(
        second("0.0.0.0:443"),
        ["listener[1].address: 0.0.0.0:443 is already used by listener[0].address \
          (give each listener its own address)"]
    );
    assert_eq!(
        second("127.0.0.1:443"),
        ["listener[1].address: 127.0.0.1:443 overlaps with listener[0].address = 0.0.0.0:443 \
          (0.0.0.0 covers every IPv4 address of this machine: give one of them another port, or remove one)"]
    );
    assert_eq!(
        second("127.0.0.1:9180"),
        ["listener[1].address: the admin listener is on 127.0.0.1:9180 by default \
          (choose another port, or set admin.address)"]
    );
    assert_eq!(
        errors_below("[admin]\naddress = \"127.0.0.1:443\""),
        ["admin.address: 127.0.0.1:443 overlaps with listener[0].address = 0.0.0.0:443 \
          (0.0.0.0 covers every IPv4 address of this machine: give one of them another port, or remove one)"]
    );
    // IPv6 sockets are IPv6-only, and port 0 is a different port each time.
    let settings = parse(&format!(
        "{PLAIN}[[listener]]\naddress = \"[::]:443\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n"
    ));
    let names: Vec<&str> = settings.listeners.iter().map(|listener| &*listener.name).collect();
    assert_eq!(names, ["0.0.0.0:443", "[::]:443", "127.0.0.1:0", "127.0.0.1:0#2"]);
}

#[test]
fn listener_needs_an_ip_address_and_a_port() {
    let errors = |address: &str| errors_replacing("\"0.0.0.0:443\"", address).join("\n");
    let both = "(write \"0.0.0.0:8443\", or \"[::]:8443\" for IPv6)";
    for (address, problem) in [
        ("8443", "8443 has no IP address"),
        ("\":8443\"", "\":8443\" has no IP address"),
        ("\"*:8443\"", "\"*:8443\" has no IP address"),
    ] {
        assert_eq!(errors(address), format!("listener[0].address: {problem} {both}"));
    }
    for (address, expected) in [
        ("\"::\"", "\"::\" has no port (write \"[::]:443\" if the port is 443)"),
        (
            "\"localhost:80\"",
            "\"localhost:80\" is a name, not an IP address \
          (write \"127.0.0.1:80\", or \"[::1]:80\" for IPv6)",
        ),
        (
            "\"[::ffff:192.0.2.1]:80\"",
            "\"[::ffff:192.0.2.1]:80\" is an IPv4-mapped IPv6 address (write \"192.0.2.1:80\")",
        ),
        (
            "\"chat.example.com:443\"",
            "\"chat.example.com:443\" is not an IP address with a port \
          (write an IP address and a port: \"0.0.0.0:443\", or \"[::]:443\" for IPv6)",
        ),
        ("\"0.0.0.0:443\"\nhealth_path = \"ok\"", "\"ok\" does not start with / (write \"/ok\")"),
    ] {
        let errors = errors(address);
        let (_, errors) = errors.split_once(": ").unwrap();
        assert_eq!(errors, expected);
    }
}

// Requirements: CF09.
#[test]
fn rejects_duplicate_listener_names() {
    assert_eq!(
        errors_below(
            "[[listener]]\naddress = \"[::]:443\"\nname = \"in\"\n\
             [[listener]]\naddress = \"[::]:444\"\nname = \"in\""
        ),
        [
            "listener[2].name: \"in\" is already used by listener[1] (give each listener its own name)"
        ]
    );
}

// Requirements: CF10.
#[test]
fn rejects_duplicate_routes() {
    let second = |lines: &str| {
        errors_below(&format!("[[route]]\norigins = [\"*\"]\nbackends = [\"b:1\"]\n{lines}"))
    };
    assert_eq!(
        second("host = \"CHAT.example.com.\"\npath = \"/\""),
        ["route[1].path: host \"chat.example.com\" and path \"/\" are already served by route[0] \
          (give one of them another path, or list all backends in one)"]
    );
    assert_eq!(
        second("host = \"*\"\nname = \"chat.example.com\""),
        [
            "route[1].name: \"chat.example.com\" is already used by route[0] (give each route its own name)"
        ]
    );
    // Overlapping patterns are allowed; the more specific one matches first.
    parse(&format!(
        "{PLAIN}[[route]]\norigins = [\"*\"]\nbackends = [\"b:1\"]\nhost = \"*.example.com\"\n"
    ));
}

// Requirements: CF11.
#[test]
fn backend_must_be_host_and_port() {
    let backends = |list: &str| errors_replacing("\"127.0.0.1:9001\"", list);
    assert_eq!(
        backends(
            "\"http://app:9001/ws\", \"user:pass@app:9001\", \"wss://app\", \"app\", \"::1\", 9001, \
             \"unix:run/app\", \"app:0\""
        ),
        [
            "route[0].backends[0]: a backend is only a host and a port (write \"app:9001\", and path = \
             \"/ws\" in the route if it serves only this path the path of a request is passed on unchanged)",
            "route[0].backends[1]: a backend is only a host and a port (write \"app:9001\")",
            "route[0].backends[2]: a backend is only a host and a port (write \"app:443\" in a [[pool]] with \
             tls = true, and pool = its name in the route)",
            "route[0].backends[3]: \"app\" has no port (write \"app:9001\" if the port is 9001)",
            "route[0].backends[4]: \"::1\" has no port (write \"[::1]:9001\" if the port is 9001)",
            "route[0].backends[5]: 9001 has no host (write \"127.0.0.1:9001\")",
            "route[0].backends[6]: the path of a Unix socket is absolute, with one slash at its start \
             (write \"unix:/run/app\")",
            "route[0].backends[7]: \"0\" is not a port (ports are 1 to 65535)",
        ]
    );
    assert_eq!(
        backends(""),
        ["route[0].backends: the list is empty, so requests could not be forwarded \
          (write backends = [\"127.0.0.1:9001\"])"]
    );
    assert_eq!(
        backends("\"a:1\", { address = \"b:1\", id = \"a:1\" }, \"A:1\""),
        [
            "route[0].backends[1].id: \"a:1\" is already used by route[0].backends[0] \
             (list a backend once and give it a weight, or give each an id of its own)",
            "route[0].backends[2]: \"a:1\" is already used by route[0].backends[0] \
             (list a backend once and give it a weight, or give each an id of its own)",
        ]
    );
}

// Requirements: CF11.
#[test]
fn rejects_its_own_listener_as_backend() {
    for backend in ["127.0.0.1:443", "localhost:443", "127.8.8.8:443", "0.0.0.0:443"] {
        let errors = errors_replacing("127.0.0.1:9001", backend);
        assert_eq!(
            errors,
            [format!(
                "route[0].backends[0]: {backend} is tidegate itself: listener[0].address \
                 (write the address of the application)"
            )]
        );
    }
    assert_eq!(
        errors_replacing("127.0.0.1:9001", "127.0.0.1:9180"),
        ["route[0].backends[0]: 127.0.0.1:9180 is tidegate itself: admin.address \
          (write the address of the application)"]
    );
    // Another machine or another address family.
    parse(&PLAIN.replace("127.0.0.1:9001", "192.0.2.1:443"));
    parse(&PLAIN.replace("127.0.0.1:9001", "[::1]:443"));
}

// Requirements: CF12.
#[test]
fn rejects_contradictory_limits() {
    assert_eq!(
        errors_below(
            "tunnels = 60\n[concurrency]\nconnections = 100\ntunnels = 50\nconnections_per_client = 101\n\
             tunnels_per_client = 51"
        ),
        [
            "route[0].tunnels: 60 is more than concurrency.tunnels = 50 \
             (write at most 50, or raise concurrency.tunnels)",
            "concurrency.connections_per_client: 101 is more than concurrency.connections = 100 \
             (write at most 100, or raise concurrency.connections)",
            "concurrency.tunnels_per_client: 51 is more than concurrency.tunnels = 50 \
             (write at most 50, or raise concurrency.tunnels)",
        ]
    );
    assert_eq!(
        errors_below("[concurrency]\nconnections = 100\ntunnels = 200\n"),
        ["concurrency.tunnels: 200 is more than concurrency.connections = 100 \
          (write at most 100, or raise concurrency.connections)"]
    );
    assert_eq!(
        errors_below("[concurrency]\npending_memory = \"1023KiB\"\n"),
        ["concurrency.pending_memory: 1023KiB is too little for any number of connections \
          (write at least \"1MiB\")"]
    );
    // Defaults are lowered.
    let concurrency = parse(&format!("{PLAIN}[concurrency]\nconnections = 100\n")).concurrency;
    assert_eq!((concurrency.connections_per_client, concurrency.tunnels_per_client), (100, 100));
}

// Requirements: CF12.
#[test]
fn heartbeat_must_fit_into_idle_timeout() {
    assert_eq!(
        rendered(&format!("{PLAIN}[limits]\nidle = \"40s\"\n")),
        "proxy.toml:13:8: limits.idle: limits.idle = 40s is not longer than heartbeat.interval + \
         heartbeat.timeout = 40s\n \
         13 | idle = \"40s\"\n    \
            |        ^^^^^\n    \
            help: a peer that stopped responding must be detected before the tunnel counts as \
            idle:\n          \
            set limits.idle to more than 40s or \"off\", or set heartbeat.interval to \
            \"off\"\n\n\
         proxy.toml: 1 error"
    );
    assert_eq!(
        errors_below("[heartbeat]\ninterval = \"1h\"")[0].split(':').next(),
        Some("heartbeat.interval")
    );
    // On a route, reported once at the key that the route sets.
    let errors = errors_below(
        "[route.heartbeat]\ntimeout = \"2h\"\n[[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"b:1\"]",
    );
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("route[0].heartbeat.timeout: "), "{errors:?}");
    parse(&format!("{PLAIN}[limits]\nidle = \"41s\"\n"));
    parse(&format!("{PLAIN}[limits]\nidle = \"40s\"\n[heartbeat]\ninterval = \"off\"\n"));
    parse(&format!("{PLAIN}[limits]\nidle = \"off\"\n[heartbeat]\ninterval = \"24h\"\n"));
}

// Requirements: CF12.
#[test]
fn invalid_keys_are_skipped_by_cross_checks() {
    assert_eq!(
        errors_below("[limits]\nidle = 5\n[heartbeat]\ninterval = \"2h\""),
        ["limits.idle: 5 has no unit (write \"5s\" if you mean seconds)"]
    );
}

// Requirements: CF12.
#[test]
fn drain_window_must_end_before_deadline() {
    assert_eq!(
        errors_below("[drain]\nwindow = \"30s\"\ncode = 1006"),
        [
            "drain.window: drain.window = 30s is not shorter than drain.deadline = 30s \
             (closes are spread over the window, and remaining tunnels are aborted at the deadline)",
            "drain.code: 1006 is not a code that may be sent in a Close frame (write 1012 (service \
             restart), 1001 (going away), or 3000 to 4999 for your own)",
        ]
    );
    assert_eq!(errors_below("[drain]\ncode = 1014").len(), 1);
}

// Requirements: CF14.
#[test]
fn rejects_a_public_admin_listener() {
    assert_eq!(
        errors_below("[admin]\naddress = \"0.0.0.0:9180\""),
        [
            "admin.address: 0.0.0.0:9180 can be reached from other machines (it has no authentication: \
          write \"127.0.0.1:9180\", or set public = true in [admin])"
        ]
    );
    let admin = |lines: &str| parse(&format!("{PLAIN}[admin]\n{lines}\n")).admin;
    assert!(admin("address = \"0.0.0.0:9180\"\npublic = true").is_some());
    assert!(admin("address = \"[::1]:9180\"").is_some());
    assert_eq!(admin("address = \"0.0.0.0:9180\"\nenabled = false"), None);
}

#[test]
fn missing_origins_list_the_choices() {
    assert_eq!(
        rendered(&PLAIN.replace("origins = [\"same-origin\"]\n", "")),
        "proxy.toml:8:1: route[0].origins: this key is missing
 8 | [[route]]
   | ^^^^^^^^^
   help: list the pages that may connect:
         \"same-origin\"               pages on the route's own host
         \"https://chat.example.com\"  exactly this origin
         \"https://*.example.com\"     any subdomain of example.com
         \"missing\"                   clients that send no Origin, such as native applications
         \"null\"                      sandboxed frames and local files
         \"file://\"                   clients that send exactly this text
         \"moz-extension://*\"         any origin with this scheme: browser extensions, applications
         \"*\"                         any origin: only if the backend checks it itself

proxy.toml: 1 error"
    );
    assert!(
        errors_replacing("[\"same-origin\"]", "[]")[0]
            .contains("the list is empty, so no page can connect")
    );
    assert_eq!(
        errors_replacing("\"same-origin\"", "\"null\", \"*\""),
        ["route[0].origins[1]: \"*\" allows any origin, so the other entries have no effect \
          (remove \"*\", or write origins = [\"*\"])"]
    );
}

#[test]
fn empty_file_names_required_tables() {
    let errors = rendered("");
    assert!(
        errors.contains("there is no [[listener]]") && errors.contains("there is no [[route]]"),
        "{errors}"
    );
}

#[test]
fn tls_needs_certificates_with_at_most_one_default() {
    let certificate = "[[certificate]]\nchain = \"fullchain.pem\"\nkey = \"privkey.pem\"\n";
    let errors = errors_replacing(certificate, "");
    assert!(
        errors[0].starts_with("listener[0]: TLS is enabled, but there is no [[certificate]]"),
        "{errors:?}"
    );
    parse(&PLAIN.replace(certificate, "").replace("443\"", "80\"\ntls = false"));
    let two = format!("{PLAIN}{}", format!("{certificate}default = true\n").repeat(2));
    assert_eq!(
        crate::config::tests::tests::errors(&two),
        ["certificate[2].default: there is already a default: certificate[1].default \
          (keep one default = true: it is used for names that no certificate covers)"]
    );
    assert_eq!(errors_replacing("chain = \"fullchain.pem\"\n", "").len(), 1);
}

#[test]
fn quoted_text_is_truncated_and_sanitized() {
    let long = "x".repeat(1 << 20);
    for text in [r"\u001b[2J\u202e\r\n", &long] {
        let lines = format!(
            "name = \"\"\n\"{text}\" = 1\ncompression = \"{text}\"\n[limits]\nidle = \"{text}\""
        );
        for errors in errors_below(&lines) {
            assert!(errors.chars().count() < 1000, "{}", errors.len());
            assert!(!errors.contains(['\u{1b}', '\u{202e}', '\r', '\n']), "{errors:?}");
        }
    }
}

#[test]
fn errors_have_one_log_line_each() {
    let diagnostics =
        Settings::parse(&format!("{PLAIN}[limits]\nidle = 5\n"), "proxy.toml").unwrap_err();
    assert_eq!(
        diagnostics.lines().collect::<Vec<_>>(),
        ["proxy.toml:13:8: limits.idle: 5 has no unit (write \"5s\" if you mean seconds)"]
    );
}

#[test]
fn keys_of_all_table_types_are_known() {
    for key in
        ["server.workers", "listener[].address", "route[].limits.idle", "route[].backends[].id"]
    {
        assert!(known_keys().iter().any(|known| known == key), "{key}");
    }
}

/// Values of other types: inline tables, rates, networks, fields.
const POLICIES: &str = r#"[route.request_headers]
set = ["X-Env: prod"]
[limits]
message_from_client = { max = "1MiB", action = "report" }
bytes_from_client = { rate = "64KiB/s", burst = "1MiB", action = "delay" }
fragments_from_backend = 5
[trusted_proxies]
addresses = ["10.0.0.0/8", "::1"]
[access]
to = "access.log"
"#;

proptest! {
    /// Any text is either accepted or rejected with errors that can be displayed.
    #[test]
    fn parsing_never_panics(at in 0..1000_usize, cut in 0..20_usize, insert in "\\PC{0,6}|[\\[\\]{}=\"',.\n#]{0,6}") {
        let mut text = format!("{PLAIN}{POLICIES}");
        let at = at % text.len();
        text.replace_range(at..(at + cut).min(text.len()), &insert);
        if let Err(diagnostics) = Settings::parse(&text, "proxy.toml") {
            prop_assert!(diagnostics.count() > 0);
            prop_assert!(!diagnostics.to_string().is_empty());
        }
    }
}

#[test]
fn control_socket_path_has_a_maximum_length() {
    let errors = errors_below(&format!("[control]\nsocket = \"/{}\"", "x".repeat(120)));
    assert!(errors[0].contains("xxx is 121 bytes long; the maximum is 96"), "{errors:?}");
}
