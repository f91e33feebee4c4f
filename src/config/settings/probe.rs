//! `[pool.probe]`: how the backends of a pool are probed.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

/// How each backend of a pool is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSettings {
    /// What a probe does.
    pub kind: ProbeKind,
    /// From the start of one probe to the start of the next, on average.
    pub interval: Duration,
    /// The time for one probe, without the closing of its connection.
    pub timeout: Duration,
    /// Successful probes in a row after which a backend that is down is up.
    pub rise: NonZeroU32,
    /// Failed probes in a row after which a backend is down.
    pub fall: NonZeroU32,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Connects.
    Tcp,
    /// Sends a GET request, and expects one of these status codes.
    Http(ProbeRequest, Vec<RangeInclusive<u16>>),
    /// Opens a WebSocket, offering this subprotocol, and expects a pong.
    WebSocket(ProbeRequest, Option<String>),
}

/// The request that a probe sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Path and query.
    pub target: Uri,
    /// `Host`; by default the address of the backend.
    pub host: Option<HeaderValue>,
    /// Further fields. They replace `User-Agent`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl ProbeSettings {
    /// Default of `interval`.
    pub const INTERVAL: Duration = Duration::from_secs(10);
    /// Default of `timeout`, unless `interval` is shorter.
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// Default of `rise`.
    pub const RISE: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
    /// Default of `fall`.
    pub const FALL: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);
    /// Default of `status`.
    pub const STATUSES: [RangeInclusive<u16>; 2] = [200..=299, 300..=399];
}

impl ProbeKind {
    /// The value of `kind` in the file.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(..) => "http",
            Self::WebSocket(..) => "websocket",
        }
    }

    /// The request that is sent, if any.
    pub fn request(&self) -> Option<&ProbeRequest> {
        match self {
            Self::Tcp => None,
            Self::Http(request, _) | Self::WebSocket(request, _) => Some(request),
        }
    }
}
