//! Heartbeats, idle timeout, slow peers and the timer of the tunnel.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::{advance, sleep};
use ws::{CloseCodes, HeartbeatPolicy, PingProof, Side, TerminationReason};

use super::frames::{BINARY, CLOSE, PING, PONG, TEXT, code, masked, unmasked};
use super::test_tunnel::{HEARTBEAT, RemotePeer, Setup, StreamEnd, StreamKind, TestTunnel};
use crate::tunnel::tests::over_all_streams;

over_all_streams!(
    heartbeat_pings_only_the_client,
    silent_client_is_lost,
    ping_waits_for_the_frame_in_progress,
    idle_counts_only_data,
    client_that_never_reads_is_reset,
    client_resuming_within_grace_receives_the_close,
    backend_that_never_reads_is_reset,
    client_is_read_after_its_backend_is_abandoned,
    unread_close_ends_with_the_grace,
);

fn with_heartbeat() -> Setup {
    let mut setup = Setup::default();
    setup.policy.heartbeat_client = Some(HEARTBEAT);
    setup
}

async fn heartbeat_pings_only_the_client(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, with_heartbeat()).await;
    let ping = tunnel.client.recv_frame().await;
    assert_eq!((ping.first, ping.masked, ping.payload.len()), (PING, false, 8));
    assert!((15..=30).contains(&tunnel.age()), "{} s", tunnel.age());
    let first = tunnel.age();
    sleep(Duration::from_secs(3)).await;
    // Its pong between two application frames, in one write with them.
    let frames = [masked(TEXT, b"one"), masked(PONG, &ping.payload), masked(PONG, b"two")].concat();
    tunnel.client.send(&frames).await;
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"one");
    let next = tunnel.backend.recv_frame().await;
    assert_eq!((next.first, &next.payload[..]), (PONG, &b"two"[..]));
    // The next ping comes one interval after the pong; this time the pong is sent alone.
    let ping = tunnel.client.recv_frame().await;
    assert_eq!(ping.first, PING);
    assert_follows_by_the_interval(tunnel.age(), first + 3);
    let second = tunnel.age();
    tunnel.client.send(&masked(PONG, &ping.payload)).await;
    assert_eq!(tunnel.client.recv_frame().await.first, PING);
    assert_follows_by_the_interval(tunnel.age(), second);
    // The backend received none of the pongs.
    tunnel.client.send(&masked(TEXT, b"three")).await;
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"three");
}

/// The interval of [`HEARTBEAT`], less up to an eighth; both ages are in whole seconds.
fn assert_follows_by_the_interval(age: u64, since: u64) {
    assert!((since + 26..=since + 30).contains(&age), "{age} s, {since} s");
}

async fn silent_client_is_lost(kind: StreamKind) {
    let mut setup = Setup::default();
    setup.policy.heartbeat_client = Some(HeartbeatPolicy { proof: PingProof::Pong, ..HEARTBEAT });
    let mut tunnel = TestTunnel::new(kind, setup).await;
    assert_eq!(tunnel.client.recv_frame().await.first, PING);
    let pinged = tunnel.age();
    // Not an answer: an unsolicited pong.
    tunnel.client.send(&masked(PONG, b"12345678")).await;
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1001));
    assert_eq!(tunnel.age(), pinged + 10);
    assert_eq!(tunnel.backend.recv_frame().await.first, PONG);
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    tunnel.backend.send(&unmasked(CLOSE, &code(1001))).await;
    tunnel.backend.close().await;
    tunnel.client.expect_abort().await;
    assert_eq!(tunnel.age(), pinged + 15);
    assert_eq!(tunnel.summary().await.reason, TerminationReason::HeartbeatTimeout(Side::Client));
}

// Requirements: F13.
async fn ping_waits_for_the_frame_in_progress(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, with_heartbeat()).await;
    let large = unmasked(BINARY, &[7; 1000]);
    tunnel.backend.send(&large[..500]).await;
    assert_eq!(tunnel.client.recv(500).await, large[..500]);
    sleep(Duration::from_secs(60)).await;
    // The end of one frame and the start of the next: the ping is sent between them.
    tunnel.backend.send(&[&large[500..], &large[..500]].concat()).await;
    assert_eq!(tunnel.client.recv(504).await, large[500..]);
    assert_eq!(tunnel.client.recv_frame().await.first, PING);
    assert_eq!(tunnel.client.recv(500).await, large[..500]);
    assert_eq!(tunnel.age(), 60);
}

async fn idle_counts_only_data(kind: StreamKind) {
    let mut setup = with_heartbeat();
    setup.policy.idle = Some(Duration::from_secs(100));
    let mut tunnel = TestTunnel::new(kind, setup).await;
    sleep(Duration::from_secs(10)).await;
    tunnel.client.send(&masked(TEXT, b"hi")).await;
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"hi");
    // Pings and pongs do not count as data.
    let close = loop {
        let frame = tunnel.client.recv_frame().await;
        if frame.first == CLOSE {
            break frame;
        }
        tunnel.client.send(&masked(PONG, &frame.payload)).await;
        tunnel.client.send(&masked(PING, b"keep me")).await;
    };
    assert_eq!((close.close_code(), tunnel.age()), (Some(1001), 110));
    tunnel.client.send(&masked(CLOSE, &code(1001))).await;
    tunnel.client.close().await;
    loop {
        let frame = tunnel.backend.recv_frame().await;
        if frame.first == CLOSE {
            assert_eq!(frame.close_code(), Some(1001));
            break;
        }
    }
    tunnel.backend.send(&unmasked(CLOSE, &code(1001))).await;
    tunnel.backend.close().await;
    assert_eq!(tunnel.summary().await.reason, TerminationReason::Idle);
}

// Requirements: TC07.
async fn client_that_never_reads_is_reset(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup { capacity: 4096, ..Setup::default() }).await;
    let block = unmasked(BINARY, &[7; 20_000]);
    let _ = tunnel.backend.send_some(&block).await;
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    assert_eq!(tunnel.age(), 30);
    // The grace, for a Close queued after data that the client has not accepted.
    sleep(Duration::from_secs(6)).await;
    let (bytes, end) = tunnel.client.recv_to_end().await;
    assert!(bytes.len() <= 4096 && block.starts_with(&bytes), "{} bytes", bytes.len());
    assert_ne!(end, StreamEnd::Clean);
    let summary = tunnel.summary().await;
    assert_eq!(summary.reason, TerminationReason::WriteTimeout(Side::Client));
    assert_eq!(summary.close_codes, CloseCodes { to_client: None, to_backend: Some(1001) });
}

// Requirements: TC07.
async fn client_resuming_within_grace_receives_the_close(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup { capacity: 4096, ..Setup::default() }).await;
    let block = unmasked(BINARY, &[7; 20_000]);
    let sent = tunnel.backend.send_some(&block).await;
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1001));
    assert_eq!(tunnel.age(), 30);
    let (received, ()) =
        tokio::join!(tunnel.client.recv(block.len()), tunnel.backend.send(&block[sent..]));
    assert_eq!(received, block);
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1013));
    tunnel.client.send(&masked(CLOSE, &code(1013))).await;
    tunnel.backend.send(&unmasked(CLOSE, &code(1001))).await;
    tunnel.backend.close().await;
    tunnel.client.expect_clean_end().await;
    tunnel.client.close().await;
    let summary = tunnel.summary_at(30).await;
    assert_eq!(summary.reason, TerminationReason::WriteTimeout(Side::Client));
    assert_eq!(summary.close_codes, CloseCodes { to_client: Some(1013), to_backend: Some(1001) });
}

// Requirements: TC07.
async fn backend_that_never_reads_is_reset(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup { capacity: 4096, ..Setup::default() }).await;
    let block = masked(BINARY, &[7; 20_000]);
    tunnel.client.send(&block).await;
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1013));
    assert_eq!(tunnel.age(), 30);
    tunnel.client.send(&masked(CLOSE, &code(1013))).await;
    tunnel.client.close().await;
    assert_eq!(tunnel.summary().await.reason, TerminationReason::WriteTimeout(Side::Backend));
}

async fn client_is_read_after_its_backend_is_abandoned(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup { capacity: 4096, ..Setup::default() }).await;
    // Inside a frame, so that no Close can be sent to the client.
    let half = &unmasked(BINARY, &[7; 1000])[..500];
    tunnel.backend.send(half).await;
    assert_eq!(tunnel.client.recv(500).await, half);
    let sent = tunnel.client.send_some(&masked(BINARY, &[7; 20_000])).await;
    assert!(sent > 4096);
    tunnel.client.expect_clean_end().await;
    tunnel.client.close().await;
    assert_eq!(tunnel.summary_at(30).await.reason, TerminationReason::WriteTimeout(Side::Backend));
}

async fn unread_close_ends_with_the_grace(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup { capacity: 4096, ..Setup::default() }).await;
    tunnel.backend.send(&unmasked(BINARY, &[7; 6000])).await;
    sleep(Duration::from_secs(1)).await;
    tunnel.client.send(&masked(CLOSE, &code(1000))).await;
    tunnel.backend.send(&unmasked(CLOSE, &code(1000))).await;
    tunnel.backend.close().await;
    let started = tunnel.age();
    let summary = tunnel.summary().await;
    assert_eq!((summary.reason, started), (TerminationReason::ClientClosed, 1));
}

#[tokio::test(start_paused = true)]
async fn earlier_deadline_rearms_the_timer() {
    let mut setup = Setup::default();
    setup.policy.idle = Some(Duration::from_secs(3600));
    let mut tunnel = TestTunnel::new(StreamKind::Scripted, setup).await;
    // The timer is armed for the idle timeout of an hour.
    sleep(Duration::from_secs(60)).await;
    tunnel.backend.send(&unmasked(CLOSE, &code(1000))).await;
    assert_eq!(tunnel.client.recv_frame().await.close_code(), Some(1000));
    assert_eq!(tunnel.backend.recv_frame().await.close_code(), Some(1000));
    assert_eq!(tunnel.age(), 65);
}

// Requirements: TC08.
#[tokio::test(start_paused = true)]
async fn slow_client_above_the_rate_stays_open() {
    let mut setup = Setup { capacity: 100, ..Setup::default() };
    setup.policy.min_write_rate = NonZeroU64::new(3);
    let mut tunnel = TestTunnel::new(StreamKind::Scripted, setup).await;
    tunnel.backend.send(&unmasked(BINARY, &[7; 1000])).await;
    for _ in 0..9 {
        sleep(Duration::from_secs(29)).await;
        tunnel.client.recv(100).await;
    }
    assert_eq!(tunnel.client.recv(104).await.len(), 104);
    tunnel.backend.send(&unmasked(TEXT, b"still here")).await;
    assert_eq!(tunnel.client.recv_frame().await.payload, b"still here");
}

// Requirements: TC08.
#[tokio::test(start_paused = true)]
async fn reader_below_the_rate_is_closed() {
    for side in Side::BOTH {
        let mut setup = Setup { capacity: 100, ..Setup::default() };
        setup.policy.min_write_rate = NonZeroU64::new(30);
        let mut tunnel = TestTunnel::new(StreamKind::Scripted, setup).await;
        match side {
            Side::Client => tunnel.backend.send(&unmasked(BINARY, &[7; 1000])).await,
            Side::Backend => tunnel.client.send(&masked(BINARY, &[7; 1000])).await,
        }
        for _ in 0..3 {
            sleep(Duration::from_secs(10)).await;
            match side {
                Side::Client => tunnel.client.recv(100).await,
                Side::Backend => tunnel.backend.recv(100).await,
            };
        }
        assert_eq!(tunnel.summary().await.reason, TerminationReason::WriteTooSlow(side));
    }
}

#[tokio::test(start_paused = true)]
async fn pong_received_before_its_deadline_counts() {
    let mut tunnel = TestTunnel::new(StreamKind::Scripted, with_heartbeat()).await;
    let ping = tunnel.client.recv_frame().await;
    // The pong is in the socket when its deadline passes.
    tunnel.client.send(&masked(PONG, &ping.payload)).await;
    advance(Duration::from_secs(11)).await;
    let pinged = tunnel.age();
    assert_eq!(tunnel.client.recv_frame().await.first, PING);
    assert_follows_by_the_interval(tunnel.age(), pinged);
}

#[tokio::test(start_paused = true)]
async fn pong_delayed_by_a_slow_backend_is_awaited() {
    let mut tunnel =
        TestTunnel::new(StreamKind::Scripted, Setup { capacity: 100, ..with_heartbeat() }).await;
    let ping = tunnel.client.recv_frame().await;
    // The backend is slow, so the client is not read and its pong stays in the socket.
    tunnel.client.send(&masked(BINARY, &[7; 1000])).await;
    sleep(Duration::from_secs(1)).await;
    tunnel.client.send(&masked(PONG, &ping.payload)).await;
    sleep(Duration::from_secs(25)).await;
    assert_eq!(tunnel.backend.recv_frame().await.payload.len(), 1000);
    tunnel.client.send(&masked(TEXT, b"alive")).await;
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"alive");
}

#[tokio::test(start_paused = true)]
async fn idle_tunnel_wakes_twice_per_heartbeat() {
    let mut tunnel = TestTunnel::new(StreamKind::Scripted, with_heartbeat()).await;
    let RemotePeer::Scripted(client, _) = &tunnel.client else { panic!() };
    let client = client.clone();
    for _ in 0..100 {
        let ping = tunnel.client.recv_frame().await;
        tunnel.client.send(&masked(PONG, &ping.payload)).await;
    }
    // Per heartbeat: the timer's wake reads nothing, before the ping and after it; the pong's wake reads
    // it, and then nothing. The deadline of the pong causes no wake.
    let reads = client.state().reads;
    assert!(reads <= 100 * 4 + 6, "{reads}");
}
