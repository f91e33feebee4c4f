//! The two sides of a conversation: what still goes out to each, what each may still say, and when
//! each is let go of. It knows no clock and no cause; `session` brings both.

use super::bucket::TokenBucket;
use super::close::{CloseCode, NO_CODE};
use super::meter::FrameMeter;
use super::moment::Timestamp;
use super::{LimitKind, ReportedViolations, Side, Violation};

/// What to do with the stream to a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It stays open.
    Stay,
    /// Send what is pending, then end the write half (close_notify, FIN); keep reading as long as
    /// [`Session::wants`](super::Session::wants) says so.
    Finish,
    /// Reset it at once; what is pending is lost.
    Abort,
}

/// Both sides.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) client: Peer,
    pub(super) backend: Peer,
}

/// One side of the conversation.
#[derive(Debug)]
pub(super) struct Peer {
    /// Where the bytes that come from it stand.
    pub(super) meter: FrameMeter,
    /// What still goes out to it.
    pub(super) toward: SendState,
    /// What it may still say.
    pub(super) voice: RecvState,
    /// Bytes that wait for it, as far as we know.
    pub(super) backlog: usize,
    /// Boxed, as it takes a rate of bytes, or one that delays and was met.
    pace: Option<Box<ReadRate>>,
    /// Its stream has ended.
    pub(super) eof: bool,
    /// Its stream is to be reset.
    pub(super) reset: bool,
    /// Closes are exchanged, and the time for its FIN is over.
    waived: bool,
}

/// How fast a side comes.
#[derive(Debug)]
pub(super) struct ReadRate {
    /// Bytes that may still come from it.
    pub(super) bytes: TokenBucket,
    /// It came too fast, and is not listened to before this moment.
    paused: Timestamp,
    /// How long it was paused in all, in milliseconds, and by which limits.
    delayed: (u32, ReportedViolations),
}

/// The direction to a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendState {
    /// Frames of the other side pass.
    Relay,
    /// A frame of the other side is being finished; then our Close.
    Owed,
    /// Our Close, as soon as it is asked for.
    Ready(CloseFrame),
    /// A Close with this code went out: nothing follows (RFC 6455 5.5.1).
    Sent(u16),
    /// Nothing can go out any more, not even a Close.
    Cut,
}

/// A Close of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseFrame {
    /// What the end of the session owes.
    End,
    /// The answer to this side's own Close, in place of the other side (RFC 6455 5.5.1).
    Answer(Option<CloseCode>),
}

/// The direction from a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecvState {
    /// Lawful so far.
    Speaks,
    /// It sent its Close.
    Closed(Option<CloseCode>),
    /// It broke a rule; where its frames begin is no longer known.
    Broken,
}

impl Peers {
    pub(super) fn new(deflate: bool) -> Self {
        Self {
            client: Peer::new(FrameMeter::new(Side::Client, deflate)),
            backend: Peer::new(FrameMeter::new(Side::Backend, deflate)),
        }
    }

    #[inline]
    pub(super) fn of(&self, side: Side) -> &Peer {
        match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        }
    }

    #[inline]
    pub(super) fn of_mut(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }

    /// Whether what went out to a side ends with a whole frame.
    pub(super) fn at_boundary(&self, to: Side) -> bool {
        self.of(to.other()).meter.at_boundary()
    }

    /// A Close of our own, at the next boundary of that direction.
    pub(super) fn dismiss(&mut self, to: Side) {
        let boundary = self.at_boundary(to);
        self.of_mut(to).toward =
            if boundary { SendState::Ready(CloseFrame::End) } else { SendState::Owed };
    }

    /// No byte that could be relayed to this side will come any more. If it waits for an answer
    /// to its Close it gets it from us; inside a frame nothing lawful can be said.
    pub(super) fn dry_up(&mut self, to: Side) {
        let boundary = self.at_boundary(to);
        let peer = self.of_mut(to);
        peer.toward = match (peer.toward, peer.voice) {
            (SendState::Relay, RecvState::Closed(code)) if boundary => {
                SendState::Ready(CloseFrame::Answer(code))
            }
            (SendState::Relay | SendState::Owed, _) => SendState::Cut,
            (done @ (SendState::Ready(_) | SendState::Sent(_) | SendState::Cut), _) => done,
        };
    }

    /// Gives up on a side, and on what it might still have said. A Close that is ready may still
    /// be asked for, in case its stream takes it.
    pub(super) fn forsake(&mut self, side: Side) {
        self.dry_up(side.other());
        let peer = self.of_mut(side);
        peer.reset = true;
        match peer.toward {
            SendState::Relay | SendState::Owed => peer.toward = SendState::Cut,
            SendState::Ready(_) | SendState::Sent(_) | SendState::Cut => {}
        }
    }

    /// Gives up on a side that cannot be written to.
    pub(super) fn reset(&mut self, side: Side) {
        self.forsake(side);
        let peer = self.of_mut(side);
        match peer.toward {
            SendState::Sent(_) => {}
            SendState::Relay | SendState::Owed | SendState::Ready(_) | SendState::Cut => {
                peer.toward = SendState::Cut;
            }
        }
    }

    /// The time for Closes is over. A side that waits for an answer is told, and may take it;
    /// whoever else has not finished is cut.
    pub(super) fn grace_over(&mut self) {
        let relayed = Side::BOTH.map(|side| self.of(side).toward == SendState::Relay);
        for side in Side::BOTH {
            self.dry_up(side);
        }
        for (side, relayed) in Side::BOTH.into_iter().zip(relayed) {
            let peer = self.of_mut(side);
            let answered = relayed && matches!(peer.toward, SendState::Ready(_));
            // RFC 6455 7.1.1: the backend closed properly and only its FIN is missing.
            peer.waived = side == Side::Backend && peer.is_exchanged();
            if !peer.is_settled() && !answered {
                self.reset(side);
            }
        }
    }

    /// Nothing more goes to either side or is waited for.
    pub(super) fn are_settled(&self) -> bool {
        self.client.is_settled() && self.backend.is_settled()
    }

    pub(super) fn parting(&self, side: Side) -> Shutdown {
        let peer = self.of(side);
        let finished = match side {
            // RFC 6455 7.1.1: the server closes TCP first. To the client that is us ...
            Side::Client => peer.voice != RecvState::Speaks,
            // ... and the backend is waited for, unless it broke the protocol.
            Side::Backend => peer.voice == RecvState::Broken || peer.waived,
        };
        match peer.toward {
            _ if peer.reset => Shutdown::Abort,
            SendState::Cut => Shutdown::Finish,
            SendState::Sent(_) if finished || peer.eof => Shutdown::Finish,
            SendState::Relay | SendState::Owed | SendState::Ready(_) | SendState::Sent(_) => {
                Shutdown::Stay
            }
        }
    }
}

impl Peer {
    fn new(meter: FrameMeter) -> Self {
        Self {
            meter,
            toward: SendState::Relay,
            voice: RecvState::Speaks,
            backlog: 0,
            pace: None,
            eof: false,
            reset: false,
            waived: false,
        }
    }

    /// Made when it is first of use.
    #[inline]
    pub(super) fn pace(&mut self) -> &mut ReadRate {
        self.pace.get_or_insert_with(|| {
            let (bytes, delayed) = (TokenBucket::new(), (0, ReportedViolations::default()));
            Box::new(ReadRate { bytes, paused: Timestamp::START, delayed })
        })
    }

    /// So many bytes came from it.
    #[inline]
    pub(super) fn spend(&mut self, bytes: usize) {
        if let Some(pace) = &mut self.pace {
            pace.bytes.spend(bytes as u64);
        }
    }

    /// It is not listened to for a while.
    pub(super) fn pause(&mut self, until: Timestamp, rule: LimitKind, now: Timestamp) {
        let pace = self.pace();
        pace.paused = until;
        let (delayed, by) = &mut pace.delayed;
        let millis = u32::try_from(until.since(now).as_millis()).unwrap_or(u32::MAX);
        *delayed = delayed.saturating_add(millis);
        by.add(Violation::Over(rule));
    }

    /// It is listened to again.
    #[inline]
    pub(super) fn resume(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.paused = Timestamp::START;
        }
    }

    /// When it is listened to again; [`Timestamp::START`]: it is.
    #[inline]
    pub(super) fn paused(&self) -> Timestamp {
        self.pace.as_ref().map_or(Timestamp::START, |pace| pace.paused)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused() != Timestamp::START
    }

    /// How long it was paused in all, in milliseconds, and by which limits.
    pub(super) fn delayed(&self) -> (u32, ReportedViolations) {
        self.pace.as_ref().map_or_else(Default::default, |pace| pace.delayed)
    }

    /// So many bytes more wait for it.
    #[inline]
    pub(super) fn queue(&mut self, len: usize) {
        self.backlog = self.backlog.saturating_add(len);
    }

    /// A Close with this code is the last that goes to it.
    pub(super) fn sent_close(&mut self, code: Option<CloseCode>) {
        self.toward = SendState::Sent(code.map_or(NO_CODE, CloseCode::get));
    }

    /// The code of the Close that went out to it.
    pub(super) fn close_code(&self) -> Option<u16> {
        match self.toward {
            SendState::Sent(code) => Some(code),
            SendState::Relay | SendState::Owed | SendState::Ready(_) | SendState::Cut => None,
        }
    }

    /// It left without a Close.
    pub(super) fn is_gone(&self) -> bool {
        self.eof && self.voice == RecvState::Speaks
    }

    /// Whether its stream may still bring something.
    pub(super) fn is_open(&self) -> bool {
        !(self.eof || self.reset || self.waived)
    }

    /// Closes went both ways, and it has taken ours.
    fn is_exchanged(&self) -> bool {
        let both = matches!((self.toward, self.voice), (SendState::Sent(_), RecvState::Closed(_)));
        both && self.backlog == 0
    }

    /// Nothing more goes to it or is waited for from it.
    fn is_settled(&self) -> bool {
        let silent = matches!(self.toward, SendState::Sent(_) | SendState::Cut);
        self.reset || (silent && self.backlog == 0 && (self.eof || self.waived))
    }
}
