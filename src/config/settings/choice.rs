//! How a pool chooses among its backends.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::values::hash_source::HashSource;
use crate::config::values::share::Share;

/// The keys of a `[[pool]]` about choosing a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceSettings {
    /// What is hashed.
    pub hash: HashSource,
    /// Which backend a request goes to.
    pub balance: Balance,
    /// How much of its share a backend may have before keys go to the next one, in percent.
    pub hash_balance_factor: Option<u32>,
    /// How long the weight of a backend grows after it has recovered.
    pub slow_start: Option<Duration>,
    /// Which requests go to the canary backends.
    pub canary: CanarySettings,
    /// How many handshakes wait for a backend that is full, and how long; `None` if none waits.
    pub queue: Option<QueueSettings>,
    /// The cookie that names the backend of a client; `None` if there is none.
    pub pin: Option<PinSettings>,
    /// When tunnels whose clients have another backend now are closed.
    pub rebalance: RebalanceMode,
    /// How many of them are closed per second.
    pub rebalance_rate: NonZeroU32,
}

/// When tunnels whose clients have another backend now are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceMode {
    /// By command only.
    Off,
    /// Also after members, weights or the share of canaries have changed, or a member has recovered.
    OnScaleOut,
}

impl RebalanceMode {
    /// Every value with its name in the file.
    pub const NAMES: [(&str, Self); 2] = [("off", Self::Off), ("on_scale_out", Self::OnScaleOut)];

    /// The name in the file.
    pub fn name(self) -> &'static str {
        let mut names = Self::NAMES.into_iter();
        names.find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

/// `[pool.canary]`: which requests go to the canary backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CanarySettings {
    /// The share of the keys.
    pub share: Share,
    /// What marks further requests: a cookie, header field or query parameter that is not empty.
    pub request: Option<HashSource>,
}

/// Handshakes that wait while every backend has `max_tunnels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Maximum number of them.
    pub length: usize,
    /// Longest time that each waits.
    pub time: Duration,
}

/// `[pool.pin]`: a cookie that names the backend of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinSettings {
    /// Name of the cookie.
    pub cookie: String,
    /// File with the keys.
    pub key_file: PathBuf,
    /// The rest of `Set-Cookie`.
    pub attributes: CookieAttributes,
}

/// Which requests of a browser carry a cookie (RFC 6265 5.2, and the drafts of its successor).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieAttributes {
    /// Paths that start like this.
    pub path: String,
    /// This domain and its subdomains; `None` for the host alone.
    pub domain: Option<String>,
    /// Over TLS only.
    pub secure: bool,
    /// Whether scripts cannot read it.
    pub http_only: bool,
    /// Requests that other sites cause.
    pub same_site: SameSite,
    /// Whether each site that embeds the application has a cookie of its own (CHIPS).
    pub partitioned: bool,
}

/// Requests from pages of other sites that carry a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// None except links.
    Lax,
    /// None.
    Strict,
    /// All.
    None,
}

impl SameSite {
    /// Every value with its name in the file.
    pub const NAMES: [(&str, Self); 3] =
        [("lax", Self::Lax), ("strict", Self::Strict), ("none", Self::None)];

    /// The value of the attribute.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::Strict => "Strict",
            Self::None => "None",
        }
    }
}

impl Default for CookieAttributes {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            domain: None,
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
            partitioned: false,
        }
    }
}

impl Default for ChoiceSettings {
    fn default() -> Self {
        Self {
            hash: HashSource::Client,
            balance: Balance::Hash,
            hash_balance_factor: None,
            slow_start: None,
            canary: CanarySettings::default(),
            queue: None,
            pin: None,
            rebalance: RebalanceMode::Off,
            rebalance_rate: REBALANCE_RATE,
        }
    }
}

/// Slow enough for applications that load much for each client.
const REBALANCE_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);

/// Which backend a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The one that the hash selects.
    Hash,
    /// The one with the fewest open tunnels and requests for its weight.
    LeastConnections,
    /// Each in its turn.
    RoundRobin,
    /// The less loaded of two that are drawn at random.
    RandomTwo,
}

impl Balance {
    /// Every value with its name in the file.
    pub const NAMES: [(&str, Self); 4] = [
        ("hash", Self::Hash),
        ("least-connections", Self::LeastConnections),
        ("round-robin", Self::RoundRobin),
        ("random-two", Self::RandomTwo),
    ];

    /// The name in the file.
    pub fn name(self) -> &'static str {
        let mut names = Self::NAMES.into_iter();
        names.find(|(_, balance)| *balance == self).map_or("", |(name, _)| name)
    }
}
