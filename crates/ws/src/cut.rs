//! What a meter is asked, and what it answers.

use super::close::CloseCode;
use super::limits::{Limits, Strictness};
use super::moment::Timestamp;
use super::{LimitKind, MessageSizes, ProtocolError};

/// The payload of a ping of ours.
pub type PingPayload = [u8; 8];

/// What the next bytes are held against.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// How much of what may come.
    pub limits: &'a Limits,
    /// What becomes of a frame that breaks a rule.
    pub strict: Strictness,
    /// Most that a message may hold once decompressed; `None`: nobody looks.
    pub inflated_max: Option<u64>,
    /// The pings of ours to which pongs may come from this side.
    pub awaited: &'a [PingPayload],
    /// Stop at the next frame boundary: something of ours wants to go out there.
    pub one_frame: bool,
    /// The session is ending: nothing is made to wait any more.
    pub hurried: bool,
    /// For the rates.
    pub now: Timestamp,
}

/// What may happen to the first bytes of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameStep {
    /// They may go out, verbatim.
    Pass(FrameRun),
    /// They are a pong to a ping of ours.
    Own {
        /// Bytes of the whole frame.
        len: usize,
        /// Which ping.
        token: PingPayload,
    },
    /// So many are a Close frame with this code.
    Close {
        /// Bytes of the whole frame.
        len: usize,
        /// Its code, if it has one.
        code: Option<CloseCode>,
    },
    /// A decision needs more bytes than these.
    Starved,
    /// They may go out at this moment, by this limit, and not before; nothing is consumed.
    Later(Timestamp, LimitKind),
    /// They cross a limit; nothing is consumed.
    Over(LimitKind),
    /// They are unlawful; nothing is consumed.
    Breach(ProtocolError),
}

/// A run of bytes that may go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameRun {
    /// How many bytes.
    pub len: usize,
    /// Messages whose last byte is among them.
    pub messages: u64,
    /// Of these, the compressed ones.
    pub compressed: u64,
    /// Payload bytes of the largest of these.
    pub largest: u64,
    /// Whether a byte of a data frame is among them.
    pub data: bool,
}

impl FrameRun {
    /// The last bytes of a message.
    #[inline(always)]
    pub(super) fn end_message(
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
