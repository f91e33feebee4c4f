//! `[pool.probe]`, and what a lost backend of a pool means.

use super::*;
use crate::config::settings::pool::OnBackendLoss;
use crate::config::settings::probe::{ProbeKind, ProbeSettings};

/// [`PLAIN`] with a pool that is probed with these keys.
fn probed(keys: &str) -> String {
    let route = PLAIN.replace("backends = [\"127.0.0.1:9001\"]", "pool = \"chat\"");
    let pool = "[[pool]]\nname = \"chat\"\nbackends = [\"127.0.0.1:9001\"]\n";
    format!("{route}{pool}[pool.probe]\n{keys}\n")
}

fn probe(keys: &str) -> Option<ProbeSettings> {
    parse(&probed(keys)).routes[0].pool.probe.clone()
}

/// The errors of these keys.
fn faults(keys: &str) -> String {
    errors(&probed(keys)).join("; ").replace("pool[0].probe.", "")
}

#[test]
fn probes_have_defaults() {
    assert_eq!((probe(""), probe("kind = \"off\"")), (None, None));
    let tcp = probe("kind = \"tcp\"").unwrap();
    assert_eq!((tcp.interval.as_secs(), tcp.timeout.as_secs()), (10, 2));
    assert_eq!((tcp.kind, tcp.rise.get(), tcp.fall.get()), (ProbeKind::Tcp, 2, 3));
    let fast = probe("kind = \"tcp\"\ninterval = \"1s\"").unwrap();
    assert_eq!(fast.timeout, fast.interval, "a probe ends before the next one");
    let Some(ProbeKind::Http(request, statuses)) = probe("kind = \"http\"").map(|of| of.kind)
    else {
        panic!("http")
    };
    assert_eq!((request.target.to_string().as_str(), request.host), ("/", None));
    assert_eq!(statuses, [200..=299, 300..=399]);
    let websocket = probe("kind = \"websocket\"\nsubprotocol = \"off\"").unwrap();
    assert!(matches!(websocket.kind, ProbeKind::WebSocket(_, None)));
}

#[test]
fn every_key_of_a_probe_is_read() {
    let http = probe(
        "kind = \"http\"\npath = \"/healthz?deep=1\"\nhost = \"chat.example.com:80\"\nheaders = [\"A: b\"]\n\
         status = [204, \"4xx\", \"503\"]\ninterval = \"10s\"\ntimeout = \"10s\"\nrise = 1\nfall = 100",
    );
    let http = http.unwrap();
    assert_eq!((http.interval, http.timeout), (Duration::from_secs(10), Duration::from_secs(10)));
    assert_eq!((http.rise.get(), http.fall.get()), (1, 100));
    let ProbeKind::Http(request, statuses) = http.kind else { panic!("http") };
    assert_eq!(request.target.to_string(), "/healthz?deep=1");
    assert_eq!(request.host.unwrap(), "chat.example.com:80");
    assert_eq!((request.headers[0].0.as_str(), request.headers[0].1.as_bytes()), ("a", &b"b"[..]));
    assert_eq!(statuses, [204..=204, 400..=499, 503..=503]);
    let websocket = probe("kind = \"websocket\"\nsubprotocol = \"v1\"").unwrap();
    assert!(matches!(websocket.kind, ProbeKind::WebSocket(_, Some(name)) if name == "v1"));
}

#[test]
fn invalid_values_of_probes_are_reported() {
    for (keys, expected) in [
        (
            "kind = \"ws\"",
            "kind: expected \"off\", \"tcp\", \"http\" or \"websocket\", found \"ws\" (did you mean \"websocket\"?)",
        ),
        (
            "kind = \"htpp\"",
            "kind: expected \"off\", \"tcp\", \"http\" or \"websocket\", found \"htpp\" (did you mean \"http\"?)",
        ),
        (
            "kind = \"http\"\npath = \"healthz\"",
            "path: \"healthz\" does not start with / (write \"/healthz\")",
        ),
        (
            "kind = \"http\"\npath = \"/a?b c\"",
            "path: \"/a?b c\" cannot be requested (write path and query, percent-encoded, such as \"/healthz?deep=1\")",
        ),
        (
            "kind = \"http\"\nhost = \"http://a\"",
            "host: \"http://a\" is not a host (write a name with an optional port, such as \"chat.example.com\")",
        ),
        (
            "kind = \"http\"\nheaders = [\"Host: a\"]",
            "headers[0]: host cannot be changed: it selects the route and is passed on as the client sent it \
             (remove it from this list)",
        ),
        (
            "kind = \"http\"\nheaders = [\"A: 1\", \"a: 2\"]",
            "headers[1]: a is already listed in headers[0] (list a field once)",
        ),
        (
            "kind = \"http\"\nstatus = [101]",
            "status[0]: 101 is no status code of a response (write 200 to 599, or a class such as \"2xx\")",
        ),
        (
            "kind = \"http\"\nstatus = []",
            "status: the list is empty, so every probe would fail (write status = [\"2xx\"])",
        ),
        (
            "kind = \"websocket\"\nsubprotocol = \"a, b\"",
            "subprotocol: \"a, b\" is not the name of a subprotocol (write one name such as \
             \"graphql-transport-ws\")",
        ),
        (
            "kind = \"tcp\"\ninterval = \"500ms\"",
            "interval: backends would be probed more than once a second (the minimum is \"1s\")",
        ),
        (
            "kind = \"tcp\"\ntimeout = \"20s\"",
            "timeout: 20s is longer than the interval, 10s (a backend has one probe at a time: write at most \
             the interval)",
        ),
        ("kind = \"tcp\"\nrise = 0", "rise: 0 probes in a row are out of range (write 1 to 100)"),
        ("kind = \"tcp\"\nfalls = 3", "falls: unknown key (did you mean \"fall\"?)"),
    ] {
        assert_eq!(faults(keys), expected, "{keys}");
    }
    let shown = rendered(&probed("kind = \"tcp\"\ntimeout = \"20s\""));
    assert!(shown.contains("timeout = \"20s\"") && shown.contains(" ^^^^^\n"), "{shown}");
}

#[test]
fn keys_without_effect_are_reported() {
    let with_kind = |kind: &str, key: &str| faults(&format!("{kind}\n{key}"));
    let off = "without a kind, the backends are not probed (write kind";
    for (kind, key, expected) in [
        ("", "interval = \"1m\"", format!("interval: {off} = \"tcp\", \"http\" or \"websocket\")")),
        (
            "",
            "subprotocol = \"v1\"",
            format!("subprotocol: {off} = \"websocket\", or remove this key)"),
        ),
        (
            "kind = \"tcp\"",
            "path = \"/a\"",
            "path: a TCP probe sends no request (write kind = \"http\" or \"websocket\", or remove this key)"
                .to_owned(),
        ),
        (
            "kind = \"tcp\"",
            "status = [200]",
            "status: a TCP probe sends no request (write kind = \"http\", or remove this key)".to_owned(),
        ),
        (
            "kind = \"http\"",
            "subprotocol = \"v1\"",
            "subprotocol: an HTTP probe opens no WebSocket (write kind = \"websocket\", or remove this key)"
                .to_owned(),
        ),
        (
            "kind = \"websocket\"",
            "status = [200]",
            "status: a WebSocket probe expects a 101 (remove this key)".to_owned(),
        ),
    ] {
        assert_eq!(with_kind(kind, key), expected);
    }
}

#[test]
fn pool_decides_about_lost_backends_unless_the_route_does() {
    let text = probed("").replace("[pool.probe]", "on_backend_loss = \"drain\"");
    assert_eq!(parse(&text).routes[0].on_backend_loss, OnBackendLoss::Drain);
    let own = text.replace("pool = \"chat\"", "pool = \"chat\"\non_backend_loss = \"keep\"");
    assert_eq!(parse(&own).routes[0].on_backend_loss, OnBackendLoss::Keep);
    let listed = crate::config::explain::listing::effective(&parse(&text));
    let key = listed.iter().find(|key| key.key == "route[0].on_backend_loss").unwrap();
    assert_eq!((&*key.value, key.from.as_deref()), ("\"drain\"", Some("pool[0].on_backend_loss")));
}
