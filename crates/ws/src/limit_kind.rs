//! The limits on the frames of one side, each with its name, configuration key and close code.

use crate::close_code::CloseCode;
use crate::policy::{LimitAction, Limits, RateLimit};
use crate::side::Side;
use crate::units::{format_duration, format_rate, format_size};

/// A limit of [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// [`Limits::message`], for the size as received.
    Message,
    /// [`Limits::message`], for the decompressed size.
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
    ControlFrames,
}

impl LimitKind {
    /// Every variant.
    pub const ALL: [Self; 8] = [
        Self::Message,
        Self::Inflated,
        Self::Frame,
        Self::Fragments,
        Self::MessageAge,
        Self::Messages,
        Self::Bytes,
        Self::ControlFrames,
    ];

    /// Whether it is a limit on the size of a frame or message.
    pub fn is_size(self) -> bool {
        match self {
            Self::Message | Self::Inflated | Self::Frame => true,
            Self::Fragments
            | Self::MessageAge
            | Self::Messages
            | Self::Bytes
            | Self::ControlFrames => false,
        }
    }

    /// The name in records and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message_too_big",
            Self::Inflated => "decompressed_too_big",
            Self::Frame => "frame_too_big",
            Self::Fragments => "too_many_fragments",
            Self::MessageAge => "message_too_old",
            Self::Messages => "message_rate",
            Self::Bytes => "byte_rate",
            Self::ControlFrames => "control_rate",
        }
    }

    /// The configuration key that sets the limit for frames from this side.
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
            (Self::ControlFrames, Side::Client) => "limits.control_frames_from_client",
            (Self::ControlFrames, Side::Backend) => "limits.control_frames_from_backend",
        }
    }

    /// The configured value in the notation of the configuration file, such as `1MiB` or
    /// `50/s, burst 100`;
    /// `None` if there is no limit.
    pub fn value(self, limits: &Limits) -> Option<String> {
        match self {
            Self::Message | Self::Inflated => limits.message.map(|limit| format_size(limit.max)),
            Self::Frame => limits.frame.map(|limit| format_size(limit.max)),
            Self::Fragments => limits.fragments.map(|limit| limit.max.to_string()),
            Self::MessageAge => limits.message_age.map(|limit| format_duration(limit.max)),
            Self::Messages => limits.messages.map(|limit| format_count_rate(&limit)),
            Self::Bytes => limits.bytes.map(|limit| {
                let burst = format_size(limit.burst.get());
                format!("{}, burst {burst}", format_rate(limit.per_second.get()))
            }),
            Self::ControlFrames => limits.control_frames.map(|limit| format_count_rate(&limit)),
        }
    }

    /// The action on exceeding the limit; `None` if there is no limit.
    pub fn action(self, limits: &Limits) -> Option<LimitAction> {
        match self {
            Self::Message | Self::Inflated => limits.message.map(|limit| limit.action),
            Self::Frame => limits.frame.map(|limit| limit.action),
            Self::Fragments => limits.fragments.map(|limit| limit.action),
            Self::MessageAge => limits.message_age.map(|limit| limit.action),
            Self::Messages => limits.messages.map(|limit| limit.action),
            Self::Bytes => limits.bytes.map(|limit| limit.action),
            Self::ControlFrames => limits.control_frames.map(|limit| limit.action),
        }
    }

    /// The close code sent to the side that exceeded the limit: 1009 for sizes, 1008 otherwise
    /// (RFC 6455 7.4.1).
    pub fn close_code(self) -> CloseCode {
        if self.is_size() { CloseCode::TOO_BIG } else { CloseCode::POLICY_VIOLATION }
    }

    /// A short description for close reasons.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Message => "message too big",
            Self::Inflated => "message too big once decompressed",
            Self::Frame => "frame too big",
            Self::Fragments => "too many fragments",
            Self::MessageAge => "message took too long",
            Self::Messages => "too many messages",
            Self::Bytes => "too many bytes",
            Self::ControlFrames => "too many control frames",
        }
    }
}

fn format_count_rate(rate: &RateLimit) -> String {
    format!("{}/s, burst {}", rate.per_second, rate.burst)
}
