//! Which backend of a pool a request goes to: by a part of the request, by load or in turn.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};

use crate::backend_connect::RefusingAddress;
use crate::stickiness::named;
use crate::support::control::CONTROL;
use crate::support::{
    Backend, Client, HANDSHAKE, PlainStream, Proxy, read_response, read_to_end, wire,
};

/// Backends with the ids `a`, `b` and so on.
pub struct Backends(pub Vec<(&'static str, Backend)>);

impl Backends {
    /// Starts one for each id.
    pub async fn start<const N: usize>(ids: [&'static str; N]) -> Self {
        let mut backends = Vec::new();
        for id in ids {
            backends.push((id, named(id).await));
        }
        Self(backends)
    }

    /// A pool of them, the last one first, that has these keys as well.
    pub fn pool(&self, keys: &str) -> String {
        let each = |(id, backend): &(&str, Backend)| {
            format!("{{ address = \"{}\", id = \"{id}\" }}", backend.address)
        };
        let list: Vec<String> = self.0.iter().rev().map(each).collect();
        pool_of(&list.join(", "), keys)
    }
}

/// A route to a pool of this list of backends.
pub fn pool_of(backends: &str, keys: &str) -> String {
    format!(
        "{CONTROL}[[route]]\nname = \"all\"\nhost = \"*\"\norigins = [\"*\"]\npool = \"chat\"\n\
         [[pool]]\nname = \"chat\"\nbackends = [{backends}]\n{keys}\n"
    )
}

/// A request head with another target and these fields.
pub fn with(target: &str, fields: &str) -> String {
    HANDSHAKE.replacen("/ws", target, 1).replacen("\r\n\r\n", &format!("\r\n{fields}\r\n"), 1)
}

/// Opens a tunnel; returns it and the name of its backend.
pub async fn open(client: &Client, from: u8, head: &str) -> (PlainStream, String) {
    let mut stream = BufReader::new(client.connect_plain_from([127, 0, 0, from]).await);
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 101);
    let hello = wire::read(&mut stream).await.unwrap();
    (stream, String::from_utf8(hello.payload).unwrap())
}

/// The backend of a plain request.
async fn plain(client: &Client, from: u8, head: &str) -> String {
    let mut stream = BufReader::new(client.connect_plain_from([127, 0, 0, from]).await);
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 200);
    String::from_utf8(read_to_end(&mut stream).await).unwrap()
}

/// Opens this number of tunnels from different clients; returns them and how many each backend has.
async fn open_many(
    client: &Client,
    clients: std::ops::Range<u8>,
) -> (Vec<PlainStream>, BTreeMap<String, usize>) {
    let (mut tunnels, mut counts) = (Vec::new(), BTreeMap::new());
    for from in clients {
        let (tunnel, name) = open(client, from, HANDSHAKE).await;
        tunnels.push(tunnel);
        *counts.entry(name).or_default() += 1;
    }
    (tunnels, counts)
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// The result of the check `backend` of `ctl explain`.
pub async fn explained(proxy: &Proxy, url: &str, headers: &[&str]) -> String {
    let request = json!({"command": "explain", "url": url, "address": "127.0.0.1", "origin": null,
        "headers": headers});
    let received = proxy.command(request).await;
    let steps = received["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["check"] == "backend").unwrap();
    step["result"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn key_of_the_request_selects_the_backend() {
    const ROOMS: [&str; 12] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "x", "y"];
    let backends = Backends::start(["a", "b", "c"]).await;
    let mut expected: Option<Vec<String>> = None;
    for (hash, target, fields) in [
        ("cookie:room", "/", "Cookie: other=1; room=ROOM\r\n"),
        ("header:X-Room", "/", "X-Room: ROOM\r\n"),
        ("query:room", "/?a=1&room=ROOM", ""),
        ("path:2", "/room/ROOM/ws", ""),
        ("/room/{id}", "/room/ROOM/ws", ""),
    ] {
        // Another process for each source.
        let proxy = Proxy::start(&backends.pool(&format!("hash = \"{hash}\""))).await;
        let client = Client::new(&proxy).await;
        let mut found = Vec::new();
        for (from, room) in (1..).zip(ROOMS) {
            let [target, fields] = [target, fields].map(|text| text.replace("ROOM", room));
            let (_tunnel, name) = open(&client, from, &with(&target, &fields)).await;
            let get = format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n"
            );
            assert_eq!(plain(&client, from + 40, &get).await, name, "{hash} {room}");
            found.push(name);
        }
        assert!(["a", "b", "c"].iter().all(|name| found.iter().any(|of| of == name)), "{found:?}");
        assert_eq!(*expected.get_or_insert(found.clone()), found, "{hash}");
    }
}

#[tokio::test]
async fn request_without_the_key_is_hashed_by_client() {
    let backends = Backends::start(["a", "b", "c"]).await;
    let proxy = Proxy::start(&backends.pool("")).await;
    let client = Client::new(&proxy).await;
    let mut expected = Vec::new();
    for from in 1..9 {
        expected.push(open(&client, from, HANDSHAKE).await.1);
    }
    proxy.reload_with("id = \"a\" }]", "id = \"a\" }]\nhash = \"cookie:room\"").await;
    for (from, name) in (1..9).zip(&expected) {
        assert_eq!(open(&client, from, &with("/", "Cookie: room=\r\n")).await.1, *name);
    }
    let result = explained(&proxy, "ws://localhost/", &[]).await;
    let reason = "by hash of the client key, since the request has no cookie:room";
    assert!(result.starts_with(&expected[0]) && result.contains(reason), "{result}");
}

#[tokio::test]
async fn round_robin_gives_each_backend_its_turn() {
    let backends = Backends::start(["a", "b", "c"]).await;
    let proxy = Proxy::start(&backends.pool("balance = \"round-robin\"")).await;
    let client = Client::new(&proxy).await;
    let (tunnels, found) = open_many(&client, 1..13).await;
    assert_eq!(found, counts(&[("a", 4), ("b", 4), ("c", 4)]));
    // A prediction takes no turn.
    let [one, other] = [
        explained(&proxy, "ws://localhost/", &[]).await,
        explained(&proxy, "ws://localhost/", &[]).await,
    ];
    assert_eq!(one, other);
    assert!(one.contains(", whose turn it is; then "), "{one}");
    let next = open(&client, 1, HANDSHAKE).await.1;
    assert!(one.starts_with(&format!("{next} ")), "{next}, not {one}");
    let labels = [("route", "all"), ("chosen_by", "round_robin")];
    assert_eq!(proxy.scrape().await.value("tidegate_backend_choices_total", &labels), 13.0);
    drop(tunnels);
    assert_eq!(proxy.tunnel_end(1).await["choice"], "round_robin");
}

#[tokio::test]
async fn least_connections_fills_the_emptiest_backend() {
    let backends = Backends::start(["a", "b"]).await;
    let alone = backends
        .pool("balance = \"least-connections\"")
        .replace("id = \"a\"", "id = \"a\", weight = 2");
    let proxy = Proxy::start(&alone).await;
    let client = Client::new(&proxy).await;
    let (tunnels, found) = open_many(&client, 1..13).await;
    assert_eq!(found, counts(&[("a", 8), ("b", 4)]));
    // The count survives a reload, and ends with the tunnels.
    proxy.reload_with("weight = 2", "weight = 1").await;
    let (more, found) = open_many(&client, 1..7).await;
    assert_eq!(found, counts(&[("a", 1), ("b", 5)]));
    drop((tunnels, more));
    proxy.status("no tunnels", |status| status["tunnels"]["open"] == 0).await;
    let (_tunnels, found) = open_many(&client, 1..7).await;
    assert_eq!(found, counts(&[("a", 3), ("b", 3)]));
}

#[tokio::test]
async fn random_two_uses_every_backend() {
    let backends = Backends::start(["a", "b", "c"]).await;
    let proxy = Proxy::start(&backends.pool("balance = \"random-two\"")).await;
    let client = Client::new(&proxy).await;
    let (_tunnels, found) = open_many(&client, 1..61).await;
    // Two drawn at random from three: the fullest never gets more.
    assert!(found.values().all(|count| (17..=23).contains(count)), "{found:?}");
}

#[tokio::test]
async fn balance_factor_bounds_each_backend() {
    let backends = Backends::start(["a", "b", "c"]).await;
    let proxy =
        Proxy::start(&backends.pool("hash = \"header:X-Room\"\nhash_balance_factor = 110")).await;
    let client = Client::new(&proxy).await;
    let (mut tunnels, mut found) = (Vec::new(), BTreeMap::<String, Vec<usize>>::new());
    for room in 0..60 {
        let (tunnel, name) = open(&client, 1, &with("/", &format!("X-Room: {room}\r\n"))).await;
        tunnels.push(tunnel);
        found.entry(name).or_default().push(room);
    }
    assert!(found.values().all(|rooms| rooms.len() <= 22), "{found:?}");
    let of = |reason| [("route", "all"), ("chosen_by", reason)];
    let scrape = proxy.scrape().await;
    let choices = |reason| scrape.value("tidegate_backend_choices_total", &of(reason));
    assert_eq!(choices("hash") + choices("hash_balance_factor"), 60.0);
    assert!(choices("hash_balance_factor") >= 1.0);
    // Rooms stay together while they are in use, however full their backend is.
    for (name, rooms) in &found {
        for room in rooms {
            let (tunnel, now) = open(&client, 2, &with("/", &format!("X-Room: {room}\r\n"))).await;
            assert_eq!(now, *name, "room {room}");
            tunnels.push(tunnel);
        }
    }
    let affinity = proxy.scrape().await.value("tidegate_backend_choices_total", &of("affinity"));
    assert_eq!(affinity, 60.0);
}

/// Waits until three attempts to connect to this backend have failed.
pub async fn until_ejected(proxy: &Proxy, id: &str) {
    let has_failed =
        |backend: &Value| backend["id"] == id && backend["connect_failures"].as_u64() >= Some(3);
    let is_ejected =
        |status: &Value| status["pools"][0]["backends"].as_array().unwrap().iter().any(has_failed);
    proxy.status("an ejected backend", is_ejected).await;
}

#[tokio::test]
async fn backup_is_used_when_the_others_are_ejected() {
    let backup = named("backup").await;
    let refusing = RefusingAddress::new();
    let list = format!(
        "{{ address = \"{}\", id = \"first\" }}, {{ address = \"{}\", id = \"backup\", backup = true }}",
        refusing.address, backup.address
    );
    let proxy = Proxy::start(&pool_of(&list, "")).await;
    let client = Client::new(&proxy).await;
    let result = explained(&proxy, "ws://localhost/", &[]).await;
    assert_eq!(
        result,
        "first (weight 1, untried); then backup (weight 1, backup, untried) of pool \"chat\""
    );
    for from in 1..4 {
        assert_eq!(open(&client, from, HANDSHAKE).await.1, "backup");
    }
    until_ejected(&proxy, "first").await;
    let result = explained(&proxy, "ws://localhost/", &[]).await;
    assert!(result.starts_with("backup (weight 1, backup, up)"), "{result}");
}

#[tokio::test]
async fn recovered_backend_gets_its_clients_back_slowly() {
    let steady = named("steady").await;
    let refusing = RefusingAddress::new();
    let list = format!(
        "{{ address = \"{}\", id = \"back\" }}, {{ address = \"{}\", id = \"steady\" }}",
        refusing.address, steady.address
    );
    let proxy = Proxy::start(&pool_of(&list, "slow_start = \"24h\"")).await;
    let client = Client::new(&proxy).await;
    for from in 1..4 {
        assert_eq!(open(&client, from, HANDSHAKE).await.1, "steady");
    }
    until_ejected(&proxy, "back").await;
    let listener = refusing.listen();
    // The probe of the backend that is down.
    let probed = listener.accept().await.unwrap();
    let is_up = |backend: &Value| backend["state"] == "up";
    proxy
        .status("backends that are up", |status| {
            status["pools"][0]["backends"].as_array().unwrap().iter().all(is_up)
        })
        .await;
    drop(probed);
    // A hundredth of its weight does not bring back this client, which is its own.
    let result = explained(&proxy, "ws://localhost/", &[]).await;
    assert!(
        result.starts_with("steady (weight 1, up); then back (weight 1, slow start at 1 %, up)"),
        "{result}"
    );
    let status = proxy.command(json!({"command": "status"})).await;
    let row = |id: &str| {
        let mut rows = status["pools"][0]["backends"].as_array().unwrap().iter();
        rows.find(|row| row["id"] == id).unwrap().clone()
    };
    assert_eq!(
        (&row("steady")["slow_start"], &row("back")["slow_start"]),
        (&Value::Null, &0.01.into())
    );
    assert_eq!(row("back")["ejected"], false);
    proxy.reload_with("slow_start = \"24h\"", "slow_start = \"off\"").await;
    let result = explained(&proxy, "ws://localhost/", &[]).await;
    assert!(result.starts_with("back (weight 1, up); then steady (weight 1, up)"), "{result}");
}
