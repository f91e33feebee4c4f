//! Names with several addresses, through the system's resolver and a scripted name server: each address is a backend,
//! and open tunnels notice nothing of what the name server says.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::support::control::CONTROL;
use crate::support::name_server::{Answer, NameServer};
use crate::support::own_network::is_own_network;
use crate::support::{
    Client, PlainStream, Proxy, TIDEGATE, read_head, switching_protocols, upgrade, wire,
    within_timeout,
};

pub const PORT: u16 = 9000;

pub fn ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, number)
}

pub fn id(number: u8) -> String {
    format!("{}:{PORT}", ip(number))
}

/// The id of the name.
pub fn name() -> String {
    format!("app.internal:{PORT}")
}

pub fn answer(numbers: &[u8]) -> Answer {
    Answer::Addresses(numbers.iter().map(|number| ip(*number)).collect())
}

/// Applications at these addresses that send their address as the first message, and then echo.
#[expect(clippy::disallowed_methods, reason = "bounded by the test's own traffic")]
pub async fn applications(numbers: impl IntoIterator<Item = u8>) {
    for number in numbers {
        let listener = TcpListener::bind((ip(number), PORT)).await.unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(BufReader::new(stream), id(number)));
            }
        });
    }
}

pub async fn serve(mut stream: PlainStream, id: String) {
    let head = read_head(&mut stream).await;
    let hello = wire::unmasked(0x80 | wire::TEXT, id.as_bytes());
    if stream.write_all(&[switching_protocols(&head).as_bytes(), &hello].concat()).await.is_err() {
        return;
    }
    while let Some(frame) = wire::read(&mut stream).await {
        if stream.write_all(&wire::unmasked(frame.first, &frame.payload)).await.is_err() {
            return;
        }
    }
}

/// A proxy whose pool has this name. Tunnels of lost backends are drained at once.
pub async fn proxy(name: &str, more: &str) -> Proxy {
    Proxy::start(&format!(
        "{CONTROL}[drain]\nwindow = \"100ms\"\n\
         [[route]]\nname = \"all\"\nhost = \"*\"\norigins = [\"*\"]\npool = \"chat\"\n\
         [[pool]]\nname = \"chat\"\nbackends = [\"{name}:{PORT}\"]\nresolve = \"1s\"\n\
         on_backend_loss = \"drain\"\n{more}"
    ))
    .await
}

pub struct Tunnel {
    pub stream: PlainStream,
    pub backend: String,
}

impl Tunnel {
    /// Opens the tunnel of the client with this number.
    pub async fn open(proxy: &Proxy, client: u8) -> Self {
        let stream = Client::new(proxy).await.connect_plain_from([127, 0, 0, client]).await;
        let mut stream = upgrade(stream).await;
        let hello = wire::read(&mut stream).await.unwrap();
        Self { stream, backend: String::from_utf8(hello.payload).unwrap() }
    }

    pub async fn assert_relays(&mut self) {
        self.stream.write_all(&wire::masked(0x80 | wire::TEXT, b"hello")).await.unwrap();
        let frame =
            within_timeout("the echo", wire::read_past_pings(&mut self.stream)).await.unwrap();
        assert_eq!((frame.opcode(), &frame.payload[..]), (wire::TEXT, &b"hello"[..]));
    }
}

/// Opens one tunnel for each of 24 clients.
pub async fn tunnels(proxy: &Proxy) -> Vec<Tunnel> {
    let mut opened = Vec::new();
    for client in 1..=24 {
        opened.push(Tunnel::open(proxy, client).await);
    }
    opened
}

pub fn backends(tunnels: &[Tunnel]) -> Vec<&str> {
    let mut backends: Vec<&str> = tunnels.iter().map(|tunnel| &*tunnel.backend).collect();
    backends.sort_unstable();
    backends.dedup();
    backends
}

pub async fn pool(proxy: &Proxy) -> Value {
    proxy.command(json!({"command": "status"})).await["pools"][0].clone()
}

/// The ids of the backends with their states.
pub fn states(pool: &Value) -> Vec<(String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = pool["backends"].as_array().unwrap();
    rows.iter().map(|row| (text(row, "id"), text(row, "state"))).collect()
}

/// Waits until the pool has exactly these backends, apart from those that have only old tunnels.
pub async fn wait_for(proxy: &Proxy, expected: &[String]) {
    within_timeout("the backends", async {
        loop {
            let present = states(&pool(proxy).await);
            let present = present.into_iter().filter(|(_, state)| state != "absent");
            if present.map(|(id, _)| id).eq(expected.iter().cloned()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

pub fn ids(numbers: &[u8]) -> Vec<String> {
    numbers.iter().map(|number| id(*number)).collect()
}

// Requirements: BM21, BM23.
#[tokio::test]
async fn open_tunnels_stay_while_addresses_change() {
    if !is_own_network("backend_names::open_tunnels_stay_while_addresses_change") {
        return;
    }
    let server = NameServer::start(answer(&[2, 1]), "").await;
    applications(1..=4).await;
    let proxy = proxy("app.internal", "").await;
    wait_for(&proxy, &ids(&[1, 2])).await;
    let mut first = tunnels(&proxy).await;
    assert_eq!(backends(&first), ids(&[1, 2]));
    // Others in another order, flapping, and fewer.
    let script: [&[u8]; 8] =
        [&[1, 2, 3], &[3, 1], &[1, 3], &[4], &[1, 3], &[4], &[3, 4, 1], &[3, 4]];
    for numbers in script {
        server.answer(answer(numbers));
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        let expected = match sorted[..] {
            [_] => vec![name()],
            _ => ids(&sorted),
        };
        wait_for(&proxy, &expected).await;
        for tunnel in &mut first {
            tunnel.assert_relays().await;
        }
    }
    let second = tunnels(&proxy).await;
    assert_eq!(backends(&second), ids(&[3, 4]), "an address that is gone gets no new tunnels");
    let shown = pool(&proxy).await;
    let absent = |row: &&Value| row["state"] == "absent";
    let rows = shown["backends"].as_array().unwrap();
    let absent: Vec<_> = rows.iter().filter(absent).map(|row| row["id"].clone()).collect();
    assert_eq!(absent, ids(&[1, 2]));
    let open: u64 = rows.iter().map(|row| row["tunnels"].as_u64().unwrap()).sum();
    assert_eq!((open, shown["tunnels"].as_u64()), (48, Some(48)));
    let status = proxy.command(json!({"command": "status"})).await;
    assert_eq!(status["generation"], 1, "this is no reload");
    // Their tunnels can be selected by name and by address.
    let named = json!({"backend": format!("app.internal:{PORT}")});
    let listed = proxy.command(json!({"command": "sessions", "selection": named})).await;
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 48);
    let selection = json!({"backend": id(1)});
    let killed = json!({"command": "kill", "selection": selection, "all": false, "close": {}});
    let of_one = first.iter().filter(|tunnel| tunnel.backend == id(1)).count();
    assert_eq!(proxy.command(killed).await["sessions"], of_one);
    drop(first);
    let ended = proxy.record("end", |record| record["backend"] == id(2).as_str()).await;
    assert_eq!(ended["route"], "all", "{ended}");
}

// Requirements: BM21.
#[tokio::test]
async fn failed_lookups_keep_the_last_addresses() {
    if !is_own_network("backend_names::failed_lookups_keep_the_last_addresses") {
        return;
    }
    let server = NameServer::start(answer(&[1, 2]), "").await;
    applications(1..=2).await;
    let proxy = proxy("app.internal", "").await;
    wait_for(&proxy, &ids(&[1, 2])).await;
    let mut open = tunnels(&proxy).await;
    let failures: [(Answer, &str); 4] = [
        (Answer::NoSuchName, "Name or service not known"),
        (Answer::ServerFailure, "Temporary failure in name resolution"),
        (Answer::Empty, "No address associated with hostname"),
        (Answer::Silence, "Temporary failure in name resolution"),
    ];
    let labels = |outcome| [("route", "all"), ("name", "app.internal:9000"), ("outcome", outcome)];
    for (n, (failure, cause)) in failures.into_iter().enumerate() {
        let what = format!("{failure:?}");
        server.answer(failure);
        let is_failing = |record: &Value| {
            record["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("lookups of the name of a backend fail"))
        };
        let logged = proxy.nth_record(&what, n + 1, is_failing).await;
        assert!(logged["error"].as_str().unwrap().ends_with(cause), "{logged}");
        assert_eq!(
            (logged["name"].as_str(), logged["addresses"].as_u64()),
            (Some("app.internal:9000"), Some(2))
        );
        // It is not logged again, but shown and counted.
        let failed =
            proxy.scrape().await.value("tidegate_backend_name_lookups_total", &labels("failed"));
        within_timeout("more lookups", async {
            while proxy
                .scrape()
                .await
                .value("tidegate_backend_name_lookups_total", &labels("failed"))
                < failed + 2.0
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert_eq!(proxy.records().iter().filter(|record| is_failing(record)).count(), n + 1);
        let pool = pool(&proxy).await;
        assert!(pool["names"][0]["problem"].as_str().unwrap().ends_with(cause), "{pool}");
        assert_eq!(states(&pool).len(), 2, "{pool}");
        let shown = std::process::Command::new(TIDEGATE)
            .args(["ctl", "--socket"])
            .arg(proxy.control_socket())
            .arg("status")
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(
            shown.contains(&format!("{cause}; 2 addresses of the last answer in use")),
            "{shown}"
        );
        assert_eq!(backends(&tunnels(&proxy).await), ids(&[1, 2]), "{what}");
        for tunnel in &mut open {
            tunnel.assert_relays().await;
        }
        server.answer(answer(&[2, 1]));
        let recovered = "lookups of the name of a backend succeed again";
        proxy.nth_record(recovered, n + 1, |record| record["message"] == recovered).await;
    }
    let scrape = proxy.scrape().await;
    let addresses = [("route", "all"), ("name", "app.internal:9000")];
    assert_eq!(scrape.value("tidegate_backend_name_addresses", &addresses), 2.0);
    assert!(scrape.value("tidegate_backend_name_lookups_total", &labels("succeeded")) >= 5.0);
}

// Requirements: BM21.
#[tokio::test]
async fn truncated_answer_with_200_addresses_is_complete() {
    if !is_own_network("backend_names::truncated_answer_with_200_addresses_is_complete") {
        return;
    }
    let all: Vec<u8> = (1..=200).collect();
    let server = NameServer::start(answer(&all), "").await;
    applications(1..=200).await;
    let proxy = proxy("app.internal", "").await;
    wait_for(&proxy, &ids(&all)).await;
    assert!(server.queries().contains(&"app.internal/tcp".to_owned()));
    let mut open = tunnels(&proxy).await;
    assert!(backends(&open).len() > 10, "{:?}", backends(&open));
    server.answer(answer(&all[..100]));
    wait_for(&proxy, &ids(&all[..100])).await;
    for tunnel in &mut open {
        tunnel.assert_relays().await;
    }
}

#[tokio::test]
async fn address_without_application_is_down_alone() {
    if !is_own_network("backend_names::address_without_application_is_down_alone") {
        return;
    }
    let _server = NameServer::start(answer(&[1, 2, 99]), "").await;
    applications(1..=2).await;
    let proxy = proxy("app.internal", "[pool.probe]\nkind = \"tcp\"\ninterval = \"1s\"\n").await;
    wait_for(&proxy, &ids(&[1, 2, 99])).await;
    let expected =
        [(id(1), "up"), (id(2), "up"), (id(99), "down")].map(|(id, state)| (id, state.to_owned()));
    within_timeout("probes", async {
        while states(&pool(&proxy).await) != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(backends(&tunnels(&proxy).await), ids(&[1, 2]));
}

#[tokio::test]
async fn name_with_one_address_keeps_its_id() {
    if !is_own_network("backend_names::name_with_one_address_keeps_its_id") {
        return;
    }
    let server = NameServer::start(answer(&[1]), "").await;
    applications(1..=3).await;
    let (proxy, name) = (proxy("app.internal", "").await, format!("app.internal:{PORT}"));
    let mut first = Tunnel::open(&proxy, 1).await;
    assert_eq!(first.backend, id(1));
    assert_eq!(states(&pool(&proxy).await)[0].0, name);
    server.answer(answer(&[2]));
    let moved = "name of a backend has other addresses; open tunnels stay where they are";
    let moved = proxy.record(moved, |record| record["message"] == moved).await;
    assert_eq!(
        (moved["added"].as_str(), moved["removed"].as_str()),
        (Some(&*id(2)), Some(&*id(1)))
    );
    assert_eq!(Tunnel::open(&proxy, 1).await.backend, id(2));
    // A name that is drained stays drained with whatever addresses it has.
    proxy.command(json!({"command": "weight", "backend": name, "weight": 5})).await;
    server.answer(answer(&[2, 3]));
    wait_for(&proxy, &ids(&[2, 3])).await;
    let explained =
        json!({"command": "explain", "url": "ws://localhost/", "origin": null, "address": null});
    let explained = proxy.command(explained).await.to_string();
    assert!(explained.contains(&format!("{} of {name} (weight 5, ", id(3))), "{explained}");
    first.assert_relays().await;
    let drained = pool(&proxy).await;
    assert!(
        drained["backends"].as_array().unwrap().iter().all(|row| row["name"] == name),
        "{drained}"
    );
}

#[tokio::test]
async fn final_dot_excludes_search_domains() {
    if !is_own_network("backend_names::final_dot_excludes_search_domains") {
        return;
    }
    let server = NameServer::start(answer(&[1]), "search corp.test\noptions ndots:5\n").await;
    applications(1..=1).await;
    let with_dot = proxy("app.internal.", "").await;
    assert_eq!(Tunnel::open(&with_dot, 1).await.backend, id(1));
    assert!(server.queries().iter().all(|name| name == "app.internal"), "{:?}", server.queries());
    let _without = proxy("app.internal", "").await;
    let is_searched = || server.queries().iter().any(|name| name == "app.internal.corp.test");
    assert!(is_searched(), "{:?}", server.queries());
}
