//! Backends with TLS that share no code with the proxy, and certificates for them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use super::{TempDir, write_key};

/// An issuer of certificates, with its files in a folder of its own.
pub struct TestIssuer {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl TestIssuer {
    /// A new issuer, whose certificate is `ca.pem`.
    pub fn new() -> Self {
        let folder = TempDir::new();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test issuer");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// The path of one of its files.
    pub fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    /// Signs a certificate for these names, valid from the start of one year to that of another, and writes
    /// `NAME.pem` and `NAME.key`.
    pub fn issue(&self, name: &str, names: &[&str], years: [i32; 2]) {
        let key = KeyPair::generate().unwrap();
        let made = leaf(name, names, years).signed_by(&key, &self.issuer).unwrap();
        write(self.folder.path(), name, &made.pem(), &key);
    }

    /// As [`issue`](Self::issue), signed by itself and marked as an issuer, as `openssl req -x509` does.
    pub fn self_sign(&self, name: &str, names: &[&str], years: [i32; 2]) {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf(name, names, years);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let made = params.self_signed(&key).unwrap();
        write(self.folder.path(), name, &made.pem(), &key);
    }
}

/// The years of a certificate that is valid now.
pub const VALID: [i32; 2] = [2020, 2090];

fn leaf(name: &str, names: &[&str], [from, to]: [i32; 2]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    params
}

fn write(folder: &Path, name: &str, chain: &str, key: &KeyPair) {
    fs::write(folder.join(format!("{name}.pem")), chain).unwrap();
    write_key(&folder.join(format!("{name}.key")), &key.serialize_pem());
}

/// A process that serves over TLS; dropping it ends the process.
pub struct TlsBackend {
    child: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl TlsBackend {
    /// Starts Python with the certificate `name` of this issuer; `more` adds options. `None` if Python is not
    /// installed.
    #[expect(clippy::print_stdout, reason = "reports the skipped test")]
    pub fn start(issuer: &TestIssuer, name: &str, more: Value) -> Option<Self> {
        let mut options = serde_json::json!({
            "chain": issuer.path(&format!("{name}.pem")),
            "key": issuer.path(&format!("{name}.key")),
        });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let child = Command::new("python3")
            .args(["-c", include_str!("tls_backend.py"), &options.to_string()])
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            println!("skipped: python3 is not installed");
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.split(' ').nth(1).unwrap_or_else(|| panic!("it listens: {line}"));
        Some(Self { port: port.parse().unwrap(), child })
    }
}

impl Drop for TlsBackend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
