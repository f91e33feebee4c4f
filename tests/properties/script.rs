//! Decodes bytes into events: every byte string is a session of mostly valid frames, so proptest and
//! the fuzzers need no structure.

use std::num::NonZeroU64;
use std::time::Duration;

use ws::{
    AgeLimit, DeflateMode, Entropy, HeartbeatPolicy, Limit, LimitAction, Limits, PingProof,
    RateLimit, SessionPolicy, Side, Strictness,
};

use crate::reference::frame;

/// One step of a script.
pub enum Event {
    /// A side sends bytes; `arriving` of the bytes in flight arrive.
    Send {
        side: Side,
        bytes: Vec<u8>,
        arriving: usize,
        /// The bytes this side sends from now on are not valid frames.
        last: bool,
    },
    /// A side answers one of the proxy's pings, or sends another pong.
    Answer { side: Side, which: Which },
    /// Time passes, and every timer fires on time.
    Wait(Duration),
    /// Time passes, and timers fire only at its end.
    WaitLate(Duration),
    /// A side stops or resumes reading.
    Block { side: Side, blocked: bool },
    /// The proxy drains.
    Drain,
    /// The proxy aborts.
    Abort,
    /// A side's stream ends, or fails if it had ended.
    Eof(Side),
}

/// Which of several unanswered pings is answered.
pub enum Which {
    First,
    /// The others are never answered.
    Last,
    None,
}

/// Deterministic entropy, so that two runs agree; every ping payload differs.
#[derive(Default)]
pub struct CountingEntropy(u8);

impl Entropy for CountingEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        if bytes.len() == 8 {
            self.0 = self.0.wrapping_add(1);
        }
        bytes.fill(0xa0 ^ self.0);
    }
}

/// The remaining bytes, and which sides are inside a message.
pub struct Script<'a> {
    bytes: &'a [u8],
    deflate: bool,
    fragmented: [bool; 2],
}

impl<'a> Script<'a> {
    /// Reads the session's policy and whether compression is negotiated; the events follow.
    pub fn read(bytes: &'a [u8]) -> (SessionPolicy, DeflateMode, Self) {
        let mut script = Self { bytes, deflate: false, fragmented: [false; 2] };
        let options = script.byte();
        let policies = script.byte();
        script.deflate = options & 1 != 0;
        let deflate = if script.deflate { DeflateMode::Pass } else { DeflateMode::Off };
        (terms(options, policies), deflate, script)
    }

    /// The next event, if any bytes are left.
    pub fn event(&mut self) -> Option<Event> {
        let (tag, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        let extra = self.byte();
        let side = if extra & 1 == 0 { Side::Client } else { Side::Backend };
        let millis = Duration::from_millis(u64::from(extra) * 200);
        Some(match tag {
            0..=119 => {
                let bytes = self.data(side);
                self.send(side, bytes, false)
            }
            120..=149 => {
                let first = if extra & 2 == 0 { 0x89 } else { 0x8a };
                let payload = vec![b'p'; usize::from(extra >> 2) * 2];
                self.send(side, frame(side, first, &payload[..payload.len().min(125)]), false)
            }
            150..=159 => {
                let bytes = self.close(side, extra);
                self.send(side, bytes, true)
            }
            160..=164 => {
                let bytes = self.invalid_frame(side, extra);
                self.send(side, bytes, true)
            }
            165..=184 => self.send(side, Vec::new(), false),
            185..=204 => {
                let which = match extra & 6 {
                    0 => Which::None,
                    2 => Which::Last,
                    _ => Which::First,
                };
                Event::Answer { side, which }
            }
            205..=226 => Event::Wait(millis),
            227..=236 => Event::WaitLate(millis),
            237..=247 => Event::Block { side, blocked: extra & 2 == 0 },
            248..=249 => Event::Drain,
            250 => Event::Abort,
            251..=255 => Event::Eof(side),
        })
    }

    fn send(&mut self, side: Side, bytes: Vec<u8>, last: bool) -> Event {
        let some = self.byte();
        let arriving = if some & 0x80 == 0 { usize::MAX } else { usize::from(some & 0x7f) };
        Event::Send { side, bytes, arriving, last }
    }

    fn data(&mut self, side: Side) -> Vec<u8> {
        let (kind, size) = (self.byte(), usize::from(self.byte()));
        let len = match kind >> 4 & 7 {
            0 => 0,
            1..=4 => size,
            5 => 125 + size % 3,
            6 => 300 + size,
            _ if size < 240 => size % 8,
            _ => 65_534 + size % 4,
        };
        let fin = kind & 3 != 0;
        let inside = std::mem::replace(&mut self.fragmented[side as usize], !fin);
        let opcode = if inside { 0 } else { 1 + (kind >> 2 & 1) };
        let rsv1 = if self.deflate && !inside && kind & 8 != 0 { 0x40 } else { 0 };
        frame(side, opcode | rsv1 | if fin { 0x80 } else { 0 }, &vec![kind; len])
    }

    fn close(&mut self, side: Side, extra: u8) -> Vec<u8> {
        let mut payload = Vec::new();
        if extra & 2 == 0 {
            let code: u16 = [1000, 1001, 1009, 3000, 4999][usize::from(extra >> 2) % 5];
            payload.extend(code.to_be_bytes());
            payload.extend(vec![b'r'; usize::from(self.byte()) % 124]);
        }
        frame(side, 0x88, &payload)
    }

    fn invalid_frame(&mut self, side: Side, extra: u8) -> Vec<u8> {
        let mask = if side == Side::Client { 0x80 } else { 0 };
        let inside = self.fragmented[side as usize];
        match extra >> 1 & 15 {
            0 => frame(side, 0x83, b"reserved opcode"),
            1 => frame(side, 0xa1, b"reserved bit"),
            2 => frame(side.other(), 0x81, b"mask of the other side"),
            3 => vec![0x82, mask | 126, 0, 5, 1, 2, 3, 4, 5],
            4 => [&[0x82, mask | 127][..], &[0xff; 12]].concat(),
            5 => frame(side, 0x89, &[b'p'; 126]),
            6 => frame(side, 0x09, b"ping in fragments"),
            7 => frame(side, if inside { 0x81 } else { 0x80 }, b"out of order"),
            8 => frame(side, 0x88, b"1"),
            9 => frame(side, 0x88, &[0x03, 0xed]),
            10 => frame(side, 0x88, &[0x03, 0xe8, 0xc3, 0x28]),
            11 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            _ => self.bytes.iter().take(40).copied().collect(),
        }
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        *first
    }
}

/// Decodes the policy: eight bits of options, and eight that choose a limit, its side and action.
fn terms(options: u8, policies: u8) -> SessionPolicy {
    let seconds = Duration::from_secs;
    let proof = if policies & 32 == 0 { PingProof::Any } else { PingProof::Pong };
    let heartbeat = HeartbeatPolicy { interval: seconds(30), timeout: seconds(10), proof };
    let cap = |is: bool, max| is.then_some(Limit::close(max));
    let mut terms = SessionPolicy {
        from_client: Limits { message: cap(options & 2 != 0, 400), ..Limits::default() },
        from_backend: Limits { message: cap(options & 4 != 0, 600), ..Limits::default() },
        heartbeat_client: (options & 8 != 0).then_some(heartbeat),
        heartbeat_backend: (options & 32 != 0).then_some(heartbeat),
        idle: (options & 16 != 0).then_some(seconds(60)),
        lifetime: (options & 64 != 0).then_some(seconds(80)),
        write_timeout: seconds(20),
        min_write_rate: NonZeroU64::new(u64::from(options & 128)),
        strict: if policies & 128 == 0 { Strictness::Enforce } else { Strictness::Report },
        ..SessionPolicy::default()
    };
    let limits = if policies & 64 == 0 { &mut terms.from_client } else { &mut terms.from_backend };
    let report = policies & 8 != 0;
    let action = if report { LimitAction::Report } else { LimitAction::Close };
    let paced = if policies & 16 == 0 { LimitAction::Delay } else { action };
    let rate = |per_second| Some(RateLimit::new(per_second, paced));
    match policies & 7 {
        0 => {}
        1 => limits.frame = Some(Limit { max: 200, action }),
        2 => limits.fragments = Some(Limit { max: 2, action }),
        3 => limits.message_age = Some(AgeLimit { max: seconds(15), action }),
        4 => limits.messages = rate(2),
        5 => limits.bytes = rate(100),
        6 => limits.control_frames = rate(1),
        _ => (limits.messages, limits.bytes) = (rate(1), rate(30)),
    }
    terms
}
