//! Why the address of a client is rejected.

use std::fmt;

use ipnet::IpNet;

/// The list that decides about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRule {
    /// `deny` contains this network, and `allow` no smaller one.
    Denied(IpNet),
    /// `allow` does not contain the address.
    NotAllowed,
}

/// The message for the operator.
impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied(_) => "client address denied",
            Self::NotAllowed => "client address not in the list of those allowed",
        })
    }
}
