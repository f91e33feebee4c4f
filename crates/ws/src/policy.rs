//! The limits and timeouts of a session.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use crate::close_code::CloseCode;
use crate::side::{PerSide, Side};

/// The limits and timeouts of one session. They are fixed when it starts; a reload does not change
/// them. The defaults are those of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// Limits for frames from the client.
    pub from_client: Limits,
    /// Limits for frames from the backend.
    pub from_backend: Limits,
    /// The handling of frames that violate RFC 6455.
    pub strict: Strictness,
    /// Whether text messages of the client must be UTF-8 (RFC 6455 8.1). Compressed ones are not
    /// checked.
    pub utf8: bool,
    /// The heartbeat of the client. `None`: the proxy sends it no pings.
    pub heartbeat_client: Option<HeartbeatPolicy>,
    /// The heartbeat of the backend. `None`: the proxy sends it no pings.
    pub heartbeat_backend: Option<HeartbeatPolicy>,
    /// Maximum time without a byte of a data frame in either direction. `None`: no limit.
    pub idle: Option<Duration>,
    /// Maximum age of the session. It is closed during a pause in the last fifth of this time.
    /// `None`: no limit.
    pub lifetime: Option<Duration>,
    /// Maximum time for a peer to answer a Close and to accept the bytes sent before it.
    pub close_grace: Duration,
    /// Maximum time for which a peer may accept no bytes while data is queued for it.
    pub write_timeout: Duration,
    /// Minimum rate, in bytes per second, at which a peer must accept queued data to stay within
    /// [`SessionPolicy::write_timeout`]. `None`: any progress is sufficient.
    pub min_write_rate: Option<NonZeroU64>,
    /// The close code sent to clients by a drain, by a kill without a code of its own, and if the
    /// backend is lost.
    pub drain_code: CloseCode,
    /// The close reason sent to clients in the same cases; at most
    /// [`CLOSE_REASON_MAX`](crate::CLOSE_REASON_MAX) bytes.
    pub drain_reason: Arc<str>,
}

/// Limits for the frames of one side. `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message: its payload as received, over all fragments, and its decompressed size
    /// if compressed messages are inspected.
    pub message: Option<Limit>,
    /// Payload bytes of a frame.
    pub frame: Option<Limit>,
    /// Frames of a message.
    pub fragments: Option<Limit>,
    /// Time from the start of a message to its end.
    pub message_age: Option<AgeLimit>,
    /// Rate of messages, counted at their first frame.
    pub messages: Option<RateLimit>,
    /// Rate of bytes, frame headers included.
    pub bytes: Option<RateLimit>,
    /// Rate of pings and pongs. Answers to the proxy's pings do not count.
    pub control_frames: Option<RateLimit>,
}

/// A maximum number. Its action is [`LimitAction::Close`] or [`LimitAction::Report`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The largest permitted value.
    pub max: u64,
    /// The action on exceeding it.
    pub action: LimitAction,
}

/// A maximum duration. Its action is [`LimitAction::Close`] or [`LimitAction::Report`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeLimit {
    /// The largest permitted duration.
    pub max: Duration,
    /// The action on exceeding it.
    pub action: LimitAction,
}

/// A rate enforced with a token bucket, which is full when the session starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Tokens added per second.
    pub per_second: NonZeroU64,
    /// Capacity of the bucket in tokens.
    pub burst: NonZeroU64,
    /// The action when the bucket is empty.
    pub action: LimitAction,
}

/// The action on exceeding a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAction {
    /// The session is closed.
    Close,
    /// Reading from that side is suspended until tokens are available. Nothing is lost.
    Delay,
    /// The frame passes, and the violation is reported.
    Report,
}

/// The handling of a frame that violates RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// The session is closed.
    Enforce,
    /// The frame passes unchanged if its end can be determined, and the violation is reported.
    Report,
}

/// The handling of compressed messages (RFC 7692), as negotiated in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeflateMode {
    /// Compression was not negotiated.
    Off,
    /// Compressed messages pass; only their compressed size is limited.
    Pass,
    /// Compressed messages pass; their decompressed size is limited.
    Inspect {
        /// Whether compressed messages of a side may refer to its earlier ones (RFC 7692 7.1.1).
        context_takeover: PerSide<bool>,
    },
}

/// The proxy's pings to one side (RFC 6455 5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatPolicy {
    /// Maximum time from a pong to the next ping, which is sent up to an eighth earlier at random.
    pub interval: Duration,
    /// Maximum time from sending a ping until the peer proves that it is alive.
    pub timeout: Duration,
    /// What proves it.
    pub proof: PingProof,
}

/// What proves, after a ping, that the peer is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingProof {
    /// Any byte received after the ping was sent. Some libraries answer pings only while the
    /// program reads from the WebSocket.
    Any,
    /// The pong with the payload of the ping.
    Pong,
}

impl SessionPolicy {
    /// The limits for frames from a side.
    #[inline]
    pub fn limits(&self, from: Side) -> &Limits {
        match from {
            Side::Client => &self.from_client,
            Side::Backend => &self.from_backend,
        }
    }

    /// The heartbeat of a side; `None`: the proxy sends it no pings.
    #[inline]
    pub fn heartbeat(&self, to: Side) -> Option<HeartbeatPolicy> {
        match to {
            Side::Client => self.heartbeat_client,
            Side::Backend => self.heartbeat_backend,
        }
    }
}

impl Limits {
    /// A limit on messages, with limits on fragments and age that let a message of that size
    /// arrive, and with the same action: 1,024 fragments (1 KiB on average) and two minutes
    /// (8.7 KiB/s) per started MiB. Without a limit on messages, there is none on these either.
    pub const fn for_messages(message: Option<Limit>) -> Self {
        let mut limits = Self { message, ..Self::NONE };
        if let Some(Limit { max, action }) = message {
            let mib = if max == 0 { 1 } else { max.div_ceil(1 << 20) };
            limits.fragments = Some(Limit { max: mib.saturating_mul(1024), action });
            let age = Duration::from_secs(mib.saturating_mul(120));
            limits.message_age = Some(AgeLimit { max: age, action });
        }
        limits
    }

    /// No limits.
    const NONE: Self = Self {
        message: None,
        frame: None,
        fragments: None,
        message_age: None,
        messages: None,
        bytes: None,
        control_frames: None,
    };

    /// The largest payload of an unfragmented message that exceeds no size limit, in bytes.
    #[inline]
    pub(crate) fn unfragmented_max(&self) -> u64 {
        let max = |limit: Option<Limit>| limit.map_or(u64::MAX, |limit| limit.max);
        max(self.message).min(max(self.frame))
    }
}

impl Default for SessionPolicy {
    fn default() -> Self {
        let control_frames = Some(RateLimit::new(50, LimitAction::Close));
        Self {
            from_client: Limits {
                control_frames,
                ..Limits::for_messages(Some(Limit::close(16 << 20)))
            },
            from_backend: Limits { control_frames, ..Limits::default() },
            strict: Strictness::Enforce,
            utf8: false,
            heartbeat_client: Some(HeartbeatPolicy {
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(10),
                proof: PingProof::Any,
            }),
            heartbeat_backend: None,
            idle: Some(Duration::from_secs(3600)),
            lifetime: None,
            close_grace: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            min_write_rate: NonZeroU64::new(100),
            drain_code: CloseCode::SERVICE_RESTART,
            drain_reason: "the service restarts".into(),
        }
    }
}

impl Limit {
    /// A limit that closes the session.
    pub const fn close(max: u64) -> Self {
        Self { max, action: LimitAction::Close }
    }
}

impl RateLimit {
    /// A rate of `per_second`, at least one, with a burst of twice as many.
    pub const fn new(per_second: u64, action: LimitAction) -> Self {
        Self {
            per_second: at_least_one(per_second),
            burst: at_least_one(per_second.saturating_mul(2)),
            action,
        }
    }
}

const fn at_least_one(number: u64) -> NonZeroU64 {
    match NonZeroU64::new(number) {
        Some(number) => number,
        None => NonZeroU64::MIN,
    }
}
