//! RFC 6455 as pure functions: bytes and `now` in, instructions out. One
//! [`Session`](crate::ws::Session) judges both directions of a conversation and owns its clocks;
//! it has no socket and no buffer, and never reads, unmasks or copies the payload of data frames.
//!
//! Checked: mask direction, RSV bits, opcodes, shortest lengths, control frames, the order of
//! fragments, close codes, message sizes. Not checked: UTF-8 of text messages (RFC 6455 8.1),
//! which is the endpoints' duty.

mod clocks;
mod close;
mod end;
mod header;
mod limits;
mod meter;
mod peers;
mod session;
mod tally;

#[cfg(test)]
mod sample;

pub use close::CloseCode;
pub use end::{Breach, End};
pub use header::{ControlFrame, Header, OpCode};
pub use limits::{Heartbeat, Terms};
pub use meter::{Cut, FrameMeter, Run, Token, Watch};
pub use peers::Parting;
pub use session::{Intake, Session};
pub use tally::{Closes, Flow, Tally};

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

    /// The one across.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// Unpredictable bytes, for mask keys (RFC 6455 10.3), ping payloads and jitter.
pub trait Entropy {
    /// Overwrites `bytes` with random ones.
    fn fill(&mut self, bytes: &mut [u8]);
}
