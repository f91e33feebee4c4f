//! What is stored about a certificate and an account between attempts and over restarts. All times are in seconds
//! since 1970.

use serde::{Deserialize, Serialize};

/// `state.json` of a certificate. Unknown fields are ignored, so that versions can share a folder.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct CertRecord {
    /// The directory that issued the certificate in use; empty if none has.
    pub directory: String,
    /// When it was issued.
    pub issued_at: u64,
    /// Start and end of its validity.
    pub valid_from: u64,
    pub valid_until: u64,
    /// The order that is not finished.
    pub order: Option<OpenOrder>,
    /// Failed orders since the last success.
    pub backoff: Backoff,
    /// Why the last order failed; removed by a success.
    pub last_error: Option<LastError>,
    /// When the authority suggests to renew (RFC 9773).
    pub renewal_window: Option<RenewalWindow>,
    /// The certificate that the suggestion is for.
    pub renewal_info_for: String,
    /// When it was asked for.
    pub renewal_info_at: u64,
    /// How many seconds later it is asked for again.
    pub renewal_info_every: u64,
}

/// An order that was accepted. Its key is in `key.pem.new`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct OpenOrder {
    /// The URL of the order.
    pub url: String,
    /// Its names.
    pub names: Vec<String>,
    /// The directory that it was made at.
    pub directory: String,
}

/// Failures in a row, and for how long they delay the next attempt.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Backoff {
    pub failures: u32,
    /// When the last attempt failed.
    pub failed_at: u64,
    /// Seconds from then to the next attempt.
    pub delay: u64,
}

/// A failed order.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct LastError {
    pub at: u64,
    /// With the words of the authority.
    pub text: String,
}

/// When the authority suggests to renew.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct RenewalWindow {
    pub start: u64,
    pub end: u64,
    /// A page that says why.
    pub explanation: Option<String>,
}

/// `account.json`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct AccountRecord {
    /// The directory that the account belongs to.
    pub directory: String,
    /// The URL of the account; `None` if it is not registered.
    pub url: Option<String>,
    /// The address that the authority has.
    pub email: Option<String>,
    /// Failures of the authority itself.
    pub backoff: Backoff,
}
