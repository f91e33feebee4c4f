//! Backends that have their maximum number of tunnels, and handshakes that wait for them.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::backend_connect::{Full, RefusingAddress};
use crate::balancing::{Backends, explained, open, until_ejected, with};
use crate::support::{
    Client, HANDSHAKE, PlainStream, Proxy, RawResponse, read_head, read_response, read_to_end,
    switching_protocols, within_timeout,
};

/// A pool whose backends take one tunnel each, with these keys as well.
fn pool(backends: &Backends, keys: &str) -> String {
    backends.pool(keys).replace("id = ", "max_tunnels = 1, id = ")
}

/// Sends a handshake without waiting for the response.
async fn start(client: &Client) -> PlainStream {
    let mut stream = BufReader::new(client.connect_plain().await);
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    stream
}

fn assert_busy(response: &RawResponse) {
    let retry_after: u32 = response.header("retry-after").unwrap().parse().unwrap();
    assert_eq!((response.status, (5..10).contains(&retry_after)), (503, true));
}

// Requirements: BM24.
#[tokio::test]
async fn full_backends_reject_further_tunnels() {
    let backends = Backends::start(["a", "b"]).await;
    let proxy = Proxy::start(&pool(&backends, "")).await;
    let client = Client::new(&proxy).await;
    // The client's own backend, and then the other one.
    let (first, one) = open(&client, 1, HANDSHAKE).await;
    let (_second, other) = open(&client, 1, HANDSHAKE).await;
    assert_ne!(one, other);
    assert_busy(&client.request(HANDSHAKE.as_bytes()).await);
    let record = proxy.end_record("backends_full").await;
    assert_eq!(record["key"], "pool.backends.max_tunnels");
    let result = explained(&proxy, "ws://localhost/", &[]).await;
    assert_eq!(result, "every backend has its maximum number of tunnels; 0 handshakes wait");
    // Plain requests are not tunnels.
    let mut stream = BufReader::new(client.connect_plain_from([127, 0, 0, 1]).await);
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 200);
    assert_eq!(String::from_utf8(read_to_end(&mut stream).await).unwrap(), one);
    // A limit that a reload raises applies to the tunnels that are open.
    proxy.reload_with("max_tunnels = 1, id = \"a\"", "max_tunnels = 2, id = \"a\"").await;
    assert_eq!(open(&client, 1, HANDSHAKE).await.1, "a");
    assert_busy(&client.request(HANDSHAKE.as_bytes()).await);
    drop(first);
    let freed = async { while client.request(HANDSHAKE.as_bytes()).await.status != 101 {} };
    within_timeout("a place", freed).await;
}

/// An ejected backend has places, but nothing can be sent there.
#[tokio::test]
async fn ejected_backend_does_not_count_as_a_place() {
    let backends = Backends::start(["a"]).await;
    let dead = "backends = [{ address = \"unix:/nowhere/app.sock\", id = \"dead\" }, ";
    let config = pool(&backends, "").replace("backends = [", dead);
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    let (_first, name) = open(&client, 1, HANDSHAKE).await;
    assert_eq!(name, "a");
    // Until three attempts have failed, by handshakes or probes.
    let ejected =
        "backend down: connection attempts failed in a row; it is tried last until one succeeds";
    client.request(HANDSHAKE.as_bytes()).await;
    proxy.record("the ejection", |record| record["message"] == ejected).await;
    assert_busy(&client.request(HANDSHAKE.as_bytes()).await);
    proxy.end_record("backends_full").await;
}

#[tokio::test]
async fn handshakes_wait_for_a_place() {
    let backends = Backends::start(["a", "b"]).await;
    let proxy = Proxy::start(&pool(&backends, "queue = 1\nqueue_time = \"1m\"")).await;
    let client = Client::new(&proxy).await;
    let (first, name) = open(&client, 1, HANDSHAKE).await;
    let _second = open(&client, 2, HANDSHAKE).await;
    let mut waiting = start(&client).await;
    proxy.status("a waiting handshake", |status| status["pools"][0]["waiting"] == 1).await;
    // The queue has its length.
    assert_busy(&client.request(HANDSHAKE.as_bytes()).await);
    drop(first);
    assert_eq!(read_response(&mut waiting).await.status, 101);
    let hello = crate::support::wire::read(&mut waiting).await.unwrap();
    assert_eq!(String::from_utf8(hello.payload).unwrap(), name);
    proxy.status("an empty queue", |status| status["pools"][0]["waiting"] == 0).await;
}

// Requirements: BM24.
#[tokio::test]
async fn waiting_handshakes_end_in_time() {
    let backends = Backends::start(["a"]).await;
    let proxy = Proxy::start(&pool(&backends, "queue = 2\nqueue_time = \"200ms\"")).await;
    let client = Client::new(&proxy).await;
    let _first = open(&client, 1, HANDSHAKE).await;
    let mut waiting = start(&client).await;
    assert_busy(&read_response(&mut waiting).await);
    // A client that leaves gives up its place in the queue.
    proxy.reload_with("200ms", "1m").await;
    let left = start(&client).await;
    proxy.status("a waiting handshake", |status| status["pools"][0]["waiting"] == 1).await;
    drop(left);
    proxy.status("an empty queue", |status| status["pools"][0]["waiting"] == 0).await;
    // A drain ends the wait at the next place, and rejects new handshakes at once.
    let drain = json!({"command": "drain", "selection": {"backend": "a"}, "all": false, "pacing": {},
        "close": {}, "wait": false});
    proxy.command(drain).await;
    let response = timeout(Duration::from_secs(20), client.request(HANDSHAKE.as_bytes())).await;
    assert_eq!(response.unwrap().status, 503);
    proxy.end_record("draining").await;
}

#[tokio::test]
async fn full_backend_is_left_out_for_its_clients() {
    let backends = Backends::start(["a", "b", "c"]).await;
    let proxy = Proxy::start(&pool(&backends, "hash = \"header:X-Room\"")).await;
    let client = Client::new(&proxy).await;
    let head = with("/", "X-Room: 7\r\n");
    let mut found = Vec::new();
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        let (tunnel, name) = open(&client, 1, &head).await;
        tunnels.push(tunnel);
        found.push(name);
    }
    found.sort();
    assert_eq!(found, ["a", "b", "c"]);
    assert_busy(&client.request(head.as_bytes()).await);
}

/// The next place is that of the handshake that has waited for the longest time.
#[tokio::test]
async fn handshakes_get_places_in_their_order() {
    let backends = Backends::start(["a"]).await;
    let proxy = Proxy::start(&pool(&backends, "queue = 9\nqueue_time = \"1m\"")).await;
    let client = Client::new(&proxy).await;
    let (mut served, _) = open(&client, 1, HANDSHAKE).await;
    let mut waiting = Vec::new();
    for number in 1..=3 {
        waiting.push(start(&client).await);
        proxy.status("one more", |status| status["pools"][0]["waiting"] == number).await;
    }
    for mut stream in waiting {
        drop(served);
        assert_eq!(read_response(&mut stream).await.status, 101);
        served = stream;
    }
}

/// Until it has recovered, an ejected backend has no places.
#[tokio::test]
async fn recovered_backend_serves_those_that_wait() {
    let backends = Backends::start(["a"]).await;
    let refusing = RefusingAddress::new();
    let address = refusing.address;
    let list =
        format!("backends = [{{ address = \"{address}\", id = \"dead\", max_tunnels = 1 }}, ");
    let config = pool(&backends, "queue = 9\nqueue_time = \"1m\"");
    let proxy = Proxy::start(&config.replace("backends = [", &list)).await;
    let client = Client::new(&proxy).await;
    let (_first, name) = open(&client, 1, HANDSHAKE).await;
    assert_eq!(name, "a");
    client.request(HANDSHAKE.as_bytes()).await;
    until_ejected(&proxy, "dead").await;
    let mut waiting = start(&client).await;
    proxy.status("a waiting handshake", |status| status["pools"][0]["waiting"] == 1).await;
    let listener = refusing.listen();
    let serving = async {
        loop {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let head = read_head(&mut stream).await;
            // A probe sends nothing.
            if !head.is_empty() {
                stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
                return stream;
            }
        }
    };
    let (_backend, response) = tokio::join!(serving, read_response(&mut waiting));
    assert_eq!(response.status, 101);
}

/// Handshakes that are on the way to a backend that hangs count at the next one once they try it.
#[tokio::test]
async fn failover_does_not_exceed_the_maximum() {
    let (hanging, backends) = (Full::new(), Backends::start(["next"]).await);
    let dead = format!("backends = [{{ address = \"{}\", id = \"hanging\" }}, ", hanging.address);
    let config = pool(&backends, "").replace("backends = [", &dead);
    let config = config.replace("id = \"next\"", "id = \"next\", backup = true");
    let config = config.replace("id = \"hanging\"", "id = \"hanging\", max_tunnels = 9");
    let proxy = Proxy::start(&format!("{config}[timeouts]\nconnect = \"2s\"\n")).await;
    let client = Client::new(&proxy).await;
    let mut streams = [start(&client).await, start(&client).await];
    let [one, other] = &mut streams;
    let (one, other) = tokio::join!(read_response(one), read_response(other));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [101, 503]);
    let record = proxy.end_record("no_backend").await;
    let detail = record["detail"].as_str().unwrap();
    assert!(detail.ends_with("): it has its maximum number of tunnels"), "{detail}");
}
