//! Reads a certificate chain and its private key from PEM files, and checks that they match.
//!
//! Only this file uses `rustls-pemfile` (`deny.toml` says why). Its error texts are never passed on,
//! because they may quote the key.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pemfile::{Error as PemError, Item, read_one_from_slice};

use super::chain;
use super::extensions::leaf_extensions;
use crate::config::settings::CertificateSource;
use crate::sys::file_identity::FileIdentity;

/// A usable chain with its key.
pub(in crate::tls) struct CertPair {
    /// The chain, and the private key of its first certificate.
    pub(in crate::tls) key: CertifiedKey,
    /// The state of the files when they were read.
    pub(super) files: FileState,
    /// Problems that may make clients reject the chain, or expose the key.
    pub(in crate::tls) warnings: Vec<CertProblem>,
}

/// A problem with one of the two files; `of` is its key in the configuration, `chain` or `key`.
pub(in crate::tls) struct CertProblem {
    pub(in crate::tls) of: &'static str,
    pub(in crate::tls) problem: String,
}

impl CertProblem {
    pub(super) fn chain(problem: impl Into<String>) -> Self {
        Self { of: "chain", problem: problem.into() }
    }

    pub(super) fn key(problem: impl Into<String>) -> Self {
        Self { of: "key", problem: problem.into() }
    }
}

/// The identity of the chain and key files at one point in time; symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileState {
    chain: Option<FileIdentity>,
    key: Option<FileIdentity>,
}

impl FileState {
    /// The current state. A missing file has no identity.
    pub(super) fn now(source: &CertificateSource) -> Self {
        match source.files() {
            Some((chain, key)) => {
                Self { chain: FileIdentity::of(&chain), key: FileIdentity::of(&key) }
            }
            None => Self::default(),
        }
    }
}

/// Reads a chain and its key. The files may be replaced one after the other in the meantime, so a
/// mismatch or a change is read a second time.
///
/// # Errors
/// All problems of both files.
pub(in crate::tls) fn read(source: &CertificateSource) -> Result<CertPair, Vec<CertProblem>> {
    read_by(source, read_once)
}

/// The certificates of a file with trusted issuers.
///
/// # Errors
/// The file cannot be read, or has no certificate.
pub(in crate::tls) fn issuers(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |problem: &str| format!("{}: {problem}", path.display());
    let pem = pem(path)?;
    let items = items(&pem).map_err(named)?;
    let certificate = |item| {
        if let Item::X509Certificate(certificate) = item { Some(certificate) } else { None }
    };
    let found: Vec<_> = items.into_iter().filter_map(certificate).collect();
    if found.is_empty() {
        return Err(named("the file holds no certificate"));
    }
    Ok(found)
}

fn read_by(
    source: &CertificateSource,
    mut read_once: impl FnMut(&CertificateSource) -> Result<CertPair, Vec<CertProblem>>,
) -> Result<CertPair, Vec<CertProblem>> {
    match read_once(source) {
        Ok(pair) if pair.files == FileState::now(source) => Ok(pair),
        Ok(_) | Err(_) => read_once(source),
    }
}

fn read_once(source: &CertificateSource) -> Result<CertPair, Vec<CertProblem>> {
    let files = FileState::now(source);
    let (chain_name, key_name) = names(source);
    let (chain_pem, key_pem) = match source {
        CertificateSource::Files { chain, key } => (pem(chain), pem(key)),
        CertificateSource::Acme(ordered) => (pem(&ordered.chain()), pem(&ordered.key())),
        CertificateSource::Memory { chain, key } => {
            (Ok(chain.clone().into()), Ok(key.clone().into()))
        }
    };
    if let (Ok(chain), Ok(key)) = (&chain_pem, &key_pem)
        && are_swapped(chain, key)
    {
        return Err(vec![CertProblem::chain(format!(
            "chain and key are swapped: {chain_name} is a private key, and {key_name} a certificate"
        ))]);
    }
    let named = |name: &str, problem: String| format!("{name}: {problem}");
    let chain = chain_pem
        .and_then(|pem| certificates(&pem).map_err(|problem| named(&chain_name, problem)))
        .map_err(CertProblem::chain);
    let key = key_pem
        .and_then(|pem| signing_key(&pem).map_err(|problem| named(&key_name, problem)))
        .map_err(CertProblem::key);
    let key = match (chain, key) {
        (Ok(chain), Ok(key)) => CertifiedKey::new(chain, key),
        (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
    };
    key.keys_match().map_err(|_| {
        vec![CertProblem::key(format!(
            "{key_name}: this is not the key of the first certificate in {chain_name}; put its \
             own certificate first there"
        ))]
    })?;
    let problems = chain::problems(&key.cert).into_iter();
    let must_staple = leaf_extensions(&key.cert).is_some_and(|of| of.must_staple);
    let problems = problems.chain(must_staple.then(|| MUST_STAPLE.to_owned()));
    let mut warnings: Vec<CertProblem> =
        problems.map(|problem| CertProblem::chain(format!("{chain_name}: {problem}"))).collect();
    warnings.extend(world_accessible(source).map(CertProblem::key));
    Ok(CertPair { key, files, warnings })
}

/// The files of a chain and of its key, for messages.
fn names(source: &CertificateSource) -> (String, String) {
    match source.files() {
        Some((chain, key)) => (chain.display().to_string(), key.display().to_string()),
        None => ("the built-in chain".into(), "the built-in key".into()),
    }
}

/// Whether the file of the chain holds only a key, and the file of the key only certificates.
fn are_swapped(chain: &[u8], key: &[u8]) -> bool {
    let holds = |pem: &[u8]| [holds_certificate(pem), holds_key(pem)];
    holds(chain) == [false, true] && holds(key) == [true, false]
}

fn holds_certificate(pem: &[u8]) -> bool {
    lines(pem).any(|line| line.starts_with(b"-----BEGIN CERTIFICATE"))
}

/// Whether the text has a private key, even if it is encrypted.
fn holds_key(pem: &[u8]) -> bool {
    let is_key = |line: &[u8]| {
        line.starts_with(b"-----BEGIN ") && line.trim_ascii_end().ends_with(b"PRIVATE KEY-----")
    };
    lines(pem).any(is_key)
}

/// The certificates of a file in their order. The first one can be used by a server.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut chain = Vec::new();
    for item in items(pem)? {
        if let Item::X509Certificate(certificate) = item {
            chain.push(certificate);
        }
    }
    let leaf = chain.first().ok_or_else(|| match holds_key(pem) {
        true => {
            "the file holds a private key and no certificate; name the file with the chain \
                 (certbot: fullchain.pem)"
        }
        false => "the file holds no certificate",
    })?;
    webpki::EndEntityCert::try_from(leaf)
        .map_err(|error| format!("not a usable certificate: {error}"))?;
    Ok(chain)
}

fn signing_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, String> {
    aws_lc_rs::sign::any_supported_type(&private_key(pem)?).map_err(|_| {
        "not a usable private key; use ECDSA (P-256, P-384, P-521), Ed25519, or RSA of 2048 bits or \
         more"
            .to_owned()
    })
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if lines(pem).any(is_encrypted) {
        return Err("the key is encrypted; decrypt it (openssl pkey -in KEY -out NEW)".into());
    }
    if lines(pem).any(|line| line.starts_with(b"-----BEGIN DSA PRIVATE KEY")) {
        return Err("a DSA key, which no client accepts; use ECDSA P-256".into());
    }
    let mut keys = items(pem)?.into_iter().filter_map(as_key);
    let key = keys.next().ok_or_else(|| match holds_certificate(pem) {
        true => {
            "the file holds a certificate and no private key; name the file with the key \
                 (certbot: privkey.pem)"
        }
        false => "the file holds no private key",
    })?;
    match keys.count() {
        0 => Ok(key),
        more => Err(format!(
            "the file holds {} private keys; leave only the key of the certificate",
            more + 1
        )),
    }
}

fn as_key(item: Item) -> Option<PrivateKeyDer<'static>> {
    if let Item::Pkcs1Key(key) = item {
        Some(key.into())
    } else if let Item::Pkcs8Key(key) = item {
        Some(key.into())
    } else if let Item::Sec1Key(key) = item {
        Some(key.into())
    } else {
        None
    }
}

/// Encrypted PKCS #8 keys say so in the BEGIN line, traditional ones in a header line.
fn is_encrypted(line: &[u8]) -> bool {
    line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY")
        || (line.starts_with(b"Proc-Type:") && line.trim_ascii().ends_with(b"ENCRYPTED"))
}

fn lines(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    pem.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii_start)
}

/// All recognized items of a PEM file.
fn items(pem: &[u8]) -> Result<Vec<Item>, &'static str> {
    let mut items = Vec::new();
    let mut rest = pem;
    loop {
        match read_one_from_slice(rest) {
            Ok(Some((item, remaining))) => {
                items.push(item);
                rest = remaining;
            }
            Ok(None) => return Ok(items),
            Err(PemError::MissingSectionEnd { .. }) => {
                return Err("not PEM: a part has no END line; the file may be cut short");
            }
            Err(PemError::IllegalSectionStart { .. }) => {
                return Err("not PEM: a BEGIN line does not end with five dashes");
            }
            Err(PemError::Base64Decode(_)) => {
                return Err("not PEM: the text between BEGIN and END is not Base64");
            }
        }
    }
}

const PEM_BYTES_MAX: u64 = 4 << 20;

fn pem(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    // Reading a FIFO or a device could block forever.
    match fs::metadata(path).map(|meta| (meta.is_file(), meta.len())) {
        Ok((true, 0..=PEM_BYTES_MAX)) => {
            fs::read(path).map_err(|error| format!("{shown}: {error}"))
        }
        Ok((true, _)) => Err(format!("{shown}: larger than 4 MiB, not a certificate chain or key")),
        Ok((false, _)) => Err(format!("{shown}: not a regular file")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// A warning if every user of the machine may read or write the key.
fn world_accessible(source: &CertificateSource) -> Option<String> {
    let (_, key) = source.files()?;
    let mode = fs::metadata(&key).ok()?.mode() & 0o7777;
    let shown = key.display();
    (mode & 0o006 != 0).then(|| {
        format!(
            "{shown}: every user of this machine may read this key (mode {mode:04o}); set mode \
             0640 and the group of tidegate"
        )
    })
}

/// A warning if each handshake of a client takes several times as long as necessary, so that a few clients can occupy
/// a worker with them. The length of an RSA signature is that of the modulus (RFC 8017 8.1.1).
pub(super) fn slow_rsa(source: &CertificateSource, key: &dyn SigningKey) -> Option<CertProblem> {
    // Thousands of ordinary keys must not sign at start-up.
    key.public_key().filter(|public| public.len() > RSA_BITS_MAX / 8 + ENCODING_BYTES)?;
    let signer = key.choose_scheme(&[SignatureScheme::RSA_PSS_SHA256])?;
    let bits = signer.sign(&[]).ok()?.len() * 8;
    let (_, key_name) = names(source);
    (bits > RSA_BITS_MAX).then(|| {
        CertProblem::key(format!(
            "{key_name}: an RSA key of {bits} bits makes each handshake several times as expensive as one of \
             {RSA_BITS_MAX}, and clients can cause many; use an ECDSA P-256 key (certbot: --key-type ecdsa)"
        ))
    })
}

const MUST_STAPLE: &str = "the certificate requires a stapled OCSP response (must-staple), which tidegate does not send and \
    many authorities no longer give: clients that follow it reject the certificate; order one without it";

/// The size that certificate authorities require at least; larger keys are warned of.
const RSA_BITS_MAX: usize = 2048;
/// What the public exponent and the encoding of a public key take at most, if the exponent is a usual one.
const ENCODING_BYTES: usize = 64;

#[cfg(test)]
mod tests;
