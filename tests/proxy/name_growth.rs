//! Names whose number of addresses changes: each tunnel belongs to the address that it was opened to, before and after.

use std::net::Ipv6Addr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::BufReader;
use tokio::net::TcpListener;

use crate::backend_names::{
    PORT, Tunnel, answer, applications, backends, id, ids, ip, name, pool, proxy, serve, tunnels,
    wait_for,
};
use crate::support::name_server::{Answer, NameServer};
use crate::support::own_network::is_own_network;
use crate::support::{Proxy, TIDEGATE, wire, within_timeout};

/// The number of open tunnels of each backend that has some, also of absent ones.
async fn open(proxy: &Proxy) -> Vec<(String, u64)> {
    let rows = pool(proxy).await["backends"].as_array().unwrap().clone();
    let row =
        |row: &Value| (row["id"].as_str().unwrap().to_owned(), row["tunnels"].as_u64().unwrap());
    rows.iter().map(row).filter(|(_, tunnels)| *tunnels > 0).collect()
}

/// The numbers of tunnels that a selection by backend has.
async fn selected(proxy: &Proxy, backend: &str) -> usize {
    let request = json!({"command": "sessions", "selection": {"backend": backend}});
    proxy.command(request).await["sessions"].as_array().unwrap().len()
}

async fn rebalance(proxy: &Proxy, dry_run: bool) -> Value {
    let request =
        json!({"command": "rebalance", "pool": "chat", "per_second": 1000, "dry_run": dry_run});
    proxy.command(request).await["pools"][0].clone()
}

async fn drain(proxy: &Proxy, backend: &str) -> Value {
    let selection = json!({"backend": backend});
    let request = json!({"command": "drain", "selection": selection, "all": false,
                         "pacing": {"window_ms": 0}, "close": {}, "wait": true});
    proxy.command(request).await
}

// Requirements: BM23.
#[tokio::test]
async fn tunnels_of_a_name_that_grows_belong_to_their_address() {
    if !is_own_network("name_growth::tunnels_of_a_name_that_grows_belong_to_their_address") {
        return;
    }
    let server = NameServer::start(answer(&[1]), "").await;
    applications(1..=3).await;
    let proxy = proxy("app.internal", "").await;
    let first = tunnels(&proxy).await;
    assert_eq!(open(&proxy).await, [(name(), 24)]);
    assert_eq!(selected(&proxy, &id(1)).await, 24);
    server.answer(answer(&[3, 1, 2]));
    wait_for(&proxy, &ids(&[1, 2, 3])).await;
    assert_eq!(open(&proxy).await, [(id(1), 24)]);
    let gauge = |backend: String| {
        let proxy = &proxy;
        async move {
            let labels = [("route", "all"), ("backend", &*backend)];
            proxy.scrape().await.value("tidegate_tunnels", &labels)
        }
    };
    assert_eq!((gauge(id(1)).await, gauge(id(2)).await), (24.0, 0.0));
    assert_eq!((selected(&proxy, &id(1)).await, selected(&proxy, &name()).await), (24, 24));
    // About two thirds of the clients have another backend now.
    let moving = rebalance(&proxy, true).await["moving"].as_u64().unwrap();
    assert!((8..24).contains(&moving), "{moving}");
    rebalance(&proxy, false).await;
    let (mut moved, mut stayed) = (0, Vec::new());
    for (client, mut tunnel) in (1..).zip(first) {
        let new = Tunnel::open(&proxy, client).await;
        if new.backend == id(1) {
            tunnel.assert_relays().await;
            stayed.push(tunnel);
            continue;
        }
        let close = within_timeout("the close", wire::read_past_pings(&mut tunnel.stream)).await;
        assert_eq!(close.unwrap().payload[..2], 1012_u16.to_be_bytes());
        moved += 1;
    }
    assert_eq!(moved, moving);
    // Those that were opened again have ended.
    within_timeout("the ends", async {
        while open(&proxy).await != [(id(1), 24 - moving)] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let drained = drain(&proxy, &id(1)).await;
    assert_eq!(drained["sessions"].as_u64(), Some(24 - moving), "{drained}");
    let drained = |record: &Value| record["event"] == "ended" && record["end"] == "drained";
    let ended = proxy.record("the end of a drained tunnel", drained).await;
    assert_eq!(ended["backend"], name().as_str(), "{ended}");
    assert_eq!(ended["backend_address"], id(1).as_str(), "{ended}");
    let after = tunnels(&proxy).await;
    assert!(after.iter().all(|tunnel| tunnel.backend != id(1)));
}

#[tokio::test]
async fn tunnels_stay_at_their_address_when_the_name_has_one() {
    if !is_own_network("name_growth::tunnels_stay_at_their_address_when_the_name_has_one") {
        return;
    }
    let server = NameServer::start(answer(&[1, 2]), "").await;
    applications(1..=3).await;
    let proxy = proxy("app.internal", "").await;
    wait_for(&proxy, &ids(&[1, 2])).await;
    let first = tunnels(&proxy).await;
    let at = |number| first.iter().filter(|tunnel| tunnel.backend == id(number)).count() as u64;
    assert!(at(1) > 0 && at(2) > 0);
    // Those at the address that is left are tunnels of the name, as new ones are.
    server.answer(answer(&[1]));
    wait_for(&proxy, &[name()]).await;
    assert_eq!(open(&proxy).await, [(name(), at(1)), (id(2), at(2))]);
    server.answer(answer(&[3]));
    within_timeout("the other address", async {
        while open(&proxy).await != [(id(1), at(1)), (id(2), at(2))] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let new = Tunnel::open(&proxy, 1).await;
    assert_eq!(new.backend, id(3));
    assert_eq!(open(&proxy).await, [(name(), 1), (id(1), at(1)), (id(2), at(2))]);
    for mut tunnel in first {
        tunnel.assert_relays().await;
    }
}

/// An application at `[::1]`.
#[expect(clippy::disallowed_methods, reason = "bounded by the test's own traffic")]
async fn application_v6() -> String {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, PORT)).await.unwrap();
    let id = listener.local_addr().unwrap().to_string();
    let own = id.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(BufReader::new(stream), own.clone()));
        }
    });
    id
}

#[tokio::test]
async fn address_that_is_missing_for_a_moment_stays_drained() {
    if !is_own_network("name_growth::address_that_is_missing_for_a_moment_stays_drained") {
        return;
    }
    let server = NameServer::start(answer(&[1, 2]), "").await;
    applications(1..=3).await;
    let proxy = proxy("app.internal", "").await;
    wait_for(&proxy, &ids(&[1, 2])).await;
    let first = tunnels(&proxy).await;
    drain(&proxy, &id(1)).await;
    let weight = json!({"command": "weight", "backend": id(2), "route": null, "weight": 9});
    proxy.command(weight).await;
    server.answer(answer(&[3, 4]));
    wait_for(&proxy, &ids(&[3, 4])).await;
    let name = pool(&proxy).await["names"][0].clone();
    let kept = name["kept"].as_array().unwrap();
    assert_eq!((&kept[0]["address"], &kept[0]["drained"]), (&id(1).into(), &true.into()));
    assert_eq!((&kept[1]["address"], &kept[1]["weight"]), (&id(2).into(), &9.into()));
    assert!((1..=600).contains(&kept[0]["seconds_left"].as_u64().unwrap()), "{name}");
    let shown = std::process::Command::new(TIDEGATE)
        .args(["ctl", "--socket"])
        .arg(proxy.control_socket())
        .arg("status")
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let line = format!("{} of route all (app.internal:{PORT}), not in the answer: drained", id(1));
    assert!(shown.contains(&line), "{shown}");
    // Its tunnels can still be drained, which holds too when it comes back.
    drain(&proxy, &id(2)).await;
    server.answer(answer(&[1, 2, 3]));
    wait_for(&proxy, &ids(&[1, 2, 3])).await;
    drop(first);
    assert!(tunnels(&proxy).await.iter().all(|tunnel| tunnel.backend == id(3)));
    let back = "backend is in the answer again; what ctl set for it still holds";
    proxy.nth_record(back, 2, |record| record["message"] == back).await;
    for number in [1, 2] {
        let scope = json!({"backend": id(number)});
        proxy.command(json!({"command": "undrain", "scope": scope})).await;
    }
    assert_eq!(backends(&tunnels(&proxy).await), ids(&[1, 2, 3]));
}

const MOVING: &str = "rebalance = \"on_scale_out\"\nrebalance_rate = \"1000/s\"\n";

/// The resolver loses the addresses of one family for a moment.
async fn flap(numbers: &[u8]) {
    let v4 = numbers.iter().map(|number| ip(*number)).collect::<Vec<_>>();
    let both = Answer::Both(v4.clone(), vec![Ipv6Addr::LOCALHOST]);
    let server = NameServer::start(both.clone(), "").await;
    applications(numbers.iter().copied()).await;
    let v6 = application_v6().await;
    let proxy = proxy("app.internal", MOVING).await;
    let (with_v6, without) = match numbers {
        [_] => (vec![name()], vec![name()]),
        _ => ([ids(numbers), vec![v6.clone()]].concat(), ids(numbers)),
    };
    wait_for(&proxy, &with_v6).await;
    let mut first = tunnels(&proxy).await;
    assert!(first.iter().any(|tunnel| tunnel.backend == v6));
    for _ in 0..3 {
        for (answer, expected, addresses) in [
            (Answer::Addresses(v4.clone()), &without, numbers.len()),
            (both.clone(), &with_v6, numbers.len() + 1),
        ] {
            server.answer(answer);
            within_timeout("the answer", async {
                while pool(&proxy).await["names"][0]["addresses"] != addresses {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            wait_for(&proxy, expected).await;
            for tunnel in &mut first {
                tunnel.assert_relays().await;
            }
            let row = rebalance(&proxy, true).await;
            assert_eq!((&row["tunnels"], &row["moving"]), (&24.into(), &0.into()), "{row}");
        }
    }
    // A change counts after two looks, a second apart.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    for tunnel in &mut first {
        tunnel.assert_relays().await;
    }
    assert_eq!(open(&proxy).await.iter().map(|(_, open)| open).sum::<u64>(), 24);
}

// Requirements: BM21.
#[tokio::test]
async fn flapping_family_of_one_machine_closes_no_tunnel() {
    if is_own_network("name_growth::flapping_family_of_one_machine_closes_no_tunnel") {
        flap(&[1]).await;
    }
}

// Requirements: BM21.
#[tokio::test]
async fn flapping_family_of_several_machines_closes_no_tunnel() {
    if is_own_network("name_growth::flapping_family_of_several_machines_closes_no_tunnel") {
        flap(&[1, 2]).await;
    }
}
