//! Invariants of frame headers: a decision is final, exactly the headers in shortest form are
//! accepted, and the meter passes the announced payload.

use ws::{
    FrameMeter, FrameStep, Header, Limit, Limits, MessageSizes, MeterContext, Side, Strictness,
    Timestamp,
};

/// Checks the invariants for the first bytes, as sent by either side.
pub fn drive(bytes: &[u8]) {
    for from in Side::BOTH {
        for deflate in [false, true] {
            let header = Header::parse(bytes, from, deflate);
            for len in 0..bytes.len().min(16) {
                let early = Header::parse(&bytes[..len], from, deflate);
                assert!(early == Ok(None) || early == header, "a decision changed");
            }
            if let Ok(Some(header)) = header {
                check_form(&header, from, bytes);
            }
        }
        meter(from, bytes);
    }
}

fn check_form(header: &Header, from: Side, bytes: &[u8]) {
    let mask_bit = if from == Side::Client { 0x80 } else { 0 };
    assert_eq!(header.key_len, usize::from(mask_bit / 32));
    assert_eq!(header.fin, bytes[0] >= 0x80);
    let len = header.payload_len;
    let written = match len {
        0..126 => vec![mask_bit | len as u8],
        126..0x1_0000 => [&[mask_bit | 126], &(len as u16).to_be_bytes()[..]].concat(),
        _ => [&[mask_bit | 127], &len.to_be_bytes()[..]].concat(),
    };
    assert_eq!(bytes[1..header.len], written);
    assert!(len < 1 << 63 && (!header.opcode.is_control() || len < 126));
}

/// The meter gives the same result for all bytes at once and one by one.
fn meter(from: Side, bytes: &[u8]) {
    let whole = passed(from, bytes, bytes.len());
    assert_eq!(whole, passed(from, bytes, 1));
    assert!(whole.1 || bytes.len() - whole.0 < 140, "{} undecided", bytes.len() - whole.0);
}

/// How many bytes the meter passes, and whether it stopped for good.
fn passed(from: Side, bytes: &[u8], step: usize) -> (usize, bool) {
    let limits = Limits { message: Some(Limit::close(1000)), ..Limits::default() };
    let context = MeterContext {
        limits: &limits,
        strict: Strictness::Enforce,
        inflated_max: None,
        context_takeover: false,
        utf8: false,
        pending_pings: &[[0; 8]],
        stop_at_boundary: false,
        ending: false,
        now: Timestamp::START,
    };
    let mut sizes = MessageSizes::default();
    let mut meter = FrameMeter::new(from, false);
    let (mut at, mut end) = (0, step.min(bytes.len()));
    while at < bytes.len() {
        match meter.next_step(&bytes[at..end], &context, &mut sizes) {
            FrameStep::Forward(run) => at += run.len,
            FrameStep::OwnPong { len, .. } => at += len,
            FrameStep::Close { .. } | FrameStep::LimitExceeded(_) | FrameStep::ProtocolError(_) => {
                return (at, true);
            }
            FrameStep::DelayUntil(..) => unreachable!("no rate is configured"),
            FrameStep::Incomplete if end == bytes.len() => break,
            FrameStep::Incomplete => end += 1,
        }
        end = end.max((at + step).min(bytes.len()));
    }
    (at, false)
}
