//! Frames, terms and a conversation for the tests of this room.

use std::sync::Arc;
use std::time::Duration;

use super::{
    ControlFrame, DeflateMode, Entropy, MessageSizes, PingPayload, RecvAction, Session,
    SessionPolicy, Shutdown, Side, Timestamp,
};

/// A whole frame of a side, masked as it must be.
pub(super) fn frame(from: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = header(from, first, payload.len() as u64);
    match from {
        Side::Client => {
            bytes.extend(KEY);
            bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
        Side::Backend => bytes.extend(payload),
    }
    bytes
}

/// A header without a mask key.
pub(super) fn header(from: Side, first: u8, len: u64) -> Vec<u8> {
    let mask_bit = if from == Side::Client { 0x80 } else { 0 };
    match len {
        0..126 => vec![first, mask_bit | len as u8],
        126..0x1_0000 => [&[first, mask_bit | 126], &(len as u16).to_be_bytes()[..]].concat(),
        _ => [&[first, mask_bit | 127], &len.to_be_bytes()[..]].concat(),
    }
}

/// A Close with a code and a reason.
pub(super) fn close(from: Side, code: u16, reason: &str) -> Vec<u8> {
    frame(from, 0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// The defaults of the configuration.
pub(super) fn terms() -> SessionPolicy {
    SessionPolicy::default()
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A generator that is anything but random, and never repeats within a test.
#[derive(Default)]
pub(super) struct CountingEntropy(u64);

impl Entropy for CountingEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

/// A session, its clock, and what each side has received.
pub(super) struct Conversation {
    pub(super) session: Session,
    pub(super) now: Timestamp,
    pub(super) entropy: CountingEntropy,
    pub(super) to_client: Vec<u8>,
    pub(super) to_backend: Vec<u8>,
    pub(super) sizes: MessageSizes,
}

impl Conversation {
    /// Under the default terms.
    pub(super) fn new() -> Self {
        Self::under(terms())
    }

    pub(super) fn under(terms: SessionPolicy) -> Self {
        Self::compressed(terms, DeflateMode::Off)
    }

    pub(super) fn compressed(terms: SessionPolicy, deflate: DeflateMode) -> Self {
        let mut entropy = CountingEntropy::default();
        let session = Session::new(Arc::new(terms), deflate, &mut entropy);
        Self {
            session,
            now: Timestamp::START,
            entropy,
            to_client: Vec::new(),
            to_backend: Vec::new(),
            sizes: MessageSizes::default(),
        }
    }

    /// Lets bytes of a side in, writes whatever follows from it, and returns how many bytes were
    /// left undecided.
    pub(super) fn say(&mut self, from: Side, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        self.round();
        while !rest.is_empty() {
            match self.intake(from, rest) {
                RecvAction::Forward(len) => {
                    let (passed, later) = rest.split_at(len);
                    self.received(from.other()).extend(passed);
                    rest = later;
                }
                RecvAction::Discard(len) => rest = &rest[len..],
                RecvAction::Starved | RecvAction::Paused => break,
            }
            self.round();
        }
        rest.len()
    }

    /// Writes what the session has to say, and takes all that waits.
    pub(super) fn round(&mut self) {
        for side in Side::BOTH {
            while let Some(own) = self.inject(side) {
                self.received(side).extend(own.as_bytes());
            }
            self.session.written(side, 0, self.now);
        }
    }

    /// What the session makes of bytes that come now.
    pub(super) fn intake(&mut self, from: Side, bytes: &[u8]) -> RecvAction {
        self.session.intake(from, bytes, self.now, &mut self.sizes)
    }

    pub(super) fn inject(&mut self, to: Side) -> Option<ControlFrame> {
        self.session.inject(to, self.now, &mut self.entropy)
    }

    /// Time passes; each deadline is met.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.session.deadline().filter(|at| *at <= until) {
            self.now = at;
            self.session.tick(at);
            self.round();
        }
        self.now = until;
    }

    /// Time passes up to the next ping, which is handed out; its payload.
    pub(super) fn ping(&mut self) -> PingPayload {
        let at = self.session.deadline().expect("a heartbeat");
        self.now = at;
        self.session.tick(at);
        let ping = self.inject(Side::Client).expect("a ping");
        self.to_client.extend(ping.as_bytes());
        self.session.written(Side::Client, 0, self.now);
        assert_eq!(ping.as_bytes()[..2], [0x89, 8]);
        PingPayload::try_from(&ping.as_bytes()[2..]).expect("8 bytes")
    }

    pub(super) fn hang_up(&mut self, side: Side) {
        self.session.hangup(side, self.now);
        self.round();
    }

    pub(super) fn received(&mut self, side: Side) -> &mut Vec<u8> {
        match side {
            Side::Client => &mut self.to_client,
            Side::Backend => &mut self.to_backend,
        }
    }

    /// The codes that went to client and backend.
    pub(super) fn codes(&self) -> (Option<u16>, Option<u16>) {
        let closes = self.session.closes();
        (closes.to_client, closes.to_backend)
    }

    /// The partings of client and backend.
    pub(super) fn partings(&self) -> (Shutdown, Shutdown) {
        (self.session.parting(Side::Client), self.session.parting(Side::Backend))
    }
}
