//! How a tunnel ends, and what each side gets to see of it.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use ws::{CloseCodes, Limit, LimitKind, Side, TerminationReason};

use super::frames::{BINARY, CLOSE, TEXT, code, masked, parse_all, unmasked};
use super::test_tunnel::{
    ChannelControl, Counter, Setup, StreamEnd, StreamKind, TestTunnel, drain, session,
    within_timeout,
};
use crate::net::plain::PlainStream;
use crate::tunnel::tests::over_all_streams;
use crate::tunnel::{Command, EarlyBytes, Tunnel};

over_all_streams!(
    client_close_completes_the_closing_handshake,
    backend_close_completes_the_closing_handshake,
    unanswered_close_ends_after_the_grace,
    client_half_close_reaches_the_backend,
    tls_truncation_is_not_a_clean_close,
    client_eof_inside_a_frame,
    backend_eof_closes_the_client_with_1011,
    backend_eof_inside_a_frame,
    client_protocol_error_closes_with_1002,
    a_message_is_too_big,
    drain_waits_for_the_frame_in_progress,
    a_cut_drops_both,
    the_end_comes_as_soon_as_the_last_byte_is_taken,
);

// Requirements: F19.
async fn client_close_completes_the_closing_handshake(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    let close = masked(CLOSE, &code(1001));
    tunnel.client.send(&close).await;
    assert_eq!(tunnel.backend.recv(close.len()).await, close);
    // The backend may still have something to say before it answers.
    let last = [unmasked(TEXT, b"last"), unmasked(CLOSE, &code(1001))].concat();
    tunnel.backend.send(&last).await;
    // Both Closes are through: we end the client's stream, and wait for the backend to end its own.
    let (bytes, end) = tunnel.client.recv_to_end().await;
    assert_eq!(bytes, last);
    assert_ne!(end, StreamEnd::Aborted);
    tunnel.client.close().await;
    tunnel.backend.close().await;
    tunnel.backend.expect_clean_end().await;
    assert_eq!(tunnel.age(), 0);
    let summary = tunnel.summary().await;
    assert_eq!(summary.reason, TerminationReason::ClientClosed);
    assert_eq!(summary.close_codes, CloseCodes { to_client: Some(1001), to_backend: Some(1001) });
}

// Requirements: F19.
async fn backend_close_completes_the_closing_handshake(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    let close = unmasked(CLOSE, &code(4000));
    tunnel.backend.send(&close).await;
    assert_eq!(tunnel.client.recv(close.len()).await, close);
    let answer = masked(CLOSE, &code(4000));
    tunnel.client.send(&answer).await;
    assert_eq!(tunnel.backend.recv(answer.len()).await, answer);
    tunnel.client.expect_clean_end().await;
    tunnel.client.close().await;
    tunnel.backend.close().await;
    tunnel.backend.expect_clean_end().await;
    assert_eq!(tunnel.age(), 0);
    assert_eq!(tunnel.summary().await.reason, TerminationReason::BackendClosed);
}

// Requirements: FC25.
async fn unanswered_close_ends_after_the_grace(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    tunnel.client.send(&masked(CLOSE, &code(1000))).await;
    // Neither the backend answers nor does the client leave: its Close is answered for the
    // backend after the grace, and after another it is over.
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1000));
    assert_eq!(tunnel.age(), 5);
    let summary = tunnel.summary().await;
    assert_eq!(summary.reason, TerminationReason::ClientClosed);
}

// Requirements: TC09.
async fn client_half_close_reaches_the_backend(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    tunnel.client.send(&masked(TEXT, b"bye")).await;
    tunnel.client.close().await;
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"bye");
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    // What the backend still sends is delivered.
    tunnel.backend.send(&unmasked(TEXT, b"and you")).await;
    assert_eq!(tunnel.client.recv(9).await, unmasked(TEXT, b"and you"));
    tunnel.backend.send(&unmasked(CLOSE, &code(1001))).await;
    tunnel.backend.close().await;
    tunnel.backend.expect_clean_end().await;
    tunnel.client.expect_clean_end().await;
    assert_eq!(tunnel.age(), 0);
    let summary = tunnel.summary().await;
    assert_eq!(summary.reason, TerminationReason::ClientDisconnected);
    assert_eq!(summary.close_codes, CloseCodes { to_client: None, to_backend: Some(1001) });
}

// Requirements: TL25.
async fn tls_truncation_is_not_a_clean_close(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    tunnel.client.truncate().await;
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    tunnel.backend.send(&unmasked(CLOSE, &code(1001))).await;
    tunnel.backend.close().await;
    assert_eq!(tunnel.summary().await.reason, TerminationReason::ClientDisconnected);
}

// Requirements: FC30.
async fn client_eof_inside_a_frame(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    let frame = masked(BINARY, &[7; 1000]);
    tunnel.client.send(&frame[..500]).await;
    tunnel.client.close().await;
    // No Close may be put into the frame, and no frame be made whole by us.
    let (bytes, _) = tunnel.backend.recv_to_end().await;
    assert_eq!(bytes, frame[..500]);
    tunnel.backend.close().await;
    let summary = tunnel.summary().await;
    assert_eq!(summary.reason, TerminationReason::ClientDisconnected);
    assert_eq!(summary.close_codes, CloseCodes { to_client: None, to_backend: None });
}

// Requirements: FB08.
async fn backend_eof_closes_the_client_with_1011(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    tunnel.backend.send(&unmasked(TEXT, b"bye")).await;
    tunnel.backend.close().await;
    assert_eq!(tunnel.client.recv_frame().await.payload, b"bye");
    let close = tunnel.client.recv_frame().await;
    assert_eq!((close.close_code(), close.masked), (Some(1011), false));
    tunnel.client.send(&masked(CLOSE, &code(1011))).await;
    tunnel.client.expect_clean_end().await;
    tunnel.client.close().await;
    assert_eq!(tunnel.age(), 0);
    assert_eq!(tunnel.summary().await.reason, TerminationReason::BackendDisconnected);
}

// Requirements: FB10.
async fn backend_eof_inside_a_frame(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    let frame = unmasked(BINARY, &[7; 1000]);
    tunnel.backend.send(&frame[..500]).await;
    tunnel.backend.close().await;
    let (bytes, _) = tunnel.client.recv_to_end().await;
    assert_eq!(bytes, frame[..500]);
    tunnel.client.close().await;
    assert_eq!(tunnel.summary().await.reason, TerminationReason::BackendDisconnected);
}

// Requirements: FC31.
async fn client_protocol_error_closes_with_1002(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    tunnel.client.send(&masked(TEXT, b"good")).await;
    tunnel.client.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"good");
    let close = tunnel.backend.recv_frame().await;
    assert_eq!((close.close_code(), close.masked), (Some(1001), true));
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1002));
    tunnel.client.expect_clean_end().await;
    tunnel.client.close().await;
    tunnel.backend.send(&unmasked(CLOSE, &code(1001))).await;
    tunnel.backend.close().await;
    let summary = tunnel.summary().await;
    assert!(
        matches!(summary.reason, TerminationReason::ProtocolError(Side::Client, _)),
        "{summary:?}"
    );
}

async fn a_message_is_too_big(kind: StreamKind) {
    let mut setup = Setup::default();
    setup.policy.from_client.message = Some(Limit::close(1000));
    let mut tunnel = TestTunnel::new(kind, setup).await;
    tunnel.client.send(&[masked(TEXT, b"small"), masked(BINARY, &[7; 1001])].concat()).await;
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"small");
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1009));
    tunnel.client.send(&masked(CLOSE, &code(1009))).await;
    tunnel.client.close().await;
    tunnel.backend.send(&unmasked(CLOSE, &code(1001))).await;
    tunnel.backend.close().await;
    let summary = tunnel.summary().await;
    assert_eq!(summary.reason, TerminationReason::LimitExceeded(Side::Client, LimitKind::Message));
    assert_eq!(summary.stats.up.messages, 1);
}

// Requirements: F13.
async fn drain_waits_for_the_frame_in_progress(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    let large = masked(BINARY, &[7; 100_000]);
    let (first, second) = large.split_at(50_000);
    tunnel.client.send(first).await;
    assert!(tunnel.backend.recv(first.len()).await == first);
    tunnel.commands.send(drain()).await.unwrap();
    // The other direction is between frames.
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1012));
    // The answer comes behind the frame; what follows in the same write goes nowhere.
    tunnel.client.send(&[second, &masked(CLOSE, &code(1012))].concat()).await;
    assert!(tunnel.backend.recv(second.len()).await == second);
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    tunnel.client.expect_clean_end().await;
    tunnel.client.close().await;
    tunnel.backend.send(&unmasked(CLOSE, &code(1001))).await;
    tunnel.backend.close().await;
    assert_eq!(tunnel.age(), 0);
    let summary = tunnel.summary().await;
    assert_eq!(summary.reason, TerminationReason::Drained);
    assert_eq!(summary.close_codes, CloseCodes { to_client: Some(1012), to_backend: Some(1001) });
}

async fn a_cut_drops_both(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    tunnel.commands.send(drain()).await.unwrap();
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1012));
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    tunnel.commands.send(Command::Abort).await.unwrap();
    tunnel.client.expect_abort().await;
    tunnel.backend.expect_abort().await;
    assert_eq!(tunnel.age(), 0);
    assert_eq!(tunnel.summary().await.reason, TerminationReason::Drained);
}

async fn the_end_comes_as_soon_as_the_last_byte_is_taken(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup { capacity: 4096, ..Setup::default() }).await;
    let last = [unmasked(BINARY, &[7; 6000]), unmasked(CLOSE, &code(1000))].concat();
    tunnel.client.send(&masked(CLOSE, &code(1000))).await;
    tunnel.client.close().await;
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1000));
    tunnel.backend.send(&last).await;
    tunnel.backend.close().await;
    // All is said, but the client has not taken all of it.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(!tunnel.is_finished());
    let (bytes, end) = tunnel.client.recv_to_end().await;
    assert!(bytes == last);
    assert_ne!(end, StreamEnd::Aborted);
    tunnel.backend.expect_clean_end().await;
    assert_eq!(tunnel.summary_at(1).await.reason, TerminationReason::ClientClosed);
}

fn scripts(tunnel: &TestTunnel) -> [crate::net::scripted::Script; 2] {
    use super::test_tunnel::RemotePeer;
    let (RemotePeer::Scripted(client, _), RemotePeer::Scripted(backend, _)) =
        (&tunnel.client, &tunnel.backend)
    else {
        panic!("only over scripts");
    };
    [client.clone(), backend.clone()]
}

// Requirements: TC12.
#[tokio::test(start_paused = true)]
async fn data_before_a_reset_is_delivered() {
    let mut tunnel = TestTunnel::new(StreamKind::Scripted, Setup::default()).await;
    let [client, _] = scripts(&tunnel);
    client.say(&masked(TEXT, b"last"));
    client.fail(io::ErrorKind::ConnectionReset);
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"last");
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    tunnel.backend.close().await;
    assert_eq!(tunnel.summary().await.reason, TerminationReason::ClientDisconnected);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_the_end_of_that_side() {
    let mut tunnel = TestTunnel::new(StreamKind::Scripted, Setup::default()).await;
    let [client, _] = scripts(&tunnel);
    client.turn_deaf(io::ErrorKind::BrokenPipe);
    tunnel.backend.send(&unmasked(TEXT, b"anyone?")).await;
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    within_timeout(client.until(|state| state.aborted && state.dropped)).await;
    tunnel.backend.send(&unmasked(CLOSE, &code(1001))).await;
    tunnel.backend.close().await;
    assert_eq!(tunnel.age(), 0);
    let summary = tunnel.summary().await;
    assert_eq!(
        (summary.reason, summary.stats.down.messages),
        (TerminationReason::ClientDisconnected, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_may_still_have_said_goodbye() {
    let mut tunnel = TestTunnel::new(StreamKind::Scripted, Setup::default()).await;
    let [client, backend] = scripts(&tunnel);
    // The backend is slow, so the client's last words wait in its socket.
    backend.allow(0);
    tunnel.client.send(&masked(TEXT, b"first")).await;
    within_timeout(backend.until(|state| !state.waiting.is_empty())).await;
    tunnel.client.send(&[masked(TEXT, b"last"), masked(CLOSE, &code(1000))].concat()).await;
    client.turn_deaf(io::ErrorKind::BrokenPipe);
    tunnel.backend.send(&unmasked(TEXT, b"anyone?")).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    backend.allow(usize::MAX);
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"first");
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"last");
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1000));
    tunnel.backend.send(&unmasked(CLOSE, &code(1000))).await;
    tunnel.backend.close().await;
    let summary = tunnel.summary().await;
    // What nobody could be given does not count as relayed.
    assert_eq!((summary.reason, summary.stats.down.messages), (TerminationReason::ClientClosed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_came_with_the_heads_is_enough() {
    let early = EarlyBytes {
        from_client: masked(CLOSE, &code(1000)).into(),
        from_backend: unmasked(TEXT, b"welcome").into(),
    };
    let mut tunnel =
        TestTunnel::new(StreamKind::Scripted, Setup { early, ..Setup::default() }).await;
    tunnel.backend.send(&unmasked(CLOSE, &code(1000))).await;
    tunnel.backend.close().await;
    tunnel.client.close().await;
    let (bytes, _) = tunnel.client.recv_to_end().await;
    let frames = parse_all(&bytes);
    assert_eq!(frames[0].payload, b"welcome");
    assert_eq!(frames[1].close_code(), Some(1000));
    assert_eq!(tunnel.summary().await.reason, TerminationReason::ClientClosed);
}

#[tokio::test]
async fn a_cut_resets_tcp_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut fars = Vec::new();
    let mut nears = Vec::new();
    for _ in 0..2 {
        let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
        fars.push(far.unwrap());
        nears.push(PlainStream::new(near.unwrap().0));
    }
    let (orders, control) = mpsc::channel(1);
    orders.send(Command::Abort).await.unwrap();
    let (client, backend) = (nears.remove(0), nears.remove(0));
    let session = session(Setup::default().policy);
    let early = EarlyBytes::default();
    let summary =
        Tunnel::new(client, backend, session, early, ChannelControl(control), Counter(0)).await;
    assert_eq!(summary.reason, TerminationReason::Aborted);
    for far in &mut fars {
        let error = far.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
