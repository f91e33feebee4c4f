//! Relaying of frames: content, order, backpressure and cost.

use proptest::prelude::*;
use tokio::net::TcpStream;
use ws::{DirectionStats, TerminationReason};

use super::frames::{
    BINARY, CLOSE, CONTINUATION, CONTINUATION_END, PING, PONG, TEXT, TEXT_BEGIN, code, masked,
    parse_all, unmasked,
};
use super::polled_tunnel::PolledTunnel;
use super::test_tunnel::{
    ChannelControl, Counter, HEARTBEAT, Setup, StreamKind, TestTunnel, drain,
};
use crate::net::plain::PlainStream;
use crate::net::testing::UnbufferedTlsStream;
use crate::tunnel::tests::over_all_streams;
use crate::tunnel::{BytesAfterHead, Tunnel};

over_all_streams!(
    frames_pass_verbatim_both_ways,
    slow_client_pauses_only_its_backend,
    early_bytes_go_first,
);

/// Frames with every length encoding, fragments, and control frames in between.
fn all_frames(frame: fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let payload: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    [
        frame(TEXT, b""),
        frame(TEXT, b"hello"),
        frame(BINARY, &payload[..125]),
        frame(BINARY, &payload[..126]),
        frame(PING, b"are you there"),
        frame(BINARY, &payload[..65_535]),
        frame(TEXT_BEGIN, b"one "),
        frame(CONTINUATION, b"two "),
        frame(PONG, b"unsolicited"),
        frame(CONTINUATION_END, b"three"),
        frame(BINARY, &payload[..65_536]),
        frame(BINARY, &payload),
    ]
    .concat()
}

async fn frames_pass_verbatim_both_ways(kind: StreamKind) {
    let mut tunnel = TestTunnel::new(kind, Setup::default()).await;
    let (up, down) = (all_frames(masked), all_frames(unmasked));
    tunnel.client.send(&up).await;
    tunnel.backend.send(&down).await;
    assert!(tunnel.backend.recv(up.len()).await == up);
    assert!(tunnel.client.recv(down.len()).await == down);

    tunnel.client.send(&masked(CLOSE, &code(1000))).await;
    assert_eq!(tunnel.backend.recv(8).await, masked(CLOSE, &code(1000)));
    tunnel.backend.send(&unmasked(CLOSE, &code(1000))).await;
    assert_eq!(tunnel.client.recv(4).await, unmasked(CLOSE, &code(1000)));
    tunnel.backend.close().await;
    tunnel.client.close().await;
    let summary = tunnel.summary().await;
    assert_eq!(summary.reason, TerminationReason::ClientClosed);
    assert_eq!(
        summary.stats.up,
        DirectionStats { bytes: up.len() as u64 + 8, messages: 8, ..summary.stats.up }
    );
    assert_eq!(
        summary.stats.down,
        DirectionStats { bytes: down.len() as u64 + 4, messages: 8, ..summary.stats.down }
    );
}

// Requirements: FB05.
async fn slow_client_pauses_only_its_backend(kind: StreamKind) {
    const CAPACITY: usize = 16 * 1024;
    let mut tunnel = TestTunnel::new(kind, Setup { capacity: CAPACITY, ..Setup::default() }).await;
    let down = unmasked(BINARY, &[7; 10_000]).repeat(100);
    let sent = tunnel.backend.send_some(&down).await;
    if kind != StreamKind::Scripted {
        // Two full pipes and one read, which is no larger than a pipe; TLS adds little.
        assert!((2 * CAPACITY..4 * CAPACITY).contains(&sent), "{sent} bytes were accepted");
    }
    tunnel.client.send(&masked(TEXT, b"the other direction")).await;
    assert_eq!(tunnel.backend.recv_frame().await.payload, b"the other direction");
    let (client, backend) = (&mut tunnel.client, &mut tunnel.backend);
    let ((), received) = tokio::join!(backend.send(&down[sent..]), client.recv(down.len()));
    assert!(received == down);
}

async fn early_bytes_go_first(kind: StreamKind) {
    let (up, down) = (all_frames(masked), all_frames(unmasked));
    // Both are split within a frame header; one is larger than a read.
    let (early_up, late_up) = up.split_at(8);
    let (early_down, late_down) = down.split_at(down.len() - 200_003);
    let after_head = BytesAfterHead {
        from_client: early_up.to_vec().into(),
        from_backend: early_down.to_vec().into(),
    };
    let mut tunnel = TestTunnel::new(kind, Setup { after_head, ..Setup::default() }).await;
    tunnel.client.send(late_up).await;
    tunnel.backend.send(late_down).await;
    assert!(tunnel.backend.recv(up.len()).await == up);
    assert!(tunnel.client.recv(down.len()).await == down);
}

#[tokio::test(start_paused = true)]
async fn blocked_receiver_stops_reads_from_its_sender() {
    let mut polled = PolledTunnel::new(Setup::default());
    polled.client.set_send_allowance(1000);
    for _ in 0..10 {
        polled.backend.push(&unmasked(BINARY, &[7; 600]));
    }
    assert!(!polled.poll().await);
    let reads = polled.backend.state().reads;
    assert_eq!(reads, 2);
    assert_eq!(polled.client.state().unsent.len(), 2 * 604 - 1000);
    // The other direction is independent, and the write timer causes no reads.
    polled.client.push(&masked(TEXT, b"hi"));
    assert!(!polled.poll().await);
    assert_eq!(polled.backend.state().sent, masked(TEXT, b"hi"));
    assert_eq!(polled.backend.state().reads, reads);
    polled.client.set_send_allowance(usize::MAX);
    polled.poll().await;
    assert_eq!(polled.client.state().sent.len(), 10 * 604);
}

#[tokio::test(start_paused = true)]
async fn one_read_leads_to_one_write() {
    let mut polled = PolledTunnel::new(Setup::default());
    let three = [masked(TEXT, b"a"), masked(PING, b"b"), masked(TEXT, b"c")].concat();
    polled.client.push(&three);
    polled.poll().await;
    let sends = &polled.backend.state().sends;
    let filled: Vec<_> = sends.iter().flatten().filter(|len| **len > 0).collect();
    assert_eq!((sends.len(), filled), (1, vec![&three.len()]));
}

#[tokio::test(start_paused = true)]
async fn idle_tunnel_holds_no_buffer() {
    let after_head = BytesAfterHead {
        from_client: masked(TEXT, b"early")[..1].to_vec().into(),
        from_backend: unmasked(TEXT, b"early").into(),
    };
    let mut polled = PolledTunnel::new(Setup { after_head, ..Setup::default() });
    polled.poll().await;
    let [up, down] = polled.allocated();
    assert!((1..=14).contains(&up), "{up} bytes allocated for 1");
    assert_eq!(down, 0);
    // A ping in two parts, after the byte that was waiting.
    polled.client.push(&[&masked(TEXT, b"early")[1..], &masked(PING, &[1; 125])[..130]].concat());
    polled.poll().await;
    assert!(polled.allocated()[0] <= 145);
    polled.client.push(&masked(PING, &[1; 125])[130..]);
    polled.poll().await;
    assert_eq!(polled.allocated(), [0, 0]);
    let sent = [masked(TEXT, b"early"), masked(PING, &[1; 125])].concat();
    assert_eq!(polled.backend.state().sent, sent);
    // Undecided bytes are dropped when the stream ends.
    polled.client.push(&masked(TEXT, b"half")[..3]);
    polled.client.push_closed();
    polled.poll().await;
    assert_eq!(polled.allocated(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn control_frames_are_sent_in_busy_directions() {
    let mut setup = Setup::default();
    setup.policy.heartbeat_client = Some(HEARTBEAT);
    let mut polled = PolledTunnel::new(setup);
    polled.poll().await;
    tokio::time::advance(HEARTBEAT.interval).await;
    // More data than one wake relays before each poll.
    for expected in [None, Some(&PING)] {
        for _ in 0..20 {
            polled.client.push(&masked(BINARY, &[7; 1000]));
        }
        assert!(polled.poll().await);
        assert_eq!(polled.client.state().sent.first(), expected);
    }
    polled.commands.try_send(drain()).unwrap();
    polled.client.push(&masked(BINARY, &[7; 1000]));
    polled.poll().await;
    let frames = parse_all(&polled.client.state().sent);
    assert_eq!(frames[1].close_code(), Some(1012));
}

#[test]
fn tunnel_is_small() {
    type Product =
        Tunnel<UnbufferedTlsStream<TcpStream>, PlainStream<TcpStream>, ChannelControl, Counter>;
    let size = size_of::<Product>();
    println!("Tunnel {size}, TLS stream {}", size_of::<UnbufferedTlsStream<TcpStream>>());
    assert!(size <= 2300, "{size}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    })]

    /// Frames are relayed verbatim, however they are split.
    #[test]
    fn split_frames_pass_verbatim(
        sizes in proptest::collection::vec((0_usize..5, 0_usize..300), 1..40),
        splits in proptest::collection::vec(1_usize..200, 1..60),
    ) {
        let sent: Vec<u8> = sizes
            .into_iter()
            .flat_map(|(kind, len)| match kind {
                0 => masked(PING, &vec![1; len.min(125)]),
                1 => masked(PONG, &vec![2; len.min(125)]),
                2 => [masked(TEXT_BEGIN, &vec![3; len]), masked(CONTINUATION_END, b"")].concat(),
                _ => masked(BINARY, &vec![4; len * 100]),
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let received = runtime.block_on(async {
            let mut polled = PolledTunnel::new(Setup::default());
            let mut rest = &sent[..];
            for split in splits {
                let (chunk, later) = rest.split_at(split.min(rest.len()));
                if !chunk.is_empty() {
                    polled.client.push(chunk);
                }
                rest = later;
                if split % 3 == 0 {
                    polled.poll().await;
                }
            }
            if !rest.is_empty() {
                polled.client.push(rest);
            }
            while polled.poll().await {}
            assert_eq!(polled.allocated(), [0, 0]);
            polled.backend.state().sent.clone()
        });
        prop_assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    }
}
