//! Administration under load: metrics and commands stay available, and concurrent commands are
//! serialised.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::control::{CONTROL, select};
use crate::support::{TestBed, assert_relays, get};

// Requirements: AD04.
#[tokio::test]
async fn metrics_are_served_at_full_capacity() {
    let full =
        "[concurrency]\nconnections = 4\nconnections_per_client = 4\ntunnels_per_client = 4\n";
    let bed = TestBed::with(&format!("{full}{CONTROL}")).await;
    let mut tunnels = Vec::new();
    for _ in 0..4 {
        tunnels.push(bed.open().await);
    }
    let mut flood = JoinSet::new();
    for _ in 0..200 {
        let address = bed.client.tls;
        flood.spawn(async move { drop(tokio::net::TcpStream::connect(address).await) });
    }
    let (response, body) = get(bed.proxy.admin().await, "/metrics").await;
    let text = String::from_utf8(body).unwrap();
    assert!(response.status == 200 && text.contains("tidegate_"), "{response:?}");
    let open = bed.proxy.command(json!({"command": "sessions", "selection": {}})).await;
    assert_eq!(open["open"], 4);
    flood.join_all().await;
    for (client, backend) in &mut tunnels {
        assert_relays(client, backend).await;
    }
}

// Requirements: AD05.
#[tokio::test]
async fn metrics_size_is_independent_of_tunnels() {
    let bed = TestBed::with("").await;
    let scrape = || async {
        let (_, body) = get(bed.proxy.admin().await, "/metrics").await;
        String::from_utf8(body).unwrap()
    };
    let mut tunnels = vec![bed.open_from([127, 0, 11, 1]).await];
    let few = scrape().await;
    for n in 2..=200 {
        tunnels.push(bed.open_from([127, 0, 11, n]).await);
    }
    let many = scrape().await;
    assert_eq!(few.lines().count(), many.lines().count());
    assert!(!many.contains("127.0.11."), "a client address is a label");
    assert!(many.len() < few.len() + 2_000, "{} and {} bytes", few.len(), many.len());
}

// Requirements: AD09.
#[tokio::test]
async fn commands_and_reloads_are_serialised() {
    let bed = TestBed::with(CONTROL).await;
    let (mut client, mut backend) = bed.open().await;
    let id = bed.backend.address().to_string();
    let proxy = &bed.proxy;
    let reloads = async {
        let all = (0..10).map(|_| proxy.command(json!({"command": "reload"})));
        let mut numbers: Vec<Value> = futures_util::future::join_all(all).await;
        numbers.sort_by_key(|reply| reply["generation"].as_u64());
        let numbers: Vec<_> = numbers.iter().map(|reply| reply["generation"].as_u64()).collect();
        assert_eq!(
            numbers,
            (2..=11).map(Some).collect::<Vec<_>>(),
            "each reload has its own generation"
        );
    };
    let commands = async {
        for weight in 1..=20 {
            let set_weight =
                json!({"command": "weight", "backend": id, "route": null, "weight": weight});
            proxy.command(set_weight).await;
            let aged = json!({"route": "all", "older_ms": 3_600_000});
            let drain = json!({"command": "drain", "selection": aged, "all": false, "pacing": {}, "close": {}, "wait": true});
            proxy.command(drain).await;
        }
    };
    tokio::join!(reloads, commands);
    // The last command applies.
    let asked =
        json!({"command": "explain", "url": "ws://localhost/", "origin": null, "address": null});
    let explanation = proxy.command(asked).await.to_string();
    assert!(explanation.contains("weight 20"), "{explanation}");
    assert_relays(&mut client, &mut backend).await;
    let rows =
        proxy.command(json!({"command": "sessions", "selection": select("route", "all")})).await;
    assert_eq!(rows["open"], 1);
}
