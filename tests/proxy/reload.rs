//! SIGHUP: a reload applies completely or not at all, and does not disturb open tunnels.

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::support::{
    Client, HANDSHAKE, MockBackend, Proxy, Record, Side, TestBed, assert_relays,
    close_after_violation, close_normally, read_response, route, upgrade, wire, within_timeout,
    write_certificate,
};

const RELOAD_REJECTED: &str = "reload rejected; the previous configuration stays active";

#[tokio::test]
async fn open_tunnel_keeps_its_limits() {
    let bed = TestBed::with("[limits]\nmessage_from_client = \"1000B\"\n").await;
    let (mut client, mut backend) = bed.open().await;
    let (mut secure, mut secures_backend) = bed.open_secure().await;
    let start = wire::masked(wire::TEXT, b"before, ");
    client.write_all(&start).await.unwrap();
    let record = bed.proxy.reload_with("1000B", "10B").await;
    let changed = "limits: message_from_client";
    assert_eq!((&record["generation"], &record["changed"]), (&2.into(), &changed.into()));

    let rest = wire::masked(0x80, &[b'x'; 900]);
    client.write_all(&rest).await.unwrap();
    let mut got = vec![0; start.len() + rest.len()];
    within_timeout("the whole message", backend.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, [start, rest].concat());
    assert_relays(&mut secure, &mut secures_backend).await;

    // New tunnels get the new limit.
    let (mut late, mut lates_backend) = bed.open().await;
    late.write_all(&wire::masked(0x81, &[b'x'; 11])).await.unwrap();
    let (close, _) = close_after_violation(Side::Client, &mut late, &mut lates_backend).await;
    assert_eq!(close.code(), 1009);
    drop((late, lates_backend));
    let record = bed.tunnel_end(3).await;
    assert_eq!((&record["generation"], &record["value"]), (&2.into(), &"10B".into()));
    assert_relays(&mut client, &mut backend).await;
    close_normally(client, backend).await;
    assert_eq!(bed.tunnel_end(1).await["generation"], 1);
}

#[tokio::test]
async fn new_connections_get_the_new_certificate() {
    let mut bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open_secure().await;
    bed.proxy.certificate = write_certificate(bed.proxy.folder(), &["localhost"]);
    let record = bed.proxy.reload().await;
    assert_eq!(record["generation"], 2, "{record}");
    bed.client = Client::new(&bed.proxy).await;
    let (mut late, mut lates_backend) = bed.open_secure().await;
    assert_relays(&mut late, &mut lates_backend).await;
    assert_relays(&mut client, &mut backend).await;

    // A key that does not match the certificate rejects the reload.
    let key = std::fs::read(bed.proxy.folder().join("key.pem")).unwrap();
    write_certificate(bed.proxy.folder(), &["localhost"]);
    std::fs::write(bed.proxy.folder().join("key.pem"), key).unwrap();
    assert_eq!(bed.proxy.reload().await["message"], RELOAD_REJECTED);
    let (mut last, mut lasts_backend) = bed.open_secure().await;
    assert_relays(&mut last, &mut lasts_backend).await;
}

// Requirements: SR04.
#[tokio::test]
async fn removed_route_rejects_clients_but_keeps_tunnels() {
    let mock = MockBackend::new().await;
    let rest = route(&[mock.address()], "path = \"/elsewhere\"\n");
    let gone = route(&[mock.address()], "path = \"/ws\"\n").replace("\"all\"", "\"gone\"");
    let proxy = Proxy::start(&format!("{rest}{gone}")).await;
    let client = Client::new(&proxy).await;
    let (mut tunnel, mut backend) = (client.raw_tunnel().await, mock.accept().await);
    let record = proxy.reload_with(&gone, "").await;
    let backend_gone = format!("backends: {} of gone removed", mock.address());
    assert_eq!(record["changed"], format!("routes: gone removed; {backend_gone}"));
    assert_eq!(client.request(HANDSHAKE.as_bytes()).await.status, 404);
    assert_relays(&mut tunnel, &mut backend).await;
    drop((tunnel, backend));
    assert_eq!(proxy.tunnel_end(1).await["route"], "gone");
}

// Requirements: SR03.
#[tokio::test]
async fn idle_connection_uses_the_new_configuration() {
    let mock = MockBackend::new().await;
    let proxy = Proxy::start(&route(&[mock.address()], "path = \"/ws\"\n")).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    proxy.reload_with("path = \"/ws\"", "path = \"/elsewhere\"").await;
    stream.write_all(HANDSHAKE.replace("/ws", "/elsewhere").as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 101);
    assert_relays(&mut stream, &mut mock.accept().await).await;
}

// Requirements: SR06.
#[tokio::test]
async fn listeners_are_added_and_removed() {
    let bed = TestBed::with("#more\n").await;
    let extra = "[[listener]]\nname = \"extra\"\naddress = \"127.0.0.7:0\"\ntls = false\n";
    let record = bed.proxy.reload_with("#more\n", extra).await;
    let changed = "listeners: extra added";
    assert_eq!((&record["generation"], &record["changed"]), (&2.into(), &changed.into()));
    let address = bed.proxy.address("extra").await;
    let mut client = upgrade(TcpStream::connect(address).await.unwrap()).await;
    let mut backend = bed.backend.accept().await;
    // Connected, but no request sent yet.
    let mut undecided = BufReader::new(TcpStream::connect(address).await.unwrap());

    bed.proxy.reload_with(extra, "#more\n").await;
    assert!(TcpStream::connect(address).await.is_err());
    assert_relays(&mut client, &mut backend).await;
    let (mut other, mut others_backend) = bed.open_secure().await;
    assert_relays(&mut other, &mut others_backend).await;
    // Its listener is gone; the connection is served or closed, not left hanging.
    let _ = undecided.write_all(HANDSHAKE.as_bytes()).await;
    let status = read_response(&mut undecided).await.status;
    assert!([0, 101].contains(&status), "{status}");

    // The name can be used again, and the address is free.
    bed.proxy.reload_with("#more\n", extra).await;
    drop((client, backend));
    assert_eq!(bed.tunnel_end(1).await["listener"], "extra");
}

// Requirements: SR06.
#[tokio::test]
async fn occupied_address_rejects_the_whole_reload() {
    let bed = TestBed::with("[limits]\nmessage_from_client = \"1000B\"\n#more\n").await;
    let listener = TcpListener::bind("127.0.0.9:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let more = format!(
        "[[listener]]\nname = \"free\"\naddress = \"127.0.0.7:0\"\ntls = false\n\
         [[listener]]\nname = \"taken\"\naddress = \"{address}\"\ntls = false\n"
    );
    let config = bed.proxy.config().replace("1000B", "10B").replace("#more\n", &more);
    bed.proxy.rewrite(&config);
    let record = bed.proxy.reload().await;
    assert_eq!((&record["message"], &record["generation"]), (&RELOAD_REJECTED.into(), &1.into()));
    let faults = errors(&bed.proxy);
    assert_eq!(faults.len(), 1);
    assert!(faults[0].contains(&address) && faults[0].contains("another process"), "{faults:?}");
    let opened = |r: &Record| r["message"] == "listening" && r["listener"] == "free";
    assert!(!bed.proxy.records().iter().any(opened), "a rejected reload opened a listener");

    let (mut client, mut backend) = bed.open().await;
    client.write_all(&wire::masked(0x81, &[b'x'; 1000])).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().payload.len(), 1000);

    // Once the address is free, the same file is accepted.
    drop(listener);
    // A process that another test starts meanwhile holds a copy of the socket until it executes its
    // program.
    within_timeout("the address to be free", async {
        while bed.proxy.reload().await["generation"] != 2 {}
    })
    .await;
    TcpStream::connect(address).await.unwrap();
}

// Requirements: SR02.
#[tokio::test]
async fn invalid_file_is_rejected_with_all_errors() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    let good = bed.proxy.config();
    let bad =
        good.replace("origins = [\"*\"]\n", "") + "[limits]\nidel = \"1h\"\nidle = \"7 days\"\n";
    bed.proxy.rewrite(&bad);
    let record = bed.proxy.reload().await;
    assert_eq!((&record["message"], &record["generation"]), (&RELOAD_REJECTED.into(), &1.into()));
    let logged = errors(&bed.proxy).join("\n");
    for part in ["origins", "idel", "days"] {
        assert!(logged.contains(part), "{part} is not in {logged}");
    }
    bed.proxy.rewrite("[[listener");
    assert_eq!(bed.proxy.reload().await["message"], RELOAD_REJECTED);
    std::fs::remove_file(bed.proxy.folder().join("proxy.toml")).unwrap();
    assert_eq!(bed.proxy.reload().await["message"], RELOAD_REJECTED);

    assert_relays(&mut client, &mut backend).await;
    let (mut late, mut lates_backend) = bed.open_secure().await;
    assert_relays(&mut late, &mut lates_backend).await;
    assert_eq!(bed.proxy.health().await["generation"], 1);
    let last = |fault: &str| fault.contains("no such file");
    let shown =
        |status: &serde_json::Value| status["reload"]["errors"][0].as_str().is_some_and(last);
    let status = bed.proxy.status("the last rejection", shown).await;
    assert_eq!(status["reload"]["applied"], false);
    let scrape = bed.proxy.scrape().await;
    let refused = [("outcome", "rejected")];
    assert_eq!(scrape.value("tidegate_config_reloads_total", &refused), 3.0);
    bed.proxy.rewrite(&good);
    assert_eq!(bed.proxy.reload().await["generation"], 2);
}

// Requirements: SR05.
#[tokio::test]
async fn lowered_limits_close_nothing() {
    let bed = TestBed::with("[concurrency]\ntunnels_per_client = 3\n").await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(bed.open().await);
    }
    bed.proxy.reload_with("tunnels_per_client = 3", "tunnels_per_client = 2").await;
    for left in [3, 2] {
        for (client, backend) in &mut open {
            assert_relays(client, backend).await;
        }
        assert_eq!(bed.client.request(HANDSHAKE.as_bytes()).await.status, 429, "{left} are open");
        let record = bed.proxy.nth_record("cap", 4 - left, |r| r["end"] == "client_limit").await;
        assert_eq!(
            (&record["key"], &record["value"]),
            (&"concurrency.tunnels_per_client".into(), &"2".into())
        );
        let (client, backend) = open.pop().unwrap();
        close_normally(client, backend).await;
        bed.tunnel_end(left).await;
    }
    open.push(bed.open().await);
    // Another reload keeps the counts.
    bed.proxy.reload_with("tunnels_per_client = 2", "tunnels_per_client = 1").await;
    assert_eq!(bed.client.request(HANDSHAKE.as_bytes()).await.status, 429);
    drop(open);
    bed.proxy.wait_until_idle().await;
    let (mut client, mut backend) = bed.open().await;
    assert_relays(&mut client, &mut backend).await;
}

#[tokio::test]
async fn rate_survives_a_reload_unless_changed() {
    let caps = "[rates]\nhandshakes_per_client = \"1/s\"\nhandshakes_burst = 5\n";
    let bed = TestBed::with(caps).await;
    // The number of handshakes accepted before the first one over the rate.
    let accepted = async || {
        let mut accepted = 0;
        let all = async {
            while bed.client.request(HANDSHAKE.as_bytes()).await.status != 429 {
                accepted += 1;
            }
        };
        within_timeout("a rejection", all).await;
        accepted
    };
    assert!(accepted().await >= 5);
    let begun = Instant::now();
    bed.proxy.reload().await;
    let again = accepted().await;
    assert!(again <= 1 + begun.elapsed().as_secs(), "the reload refilled the bucket: {again}");
    bed.proxy.reload_with("burst = 5", "burst = 6").await;
    assert!(accepted().await >= 6);
}

// Requirements: SR01.
#[tokio::test]
async fn sighup_burst_applies_the_last_file() {
    let bed = TestBed::with("[limits]\nmessage_from_client = \"1000B\"\n").await;
    let (mut client, mut backend) = bed.open_secure().await;
    for n in 0..50 {
        bed.proxy.signal(Signal::HUP);
        if n % 10 == 0 {
            assert_relays(&mut client, &mut backend).await;
            let (client, backend) = bed.open().await;
            close_normally(client, backend).await;
        }
    }
    let config = bed.proxy.config();
    bed.proxy.rewrite(&config.replace("1000B", "10B"));
    bed.proxy.signal(Signal::HUP);
    let record =
        bed.proxy.record("the last file", |r| r["changed"] == "limits: message_from_client").await;
    assert!(record["generation"].as_u64().unwrap() <= 52, "{record}");
    assert_relays(&mut client, &mut backend).await;
    let (mut late, mut lates_backend) = bed.open().await;
    late.write_all(&wire::masked(0x81, &[b'x'; 11])).await.unwrap();
    let (close, _) = close_after_violation(Side::Client, &mut late, &mut lates_backend).await;
    assert_eq!(close.code(), 1009);
}

// Requirements: SR17.
#[tokio::test]
async fn reload_during_a_drain_is_rejected() {
    let mut bed = TestBed::with("[drain]\nwindow = \"10ms\"\ndeadline = \"50s\"\n").await;
    let (mut client, mut backend) = bed.open().await;
    // Frames in progress keep the tunnel open.
    let (up, down) = (wire::masked(0x81, b"up"), wire::unmasked(0x81, b"down"));
    client.write_all(&up[..7]).await.unwrap();
    backend.write_all(&down[..3]).await.unwrap();
    let (mut up_got, mut down_got) = ([0; 7], [0; 3]);
    within_timeout("a part", backend.read_exact(&mut up_got)).await.unwrap();
    within_timeout("a part", client.read_exact(&mut down_got)).await.unwrap();
    bed.proxy.signal(Signal::TERM);
    bed.proxy.record("draining", |r| message(r).starts_with("draining")).await;
    bed.proxy.signal(Signal::HUP);
    let refused = |r: &Record| message(r) == "reload rejected: the process is shutting down";
    bed.proxy.record("a refusal", refused).await;
    client.write_all(&up[7..]).await.unwrap();
    assert_eq!(within_timeout("the rest", backend.read_u8()).await.unwrap(), up[7]);
    backend.write_all(&down[3..]).await.unwrap();
    let mut rest = vec![0; down.len() - 3];
    within_timeout("the rest", client.read_exact(&mut rest)).await.unwrap();
    assert_eq!(rest, down[3..]);
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1012);
    drop((client, backend));
    assert_eq!(bed.proxy.exit().await, Some(0));
}

fn message(record: &Record) -> &str {
    record["message"].as_str().unwrap_or_default()
}

/// The configuration errors logged so far.
fn errors(proxy: &Proxy) -> Vec<String> {
    let records = proxy.records();
    let errors = records.iter().filter(|record| message(record) == "reload rejected");
    errors.map(|record| record["error"].as_str().unwrap().to_owned()).collect()
}
