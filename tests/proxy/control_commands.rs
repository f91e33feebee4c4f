//! The commands of the control socket and their effects.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::control::{CONTROL, next_line, select};
use crate::support::{
    MockBackend, Proxy, TestBed, assert_relays, route, wait_until_client_data_processed, wire,
};
use tokio::io::AsyncWriteExt;

async fn bed() -> TestBed {
    TestBed::with(CONTROL).await
}

#[tokio::test]
async fn sessions_are_listed_and_selected() {
    let bed = bed().await;
    let _first = bed.open_from([127, 0, 9, 1]).await;
    let _second = bed.open_from([127, 0, 9, 2]).await;
    let mut third = bed.open_secure().await;
    third.0.write_all(&wire::masked(0x82, b"hello")).await.unwrap();
    wire::read(&mut third.1).await.unwrap();
    let all = bed.proxy.command(json!({"command": "sessions", "selection": {}})).await;
    let numbers = |of: &Value| -> Vec<u64> {
        let rows = of["sessions"].as_array().unwrap();
        rows.iter().map(|row| row["session"].as_u64().unwrap()).collect()
    };
    assert_eq!((numbers(&all), &all["open"]), (vec![1, 2, 3], &3.into()));
    let row = &all["sessions"][0];
    assert_eq!((&row["client"], &row["route"]), (&"127.0.9.1".into(), &"all".into()));
    assert_eq!((&row["listener"], &row["closing"]), (&"plain".into(), &false.into()));
    assert_eq!(row["backend"], bed.backend.address().to_string());
    for (choice, expected) in [
        (select("client", "127.0.9.2"), vec![2]),
        (select("route", "all"), vec![1, 2, 3]),
        (select("backend", bed.backend.address().to_string()), vec![1, 2, 3]),
        (select("sessions", json!([3, 1, 3])), vec![1, 3]),
        (select("older_ms", 3_600_000), vec![]),
    ] {
        let some = bed.proxy.command(json!({"command": "sessions", "selection": choice})).await;
        assert_eq!(numbers(&some), expected, "{choice}");
    }
    for (choice, kind) in [
        (select("route", "nowhere"), "not_found"),
        (select("backend", "missing"), "not_found"),
        (select("sessions", json!([4])), "not_found"),
        (select("client", "not-an-address"), "bad_request"),
        (select("client", "127.0.0.0/8"), "bad_request"),
        (select("clients", "127.0.0.1"), "bad_request"),
    ] {
        let received =
            bed.proxy.command_error(json!({"command": "sessions", "selection": choice})).await;
        assert_eq!(received.0, kind, "{choice}: {}", received.1);
    }
    let detail = bed.proxy.command(json!({"command": "session", "session": 3})).await;
    assert_eq!((&detail["up_messages"], &detail["generation"]), (&1.into(), &1.into()));
    assert!(detail["tls"].as_str().unwrap().starts_with("1.3 TLS_"), "{detail}");
    assert_eq!(
        (&detail["client_source"], &detail["host"]),
        (&"socket".into(), &"localhost".into())
    );
}

#[tokio::test]
async fn kill_closes_selected_sessions_with_a_reason() {
    let bed = bed().await;
    let (mut client, mut backend) = bed.open_from([127, 0, 9, 1]).await;
    let (mut other, mut others_backend) = bed.open_from([127, 0, 9, 2]).await;
    let close = json!({"code": 4003, "reason": "banned"});
    let kill = json!({"command": "kill", "selection": select("client", "127.0.9.1"), "all": false, "close": close});
    assert_eq!(bed.proxy.command(kill).await["sessions"], 1);
    let received = wire::read_past_pings(&mut client).await.unwrap();
    assert_eq!((received.code(), &received.payload[2..]), (4003, &b"banned"[..]));
    let received = wire::read(&mut backend).await.unwrap();
    assert_eq!((received.code(), received.masked), (1001, true));
    drop((client, backend));
    let end = bed.tunnel_end(1).await;
    assert_eq!((&end["end"], &end["close_client"]), (&"killed".into(), &4003.into()));
    assert_relays(&mut other, &mut others_backend).await;
    // Without a reason from the operator, the code is 1008 (policy violation).
    let kill = json!({"command": "kill", "selection": select("sessions", json!([2])), "all": false, "close": {}});
    bed.proxy.command(kill).await;
    assert_eq!(wire::read_past_pings(&mut other).await.unwrap().code(), 1008);
}

// Requirements: AD08.
#[tokio::test]
async fn kill_needs_a_session_or_all() {
    let bed = bed().await;
    let (mut client, mut backend) = bed.open().await;
    let unknown = json!({"command": "kill", "selection": select("sessions", json!([1, 77])), "all": false, "close": {}});
    assert_eq!(bed.proxy.command_error(unknown).await.0, "not_found");
    let empty_selection = json!({"command": "kill", "selection": {}, "all": false, "close": {}});
    assert_eq!(bed.proxy.command_error(empty_selection).await.0, "bad_request");
    assert_relays(&mut client, &mut backend).await;
    let all = json!({"command": "kill", "selection": {}, "all": true, "close": {}});
    assert_eq!(bed.proxy.command(all).await["sessions"], 1);
    assert_eq!(wire::read_past_pings(&mut client).await.unwrap().code(), 1008);
}

#[tokio::test]
async fn kill_rejects_invalid_codes_and_long_reasons() {
    let bed = bed().await;
    let (mut client, mut backend) = bed.open().await;
    for close in [json!({"code": 1005}), json!({"code": 1014}), json!({"reason": "x".repeat(124)})]
    {
        let invalid = json!({"command": "kill", "selection": {}, "all": true, "close": close});
        assert_eq!(bed.proxy.command_error(invalid).await.0, "bad_request");
    }
    assert_relays(&mut client, &mut backend).await;
}

#[tokio::test]
async fn tail_shows_frame_headers_until_the_tunnel_ends() {
    let bed = bed().await;
    let (mut client, mut backend) = bed.open().await;
    let first = wire::masked(0x82, &[7; 300]);
    client.write_all(&first[..100]).await.unwrap();
    // The message is in progress when the tail starts.
    let mut some = [0; 60];
    tokio::io::AsyncReadExt::read_exact(&mut backend, &mut some).await.unwrap();
    let mut tail = bed.proxy.send_line(b"{\"command\":\"tail\",\"session\":1}").await;
    let until_seen = async {
        loop {
            backend.write_all(&wire::unmasked(0x8a, b"")).await.unwrap();
            if let Ok(line) =
                tokio::time::timeout(std::time::Duration::from_millis(50), next_line(&mut tail))
                    .await
            {
                break line.unwrap();
            }
        }
    };
    let pong = crate::support::within_timeout("the tail to begin", until_seen).await;
    assert_eq!((&pong["ok"]["opcode"], &pong["ok"]["from"]), (&"pong".into(), &"backend".into()));
    client.write_all(&first[100..]).await.unwrap();
    client.write_all(&wire::masked(0x01, b"in ")).await.unwrap();
    client.write_all(&wire::masked(0x80, b"two")).await.unwrap();
    client.write_all(&wire::masked(0x88, &1000u16.to_be_bytes())).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let frame = next_line(&mut tail).await.unwrap()["ok"].clone();
        if frame["opcode"] != "pong" {
            seen.push(frame);
        }
    }
    let shown =
        |frame: &Value| (frame["opcode"].clone(), frame["fin"].clone(), frame["length"].clone());
    assert_eq!(shown(&seen[0]), ("text".into(), false.into(), 3.into()));
    assert_eq!(shown(&seen[1]), ("continuation".into(), true.into(), 3.into()));
    assert_eq!((&seen[2]["opcode"], &seen[2]["code"]), (&"close".into(), &1000.into()));
    assert!(!seen.iter().any(|frame| frame.to_string().contains("two")), "no payload is shown");
    backend.write_all(&wire::unmasked(0x88, &1000u16.to_be_bytes())).await.unwrap();
    drop((client, backend));
    while next_line(&mut tail).await.is_some() {}
    let gone = bed.proxy.command_error(json!({"command": "tail", "session": 1})).await;
    assert_eq!(gone.0, "not_found");
}

#[tokio::test]
async fn unread_tail_does_not_slow_the_tunnel() {
    let bed = bed().await;
    let (mut client, mut backend) = bed.open().await;
    let tail = bed.proxy.send_line(b"{\"command\":\"tail\",\"session\":1}").await;
    wait_until_client_data_processed(&mut client, &mut backend).await;
    let many = wire::masked(0x82, b"x").repeat(20_000);
    let sink = async {
        let mut left = 20_000 * 7;
        let mut some = vec![0; 65536];
        while left > 0 {
            left -= tokio::io::AsyncReadExt::read(&mut backend, &mut some).await.unwrap();
        }
    };
    crate::support::within_timeout("all messages", async {
        let (sent, ()) = tokio::join!(client.write_all(&many), sink);
        sent.unwrap();
    })
    .await;
    drop(tail);
    assert_relays(&mut client, &mut backend).await;
}

#[tokio::test]
async fn explain_names_the_deciding_check() {
    let mock = MockBackend::new().await;
    let routes = format!(
        "[[route]]\nname = \"chat\"\nhost = \"chat.example.com\"\norigins = [\"same-origin\"]\n\
         backends = [\"{}\"]\n{CONTROL}",
        mock.address()
    );
    let proxy = Proxy::start(&routes).await;
    let explain = |url: &str, origin: Option<&str>| json!({"command": "explain", "url": url, "origin": origin, "address": "198.51.100.7"});
    let good = explain("wss://chat.example.com/ws", Some("https://chat.example.com"));
    let received = proxy.command(good.clone()).await;
    assert_eq!(received["admitted"], true, "{received:#}");
    // No listener is on port 443.
    assert_eq!(received["steps"][0]["assumption"], "another proxy forwards port 443");
    let steps = received["steps"].to_string();
    for part in ["198.51.100.7", "\\\"chat\\\"", &mock.address().to_string(), "limits.idle = 1h"] {
        assert!(steps.contains(part), "{part}: {steps}");
    }
    for (url, origin, status, reason, last) in [
        ("wss://chat.example.com/", Some("https://evil.example"), 403, "origin", "origin"),
        ("wss://chat.example.com/", None, 403, "origin", "origin"),
        ("ws://chat.example.com/", Some("https://chat.example.com"), 403, "origin", "origin"),
        ("wss://other.example.com/", None, 404, "no_route", "route"),
    ] {
        let received = proxy.command(explain(url, origin)).await;
        assert_eq!(
            (&received["status"], &received["reason"]),
            (&status.into(), &reason.into()),
            "{url}"
        );
        let steps = received["steps"].as_array().unwrap();
        assert_eq!(
            (&steps.last().unwrap()["check"], &received["admitted"]),
            (&last.into(), &false.into())
        );
    }
    for url in ["chat.example.com", "ftp://chat.example.com/", "wss:///", "wss://a b/", ""] {
        assert_eq!(proxy.command_error(explain(url, None)).await.0, "bad_request", "{url}");
    }
    let drain = json!({"command": "drain", "selection": select("route", "chat"), "all": false, "pacing": {}, "close": {}, "wait": true});
    proxy.command(drain).await;
    assert_eq!(proxy.command(good).await["reason"], "draining");
}

#[tokio::test]
async fn weight_applies_until_the_file_changes() {
    let (one, two) = (MockBackend::new().await, MockBackend::new().await);
    let proxy =
        Proxy::start(&format!("{}{CONTROL}", route(&[one.address(), two.address()], ""))).await;
    let explain = |address: &'static str| json!({"command": "explain", "url": "ws://localhost/", "address": address, "origin": null});
    let first = |received: &Value| {
        let steps = received["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["check"] == "backend").unwrap();
        step["result"].as_str().unwrap().split(' ').next().unwrap().to_owned()
    };
    let id = one.address().to_string();
    let set_weight = |weight: Option<u32>| json!({"command": "weight", "backend": id, "route": null, "weight": weight});
    assert_eq!(
        proxy.command(set_weight(Some(1_000_000))).await,
        json!({"routes": 1, "weight": 1_000_000})
    );
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"] {
        assert_eq!(first(&proxy.command(explain(address)).await), id);
    }
    assert_eq!(proxy.command(set_weight(None)).await["weight"], 1);
    assert_eq!(proxy.command_error(set_weight(Some(0))).await.0, "bad_request");
    let unknown = json!({"command": "weight", "backend": "missing", "route": null, "weight": 2});
    assert_eq!(proxy.command_error(unknown).await.0, "not_found");
}

#[tokio::test]
async fn reload_waits_and_returns_errors() {
    let bed = bed().await;
    let (mut client, mut backend) = bed.open().await;
    assert_eq!(bed.proxy.command(json!({"command": "reload"})).await["generation"], 2);
    let config = bed.proxy.config();
    bed.proxy.rewrite(&config.replace("[\"*\"]", "[]"));
    let response = bed.proxy.send_line_and_read(b"{\"command\":\"reload\"}").await;
    let response: Value = serde_json::from_str(&response).unwrap();
    assert_eq!(response["error"]["kind"], "rejected");
    assert!(response["error"]["errors"][0].as_str().unwrap().contains("origins"), "{response}");
    assert_relays(&mut client, &mut backend).await;
}

// Requirements: SR17.
#[tokio::test]
async fn reload_during_shutdown_is_rejected() {
    let mut bed =
        TestBed::with(&format!("[drain]\nwindow = \"10m\"\ndeadline = \"20m\"\n{CONTROL}")).await;
    let tunnel = bed.open().await;
    bed.proxy.signal(Signal::TERM);
    bed.proxy.record("draining", |r| r["message"].to_string().contains("draining")).await;
    let received = bed.proxy.command_error(json!({"command": "reload"})).await;
    assert_eq!(received, ("rejected".into(), "the process is shutting down".into()));
    drop(tunnel);
    assert_eq!(bed.proxy.exit().await, Some(0));
}
