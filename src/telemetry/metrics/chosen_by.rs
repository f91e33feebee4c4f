//! Why a request goes to a backend, as metrics and `ctl explain` show it.

/// Why a backend comes first among those of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// It has the highest score for the key.
    Hash,
    /// The one with the highest score has more than its share.
    BalanceFactor,
    /// The key has open tunnels or requests there.
    Affinity,
    /// The pin cookie of the client names it.
    Pin,
    /// The pin cookie of the client has a value of another proxy, which names it.
    CookieValue,
    /// It has the lowest load for its weight.
    LeastConnections,
    /// It is its turn.
    RoundRobin,
    /// It has the lower load of two.
    RandomTwo,
}

impl ChosenBy {
    /// Every reason, in the order of its counter.
    pub const ALL: [Self; 8] = [
        Self::Hash,
        Self::BalanceFactor,
        Self::Affinity,
        Self::Pin,
        Self::CookieValue,
        Self::LeastConnections,
        Self::RoundRobin,
        Self::RandomTwo,
    ];

    /// The value in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::BalanceFactor => "hash_balance_factor",
            Self::Affinity => "affinity",
            Self::Pin => "pin",
            Self::CookieValue => "cookie_value",
            Self::LeastConnections => "least_connections",
            Self::RoundRobin => "round_robin",
            Self::RandomTwo => "random_two",
        }
    }
}
