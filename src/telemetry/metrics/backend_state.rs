//! The state of a backend, as metrics, status and `/healthz` show it.

/// What the last connection attempt showed about a backend, or that an operator has drained it. The order is
/// that of preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendState {
    /// The last connection attempt succeeded.
    Up,
    /// No attempt has ended since the start of the process.
    #[default]
    Untried,
    /// The last connection attempt failed.
    Down,
    /// An operator has drained the backend.
    Drained,
}

impl BackendState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Up, Self::Untried, Self::Down, Self::Drained];

    /// The value in metric labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Untried => "untried",
            Self::Down => "down",
            Self::Drained => "drained",
        }
    }

    /// Whether the backend counts as available to new tunnels.
    pub fn is_available(self) -> bool {
        matches!(self, Self::Up | Self::Untried)
    }
}
