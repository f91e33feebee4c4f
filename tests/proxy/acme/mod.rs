//! Certificates that the proxy gets and renews by itself (ACME), from a certificate authority of the tests'
//! own in `ca`.

mod ca;
mod ca_with_lego;
mod challenges;
mod changed_names;
mod commands;
mod config_errors;
mod crashes;
mod failures;
mod first_issue;
mod hook_ends;
mod mended;
mod renewal;
mod storage;
mod until_issued;
mod without_acme;
mod wrong_chains;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::ca::Ca;
use crate::support::{
    HANDSHAKE, MockBackend, PlainStream, Proxy, Record, TIDEGATE, TIMEOUT, TempDir, read_response,
    within_timeout,
};

/// The host of the one route.
const NAME: &str = "a.example";

/// A CA, a backend, and a state folder that outlives the proxies.
struct AcmeBed {
    ca: Ca,
    backend: MockBackend,
    state: TempDir,
}

impl AcmeBed {
    async fn new() -> Self {
        Self { ca: Ca::start().await, backend: MockBackend::new().await, state: TempDir::new() }
    }

    /// A TLS listener named `tls`, a route for [`NAME`], and `[acme]` with these further keys. Tables may
    /// follow them.
    fn config(&self, more: &str) -> String {
        format!(
            "[log]\nformat = \"json\"\nlevel = \"debug\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [control]\nsocket = \"control.sock\"\n[heartbeat]\ninterval = \"off\"\n\
             [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nhttp2 = true\n\
             [[route]]\nhost = \"{NAME}\"\norigins = [\"*\"]\nbackends = [\"{}\"]\n\
             [acme]\naccept_terms = true\ndirectory = \"{}\"\nca = {:?}\nstate_directory = {:?}\n{more}",
            self.backend.address(),
            self.ca.directory(),
            self.ca.root_file(),
            self.state.path(),
        )
    }

    /// Starts a proxy with these further keys, and shows the CA where it is.
    async fn start(&self, more: &str) -> Proxy {
        let proxy = Proxy::start_bare(&self.config(more)).await;
        self.ca.validate_tls_at(proxy.address("tls").await);
        proxy
    }

    /// Starts a proxy and waits until it serves the first certificate.
    async fn start_and_issue(&self) -> Proxy {
        let proxy = self.start("").await;
        self.wait_until_served(&proxy, 1).await;
        proxy
    }

    /// Waits until the n-th certificate that the CA has issued is served, counted from 1, or a later one: a
    /// short one may be replaced before a slow machine looks.
    async fn wait_until_served(&self, proxy: &Proxy, n: usize) {
        self.ca.issues(n).await;
        within_timeout("the new certificate to be served", async {
            loop {
                let served = self.served(proxy).await;
                let mut expected = self.ca.issued().into_iter().skip(n - 1);
                if expected.any(|issued| served.as_ref() == Some(&issued.leaf)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Waits until a certificate is served, which must be the last one that the CA has issued.
    async fn wait_until_last_is_served(&self, proxy: &Proxy) {
        self.ca.issues(1).await;
        within_timeout("a certificate to be served", async {
            loop {
                let last = self.ca.issued().last().map(|issued| issued.leaf.clone());
                if self.served(proxy).await == last {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// The certificate for [`NAME`], which must be one that clients of the CA trust; `None` if the
    /// handshake fails.
    async fn served(&self, proxy: &Proxy) -> Option<CertificateDer<'static>> {
        let stream = self.connect(proxy, NAME, &[]).await.ok()?;
        Some(stream.get_ref().1.peer_certificates()?[0].clone().into_owned())
    }

    /// Connects a client that trusts the CA and offers these protocols.
    async fn connect(
        &self,
        proxy: &Proxy,
        name: &str,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.root()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(proxy.address("tls").await).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        within_timeout("TLS", connector.connect(name, stream)).await
    }

    /// Opens a tunnel over TLS; returns both ends.
    async fn open(&self, proxy: &Proxy) -> (BufReader<TlsStream<TcpStream>>, PlainStream) {
        let mut stream = BufReader::new(self.connect(proxy, NAME, &[]).await.unwrap());
        let handshake = HANDSHAKE.replace("Host: localhost", &format!("Host: {NAME}"));
        stream.write_all(handshake.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(response.status, 101, "{response:?}");
        (stream, self.backend.accept().await)
    }

    /// The folder of the certificate for [`NAME`].
    fn certificate_folder(&self) -> PathBuf {
        self.state.path().join("acme/certificates").join(NAME)
    }

    /// The folder of the account, which is named by the host and port of the directory.
    fn account_folder(&self) -> PathBuf {
        let authority = self.ca.directory();
        let authority = authority.trim_start_matches("https://").trim_end_matches("/directory");
        self.state.path().join("acme/accounts").join(authority)
    }

    /// Changes the stored state of the certificate, as time or another version might.
    fn edit_state(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.state_file();
        change(&mut state);
        fs::write(self.certificate_folder().join("state.json"), state.to_string()).unwrap();
    }

    /// The stored state of the certificate.
    fn state_file(&self) -> Value {
        serde_json::from_slice(&fs::read(self.certificate_folder().join("state.json")).unwrap())
            .unwrap()
    }
}

/// Runs `tidegate ctl` with these arguments, which must succeed; returns what it prints.
async fn ctl(proxy: &Proxy, arguments: &[&str]) -> String {
    let output = try_ctl(proxy, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until `tidegate ctl certs` shows these words: the log may have them a moment earlier.
async fn listed(proxy: &Proxy, words: &str) {
    let mut last = String::new();
    let shown = async {
        while !last.contains(words) {
            last = ctl(proxy, &["certs"]).await;
        }
    };
    if tokio::time::timeout(TIMEOUT, shown).await.is_err() {
        panic!("{words} is not in {last}");
    }
}

async fn try_ctl(proxy: &Proxy, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", TIDEGATE, "ctl", "--socket"]).arg(proxy.control_socket()).args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Asks for a new certificate at once.
async fn renew(proxy: &Proxy) {
    ctl(proxy, &["renew", NAME]).await;
}

/// Status of `/readyz`.
async fn readiness(proxy: &Proxy) -> u16 {
    crate::support::get(proxy.admin().await, "/readyz").await.0.status
}

/// Waits for the n-th failed attempt to get the certificate, counted from 1.
async fn nth_failure(proxy: &Proxy, n: usize, why: &str) -> Record {
    let is_failure = |record: &Record| record["message"] == ORDER_FAILED;
    let record = proxy.nth_record(why, n, is_failure).await;
    assert_eq!((&record["level"], &record["certificate"]), (&"WARN".into(), &NAME.into()));
    record
}

const ORDER_FAILED: &str = "ACME: order failed";

/// Waits for a log line that contains these words in its message, its error or another text.
async fn logged(proxy: &Proxy, words: &str) -> Record {
    proxy.record(words, |record| contains(record, words)).await
}

fn contains(record: &Record, words: &str) -> bool {
    let Some(fields) = record.as_object() else { return false };
    fields.values().any(|value| value.as_str().is_some_and(|text| text.contains(words)))
}

/// Sends a GET over an open TLS connection; returns the status.
async fn status_of(stream: TlsStream<TcpStream>, host: &str) -> u16 {
    let mut stream = BufReader::new(stream);
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    read_response(&mut stream).await.status
}
