//! What is stored about a certificate and an account between attempts and over restarts. All times are in seconds
//! since 1970.

use std::collections::BTreeMap;

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
    /// What was tried when they failed; empty if no order has failed.
    pub failed_with: String,
    /// Failed orders since the last success with which something else was tried.
    pub other_failures: BTreeMap<String, Backoff>,
    /// TXT records that the hook has set or may have set, and not removed.
    pub dns_records: Vec<DnsRecord>,
    /// Whether an operator asked for an order that has failed since; it is due until one succeeds.
    pub is_requested: bool,
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

/// A TXT record of a challenge.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct DnsRecord {
    pub name: String,
    pub value: String,
}

impl CertRecord {
    /// Makes the back-off that of orders with these settings. Returns one of other settings that no longer holds; it is
    /// kept for the case that they are used again.
    pub fn tries(&mut self, with: &str) -> Option<Backoff> {
        exchange(with, &mut self.failed_with, &mut self.backoff, &mut self.other_failures)
    }

    /// Failed orders since the last success, whatever was tried.
    pub fn failures(&self) -> u32 {
        let others = self.other_failures.values().map(|backoff| backoff.failures);
        others.fold(self.backoff.failures, u32::saturating_add)
    }
}

impl AccountRecord {
    /// Makes the back-off that of attempts with these settings, as [`CertRecord::tries`] does.
    pub fn tries(&mut self, with: &str) -> Option<Backoff> {
        exchange(with, &mut self.failed_with, &mut self.backoff, &mut self.other_failures)
    }
}

/// Takes the back-off of `with`, and puts that of other settings in its place. Each has its own, so that processes
/// with one folder and different settings do not make each other forget their delays.
fn exchange(
    with: &str,
    failed_with: &mut String,
    backoff: &mut Backoff,
    others: &mut BTreeMap<String, Backoff>,
) -> Option<Backoff> {
    if failed_with == with {
        return None;
    }
    let taken = others.remove(with);
    let before = std::mem::replace(failed_with, with.to_owned());
    if *backoff == Backoff::default() || before.is_empty() {
        // Failures that a version without this key has stored may be of any settings.
        *backoff = taken.unwrap_or(*backoff);
        return None;
    }
    let replaced = std::mem::replace(backoff, taken.unwrap_or_default());
    others.insert(before, replaced);
    if others.len() > OTHERS_MAX {
        let oldest = others.iter().min_by_key(|(_, backoff)| backoff.failed_at);
        if let Some(oldest) = oldest.map(|(with, _)| with.clone()) {
            others.remove(&oldest);
        }
    }
    Some(replaced)
}

/// How many settings are remembered with which orders have failed.
const OTHERS_MAX: usize = 8;

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
    /// The directory and the account with which they happened; empty if there are none.
    pub failed_with: String,
    /// Those of other directories on the same host, and with other accounts.
    pub other_failures: BTreeMap<String, Backoff>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(at: u64) -> Backoff {
        Backoff { failures: 1, failed_at: at, delay: 600 }
    }

    #[test]
    fn each_setting_has_its_own_delay() {
        let mut record = CertRecord::default();
        assert_eq!(record.tries("a"), None);
        record.backoff = failed(1);
        assert!(record.tries("a").is_none() && record.backoff == failed(1));
        assert_eq!(record.tries("b"), Some(failed(1)), "the delay of a does not hold for b");
        assert_eq!((record.backoff, record.failures()), (Backoff::default(), 1));
        record.backoff = failed(2);
        assert_eq!(record.tries("a"), Some(failed(2)));
        // Two processes with different settings do not forget their delays.
        assert_eq!((record.backoff, record.failures()), (failed(1), 2));
        for n in 0..100 {
            record.backoff = failed(n);
            record.tries(&n.to_string());
        }
        assert_eq!(record.other_failures.len(), OTHERS_MAX);
    }

    #[test]
    fn delay_of_an_earlier_version_holds() {
        let mut record = CertRecord { backoff: failed(1), ..CertRecord::default() };
        assert_eq!(record.tries("a"), None);
        assert_eq!(record.backoff, failed(1));
    }
}
