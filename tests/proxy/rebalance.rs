//! Tunnels that are closed because their clients have another backend now, and all others, which are not.

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::backend_connect::RefusingAddress;
use crate::balancing::{Backends, explained, open, pool_of, until_ejected, with};
use crate::stickiness::named;
use crate::support::{
    Client, HANDSHAKE, PlainStream, Proxy, read_head, read_to_end, switching_protocols, wire,
    within_timeout,
};

/// A pool whose backend `d` is missing, with the header `X-Room` as its hash and these keys as well.
pub fn without_d(backends: &Backends, keys: &str) -> (String, String) {
    let all = backends.pool(&format!("hash = \"header:X-Room\"\n{keys}")) + NO_PINGS;
    let d = format!("{{ address = \"{}\", id = \"d\" }}, ", backends.0[3].1.address);
    (all.replace(&d, ""), d)
}

/// The clients of these tests answer no pings.
pub const NO_PINGS: &str = "[heartbeat]\ninterval = \"off\"\n";

/// A tunnel of a room.
pub struct RoomTunnel {
    pub room: usize,
    pub stream: PlainStream,
    pub backend: String,
}

fn room_head(room: usize) -> String {
    with("/", &format!("X-Room: {room}\r\n"))
}

/// Opens one tunnel for each room, from several addresses.
pub async fn open_rooms(client: &Client, rooms: std::ops::Range<usize>) -> Vec<RoomTunnel> {
    let mut tunnels = Vec::new();
    for room in rooms {
        let from = u8::try_from(room % 200).unwrap() + 1;
        let (stream, backend) = open(client, from, &room_head(room)).await;
        tunnels.push(RoomTunnel { room, stream, backend });
    }
    tunnels
}

/// Reloads with `d` in the list of backends.
pub async fn add_d(proxy: &Proxy, d: &str) {
    proxy.reload_with("backends = [", &format!("backends = [{d}")).await;
}

/// Sends a message, and waits for its echo.
pub async fn assert_open(tunnel: &mut RoomTunnel) {
    tunnel.stream.write_all(&wire::masked(0x81, b"still here")).await.unwrap();
    let echo = wire::read_past_pings(&mut tunnel.stream).await.unwrap();
    assert_eq!((echo.first, &echo.payload[..]), (0x81, &b"still here"[..]), "{}", tunnel.room);
}

pub async fn close_code(tunnel: &mut RoomTunnel) -> u16 {
    wire::read_past_pings(&mut tunnel.stream).await.unwrap().code()
}

/// The tunnels whose rooms have another backend now, and the others.
pub async fn split(proxy: &Proxy, tunnels: Vec<RoomTunnel>) -> (Vec<RoomTunnel>, Vec<RoomTunnel>) {
    let (mut moving, mut staying) = (Vec::new(), Vec::new());
    for tunnel in tunnels {
        let room = format!("X-Room: {}", tunnel.room);
        let result = explained(proxy, "ws://localhost/", &[&room]).await;
        let stays = result.starts_with(&format!("{} ", tunnel.backend));
        if stays { &mut staying } else { &mut moving }.push(tunnel);
    }
    (moving, staying)
}

pub async fn rebalance(proxy: &Proxy, per_second: Option<u32>, dry_run: bool) -> Value {
    let request = json!({"command": "rebalance", "pool": "chat", "per_second": per_second,
        "dry_run": dry_run});
    proxy.command(request).await["pools"][0].clone()
}

#[tokio::test]
async fn only_tunnels_of_the_new_backend_are_closed() {
    const ROOMS: usize = 160;
    const RATE: usize = 20;
    let backends = Backends::start(["a", "b", "c", "d"]).await;
    let (config, d) = without_d(&backends, "");
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    let tunnels = open_rooms(&client, 0..ROOMS).await;
    assert_eq!(rebalance(&proxy, None, false).await["moving"], 0);
    add_d(&proxy, &d).await;
    let (mut moving, mut staying) = split(&proxy, tunnels).await;
    assert!((ROOMS / 8..ROOMS * 3 / 8).contains(&moving.len()), "{}", moving.len());
    let expected = json!({"pool": "chat", "tunnels": ROOMS, "moving": moving.len(), "held": 0,
        "per_second": RATE, "joined": false, "unmovable": null});
    assert_eq!(rebalance(&proxy, None, true).await, expected);
    // A preview closes nothing.
    assert_eq!(rebalance(&proxy, Some(RATE as u32), true).await, expected);
    let start = Instant::now();
    assert_eq!(rebalance(&proxy, None, false).await, expected);
    for tunnel in &mut moving {
        assert_eq!(close_code(tunnel).await, 1012);
    }
    let least = (moving.len() - 1) as f64 / RATE as f64 * 0.9;
    assert!(start.elapsed().as_secs_f64() >= least, "{:?}", start.elapsed());
    let rooms: Vec<usize> = moving.iter().map(|tunnel| tunnel.room).collect();
    drop(moving);
    for room in &rooms {
        let back = open_rooms(&client, *room..room + 1).await.remove(0);
        assert_eq!(back.backend, "d");
        staying.push(back);
    }
    for tunnel in &mut staying {
        assert_open(tunnel).await;
    }
    let is_end = |record: &Value| record["event"] == "ended" && record["end"] == "rebalance";
    let record = proxy.nth_record("the last end", rooms.len(), is_end).await;
    assert_eq!((&record["by"], &record["close_client"]), (&"tidegate".into(), &1012.into()));
    let labels = [("by", "tidegate"), ("reason", "rebalance")];
    let closed = proxy.scrape().await.sum("tidegate_tunnels_ended_total", &labels);
    assert_eq!(closed as usize, rooms.len());
    proxy.record("its end", |record| record["message"] == "rebalance finished").await;
    // A client that was moved is not moved again soon, wherever it belongs.
    let weight = json!({"command": "weight", "backend": "d", "route": null, "weight": 1});
    proxy.command(weight).await;
    for id in ["a", "b", "c"] {
        let request = json!({"command": "weight", "backend": id, "route": null, "weight": 1000});
        proxy.command(request).await;
    }
    let after = rebalance(&proxy, None, true).await;
    assert!(after["held"].as_u64().unwrap() as usize >= rooms.len() * 9 / 10, "{after}");
    let (kind, _) = proxy
        .command_error(
            json!({"command": "rebalance", "pool": "x", "per_second": null, "dry_run": true}),
        )
        .await;
    assert_eq!(kind, "not_found");
}

#[tokio::test]
async fn new_backend_gets_its_clients_by_itself() {
    let backends = Backends::start(["a", "b", "c", "d"]).await;
    let (config, d) =
        without_d(&backends, "rebalance = \"on_scale_out\"\nrebalance_rate = \"500/s\"");
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    let tunnels = open_rooms(&client, 0..60).await;
    add_d(&proxy, &d).await;
    let (mut moving, mut staying) = split(&proxy, tunnels).await;
    assert!(!moving.is_empty());
    for tunnel in &mut moving {
        assert_eq!(close_code(tunnel).await, 1012);
        assert_eq!(open(&client, 1, &room_head(tunnel.room)).await.1, "d");
    }
    for tunnel in &mut staying {
        assert_open(tunnel).await;
    }
    let is_start = |record: &Value| record["message"] == "rebalance started: the pool has changed";
    let started = proxy.record("its start", is_start).await;
    assert_eq!((&started["pool"], &started["tunnels"]), (&"chat".into(), &moving.len().into()));
}

/// Answers handshakes with this name as the first message.
#[expect(clippy::disallowed_methods, reason = "bounded by the test's own traffic")]
async fn serve_as(name: &'static str, listener: TcpListener) {
    loop {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        tokio::spawn(async move {
            let head = read_head(&mut stream).await;
            // A probe sends nothing.
            if !head.is_empty() {
                let hello = wire::unmasked(0x81, name.as_bytes());
                let response = [switching_protocols(&head).as_bytes(), &hello].concat();
                stream.write_all(&response).await.unwrap();
                read_to_end(&mut stream).await;
            }
        });
    }
}

#[tokio::test]
async fn backend_that_is_back_gets_its_clients_again() {
    let (steady, refusing) = (named("steady").await, RefusingAddress::new());
    let list = format!(
        "{{ address = \"{}\", id = \"back\" }}, {{ address = \"{}\", id = \"steady\" }}",
        refusing.address, steady.address
    );
    let keys = "hash = \"header:X-Room\"\nrebalance = \"on_scale_out\"\nrebalance_rate = \"500/s\"";
    let proxy = Proxy::start(&(pool_of(&list, keys) + NO_PINGS)).await;
    let client = Client::new(&proxy).await;
    let tunnels = open_rooms(&client, 0..30).await;
    assert!(tunnels.iter().all(|tunnel| tunnel.backend == "steady"));
    until_ejected(&proxy, "back").await;
    let serving = serve_as("back", refusing.listen());
    let moving = async {
        let is_up = |backend: &Value| backend["state"] == "up";
        let all_up =
            |status: &Value| status["pools"][0]["backends"].as_array().unwrap().iter().all(is_up);
        proxy.status("both backends", all_up).await;
        let (mut moving, mut staying) = split(&proxy, tunnels).await;
        assert!(!moving.is_empty() && !staying.is_empty());
        for tunnel in &mut moving {
            assert_eq!(close_code(tunnel).await, 1012);
            assert_eq!(open(&client, 1, &room_head(tunnel.room)).await.1, "back");
        }
        for tunnel in &mut staying {
            assert_open(tunnel).await;
        }
    };
    tokio::select! {
        () = serving => {}
        () = moving => {}
    }
}

#[tokio::test]
async fn stopped_rebalance_leaves_the_rest_open() {
    let backends = Backends::start(["a", "b", "c", "d"]).await;
    let (config, d) = without_d(&backends, "");
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    let tunnels = open_rooms(&client, 0..100).await;
    add_d(&proxy, &d).await;
    let (moving, _staying) = split(&proxy, tunnels).await;
    let stop = json!({"command": "stop_rebalance", "pool": null});
    // There is nothing to stop.
    assert_eq!(proxy.command(stop.clone()).await, json!({"pools": 0, "closed": 0}));
    rebalance(&proxy, Some(1), false).await;
    let status = proxy.command(json!({"command": "status"})).await;
    assert_eq!(
        (&status["rebalances"][0]["pool"], &status["rebalances"][0]["per_second"]),
        (&"chat".into(), &1.into())
    );
    let stopped = proxy.command(stop).await;
    let closed = stopped["closed"].as_u64().unwrap() as usize;
    assert!(stopped["pools"] == 1 && closed < moving.len(), "{stopped}");
    proxy.status("its end", |status| status["rebalances"].as_array().unwrap().is_empty()).await;
    let count = moving.len() - closed;
    let mut open = 0;
    for mut tunnel in moving {
        tunnel.stream.write_all(&wire::masked(0x81, b"x")).await.unwrap();
        let frame = wire::read_past_pings(&mut tunnel.stream).await.unwrap();
        open += usize::from(frame.opcode() == wire::TEXT);
    }
    assert_eq!(
        (open, rebalance(&proxy, None, true).await["moving"].as_u64()),
        (count, Some(count as u64))
    );
}

#[tokio::test]
async fn message_in_progress_is_not_cut_off() {
    let backends = Backends::start(["a", "b", "c", "d"]).await;
    let (config, d) = without_d(&backends, "");
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    let tunnels = open_rooms(&client, 0..20).await;
    add_d(&proxy, &d).await;
    let (moving, _staying) = split(&proxy, tunnels).await;
    let mut tunnel = moving.into_iter().next().unwrap();
    tunnel.stream.write_all(&wire::masked(0x01, b"first ")).await.unwrap();
    assert_eq!(wire::read(&mut tunnel.stream).await.unwrap().payload, b"first ");
    rebalance(&proxy, Some(1000), false).await;
    let closing = async {
        let rows = json!({"command": "sessions", "selection": {}});
        let is_closing = |row: &Value| row["session"] == tunnel.room + 1 && row["closing"] == true;
        while !proxy.command(rows.clone()).await["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .any(is_closing)
        {}
    };
    within_timeout("the command to close", closing).await;
    tunnel.stream.write_all(&wire::masked(0x80, b"last")).await.unwrap();
    assert_eq!(wire::read(&mut tunnel.stream).await.unwrap().payload, b"last");
    assert_eq!(close_code(&mut tunnel).await, 1012);
}

#[tokio::test]
async fn aborted_canary_sends_its_clients_home() {
    let backends = Backends::start(["a", "b", "c"]).await;
    let keys =
        "rebalance_rate = \"500/s\"\n[pool.canary]\nshare = \"50%\"\nrequest = \"header:X-Canary\"";
    let pool = backends.pool(keys).replace("id = \"c\"", "id = \"c\", canary = true");
    let proxy = Proxy::start(&(pool + NO_PINGS)).await;
    let client = Client::new(&proxy).await;
    let marked = with("/", "X-Canary: 1\r\n");
    let (mut on_canary, mut others) = (Vec::new(), Vec::new());
    for from in 1..21 {
        let head = if from % 2 == 0 { &marked } else { HANDSHAKE };
        let (stream, backend) = open(&client, from, head).await;
        let room = usize::from(from);
        let tunnel = RoomTunnel { room, stream, backend };
        if tunnel.backend == "c" { &mut on_canary } else { &mut others }.push(tunnel);
    }
    assert!(on_canary.len() >= 10 && !others.is_empty());
    // Tunnels of canaries may have been marked, so a smaller share moves none.
    let set = |share: &str| json!({"command": "canary", "pool": "chat", "share": share});
    assert_eq!(proxy.command(set("1%")).await["closing"], 0);
    assert_eq!(proxy.command(set("off")).await["closing"], on_canary.len());
    for tunnel in &mut on_canary {
        assert_eq!(close_code(tunnel).await, 1012);
        let from = u8::try_from(tunnel.room).unwrap();
        assert_ne!(open(&client, from, &marked).await.1, "c");
    }
    for tunnel in &mut others {
        assert_open(tunnel).await;
    }
}

#[tokio::test]
async fn pools_without_a_hash_alone_say_why() {
    let backends = Backends::start(["a", "b"]).await;
    for (keys, words) in [
        ("balance = \"round-robin\"", "with balance = \"round-robin\" clients have no backend"),
        ("hash_balance_factor = 125", "with hash_balance_factor a key stays"),
    ] {
        let proxy = Proxy::start(&backends.pool(keys)).await;
        let client = Client::new(&proxy).await;
        let _tunnel = open(&client, 1, HANDSHAKE).await;
        let request = json!({"command": "weight", "backend": "a", "route": null, "weight": 1000});
        proxy.command(request).await;
        let row = rebalance(&proxy, None, false).await;
        assert_eq!((&row["tunnels"], &row["moving"]), (&1.into(), &0.into()));
        assert!(row["unmovable"].as_str().unwrap().starts_with(words), "{row}");
    }
}

/// The keys of open tunnels are those of the earlier `hash`.
#[tokio::test]
async fn another_hash_moves_no_open_tunnel() {
    let backends = Backends::start(["a", "b", "c", "d"]).await;
    let (config, d) = without_d(&backends, "");
    let proxy = Proxy::start(&config).await;
    let client = Client::new(&proxy).await;
    let mut tunnels = open_rooms(&client, 0..20).await;
    proxy.reload_with("header:X-Room", "header:X-User").await;
    add_d(&proxy, &d).await;
    let row = rebalance(&proxy, None, false).await;
    assert_eq!((&row["tunnels"], &row["moving"]), (&20.into(), &0.into()));
    for tunnel in &mut tunnels {
        assert_open(tunnel).await;
    }
}
