//! The state of one side: its send and receive state, its queue and its read rate.

use crate::close_code::{CloseCode, NO_STATUS};
use crate::limit_kind::LimitKind;
use crate::meter::FrameMeter;
use crate::timestamp::Timestamp;
use crate::token_bucket::TokenBucket;
use crate::violation::{ReportedViolations, Violation};

/// One side of a session.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Validates the bytes that come from it.
    pub(crate) meter: FrameMeter,
    pub(crate) send: SendState,
    pub(crate) recv: RecvState,
    /// Bytes queued for it, as last reported by the driver.
    pub(crate) backlog: usize,
    /// Bytes received after the session was closed.
    pub(crate) discarded: u32,
    /// Present if its byte rate is limited or a rate has delayed it. Boxed because it is rare.
    read_rate: Option<Box<ReadRate>>,
    /// Its stream has ended.
    pub(crate) eof: bool,
    /// Its stream is to be reset.
    pub(crate) reset: bool,
    /// The closing handshake is complete and its FIN is no longer awaited.
    pub(crate) fin_waived: bool,
}

/// Enforces rates on the bytes read from a side.
#[derive(Debug)]
pub(crate) struct ReadRate {
    pub(crate) bytes: TokenBucket,
    /// Reading is suspended until this time; [`Timestamp::START`]: it is not.
    paused_until: Timestamp,
    /// Total time for which reading was suspended, in milliseconds.
    delayed_millis: u32,
    /// The limits that suspended reading.
    delayed_by: ReportedViolations,
}

/// What may still be sent to a side.
///
/// | state | event | next |
/// | --- | --- | --- |
/// | `Relay` | the other side's Close is relayed | `CloseSent` |
/// | `Relay` | the proxy closes, at a frame boundary | `CloseReady` |
/// | `Relay` | the proxy closes, within a frame | `CloseAfterFrame` |
/// | `Relay` | the proxy closes because this side is at fault | `CloseAfterRelay` |
/// | `Relay` | the proxy closes, a message is in progress that it completes | `CloseAfterMessages` |
/// | `Relay` | the other side has ended; this side's Close is unanswered, at a frame boundary | `CloseReady` |
/// | `Relay`, `CloseAfterFrame` | the other side has ended, otherwise | `Stopped` |
/// | `CloseAfterRelay` | the other side's Close arrives | `CloseReady` |
/// | `CloseAfterRelay` | the other side has ended, or the close grace, at a frame boundary | `CloseReady` |
/// | `CloseAfterRelay` | the other side has ended, or the close grace, within a frame | `Stopped` |
/// | `CloseAfterMessages` | no message is in progress in either direction | `CloseReady` |
/// | `CloseAfterMessages` | this side's Close arrives | `Relay` |
/// | `CloseAfterMessages` | the other side has ended, or the close grace | as `CloseAfterRelay` |
/// | `CloseAfterFrame` | the frame is complete | `CloseReady` |
/// | `CloseAfterFrame` | the other side's Close is relayed | `CloseSent` |
/// | `CloseReady` | the driver takes the Close | `CloseSent` |
/// | any but `CloseSent` | the stream is reset | `Stopped` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendState {
    /// Frames of the other side are relayed to it.
    Relay,
    /// The frame in progress is completed; then the proxy sends a Close.
    CloseAfterFrame,
    /// Frames of the other side are relayed to it until that side's Close, its end or the close grace;
    /// then the proxy sends a Close.
    CloseAfterRelay,
    /// Frames are relayed until no message is in progress in either direction; then the proxy sends a Close.
    CloseAfterMessages,
    /// The proxy's Close is sent as soon as the driver polls for it.
    CloseReady(CloseFrame),
    /// A Close with this code was sent. Nothing may follow it (RFC 6455 5.5.1).
    CloseSent(u16),
    /// Nothing more can be sent, not even a Close.
    Stopped,
}

/// A Close frame created by the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseFrame {
    /// Carries the code and reason of the session's termination.
    Termination,
    /// Answers this side's Close on behalf of the other side (RFC 6455 5.5.1).
    Reply(Option<CloseCode>),
}

/// What a side may still send.
///
/// | state | event | next |
/// | --- | --- | --- |
/// | `Open` | a valid Close arrives | `CloseReceived` |
/// | `Open` | a protocol error | `Failed` |
/// | `CloseReceived`, `Failed` | more bytes arrive | unchanged; they are discarded |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvState {
    /// Frames are read.
    Open,
    /// It sent a Close with this code.
    CloseReceived(Option<CloseCode>),
    /// It violated the protocol, and the start of its next frame is unknown.
    Failed,
}

impl Peer {
    pub(crate) fn new(meter: FrameMeter) -> Self {
        Self {
            meter,
            send: SendState::Relay,
            recv: RecvState::Open,
            backlog: 0,
            discarded: 0,
            read_rate: None,
            eof: false,
            reset: false,
            fin_waived: false,
        }
    }

    /// The read rate, created on first use.
    #[inline]
    pub(crate) fn read_rate(&mut self) -> &mut ReadRate {
        self.read_rate.get_or_insert_with(|| {
            Box::new(ReadRate {
                bytes: TokenBucket::new(),
                paused_until: Timestamp::START,
                delayed_millis: 0,
                delayed_by: ReportedViolations::default(),
            })
        })
    }

    /// Charges relayed bytes to the byte rate.
    #[inline]
    pub(crate) fn consume(&mut self, bytes: usize) {
        if let Some(rate) = &mut self.read_rate {
            rate.bytes.consume(bytes as u64);
        }
    }

    /// Suspends reading because of a limit.
    pub(crate) fn pause(&mut self, until: Timestamp, limit: LimitKind, now: Timestamp) {
        let rate = self.read_rate();
        rate.paused_until = until;
        let millis = u32::try_from(until.since(now).as_millis()).unwrap_or(u32::MAX);
        rate.delayed_millis = rate.delayed_millis.saturating_add(millis);
        rate.delayed_by.insert(Violation::LimitExceeded(limit));
    }

    /// Resumes reading.
    #[inline]
    pub(crate) fn resume(&mut self) {
        if let Some(rate) = &mut self.read_rate {
            rate.paused_until = Timestamp::START;
        }
    }

    /// The time at which reading resumes; [`Timestamp::START`] if it is not suspended.
    #[inline]
    pub(crate) fn paused_until(&self) -> Timestamp {
        self.read_rate.as_ref().map_or(Timestamp::START, |rate| rate.paused_until)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused_until() != Timestamp::START
    }

    /// The total time for which reading was suspended, in milliseconds, and the limits that caused
    /// it.
    pub(crate) fn delays(&self) -> (u32, ReportedViolations) {
        self.read_rate
            .as_ref()
            .map_or_else(Default::default, |rate| (rate.delayed_millis, rate.delayed_by))
    }

    /// Counts `len` bytes as queued for this side.
    #[inline]
    pub(crate) fn queue(&mut self, len: usize) {
        self.backlog = self.backlog.saturating_add(len);
    }

    /// Records that a Close with this code is the last frame sent to this side.
    pub(crate) fn set_close_sent(&mut self, code: Option<CloseCode>) {
        self.send = SendState::CloseSent(code.map_or(NO_STATUS, CloseCode::get));
    }

    /// The code of the Close sent to this side.
    pub(crate) fn close_code(&self) -> Option<u16> {
        match self.send {
            SendState::CloseSent(code) => Some(code),
            SendState::Relay
            | SendState::CloseAfterFrame
            | SendState::CloseAfterRelay
            | SendState::CloseAfterMessages
            | SendState::CloseReady(_)
            | SendState::Stopped => None,
        }
    }

    /// Whether its stream ended without a Close.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.eof && self.recv == RecvState::Open
    }

    /// Whether its stream may still deliver data.
    pub(crate) fn is_readable(&self) -> bool {
        !(self.eof || self.reset || self.fin_waived)
    }

    /// Whether Closes were exchanged and this side has accepted the one sent to it.
    pub(crate) fn is_handshake_complete(&self) -> bool {
        let exchanged = matches!(
            (self.send, self.recv),
            (SendState::CloseSent(_), RecvState::CloseReceived(_))
        );
        exchanged && self.backlog == 0
    }

    /// Whether nothing more is sent to this side or expected from it.
    pub(crate) fn is_finished(&self) -> bool {
        let done = matches!(self.send, SendState::CloseSent(_) | SendState::Stopped);
        self.reset || (done && self.backlog == 0 && (self.eof || self.fin_waived))
    }
}
