//! Properties of any session, however its bytes are split and however slowly they are read.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::sleep;
use ws::{CloseCodes, TerminationReason};

use super::frames::{
    BINARY, CLOSE, CONTINUATION_END, PING, PONG, TEXT_BEGIN, code, masked, unmasked,
};
use super::test_tunnel::{RemotePeer, Setup, StreamKind, TestTunnel};

/// One step of a test.
#[derive(Clone, Copy, Debug)]
enum Event {
    ClientSends(usize),
    BackendSends(usize),
    ClientReads(usize),
    BackendReads(usize),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1_usize..3000).prop_map(Event::ClientSends),
        3 => (1_usize..3000).prop_map(Event::BackendSends),
        2 => (1_usize..5000).prop_map(Event::ClientReads),
        2 => (1_usize..5000).prop_map(Event::BackendReads),
        3 => (1_u64..30).prop_map(Event::Wait),
    ]
}

/// Encodes frames given by kind and length, followed by a Close.
fn encode(frames: &[(u8, usize)], frame: fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut bytes: Vec<u8> = frames
        .iter()
        .flat_map(|&(kind, len)| match kind {
            0 => frame(PING, &vec![1; len.min(125)]),
            1 => frame(PONG, &vec![2; len.min(125)]),
            2 => [frame(TEXT_BEGIN, &vec![3; len]), frame(CONTINUATION_END, b"")].concat(),
            _ => frame(BINARY, &vec![4; len * 20]),
        })
        .collect();
    bytes.extend(frame(CLOSE, &code(1000)));
    bytes
}

fn frames() -> impl Strategy<Value = Vec<(u8, usize)>> {
    proptest::collection::vec((0_u8..5, 0_usize..200), 0..12)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (chunk, later) = rest.split_at(len.min(rest.len()));
    *rest = later;
    chunk
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..Default::default()
    })]

    /// Two peers that send, close properly and finally read receive everything, and the tunnel
    /// finishes at once, without a timeout.
    #[test]
    fn proper_peers_receive_everything_without_a_timeout(
        up in frames(),
        down in frames(),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let (up, down) = (encode(&up, masked), encode(&down, unmasked));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let tunnel = TestTunnel::new(StreamKind::Scripted, Setup { capacity: 0, ..Setup::default() }).await;
            let (RemotePeer::Scripted(client, _), RemotePeer::Scripted(backend, _)) = (&tunnel.client, &tunnel.backend)
            else {
                panic!("scripted streams")
            };
            let (client, backend) = (client.clone(), backend.clone());
            let (mut up_rest, mut down_rest) = (&up[..], &down[..]);
            for event in events {
                match event {
                    Event::ClientSends(len) => client.push(take(&mut up_rest, len)),
                    Event::BackendSends(len) => backend.push(take(&mut down_rest, len)),
                    Event::ClientReads(len) => client.extend_send_allowance(len),
                    Event::BackendReads(len) => backend.extend_send_allowance(len),
                    Event::Wait(ms) => sleep(Duration::from_millis(ms)).await,
                }
            }
            client.push(up_rest);
            client.push_closed();
            backend.push(down_rest);
            backend.push_closed();
            client.extend_send_allowance(usize::MAX);
            sleep(Duration::from_millis(1)).await;
            backend.extend_send_allowance(usize::MAX);
            // Everything is done: the tunnel must finish without any time passing.
            let before = tokio::time::Instant::now();
            let summary = tunnel.summary().await;
            assert_eq!(before.elapsed(), Duration::ZERO);
            assert!(matches!(summary.reason, TerminationReason::ClientClosed | TerminationReason::BackendClosed), "{summary:?}");
            assert_eq!(summary.close_codes, CloseCodes { to_client: Some(1000), to_backend: Some(1000) });
            for (peer, expected) in [(client, down), (backend, up)] {
                let state = peer.state();
                assert!(state.sent == expected, "{} of {}", state.sent.len(), expected.len());
                assert!(state.closed && !state.aborted);
            }
        });
    }
}
