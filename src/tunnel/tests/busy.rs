//! Tunnels with more to do than fits into one wake.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use ws::{DeflateMode, FrameTrace, PerSide, Session, SessionPolicy};

use super::frames::{BINARY, masked, unmasked};
use super::polled_tunnel::PolledTunnel;
use super::test_tunnel::{Counter, RemotePeer, Setup, StreamKind, TestTunnel};
use crate::tunnel::{BytesAfterHead, Command};

#[tokio::test(start_paused = true)]
async fn busy_tunnel_yields_to_other_tasks() {
    let mut setup = Setup::default();
    setup.policy.from_backend.message = None;
    let mut polled = PolledTunnel::new(setup);
    for _ in 0..20 {
        polled.client.push(&masked(BINARY, &[7; 1000]));
        polled.backend.push(&unmasked(BINARY, &[7; 1000]));
    }
    assert!(polled.poll().await, "must wake itself");
    assert_eq!((polled.client.state().reads, polled.backend.state().reads), (8, 8));
    assert!(polled.poll().await);
    assert!(!polled.poll().await);
    assert_eq!(polled.client.state().sent.len(), 20 * 1004);
}

/// A trace that makes every frame take longer than a wake may.
fn slow_trace() -> Command {
    Command::Trace(Box::new(FrameTrace::new(|_| {
        thread::sleep(Duration::from_millis(1));
        true
    })))
}

#[tokio::test]
async fn wake_ends_when_its_time_is_over() {
    let mut polled = PolledTunnel::new(Setup::default());
    polled.commands.try_send(slow_trace()).unwrap();
    for _ in 0..20 {
        polled.client.push(&masked(BINARY, &[7; 1000]));
    }
    assert!(polled.poll().await, "must wake itself");
    // The clock is read after the second.
    assert_eq!(polled.client.state().reads, 2);
    while polled.poll().await {}
    assert_eq!(polled.backend.state().sent.len(), 20 * 1008);
}

/// A short compressed message takes up to a microsecond, and a read holds thousands.
#[tokio::test]
async fn wake_ends_within_a_read_of_compressed_messages() {
    let context_takeover = PerSide { client: true, backend: true };
    let mode = DeflateMode::Inspect { context_takeover };
    let policy = Arc::new(SessionPolicy::default());
    let session = Session::new(policy, mode, Duration::ZERO, &mut Counter(0));
    let mut polled = PolledTunnel::with_session(session, BytesAfterHead::default());
    polled.commands.try_send(slow_trace()).unwrap();
    // "hello you" in one block, and the start of an empty one.
    let payload = [0xca, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xa8, 0xcc, 0x2f, 0x05, 0x00];
    let message = masked(0xc1, &payload);
    polled.client.push(&message.repeat(1000));
    assert!(polled.poll().await, "must wake itself");
    let passed = polled.backend.state().sent.len() / message.len();
    assert!((1..=100).contains(&passed), "{passed} messages");
    polled.commands.try_send(Command::Trace(Box::new(FrameTrace::new(|_| false)))).unwrap();
    while polled.poll().await {}
    assert_eq!(polled.backend.state().sent.len(), 1000 * message.len());
}

/// Between two polls of a busy tunnel, the worker looks at its sockets.
#[test]
fn sockets_are_looked_at_after_each_wake() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(10_000)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut tunnel = TestTunnel::new(StreamKind::Scripted, Setup::default()).await;
        for _ in 0..1000 {
            tunnel.client.send(&masked(BINARY, &[7; 100])).await;
        }
        let (mut near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"x").await.unwrap();
        near.read_exact(&mut [0]).await.unwrap();
        let RemotePeer::Scripted(script, _) = &tunnel.client else { unreachable!() };
        let reads = script.state().reads;
        assert!(reads < 100, "{reads} reads before another socket was looked at");
    });
}
