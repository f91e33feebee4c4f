//! Rebalances that start while another one is in progress.

use serde_json::{Value, json};

use crate::balancing::{Backends, open};
use crate::rebalance::{add_d, assert_open, close_code, open_rooms, rebalance, split, without_d};
use crate::support::{Client, HANDSHAKE, Proxy};

async fn running(proxy: &Proxy) -> Vec<Value> {
    let status = proxy.command(json!({"command": "status"})).await;
    status["rebalances"].as_array().unwrap().clone()
}

#[tokio::test]
async fn second_rebalance_joins_the_one_in_progress() {
    let backends = Backends::start(["a", "b", "c", "d"]).await;
    let (config, d) = without_d(&backends, "");
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    let tunnels = open_rooms(&client, 0..80).await;
    add_d(&proxy, &d).await;
    let (mut moving, mut staying) = split(&proxy, tunnels).await;
    let state = |row: &Value| (row["joined"].clone(), row["per_second"].clone());
    assert_eq!(state(&rebalance(&proxy, Some(2), false).await), (false.into(), 2.into()));
    assert_eq!(state(&rebalance(&proxy, None, false).await), (true.into(), 2.into()));
    let row = running(&proxy).await;
    assert_eq!((row.len(), &row[0]["per_second"]), (1, &2.into()));
    assert_eq!(state(&rebalance(&proxy, Some(1000), false).await), (true.into(), 1000.into()));
    for tunnel in &mut moving {
        assert_eq!(close_code(tunnel).await, 1012);
    }
    // It is one rebalance, which has closed them all.
    let end = proxy.record("its end", |record| record["message"] == "rebalance finished").await;
    assert_eq!(end["tunnels"], moving.len());
    for tunnel in &mut staying {
        assert_open(tunnel).await;
    }
}

#[tokio::test]
async fn pool_and_route_of_one_name_are_rebalanced_apart() {
    let backends = Backends::start(["a", "b", "c", "d"]).await;
    let (config, d) = without_d(&backends, "");
    let list = config.lines().find(|line| line.starts_with("backends")).unwrap();
    let route =
        format!("[[route]]\nname = \"chat\"\nhost = \"own.example\"\norigins = [\"*\"]\n{list}\n");
    let proxy = Proxy::start(&config.replace("[[pool]]", &format!("{route}[[pool]]"))).await;
    let client = Client::new(&proxy).await;
    let _rooms = open_rooms(&client, 0..40).await;
    let own = HANDSHAKE.replace("localhost", "own.example");
    let mut of_route = Vec::new();
    for from in 1..40 {
        of_route.push(open(&client, from, &own).await);
    }
    // To both lists.
    add_d(&proxy, &d).await;
    rebalance(&proxy, Some(1), false).await;
    assert_eq!(running(&proxy).await.len(), 2);
    let stopped = proxy.command(json!({"command": "stop_rebalance", "pool": "chat"})).await;
    assert_eq!(stopped["pools"], 2);
}

#[tokio::test]
async fn aborted_canary_joins_a_wider_rebalance() {
    let backends = Backends::start(["a", "b", "c", "d"]).await;
    let (config, d) = without_d(&backends, "[pool.canary]\nshare = \"50%\"");
    let config = config.replace("id = \"c\"", "id = \"c\", canary = true");
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    let tunnels = open_rooms(&client, 0..60).await;
    add_d(&proxy, &d).await;
    let (on_canary, others): (Vec<_>, Vec<_>) =
        tunnels.into_iter().partition(|tunnel| tunnel.backend == "c");
    let (mut moving, mut staying) = split(&proxy, others).await;
    assert!(!on_canary.is_empty() && !moving.is_empty() && !staying.is_empty());
    assert_eq!(rebalance(&proxy, Some(25), false).await["joined"], false);
    let off = json!({"command": "canary", "pool": "chat", "share": "off"});
    assert_eq!(proxy.command(off).await["closing"], on_canary.len());
    assert_eq!(running(&proxy).await.len(), 1);
    moving.extend(on_canary);
    for tunnel in &mut moving {
        assert_eq!(close_code(tunnel).await, 1012);
    }
    for tunnel in &mut staying {
        assert_open(tunnel).await;
    }
}
