//! SIGHUP: all or nothing, and an open tunnel notices neither.

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    Client, Door, HANDSHAKE, Proxy, Record, Stage, answer, farewell, lives, route, soon, upgrade,
    wire, write_certificate,
};

const REFUSED: &str = "the configuration in force stays as it was";

#[tokio::test]
async fn an_open_tunnel_notices_nothing_and_keeps_its_terms() {
    let stage = Stage::with("[limits]\nmessage_from_client = \"1000B\"\n").await;
    let (mut client, mut backend) = stage.open().await;
    let (mut secure, mut secures_backend) = stage.open_secure().await;
    let begun = wire::masked(wire::TEXT, b"before, ");
    client.write_all(&begun).await.unwrap();
    let record = stage.proxy.reload_with("1000B", "10B").await;
    let changed = "limits: message_from_client";
    assert_eq!((&record["generation"], &record["changed"]), (&2.into(), &changed.into()));

    let ended = wire::masked(0x80, &[b'x'; 900]);
    client.write_all(&ended).await.unwrap();
    let mut got = vec![0; begun.len() + ended.len()];
    soon("the whole message", backend.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, [begun, ended].concat());
    lives(&mut secure, &mut secures_backend).await;

    // Who comes now is held to the new terms.
    let (mut late, lates_backend) = stage.open().await;
    late.write_all(&wire::masked(0x81, &[b'x'; 11])).await.unwrap();
    assert_eq!(wire::read(&mut late).await.unwrap().code(), 1009);
    drop((late, lates_backend));
    let record = stage.end_of(3).await;
    assert_eq!((&record["generation"], &record["value"]), (&2.into(), &"10B".into()));
    lives(&mut client, &mut backend).await;
    farewell(client, backend).await;
    assert_eq!(stage.end_of(1).await["generation"], 1);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections() {
    let mut stage = Stage::with("").await;
    let (mut client, mut backend) = stage.open_secure().await;
    stage.proxy.certificate = write_certificate(stage.proxy.folder(), &["localhost"]);
    let record = stage.proxy.reload().await;
    assert_eq!(record["generation"], 2, "{record}");
    stage.client = Client::of(&stage.proxy).await;
    let (mut late, mut lates_backend) = stage.open_secure().await;
    lives(&mut late, &mut lates_backend).await;
    lives(&mut client, &mut backend).await;

    // A key of another certificate changes nothing.
    let key = std::fs::read(stage.proxy.folder().join("key.pem")).unwrap();
    write_certificate(stage.proxy.folder(), &["localhost"]);
    std::fs::write(stage.proxy.folder().join("key.pem"), key).unwrap();
    assert_eq!(stage.proxy.reload().await["message"], REFUSED);
    let (mut last, mut lasts_backend) = stage.open_secure().await;
    lives(&mut last, &mut lasts_backend).await;
}

#[tokio::test]
async fn sr04_a_removed_route_refuses_new_clients_and_keeps_its_tunnels() {
    let door = Door::new().await;
    let rest = route(&[door.address()], "path = \"/elsewhere\"\n");
    let gone = route(&[door.address()], "path = \"/ws\"\n").replace("\"all\"", "\"gone\"");
    let proxy = Proxy::start(&format!("{rest}{gone}")).await;
    let client = Client::of(&proxy).await;
    let (mut tunnel, mut backend) = (client.raw_tunnel().await, door.next().await);
    let record = proxy.reload_with(&gone, "").await;
    assert_eq!(record["changed"], "routes: gone removed");
    assert_eq!(client.ask(HANDSHAKE.as_bytes()).await.status, 404);
    lives(&mut tunnel, &mut backend).await;
    // A request on a connection that is older than the reload is judged by the new file.
    drop((tunnel, backend));
    assert_eq!(proxy.end_of(1).await["route"], "gone");
}

#[tokio::test]
async fn sr03_a_connection_from_before_sees_the_new_file_at_its_first_request() {
    let door = Door::new().await;
    let proxy = Proxy::start(&route(&[door.address()], "path = \"/ws\"\n")).await;
    let mut stream = BufReader::new(Client::of(&proxy).await.bare().await);
    proxy.reload_with("path = \"/ws\"", "path = \"/elsewhere\"").await;
    stream.write_all(HANDSHAKE.replace("/ws", "/elsewhere").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.status, 101);
    lives(&mut stream, &mut door.next().await).await;
}

#[tokio::test]
async fn sr06_listeners_come_and_go() {
    let stage = Stage::with("#more\n").await;
    let extra = "[[listener]]\nname = \"extra\"\naddress = \"127.0.0.7:0\"\ntls = false\n";
    let record = stage.proxy.reload_with("#more\n", extra).await;
    let changed = "listeners: extra added";
    assert_eq!((&record["generation"], &record["changed"]), (&2.into(), &changed.into()));
    let address = stage.proxy.address("extra").await;
    let mut client = upgrade(TcpStream::connect(address).await.unwrap()).await;
    let mut backend = stage.door.next().await;
    // Connected, but without a request yet.
    let mut undecided = BufReader::new(TcpStream::connect(address).await.unwrap());

    stage.proxy.reload_with(extra, "#more\n").await;
    assert!(TcpStream::connect(address).await.is_err());
    lives(&mut client, &mut backend).await;
    let (mut other, mut others_backend) = stage.open_secure().await;
    lives(&mut other, &mut others_backend).await;
    // It came in by a door that is gone, and is served or closed, not forgotten.
    let _ = undecided.write_all(HANDSHAKE.as_bytes()).await;
    let status = answer(&mut undecided).await.status;
    assert!([0, 101].contains(&status), "{status}");

    // The same name may come back, and the same socket is free again.
    stage.proxy.reload_with("#more\n", extra).await;
    drop((client, backend));
    assert_eq!(stage.end_of(1).await["listener"], "extra");
}

#[tokio::test]
async fn sr06_an_address_that_is_taken_changes_nothing_at_all() {
    let stage = Stage::with("[limits]\nmessage_from_client = \"1000B\"\n#more\n").await;
    let listener = TcpListener::bind("127.0.0.9:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let more = format!(
        "[[listener]]\nname = \"free\"\naddress = \"127.0.0.7:0\"\ntls = false\n\
         [[listener]]\nname = \"taken\"\naddress = \"{address}\"\ntls = false\n"
    );
    let config = stage.proxy.config().replace("1000B", "10B").replace("#more\n", &more);
    stage.proxy.rewrite(&config);
    let record = stage.proxy.reload().await;
    assert_eq!((&record["message"], &record["generation"]), (&REFUSED.into(), &1.into()));
    let faults = faults(&stage.proxy);
    assert_eq!(faults.len(), 1);
    assert!(faults[0].contains(&address) && faults[0].contains("another process"), "{faults:?}");
    let opened = |r: &Record| r["message"] == "listening" && r["listener"] == "free";
    assert!(!stage.proxy.records().iter().any(opened), "half of a reload");

    let (mut client, mut backend) = stage.open().await;
    client.write_all(&wire::masked(0x81, &[b'x'; 1000])).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().payload.len(), 1000);

    // As soon as the address is free, the same file is good.
    drop(listener);
    assert_eq!(stage.proxy.reload().await["generation"], 2);
    TcpStream::connect(address).await.unwrap();
}

#[tokio::test]
async fn sr02_a_bad_file_is_refused_with_every_fault() {
    let stage = Stage::with("").await;
    let (mut client, mut backend) = stage.open().await;
    let good = stage.proxy.config();
    let bad =
        good.replace("origins = [\"*\"]\n", "") + "[limits]\nidel = \"1h\"\nidle = \"7 days\"\n";
    stage.proxy.rewrite(&bad);
    let record = stage.proxy.reload().await;
    assert_eq!((&record["message"], &record["generation"]), (&REFUSED.into(), &1.into()));
    let told = faults(&stage.proxy).join("\n");
    for part in ["origins", "idel", "days"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    stage.proxy.rewrite("[[listener");
    assert_eq!(stage.proxy.reload().await["message"], REFUSED);
    std::fs::remove_file(stage.proxy.folder().join("proxy.toml")).unwrap();
    assert_eq!(stage.proxy.reload().await["message"], REFUSED);

    lives(&mut client, &mut backend).await;
    let (mut late, mut lates_backend) = stage.open_secure().await;
    lives(&mut late, &mut lates_backend).await;
    assert_eq!(stage.proxy.health().await["generation"], 1);
    let last = |fault: &str| fault.contains("no such file");
    let told =
        |status: &serde_json::Value| status["reload"]["faults"][0].as_str().is_some_and(last);
    let status = stage.proxy.status("the last refusal", told).await;
    assert_eq!(status["reload"]["applied"], false);
    let scrape = stage.proxy.scrape().await;
    let refused = [("outcome", "refused")];
    assert_eq!(scrape.value("tidegate_config_reloads_total", &refused), 3.0);
    stage.proxy.rewrite(&good);
    assert_eq!(stage.proxy.reload().await["generation"], 2);
}

#[tokio::test]
async fn sr05_caps_below_what_is_open_kill_nothing_and_counts_survive() {
    let stage = Stage::with("[caps]\ntunnels_per_client = 3\n").await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(stage.open().await);
    }
    stage.proxy.reload_with("tunnels_per_client = 3", "tunnels_per_client = 2").await;
    for left in [3, 2] {
        for (client, backend) in &mut open {
            lives(client, backend).await;
        }
        assert_eq!(stage.client.ask(HANDSHAKE.as_bytes()).await.status, 429, "{left} are open");
        let record = stage.proxy.nth_record("cap", 4 - left, |r| r["end"] == "client_full").await;
        assert_eq!(
            (&record["key"], &record["value"]),
            (&"caps.tunnels_per_client".into(), &"2".into())
        );
        let (client, backend) = open.pop().unwrap();
        farewell(client, backend).await;
        stage.end_of(left).await;
    }
    open.push(stage.open().await);
    // Another file, the same counts.
    stage.proxy.reload_with("tunnels_per_client = 2", "tunnels_per_client = 1").await;
    assert_eq!(stage.client.ask(HANDSHAKE.as_bytes()).await.status, 429);
    drop(open);
    stage.proxy.at_rest().await;
    let (mut client, mut backend) = stage.open().await;
    lives(&mut client, &mut backend).await;
}

#[tokio::test]
async fn a_rate_survives_a_reload_unless_it_is_changed() {
    let caps = "[caps]\nhandshakes_per_client = \"1/s\"\nhandshakes_burst = 5\n";
    let stage = Stage::with(caps).await;
    let shake = async || {
        let mut refused = 0;
        for _ in 0..6 {
            let status = stage.client.ask(HANDSHAKE.as_bytes()).await.status;
            refused += u32::from(status == 429);
        }
        refused
    };
    assert!(shake().await > 0);
    stage.proxy.reload().await;
    assert!(shake().await > 1, "the reload must not refill the bucket");
    stage.proxy.reload_with("burst = 5", "burst = 6").await;
    assert_eq!(shake().await, 0);
}

#[tokio::test]
async fn sr01_a_burst_of_hangups_is_harmless_and_the_last_file_wins() {
    let stage = Stage::with("[limits]\nmessage_from_client = \"1000B\"\n").await;
    let (mut client, mut backend) = stage.open_secure().await;
    for n in 0..50 {
        stage.proxy.signal(Signal::HUP);
        if n % 10 == 0 {
            lives(&mut client, &mut backend).await;
            let (client, backend) = stage.open().await;
            farewell(client, backend).await;
        }
    }
    let config = stage.proxy.config();
    stage.proxy.rewrite(&config.replace("1000B", "10B"));
    stage.proxy.signal(Signal::HUP);
    let record = stage
        .proxy
        .record("the last file", |r| r["changed"] == "limits: message_from_client")
        .await;
    assert!(record["generation"].as_u64().unwrap() <= 52, "{record}");
    lives(&mut client, &mut backend).await;
    let (mut late, _backend) = stage.open().await;
    late.write_all(&wire::masked(0x81, &[b'x'; 11])).await.unwrap();
    assert_eq!(wire::read(&mut late).await.unwrap().code(), 1009);
}

#[tokio::test]
async fn sr17_a_reload_during_a_drain_is_refused() {
    let mut stage = Stage::with("[drain]\nwindow = \"1s\"\ndeadline = \"20s\"\n").await;
    let (mut client, mut backend) = stage.open().await;
    stage.proxy.signal(Signal::TERM);
    stage.proxy.record("draining", |r| message(r).starts_with("draining")).await;
    stage.proxy.signal(Signal::HUP);
    let refused = |r: &Record| message(r) == "reload refused: the process is leaving";
    stage.proxy.record("a refusal", refused).await;
    lives(&mut client, &mut backend).await;
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1012);
    drop((client, backend));
    assert_eq!(stage.proxy.exit().await, Some(0));
}

fn message(record: &Record) -> &str {
    record["message"].as_str().unwrap_or_default()
}

/// What the proxy found wrong with its file, so far.
fn faults(proxy: &Proxy) -> Vec<String> {
    let records = proxy.records();
    let faults = records.iter().filter(|record| message(record) == "reload refused");
    faults.map(|record| record["fault"].as_str().unwrap().to_owned()).collect()
}
