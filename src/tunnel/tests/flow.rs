//! What passes, how, and what it costs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use proptest::prelude::*;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use ws::{DirectionStats, TerminationReason};

use super::rig::{Counter, HEARTBEAT, Orders, Over, Rig, Setup, leave, session};
use super::wire::{
    BINARY, CLOSE, CONTINUATION, CONTINUATION_END, PING, PONG, TEXT, TEXT_BEGIN, bare, code,
    masked, read_all,
};
use crate::net::plain::PlainStream;
use crate::net::scripted::{Script, ScriptedStream, script};
use crate::net::testing::UnbufferedTlsStream;
use crate::tunnel::tests::over_all;
use crate::tunnel::{Command, EarlyBytes, Tunnel};

over_all!(
    frames_pass_verbatim_both_ways,
    slow_client_pauses_only_its_backend,
    early_bytes_go_first,
);

/// A conversation with every length form, fragments, and control frames among them.
fn conversation(frame: fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
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
        frame(PONG, b"unasked"),
        frame(CONTINUATION_END, b"three"),
        frame(BINARY, &payload[..65_536]),
        frame(BINARY, &payload),
    ]
    .concat()
}

async fn frames_pass_verbatim_both_ways(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    let (up, down) = (conversation(masked), conversation(bare));
    rig.client.say(&up).await;
    rig.backend.say(&down).await;
    assert!(rig.backend.hear(up.len()).await == up);
    assert!(rig.client.hear(down.len()).await == down);

    rig.client.say(&masked(CLOSE, &code(1000))).await;
    assert_eq!(rig.backend.hear(8).await, masked(CLOSE, &code(1000)));
    rig.backend.say(&bare(CLOSE, &code(1000))).await;
    assert_eq!(rig.client.hear(4).await, bare(CLOSE, &code(1000)));
    rig.backend.say_closed().await;
    rig.client.say_closed().await;
    let ending = rig.ending().await;
    assert_eq!(ending.end, TerminationReason::ClientClosed);
    assert_eq!(
        ending.tally.up,
        DirectionStats { bytes: up.len() as u64 + 8, messages: 8, ..ending.tally.up }
    );
    assert_eq!(
        ending.tally.down,
        DirectionStats { bytes: down.len() as u64 + 4, messages: 8, ..ending.tally.down }
    );
}

// Requirements: FB05.
async fn slow_client_pauses_only_its_backend(over: Over) {
    const ROOM: usize = 16 * 1024;
    let mut rig = Rig::new(over, Setup { room: ROOM, ..Setup::default() }).await;
    let down = bare(BINARY, &[7; 10_000]).repeat(100);
    let said = rig.backend.say_some(&down).await;
    if over != Over::Script {
        // Two pipes full, and one read, which is no larger than a pipe; TLS adds little.
        assert!((2 * ROOM..4 * ROOM).contains(&said), "{said} bytes went in");
    }
    rig.client.say(&masked(TEXT, b"the other way is free")).await;
    assert_eq!(rig.backend.frame().await.payload, b"the other way is free");
    let (client, backend) = (&mut rig.client, &mut rig.backend);
    let ((), heard) = tokio::join!(backend.say(&down[said..]), client.hear(down.len()));
    assert!(heard == down);
}

async fn early_bytes_go_first(over: Over) {
    let (up, down) = (conversation(masked), conversation(bare));
    // Both are cut inside a frame head; one is larger than a read.
    let (early_up, late_up) = up.split_at(8);
    let (early_down, late_down) = down.split_at(down.len() - 200_003);
    let early = EarlyBytes {
        from_client: early_up.to_vec().into(),
        from_backend: early_down.to_vec().into(),
    };
    let mut rig = Rig::new(over, Setup { early, ..Setup::default() }).await;
    rig.client.say(late_up).await;
    rig.backend.say(late_down).await;
    assert!(rig.backend.hear(up.len()).await == up);
    assert!(rig.client.hear(down.len()).await == down);
}

/// A tunnel over two scripts that a test polls by hand.
struct Bench {
    tunnel: Pin<Box<Tunnel<ScriptedStream, ScriptedStream, Orders, Counter>>>,
    client: Script,
    backend: Script,
    orders: mpsc::Sender<Command>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bench {
    fn new(setup: Setup) -> Self {
        let ((front, client), (back, backend)) = (script(), script());
        let (orders, control) = mpsc::channel(2);
        let tunnel = Tunnel::new(
            front,
            back,
            session(setup.terms),
            setup.early,
            Orders(control),
            Counter(0),
        );
        Self { tunnel: Box::pin(tunnel), client, backend, orders, woken: Arc::default() }
    }

    /// Polls once; true if the tunnel asked to be polled again at once.
    fn poll(&mut self) -> bool {
        let before = self.woken.0.load(Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        let poll = self.tunnel.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending(), "{poll:?}");
        self.woken.0.load(Ordering::Relaxed) > before
    }

    fn tails(&mut self) -> [usize; 2] {
        let relay = self.tunnel.as_mut().project().relay;
        [relay.up.kept(), relay.down.kept()]
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocked_receiver_is_not_read_for() {
    let mut bench = Bench::new(Setup::default());
    bench.client.allow(1000);
    for _ in 0..10 {
        bench.backend.say(&bare(BINARY, &[7; 600]));
    }
    assert!(!bench.poll());
    let reads = bench.backend.look().reads;
    assert_eq!(reads, 2);
    assert_eq!(bench.client.look().waiting.len(), 2 * 604 - 1000);
    // The other way is free, and the clock that watches the slow one does not read it.
    bench.client.say(&masked(TEXT, b"hi"));
    assert!(!bench.poll());
    assert_eq!(bench.backend.look().sent, masked(TEXT, b"hi"));
    assert_eq!(bench.backend.look().reads, reads);
    bench.client.allow(usize::MAX);
    bench.poll();
    assert_eq!(bench.client.look().sent.len(), 10 * 604);
}

#[tokio::test(start_paused = true)]
async fn one_read_is_one_write_of_one_part() {
    let mut bench = Bench::new(Setup::default());
    let three = [masked(TEXT, b"a"), masked(PING, b"b"), masked(TEXT, b"c")].concat();
    bench.client.say(&three);
    bench.poll();
    let sends = &bench.backend.look().sends;
    let filled: Vec<_> = sends.iter().flatten().filter(|len| **len > 0).collect();
    assert_eq!((sends.len(), filled), (1, vec![&three.len()]));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_at_rest() {
    let early = EarlyBytes {
        from_client: masked(TEXT, b"early")[..1].to_vec().into(),
        from_backend: bare(TEXT, b"early").into(),
    };
    let mut bench = Bench::new(Setup { early, ..Setup::default() });
    bench.poll();
    let [up, down] = bench.tails();
    assert!((1..=14).contains(&up), "{up} bytes for 1");
    assert_eq!(down, 0);
    // A ping in two pieces, across what was waiting.
    bench.client.say(&[&masked(TEXT, b"early")[1..], &masked(PING, &[1; 125])[..130]].concat());
    bench.poll();
    assert!(bench.tails()[0] <= 145);
    bench.client.say(&masked(PING, &[1; 125])[130..]);
    bench.poll();
    assert_eq!(bench.tails(), [0, 0]);
    let sent = [masked(TEXT, b"early"), masked(PING, &[1; 125])].concat();
    assert_eq!(bench.backend.look().sent, sent);
    // What waits dies with its stream.
    bench.client.say(&masked(TEXT, b"half")[..3]);
    bench.client.say_closed();
    bench.poll();
    assert_eq!(bench.tails(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_tunnel_lets_others_run() {
    let mut setup = Setup::default();
    setup.terms.from_backend.message = None;
    let mut bench = Bench::new(setup);
    for _ in 0..20 {
        bench.client.say(&masked(BINARY, &[7; 1000]));
        bench.backend.say(&bare(BINARY, &[7; 1000]));
    }
    assert!(bench.poll(), "must ask to be polled again");
    assert_eq!((bench.client.look().reads, bench.backend.look().reads), (8, 8));
    assert!(bench.poll());
    assert!(!bench.poll());
    assert_eq!(bench.client.look().sent.len(), 20 * 1004);
}

#[tokio::test(start_paused = true)]
async fn a_busy_direction_does_not_hush_our_own_frames() {
    let mut setup = Setup::default();
    setup.terms.heartbeat_client = Some(HEARTBEAT);
    let mut bench = Bench::new(setup);
    bench.poll();
    tokio::time::advance(HEARTBEAT.interval).await;
    // Never at rest: more than one wake's worth before each poll.
    for expected in [None, Some(&PING)] {
        for _ in 0..20 {
            bench.client.say(&masked(BINARY, &[7; 1000]));
        }
        assert!(bench.poll());
        assert_eq!(bench.client.look().sent.first(), expected);
    }
    bench.orders.try_send(leave()).unwrap();
    bench.client.say(&masked(BINARY, &[7; 1000]));
    bench.poll();
    let frames = read_all(&bench.client.look().sent);
    assert_eq!(frames[1].close_code(), Some(1012));
}

#[test]
fn a_tunnel_is_small() {
    type Product = Tunnel<UnbufferedTlsStream<TcpStream>, PlainStream<TcpStream>, Orders, Counter>;
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

    /// Any frames in any pieces come out as they went in.
    #[test]
    fn any_chopping_passes_verbatim(
        sizes in proptest::collection::vec((0_usize..5, 0_usize..300), 1..40),
        cuts in proptest::collection::vec(1_usize..200, 1..60),
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
        let got = runtime.block_on(async {
            let mut bench = Bench::new(Setup::default());
            let mut rest = &sent[..];
            for cut in cuts {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                if !piece.is_empty() {
                    bench.client.say(piece);
                }
                rest = later;
                if cut % 3 == 0 {
                    bench.poll();
                }
            }
            if !rest.is_empty() {
                bench.client.say(rest);
            }
            while bench.poll() {}
            assert_eq!(bench.tails(), [0, 0]);
            bench.backend.look().sent.clone()
        });
        prop_assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    }
}
