//! What the CA knows: accounts, orders, authorizations, certificates, and the settings of the test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::issue::{Issued, Signer, WrongChain};
use super::jws::AccountKey;
use super::problem::Problem;
use super::script::{Fault, Script, Step};

/// What a test may choose about the CA, at any time.
pub struct Settings {
    /// How long certificates are valid in all.
    pub lifetime: Duration,
    /// How much of it has passed when they are issued.
    pub age: Duration,
    /// Secrets for external account binding, by their key identifier. Required unless empty.
    pub external_accounts: BTreeMap<String, Vec<u8>>,
    /// The certificate profiles that clients may choose.
    pub profiles: Vec<&'static str>,
    /// The kinds of challenges that clients may choose.
    pub challenges: Vec<&'static str>,
    /// When certificates should be renewed (RFC 9773), or `None` if the CA does not say so.
    pub renewal: Option<RenewalWindow>,
    /// Whether a certificate is ready only when the order is looked at again.
    pub is_slow: bool,
    /// What is wrong with the next certificates.
    pub wrong_chains: Vec<WrongChain>,
}

/// When a certificate should be renewed, relative to the request.
#[derive(Clone, Copy)]
pub struct RenewalWindow {
    /// Start, in seconds; negative for the past.
    pub start: i64,
    /// End, in seconds.
    pub end: i64,
    /// When to ask again, in seconds.
    pub ask_again: u64,
}

/// Where the CA finds the names that it validates.
#[derive(Clone, Default)]
pub struct Targets {
    /// For tls-alpn-01.
    pub tls: Option<SocketAddr>,
    /// For http-01.
    pub http: Option<SocketAddr>,
    /// For dns-01: a folder with a file for each name, such as `_acme-challenge.a.example`, in which
    /// each line is a TXT record.
    pub dns: Option<PathBuf>,
}

/// An account of a client.
pub struct CaAccount {
    pub key: AccountKey,
    pub contact: Value,
    /// The key identifier of its external account.
    pub external: Option<String>,
    pub is_deactivated: bool,
}

/// An order of a certificate.
pub struct CaOrder {
    pub account: usize,
    pub names: BTreeSet<String>,
    pub profile: Option<String>,
    /// The certificate that it replaces, as RFC 9773 names it.
    pub replaces: Option<String>,
    pub authorizations: Vec<usize>,
    pub certificate: Option<usize>,
    /// Whether the client has seen that the certificate is ready.
    pub is_processed: bool,
}

/// Whether an account may get certificates for a name.
pub struct CaAuthorization {
    pub account: usize,
    pub name: String,
    pub is_wildcard: bool,
    pub token: String,
    /// The challenge that the client chose.
    pub chosen: Option<&'static str>,
    pub result: Option<Result<(), Problem>>,
}

/// Everything that changes.
pub struct Data {
    pub settings: Settings,
    pub nonces: BTreeSet<String>,
    pub accounts: Vec<CaAccount>,
    pub orders: Vec<CaOrder>,
    pub authorizations: Vec<CaAuthorization>,
    pub issued: Vec<Issued>,
}

/// The CA, shared between its connections and the test.
pub struct CaState {
    /// `https://localhost:PORT`
    pub base: String,
    pub signer: Signer,
    pub script: Script,
    /// Notified about every step.
    pub changed: Notify,
    pub targets: watch::Sender<Targets>,
    data: Mutex<Data>,
}

impl CaState {
    /// A CA without accounts.
    pub fn new(base: String) -> Self {
        let settings = Settings {
            lifetime: Duration::from_secs(90 * 24 * 60 * 60),
            age: Duration::ZERO,
            external_accounts: BTreeMap::new(),
            profiles: Vec::new(),
            challenges: vec!["tls-alpn-01", "http-01", "dns-01"],
            renewal: None,
            is_slow: true,
            wrong_chains: Vec::new(),
        };
        let data = Data {
            settings,
            nonces: BTreeSet::new(),
            accounts: Vec::new(),
            orders: Vec::new(),
            authorizations: Vec::new(),
            issued: Vec::new(),
        };
        Self {
            base,
            signer: Signer::new(),
            script: Script::default(),
            changed: Notify::new(),
            targets: watch::Sender::default(),
            data: Mutex::new(data),
        }
    }

    /// Exclusive access, not to be held while waiting.
    pub fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }

    /// Counts the step; the fault that it meets.
    pub fn reach(&self, step: Step) -> Option<Fault> {
        let fault = self.script.reach(step);
        self.changed.notify_waiters();
        fault
    }

    /// A nonce for one request.
    pub fn new_nonce(&self) -> String {
        let nonce = random_text();
        self.data().nonces.insert(nonce.clone());
        nonce
    }

    /// The URL of a resource.
    pub fn url(&self, path: impl AsRef<str>) -> String {
        format!("{}{}", self.base, path.as_ref())
    }
}

impl Data {
    /// The state of an order (RFC 8555 7.1.6), and the error that made it invalid.
    pub fn order_status(&self, order: &CaOrder) -> (&'static str, Option<Value>) {
        let results: Vec<_> = order
            .authorizations
            .iter()
            .map(|number| self.authorizations[*number].result.as_ref())
            .collect();
        if let Some(Err(problem)) = results.iter().flatten().find(|result| result.is_err()) {
            return ("invalid", Some(problem.json()));
        }
        let status = match order.certificate {
            Some(_) if order.is_processed => "valid",
            Some(_) => "processing",
            None if results.iter().all(Option::is_some) => "ready",
            None => "pending",
        };
        (status, None)
    }
}

impl CaAuthorization {
    /// `pending`, `valid` or `invalid`.
    pub fn status(&self) -> &'static str {
        match &self.result {
            None => "pending",
            Some(Ok(())) => "valid",
            Some(Err(_)) => "invalid",
        }
    }

    /// A challenge of this kind, as the client sees it.
    pub fn challenge(&self, kind: &str, url: &str) -> Value {
        let is_chosen = self.chosen == Some(kind);
        let status = if is_chosen && self.result.is_none() { "processing" } else { self.status() };
        let mut challenge =
            json!({ "type": kind, "url": url, "token": self.token, "status": status });
        if let (true, Some(Err(problem))) = (is_chosen, &self.result) {
            challenge["error"] = problem.json();
        }
        challenge
    }
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "validity is in wall-clock time")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// 128 random bits.
pub fn random_text() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    BASE64URL_NOPAD.encode(&bytes)
}
