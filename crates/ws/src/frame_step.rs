//! The input and output of one call to [`FrameMeter::next_step`](crate::FrameMeter::next_step).

use crate::close_code::CloseCode;
use crate::limit_kind::LimitKind;
use crate::policy::{LimitAction, Limits, RateLimit, Strictness};
use crate::protocol_error::ProtocolError;
use crate::stats::MessageSizes;
use crate::timestamp::Timestamp;

/// The payload of a ping sent by the proxy.
pub type PingPayload = [u8; 8];

/// The conditions under which the next bytes are checked.
#[derive(Clone, Copy, Debug)]
pub struct MeterContext<'a> {
    /// The limits for frames from this side.
    pub limits: &'a Limits,
    /// The handling of protocol errors.
    pub strict: Strictness,
    /// Maximum decompressed size of a message in bytes. `None`: it is not measured.
    pub inflated_max: Option<u64>,
    /// Whether compressed messages of this side may refer to earlier ones (RFC 7692 7.1.1).
    pub context_takeover: bool,
    /// Whether text messages must be UTF-8. Compressed ones are not checked.
    pub utf8: bool,
    /// Payloads of the proxy's pings that this side may still answer.
    pub pending_pings: &'a [PingPayload],
    /// Whether to stop at the next frame boundary, where the proxy inserts a control frame.
    pub stop_at_boundary: bool,
    /// Whether the session is ending, so that nothing is delayed any more.
    pub ending: bool,
    /// The current time, for rate limits.
    pub now: Timestamp,
}

impl MeterContext<'_> {
    /// Whether a rate limit is ignored because it could only delay a session that is ending.
    pub(crate) fn ignores(&self, rate: &RateLimit) -> bool {
        self.ending && rate.action == LimitAction::Delay
    }
}

/// The result for the first bytes of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameStep {
    /// These bytes may be forwarded verbatim.
    Forward(FrameRun),
    /// A pong that answers one of the proxy's pings.
    OwnPong {
        /// Length of the whole frame in bytes.
        len: usize,
        /// The payload, which identifies the ping.
        payload: PingPayload,
    },
    /// A Close frame.
    Close {
        /// Length of the whole frame in bytes.
        len: usize,
        /// Its code, if present.
        code: Option<CloseCode>,
    },
    /// More bytes are needed for a decision.
    Incomplete,
    /// Delayed by this limit until the given time. Nothing is consumed.
    DelayUntil(Timestamp, LimitKind),
    /// A limit is exceeded. Nothing is consumed.
    LimitExceeded(LimitKind),
    /// The frame is invalid. Nothing is consumed.
    ProtocolError(ProtocolError),
}

/// A sequence of bytes that may be forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameRun {
    /// Length in bytes.
    pub len: usize,
    /// Number of messages that end in it.
    pub messages: u64,
    /// Number of compressed messages that end in it.
    pub compressed: u64,
    /// Payload of the largest message that ends in it, in bytes.
    pub largest: u64,
    /// Whether it contains a byte of a data frame.
    pub data: bool,
}

impl FrameRun {
    /// Adds `len` bytes, with which a message of `payload` bytes ends.
    #[inline(always)]
    pub(crate) fn end_message(
        &mut self,
        len: usize,
        payload: u64,
        compressed: bool,
        sizes: &mut MessageSizes,
    ) {
        self.len += len;
        self.data = true;
        self.messages += 1;
        self.compressed += u64::from(compressed);
        self.largest = self.largest.max(payload);
        sizes.add(payload);
    }
}
