//! The limits that one side's frames may cross: one name each, and the slug, key, words and close
//! code that follow from it.

use super::close::CloseCode;
use super::limits::{LimitAction, Limits, RateLimit};
use super::show::{duration, rate, size};
use super::{ProtocolError, Side};

/// A limit of [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// [`Limits::message`], on the wire.
    Message,
    /// [`Limits::message`], after decompression.
    Inflated,
    /// [`Limits::frame`].
    Frame,
    /// [`Limits::fragments`].
    Fragments,
    /// [`Limits::message_age`].
    MessageAge,
    /// [`Limits::messages`].
    Messages,
    /// [`Limits::bytes`].
    Bytes,
    /// [`Limits::control_frames`].
    Controls,
}

impl LimitKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Message,
        Self::Inflated,
        Self::Frame,
        Self::Fragments,
        Self::MessageAge,
        Self::Messages,
        Self::Bytes,
        Self::Controls,
    ];

    /// The name in records and metric labels.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Message => "message_too_big",
            Self::Inflated => "decompressed_too_big",
            Self::Frame => "frame_too_big",
            Self::Fragments => "too_many_fragments",
            Self::MessageAge => "message_too_old",
            Self::Messages => "message_rate",
            Self::Bytes => "byte_rate",
            Self::Controls => "control_rate",
        }
    }

    /// The configuration key.
    pub fn key(self, from: Side) -> &'static str {
        match (self, from) {
            (Self::Message | Self::Inflated, Side::Client) => "limits.message_from_client",
            (Self::Message | Self::Inflated, Side::Backend) => "limits.message_from_backend",
            (Self::Frame, Side::Client) => "limits.frame_from_client",
            (Self::Frame, Side::Backend) => "limits.frame_from_backend",
            (Self::Fragments, Side::Client) => "limits.fragments_from_client",
            (Self::Fragments, Side::Backend) => "limits.fragments_from_backend",
            (Self::MessageAge, Side::Client) => "limits.message_age_from_client",
            (Self::MessageAge, Side::Backend) => "limits.message_age_from_backend",
            (Self::Messages, Side::Client) => "limits.messages_from_client",
            (Self::Messages, Side::Backend) => "limits.messages_from_backend",
            (Self::Bytes, Side::Client) => "limits.bytes_from_client",
            (Self::Bytes, Side::Backend) => "limits.bytes_from_backend",
            (Self::Controls, Side::Client) => "limits.control_frames_from_client",
            (Self::Controls, Side::Backend) => "limits.control_frames_from_backend",
        }
    }

    /// That key's value, as an operator would write it: `1MiB`, `50/s`.
    pub fn value(self, limits: &Limits) -> Option<String> {
        match self {
            Self::Message | Self::Inflated => limits.message.map(|cap| size(cap.max)),
            Self::Frame => limits.frame.map(|cap| size(cap.max)),
            Self::Fragments => limits.fragments.map(|cap| cap.max.to_string()),
            Self::MessageAge => limits.message_age.map(|age| duration(age.max)),
            Self::Messages => limits.messages.map(|rate| counts(&rate)),
            Self::Bytes => limits.bytes.map(|bytes| {
                let burst = size(bytes.burst.get());
                format!("{}, burst {burst}", rate(bytes.per_second.get()))
            }),
            Self::Controls => limits.control_frames.map(|rate| counts(&rate)),
        }
    }

    /// What crossing it leads to.
    pub fn action(self, limits: &Limits) -> Option<LimitAction> {
        match self {
            Self::Message | Self::Inflated => limits.message.map(|cap| cap.action),
            Self::Frame => limits.frame.map(|cap| cap.action),
            Self::Fragments => limits.fragments.map(|cap| cap.action),
            Self::MessageAge => limits.message_age.map(|age| age.action),
            Self::Messages => limits.messages.map(|rate| rate.action),
            Self::Bytes => limits.bytes.map(|rate| rate.action),
            Self::Controls => limits.control_frames.map(|rate| rate.action),
        }
    }

    /// What the side at fault is told: 1009 for what is too large, else 1008.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Message | Self::Inflated | Self::Frame => CloseCode::TOO_BIG,
            Self::Fragments | Self::MessageAge | Self::Messages | Self::Bytes | Self::Controls => {
                CloseCode::POLICY_VIOLATION
            }
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Message => "message too big",
            Self::Inflated => "message too big once decompressed",
            Self::Frame => "frame too big",
            Self::Fragments => "too many fragments",
            Self::MessageAge => "message took too long",
            Self::Messages => "too many messages",
            Self::Bytes => "too many bytes",
            Self::Controls => "too many control frames",
        }
    }
}

fn counts(rate: &RateLimit) -> String {
    format!("{}/s, burst {}", rate.per_second, rate.burst)
}

/// Something a session would have been closed for, had it not been set to `report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// Over a limit.
    Over(LimitKind),
    /// A broken rule of the protocol.
    Breach(ProtocolError),
}

impl Violation {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        LimitKind::ALL.map(Self::Over).into_iter().chain(ProtocolError::ALL.map(Self::Breach))
    }

    /// The name in records and metric labels; several breaches share one.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Over(rule) => rule.slug(),
            Self::Breach(breach) => breach.slug(),
        }
    }

    fn bit(self) -> u32 {
        match self {
            Self::Over(rule) => 1 << rule as u32,
            Self::Breach(breach) => 1 << (LimitKind::ALL.len() as u32 + breach as u32),
        }
    }
}

/// What one side would have been closed for so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportedViolations(u32);

impl ReportedViolations {
    /// Each offence once, without those that `before` has.
    pub fn since(self, before: Self) -> impl Iterator<Item = Violation> {
        let new = self.0 & !before.0;
        Violation::all().filter(move |offence| new & offence.bit() != 0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All that either has.
    #[inline]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline]
    pub(super) fn add(&mut self, offence: Violation) {
        self.0 |= offence.bit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_offence_is_told_once() {
        let mut reported = ReportedViolations::default();
        for (at, offence) in Violation::all().enumerate() {
            let before = reported;
            reported.add(offence);
            reported.add(offence);
            assert_eq!(reported.since(before).collect::<Vec<_>>(), [offence]);
            assert_eq!(before.and(reported), reported);
            assert_eq!(reported.since(ReportedViolations::default()).count(), at + 1);
        }
    }
}
