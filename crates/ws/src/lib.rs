//! RFC 6455 as pure functions: bytes and `now` in, instructions out. One
//! [`Session`](crate::Session) judges both directions of a conversation and owns its clocks;
//! it has no socket and no buffer, and never reads, unmasks or copies the payload of data frames.
//!
//! Checked: mask direction, RSV bits, opcodes, shortest lengths, control frames, the order of
//! fragments, close codes, message sizes. Not checked: UTF-8 of text messages (RFC 6455 8.1),
//! which is the endpoints' duty.

mod breach;
mod bucket;
mod clocks;
mod close;
mod cut;
mod deflate;
mod end;
mod header;
mod limits;
mod meter;
mod moment;
mod peers;
mod pulse;
mod rule;
mod session;
mod show;
mod tally;
mod trace;

#[cfg(test)]
mod sample;

pub use breach::ProtocolError;
pub use close::{CLOSE_REASON_MAX, CloseCode};
pub use cut::{FrameRun, FrameStep, PingPayload, Policy};
pub use end::TerminationReason;
pub use header::{ControlFrame, Header, OpCode};
pub use limits::{
    AgeLimit, HeartbeatPolicy, Limit, LimitAction, Limits, RateLimit, SessionPolicy, Strictness,
};
pub use meter::FrameMeter;
pub use moment::Timestamp;
pub use peers::Shutdown;
pub use rule::{LimitKind, ReportedViolations, Violation};
pub use session::{ReadDelays, RecvAction, Session};
pub use tally::{CloseCodes, DirectionStats, MessageSizes, Rtt, Stats};
pub use trace::{FrameInfo, FrameTrace};

/// One end of the conversation, seen from the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who asked for the WebSocket; its frames are masked.
    Client,
    /// Who serves it; its frames are not.
    Backend,
}

impl Side {
    /// Both, client first.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Backend];

    /// The name in records and metric labels.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }

    /// The one across.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// What was agreed on about compressed messages (RFC 7692).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeflateMode {
    /// There are none.
    Off,
    /// They pass; only their size on the wire is known.
    Pass,
    /// They pass; the client begins each with an empty window
    /// (`client_no_context_takeover`), so that one that may be too large can be looked into.
    Inspect,
}

/// Unpredictable bytes, for mask keys (RFC 6455 10.3), ping payloads and jitter.
pub trait Entropy {
    /// Overwrites `bytes` with random ones.
    fn fill(&mut self, bytes: &mut [u8]);
}
