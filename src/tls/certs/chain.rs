//! Reads a certificate chain: DNS names, validity period, and problems with its order.

use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error as ChainError, KeyUsage, anchor_from_trusted_cert};

/// The DNS names of the first certificate, in lower case.
pub(super) fn names(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let Some(leaf) = chain.first() else { return Vec::new() };
    EndEntityCert::try_from(leaf)
        .map(|leaf| leaf.valid_dns_names().map(str::to_ascii_lowercase).collect())
        .unwrap_or_default()
}

/// Start and end of the first certificate's validity period, in seconds since 1970; `None` if it
/// cannot be read.
pub(in crate::tls) fn validity(chain: &[CertificateDer<'_>]) -> Option<(u64, u64)> {
    let leaf = EndEntityCert::try_from(chain.first()?).ok()?;
    // webpki reports these dates only in the error for a time outside of the period, so verify at
    // the earliest and at the latest time. It checks the dates before everything else.
    let verify_at = |seconds| {
        let then = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        leaf.verify_for_usage(&[], &[], &[], then, KeyUsage::server_auth(), None, None).err()
    };
    let not_before = match verify_at(0) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
        Some(_) | None => 0,
    };
    match verify_at(u64::MAX) {
        Some(webpki::Error::CertExpired { not_after, .. }) => {
            Some((not_before, not_after.as_secs()))
        }
        Some(_) | None => None,
    }
}

/// Whether each certificate is followed by its issuer.
pub(super) fn is_linked(chain: &[CertificateDer<'_>]) -> bool {
    chain.windows(2).all(|pair| match pair {
        [one, next] => match (EndEntityCert::try_from(one), EndEntityCert::try_from(next)) {
            (Ok(one), Ok(next)) => one.issuer() == next.subject(),
            (_, _) => false,
        },
        _ => true,
    })
}

/// Checks the signatures of a chain up to its last certificate, as clients that trust that one do. `now` is in seconds
/// since 1970; outside of the validity of the first certificate it does not count, since this clock may be wrong. Signatures
/// by algorithms that are not known here are not checked.
///
/// # Errors
/// Why clients would reject the chain.
pub(super) fn verify(chain: &[CertificateDer<'_>], now: u64) -> Result<(), ChainError> {
    let [leaf, between @ .., last] = chain else { return Ok(()) };
    let (from, until) = validity(chain).unwrap_or((now, now));
    let then = UnixTime::since_unix_epoch(Duration::from_secs(now.max(from).min(until)));
    let anchor = anchor_from_trusted_cert(last)?;
    let algorithms = default_provider().signature_verification_algorithms.all;
    let leaf = EndEntityCert::try_from(leaf)?;
    let anchors = [anchor];
    let verified = leaf.verify_for_usage(
        algorithms,
        &anchors,
        between,
        then,
        KeyUsage::server_auth(),
        None,
        None,
    );
    match verified {
        Ok(_) | Err(ChainError::UnsupportedSignatureAlgorithmContext(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Problems for which some clients may reject this chain; it is sent as it is.
pub(super) fn problems(chain: &[CertificateDer<'_>]) -> Vec<String> {
    // webpki parses any certificate as an end entity; it checks the rules for issuers later.
    let read: Option<Vec<EndEntityCert<'_>>> =
        chain.iter().map(|certificate| EndEntityCert::try_from(certificate).ok()).collect();
    let Some(read) = read else {
        return vec!["one of the certificates after the first cannot be read".into()];
    };
    let is_root = |of: &EndEntityCert<'_>| of.issuer() == of.subject();
    let mut found = Vec::new();
    for (index, pair) in read.windows(2).enumerate() {
        let [one, next] = pair else { continue };
        if one.issuer() == next.subject() {
            continue;
        }
        let (number, follower) = (index + 1, index + 2);
        found.push(if read.iter().any(|other| other.subject() == one.issuer()) {
            format!(
                "the chain is out of order: certificate {follower} is not the issuer of \
                 certificate {number}; each certificate must be followed by its issuer"
            )
        } else {
            format!(
                "an intermediate is missing: the file does not contain the issuer of certificate \
                 {number}; insert it after that certificate"
            )
        });
    }
    if let [leaf] = &read[..]
        && !is_root(leaf)
    {
        found.push(
            "an intermediate may be missing: the file contains only the server's own certificate; \
             if its issuer is not a root that clients have, append the issuer (certbot: \
             fullchain.pem)"
                .into(),
        );
    }
    if read.iter().skip(1).any(is_root) {
        found.push(
            "the root is included: clients use their own copy, so it only makes each handshake \
             longer; remove it"
                .into(),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    /// A root, an intermediate and a leaf.
    fn chain_of_three() -> [CertificateDer<'static>; 3] {
        let params = |name: &str, is_ca| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = is_ca;
            params
        };
        let ca = || IsCa::Ca(BasicConstraints::Unconstrained);
        let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
        let (root, between) = (params("root", ca()), params("between", ca()));
        let first = root.self_signed(&keys[0]).unwrap();
        let root = Issuer::from_params(&root, &keys[0]);
        let second = between.signed_by(&keys[1], &root).unwrap();
        let between = Issuer::from_params(&between, &keys[1]);
        let third = params("leaf.example", IsCa::NoCa).signed_by(&keys[2], &between).unwrap();
        [first, second, third].map(|made| made.der().clone())
    }

    // Requirements: CK03.
    #[test]
    fn warns_about_chains_clients_may_reject() {
        let [root, between, leaf] = chain_of_three();
        let found = |chain: &[&CertificateDer<'static>]| {
            let chain: Vec<_> = chain.iter().map(|one| (*one).clone()).collect();
            problems(&chain).join("; ")
        };
        assert_eq!(found(&[&leaf, &between]), "");
        // Self-signed.
        assert_eq!(found(&[&root]), "");
        for (chain, words) in [
            (&[&leaf][..], &["an intermediate may be missing"][..]),
            (&[&leaf, &root], &["an intermediate is missing", "the root is included"]),
            (&[&leaf, &between, &root], &["the root is included"]),
            (&[&leaf, &root, &between], &["out of order: certificate 2 is not", "the root is"]),
            (&[&leaf, &CertificateDer::from(vec![1])], &["cannot be read"]),
        ] {
            let found = found(chain);
            for word in words {
                assert!(found.contains(word), "{word:?} is not in {found:?}");
            }
        }
        assert!(!found(&[&leaf, &between, &root]).contains("missing"));
    }

    #[test]
    fn validity_matches_the_certificate() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 2, 3);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(validity(&[made.der().clone()]), Some((981_158_400, 1_893_456_000)));
        assert_eq!(validity(&[]), None);
    }
}
