//! Checks a certificate that an authority has issued, before it replaces another one.

use rustls::sign::CertifiedKey;

use super::{chain, pair};
use crate::config::settings::CertificateSource;
use crate::telemetry::timestamp::rfc3339;

/// Checks whether a chain can be served for `names` at `now`, in seconds since 1970.
///
/// # Errors
/// What is wrong with it.
pub fn check_issued(
    chain: String,
    key: String,
    names: &[String],
    now: u64,
) -> Result<CertifiedKey, String> {
    let pair = pair::read(&CertificateSource::Memory { chain, key }).map_err(|problems| {
        let problems: Vec<String> = problems.into_iter().map(|of| of.problem).collect();
        problems.join("; ")
    })?;
    let covered = chain::names(&pair.key.cert);
    if let Some(missing) = names.iter().find(|name| !covered.contains(name)) {
        return Err(format!("it is not for {missing}, but for {}", covered.join(", ")));
    }
    if !chain::is_linked(&pair.key.cert) {
        return Err("a certificate in the chain is not the issuer of the one before it".into());
    }
    chain::verify(&pair.key.cert, now).map_err(|error| {
        format!("a certificate in the chain is not signed by the one after it, or clients reject it: {error}")
    })?;
    match chain::validity(&pair.key.cert) {
        None => Err("its validity period cannot be read".into()),
        Some((from, until)) if until <= from || until <= now => Err(format!(
            "it is valid only until {}, and the clock of this machine says {}",
            rfc3339(until),
            rfc3339(now)
        )),
        Some(_) => Ok(pair.key),
    }
}

/// Start and end of the validity of an issued certificate, in seconds since 1970; zeros if they cannot be read.
pub fn validity_of(key: &CertifiedKey) -> (u64, u64) {
    chain::validity(&key.cert).unwrap_or_default()
}

/// The names of a certificate.
pub fn names_of(key: &CertifiedKey) -> Vec<String> {
    chain::names(&key.cert)
}

/// Whether a certificate is for all of these names.
pub fn covers(key: &CertifiedKey, names: &[String]) -> bool {
    let covered = chain::names(&key.cert);
    names.iter().all(|name| covered.contains(name))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
    };

    use super::*;

    struct TestIssuer(Issuer<'static, KeyPair>, String);

    fn issuer(name: &str) -> TestIssuer {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        TestIssuer(Issuer::new(params, key), pem)
    }

    /// Leaf and issuer, and the key of the leaf.
    fn issue(names: &[&str], by: &TestIssuer, until: i32) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &by.0).unwrap().pem() + &by.1, key.serialize_pem())
    }

    #[test]
    fn only_certificates_that_can_be_served_are_accepted() {
        let (ca, other) = (issuer("ca"), issuer("other"));
        let wanted = ["a.example".to_owned(), "*.b.example".to_owned()];
        let now = 1_800_000_000;
        let check = |(chain, key): (String, String)| check_issued(chain, key, &wanted, now).err();
        let good = issue(&["A.example", "*.b.example", "c.example"], &ca, 2035);
        assert_eq!(check(good.clone()), None);
        let error = |pair, words: &str| {
            let error = check(pair).unwrap();
            assert!(error.contains(words), "{error}");
        };
        error(issue(&["a.example"], &ca, 2035), "it is not for *.b.example, but for a.example");
        error(issue(&["a.example", "*.b.example"], &ca, 2021), "valid only until 2021-01-01");
        let (chain, key) = issue(&["a.example", "*.b.example"], &ca, 2035);
        error((chain.replace(&ca.1, &other.1), key), "not the issuer of the one before");
        // The name of the issuer is right, and its key is another one.
        let (chain, key) = issue(&["a.example", "*.b.example"], &ca, 2035);
        error((chain.replace(&ca.1, &issuer("ca").1), key), "not signed by the one after it");
        error((good.0.clone(), issue(&["a.example"], &ca, 2035).1), "not the key");
        error((good.0[..good.0.len() / 4].to_owned(), good.1.clone()), "cut short");
        error((String::new(), good.1), "no certificate");
    }
}
