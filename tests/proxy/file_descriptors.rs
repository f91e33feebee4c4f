//! Exhausted file descriptors and local ports: open tunnels continue, nothing spins, and service
//! recovers.

use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::head::get;
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, exchange, read_response, read_to_end, route, within_timeout,
};

fn paused(proxy: &Proxy) -> usize {
    let message = |record: &&serde_json::Value| {
        record["message"].as_str().is_some_and(|text| text.starts_with("accept failed, pausing"))
    };
    proxy.records().iter().filter(message).count()
}

/// The limits are derived from the descriptor limit at the start, so accepting only fails if
/// something lowers it later: here, the test.
// Requirements: RE01.
#[tokio::test]
async fn accepting_pauses_without_spinning_then_resumes() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let echo = Backend::echo().await;
    let chat = "path = \"/chat\"\norigins";
    let routes = route(&[backend.address], "")
        + &route(&[echo.address], "").replace("\"all\"", "\"chat\"").replace("origins", chat);
    let proxy = Proxy::start(&routes).await;
    let client = Client::new(&proxy).await;
    let mut tunnel = client.open("/chat").await;
    proxy.spare_descriptors(Some(2));
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(BufReader::new(client.connect_plain().await));
    }
    let record = proxy
        .record("a pause", |r| {
            r["message"].as_str().is_some_and(|text| text.starts_with("accept failed, pausing"))
        })
        .await;
    assert_eq!(record["level"], "ERROR");
    assert!(record["error"].as_str().unwrap().contains("Too many open files"), "{record}");
    // For a second, open tunnels continue and nothing spins.
    let ticks = proxy.cpu_ticks();
    for n in 0..10 {
        let sent = Message::text(format!("still here {n}"));
        tunnel.send(sent.clone()).await.unwrap();
        assert_eq!(within_timeout("the echo", tunnel.next()).await.unwrap().unwrap(), sent);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(proxy.cpu_ticks() - ticks < 30, "{} ticks", proxy.cpu_ticks() - ticks);
    assert_eq!(paused(&proxy), 1, "one line, however often");
    // The configuration cannot be opened, so the reload fails.
    let message = proxy.reload().await["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("reload rejected;"), "{message}");
    proxy.spare_descriptors(None);
    // The waiting client is served.
    for stream in &mut streams {
        stream.write_all(get("/").as_bytes()).await.unwrap();
        assert_eq!(read_response(stream).await.status, 204);
    }
    assert_eq!(client.open("/chat").await.close(None).await.map_err(|e| e.to_string()), Ok(()));
}

// Requirements: RE04.
#[tokio::test]
async fn failed_connect_is_503_without_blaming_backend() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let open = proxy.memory_and_descriptors().1 + 5;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(BufReader::new(client.connect_plain().await));
    }
    within_timeout("all to be accepted", async {
        while proxy.memory_and_descriptors().1 < open {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    for (n, stream) in streams.iter_mut().enumerate() {
        // The descriptor of the previous connection may be free by now.
        proxy.spare_descriptors(Some(0));
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let response = read_response(stream).await;
        assert_eq!(response.status, 503, "{response:?}");
        assert!(response.header("retry-after").is_some());
        let nth = proxy.nth_record("refusal", n + 1, |r| r["event"] == "rejected").await;
        assert_eq!(nth["end"], "no_descriptors");
    }
    proxy.spare_descriptors(None);
    let mut admin = BufReader::new(TcpStream::connect(proxy.admin().await).await.unwrap());
    assert_eq!(exchange(&mut admin, &get("/readyz")).await.0.status, 200);
    client.open("/").await;
}

/// A network namespace has its own range of local ports: here a single one, which the admin listener
/// takes. Clients connect to a socket of the test's namespace.
// Requirements: RE05.
#[tokio::test]
async fn exhausted_local_ports_do_not_blame_the_backend() {
    let is_permitted = Command::new("unshare").args(["--net", "true"]).status();
    if !is_permitted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: creating a network namespace is not permitted here");
        return;
    }
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let script = "ip link set lo up && \
                  echo 40000 40000 >/proc/sys/net/ipv4/ip_local_port_range && \
                  export LISTEN_FDS=1 LISTEN_PID=$$ && exec 3<&0 </dev/null && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script]).stdin(OwnedFd::from(socket));
    let config = format!(
        "[log]\nformat = \"json\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"plain\"\naddress = \"{address}\"\ntls = false\n{}",
        route(&["127.0.0.1:9".parse().unwrap()], "")
    );
    let mut proxy = Proxy::spawn_by(command, &config);
    proxy.ready().await;
    for n in 1..=5 {
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        stream.write_all(get("/").as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(response.status, 503, "{response:?}");
        assert!(response.header("retry-after").is_some());
        let record = proxy.nth_end_record(n).await;
        assert_eq!(record["end"], "local_ports_exhausted", "{record}");
        let detail = record["detail"].as_str().unwrap();
        assert!(detail.starts_with("127.0.0.1:9: no local port left (EADDRNOTAVAIL)"), "{record}");
    }
    let messages = proxy.records();
    let is_ejected = |record: &&serde_json::Value| record.to_string().contains("backend down");
    assert_eq!(messages.iter().find(is_ejected), None);
}

// Requirements: CF15.
#[tokio::test]
async fn default_limits_fit_the_descriptor_limit() {
    let backend = Backend::echo().await;
    let mut config = String::from(
        "[log]\nformat = \"json\"\nlevel = \"debug\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
         [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
         [[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\ndefault = true\n",
    );
    config.push_str(&route(&[backend.address], ""));
    let mut proxy = Proxy::spawn_with_descriptors(100, &config);
    proxy.ready().await;
    let record = proxy.record("serving", |record| record["message"] == "serving").await;
    let most = record["connections_max"].as_u64().unwrap() as usize;
    assert!((10..=18).contains(&most), "{record}");
    let client = Client::new(&proxy).await;
    // As many tunnels as the limit says, each with its backend connection.
    let mut tunnels = Vec::new();
    for _ in 0..most {
        tunnels.push(client.open("/").await);
    }
    let mut one_more = client.connect_plain().await;
    assert_eq!(read_to_end(&mut one_more).await, b"");
    let record = proxy.end_record("proxy_limit").await;
    assert_eq!(record["key"], "concurrency.connections");
    assert_eq!(record["value"], format!("{most} (auto: file descriptors, LimitNOFILE)"));
    for tunnel in &mut tunnels {
        let sent = Message::text("hello");
        tunnel.send(sent.clone()).await.unwrap();
        assert_eq!(within_timeout("the echo", tunnel.next()).await.unwrap().unwrap(), sent);
    }
    assert_eq!(paused(&proxy), 0);
    assert!(proxy.memory_and_descriptors().1 < 100);
}

#[tokio::test]
async fn too_few_descriptors_are_a_fault_of_the_system() {
    for limits in ["", "[concurrency]\nconnections = 5\n"] {
        let backend = "127.0.0.1:9".parse().unwrap();
        let config = format!(
            "[admin]\nenabled = false\n{limits}[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n{}",
            route(&[backend], "")
        );
        let mut proxy = Proxy::spawn_with_descriptors(60, &config);
        assert_eq!(proxy.exit().await, Some(1));
        let reported = proxy.record("the fault", |line| line.as_str().is_some()).await;
        let reported = reported.as_str().unwrap();
        assert!(reported.starts_with("tidegate: the limit of open files is 60, and"), "{reported}");
        assert!(!reported.contains("proxy.toml"), "{reported}");
    }
}
