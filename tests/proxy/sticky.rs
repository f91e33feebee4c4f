//! One client always meets the same backend: across connections, reloads and restarts, and for
//! plain HTTP too. Who loses its backend moves, and nobody else.

use std::collections::BTreeMap;

use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::{
    Backend, Client, HANDSHAKE, PlainStream, Proxy, read_response, read_to_end,
    switching_protocols, upgrade, wire,
};

/// Which backend each client met, by the last byte of the client's address.
type Seating = BTreeMap<u8, String>;

const CLIENTS: std::ops::RangeInclusive<u8> = 1..=48;

/// Says its name: in a first message, or as the body of an answer; then it is an echo of bytes.
async fn named(name: &'static str) -> Backend {
    Backend::raw(move |head, mut stream, _| async move {
        if !head.to_ascii_lowercase().contains("upgrade: websocket") {
            let length = name.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
            let _ = stream.write_all(answer.as_bytes()).await;
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

/// A route to these backends, by their names.
fn pool(backends: &[(&str, &Backend)]) -> String {
    let each = |(id, backend): &(&str, &Backend)| {
        format!("{{ address = \"{}\", id = \"{id}\" }}", backend.address)
    };
    let list: Vec<String> = backends.iter().map(each).collect();
    format!("[[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [{}]\n", list.join(", "))
}

/// A tunnel from this client, and the name of the backend behind it.
async fn meet(client: &Client, last: u8) -> (PlainStream, String) {
    let mut tunnel = upgrade(client.connect_plain_from([127, 0, 0, last]).await).await;
    let hello = wire::read(&mut tunnel).await.unwrap();
    (tunnel, String::from_utf8(hello.payload).unwrap())
}

async fn seating(proxy: &Proxy) -> Seating {
    let client = Client::new(proxy).await;
    let mut seating = Seating::new();
    for last in CLIENTS {
        seating.insert(last, meet(&client, last).await.1);
    }
    seating
}

/// How many clients met this one.
fn share(seating: &Seating, name: &str) -> usize {
    seating.values().filter(|met| *met == name).count()
}

#[tokio::test]
async fn many_clients_spread_and_each_keeps_its_backend() {
    let (a, b, c) = (named("a").await, named("b").await, named("c").await);
    let proxy = Proxy::start(&pool(&[("a", &a), ("b", &b), ("c", &c)])).await;
    let first = seating(&proxy).await;
    for name in ["a", "b", "c"] {
        assert!(share(&first, name) >= 8, "{name} of {first:?}");
    }
    assert_eq!(seating(&proxy).await, first, "the same process");
    proxy.reload().await;
    assert_eq!(seating(&proxy).await, first, "after a reload");
    drop(proxy);

    // Another process, the order of the file and the ports changed: the ids decide.
    let (a2, b2, c2) = (named("a").await, named("b").await, named("c").await);
    let proxy = Proxy::start(&pool(&[("c", &c2), ("a", &a2), ("b", &b2)])).await;
    assert_eq!(seating(&proxy).await, first, "after a restart");
}

#[tokio::test]
async fn plain_http_meets_the_backend_of_the_tunnel() {
    let (a, b, c) = (named("a").await, named("b").await, named("c").await);
    let proxy = Proxy::start(&pool(&[("a", &a), ("b", &b), ("c", &c)])).await;
    let client = Client::new(&proxy).await;
    for last in CLIENTS.step_by(3) {
        let (_tunnel, met) = meet(&client, last).await;
        let mut stream = BufReader::new(client.connect_plain_from([127, 0, 0, last]).await);
        let request = "GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 200);
        assert_eq!(String::from_utf8(read_to_end(&mut stream).await).unwrap(), met);
    }
}

#[tokio::test]
async fn bm23_a_removed_backend_moves_only_its_own_clients() {
    let (a, b, c) = (named("a").await, named("b").await, named("c").await);
    let all = pool(&[("a", &a), ("b", &b), ("c", &c)]);
    let proxy = Proxy::start(&all).await;
    let client = Client::new(&proxy).await;
    let before = seating(&proxy).await;
    let mut living = Vec::new();
    for (last, met) in &before {
        living.push((meet(&client, *last).await.0, met.clone()));
    }
    let record = proxy.reload_with(&all, &pool(&[("a", &a), ("c", &c)])).await;
    assert_eq!(record["changed"], "backends: b of * removed");
    let after = seating(&proxy).await;
    for (last, met) in &before {
        let now = &after[last];
        assert!(met == "b" && now != "b" || now == met, "{last} went from {met} to {now}");
    }
    assert!(share(&after, "a") > share(&before, "a") && share(&after, "c") > share(&before, "c"));
    // Nobody is thrown out.
    for (tunnel, met) in &mut living {
        tunnel.write_all(&wire::masked(0x81, met.as_bytes())).await.unwrap();
        assert_eq!(wire::read(tunnel).await.unwrap().payload, met.as_bytes());
    }
    // And home again.
    proxy.reload_with(&pool(&[("a", &a), ("c", &c)]), &all).await;
    assert_eq!(seating(&proxy).await, before);
}

#[tokio::test]
async fn bm01_who_is_refused_goes_to_the_next_and_nobody_else_moves() {
    let (a, b, c) = (named("a").await, named("b").await, named("c").await);
    let proxy = Proxy::start(&pool(&[("a", &a), ("b", &b), ("c", &c)])).await;
    let before = seating(&proxy).await;
    // Where nobody listens, and no other test will.
    let dead = |backend: &Backend| (backend.address.to_string(), "127.0.0.66:1");
    let (alive, gone) = dead(&b);
    proxy.reload_with(&alive, gone).await;
    for _ in 0..2 {
        let after = seating(&proxy).await;
        for (last, met) in &before {
            let now = &after[last];
            assert!(met == "b" && now != "b" || now == met, "{last} went from {met} to {now}");
        }
    }
    assert_eq!(proxy.health().await["backends"], serde_json::json!({"up": 2, "total": 3}));

    for backend in [&a, &c] {
        let (alive, gone) = dead(backend);
        proxy.reload_with(&alive, gone).await;
    }
    let client = Client::new(&proxy).await;
    let refused = client.ask(HANDSHAKE.as_bytes()).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let record = proxy.end_record("no_backend").await;
    assert_eq!((&record["key"], &record["stage"]), (&"route.backends".into(), &"backend".into()));
}
