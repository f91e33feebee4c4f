//! The closing handshake (RFC 6455 7): Closes that cross, come late or are never answered, and data
//! after them.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{
    Backend, BackendEvent, Client, Proxy, TestBed, read_to_end, reset, wire, within_timeout,
};

/// A grace period short enough to wait for.
const SHORT: &str = "[limits]\nclose_grace = \"400ms\"\n";
/// A grace period longer than any test.
const LONG: &str = "[limits]\nclose_grace = \"10m\"\n";

const CLOSE: u8 = 0x80 | wire::CLOSE;

// Requirements: FC24, FB13.
#[tokio::test]
async fn data_after_a_close_is_dropped() {
    let bed = TestBed::with(LONG).await;
    let (mut client, mut backend) = bed.open().await;
    let masked = wire::masked;
    let sent = [
        masked(CLOSE, &wire::close(1000, "first")),
        masked(0x81, b"data"),
        masked(CLOSE, &wire::close(1001, "second")),
        b"not even a frame".to_vec(),
    ];
    client.write_all(&sent.concat()).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().payload, wire::close(1000, "first"));
    // The other side may still finish what it was sending.
    let bare = wire::unmasked;
    let sent = [
        bare(wire::TEXT, b"wait, "),
        bare(0x80, b"one more"),
        bare(CLOSE, &wire::close(1000, "")),
        bare(0x81, b"data"),
        bare(CLOSE, &wire::close(1001, "")),
    ];
    backend.write_all(&sent.concat()).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, sent[..3].concat());
    drop(client);
    drop(backend);
    let record = bed.tunnel_end(1).await;
    assert_eq!((&record["end"], &record["by"]), (&"client_closed".into(), &"client".into()));
    assert_eq!((&record["up_messages"], &record["down_messages"]), (&0.into(), &1.into()));
    assert_eq!((&record["close_client"], &record["close_backend"]), (&1000.into(), &1000.into()));
}

// Requirements: FC26, F28.
#[tokio::test]
async fn crossing_closes_complete() {
    let bed = TestBed::with(LONG).await;
    for session in 1..=20 {
        let (mut client, mut backend) = bed.open_secure().await;
        let (up, down) = (
            wire::masked(CLOSE, &wire::close(4001, "up")),
            wire::unmasked(CLOSE, &wire::close(4002, "down")),
        );
        let (sent, written) = tokio::join!(
            async {
                client.write_all(&up).await?;
                client.flush().await
            },
            backend.write_all(&down)
        );
        sent.unwrap();
        written.unwrap();
        assert_eq!(wire::read(&mut client).await.unwrap().code(), 4002);
        assert_eq!(wire::read(&mut backend).await.unwrap().code(), 4001);
        // RFC 6455 7.1.1: towards its client the proxy is the server, which closes first, with
        // close_notify; without it this read would fail.
        let mut rest = Vec::new();
        within_timeout("close_notify", client.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest, b"");
        drop((client, backend));
        let record = bed.tunnel_end(session).await;
        let end = record["end"].as_str().unwrap();
        assert!(["client_closed", "backend_closed"].contains(&end), "{end}");
        assert_eq!(
            (&record["close_client"], &record["close_backend"]),
            (&4002.into(), &4001.into())
        );
    }
}

#[tokio::test]
async fn tungstenite_peers_close_cleanly() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut socket = Client::new(&proxy).await.open("/ws").await;
    for sent in [Message::text("hello"), Message::Ping("are you there".into())] {
        socket.send(sent.clone()).await.unwrap();
        assert_eq!(backend.message().await, sent);
    }
    assert_eq!(
        within_timeout("an echo", socket.next()).await.unwrap().unwrap(),
        Message::text("hello")
    );
    let response = within_timeout("a pong", socket.next()).await.unwrap().unwrap();
    assert_eq!(response, Message::Pong("are you there".into()));
    let farewell = CloseFrame { code: CloseCode::Library(4321), reason: "enough".into() };
    socket.close(Some(farewell.clone())).await.unwrap();
    assert_eq!(backend.message().await, Message::Close(Some(farewell.clone())));
    let response = within_timeout("the answer", socket.next()).await.unwrap().unwrap();
    assert_eq!(response, Message::Close(Some(farewell)));
    assert!(within_timeout("the end", socket.next()).await.is_none());
    assert!(matches!(backend.next_event().await, BackendEvent::Ended(None)));
    drop(socket);
    assert_eq!(proxy.end_record("client_closed").await["close_client"], 4321);
}

// Requirements: F19.
#[tokio::test]
async fn backend_gets_time_to_close_first() {
    let bed = TestBed::with(LONG).await;
    let (mut client, mut backend) = bed.open().await;
    client.write_all(&wire::masked(CLOSE, b"")).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1005);
    backend.write_all(&wire::unmasked(CLOSE, b"")).await.unwrap();
    // The client has done its part, whatever the backend does.
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1005);
    assert_eq!(read_to_end(&mut client).await, b"");
    drop(client);
    let eager = tokio::time::timeout(std::time::Duration::from_millis(200), backend.read_u8());
    assert!(eager.await.is_err(), "the proxy must not close first");
    backend.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut backend).await, b"");
    assert_eq!(bed.tunnel_end(1).await["end"], "client_closed");
}

// Requirements: FB12, F18.
#[tokio::test]
async fn unanswered_backend_close_is_answered() {
    let bed = TestBed::with(SHORT).await;
    let (mut client, mut backend) = bed.open().await;
    let begun = Instant::now();
    client.write_all(&wire::masked(CLOSE, &wire::close(4000, "bye"))).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 4000);
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 4000);
    assert!(begun.elapsed().as_millis() >= 400, "{:?}", begun.elapsed());
    assert_eq!(read_to_end(&mut client).await, b"");
    drop(client);
    let record = bed.tunnel_end(1).await;
    assert_eq!((&record["end"], &record["close_client"]), (&"client_closed".into(), &4000.into()));
    read_to_end(&mut backend).await;
}

// Requirements: FC25.
#[tokio::test]
async fn unanswered_client_close_ends_after_grace() {
    let bed = TestBed::with(SHORT).await;
    let (mut client, mut backend) = bed.open().await;
    backend.write_all(&wire::unmasked(CLOSE, &wire::close(4000, "bye"))).await.unwrap();
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 4000);
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 4000);
    drop(backend);
    // The client keeps its socket open; the tunnel does not wait for it.
    let record = bed.tunnel_end(1).await;
    assert_eq!(
        (&record["end"], &record["close_backend"]),
        (&"backend_closed".into(), &4000.into())
    );
    read_to_end(&mut client).await;
}

// Requirements: FC25, FB12.
#[tokio::test]
async fn sockets_left_open_end_after_grace() {
    let bed = TestBed::with(SHORT).await;
    let (mut client, mut backend) = bed.open_secure().await;
    let begun = Instant::now();
    client.write_all(&wire::masked(CLOSE, &wire::close(1000, ""))).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1000);
    backend.write_all(&wire::unmasked(CLOSE, &wire::close(1000, ""))).await.unwrap();
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1000);
    let record = bed.tunnel_end(1).await;
    assert!(begun.elapsed().as_millis() >= 400);
    assert_eq!(record["end"], "client_closed");
    bed.proxy.wait_until_idle().await;
    drop((client, backend));
}

#[tokio::test]
async fn close_within_a_message_passes() {
    let bed = TestBed::with(LONG).await;
    let (mut client, mut backend) = bed.open().await;
    let sent = [wire::masked(wire::TEXT, b"never fini"), wire::masked(CLOSE, b"")].concat();
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = vec![0; sent.len()];
    within_timeout("both", backend.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, sent);
    drop(backend);
    // The backend disconnected without an answer; the client still gets one.
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1005);
    assert_eq!(bed.tunnel_end(1).await["end"], "client_closed");
}

#[tokio::test]
async fn reset_during_close_ends_the_tunnel() {
    let bed = TestBed::with(LONG).await;
    for session in 1..=8 {
        let (mut client, mut backend) = bed.open().await;
        if session % 2 == 0 {
            client.write_all(&wire::masked(CLOSE, b"")).await.unwrap();
            wire::read(&mut backend).await.unwrap();
        } else {
            backend.write_all(&wire::unmasked(CLOSE, b"")).await.unwrap();
            wire::read(&mut client).await.unwrap();
        }
        if session <= 4 {
            reset(client);
            drop(backend);
        } else {
            reset(backend);
            drop(client);
        }
        let end = bed.tunnel_end(session).await["end"].clone();
        assert_eq!(end, if session % 2 == 0 { "client_closed" } else { "backend_closed" });
    }
    bed.proxy.wait_until_idle().await;
}

// Requirements: FC19, FC23.
#[tokio::test]
async fn client_close_frames_pass_unchanged() {
    let bed = TestBed::with("").await;
    let long = "r".repeat(123);
    let codes = [1000, 1001, 3000, 3999, 4000, 4999];
    let sent = codes.map(|code| (wire::close(code, &long), code));
    for (index, (payload, code)) in sent.into_iter().chain([(vec![], 1005)]).enumerate() {
        let (mut client, mut backend) = bed.open().await;
        let close = wire::masked(0x80 | wire::CLOSE, &payload);
        client.write_all(&close).await.unwrap();
        let mut got = vec![0; close.len()];
        within_timeout("the Close", backend.read_exact(&mut got)).await.unwrap();
        assert_eq!(got, close, "octet for octet, its mask among them");
        backend.write_all(&wire::unmasked(0x80 | wire::CLOSE, &payload)).await.unwrap();
        assert_eq!(wire::read(&mut client).await.unwrap().payload, payload);
        drop((client, backend));
        let record = bed.tunnel_end(index + 1).await;
        assert_eq!([&record["end"], &record["by"]], ["client_closed", "client"]);
        assert_eq!([&record["close_client"], &record["close_backend"]], [code, code]);
    }
}
