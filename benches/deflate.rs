//! The cost of compressed messages in the WebSocket core, next to decompressing them.
//!
//! `cargo bench --bench deflate` prints nanoseconds per message, the best of several rounds: for a
//! session that limits the decompressed size of the client's and of the backend's messages, framing
//! included, and for zlib-rs, which decompresses the same payloads. All messages of a line go through
//! one compressor that keeps its window. Then it prints the microseconds for 16 KiB of the costliest
//! input, of which the session handles 4 KiB in one step.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use ws::{
    DeflateMode, Entropy, Limit, MessageSizes, PerSide, RecvAction, Session, SessionPolicy, Side,
    Timestamp,
};

fn main() {
    print_line("   size   compressed   client ns   backend ns   zlib-rs ns");
    let mut random = 0x2545_f491_4f6c_dd1d;
    for (size, count) in [(66, 4000), (1 << 10, 1000), (16 << 10, 100), (256 << 10, 8)] {
        let mut compressor = Compress::new(Compression::default(), false);
        let payloads: Vec<Vec<u8>> =
            (0..count).map(|_| compress(&mut compressor, &text(size, &mut random))).collect();
        let compressed = payloads.iter().map(Vec::len).sum::<usize>() / count;
        let [client, backend] = Side::BOTH.map(|side| session(&payloads, side));
        let zlib = zlib(&payloads);
        print_line(&format!(
            "{size:>7} {compressed:>12} {client:>11.0} {backend:>12.0} {zlib:>12.0}"
        ));
    }
    print_line("costliest input              session us   zlib-rs us");
    for (name, payload) in [
        ("blocks with codes only", empty_blocks()),
        ("literals of one bit", literals(0, 1)),
        ("literals of 15 bits", literals(0x7ffe, 15)),
    ] {
        let scale = f64::from(16 << 10) / payload.len() as f64 / 1000.0;
        let payload = [payload];
        let (session, zlib) = (session(&payload, Side::Backend), zlib(&payload));
        print_line(&format!("{name:<28} {:>10.0} {:>12.0}", session * scale, zlib * scale));
    }
}

/// Nanoseconds per message through a session.
fn session(payloads: &[Vec<u8>], from: Side) -> f64 {
    let frames: Vec<Vec<u8>> = payloads.iter().map(|payload| frame(from, payload)).collect();
    best(payloads.len(), || {
        let mut policy = SessionPolicy::default();
        policy.from_client.message = Some(Limit::close(16 << 20));
        policy.from_backend.message = Some(Limit::close(16 << 20));
        let context_takeover = PerSide { client: true, backend: true };
        let mode = DeflateMode::Inspect { context_takeover };
        let mut session = Session::new(Arc::new(policy), mode, Duration::ZERO, &mut Zeroes);
        let mut sizes = MessageSizes::default();
        for frame in &frames {
            let mut rest = &frame[..];
            while !rest.is_empty() {
                let action = session.handle_recv(from, rest, Timestamp::START, &mut sizes);
                let RecvAction::Forward(len) = action else { unreachable!("all are valid") };
                rest = &rest[len..];
            }
        }
        black_box(sizes);
    })
}

/// Nanoseconds per message to decompress it.
fn zlib(payloads: &[Vec<u8>]) -> f64 {
    let mut output = vec![0; 16 << 10];
    best(payloads.len(), || {
        let mut inflater = Decompress::new(false);
        for payload in payloads {
            for mut input in [&payload[..], &[0, 0, 0xff, 0xff]] {
                let mut full = false;
                while full || !input.is_empty() {
                    let before = (inflater.total_in(), inflater.total_out());
                    let result = inflater.decompress(input, &mut output, FlushDecompress::None);
                    black_box(result.is_ok());
                    input = &input[(inflater.total_in() - before.0) as usize..];
                    full = (inflater.total_out() - before.1) as usize == output.len();
                }
            }
        }
    })
}

fn best(messages: usize, mut run: impl FnMut()) -> f64 {
    let times = (0..15).map(|_| {
        let start = now();
        run();
        start.elapsed().as_nanos() as f64
    });
    times.fold(f64::INFINITY, f64::min) / messages as f64
}

/// The payload of a compressed message (RFC 7692 7.2.1).
fn compress(compressor: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(2 * message.len() + 1000);
    let result = compressor.compress_vec(message, &mut payload, FlushCompress::Sync);
    black_box(result.is_ok());
    payload.truncate(payload.len() - 4);
    payload
}

/// Text of a chat, with numbers that do not repeat.
fn text(size: usize, random: &mut u64) -> Vec<u8> {
    const WORDS: [&str; 8] = [
        "{\"user\":\"",
        "\",\"text\":\"",
        "hello ",
        "how are you ",
        "the tide is in ",
        "and out again ",
        "ok ",
        "\"}",
    ];
    let mut text = Vec::new();
    while text.len() < size {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let word = WORDS[(*random >> 20) as usize % WORDS.len()];
        text.extend(format!("{word}{} ", *random >> 44).as_bytes());
    }
    text.truncate(size);
    text
}

/// A compressed text frame.
fn frame(from: Side, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [1, 2, 3, 4];
    let mask = if from == Side::Client { 0x80 } else { 0 };
    let mut frame = vec![0xc1];
    match payload.len() {
        len @ 0..126 => frame.push(mask | len as u8),
        len @ 126..0x1_0000 => {
            frame.push(mask | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(mask | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    match from {
        Side::Client => {
            frame.extend(KEY);
            frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
        Side::Backend => frame.extend(payload),
    }
    frame
}

/// Blocks that define a code of two symbols and contain nothing.
fn empty_blocks() -> Vec<u8> {
    let mut writer = BitWriter::default();
    for _ in 0..1000 {
        writer.bits(0b100, 3).bits(0, 10).bits(14, 4).bits(0, 6).bits(1, 3).bits(0, 42).bits(1, 3);
        writer.bits(1, 1).bits(127, 7).bits(1, 1).bits(107, 7).bits(0, 3);
    }
    writer.end()
}

/// One block with this literal 20,000 times, in codes of 1 to 15 bits.
fn literals(code: u32, len: u32) -> Vec<u8> {
    let mut writer = BitWriter::default();
    writer.bits(0b100, 3).bits(0, 10).bits(15, 4).bits(0, 9);
    for _ in 0..16 {
        writer.bits(4, 3);
    }
    // The lengths 1 to 15, each in four bits; and of the end 15, of the distance 0.
    for symbol in 0..257 {
        let len = if symbol < 15 {
            symbol + 1
        } else if symbol < 256 {
            0
        } else {
            15
        };
        writer.code(len, 4);
    }
    writer.code(0, 4);
    for _ in 0..20_000 {
        writer.code(code, len);
    }
    writer.code(0x7fff, 15);
    writer.end()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "prints the results")]
fn print_line(line: &str) {
    println!("{line}");
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    /// Adds a number, the least significant bit first.
    fn bits(&mut self, value: u32, count: u32) -> &mut Self {
        for at in 0..count {
            self.bit(u64::from(value) >> at & 1 != 0);
        }
        self
    }

    /// Adds a code, the most significant bit first.
    fn code(&mut self, code: u32, len: u32) {
        for at in (0..len).rev() {
            self.bit(code >> at & 1 != 0);
        }
    }

    fn bit(&mut self, bit: bool) {
        if self.used == 0 {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << self.used;
        }
        self.used = (self.used + 1) % 8;
    }

    /// Adds the start of an empty block.
    fn end(mut self) -> Vec<u8> {
        self.bits(0, 3);
        self.bytes
    }
}

struct Zeroes;

impl Entropy for Zeroes {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}
