//! How a pool chooses among its backends.

use std::time::Duration;

use crate::config::values::hash_source::HashSource;

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
}

impl Default for ChoiceSettings {
    fn default() -> Self {
        Self {
            hash: HashSource::Client,
            balance: Balance::Hash,
            hash_balance_factor: None,
            slow_start: None,
        }
    }
}

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
