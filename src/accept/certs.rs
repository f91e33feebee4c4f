//! PEM files become certificates that rustls can show, found by server name.
//!
//! `rustls-pemfile` is used in this file alone (`deny.toml` says why).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Later;
use crate::config::settings::{CertificateSettings, CertificateSource};
use crate::observe::metrics::CertificateState;

/// All certificates of a generation, by the names they cover.
#[derive(Debug, Default)]
pub struct CertTable {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
    states: Vec<CertificateState>,
}

impl CertTable {
    /// Reads every chain and key; all faults at once.
    pub fn load(certificates: &[CertificateSettings]) -> Result<Self, Vec<Later>> {
        let mut table = Self::default();
        let mut faults = Vec::new();
        for (index, certificate) in certificates.iter().enumerate() {
            let insert = |key| {
                table.states.extend(state(index, &key));
                table.insert(Arc::new(key), certificate.default)
            };
            if let Err(Flaw { of, problem }) = read(&certificate.source).and_then(insert) {
                faults.push(Later { key: format!("certificate[{index}].{of}"), problem });
            }
        }
        if faults.is_empty() { Ok(table) } else { Err(faults) }
    }

    /// How long each certificate lasts.
    pub fn states(&self) -> &[CertificateState] {
        &self.states
    }

    /// Whether a client that was shown the certificate for `sni` would also accept it for `host`
    /// (RFC 9110 15.5.20): both lead to the same certificate.
    pub fn share(&self, sni: &str, host: &str) -> bool {
        match (self.find(Some(sni)), self.find(Some(host))) {
            (Some(shown), Some(wanted)) => Arc::ptr_eq(&shown, &wanted),
            (_, None) => true,
            (None, Some(_)) => false,
        }
    }

    /// The first name of the certificate that a client who asks for this one is shown.
    pub fn shown(&self, host: &str) -> Option<String> {
        self.find(Some(host)).map(|key| names(&key).into_iter().next().unwrap_or_default())
    }

    fn insert(&mut self, key: Arc<CertifiedKey>, default: bool) -> Result<(), Flaw> {
        let names = names(&key);
        if names.is_empty() && !default {
            return Err(Flaw::chain(
                "the certificate covers no DNS name, so no client would be shown it; use one with \
                 a subjectAltName, or mark it `default = true`",
            ));
        }
        for name in names {
            match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()).or_insert(key.clone()),
                None => self.exact.entry(name).or_insert(key.clone()),
            };
        }
        if default {
            self.default = Some(key);
        }
        Ok(())
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            // RFC 6125 6.4.3: `*` stands for one label, the leftmost.
            let parent = name.split_once('.').map(|(_, parent)| parent);
            self.exact.get(&name).or_else(|| parent.and_then(|parent| self.wildcard.get(parent)))
        });
        named.or(self.default.as_ref()).cloned()
    }
}

impl ResolvesServerCert for CertTable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

/// The DNS names of a leaf, lower-case.
fn names(key: &CertifiedKey) -> Vec<String> {
    let Some(leaf) = key.cert.first() else { return Vec::new() };
    webpki::EndEntityCert::try_from(leaf)
        .map(|leaf| leaf.valid_dns_names().map(str::to_ascii_lowercase).collect())
        .unwrap_or_default()
}

/// How long a certificate lasts, if it says so.
fn state(index: usize, key: &CertifiedKey) -> Option<CertificateState> {
    let leaf = webpki::EndEntityCert::try_from(key.cert.first()?).ok()?;
    // webpki tells the end of a certificate only when that has passed, so it is asked about the
    // end of time; of all that it judges, this comes first.
    let never = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let usage = webpki::KeyUsage::server_auth();
    match leaf.verify_for_usage(&[], &[], &[], never, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(CertificateState {
            index,
            name: names(key).into_iter().next().unwrap_or_default(),
            not_after: not_after.as_secs(),
        }),
        Err(_) | Ok(_) => None,
    }
}

/// What is wrong with one of the two files: its key in the configuration, and why.
struct Flaw {
    of: &'static str,
    problem: String,
}

impl Flaw {
    fn chain(problem: impl Into<String>) -> Self {
        Self { of: "chain", problem: problem.into() }
    }

    fn key(problem: impl Into<String>) -> Self {
        Self { of: "key", problem: problem.into() }
    }
}

/// One chain and its key.
fn read(source: &CertificateSource) -> Result<CertifiedKey, Flaw> {
    let (chain_pem, key_pem) = match source {
        CertificateSource::Files { chain, key } => {
            (pem(chain).map_err(Flaw::chain)?, pem(key).map_err(Flaw::key)?)
        }
        CertificateSource::Memory { chain, key } => (chain.clone().into(), key.clone().into()),
    };
    let chain = rustls_pemfile::certs(&mut &chain_pem[..])
        .collect::<Result<Vec<CertificateDer<'static>>, _>>()
        .map_err(|error| Flaw::chain(format!("not PEM: {error}")))?;
    let leaf = chain.first().ok_or_else(|| Flaw::chain("the file holds no certificate"))?;
    webpki::EndEntityCert::try_from(leaf)
        .map_err(|error| Flaw::chain(format!("not a usable certificate: {error}")))?;
    let key = private_key(&key_pem).map_err(Flaw::key)?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|_| {
        Flaw::key(
            "not a usable private key; RSA of 2048 bits or more, ECDSA P-256, P-384 and \
                   P-521, and Ed25519 are",
        )
    })?;
    let key = CertifiedKey::new(chain, key);
    key.keys_match().map_err(|_| {
        let chain = match source {
            CertificateSource::Files { chain, .. } => chain.display().to_string(),
            CertificateSource::Memory { .. } => "the built-in chain".into(),
        };
        Flaw::key(format!(
            "this is not the key of the first certificate in {chain}; the server's own \
             certificate must come first there"
        ))
    })?;
    Ok(key)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    // Both kinds of encrypted key say so, one in its first line and one in a header.
    if String::from_utf8_lossy(pem).contains("ENCRYPTED") {
        return Err("the key is encrypted; tidegate reads unencrypted keys only".into());
    }
    rustls_pemfile::private_key(&mut &pem[..])
        .map_err(|error| format!("not PEM: {error}"))?
        .ok_or_else(|| "the file holds no private key".into())
}

fn pem(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    // A FIFO or a device would make the read wait for ever.
    match std::fs::metadata(path).map(|meta| meta.is_file()) {
        Ok(true) => std::fs::read(path).map_err(|error| format!("{shown}: {error}")),
        Ok(false) => Err(format!("{shown}: not a file")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn settings(names: &[&str], default: bool) -> CertificateSettings {
        let (chain, key) = pair(names);
        CertificateSettings { source: CertificateSource::Memory { chain, key }, default }
    }

    #[test]
    fn names_lead_to_their_certificate() {
        let table = CertTable::load(&[
            settings(&["a.example", "*.w.example"], false),
            settings(&["b.example"], false),
        ])
        .unwrap();
        assert!(table.share("a.example", "x.w.example"));
        assert!(table.share("A.EXAMPLE", "a.example."));
        assert!(!table.share("a.example", "b.example"));
        assert!(table.find(Some("w.example")).is_none(), "a wildcard does not hold its apex");
        assert!(table.find(Some("x.y.w.example")).is_none(), "a wildcard is one label");
        assert!(table.find(None).is_none());
    }

    #[test]
    fn only_a_marked_certificate_answers_for_unknown_names() {
        let table = CertTable::load(&[settings(&["a.example"], true)]).unwrap();
        assert!(table.find(None).is_some());
        assert!(table.find(Some("unknown.example")).is_some());
    }

    #[test]
    fn ck01_a_key_of_another_certificate_is_a_fault() {
        let source =
            CertificateSource::Memory { chain: pair(&["a.example"]).0, key: pair(&["b"]).1 };
        let faults = CertTable::load(&[CertificateSettings { source, default: false }]);
        let fault = &faults.unwrap_err()[0];
        assert_eq!(fault.key, "certificate[0].key");
        assert!(fault.problem.contains("not the key of"), "{fault:?}");
    }

    #[test]
    fn ck04_files_without_their_content_are_faults() {
        let missing = CertificateSource::Files { chain: "/nowhere.pem".into(), key: "/".into() };
        let empty = CertificateSource::Memory { chain: "# nothing\n".into(), key: String::new() };
        let keyless = CertificateSource::Memory { chain: pair(&["a"]).0, key: String::new() };
        let locked = CertificateSource::Memory {
            chain: pair(&["a"]).0,
            key: "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n".into(),
        };
        let all = [missing, empty, keyless, locked]
            .map(|source| CertificateSettings { source, default: false });
        let faults = CertTable::load(&all).unwrap_err();
        let expected = [
            ("certificate[0].chain", "/nowhere.pem"),
            ("certificate[1].chain", "holds no certificate"),
            ("certificate[2].key", "holds no private key"),
            ("certificate[3].key", "is encrypted"),
        ];
        for (fault, (key, words)) in faults.iter().zip(expected) {
            assert!(fault.key == key && fault.problem.contains(words), "{faults:?}");
        }
        assert_eq!(faults.len(), expected.len());
    }

    #[test]
    fn ck08_a_certificate_for_no_name_is_of_use_by_default_only() {
        assert!(CertTable::load(&[settings(&[], true)]).is_ok());
        let faults = CertTable::load(&[settings(&[], false)]).unwrap_err();
        assert!(faults[0].problem.contains("covers no DNS name"), "{faults:?}");
    }
}
