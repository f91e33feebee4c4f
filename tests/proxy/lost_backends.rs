//! Tunnels to a backend that was removed or refuses connections (`route.on_backend_loss`).

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::time::Instant;

use crate::support::control::CONTROL;
use crate::support::{
    Client, MockBackend, PlainStream, Proxy, Record, answer_close, assert_relays, read_head, route,
    switching_protocols, upgrade, within_timeout,
};

const DRAIN: &str = "[drain]\nwindow = \"100ms\"\ndeadline = \"10s\"\n";

/// A tunnel to the second of two backends, which a reload then removes.
async fn remove_backend_of_a_tunnel(policy: &str) -> (Proxy, Instant, PlainStream, PlainStream) {
    let (one, two) = (MockBackend::new().await, MockBackend::new().await);
    let backends = [one.address(), two.address()];
    let text = format!("{}{DRAIN}{CONTROL}", route(&backends, policy));
    let proxy = Proxy::start(&text).await;
    let client = Client::new(&proxy).await;
    let (tunnel, backend) = within_timeout("a client of the second backend", async {
        for n in 0.. {
            let tunnel = upgrade(client.connect_plain_from([127, 0, 6, n]).await).await;
            tokio::select! {
                _ = one.accept() => {}
                backend = two.accept() => return (tunnel, backend),
            }
        }
        unreachable!("no address maps to the second backend")
    })
    .await;
    let removed = format!(", \"{}\"", two.address());
    let removed_at = Instant::now();
    proxy.reload_with(&removed, "").await;
    (proxy, removed_at, tunnel, backend)
}

/// Whether a log line says that tunnels are closed for this cause, and which key decides that.
fn logs_cause(record: &Record, cause: &str) -> bool {
    record["message"] == format!("closing tunnels: the backend {cause} (on_backend_loss)")
}

#[tokio::test]
async fn tunnels_of_removed_backend_are_kept_by_default() {
    let (proxy, _, mut tunnel, mut backend) = remove_backend_of_a_tunnel("").await;
    // Longer than the check for lost backends takes.
    let later = tokio::time::sleep(Duration::from_millis(2500));
    later.await;
    assert_relays(&mut tunnel, &mut backend).await;
    drop(proxy);
}

#[tokio::test]
async fn drain_policy_closes_tunnels_of_removed_backend() {
    let (proxy, _, tunnel, backend) =
        remove_backend_of_a_tunnel("on_backend_loss = \"drain\"").await;
    assert_eq!(answer_close(tunnel, backend).await.0, 1012);
    let end = proxy.end_record("backend_lost").await;
    assert_eq!((&end["key"], &end["by"]), (&"route.on_backend_loss".into(), &"tidegate".into()));
    proxy.record("the cause", |r| logs_cause(r, "was removed from the route")).await;
}

#[tokio::test]
async fn delay_policy_closes_tunnels_after_the_delay() {
    let (proxy, removed_at, tunnel, backend) =
        remove_backend_of_a_tunnel("on_backend_loss = \"3s\"").await;
    assert_eq!(answer_close(tunnel, backend).await.0, 1012);
    assert!(removed_at.elapsed() >= Duration::from_secs(3), "{:?}", removed_at.elapsed());
    assert_eq!(proxy.end_record("backend_lost").await["close_client"], 1012);
}

#[tokio::test]
async fn drain_policy_closes_tunnels_of_failed_backend() {
    // An address of its own, so that no other test listens there later.
    let listener = tokio::net::TcpListener::bind("127.0.0.26:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let text = route(&[address], "on_backend_loss = \"drain\"");
    let proxy = Proxy::start(&format!("{text}{DRAIN}{CONTROL}")).await;
    let client = Client::new(&proxy).await;
    let accepting = async {
        let mut backend = BufReader::new(listener.accept().await.unwrap().0);
        let head = read_head(&mut backend).await;
        backend.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
        backend
    };
    let (mut tunnel, mut backend) = tokio::join!(client.raw_tunnel(), accepting);
    drop(listener);
    // Until a connection attempt fails, the backend does not count as lost.
    assert_relays(&mut tunnel, &mut backend).await;
    for n in 1..=3 {
        let response = client.request(crate::support::HANDSHAKE.as_bytes()).await;
        assert_eq!(response.status, 503, "request {n}");
    }
    assert_eq!(answer_close(tunnel, backend).await.0, 1012);
    assert_eq!(proxy.end_record("backend_lost").await["by"], "tidegate");
    proxy.record("the cause", |r| logs_cause(r, "does not accept connections")).await;
}

#[tokio::test]
async fn restored_backend_keeps_its_remaining_tunnels() {
    let (one, two) = (MockBackend::new().await, MockBackend::new().await);
    let backends = [one.address(), two.address()];
    let slow = "[drain]\nwindow = \"10m\"\ndeadline = \"20m\"\n";
    let text = route(&backends, "on_backend_loss = \"drain\"");
    let proxy = Proxy::start(&format!("{text}{slow}{CONTROL}")).await;
    let client = Client::new(&proxy).await;
    let mut of_two = Vec::new();
    let mut of_one = Vec::new();
    for n in 0..24 {
        let tunnel = upgrade(client.connect_plain_from([127, 0, 10, n]).await).await;
        tokio::select! {
            backend = one.accept() => of_one.push((tunnel, backend)),
            backend = two.accept() => of_two.push((tunnel, backend)),
        }
    }
    let removed = format!(", \"{}\"", two.address());
    let config = proxy.config();
    proxy.reload_with(&removed, "").await;
    let drains = async |many: usize| {
        within_timeout("the drains", async {
            let status = json!({"command": "status"});
            while proxy.command(status.clone()).await["drains"].as_array().unwrap().len() != many {}
        })
        .await;
    };
    drains(1).await;
    proxy.rewrite(&config);
    proxy.reload().await;
    drains(0).await;
    // In the first seconds of a window of ten minutes hardly any tunnel is closed.
    let open = proxy.command(json!({"command": "sessions", "selection": {}})).await;
    let rows = open["sessions"].as_array().unwrap();
    let staying = rows.iter().filter(|row| row["closing"] == false).count();
    assert!(staying + 2 >= of_one.len() + of_two.len(), "{staying} of 24");
}
