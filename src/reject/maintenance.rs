//! Why a route is in maintenance.

use std::fmt;

/// What has switched the maintenance of a route on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaintenanceCause {
    /// An operator.
    Command,
    /// The file of the route exists.
    File,
}

impl MaintenanceCause {
    /// The value in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::File => "file",
        }
    }
}

/// The message for the operator.
impl fmt::Display for MaintenanceCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "route in maintenance (`tidegate ctl maintenance`)",
            Self::File => "route in maintenance, because its maintenance file exists",
        })
    }
}
