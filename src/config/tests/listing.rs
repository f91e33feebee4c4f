//! The listing of effective keys and the source of their values.

use std::collections::BTreeSet;

use super::*;
use crate::config::explain::listing::effective;
use crate::config::schema::known_keys;
use crate::config::toml::key_path::without_indices;
use crate::control_protocol::response::EffectiveKey;

const EXAMPLE: &str = include_str!("../../../proxy.toml.example");

/// Every table, with every key set to a value other than its default.
pub(crate) const FULL: &str = r#"
[[listener]]
address = "0.0.0.0:8443"
name = "tls"
tls = true
proxy_protocol = true
health_path = "/healthz"

[[listener]]
address = "[::1]:8080"
tls = false

[[listener]]
address = "192.0.2.1:8080"
tls = false
redirect = "https-301"
redirect_except = ["/health", "/.well-known"]
allow = ["10.0.0.0/8", "2001:db8::/32"]
deny = ["10.0.0.7"]

[[certificate]]
chain = "/etc/a.pem"
key = "/etc/a.key"
default = true

[[certificate]]
names = ["a.example", "*.b.example"]
acme = true

[acme]
accept_terms = true
email = "admin@example.com"
directory = "https://ca.example:14000/directory"
ca = "/etc/acme-ca.pem"
profile = "shortlived"
eab_key_id = "kid-1"
eab_key_file = "/etc/eab.key"
state_directory = "/srv/state"
until_issued = "self-signed"
challenge = "dns-01"
dns_hook = "/usr/local/bin/dns"

[[route]]
host = "*.example.com"
path = "/ws"
case_sensitive = false
ambiguous_paths = "allow"
name = "a \"quoted\" \\ name"
allow = ["192.0.2.0/24"]
deny = ["192.0.2.7", "::/0"]
origins = ["null", "https://chat.example.com:8443", "http://*.example.net"]
backends = [{ address = "a.internal:9001", weight = 3, id = "a" }, "[2001:db8::1]:9002"]
on_backend_loss = "10m"
http = false
tunnels = 70
compression = "pass"
strict = "report"
proxy_protocol = true
forwarded = true
[route.request_headers]
remove = ["X-Debug", "X-Trace"]
set = ["X-Env: prod, \"eu\""]
[route.response_headers]
remove = ["Server"]
set = ["Strict-Transport-Security: max-age=63072000"]
[route.limits]
message_from_client = { max = "3MiB", action = "report" }
message_from_backend = "4MiB"
frame_from_client = "2MiB"
frame_from_backend = { max = "1MiB", action = "report" }
fragments_from_client = { max = 9, action = "report" }
fragments_from_backend = 900
message_age_from_client = { max = "90s", action = "report" }
message_age_from_backend = "61s"
messages_from_client = { rate = "50/s", burst = 60, action = "close" }
messages_from_backend = "70/s"
bytes_from_client = "1MiB/s"
bytes_from_backend = { rate = "1000B/s", burst = "8MiB", action = "report" }
control_frames_from_client = { rate = "9/s", action = "delay" }
control_frames_from_backend = "off"
idle = "off"
lifetime = "26h"
close_grace = "1500ms"
write_timeout = "31s"
min_write_rate = "off"
[route.heartbeat]
interval = "off"
timeout = "11s"
backend_interval = "21s"
backend_timeout = "7s"
proof = "pong"

[[route]]
host = "[2001:db8::7]"
hsts = "180d"
via = "edge-1"
origins = ["*"]
backends = ["b:1"]
on_backend_loss = "drain"
maintenance_file = "/run/tidegate/maintenance"

[server]
workers = 3

[limits]
message_from_client = "off"
frame_from_client = "5MiB"
control_frames_from_client = { rate = "8/s", burst = 9, action = "report" }
idle = "2h"
min_write_rate = "2KiB/s"

[heartbeat]
interval = "40s"
timeout = "12s"
backend_interval = "20s"

[timeouts]
proxy_header = "1s"
tls = "2s"
request_header = "3s"
connect = "4s"
response_header = "6s"
idle = "7m"
min_body_rate = "1KiB/s"

[concurrency]
connections = 500
tunnels = 400
connections_per_client = 30
tunnels_per_client = 29
requests_per_client = 28
pending_memory = "64MiB"

[rates]
connections_per_client = "3/s"
connections_burst = 4
handshakes_per_client = "5/s"
handshakes_burst = 6
requests_per_client = "7/s"
requests_burst = 8

[trusted_proxies]
addresses = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]
address_files = ["cloudflare-v4.txt", "cloudflare-v6.txt"]
header = "forwarded"

[client_key]
ipv4_prefix = 24
ipv6_prefix = 56

[drain]
delay = "5s"
window = "20s"
rate = "500/s"
deadline = "40s"
code = 4000
reason = "back soon"

[error_pages]
403 = "/srv/403.html"
404 = "/srv/404.html"
429 = "/srv/429.html"
502 = "/srv/502.html"
503 = "/srv/503.html"
504 = "/srv/504.html"

[admin]
address = "[::1]:9999"
enabled = true
public = true

[control]
socket = "/run/x/control.sock"

[log]
format = "json"
level = "warn"
redact = ["zebra", "apple"]

[access]
to = "/var/log/access.log"
format = "text"
start = true
records_per_client = "9/s"

[[pool]]
name = "chat"
backends = ["c:1", { address = "d:1", weight = 2, id = "d" }]
on_backend_loss = "10m"
probe = { kind = "websocket", path = "/probe", host = "chat.example.com", headers = ["X-Probe: 1"], subprotocol = "v1", interval = "1m", timeout = "1s", rise = 1, fall = 1 }
[pool.tls]
ca = "/etc/ca.pem"
server_name = "app.internal"
verify_name = "192.0.2.1"
certificate = "/etc/client.pem"
key = "/etc/client.key"

[[pool]]
name = "http"
backends = ["c:1"]

[pool.probe]
kind = "http"
status = [204, "4xx"]

[[route]]
host = "pool.example.com"
origins = ["*"]
pool = "chat"
"#;

/// Writes a listing as a configuration file.
fn written(keys: &[EffectiveKey]) -> String {
    let (mut text, mut last) = (String::new(), String::new());
    for EffectiveKey { key, value, .. } in keys {
        let end = key.rfind(']').map_or_else(|| key.find('.').unwrap(), |end| end + 1);
        let table = &key[..end];
        if table != last {
            let name = without_indices(table).replace("[]", "");
            let [open, close] = if table.ends_with(']') { ["[[", "]]"] } else { ["[", "]"] };
            text.push_str(&format!("{open}{name}{close}\n"));
            last = table.to_owned();
        }
        text.push_str(&format!("{} = {value}\n", &key[end + 1..]));
    }
    text
}

#[test]
fn listing_parses_to_the_same_settings() {
    for text in [EXAMPLE, PLAIN, FULL] {
        let settings = parse(text);
        let keys = effective(&settings);
        let again = parse(&written(&keys));
        assert_eq!(again, settings);
        assert_eq!(changes(&settings, &again), []);
        let values = |keys: Vec<EffectiveKey>| -> Vec<(String, String)> {
            keys.into_iter().map(|key| (key.key, key.value)).collect()
        };
        assert_eq!(values(effective(&again)), values(keys));
    }
}

proptest! {
    #[test]
    fn listing_of_random_values_parses_to_same_settings(
        millis in 1001_u64..100_000_000,
        bytes in 5_u64 << 20..1 << 40,
        number in 1_u32..100_000,
        action in prop::sample::select(vec!["close", "delay", "report"]),
        reason in "[ -~]{0,60}",
    ) {
        let reason = reason.replace(['$', '%', '\\', '"'], "");
        let text = FULL
            .replace("\"2h\"", &format!("\"{}ms\"", millis + 60_000))
            .replace("\"6s\"", &format!("\"{millis}ms\""))
            .replace("\"5MiB\"", &format!("\"{bytes}B\""))
            .replace("burst = 9, action = \"report\"", &format!("burst = {number}, action = \"{action}\""))
            .replace("weight = 3", &format!("weight = {number}"))
            .replace("back soon", &reason);
        let settings = parse(&text);
        prop_assert_eq!(parse(&written(&effective(&settings))), settings);
    }
}

#[test]
fn every_known_key_is_listed() {
    let leaf = |key: &&String| {
        let below = |other: &String| other.starts_with(&format!("{key}."));
        let item = |other: &String| other.starts_with(&format!("{key}[]."));
        !known_keys().iter().any(|other| below(other) || item(other))
    };
    let known: BTreeSet<String> = known_keys().iter().filter(leaf).cloned().collect();
    let pool = "[[pool]]\nname = \"chat\"\nbackends = [\"127.0.0.1:9001\"]\ntls = true\n";
    let acme = "[acme]\naccept_terms = true\n";
    for text in [&format!("{EXAMPLE}{pool}{acme}"), FULL] {
        let listed: BTreeSet<String> =
            effective(&parse(text)).iter().map(|key| without_indices(&key.key)).collect();
        assert_eq!(listed, known);
    }
}

#[test]
fn every_value_has_a_line_or_a_source() {
    let settings = parse(FULL);
    let keys = effective(&settings);
    let at = |key: &str| {
        let found = keys.iter().find(|found| found.key == key).unwrap();
        (found.value.as_str(), found.line, found.from.as_deref())
    };
    let line = |text: &str| {
        let found = FULL.lines().position(|line| line == text);
        Some(found.unwrap_or_else(|| panic!("{text}")) + 1)
    };
    assert_eq!(at("route[0].limits.lifetime"), ("\"26h\"", line("lifetime = \"26h\""), None));
    assert_eq!(at("route[1].limits.idle"), ("\"2h\"", None, Some("limits.idle")));
    assert_eq!(at("route[1].limits.lifetime"), ("\"off\"", None, Some("default")));
    assert_eq!(at("limits.lifetime"), ("\"off\"", None, Some("default")));
    assert_eq!(at("listener[1].name"), ("\"[::1]:8080\"", None, Some("listener[1].address")));
    assert_eq!(at("listener[1].health_path"), ("\"off\"", None, Some("default")));
    // A backend in short form consists of its address.
    let list = line("backends = [\"b:1\"]");
    assert_eq!(at("route[1].backends[0].address"), ("\"b:1\"", list, None));
    let from = Some("route[1].backends[0]");
    assert_eq!(at("route[1].backends[0].id"), ("\"b:1\"", None, from));
    assert_eq!(at("access.format"), ("\"text\"", line("format = \"text\""), None));
    let short = effective(&parse(&format!("{PLAIN}[concurrency]\nconnections = 100\n")));
    let client = short.iter().find(|key| key.key == "concurrency.connections_per_client").unwrap();
    assert_eq!(
        (client.value.as_str(), client.from.as_deref()),
        ("100", Some("concurrency.connections"))
    );
}

#[test]
fn disabled_features_keep_their_written_values() {
    let text = "[heartbeat]\ninterval = \"off\"\ntimeout = \"77s\"\nproof = \"pong\"\n\
                [admin]\nenabled = false\naddress = \"127.0.0.1:1\"\n";
    let keys = effective(&parse(&format!("{PLAIN}{text}")));
    let value = |key: &str| keys.iter().find(|found| found.key == key).unwrap().value.clone();
    assert_eq!(value("heartbeat.timeout"), "\"77s\"");
    assert_eq!(value("route[0].heartbeat.timeout"), "\"77s\"");
    assert_eq!(value("route[0].heartbeat.proof"), "\"pong\"");
    assert_eq!(
        (value("admin.enabled").as_str(), value("admin.address").as_str()),
        ("false", "\"127.0.0.1:1\"")
    );
}

// Requirements: AD10.
#[test]
fn listing_and_diff_redact_credentials() {
    let with = |secret: &str| {
        parse(&format!(
            "# {secret} in a comment\n{PLAIN}[route.request_headers]\n\
             set = [\"Authorization: Basic {secret}\", \"X-Api-Key: {secret}\", \"X-Env: prod\"]\n\
             [route.response_headers]\nset = [\"Set-Cookie: {secret}\"]\n"
        ))
    };
    let (one, other) = (with("hunter2"), with("hunter3"));
    let shown = format!("{:?} {:?} {:?}", effective(&one), changes(&one, &other), one.source_map);
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(shown.contains("authorization: (hidden)") && shown.contains("x-env: prod"));
    let keys: Vec<String> = changes(&one, &other)
        .into_iter()
        .flat_map(|change| change.keys)
        .map(|key| key.key)
        .collect();
    assert_eq!(keys, ["route[0].request_headers.set", "route[0].response_headers.set"]);
}
