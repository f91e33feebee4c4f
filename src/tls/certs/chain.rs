//! What stands in certificates: names, dates, and whether one vouches for the other.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

/// The DNS names of a leaf, lower-case.
pub(super) fn names(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let Some(leaf) = chain.first() else { return Vec::new() };
    EndEntityCert::try_from(leaf)
        .map(|leaf| leaf.valid_dns_names().map(str::to_ascii_lowercase).collect())
        .unwrap_or_default()
}

/// First and last moment of a leaf, in seconds since 1970, if it says so.
pub(super) fn validity(chain: &[CertificateDer<'_>]) -> Option<(u64, u64)> {
    let leaf = EndEntityCert::try_from(chain.first()?).ok()?;
    // webpki tells the dates of a certificate only where it is not valid, so it is asked about the
    // beginning and the end of time; of all that it judges, this comes first.
    let asked = |seconds| {
        let then = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        leaf.verify_for_usage(&[], &[], &[], then, KeyUsage::server_auth(), None, None).err()
    };
    let not_before = match asked(0) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
        Some(_) | None => 0,
    };
    match asked(u64::MAX) {
        Some(webpki::Error::CertExpired { not_after, .. }) => {
            Some((not_before, not_after.as_secs()))
        }
        Some(_) | None => None,
    }
}

/// What some clients may refuse this chain for; it is served as it is.
pub(super) fn weaknesses(chain: &[CertificateDer<'_>]) -> Vec<String> {
    // webpki reads any certificate so; what is for issuers alone it judges later.
    let read: Option<Vec<EndEntityCert<'_>>> =
        chain.iter().map(|certificate| EndEntityCert::try_from(certificate).ok()).collect();
    let Some(read) = read else {
        return vec!["one of the certificates behind the first cannot be read".into()];
    };
    let is_root = |of: &EndEntityCert<'_>| of.issuer() == of.subject();
    let mut found = Vec::new();
    for (place, pair) in read.windows(2).enumerate() {
        let [one, next] = pair else { continue };
        if one.issuer() == next.subject() {
            continue;
        }
        let (place, behind) = (place + 1, place + 2);
        found.push(if read.iter().any(|other| other.subject() == one.issuer()) {
            format!(
                "the chain is out of order: certificate {behind} is not the issuer of certificate \
                 {place}; each must be followed by its issuer"
            )
        } else {
            format!(
                "an intermediate is missing: certificate {behind} is not the issuer of \
                 certificate {place}, nor is any other here"
            )
        });
    }
    if let [leaf] = &read[..]
        && !is_root(leaf)
    {
        found.push(
            "an intermediate may be missing: the server's own certificate is alone here; if its \
             issuer is not a root that clients have, append the issuer (certbot: fullchain.pem)"
                .into(),
        );
    }
    if read.iter().skip(1).any(is_root) {
        found.push(
            "the root is included: clients have it or do not trust it; each handshake is the \
             longer for it"
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
    fn family() -> [CertificateDer<'static>; 3] {
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
        let [root, between, leaf] = family();
        let told = |chain: &[&CertificateDer<'static>]| {
            let chain: Vec<_> = chain.iter().map(|one| (*one).clone()).collect();
            weaknesses(&chain).join("; ")
        };
        assert_eq!(told(&[&leaf, &between]), "");
        // Signed by itself.
        assert_eq!(told(&[&root]), "");
        for (chain, words) in [
            (&[&leaf][..], &["an intermediate may be missing"][..]),
            (&[&leaf, &root], &["an intermediate is missing", "the root is included"]),
            (&[&leaf, &between, &root], &["the root is included"]),
            (&[&leaf, &root, &between], &["out of order: certificate 2 is not", "the root is"]),
            (&[&leaf, &CertificateDer::from(vec![1])], &["cannot be read"]),
        ] {
            let told = told(chain);
            for word in words {
                assert!(told.contains(word), "{word:?} is not in {told:?}");
            }
        }
        assert!(!told(&[&leaf, &between, &root]).contains("missing"));
    }

    #[test]
    fn dates_are_those_of_the_certificate() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 2, 3);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(validity(&[made.der().clone()]), Some((981_158_400, 1_893_456_000)));
        assert_eq!(validity(&[]), None);
    }
}
