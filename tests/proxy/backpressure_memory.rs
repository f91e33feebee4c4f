//! Memory of tunnels with a receiver that does not read and a sender that sends as fast as it can:
//! one read buffer each, on either side, over TLS or plain TCP.

use std::any::Any;

use tokio::io::AsyncWrite;
use tokio::task::JoinSet;

use crate::support::{PlainStream, Side, TestBed, assert_relays, wire, within_timeout};

/// No timeout applies during these tests.
const NO_TIMEOUTS: &str = "[heartbeat]\ninterval = \"off\"\n[limits]\nwrite_timeout = \"10m\"\n\
                       message_from_client = \"off\"\n";

/// Memory allowed for each tunnel.
const PER_TUNNEL_KIB: u64 = 64;
/// Memory allowed for a partial TLS record, if the sender uses TLS.
const TLS_RECORD_KIB: u64 = 17;
/// Memory allowed for all tunnels together, in addition.
const SHARED_KIB: u64 = 2 * 1024;
const TUNNELS: usize = 100;

type Sender = Box<dyn AsyncWrite + Send + Unpin>;

// Requirements: FB05.
#[tokio::test]
async fn clients_that_never_read_use_bounded_memory() {
    let frame = wire::unmasked(0x82, &[1; 60_000]);
    check_memory(&TestBed::with(NO_TIMEOUTS).await, Side::Backend, true, &frame).await;
    check_memory(&TestBed::with(NO_TIMEOUTS).await, Side::Backend, false, &frame).await;
}

#[tokio::test]
async fn backends_that_never_read_use_bounded_memory() {
    let frame = wire::masked(0x82, &[1; 60_000]);
    check_memory(&TestBed::with(NO_TIMEOUTS).await, Side::Client, true, &frame).await;
    check_memory(&TestBed::with(NO_TIMEOUTS).await, Side::Client, false, &frame).await;
}

// Requirements: FC17.
#[tokio::test]
async fn delayed_senders_use_bounded_memory() {
    for side in Side::BOTH {
        let rate = format!("{NO_TIMEOUTS}messages_from_{} = \"1/s\"\n", side.as_str());
        let frame = side.frame(0x82, &[1; 1000]);
        check_memory(&TestBed::with(&rate).await, side, side == Side::Client, &frame).await;
    }
}

/// Lets one side send until it blocks, in all tunnels at once, and checks how much memory the
/// process gains.
#[expect(clippy::print_stdout, reason = "prints the measurement")]
async fn check_memory(bed: &TestBed, sending: Side, secure: bool, frame: &[u8]) {
    // Allocates first whatever is allocated once and shared.
    let (_others, first) = open_many(bed, sending, secure, 4).await;
    let _first = fill(first, frame).await;
    let (_others, senders) = open_many(bed, sending, secure, TUNNELS).await;
    let (before, _) = bed.proxy.memory_and_descriptors();
    let _senders = fill(senders, frame).await;
    let (after, _) = bed.proxy.memory_and_descriptors();
    let grown = after.saturating_sub(before);
    let per_tunnel =
        PER_TUNNEL_KIB + if secure && sending == Side::Client { TLS_RECORD_KIB } else { 0 };
    assert!(grown <= per_tunnel * TUNNELS as u64 + SHARED_KIB, "{grown} KiB for {TUNNELS}");
    println!("{sending:?} sends, TLS {secure}: {} KiB a tunnel", grown as f64 / TUNNELS as f64);
}

/// Opens tunnels and relays one message each way; returns the receiving and the sending ends.
async fn open_many(
    bed: &TestBed,
    sending: Side,
    secure: bool,
    count: usize,
) -> (Vec<Box<dyn Any>>, Vec<Sender>) {
    let (mut others, mut senders): (Vec<Box<dyn Any>>, Vec<Sender>) = Default::default();
    let mut add = |(sender, other): (Sender, Box<dyn Any>)| {
        senders.push(sender);
        others.push(other);
    };
    for _ in 0..count {
        if secure {
            let (mut client, mut backend) = bed.open_secure().await;
            assert_relays(&mut client, &mut backend).await;
            add(match sending {
                Side::Client => (Box::new(client), Box::new(backend)),
                Side::Backend => (Box::new(backend), Box::new(client)),
            });
        } else {
            let (mut speaker, mut hearer): (PlainStream, PlainStream) = bed.open_for(sending).await;
            match sending {
                Side::Client => assert_relays(&mut speaker, &mut hearer).await,
                Side::Backend => assert_relays(&mut hearer, &mut speaker).await,
            }
            add((Box::new(speaker), Box::new(hearer)));
        }
    }
    (others, senders)
}

/// Repeats a frame on every stream until all of them block.
async fn fill(senders: Vec<Sender>, frame: &[u8]) -> Vec<Sender> {
    let mut filling = JoinSet::new();
    for mut sender in senders {
        let frame = frame.to_owned();
        filling.spawn(async move {
            wire::fill(&mut sender, &frame).await;
            sender
        });
    }
    within_timeout("the senders to block", filling.join_all()).await
}
