//! Why an order failed, and what that means for the next one.

use std::fmt;
use std::time::Duration;

use super::protocol::one_line;

/// Why a request or an order failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeFailure {
    /// For the operator, on one line: what failed, and what the authority says.
    pub text: String,
    /// The type of the problem without its prefix, for example `badNonce`; empty if the authority sent none.
    pub kind: String,
    /// What other orders can expect.
    pub scope: FailureScope,
    /// How long the authority asks to wait.
    pub retry_after: Option<Duration>,
}

/// What a failure means for other orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureScope {
    /// It concerns this certificate only.
    Certificate,
    /// The authority cannot be used at present, so others would fail as well.
    Directory,
}

impl AcmeFailure {
    /// A failure of this certificate.
    pub fn certificate(text: impl Into<String>) -> Self {
        Self {
            text: one_line(&text.into()),
            kind: String::new(),
            scope: FailureScope::Certificate,
            retry_after: None,
        }
    }

    /// A failure of the authority, or of the connection to it.
    pub fn directory(text: impl Into<String>) -> Self {
        Self { scope: FailureScope::Directory, ..Self::certificate(text) }
    }

    /// The same failure, with what was being done.
    pub fn while_doing(mut self, what: &str) -> Self {
        self.text = one_line(&format!("{what}: {}", self.text));
        self
    }
}

impl fmt::Display for AcmeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_an_authority_is_bounded() {
        let failure = AcmeFailure::certificate("x\n".repeat(100_000)).while_doing("ordering");
        assert!(failure.text.len() < 700 && !failure.text.contains('\n'), "{failure}");
    }
}
