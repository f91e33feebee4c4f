//! What a reload reports: changed keys, how many tunnels they concern, and what happens to those.

use std::process::Command;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{Client, MockBackend, Proxy, Record, TestBed, assert_relays, close_normally};

/// Two routes: `chat` with two backends, and `rest`, which stays unused.
fn two_routes(chat: &MockBackend, rest: &MockBackend) -> String {
    let (chat, rest) = (chat.address(), rest.address());
    format!(
        "[[route]]\nname = \"chat\"\nhost = \"*\"\npath = \"/ws\"\norigins = [\"*\"]\n\
         backends = [{{ address = \"{chat}\", id = \"one\" }}]\n\
         [[route]]\nname = \"rest\"\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"{rest}\"]\n\
         [limits]\nidle = \"1h\"\n#more\n"
    )
}

#[tokio::test]
async fn changed_keys_and_tunnels_are_counted() {
    let (chat, rest) = (MockBackend::new().await, MockBackend::new().await);
    let proxy = Proxy::start(&two_routes(&chat, &rest)).await;
    let client = Client::new(&proxy).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push((client.raw_tunnel().await, chat.accept().await));
    }
    let address = rest.address();
    let config = proxy
        .config()
        .replace("id = \"one\" }", &format!("id = \"one\" }}, \"{address}\""))
        .replace("path = \"/ws\"\n", "path = \"/ws\"\nhttp = false\n")
        .replace("\"1h\"", "\"2h\"")
        .replace("name = \"plain\"", "name = \"open\"")
        .replace("#more", "[server]\nworkers = 2\n[concurrency]\ntunnels_per_client = 9");
    proxy.rewrite(&config);
    let record = proxy.reload().await;
    assert_eq!(
        record["changed"],
        format!(
            "listeners: open changed (name); routes: chat changed (http); \
             backends: {address} of chat added; server: workers; limits: idle; \
             concurrency: tunnels_per_client"
        )
    );
    let restart = |r: &Record| r["key"] == "server.workers";
    assert_eq!(proxy.record("a restart", restart).await["level"], "WARN");

    let reported = |status: &Value| !status["reload"].is_null();
    let status = proxy.status("the reload", reported).await;
    let changes = status["reload"]["changes"].as_array().unwrap();
    assert_eq!(status["reload"]["changed"], record["changed"]);
    assert_eq!(status["reload"]["changes_total"], changes.len());
    let tunnels: Vec<(&str, u64)> = changes
        .iter()
        .map(|change| (change["section"].as_str().unwrap(), change["tunnels"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        tunnels,
        [
            ("listener", 3),
            ("route", 3),
            ("backend", 0),
            ("server", 0),
            ("limits", 3),
            ("concurrency", 0)
        ]
    );
    let idle = json!({ "key": "limits.idle", "before": "\"1h\"", "after": "\"2h\"" });
    assert_eq!(changes[4]["keys"], json!([idle]));
    assert!(changes[4]["effect"].as_str().unwrap().contains("tunnels keep the old value"));
    for (client, backend) in &mut open {
        assert_relays(client, backend).await;
    }

    // The previous configuration again: the removed backend has no tunnel.
    let back = two_routes(&chat, &rest);
    proxy.rewrite(&format!("{}{back}", crate::support::BASE));
    let record = proxy.reload().await;
    assert!(record["changed"].as_str().unwrap().contains("of chat removed"), "{record}");
    let gone = |status: &Value| status["generation"] == 3;
    let status = proxy.status("the next", gone).await;
    let removed = &status["reload"]["changes"][2];
    assert_eq!((&removed["action"], &removed["tunnels"]), (&"removed".into(), &0.into()));
    assert!(removed["effect"].as_str().unwrap().contains("its tunnels stay open"), "{removed}");
}

#[tokio::test]
async fn added_route_is_reported_with_its_backends() {
    let bed = TestBed::with("").await;
    let route = "[[route]]\nname = \"new\"\nhost = \"new.example\"\norigins = [\"*\"]\n\
                 backends = [\"127.0.0.1:9001\", { address = \"127.0.0.1:9002\", id = \"b\" }]\n";
    let config = bed.proxy.config();
    bed.proxy.rewrite(&format!("{config}{route}"));
    let record = bed.proxy.reload().await;
    let changed = "routes: new added; backends: 127.0.0.1:9001 of new added, b of new added";
    assert_eq!(record["changed"], changed);
    bed.proxy.rewrite(&config);
    let record = bed.proxy.reload().await;
    assert_eq!(record["changed"], changed.replace("added", "removed"));
}

// Requirements: CF19.
#[tokio::test]
async fn active_file_is_identified_by_its_hash() {
    let bed = TestBed::with("").await;
    let hash = || {
        let file = bed.proxy.folder().join("proxy.toml");
        let output = Command::new("sha256sum").arg(file).output().unwrap();
        String::from_utf8(output.stdout).unwrap()[..12].to_owned()
    };
    let first = hash();
    let serving = |r: &Record| r["message"] == "serving";
    assert_eq!(bed.proxy.record("serving", serving).await["config_sha256"], first);
    bed.proxy.rewrite(&format!("{}# another\n", bed.proxy.config()));
    let record = bed.proxy.reload().await;
    assert_ne!(hash(), first);
    assert_eq!(record["config_sha256"], hash());
    assert!(record["changed"].as_str().unwrap().starts_with("no changes in the file"), "{record}");
}

#[tokio::test]
async fn log_level_follows_the_file() {
    let bed = TestBed::with("").await;
    // A lost connection is logged at debug.
    let leave = async |times: u64| {
        drop(TcpStream::connect(bed.proxy.address("plain").await).await.unwrap());
        bed.proxy.status("a drop", |status| status["connections_dropped"] == times).await;
    };
    let gone = |r: &Record| r["event"] == "dropped" || r["end"] == "client_disconnected";
    let count = || bed.proxy.records().iter().filter(|r| gone(r)).count();
    // A reload is logged before it raises the log level.
    let is_now = async |level: &str| {
        let reported = |status: &Value| {
            status["reload"]["changes"][0]["keys"][0]["after"] == format!("\"{level}\"")
        };
        bed.proxy.status(level, reported).await;
    };
    leave(1).await;
    bed.proxy.nth_record("gone", 1, gone).await;
    assert_eq!(count(), 1);

    bed.proxy.reload_with("level = \"debug\"", "level = \"error\"").await;
    is_now("error").await;
    leave(2).await;
    // This reload is not logged either; it lowers the level again.
    let config = bed.proxy.config();
    bed.proxy.rewrite(&config.replace("level = \"error\"", "level = \"debug\""));
    bed.proxy.signal(rustix::process::Signal::HUP);
    is_now("debug").await;
    let reloads = bed.proxy.records();
    let applied =
        |r: &&Record| r["message"].as_str().is_some_and(|text| text.starts_with("reloaded"));
    assert_eq!(reloads.iter().filter(applied).count(), 1);
    leave(3).await;
    bed.proxy.nth_record("gone again", 2, gone).await;
    assert_eq!(count(), 2);
    let (client, backend) = bed.open().await;
    close_normally(client, backend).await;
}

// Requirements: AD10.
#[tokio::test]
async fn credentials_are_never_shown() {
    let bed =
        TestBed::with("[route.request_headers]\nset = [\"Authorization: Basic aHVudGVyMg\"]\n")
            .await;
    let (client, backend) = bed.open().await;
    let record = bed.proxy.reload_with("aHVudGVyMg", "aHVudGVyMw").await;
    assert_eq!(record["changed"], "routes: all changed (request_headers.set)");
    let reported = |status: &Value| !status["reload"].is_null();
    let status = bed.proxy.status("the reload", reported).await;
    let keys = &status["reload"]["changes"][0]["keys"][0];
    assert_eq!(keys["after"], "[\"authorization: (hidden)\"]");
    close_normally(client, backend).await;
    bed.tunnel_end(1).await;
    let all = format!("{:?}{status}", bed.proxy.records());
    assert!(!all.contains("aHVudGVy"), "{all}");
}
