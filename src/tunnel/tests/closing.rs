//! How a tunnel ends, and what each side observes.

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
use crate::tunnel::{BytesAfterHead, Command, Tunnel};

over_all_streams!(
    client_close_completes_the_closing_handshake,
    backend_close_completes_the_closing_handshake,
    unanswered_close_ends_after_the_grace,
    client_half_close_reaches_the_backend,
    tls_truncation_is_not_a_clean_close,
    client_eof_inside_a_frame,
    backend_eof_closes_the_client_with_1012,
    backend_eof_inside_a_frame,
    client_protocol_error_closes_with_1002,
    oversized_message_closes_with_1009,
    drain_waits_for_the_frame_in_progress,
    abort_resets_both_sides,
    tunnel_ends_when_the_last_byte_is_accepted,
);

// Requirements: F19.
async fn client_close_completes_the_closing_handshake(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    let close = masked(CLOSE, &code(1001));
    tunnel.client.send(&close).await;
    assert_eq!(tunnel.backend.recv(close.len()).await, close);
    // The backend may still send data before it answers.
    let last = [unmasked(TEXT, b"last"), unmasked(CLOSE, &code(1001))].concat();
    tunnel.backend.send(&last).await;
    // Both Closes were relayed: the proxy ends the client's stream, and the backend ends its own.
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
    // The backend does not answer and the client does not disconnect: the proxy answers the Close
    // after the grace, and ends the tunnel after a second one.
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
    tunnel.backend.send(&unmasked(TEXT, b"rest")).await;
    assert_eq!(tunnel.client.recv(6).await, unmasked(TEXT, b"rest"));
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
    // No Close may be inserted into the frame, and the proxy must not complete it.
    let (bytes, _) = tunnel.backend.recv_to_end().await;
    assert_eq!(bytes, frame[..500]);
    tunnel.backend.close().await;
    let summary = tunnel.summary().await;
    assert_eq!(summary.reason, TerminationReason::ClientDisconnected);
    assert_eq!(summary.close_codes, CloseCodes { to_client: None, to_backend: None });
}

// Requirements: FB08.
async fn backend_eof_closes_the_client_with_1012(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    tunnel.backend.send(&unmasked(TEXT, b"bye")).await;
    tunnel.backend.close().await;
    assert_eq!(tunnel.client.recv_frame().await.payload, b"bye");
    let close = tunnel.client.recv_frame().await;
    assert_eq!((close.close_code(), close.masked), (Some(1012), false));
    tunnel.client.send(&masked(CLOSE, &code(1012))).await;
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

// Requirements: FC31, F32.
async fn client_protocol_error_closes_with_1002(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    tunnel.client.send(&masked(TEXT, b"good")).await;
    tunnel.client.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"good");
    let close = tunnel.backend.recv_frame().await;
    assert_eq!((close.close_code(), close.masked), (Some(1001), true));
    let answer = [unmasked(TEXT, b"answer"), unmasked(CLOSE, &code(1001))].concat();
    tunnel.backend.send(&answer).await;
    assert_eq!(tunnel.client.recv_frame().await.payload, b"answer");
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1002));
    tunnel.client.expect_clean_end().await;
    assert_eq!(tunnel.age(), 0);
    tunnel.client.close().await;
    tunnel.backend.close().await;
    let summary = tunnel.summary().await;
    assert!(
        matches!(summary.reason, TerminationReason::ProtocolError(Side::Client, _)),
        "{summary:?}"
    );
}

async fn oversized_message_closes_with_1009(kind: StreamKind) {
    let mut setup = Setup::default();
    setup.policy.from_client.message = Some(Limit::close(1000));
    let mut tunnel = TestTunnel::new(kind, setup).await;
    tunnel.client.send(&[masked(TEXT, b"small"), masked(BINARY, &[7; 1001])].concat()).await;
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"small");
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    tunnel.backend.send(&unmasked(CLOSE, &code(1001))).await;
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1009));
    tunnel.client.send(&masked(CLOSE, &code(1009))).await;
    tunnel.client.close().await;
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
    // The Close follows the frame; the client's answer in the same write is not relayed.
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

async fn abort_resets_both_sides(kind: StreamKind) {
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

async fn tunnel_ends_when_the_last_byte_is_accepted(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup { capacity: 4096, ..Setup::default() }).await;
    let last = [unmasked(BINARY, &[7; 6000]), unmasked(CLOSE, &code(1000))].concat();
    tunnel.client.send(&masked(CLOSE, &code(1000))).await;
    tunnel.client.close().await;
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1000));
    tunnel.backend.send(&last).await;
    tunnel.backend.close().await;
    // Everything was sent, but the client has not accepted all of it.
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
        panic!("scripted streams");
    };
    [client.clone(), backend.clone()]
}

// Requirements: TC12.
#[tokio::test(start_paused = true)]
async fn data_before_a_reset_is_delivered() {
    let mut tunnel = TestTunnel::new(StreamKind::Scripted, Setup::default()).await;
    let [client, _] = scripts(&tunnel);
    client.push(&masked(TEXT, b"last"));
    client.push_error(io::ErrorKind::ConnectionReset);
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"last");
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    tunnel.backend.close().await;
    assert_eq!(tunnel.summary().await.reason, TerminationReason::ClientDisconnected);
}

#[tokio::test(start_paused = true)]
async fn failed_write_ends_that_side() {
    let mut tunnel = TestTunnel::new(StreamKind::Scripted, Setup::default()).await;
    let [client, _] = scripts(&tunnel);
    client.fail_writes(io::ErrorKind::BrokenPipe);
    tunnel.backend.send(&unmasked(TEXT, b"lost")).await;
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    within_timeout(client.wait_until(|state| state.aborted && state.dropped)).await;
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
async fn close_sent_before_a_failed_write_is_relayed() {
    let mut tunnel = TestTunnel::new(StreamKind::Scripted, Setup::default()).await;
    let [client, backend] = scripts(&tunnel);
    // The backend is slow, so the client's last messages stay in its socket.
    backend.set_send_allowance(0);
    tunnel.client.send(&masked(TEXT, b"first")).await;
    within_timeout(backend.wait_until(|state| !state.unsent.is_empty())).await;
    tunnel.client.send(&[masked(TEXT, b"last"), masked(CLOSE, &code(1000))].concat()).await;
    client.fail_writes(io::ErrorKind::BrokenPipe);
    tunnel.backend.send(&unmasked(TEXT, b"lost")).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    backend.set_send_allowance(usize::MAX);
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"first");
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"last");
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1000));
    tunnel.backend.send(&unmasked(CLOSE, &code(1000))).await;
    tunnel.backend.close().await;
    let summary = tunnel.summary().await;
    // Messages that could not be delivered do not count as relayed.
    assert_eq!((summary.reason, summary.stats.down.messages), (TerminationReason::ClientClosed, 0));
}

#[tokio::test(start_paused = true)]
async fn close_among_early_bytes_ends_the_tunnel() {
    let after_head = BytesAfterHead {
        from_client: masked(CLOSE, &code(1000)).into(),
        from_backend: unmasked(TEXT, b"welcome").into(),
    };
    let mut tunnel =
        TestTunnel::new(StreamKind::Scripted, Setup { after_head, ..Setup::default() }).await;
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
async fn abort_resets_tcp_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut remotes = Vec::new();
    let mut locals = Vec::new();
    for _ in 0..2 {
        let (remote, local) = tokio::join!(TcpStream::connect(address), listener.accept());
        remotes.push(remote.unwrap());
        locals.push(PlainStream::new(local.unwrap().0));
    }
    let (commands, control) = mpsc::channel(1);
    commands.send(Command::Abort).await.unwrap();
    let (client, backend) = (locals.remove(0), locals.remove(0));
    let session = session(Setup::default().policy);
    let after_head = BytesAfterHead::default();
    let summary =
        Tunnel::new(client, backend, session, after_head, ChannelControl(control), Counter(0))
            .await;
    assert_eq!(summary.reason, TerminationReason::Aborted);
    for remote in &mut remotes {
        let error = remote.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
