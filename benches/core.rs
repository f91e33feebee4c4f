//! The cost of a frame in the WebSocket core, without sockets.
//!
//! - `cargo bench --bench core` prints nanoseconds per frame, the best of several rounds: for the
//!   meter alone, which only enforces RFC 6455, for a session with the default policies, and for one
//!   with every limit, rate, timer and heartbeat enabled. Frames arrive in reads of 16 KiB, the
//!   size of a TLS record, and in a last column one at a time.
//! - `benches/instructions` counts instructions, which do not depend on the load of the machine. It
//!   runs this executable as `work meter 100000`: 100,000 frames of 125 bytes through the `meter`, a
//!   `session`, or `strict`, the session with everything enabled; `utf8` passes text frames that are
//!   checked.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ws::{
    DeflateMode, Entropy, FrameMeter, FrameStep, Limit, LimitAction, Limits, MessageSizes,
    MeterContext, RateLimit, RecvAction, Session, SessionPolicy, Side, Strictness, Timestamp,
};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().position(|arg| arg == "work") {
        Some(at) => {
            let frames = args.get(at + 2).and_then(|count| count.parse().ok());
            work(args.get(at + 1).map_or("", |of| of), frames.unwrap_or(1_000_000));
        }
        None => table(),
    }
}

fn table() {
    print_line("payload   meter ns   session ns   all enabled ns   all, one frame per call ns");
    for payload in [16, 125, 1 << 10, 16 << 10, 64 << 10] {
        let frame = frame(payload);
        let read = reads(&frame);
        let frames = (TURNS * read.len() / frame.len()) as f64;
        let meter = best(|| through_meter(&read, 1)) / frames;
        let session = |terms: fn() -> SessionPolicy, step: usize| {
            best(|| through_session(&read, step, 1, terms())) / frames
        };
        let [usual, all] = [session(SessionPolicy::default, READ), session(everything, READ)];
        let single = session(everything, frame.len());
        print_line(&format!("{payload:>7} {meter:>10.2} {usual:>12.2} {all:>16.2} {single:>27.2}"));
    }
}

/// Processes `frames` frames of 125 bytes.
fn work(stage: &str, frames: usize) {
    let frame = if stage == "utf8" { text_frame(125) } else { frame(125) };
    let read = frame.repeat(READ / frame.len());
    let turns = frames * frame.len() / read.len();
    match stage {
        "meter" => through_meter(&read, turns),
        "session" => through_session(&read, read.len(), turns, SessionPolicy::default()),
        "utf8" => through_session(&read, read.len(), turns, checked()),
        _ => through_session(&read, read.len(), turns, everything()),
    }
}

/// Every policy enabled, with limits that the benchmark never reaches.
fn everything() -> SessionPolicy {
    let usual = SessionPolicy::default();
    let limits = |limits: Limits| Limits {
        message: Some(Limit::close(1 << 20)),
        frame: Some(Limit::close(1 << 20)),
        fragments: Some(Limit::close(1024)),
        messages: Some(RateLimit::new(1 << 40, LimitAction::Delay)),
        bytes: Some(RateLimit::new(1 << 50, LimitAction::Delay)),
        ..limits
    };
    SessionPolicy {
        from_client: limits(usual.from_client),
        from_backend: limits(Limits {
            message_age: usual.from_client.message_age,
            ..usual.from_backend
        }),
        heartbeat_backend: usual.heartbeat_client,
        lifetime: Some(Duration::from_secs(86_400)),
        ..usual
    }
}

/// The default policies, and text messages must be UTF-8.
fn checked() -> SessionPolicy {
    SessionPolicy { utf8: true, ..SessionPolicy::default() }
}

/// A masked text frame of ASCII and longer characters.
fn text_frame(payload: usize) -> Vec<u8> {
    let mut bytes = frame(payload);
    bytes[0] = 0x81;
    let start = bytes.len() - payload;
    let text = "a chat line of caf\u{e9}, \u{20ac} and \u{1f30a}; ".repeat(payload / 30 + 1);
    let mut end = payload;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text[..end].bytes().chain(std::iter::repeat(b'.')).zip([1, 2, 3, 4].iter().cycle());
    for (target, (byte, key)) in bytes[start..].iter_mut().zip(text) {
        *target = byte ^ key;
    }
    bytes
}

/// A masked binary frame; its content does not matter.
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

/// At least 128 KiB of whole frames: small enough for the cache, like data that TLS has just
/// decrypted.
fn reads(frame: &[u8]) -> Vec<u8> {
    frame.repeat((128 << 10) / frame.len() + 1)
}

fn through_meter(stream: &[u8], turns: usize) {
    let context = MeterContext {
        limits: &Limits::default(),
        strict: Strictness::Enforce,
        inflated_max: None,
        context_takeover: false,
        utf8: false,
        pending_pings: &[],
        stop_at_boundary: false,
        ending: false,
        now: Timestamp::START,
    };
    let mut sizes = MessageSizes::default();
    let mut meter = FrameMeter::new(Side::Client, false);
    for _ in 0..turns {
        let mut at = 0;
        let mut end = READ.min(stream.len());
        while at < stream.len() {
            match meter.next_step(&stream[at..end], &context, &mut sizes) {
                FrameStep::Forward(run) => at += run.len,
                FrameStep::Incomplete => {}
                FrameStep::OwnPong { .. }
                | FrameStep::Close { .. }
                | FrameStep::DelayUntil(..)
                | FrameStep::LimitExceeded(_)
                | FrameStep::ProtocolError(_) => {
                    unreachable!("all frames are valid")
                }
            }
            end = (at + READ).min(stream.len());
        }
    }
    black_box(meter.at_boundary());
}

fn through_session(stream: &[u8], read: usize, turns: usize, terms: SessionPolicy) {
    let now = Timestamp::START;
    let mut session = Session::new(Arc::new(terms), DeflateMode::Off, Duration::ZERO, &mut Zeroes);
    for _ in 0..turns {
        let mut at = 0;
        while at < stream.len() {
            let end = (at + read).min(stream.len());
            at += feed(&mut session, &stream[at..end], now);
        }
    }
    black_box(session.stats());
}

/// One iteration of the driver without sockets. Returns the number of forwarded bytes.
fn feed(session: &mut Session, input: &[u8], now: Timestamp) -> usize {
    black_box(session.poll_control(Side::Backend, now, &mut Zeroes).is_some());
    let mut at = 0;
    let mut sizes = MessageSizes::default();
    while at < input.len() {
        match session.handle_recv(Side::Client, black_box(&input[at..]), now, &mut sizes) {
            RecvAction::Forward(len) => at += len,
            RecvAction::Incomplete => break,
            RecvAction::Discard(_) | RecvAction::Paused => unreachable!("all frames are valid"),
        }
    }
    session.handle_written(Side::Backend, 0, now);
    session.handle_timeout(now);
    black_box(sizes);
    black_box(session.poll_timeout());
    at
}

/// Nanoseconds of the fastest round, each of [`TURNS`] iterations.
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

#[expect(clippy::print_stdout, reason = "prints the results")]
fn print_line(line: &str) {
    println!("{line}");
}

struct Zeroes;

impl Entropy for Zeroes {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// The largest read from a TLS stream in bytes (one record).
const READ: usize = 16 << 10;

/// Iterations over the stream per measurement.
const TURNS: usize = 32;
