//! Frames, policies and a session with simulated peers, for the tests of this crate.

use std::sync::Arc;
use std::time::Duration;

use crate::control_frame::ControlFrame;
use crate::entropy::Entropy;
use crate::frame_step::PingPayload;
use crate::peers::Shutdown;
use crate::policy::{DeflateMode, Limit, Limits, SessionPolicy};
use crate::session::{RecvAction, Session};
use crate::side::Side;
use crate::stats::{CloseCodes, MessageSizes};
use crate::timestamp::Timestamp;

/// A complete frame of a side, masked if it comes from the client.
pub(crate) fn frame(from: Side, first: u8, payload: &[u8]) -> Vec<u8> {
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

/// A frame header without the mask key.
pub(crate) fn header(from: Side, first: u8, len: u64) -> Vec<u8> {
    let mask_bit = if from == Side::Client { 0x80 } else { 0 };
    match len {
        0..126 => vec![first, mask_bit | len as u8],
        126..0x1_0000 => [&[first, mask_bit | 126], &(len as u16).to_be_bytes()[..]].concat(),
        _ => [&[first, mask_bit | 127], &len.to_be_bytes()[..]].concat(),
    }
}

/// A Close frame with a code and a reason.
pub(crate) fn close(from: Side, code: u16, reason: &str) -> Vec<u8> {
    frame(from, 0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// The default policy with messages of 1 MiB from the client, so that tests stay small.
pub(crate) fn policy() -> SessionPolicy {
    let default = SessionPolicy::default();
    let messages = Limits::for_messages(Some(Limit::close(1 << 20)));
    let from_client = Limits { control_frames: default.from_client.control_frames, ..messages };
    SessionPolicy { from_client, ..default }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A deterministic sequence that does not repeat within a test.
#[derive(Default)]
pub(crate) struct CountingEntropy(u64);

impl Entropy for CountingEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

/// How the streams to both sides are to be shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shutdowns {
    pub(crate) client: Shutdown,
    pub(crate) backend: Shutdown,
}

/// A session, its clock, and what each side has received.
pub(crate) struct Harness {
    pub(crate) session: Session,
    pub(crate) now: Timestamp,
    pub(crate) entropy: CountingEntropy,
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_backend: Vec<u8>,
    pub(crate) sizes: MessageSizes,
}

impl Harness {
    /// A session with the default policy.
    pub(crate) fn new() -> Self {
        Self::with_policy(policy())
    }

    pub(crate) fn with_policy(policy: SessionPolicy) -> Self {
        Self::with_deflate(policy, DeflateMode::Off)
    }

    pub(crate) fn with_deflate(policy: SessionPolicy, deflate: DeflateMode) -> Self {
        let mut entropy = CountingEntropy::default();
        let session = Session::new(Arc::new(policy), deflate, Duration::ZERO, &mut entropy);
        Self {
            session,
            now: Timestamp::START,
            entropy,
            to_client: Vec::new(),
            to_backend: Vec::new(),
            sizes: MessageSizes::default(),
        }
    }

    /// Passes bytes from a side to the session and writes everything that results. Returns the
    /// number of bytes that remain undecided.
    pub(crate) fn feed_from(&mut self, from: Side, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        self.flush();
        while !rest.is_empty() {
            match self.handle_recv(from, rest) {
                RecvAction::Forward(len) => {
                    let (forwarded, later) = rest.split_at(len);
                    self.received(from.other()).extend(forwarded);
                    rest = later;
                }
                RecvAction::Discard(len) => rest = &rest[len..],
                RecvAction::Incomplete | RecvAction::Paused => break,
            }
            self.flush();
        }
        rest.len()
    }

    /// Writes all control frames that are due; both sides accept everything queued for them.
    pub(crate) fn flush(&mut self) {
        for side in Side::BOTH {
            while let Some(frame) = self.poll_control(side) {
                self.received(side).extend(frame.as_bytes());
            }
            self.session.handle_written(side, 0, self.now);
        }
    }

    pub(crate) fn handle_recv(&mut self, from: Side, bytes: &[u8]) -> RecvAction {
        self.session.handle_recv(from, bytes, self.now, &mut self.sizes)
    }

    pub(crate) fn poll_control(&mut self, to: Side) -> Option<ControlFrame> {
        self.session.poll_control(to, self.now, &mut self.entropy)
    }

    /// Advances the clock; every timer fires on time.
    pub(crate) fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.session.handle_timeout(at);
            self.flush();
        }
        self.now = until;
    }

    /// Advances the clock to the next ping to the client, sends it and returns its payload.
    pub(crate) fn next_ping(&mut self) -> PingPayload {
        let at = self.session.poll_timeout().expect("a heartbeat");
        self.now = at;
        self.session.handle_timeout(at);
        let ping = self.poll_control(Side::Client).expect("a ping");
        self.to_client.extend(ping.as_bytes());
        self.session.handle_written(Side::Client, 0, self.now);
        assert_eq!(ping.as_bytes()[..2], [0x89, 8]);
        PingPayload::try_from(&ping.as_bytes()[2..]).expect("8 bytes")
    }

    /// A side answers the proxy's Close.
    pub(crate) fn answer_close(&mut self, side: Side) {
        self.feed_from(side, &close(side, 1001, ""));
    }

    pub(crate) fn eof(&mut self, side: Side) {
        self.session.handle_eof(side, self.now);
        self.flush();
    }

    /// Everything sent to a side.
    pub(crate) fn received(&mut self, side: Side) -> &mut Vec<u8> {
        match side {
            Side::Client => &mut self.to_client,
            Side::Backend => &mut self.to_backend,
        }
    }

    /// The close codes sent so far.
    pub(crate) fn close_codes(&self) -> CloseCodes {
        self.session.close_codes()
    }

    /// The shutdown states of both sides.
    pub(crate) fn shutdowns(&self) -> Shutdowns {
        let of = |side| self.session.shutdown(side);
        Shutdowns { client: of(Side::Client), backend: of(Side::Backend) }
    }
}
