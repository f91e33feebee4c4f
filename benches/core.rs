//! What a frame costs in the core: bytes in, verdict out, no socket.
//!
//! - `cargo bench --bench core` prints nanoseconds a frame, best of several rounds, for the bare
//!   meter and for a session with every limit and clock of the defaults on. Frames come in reads
//!   of 16 KiB, as TLS hands them out, and once each on its own.
//! - Instructions, which do not depend on the machine's mood: two runs of fixed work, whose
//!   difference is 1,000,000 frames of 125 bytes through a session:
//!
//! ```text
//! cargo bench --bench core --no-run          # prints the path of the executable
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null <executable> work 1000000
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null <executable> work 2000000
//! ```

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::ws::{
    CloseCode, Cut, Entropy, FrameMeter, Heartbeat, Intake, Session, Side, Terms, Watch,
};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().position(|arg| arg == "work") {
        Some(at) => {
            let frames = args.get(at + 1).and_then(|count| count.parse().ok());
            work(frames.unwrap_or(1_000_000));
        }
        None => table(),
    }
}

fn table() {
    say("payload   frames/read    meter ns   session ns   session, one a call ns");
    for payload in [16, 125, 1 << 10, 16 << 10, 64 << 10] {
        let frame = frame(payload);
        let read = reads(&frame);
        let frames = (TURNS * read.len() / frame.len()) as f64;
        let meter = best(|| through_meter(&read)) / frames;
        let session = best(|| through_session(&read, READ)) / frames;
        let single = best(|| through_session(&read, frame.len())) / frames;
        let each = READ as f64 / frame.len() as f64;
        say(&format!("{payload:>7}   {each:>11.2} {meter:>11.2} {session:>12.2} {single:>24.2}"));
    }
}

/// So many frames of 125 bytes through a session, and nothing else of note.
fn work(frames: usize) {
    let frame = frame(125);
    let read = frame.repeat(READ / frame.len());
    let mut session = session();
    let now = now();
    let mut left = frames * frame.len();
    while left > 0 {
        let input = &read[..left.min(read.len())];
        left -= input.len();
        feed(&mut session, input, now);
    }
    say(&format!("{} frames", session.tally().up.messages));
}

/// A masked binary frame; what is in it is never looked at.
fn frame(payload: usize) -> Vec<u8> {
    let mut bytes = vec![0x82];
    match payload {
        0..126 => bytes.push(0x80 | payload as u8),
        126..0x1_0000 => {
            bytes.push(0x80 | 126);
            bytes.extend((payload as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload as u64).to_be_bytes());
        }
    }
    bytes.extend([1, 2, 3, 4]);
    bytes.resize(bytes.len() + payload, 0x55);
    bytes
}

/// Whole frames, 128 KiB of them or a little more: as near to the processor as bytes are that were
/// decrypted a moment ago.
fn reads(frame: &[u8]) -> Vec<u8> {
    frame.repeat((128 << 10) / frame.len() + 1)
}

fn through_meter(stream: &[u8]) {
    let watch = Watch { message_max: 1 << 20, awaited: None, one_frame: false };
    let mut meter = FrameMeter::new(Side::Client, false);
    let mut at = 0;
    let mut end = READ.min(stream.len());
    while at < stream.len() {
        match meter.cut(&stream[at..end], &watch) {
            Cut::Pass(run) => at += run.len,
            Cut::Starved => {}
            Cut::Own(_) | Cut::Close { .. } | Cut::TooBig | Cut::Breach(_) => {
                unreachable!("lawful")
            }
        }
        end = (at + READ).min(stream.len());
    }
    black_box(meter.at_boundary());
}

fn through_session(stream: &[u8], read: usize) {
    let mut session = session();
    let now = now();
    let mut at = 0;
    while at < stream.len() {
        let end = (at + read).min(stream.len());
        at += feed(&mut session, &stream[at..end], now);
    }
    black_box(session.tally());
}

/// One round of a driver, without its sockets: what was let through.
fn feed(session: &mut Session, input: &[u8], now: Instant) -> usize {
    black_box(session.inject(Side::Backend, now, &mut Zeroes).is_some());
    let mut at = 0;
    while at < input.len() {
        match session.intake(Side::Client, black_box(&input[at..]), now) {
            Intake::Forward(len) => at += len,
            Intake::Starved => break,
            Intake::Discard(_) => unreachable!("lawful"),
        }
    }
    session.written(Side::Backend, 0, now);
    black_box(session.deadline());
    at
}

fn session() -> Session {
    let terms = Terms {
        message_from_client_max: Some(1 << 20),
        message_from_backend_max: None,
        heartbeat: Some(Heartbeat {
            interval: Duration::from_secs(30),
            patience: Duration::from_secs(10),
        }),
        idle: Some(Duration::from_secs(3600)),
        close_grace: Duration::from_secs(5),
        write_stall: Duration::from_secs(30),
        drain_code: CloseCode::SERVICE_RESTART,
    };
    Session::new(Arc::new(terms), false, now(), &mut Zeroes)
}

/// Nanoseconds of the best of several rounds of [`TURNS`] turns.
fn best(mut round: impl FnMut()) -> f64 {
    let time = |round: &mut dyn FnMut()| {
        let start = now();
        (0..TURNS).for_each(|_| round());
        start.elapsed().as_nanos() as f64
    };
    (0..30).map(|_| time(&mut round)).fold(f64::INFINITY, f64::min)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn say(line: &str) {
    println!("{line}");
}

struct Zeroes;

impl Entropy for Zeroes {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// What one read of a TLS stream brings at most.
const READ: usize = 16 << 10;

/// So often through the stream for one measurement.
const TURNS: usize = 32;
