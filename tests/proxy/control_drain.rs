//! Drains of some sessions, and full drains without an end of the process.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::control::{CONTROL, select};
use crate::support::{
    BASE, Backend, Client, MockBackend, Proxy, ServiceManager, TestBed, answer_close,
    assert_relays, get, route, switching_protocols, upgrade, within_timeout,
};

const DRAIN: &str = "[drain]\nwindow = \"100ms\"\ndeadline = \"10s\"\n";

fn drain(of: Value, all: bool) -> Value {
    json!({"command": "drain", "selection": of, "all": all, "pacing": {}, "close": {}, "wait": true})
}

fn undrain(place: Value) -> Value {
    json!({"command": "undrain", "scope": place})
}

#[tokio::test]
async fn drained_backend_sends_clients_to_others() {
    let (one, two) = (MockBackend::new().await, MockBackend::new().await);
    let backends = [one.address(), two.address()];
    let proxy = Proxy::start(&format!("{}{DRAIN}{CONTROL}", route(&backends, ""))).await;
    let client = Client::new(&proxy).await;
    // Clients of both backends.
    let (mut of_one, mut of_two) = (Vec::new(), Vec::new());
    for n in 0..12 {
        let tunnel = upgrade(client.connect_plain_from([127, 0, 3, n]).await).await;
        let backend = tokio::select! {
            backend = one.accept() => Ok(backend),
            backend = two.accept() => Err(backend),
        };
        match backend {
            Ok(backend) => of_one.push((tunnel, backend)),
            Err(backend) => of_two.push((tunnel, backend)),
        }
    }
    assert!(!of_one.is_empty() && !of_two.is_empty());
    let leaving = of_one.len();
    let closed = async {
        for (client, backend) in of_one {
            assert_eq!(answer_close(client, backend).await, (1012, "the service restarts".into()));
        }
    };
    let id = one.address().to_string();
    let order = proxy.command(drain(select("backend", id.clone()), false));
    let (done, ()) = tokio::join!(order, closed);
    assert_eq!((&done["sessions"], &done["aborted"]), (&leaving.into(), &0.into()), "{done}");
    assert_eq!(
        (&done["new_tunnels"], &done["rejecting_routes"]),
        (&"elsewhere".into(), &json!([]))
    );
    for (client, backend) in &mut of_two {
        assert_relays(client, backend).await;
    }
    for n in 0..12 {
        upgrade(client.connect_plain_from([127, 0, 3, n]).await).await;
        two.accept().await;
    }
    proxy.command(undrain(json!({"backend": id}))).await;
    // What is not drained needs no change.
    proxy.command(undrain(json!({"backend": id}))).await;
    proxy.command(undrain(json!("all"))).await;
    assert_eq!(proxy.command_error(undrain(json!({"backend": "missing"}))).await.0, "not_found");
    let mut back = false;
    for n in 0..12 {
        upgrade(client.connect_plain_from([127, 0, 3, n]).await).await;
        back |= tokio::select! { _ = one.accept() => true, _ = two.accept() => false };
    }
    assert!(back, "its clients come back");
}

#[tokio::test]
async fn full_drain_can_be_undone() {
    let bed = TestBed::with(&format!("{DRAIN}{CONTROL}")).await;
    let (client, backend) = bed.open().await;
    let order = bed.proxy.command(drain(json!({}), true));
    let (done, closed) = tokio::join!(order, answer_close(client, backend));
    assert_eq!((&done["sessions"], &done["aborted"]), (&1.into(), &0.into()));
    assert_eq!(closed.0, 1012);
    let refused = bed.client.request(crate::support::HANDSHAKE.as_bytes()).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let admin = bed.proxy.admin().await;
    let (response, body) = get(admin, "/readyz").await;
    assert_eq!((response.status, &body[..]), (503, &b"unready: everything is drained\n"[..]));
    assert_eq!(get(admin, "/healthz").await.0.status, 200);
    // A drain survives a reload.
    bed.proxy.reload().await;
    assert_eq!(get(admin, "/readyz").await.0.status, 503);
    bed.proxy.command(undrain(json!("all"))).await;
    assert_eq!(get(admin, "/readyz").await.0.status, 200);
    let (mut client, mut backend) = bed.open().await;
    assert_relays(&mut client, &mut backend).await;
    assert_eq!(bed.proxy.command_error(drain(json!({}), false)).await.0, "bad_request");
    assert_relays(&mut client, &mut backend).await;
}

#[tokio::test]
async fn drained_route_answers_503_others_serve() {
    let (one, two) = (MockBackend::new().await, MockBackend::new().await);
    let other = format!(
        "[[route]]\nname = \"game\"\nhost = \"*\"\npath = \"/game\"\norigins = [\"*\"]\nbackends = [\"{}\"]\n",
        two.address()
    );
    let text = format!("{}{other}{DRAIN}{CONTROL}", route(&[one.address()], ""));
    let proxy = Proxy::start(&text).await;
    let client = Client::new(&proxy).await;
    proxy.command(drain(select("route", "game"), false)).await;
    let game = crate::support::HANDSHAKE.replacen("GET /", "GET /game/", 1);
    assert_eq!(client.request(game.as_bytes()).await.status, 503);
    upgrade(client.connect_plain().await).await;
    proxy.reload().await;
    assert_eq!(client.request(game.as_bytes()).await.status, 503, "a reload does not forget");
    proxy.command(undrain(json!({"route": "game"}))).await;
    assert_eq!(client.request(game.as_bytes()).await.status, 101);
    assert_eq!(proxy.command_error(undrain(json!({"route": "nowhere"}))).await.0, "not_found");
}

#[tokio::test]
async fn record_says_what_undoes_the_drain() {
    let backends = ["127.0.0.1:1", "127.0.0.1:2"];
    let addresses = backends.map(|address| address.parse().unwrap());
    let proxy = Proxy::start(&format!("{}{DRAIN}{CONTROL}", route(&addresses, ""))).await;
    let client = Client::new(&proxy).await;
    let of_backends = backends.map(|id| drain(select("backend", id), false));
    for (number, (orders, subject, scope)) in [
        (&of_backends[..], "every backend of route all", "--backend 127.0.0.1:1"),
        (&[drain(select("route", "all"), false)], "route all", "--route all"),
        (&[drain(json!({}), true)], "everything", "--all"),
    ]
    .into_iter()
    .enumerate()
    {
        for order in orders {
            proxy.command(order.clone()).await;
        }
        assert_eq!(client.request(crate::support::HANDSHAKE.as_bytes()).await.status, 503);
        let record = proxy.nth_end_record(number + 1).await;
        let detail = format!("{subject} is drained; `tidegate ctl undrain {scope}` undoes it");
        assert_eq!((&record["end"], &record["detail"]), (&"draining".into(), &detail.into()));
        proxy.command(undrain(json!("all"))).await;
    }
}

#[tokio::test]
async fn drain_selects_by_client_and_age() {
    let bed = TestBed::with(&format!("{DRAIN}{CONTROL}")).await;
    let (client, backend) = bed.open_from([127, 0, 4, 1]).await;
    let (mut other, mut others) = bed.open_from([127, 0, 4, 2]).await;
    let mut order = drain(select("client", "127.0.4.1"), false);
    order["close"] = json!({"code": 4001, "reason": "moved"});
    let (done, closed) = tokio::join!(bed.proxy.command(order), answer_close(client, backend));
    assert_eq!((&done["sessions"], closed), (&1.into(), (4001, "moved".into())));
    // The client may reconnect: it is not blocked.
    let _again = bed.open_from([127, 0, 4, 1]).await;
    assert_relays(&mut other, &mut others).await;
    let aged = json!({"command": "sessions", "selection": {"older_ms": 1}});
    within_timeout("an age", async {
        while bed.proxy.command(aged.clone()).await["sessions"].as_array().unwrap().len() < 2 {}
    })
    .await;
    let mut order = drain(json!({"older_ms": 1, "client": "127.0.4.2"}), false);
    order["pacing"] = json!({"window_ms": 1, "deadline_ms": 5000});
    let (done, closed) = tokio::join!(bed.proxy.command(order), answer_close(other, others));
    assert_eq!((&done["sessions"], closed.0), (&1.into(), 1012));
}

#[tokio::test]
async fn deadline_cuts_and_counts_stragglers() {
    let limits = "[route.limits]\nclose_grace = \"1s\"\n";
    let bed = TestBed::with(&format!("{limits}{CONTROL}")).await;
    let (_client, _backend) = bed.open().await;
    let mut order = drain(select("route", "all"), false);
    order["pacing"] = json!({"window_ms": 10, "deadline_ms": 300});
    let begun = Instant::now();
    let done = bed.proxy.command(order).await;
    assert_eq!((&done["sessions"], &done["aborted"]), (&1.into(), &1.into()));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(bed.tunnel_end(1).await["end"], "drained");
    for pace in [json!({"window_ms": 10, "deadline_ms": 5}), json!({"per_second": 0})] {
        let mut order = drain(select("route", "all"), false);
        order["pacing"] = pace;
        assert_eq!(bed.proxy.command_error(order).await.0, "bad_request");
    }
}

#[tokio::test]
async fn rate_extends_the_window() {
    let bed = TestBed::with(&format!("{DRAIN}{CONTROL}")).await;
    let mut closed = JoinSet::new();
    for n in 0..10 {
        let (client, backend) = bed.open_from([127, 0, 5, n]).await;
        closed.spawn(answer_close(client, backend));
    }
    let mut order = drain(select("route", "all"), false);
    order["pacing"] = json!({"per_second": 10});
    let begun = Instant::now();
    let done = bed.proxy.command(order).await;
    assert_eq!((&done["window_ms"], &done["aborted"]), (&1000.into(), &0.into()), "{done}");
    // The last of ten closes in the last tenth of the window.
    assert!(begun.elapsed() >= Duration::from_millis(900));
    closed.join_all().await;
}

#[tokio::test]
async fn readiness_drops_before_the_drain_starts() {
    let delay = "[drain]\ndelay = \"2500ms\"\nwindow = \"100ms\"\ndeadline = \"5s\"\n\
                 code = 4007\nreason = \"moving\"\n";
    let mut bed = TestBed::with(&format!("{delay}{CONTROL}")).await;
    let (mut client, mut backend) = bed.open().await;
    let admin = bed.proxy.admin().await;
    bed.proxy.signal(rustix::process::Signal::TERM);
    within_timeout("unreadiness", async { while get(admin, "/readyz").await.0.status != 503 {} })
        .await;
    // Service continues: a load balancer has not yet noticed.
    let (mut late, mut lates) = bed.open().await;
    assert_relays(&mut late, &mut lates).await;
    assert_relays(&mut client, &mut backend).await;
    let words = (4007, "moving".to_owned());
    assert_eq!(answer_close(client, backend).await, words);
    assert_eq!(answer_close(late, lates).await, words);
    assert_eq!(bed.proxy.exit().await, Some(0));
}

// Requirements: SR07.
#[tokio::test]
async fn stop_during_reload_abandons_it_and_drains() {
    let manager = ServiceManager::new();
    let mock = MockBackend::new().await;
    let config = format!("{BASE}{}{DRAIN}", route(&[mock.address()], ""));
    let mut proxy = Proxy::spawn(&config, &[manager.environment()]);
    proxy.ready().await;
    let client = Client::new(&proxy).await;
    let (tunnel, backend) = (client.raw_tunnel().await, mock.accept().await);
    // Reading this many certificates takes a while.
    let more = "[[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n".repeat(5_000);
    proxy.rewrite(&format!("{config}{more}"));
    proxy.signal(rustix::process::Signal::HUP);
    manager.message_with_line("RELOADING=1").await;
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(answer_close(tunnel, backend).await.0, 1012);
    assert_eq!(proxy.exit().await, Some(0));
    let said = format!("{:?}", proxy.records());
    assert!(!said.contains("reloaded; open tunnels"), "{said}");
}

#[tokio::test]
async fn drain_ends_when_its_last_session_leaves() {
    let caps = "[concurrency]\nconnections_per_client = 3\ntunnels_per_client = 3\n";
    let bed = TestBed::with(&format!("{caps}{CONTROL}")).await;
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        tunnels.push(bed.open_from([127, 0, 8, 1]).await);
    }
    let mut order = drain(select("client", "127.0.8.1"), false);
    order["pacing"] = json!({"window_ms": 600_000, "deadline_ms": 1_200_000});
    let leave = async {
        // One may be closed at the very start of the window.
        within_timeout("the drain", async {
            while bed.proxy.command(json!({"command": "status"})).await["drains"][0]["left"] != 3 {}
        })
        .await;
        tunnels.clear();
        bed.proxy.wait_until_idle().await;
        for _ in 0..3 {
            tunnels.push(bed.open_from([127, 0, 8, 1]).await);
        }
    };
    let (done, ()) = tokio::join!(bed.proxy.command(order), leave);
    assert_eq!((&done["sessions"], &done["aborted"]), (&3.into(), &0.into()));
    assert_eq!(bed.proxy.command(json!({"command": "status"})).await["drains"], json!([]));
}

#[tokio::test]
async fn undrain_stops_running_drains() {
    let bed = TestBed::with(CONTROL).await;
    let (mut client, mut backend) = bed.open().await;
    let mut order = drain(select("route", "all"), false);
    order["pacing"] = json!({"window_ms": 600_000, "deadline_ms": 1_200_000});
    let undo = async {
        within_timeout("the drain", async {
            loop {
                let status = bed.proxy.command(json!({"command": "status"})).await;
                // The pools may be shown as drained a moment after the drain itself.
                let shown = status["drains"][0]["scope"] == "route all";
                if shown && status["pools"][0]["drained"] == true {
                    break;
                }
            }
        })
        .await;
        bed.proxy.command(undrain(json!("all"))).await;
    };
    let (closed, ()) = tokio::join!(bed.proxy.command_error(order), undo);
    assert_eq!(
        closed,
        (
            "rejected".into(),
            "the drain was ended by undrain, or by another drain of the same".into()
        )
    );
    assert_relays(&mut client, &mut backend).await;
    // At once, not only at the next poll.
    let status = bed.proxy.command(json!({"command": "status"})).await;
    assert_eq!((&status["pools"][0]["drained"], &status["drains"]), (&false.into(), &json!([])));
    let id = bed.backend.address().to_string();
    for (place, routes) in
        [(select("route", "all"), json!([])), (select("backend", id), json!(["all"]))]
    {
        let mut order = drain(place, false);
        order["wait"] = false.into();
        order["pacing"] = json!({"window_ms": 600_000, "deadline_ms": 1_200_000});
        // The same drain again replaces the first.
        for _ in 0..2 {
            let started = bed.proxy.command(order.clone()).await;
            let new = (&started["new_tunnels"], &started["rejecting_routes"]);
            assert_eq!(new, (&"rejected".into(), &routes), "{started}");
        }
    }
    let status = bed.proxy.command(json!({"command": "status"})).await;
    let scopes: Vec<&Value> =
        status["drains"].as_array().unwrap().iter().map(|of| &of["scope"]).collect();
    assert_eq!(scopes.len(), 2, "{scopes:?}");
    bed.proxy.command(undrain(json!("all"))).await;
    let (mut late, mut lates) = bed.open().await;
    assert_relays(&mut late, &mut lates).await;
}

#[tokio::test]
async fn handshake_in_progress_is_rejected_by_drain() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let backend = Backend::raw(move |head, mut stream, _| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.unwrap();
            // Connections rejected meanwhile are closed by their clients.
            let _ = stream.write_all(switching_protocols(&head).as_bytes()).await;
        }
    })
    .await;
    let text = format!("{}{DRAIN}{CONTROL}", route(&[backend.address], ""));
    let proxy = Proxy::start(&text).await;
    let client = Client::new(&proxy).await;
    for (place, undo) in [
        (select("route", "all"), json!({"route": "all"})),
        (
            select("backend", backend.address.to_string()),
            json!({"backend": backend.address.to_string()}),
        ),
        (json!({}), json!("all")),
    ] {
        go.send_replace(false);
        let before = backend.heads().len();
        let asking = client.request(crate::support::HANDSHAKE.as_bytes());
        let draining = async {
            within_timeout("the backend to be asked", async {
                while backend.heads().len() == before {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            let all = place == json!({});
            assert_eq!(proxy.command(drain(place, all)).await["sessions"], 0);
            go.send_replace(true);
        };
        let (response, ()) = tokio::join!(asking, draining);
        assert_eq!(response.status, 503);
        proxy.command(undrain(undo)).await;
    }
}

#[tokio::test]
async fn requested_rate_is_kept() {
    let bed =
        TestBed::with(&format!("[drain]\nwindow = \"100ms\"\ndeadline = \"200ms\"\n{CONTROL}"))
            .await;
    let mut tunnels = Vec::new();
    for n in 0..10 {
        tunnels.push(bed.open_from([127, 0, 7, n]).await);
    }
    let mut order = drain(select("route", "all"), false);
    order["pacing"] = json!({"per_second": 2});
    order["wait"] = false.into();
    let closed = bed.proxy.command(order).await;
    assert_eq!(
        (&closed["window_ms"], &closed["deadline_ms"]),
        (&5000.into(), &5100.into()),
        "{closed}"
    );
}
