//! Stickiness: a client always gets the same backend, across connections, reloads and restarts, and
//! for plain HTTP too. Only clients of a lost backend move.

use std::collections::BTreeMap;

use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::{
    Backend, Client, HANDSHAKE, PlainStream, Proxy, read_response, read_to_end,
    switching_protocols, upgrade, wire,
};

/// The backend of each client, by the last byte of the client's address.
type Assignment = BTreeMap<u8, String>;

const CLIENTS: std::ops::RangeInclusive<u8> = 1..=48;

/// A backend that sends its name, as a first message or as a response body, and then echoes.
pub async fn named(name: &'static str) -> Backend {
    Backend::raw(move |head, mut stream, _| async move {
        if !head.to_ascii_lowercase().contains("upgrade: websocket") {
            let length = name.len();
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
            let _ = stream.write_all(response.as_bytes()).await;
            return;
        }
        stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
        let hello = wire::unmasked(0x80 | wire::TEXT, name.as_bytes());
        stream.write_all(&hello).await.unwrap();
        while let Some(frame) = wire::read(&mut stream).await {
            if stream.write_all(&wire::unmasked(frame.first, &frame.payload)).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// A route to these backends, with their names as ids.
fn pool(backends: &[(&str, &Backend)]) -> String {
    let each = |(id, backend): &(&str, &Backend)| {
        format!("{{ address = \"{}\", id = \"{id}\" }}", backend.address)
    };
    let list: Vec<String> = backends.iter().map(each).collect();
    format!("[[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [{}]\n", list.join(", "))
}

/// Opens a tunnel for this client; returns it and the name of its backend.
async fn open_tunnel(client: &Client, last: u8) -> (PlainStream, String) {
    let mut tunnel = upgrade(client.connect_plain_from([127, 0, 0, last]).await).await;
    let hello = wire::read(&mut tunnel).await.unwrap();
    (tunnel, String::from_utf8(hello.payload).unwrap())
}

async fn assignment(proxy: &Proxy) -> Assignment {
    let client = Client::new(proxy).await;
    let mut assignment = Assignment::new();
    for last in CLIENTS {
        assignment.insert(last, open_tunnel(&client, last).await.1);
    }
    assignment
}

/// The number of clients of this backend.
fn share(assignment: &Assignment, name: &str) -> usize {
    assignment.values().filter(|met| *met == name).count()
}

#[tokio::test]
async fn clients_spread_and_keep_their_backend() {
    let (a, b, c) = (named("a").await, named("b").await, named("c").await);
    let proxy = Proxy::start(&pool(&[("a", &a), ("b", &b), ("c", &c)])).await;
    let first = assignment(&proxy).await;
    for name in ["a", "b", "c"] {
        assert!(share(&first, name) >= 8, "{name} of {first:?}");
    }
    assert_eq!(assignment(&proxy).await, first, "the same process");
    proxy.reload().await;
    assert_eq!(assignment(&proxy).await, first, "after a reload");
    drop(proxy);

    // Another process, with another order and other ports: only the ids matter.
    let (a2, b2, c2) = (named("a").await, named("b").await, named("c").await);
    let proxy = Proxy::start(&pool(&[("c", &c2), ("a", &a2), ("b", &b2)])).await;
    assert_eq!(assignment(&proxy).await, first, "after a restart");
}

#[tokio::test]
async fn plain_http_uses_the_same_backend() {
    let (a, b, c) = (named("a").await, named("b").await, named("c").await);
    let proxy = Proxy::start(&pool(&[("a", &a), ("b", &b), ("c", &c)])).await;
    let client = Client::new(&proxy).await;
    for last in CLIENTS.step_by(3) {
        let (_tunnel, met) = open_tunnel(&client, last).await;
        let mut stream = BufReader::new(client.connect_plain_from([127, 0, 0, last]).await);
        let request = "GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 200);
        assert_eq!(String::from_utf8(read_to_end(&mut stream).await).unwrap(), met);
    }
}

// Requirements: BM23.
#[tokio::test]
async fn removed_backend_moves_only_its_own_clients() {
    let (a, b, c) = (named("a").await, named("b").await, named("c").await);
    let all = pool(&[("a", &a), ("b", &b), ("c", &c)]);
    let proxy = Proxy::start(&all).await;
    let client = Client::new(&proxy).await;
    let before = assignment(&proxy).await;
    let mut tunnels = Vec::new();
    for (last, met) in &before {
        tunnels.push((open_tunnel(&client, *last).await.0, met.clone()));
    }
    let record = proxy.reload_with(&all, &pool(&[("a", &a), ("c", &c)])).await;
    assert_eq!(record["changed"], "backends: b of * removed");
    let after = assignment(&proxy).await;
    for (last, met) in &before {
        let now = &after[last];
        assert!(met == "b" && now != "b" || now == met, "{last} went from {met} to {now}");
    }
    assert!(share(&after, "a") > share(&before, "a") && share(&after, "c") > share(&before, "c"));
    // Existing tunnels stay open.
    for (tunnel, met) in &mut tunnels {
        tunnel.write_all(&wire::masked(0x81, met.as_bytes())).await.unwrap();
        assert_eq!(wire::read(tunnel).await.unwrap().payload, met.as_bytes());
    }
    // Adding the backend again restores the assignment.
    proxy.reload_with(&pool(&[("a", &a), ("c", &c)]), &all).await;
    assert_eq!(assignment(&proxy).await, before);
}

// Requirements: BM01.
#[tokio::test]
async fn failed_backend_moves_only_its_own_clients() {
    let (a, b, c) = (named("a").await, named("b").await, named("c").await);
    let proxy = Proxy::start(&pool(&[("a", &a), ("b", &b), ("c", &c)])).await;
    let before = assignment(&proxy).await;
    // An address without a listener that no other test uses.
    let dead = |backend: &Backend| (backend.address.to_string(), "127.0.0.66:1");
    let (alive, gone) = dead(&b);
    proxy.reload_with(&alive, gone).await;
    for _ in 0..2 {
        let after = assignment(&proxy).await;
        for (last, met) in &before {
            let now = &after[last];
            assert!(met == "b" && now != "b" || now == met, "{last} went from {met} to {now}");
        }
    }
    assert_eq!(
        proxy.health().await["backends"],
        serde_json::json!({"up": 2, "untried": 0, "down": 1, "drained": 0, "total": 3})
    );

    for backend in [&a, &c] {
        let (alive, gone) = dead(backend);
        proxy.reload_with(&alive, gone).await;
    }
    let client = Client::new(&proxy).await;
    let refused = client.request(HANDSHAKE.as_bytes()).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let record = proxy.end_record("no_backend").await;
    assert_eq!((&record["key"], &record["stage"]), (&"route.backends".into(), &"backend".into()));
}
