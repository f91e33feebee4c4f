//! The WebSocket protocol (RFC 6455, RFC 7692) without IO, for a proxy that relays frames.
//!
//! A [`Session`] takes bytes and timestamps and returns instructions. It validates both directions
//! of one tunnel and owns all timers; it has no socket and no buffer, and never unmasks or copies
//! the payload of data frames unless a compressed message must be measured.
//!
//! Validated: mask bit, RSV bits, opcodes, shortest length encoding, control frames, the order of
//! fragments, close codes, message sizes; and, if the policy says so, UTF-8 in the text messages of
//! clients (RFC 6455 8.1), which is otherwise left to the endpoints.

mod close_code;
mod control_frame;
mod deflate;
mod entropy;
mod frame_step;
mod header;
mod heartbeat;
mod inflated_size;
mod limit_kind;
mod meter;
mod peer;
mod peers;
mod ping_grid;
mod policy;
mod protocol_error;
mod session;
mod session_close;
mod side;
mod stats;
mod summary;
mod termination;
mod timers;
mod timestamp;
mod token_bucket;
mod trace;
mod units;
mod utf8_check;
mod violation;

#[cfg(test)]
mod test_support;

pub use close_code::CloseCode;
pub use control_frame::{CLOSE_REASON_MAX, ControlFrame};
pub use entropy::Entropy;
pub use frame_step::{FrameRun, FrameStep, MeterContext, PingPayload};
pub use header::{Header, OpCode};
pub use limit_kind::LimitKind;
pub use meter::FrameMeter;
pub use peers::Shutdown;
pub use policy::{
    AgeLimit, DeflateMode, HeartbeatPolicy, Limit, LimitAction, Limits, PingProof, RateLimit,
    SessionPolicy, Strictness,
};
pub use protocol_error::ProtocolError;
pub use session::{RecvAction, Session};
pub use session_close::{CloseMessage, SessionClose};
pub use side::{PerSide, Side};
pub use stats::{CloseCodes, DirectionStats, MessageSizes, ReadDelays, Rtt, Stats};
pub use summary::{SideSummary, Summary};
pub use termination::TerminationReason;
pub use timestamp::Timestamp;
pub use trace::{FrameInfo, FrameTrace};
pub use violation::{ReportedViolations, Violation};
