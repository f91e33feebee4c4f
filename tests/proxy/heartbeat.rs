//! The proxy's own pings to backends, or to both sides: they detect a dead backend even if TCP does
//! not, and are invisible to the other side.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::support::{Side, TestBed, assert_relays, wire, within_timeout};

#[tokio::test]
async fn backend_that_never_answers_a_ping_is_closed() {
    let beat = "[heartbeat]\ninterval = \"off\"\nbackend_interval = \"400ms\"\n\
                backend_timeout = \"1s\"\nproof = \"pong\"\n";
    let bed = TestBed::with(beat).await;
    let begun = Instant::now();
    let (mut client, mut backend) = bed.open().await;
    let ping = wire::read(&mut backend).await.unwrap();
    assert_eq!((ping.first, ping.masked, ping.payload.len()), (0x80 | wire::PING, true, 8));
    assert!(
        begun.elapsed().as_millis() >= 200,
        "the first ping comes after at least half an interval"
    );
    // Data does not answer a ping.
    assert_relays(&mut client, &mut backend).await;
    let close = wire::read(&mut client).await.unwrap();
    assert_eq!((close.code(), &close.payload[2..]), (1013, &b"the other side disconnected"[..]));
    let close = wire::read(&mut backend).await.unwrap();
    assert_eq!((close.code(), &close.payload[2..]), (1001, &b"no answer to a ping"[..]));
    let took = begun.elapsed().as_millis();
    // At least half an interval plus the timeout.
    assert!(took >= 1200, "{took} ms");
    drop((client, backend));
    let record = bed.tunnel_end(1).await;
    assert_eq!([&record["end"], &record["by"]], ["heartbeat_timeout", "backend"]);
    assert_eq!([&record["key"], &record["value"]], ["heartbeat.backend_timeout", "1s"]);
    assert!(record["backend_rtt_ms"].is_null() && record["client_rtt_ms"].is_null());
}

#[tokio::test]
async fn pings_of_each_side_stay_separate() {
    let beat = "[heartbeat]\ninterval = \"300ms\"\nbackend_interval = \"200ms\"\n";
    let bed = TestBed::with(beat).await;
    let (mut client, mut backend) = bed.open().await;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        for side in Side::BOTH {
            let stream = if side == Side::Client { &mut client } else { &mut backend };
            let ping = wire::read(stream).await.unwrap();
            assert_eq!((ping.opcode(), ping.payload.len()), (wire::PING, 8), "{ping:?}");
            assert_eq!(ping.masked, side == Side::Backend);
            assert!(!tokens.contains(&ping.payload));
            stream.write_all(&side.frame(0x80 | wire::PONG, &ping.payload)).await.unwrap();
            tokens.push(ping.payload);
        }
    }
    // The peers' own pings and pongs pass, whatever their payload.
    for (n, side) in [Side::Client, Side::Backend, Side::Client].into_iter().enumerate() {
        let (from, to) = match side {
            Side::Client => (&mut client, &mut backend),
            Side::Backend => (&mut backend, &mut client),
        };
        let first = if n == 2 { 0x80 | wire::PONG } else { 0x80 | wire::PING };
        from.write_all(&side.frame(first, &tokens[n])).await.unwrap();
        let heard = loop {
            let heard = wire::read(to).await.unwrap();
            if heard.payload == tokens[n] {
                break heard;
            }
            assert_eq!((heard.opcode(), heard.payload.len()), (wire::PING, 8), "{heard:?}");
            assert!(
                !tokens.contains(&heard.payload),
                "a pong to one of the proxy's pings was relayed"
            );
        };
        assert_eq!(heard.first, first);
    }
    drop((client, backend));
    let record = bed.tunnel_end(1).await;
    for side in Side::BOTH {
        let [last, max] = ["", "_max"]
            .map(|which| record[format!("{}_rtt{which}_ms", side.as_str())].as_f64().unwrap());
        assert!(0.0 < last && last <= max, "{record}");
        let labels = [("route", "all"), ("side", side.as_str())];
        let scrape = bed.proxy.scrape().await;
        assert_eq!(scrape.value("tidegate_ping_rtt_seconds_count", &labels), 2.0);
    }
}

#[tokio::test]
async fn backend_that_answers_pings_stays_open() {
    let beat = "[heartbeat]\ninterval = \"off\"\nbackend_interval = \"100ms\"\n\
                backend_timeout = \"2s\"\n";
    let bed = TestBed::with(beat).await;
    let (mut client, mut backend) = bed.open_secure().await;
    for _ in 0..25 {
        let ping = wire::read(&mut backend).await.unwrap();
        assert_eq!(ping.opcode(), wire::PING, "{ping:?}");
        backend.write_all(&wire::unmasked(0x80 | wire::PONG, &ping.payload)).await.unwrap();
    }
    client.write_all(&wire::masked(0x81, b"still there")).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(wire::read_past_pings(&mut backend).await.unwrap().payload, b"still there");
    // A pending ping does not delay the Close.
    drop(client);
    assert_eq!(wire::read_past_pings(&mut backend).await.unwrap().code(), 1001);
}

/// A client that is gone is not pinged inside a frame of its backend, and the backend may never end it.
#[tokio::test]
async fn kernel_probes_a_client_that_is_not_pinged() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    backend.write_all(&wire::unmasked(0x82, &[0; 100])[..50]).await.unwrap();
    client.read_exact(&mut [0; 50]).await.unwrap();
    let port = |address: std::net::SocketAddr| format!("0100007F:{:04X}", address.port());
    let tcp = client.get_ref();
    let ends = [tcp.peer_addr(), tcp.local_addr()].map(|address| port(address.unwrap()));
    let timer = async {
        loop {
            let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let line = sockets.lines().find(|line| line.contains(&ends.join(" ")));
            // Number, both ends, state, queues, timer. Another timer runs until the data is acknowledged.
            let timer = line.unwrap().split_whitespace().nth(5).unwrap();
            match timer.split_once(':').unwrap() {
                ("02", until) => return u64::from_str_radix(until, 16).unwrap(),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let hundredths = within_timeout("a keep-alive timer", timer).await;
    assert!(hundredths <= 30_000, "{hundredths}");
}

/// Each frame is in progress when a pong is due, but could have followed it.
#[tokio::test]
async fn client_always_within_a_frame_must_answer() {
    let beat = "[heartbeat]\ninterval = \"400ms\"\ntimeout = \"400ms\"\nproof = \"pong\"\n";
    let bed = TestBed::with(beat).await;
    let (client, mut backend) = bed.open().await;
    let (mut reading, mut writing) = tokio::io::split(client);
    let flood = async {
        let frame = wire::masked(0x82, &[0; 100]);
        let mut stream = frame.repeat(3);
        stream.rotate_left(50);
        writing.write_all(&frame[..50]).await.unwrap();
        while writing.write_all(&stream).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let drain = async { while backend.read(&mut [0; 4096]).await.is_ok_and(|len| len > 0) {} };
    let close = async { wire::read_past_pings(&mut reading).await.unwrap().code() };
    let code = tokio::select! {
        code = within_timeout("the Close", close) => code,
        ((), ()) = async { tokio::join!(flood, drain) } => unreachable!("the Close comes first"),
    };
    assert_eq!(code, 1001);
    drop((reading, writing, backend));
    let record = bed.tunnel_end(1).await;
    assert_eq!([&record["end"], &record["by"]], ["heartbeat_timeout", "client"]);
}
