//! Which certificate a client gets, and whether it can accept it.

use super::{CertTable, chain};
use crate::telemetry::timestamp::rfc3339;

/// What a client that asks for a host gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownCertificate {
    /// A certificate within its validity: its first name.
    Valid(String),
    /// One that clients reject, and why.
    Invalid(String),
    /// One for the host is ordered, and has not been issued.
    NotIssued,
    /// None: the handshake fails.
    None,
}

impl CertTable {
    /// What a client that asks for this host at `now`, in seconds since 1970, gets.
    pub fn shown_for(&self, host: &str, now: u64) -> ShownCertificate {
        let is_awaited = |of: &super::ordered_cert::OrderedCert| {
            of.issued.is_none() && of.certificate.names.iter().any(|name| name == host)
        };
        if self.ordered().iter().any(is_awaited) {
            return ShownCertificate::NotIssued;
        }
        let Some(key) = self.find(Some(host)) else { return ShownCertificate::None };
        let name = chain::names(&key.cert).into_iter().next();
        let name = name.unwrap_or_else(|| "a certificate without names".to_owned());
        match chain::validity(&key.cert) {
            Some((from, _)) if now < from => ShownCertificate::Invalid(format!(
                "{name}: not valid before {}; clients reject it",
                rfc3339(from)
            )),
            Some((_, until)) if now > until => ShownCertificate::Invalid(format!(
                "{name}: expired at {}; clients reject it",
                rfc3339(until)
            )),
            Some(_) | None => ShownCertificate::Valid(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    #[test]
    fn certificate_outside_its_validity_is_rejected() {
        let table = CertTable::load(&[settings(&["a.example"], false)], None).unwrap();
        let (_, key) = table.listed().next().unwrap();
        let (from, until) = chain::validity(&key.unwrap().cert).unwrap();
        for now in [from, until] {
            let shown = table.shown_for("a.example", now);
            assert_eq!(shown, ShownCertificate::Valid("a.example".to_owned()));
        }
        for (now, words) in [(from - 1, "not valid before"), (until + 1, "expired at")] {
            let ShownCertificate::Invalid(problem) = table.shown_for("a.example", now) else {
                panic!("{now} is within the validity");
            };
            assert!(problem.starts_with(&format!("a.example: {words}")), "{problem}");
        }
        assert_eq!(table.shown_for("b.example", from), ShownCertificate::None);
    }
}
