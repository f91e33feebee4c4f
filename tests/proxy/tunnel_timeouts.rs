//! Timeouts of a tunnel: heartbeat, idle, write stall.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::support::{PlainStream, TestBed, assert_relays, read_to_end, wire, within_timeout};

#[tokio::test]
async fn heartbeat_pongs_are_not_relayed() {
    let bed = TestBed::with("[heartbeat]\ninterval = \"150ms\"\n").await;
    let (mut client, mut backend) = bed.open().await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        let token = ping(&mut client).await;
        assert!(!tokens.contains(&token), "{token:?} again");
        client.write_all(&wire::masked(0x80 | wire::PONG, &token)).await.unwrap();
        tokens.push(token);
    }
    // No pong was relayed: this is the first frame the backend receives.
    assert_relays(&mut client, &mut backend).await;
}

// Requirements: F20, F21, FC16.
#[tokio::test]
async fn application_pings_and_pongs_pass() {
    let bed = TestBed::with("[heartbeat]\ninterval = \"150ms\"\n").await;
    let (mut client, mut backend) = bed.open().await;
    let token = ping(&mut client).await;
    let response = wire::masked(0x80 | wire::PONG, &token);
    let own = [
        wire::masked(0x80 | wire::PING, &token),
        wire::masked(0x80 | wire::PONG, &token[..7]),
        wire::masked(0x80 | wire::PONG, &[&token[..], b"x"].concat()),
        wire::masked(0x80 | wire::PONG, b""),
    ]
    .concat();
    // Only the first pong with that payload answers the proxy's ping.
    client.write_all(&[&own[..], &response, &response].concat()).await.unwrap();
    let expected = [&own[..], &response].concat();
    let mut got = vec![0; expected.len()];
    within_timeout("the client's pings and pongs", backend.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, expected);

    backend.write_all(&wire::unmasked(0x80 | wire::PING, b"are you there")).await.unwrap();
    loop {
        let frame = wire::read(&mut client).await.unwrap();
        if frame.payload == b"are you there" {
            break;
        }
        assert_eq!((frame.opcode(), frame.payload.len()), (wire::PING, 8));
        client.write_all(&wire::masked(0x80 | wire::PONG, &frame.payload)).await.unwrap();
    }
    client.write_all(&wire::masked(0x80 | wire::PONG, b"are you there")).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().payload, b"are you there");
}

// Requirements: FC37.
#[tokio::test]
async fn unanswered_ping_closes_both_sides() {
    let heartbeat = "[heartbeat]\ninterval = \"300ms\"\ntimeout = \"400ms\"\n";
    let bed = TestBed::with(heartbeat).await;
    let begun = Instant::now();
    let (mut client, mut backend) = bed.open_secure().await;
    ping(&mut client).await;
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1001);
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1001);
    // At least half an interval plus the timeout.
    assert!(begun.elapsed().as_millis() >= 550, "{:?}", begun.elapsed());
    drop((client, backend));
    let record = bed.tunnel_end(1).await;
    assert_eq!((&record["end"], &record["by"]), (&"heartbeat_timeout".into(), &"client".into()));
    assert_eq!((&record["key"], &record["value"]), (&"heartbeat.timeout".into(), &"400ms".into()));
    assert!(record["age_ms"].as_u64().unwrap() >= 550, "{record}");
}

// Requirements: FC37.
#[tokio::test]
async fn data_is_no_pong_if_a_pong_is_required() {
    let heartbeat = "[heartbeat]\ninterval = \"300ms\"\ntimeout = \"400ms\"\nproof = \"pong\"\n";
    let bed = TestBed::with(heartbeat).await;
    let (mut client, mut backend) = bed.open().await;
    ping(&mut client).await;
    let (mut from, mut to) = client.get_mut().split();
    let talk = async {
        while to.write_all(&wire::masked(0x81, b"some data")).await.is_ok() {
            wire::read(&mut backend).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let close = tokio::select! {
        close = wire::read(&mut from) => close.unwrap(),
        () = talk => panic!("closed without a Close frame"),
    };
    assert_eq!(close.code(), 1001);
}

// Requirements: F20, FC39.
#[tokio::test]
async fn client_that_sends_data_needs_no_pong() {
    let bed = TestBed::with("[heartbeat]\ninterval = \"300ms\"\ntimeout = \"1s\"\n").await;
    let (mut client, mut backend) = bed.open_secure().await;
    let mut pings = Vec::new();
    for _ in 0..4 {
        pings.push(ping(&mut client).await);
        client.write_all(&wire::masked(0x81, b"data")).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(wire::read(&mut backend).await.unwrap().payload, b"data");
    }
    // Late, as by a library that answers while the program reads; no pong reaches the backend.
    for payload in pings {
        client.write_all(&wire::masked(0x80 | wire::PONG, &payload)).await.unwrap();
    }
    assert_relays(&mut client, &mut backend).await;
    // Then nothing: the next ping finds it lost.
    assert_eq!(wire::read_past_pings(&mut client).await.unwrap().code(), 1001);
    drop((client, backend));
    let record = bed.tunnel_end(1).await;
    assert_eq!((&record["end"], &record["by"]), (&"heartbeat_timeout".into(), &"client".into()));
}

#[tokio::test]
async fn pong_may_wait_for_a_long_frame() {
    let heartbeat = "[heartbeat]\ninterval = \"200ms\"\ntimeout = \"1s\"\n";
    let bed = TestBed::with(heartbeat).await;
    let (mut client, mut backend) = bed.open().await;
    let frame = wire::masked(0x82, &[7; 1000]);
    client.write_all(&frame[..100]).await.unwrap();
    let token = ping(&mut client).await;
    // Slowly, for more than twice the timeout.
    for piece in frame[100..].chunks(100) {
        tokio::time::sleep(Duration::from_millis(250)).await;
        client.write_all(piece).await.unwrap();
    }
    client.write_all(&wire::masked(0x80 | wire::PONG, &token)).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().payload.len(), 1000);
    assert_relays(&mut client, &mut backend).await;
}

// Requirements: F13.
#[tokio::test]
async fn ping_waits_for_the_end_of_frame() {
    let bed = TestBed::with("[heartbeat]\ninterval = \"100ms\"\ntimeout = \"1m\"\n").await;
    let (mut client, mut backend) = bed.open().await;
    let frame = wire::unmasked(0x82, &[8; 1 << 20]);
    backend.write_all(&frame[..1000]).await.unwrap();
    let mut got = vec![0; frame.len()];
    within_timeout("a header", client.read_exact(&mut got[..2])).await.unwrap();
    // A ping may have been due before the frame began.
    while got[0] == 0x89 {
        let payload = usize::from(got[1]);
        within_timeout("a payload", client.read_exact(&mut got[..payload])).await.unwrap();
        within_timeout("a header", client.read_exact(&mut got[..2])).await.unwrap();
    }
    within_timeout("a part", client.read_exact(&mut got[2..1000])).await.unwrap();
    // Several pings are due by now, but none may be sent inside the frame.
    assert!(tokio::time::timeout(Duration::from_millis(300), client.read_u8()).await.is_err());
    let (sent, read) =
        tokio::join!(backend.write_all(&frame[1000..]), client.read_exact(&mut got[1000..]));
    sent.unwrap();
    read.unwrap();
    assert!(got == frame);
    ping(&mut client).await;
}

#[tokio::test]
async fn first_pings_are_spread_over_the_interval() {
    let bed = TestBed::with("[heartbeat]\ninterval = \"1600ms\"\n").await;
    let mut tunnels = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let begun = Instant::now();
        let (mut client, backend) = bed.open().await;
        tunnels.spawn(async move {
            ping(&mut client).await;
            drop(backend);
            begun.elapsed()
        });
    }
    let waits = tunnels.join_all().await;
    let (first, last) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*first >= Duration::from_millis(800), "{first:?}");
    assert!(*last - *first > Duration::from_millis(200), "{first:?} to {last:?}");
}

// Requirements: FC36.
#[tokio::test]
async fn pings_do_not_reset_the_idle_timeout() {
    let config = "[heartbeat]\ninterval = \"100ms\"\ntimeout = \"1500ms\"\n\
                  [limits]\nidle = \"2s\"\n";
    let bed = TestBed::with(config).await;
    let (mut client, mut backend) = bed.open().await;
    // Data of either side keeps the tunnel open beyond the limit; pings pace the loop.
    let mut last = Instant::now();
    for n in 0..25 {
        let token = ping(&mut client).await;
        client.write_all(&wire::masked(0x80 | wire::PONG, &token)).await.unwrap();
        last = Instant::now();
        if n % 2 == 0 {
            client.write_all(&wire::masked(0x81, b"up")).await.unwrap();
            wire::read(&mut backend).await.unwrap();
        } else {
            backend.write_all(&wire::unmasked(0x81, b"down")).await.unwrap();
            wire::read_past_pings(&mut client).await.unwrap();
        }
    }
    let close = loop {
        let frame = wire::read(&mut client).await.unwrap();
        if frame.opcode() != wire::PING {
            break frame;
        }
        client.write_all(&wire::masked(0x80 | wire::PONG, &frame.payload)).await.unwrap();
        client.write_all(&wire::masked(0x80 | wire::PING, b"mine")).await.unwrap();
    };
    assert_eq!(close.code(), 1001);
    assert!(last.elapsed().as_millis() >= 2000, "{:?}", last.elapsed());
    let close = loop {
        let frame = wire::read(&mut backend).await.unwrap();
        if frame.opcode() != wire::PING {
            break frame;
        }
    };
    assert_eq!(close.code(), 1001);
    drop((client, backend));
    let record = bed.tunnel_end(1).await;
    assert_eq!((&record["end"], &record["by"]), (&"idle".into(), &"tidegate".into()));
    assert_eq!((&record["key"], &record["value"]), (&"limits.idle".into(), &"2s".into()));
    assert_eq!((&record["close_client"], &record["close_backend"]), (&1001.into(), &1001.into()));
}

// Requirements: FB05.
#[tokio::test]
async fn client_that_never_reads_is_closed() {
    let bed = TestBed::with("[limits]\nwrite_timeout = \"500ms\"\n").await;
    let (mut neighbour, mut neighbours_backend) = bed.open().await;
    let (plain, mut plain_backend) = bed.open().await;
    let (secure, mut secure_backend) = bed.open_secure().await;
    let frame = wire::unmasked(0x82, &[1; 60_000]);
    let (first, second) = tokio::join!(
        flood_until_close(&mut plain_backend, &frame),
        flood_until_close(&mut secure_backend, &frame)
    );
    assert_eq!((first, second), (1001, 1001));
    drop((plain_backend, secure_backend));
    for session in [2, 3] {
        let record = bed.tunnel_end(session).await;
        assert_eq!((&record["end"], &record["by"]), (&"write_timeout".into(), &"client".into()));
        assert_eq!(record["key"], "limits.write_timeout");
        assert_eq!(record["value"], "500ms");
        assert_eq!(record["close_backend"], 1001);
    }
    assert_relays(&mut neighbour, &mut neighbours_backend).await;
    drop((plain, secure));
}

/// Repeats a frame until a Close arrives; returns its code.
async fn flood_until_close(stream: &mut PlainStream, frame: &[u8]) -> u16 {
    let (mut from, mut to) = stream.get_mut().split();
    let flood = async { while to.write_all(frame).await.is_ok() {} };
    tokio::select! {
        close = wire::read(&mut from) => close.unwrap().code(),
        () = flood => panic!("closed without a Close frame"),
    }
}

#[tokio::test]
async fn backend_that_never_reads_is_closed() {
    let bed = TestBed::with("[limits]\nwrite_timeout = \"500ms\"\n").await;
    let (mut neighbour, mut neighbours_backend) = bed.open().await;
    let (mut client, backend) = bed.open().await;
    let frame = wire::masked(0x82, &[1; 60_000]);
    assert_eq!(flood_until_close(&mut client, &frame).await, 1013);
    drop(client);
    let record = bed.tunnel_end(2).await;
    assert_eq!((&record["end"], &record["by"]), (&"write_timeout".into(), &"backend".into()));
    assert_eq!(
        (&record["key"], &record["value"]),
        (&"limits.write_timeout".into(), &"500ms".into())
    );
    assert_eq!(record["close_client"], 1013);
    let mut backend = backend;
    read_to_end(&mut backend).await;
    assert_relays(&mut neighbour, &mut neighbours_backend).await;
}

#[tokio::test]
async fn slow_but_steady_reader_stays_open() {
    let bed = TestBed::with("[limits]\nwrite_timeout = \"2s\"\n").await;
    let (mut client, mut backend) = bed.open().await;
    let frame = wire::unmasked(0x82, &[1; 60_000]);
    let (mut from, mut to) = backend.get_mut().split();
    let flood = async { while to.write_all(&frame).await.is_ok() {} };
    let read = async {
        let begun = Instant::now();
        let mut piece = vec![0; 512 * 1024];
        while begun.elapsed() < Duration::from_millis(5000) {
            client.read_exact(&mut piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    };
    tokio::select! {
        () = read => {}
        () = flood => panic!("a steady reader was cut"),
        close = wire::read(&mut from) => panic!("a steady reader was closed: {close:?}"),
    }
}

/// Reads the next frame, which must be the proxy's ping; returns its payload.
async fn ping(client: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let frame = wire::read(client).await.unwrap();
    assert_eq!((frame.first, frame.masked), (0x80 | wire::PING, false), "{frame:?}");
    assert_eq!(frame.payload.len(), 8);
    frame.payload
}
