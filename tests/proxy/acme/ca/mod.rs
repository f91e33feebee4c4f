//! A certificate authority for the tests: ACME (RFC 8555) with external accounts, profiles and renewal
//! information (RFC 9773), which validates by connecting to the client, and fails where the test says so.
//! It shares no code with the client under test.

mod api;
mod issue;
mod jws;
mod orders;
mod problem;
mod script;
mod server;
mod state;
pub mod validation;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::support::{TempDir, within_timeout};

pub use issue::{Issued, WrongChain};
pub use problem::Problem;
pub use script::{Fault, Gatekeeper, Step};
pub use state::{Data, RenewalWindow, Settings};

use state::CaState;

/// A running CA. Dropping it stops its task.
pub struct Ca {
    state: Arc<CaState>,
    folder: TempDir,
    task: JoinHandle<()>,
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ca {
    /// Listens on its own port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(CaState::new(format!("https://localhost:{port}")));
        let folder = TempDir::new();
        folder.write("root.pem", state.signer.root_pem());
        let (chain, key) = state.signer.server_certificate("localhost");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        #[expect(clippy::disallowed_methods, reason = "the CA of a test")]
        let task = tokio::spawn(server::serve(listener, acceptor, state.clone()));
        Self { state, folder, task }
    }

    /// The URL of the directory.
    pub fn directory(&self) -> String {
        self.state.url("/directory")
    }

    /// A PEM file with the root, of the directory's own certificate and of all that are issued.
    pub fn root_file(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// The root.
    pub fn root(&self) -> CertificateDer<'static> {
        self.state.signer.root()
    }

    /// Changes settings.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state.data().settings);
    }

    /// Says where the names are for tls-alpn-01. Validations wait for this.
    pub fn validate_tls_at(&self, address: SocketAddr) {
        self.state.targets.send_modify(|targets| targets.tls = Some(address));
    }

    /// Says where the names are for http-01.
    pub fn validate_http_at(&self, address: SocketAddr) {
        self.state.targets.send_modify(|targets| targets.http = Some(address));
    }

    /// Says where the TXT records for dns-01 are: in a folder with a file per name.
    pub fn validate_dns_in(&self, folder: &Path) {
        self.state.targets.send_modify(|targets| targets.dns = Some(folder.to_owned()));
    }

    /// Makes the next request of this step fail that has no fault yet.
    pub fn fail_next(&self, step: Step, fault: Fault) {
        self.state.script.add(step, fault);
    }

    /// Makes all requests of this step fail, or none.
    pub fn fail_always(&self, step: Step, fault: Option<Fault>) {
        self.state.script.always(step, fault);
    }

    /// Keeps the next answer of this step back; what it is kept back by.
    pub fn hold_next(&self, step: Step) -> Gatekeeper {
        let gatekeeper = Gatekeeper::new();
        self.fail_next(step, Fault::Hold(gatekeeper.clone()));
        gatekeeper
    }

    /// How often this step was reached.
    pub fn count(&self, step: Step) -> usize {
        self.state.script.count(step)
    }

    /// Waits until this step was reached this often.
    pub async fn reached(&self, step: Step, times: usize) {
        let what = format!("{step:?} number {times} at the CA");
        self.wait(&what, || self.count(step) >= times).await;
    }

    /// Waits until this many certificates are issued in all.
    pub async fn issues(&self, count: usize) {
        let what = format!("certificate {count} of the CA");
        self.wait(&what, || self.state.data().issued.len() >= count).await;
    }

    /// The certificates issued so far.
    pub fn issued(&self) -> Vec<Issued> {
        self.state.data().issued.clone()
    }

    /// Looks at what the CA knows.
    pub fn with_data<T>(&self, look: impl FnOnce(&mut Data) -> T) -> T {
        look(&mut self.state.data())
    }

    /// Makes all accounts invalid, as their owner or the CA may do.
    pub fn deactivate_accounts(&self) {
        self.with_data(|data| data.accounts.iter_mut().for_each(|a| a.is_deactivated = true));
    }

    async fn wait(&self, what: &str, is_true: impl Fn() -> bool) {
        within_timeout(what, async {
            loop {
                let changed = self.state.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if is_true() {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}
