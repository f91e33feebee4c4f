//! What a session is held to.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::Side;
use super::close::CloseCode;

/// The terms of one conversation, fixed when it begins; a reload never changes them. The default
/// is that of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// What the client's frames are held to.
    pub from_client: Limits,
    /// What the backend's frames are held to.
    pub from_backend: Limits,
    /// What a frame that breaks RFC 6455 leads to.
    pub strict: Strictness,
    /// Pings to the client; `None`: none of our own.
    pub heartbeat_client: Option<HeartbeatPolicy>,
    /// Pings to the backend, likewise.
    pub heartbeat_backend: Option<HeartbeatPolicy>,
    /// Longest time without a byte of a data frame in either direction; `None`: no limit.
    pub idle: Option<Duration>,
    /// Oldest a session becomes; it is closed at a quiet moment of the last fifth of this time.
    pub lifetime: Option<Duration>,
    /// How long a peer may take to answer a Close, and to take what was sent before it.
    pub close_grace: Duration,
    /// How long a peer may take nothing of what waits for it.
    pub write_timeout: Duration,
    /// Bytes a second that a peer must take at least while something waits for it, or it runs
    /// into [`SessionPolicy::write_timeout`]; `None`: any byte will do.
    pub min_write_rate: Option<NonZeroU64>,
    /// The code a draining proxy closes its clients with.
    pub drain_code: CloseCode,
    /// And the words beside it; at most [`CLOSE_REASON_MAX`](super::CLOSE_REASON_MAX) bytes.
    pub drain_reason: Arc<str>,
}

/// What one side's frames are held to; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message: payload as it stands on the wire, over all fragments, and after
    /// decompression where that is looked into.
    pub message: Option<Limit>,
    /// Payload bytes of a frame.
    pub frame: Option<Limit>,
    /// Frames of a message.
    pub fragments: Option<Limit>,
    /// Age of a message whose end has not come.
    pub message_age: Option<AgeLimit>,
    /// Messages begun.
    pub messages: Option<RateLimit>,
    /// Bytes of frames.
    pub bytes: Option<RateLimit>,
    /// Pings and pongs; answers to our own pings do not count.
    pub control_frames: Option<RateLimit>,
}

/// A largest number. Its action is [`LimitAction::Close`] or [`LimitAction::Report`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is still lawful.
    pub max: u64,
    /// What more leads to.
    pub action: LimitAction,
}

/// A longest time. Its action is [`LimitAction::Close`] or [`LimitAction::Report`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeLimit {
    /// What is still lawful.
    pub max: Duration,
    /// What more leads to.
    pub action: LimitAction,
}

/// A token bucket: full at first, refilled evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Tokens that come back in a second.
    pub per_second: NonZeroU64,
    /// Tokens that the bucket holds.
    pub burst: NonZeroU64,
    /// What an empty bucket leads to.
    pub action: LimitAction,
}

/// What crossing a limit leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAction {
    /// The session is closed.
    Close,
    /// That side is not read until tokens have come back; nothing is lost.
    Delay,
    /// It passes; the session remembers that it would have been closed.
    Report,
}

/// What a frame that breaks RFC 6455 leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// The session is closed.
    Enforce,
    /// The frame passes as it is, as long as it can be told where it ends; the session remembers
    /// that it would have been closed.
    Report,
}

/// Pings of our own to one side (RFC 6455 5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatPolicy {
    /// Longest time from one answer to the next ping; each time a random part of it is left out.
    pub interval: Duration,
    /// How long the pong may take, from the moment the ping was handed out.
    pub timeout: Duration,
}

impl SessionPolicy {
    /// What the frames of a side are held to.
    #[inline]
    pub fn limits(&self, from: Side) -> &Limits {
        match from {
            Side::Client => &self.from_client,
            Side::Backend => &self.from_backend,
        }
    }

    /// The pings that a side gets.
    #[inline]
    pub fn heartbeat(&self, to: Side) -> Option<HeartbeatPolicy> {
        match to {
            Side::Client => self.heartbeat_client,
            Side::Backend => self.heartbeat_backend,
        }
    }
}

impl Limits {
    /// The largest payload of a message in one frame of which no size limit has anything to say.
    #[inline]
    pub(super) fn whole_max(&self) -> u64 {
        let max = |cap: Option<Limit>| cap.map_or(u64::MAX, |cap| cap.max);
        max(self.message).min(max(self.frame))
    }
}

impl Default for SessionPolicy {
    fn default() -> Self {
        let control_frames = Some(RateLimit::new(50, LimitAction::Close));
        Self {
            from_client: Limits {
                message: Some(Limit::close(1 << 20)),
                fragments: Some(Limit::close(1024)),
                message_age: Some(AgeLimit {
                    max: Duration::from_secs(120),
                    action: LimitAction::Close,
                }),
                control_frames,
                ..Limits::default()
            },
            from_backend: Limits { control_frames, ..Limits::default() },
            strict: Strictness::Enforce,
            heartbeat_client: Some(HeartbeatPolicy {
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(10),
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
    /// More than `max` closes.
    pub const fn close(max: u64) -> Self {
        Self { max, action: LimitAction::Close }
    }
}

impl RateLimit {
    /// So many a second (at least one), and twice as many at once.
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
