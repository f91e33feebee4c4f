//! One chain and its key as they lie in PEM files: read together, and held against each other.
//!
//! `rustls-pemfile` is used in this file alone (`deny.toml` says why). What it says of a fault is
//! never repeated, as it may quote the key.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls_pemfile::{Error as PemError, Item, read_one_from_slice};

use super::chain;
use crate::config::settings::CertificateSource;

/// What can be shown to clients.
pub(super) struct CertPair {
    /// The chain, and a key that is its leaf's.
    pub(super) key: CertifiedKey,
    /// The files that it was read from.
    pub(super) seen: FileState,
    /// What clients may stumble over.
    pub(super) weaknesses: Vec<CertProblem>,
}

/// Something about one of the two files: its key in the configuration, and what it is.
pub(super) struct CertProblem {
    pub(super) of: &'static str,
    pub(super) problem: String,
}

impl CertProblem {
    pub(super) fn chain(problem: impl Into<String>) -> Self {
        Self { of: "chain", problem: problem.into() }
    }

    pub(super) fn key(problem: impl Into<String>) -> Self {
        Self { of: "key", problem: problem.into() }
    }
}

/// What chain and key were, as files, when they were looked at; links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileState {
    chain: Option<FileIdentity>,
    key: Option<FileIdentity>,
}

/// A file with this content, as far as that can be told without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (i64, i64),
}

impl FileState {
    /// What they are now; nothing is known of what is missing.
    pub(super) fn now(source: &CertificateSource) -> Self {
        match source {
            CertificateSource::Files { chain, key } => {
                Self { chain: FileIdentity::of(chain), key: FileIdentity::of(key) }
            }
            CertificateSource::Memory { .. } => Self::default(),
        }
    }
}

impl FileIdentity {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

/// Reads a chain and its key. Somebody may put new ones in place meanwhile, one after the other,
/// so that what does not fit is read once more.
pub(super) fn read(source: &CertificateSource) -> Result<CertPair, CertProblem> {
    match read_once(source) {
        Ok(pair) if pair.seen == FileState::now(source) => Ok(pair),
        Ok(_) | Err(_) => read_once(source),
    }
}

fn read_once(source: &CertificateSource) -> Result<CertPair, CertProblem> {
    let seen = FileState::now(source);
    let (chain_name, key_name) = match source {
        CertificateSource::Files { chain, key } => {
            (chain.display().to_string(), key.display().to_string())
        }
        CertificateSource::Memory { .. } => {
            ("the built-in chain".into(), "the built-in key".into())
        }
    };
    let (chain_pem, key_pem) = match source {
        CertificateSource::Files { chain, key } => {
            (pem(chain).map_err(CertProblem::chain)?, pem(key).map_err(CertProblem::key)?)
        }
        CertificateSource::Memory { chain, key } => (chain.clone().into(), key.clone().into()),
    };
    let chain = certificates(&chain_pem)
        .map_err(|problem| CertProblem::chain(format!("{chain_name}: {problem}")))?;
    let key =
        private_key(&key_pem).map_err(|why| CertProblem::key(format!("{key_name}: {why}")))?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|_| {
        CertProblem::key(format!(
            "{key_name}: not a usable private key; RSA of 2048 bits or more, ECDSA P-256, P-384 \
             and P-521, and Ed25519 are"
        ))
    })?;
    let key = CertifiedKey::new(chain, key);
    key.keys_match().map_err(|_| {
        CertProblem::key(format!(
            "{key_name}: this is not the key of the first certificate in {chain_name}; the \
             server's own certificate must come first there"
        ))
    })?;
    let weak = chain::weaknesses(&key.cert).into_iter();
    let mut weaknesses: Vec<CertProblem> =
        weak.map(|problem| CertProblem::chain(format!("{chain_name}: {problem}"))).collect();
    weaknesses.extend(open_to_all(source).map(CertProblem::key));
    Ok(CertPair { key, seen, weaknesses })
}

/// The certificates of a file, in its order; the first one can be used as a server's own.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut chain = Vec::new();
    for item in items(pem)? {
        if let Item::X509Certificate(certificate) = item {
            chain.push(certificate);
        }
    }
    let leaf = chain.first().ok_or("the file holds no certificate")?;
    webpki::EndEntityCert::try_from(leaf)
        .map_err(|error| format!("not a usable certificate: {error}"))?;
    Ok(chain)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if lines(pem).any(is_encrypted) {
        return Err("the key is encrypted; tidegate reads unencrypted keys only".into());
    }
    if lines(pem).any(|line| line.starts_with(b"-----BEGIN DSA PRIVATE KEY")) {
        return Err("a DSA key, which no client takes any more; use ECDSA P-256".into());
    }
    let mut keys = items(pem)?.into_iter().filter_map(as_key);
    let key = keys.next().ok_or("the file holds no private key")?;
    match keys.count() {
        0 => Ok(key),
        more => Err(format!(
            "the file holds {} private keys, and only one is the certificate's; leave that one",
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

/// Both kinds of encrypted key say so, one in its first line and one in a header.
fn is_encrypted(line: &[u8]) -> bool {
    line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY")
        || (line.starts_with(b"Proc-Type:") && line.trim_ascii().ends_with(b"ENCRYPTED"))
}

fn lines(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    pem.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii_start)
}

/// Everything in a PEM file that is known.
fn items(pem: &[u8]) -> Result<Vec<Item>, &'static str> {
    let mut items = Vec::new();
    let mut rest = pem;
    loop {
        match read_one_from_slice(rest) {
            Ok(Some((item, behind))) => {
                items.push(item);
                rest = behind;
            }
            Ok(None) => return Ok(items),
            Err(PemError::MissingSectionEnd { .. }) => {
                return Err("not PEM: a part has no END line; the file may be cut short");
            }
            Err(PemError::IllegalSectionStart { .. }) => {
                return Err("not PEM: a BEGIN line does not end with five dashes");
            }
            Err(PemError::Base64Decode(_)) => {
                return Err("not PEM: what stands between BEGIN and END is not Base64");
            }
        }
    }
}

const PEM_BYTES_MAX: u64 = 4 << 20;

fn pem(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    // A FIFO or a device would make the read wait for ever.
    match fs::metadata(path).map(|meta| (meta.is_file(), meta.len())) {
        Ok((true, 0..=PEM_BYTES_MAX)) => {
            fs::read(path).map_err(|error| format!("{shown}: {error}"))
        }
        Ok((true, _)) => Err(format!("{shown}: larger than any chain of certificates")),
        Ok((false, _)) => Err(format!("{shown}: not a file")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// Whether everybody on this machine may read the key, in words.
fn open_to_all(source: &CertificateSource) -> Option<String> {
    let CertificateSource::Files { key, .. } = source else { return None };
    let mode = fs::metadata(key).ok()?.mode() & 0o7777;
    let shown = key.display();
    (mode & 0o006 != 0).then(|| {
        format!(
            "{shown}: every user of this machine may read this key (mode {mode:04o}); chmod 640 \
             it, its group being tidegate's"
        )
    })
}

#[cfg(test)]
mod tests;
