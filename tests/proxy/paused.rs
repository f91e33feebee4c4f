//! What tunnels cost while one side is held up and sends as fast as it can all the same: one
//! read's worth each, whichever side it is, over TLS or plain.

use std::any::Any;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{PlainStream, Side, TestBed, assert_relays, wire, within_timeout};

/// Nobody is closed for what happens here.
const PATIENT: &str = "[heartbeat]\ninterval = \"off\"\n[limits]\nwrite_stall = \"10m\"\n\
                       message_from_client = \"off\"\n";

/// KiB that each tunnel may cost, and all of them together beside that.
const EACH: u64 = 64;
/// And what has come of a record that is not whole, where it is TLS that sends.
const RECORD: u64 = 17;
const TOGETHER: u64 = 2 * 1024;
const TUNNELS: usize = 100;

type Sender = Box<dyn AsyncWrite + Send + Unpin>;

#[tokio::test]
async fn fb05_clients_that_do_not_read_cost_a_read_each() {
    let frame = wire::unmasked(0x82, &[1; 60_000]);
    held_up(&TestBed::with(PATIENT).await, Side::Backend, true, &frame).await;
    held_up(&TestBed::with(PATIENT).await, Side::Backend, false, &frame).await;
}

#[tokio::test]
async fn backends_that_do_not_read_cost_a_read_each() {
    let frame = wire::masked(0x82, &[1; 60_000]);
    held_up(&TestBed::with(PATIENT).await, Side::Client, true, &frame).await;
    held_up(&TestBed::with(PATIENT).await, Side::Client, false, &frame).await;
}

#[tokio::test]
async fn fc17_whoever_is_made_to_wait_costs_a_read() {
    for side in Side::BOTH {
        let rate = format!("{PATIENT}messages_from_{} = \"1/s\"\n", side.as_str());
        let frame = side.frame(0x82, &[1; 1000]);
        held_up(&TestBed::with(&rate).await, side, side == Side::Client, &frame).await;
    }
}

/// That side sends this until no more is taken, in all tunnels at once. The process grows by so
/// much and no more.
#[expect(clippy::print_stdout, reason = "the figure, for who asks for it")]
async fn held_up(bed: &TestBed, sending: Side, secure: bool, frame: &[u8]) {
    // What is made once, and used by all, is made.
    let (_others, first) = crowd(bed, sending, secure, 4).await;
    let _first = fill(first, frame).await;
    let (_others, senders) = crowd(bed, sending, secure, TUNNELS).await;
    let (before, _) = bed.proxy.memory_and_descriptors();
    let _senders = fill(senders, frame).await;
    let (after, _) = bed.proxy.memory_and_descriptors();
    let grown = after.saturating_sub(before);
    let each = EACH + if secure && sending == Side::Client { RECORD } else { 0 };
    assert!(grown <= each * TUNNELS as u64 + TOGETHER, "{grown} KiB for {TUNNELS}");
    println!("{sending:?} sends, TLS {secure}: {} KiB a tunnel", grown as f64 / TUNNELS as f64);
}

/// Tunnels through which something went: those that only keep them open, and those that send.
async fn crowd(
    bed: &TestBed,
    sending: Side,
    secure: bool,
    count: usize,
) -> (Vec<Box<dyn Any>>, Vec<Sender>) {
    let (mut others, mut senders): (Vec<Box<dyn Any>>, Vec<Sender>) = Default::default();
    let mut seat = |(sender, other): (Sender, Box<dyn Any>)| {
        senders.push(sender);
        others.push(other);
    };
    for _ in 0..count {
        if secure {
            let (mut client, mut backend) = bed.open_secure().await;
            assert_relays(&mut client, &mut backend).await;
            seat(match sending {
                Side::Client => (Box::new(client), Box::new(backend)),
                Side::Backend => (Box::new(backend), Box::new(client)),
            });
        } else {
            let (mut speaker, mut hearer): (PlainStream, PlainStream) = bed.open_for(sending).await;
            match sending {
                Side::Client => assert_relays(&mut speaker, &mut hearer).await,
                Side::Backend => assert_relays(&mut hearer, &mut speaker).await,
            }
            seat((Box::new(speaker), Box::new(hearer)));
        }
    }
    (others, senders)
}

/// Repeats a frame on all of them until they take no more.
async fn fill(senders: Vec<Sender>, frame: &[u8]) -> Vec<Sender> {
    let mut filling = JoinSet::new();
    for mut sender in senders {
        let frame = frame.to_owned();
        filling.spawn(async move {
            let mut written = 0;
            let next = |written: usize| &frame[written % frame.len()..];
            while let Ok(taken) = timeout(QUIET, sender.write(next(written))).await {
                written += taken.unwrap();
            }
            sender
        });
    }
    within_timeout("the senders to be stopped", filling.join_all()).await
}

/// Who takes nothing for so long takes nothing.
const QUIET: Duration = Duration::from_millis(400);
