//! Loads the files with the addresses of trusted proxies again when they change.

use std::sync::Arc;

use rustls::server::ProducesTickets;
use tracing::{error, info};

use super::file_watcher::{FileWatcher, ScanResult, WatchedFiles};
use super::reload::{self, ConfigSource};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::sys::file_identity::FileIdentity;
use crate::sys::systemd;

/// Watches the address files of the active snapshot.
pub struct AddressFileWatcher {
    files: FileWatcher<AddressFiles>,
}

/// The files with the addresses of trusted proxies.
pub struct AddressFiles;

type FileIdentities = Vec<Option<FileIdentity>>;

impl WatchedFiles for AddressFiles {
    type State = FileIdentities;
    const WAIT_UNTIL_STABLE: bool = true;

    fn loaded(snapshot: &Snapshot) -> Option<Self::State> {
        Some(snapshot.trusted_proxies.file_identities()).filter(|files| !files.is_empty())
    }

    fn current(snapshot: &Snapshot) -> Self::State {
        snapshot.settings.trusted_proxies.files.iter().map(|path| FileIdentity::of(path)).collect()
    }

    fn load(
        snapshot: &Snapshot,
        _: &Arc<dyn ProducesTickets>,
    ) -> Result<Snapshot, Vec<LateDiagnostic>> {
        snapshot.with_address_files()
    }
}

impl AddressFileWatcher {
    /// Starts to watch.
    pub fn start() -> Self {
        Self { files: FileWatcher::start() }
    }

    /// Waits for the next scan and returns its result. Cancel safe.
    pub async fn scan(&mut self, state: &ProxyState) -> ScanResult<FileIdentities> {
        self.files.scan(state).await
    }

    /// Applies the result of a scan and logs it.
    pub fn apply(
        &mut self,
        result: ScanResult<FileIdentities>,
        state: &ProxyState,
        source: &ConfigSource,
    ) {
        match self.files.evaluate(result, state) {
            None => {}
            Some(Ok(changed)) => {
                let (before, after) = (changed.before.trusted_proxies.count(), changed.after);
                let (generation, networks) = (after.generation, after.trusted_proxies.count());
                state.swap(after);
                state.metrics.addresses_updated(true);
                // Logged after the swap: requests after this line use the new addresses.
                info!(generation, networks, before, "addresses of trusted proxies replaced");
                systemd::ready(&reload::status(state));
            }
            Some(Err(errors)) => {
                state.metrics.addresses_updated(false);
                for error in source.locate(&errors).lines() {
                    error!(
                        error,
                        "changed proxy addresses rejected; the previous ones stay trusted"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::config::settings::Settings;
    use crate::net::network::SystemNet;
    use crate::tls::terminate::ticketer;

    /// A proxy state with an address file in a temporary folder, and its watcher.
    struct AddressFixture {
        folder: PathBuf,
        state: ProxyState,
        watcher: AddressFileWatcher,
        source: ConfigSource,
    }

    impl AddressFixture {
        fn new(test: &str) -> Self {
            let name = format!("tidegate-address-files-{test}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join("proxy.toml");
            fs::write(&path, CONFIG).unwrap();
            fs::write(folder.join("proxies.txt"), "10.0.0.1\n").unwrap();
            let settings = Settings::load(&path).unwrap();
            let ticketer = ticketer().unwrap();
            let snapshot = Snapshot::build(settings, None, &ticketer, 1024).unwrap();
            let state = ProxyState::new(Arc::new(SystemNet), snapshot, ticketer, 1024);
            let watcher = AddressFileWatcher::start();
            Self { folder, state, watcher, source: ConfigSource::File(path) }
        }

        fn write(&self, text: &str) {
            fs::write(self.folder.join("new"), text).unwrap();
            fs::rename(self.folder.join("new"), self.folder.join("proxies.txt")).unwrap();
        }

        /// Runs one scan. Returns whether errors were reported, the active generation and the trusted
        /// networks.
        async fn scan(&mut self) -> (bool, u64, String) {
            let result = self.watcher.scan(&self.state).await;
            self.watcher.apply(result, &self.state, &self.source);
            let snapshot = self.state.snapshot();
            let networks = snapshot.trusted_proxies.to_string();
            (self.watcher.files.has_reported(), snapshot.generation, networks)
        }
    }

    impl Drop for AddressFixture {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    const CONFIG: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n\
        [trusted_proxies]\naddress_files = [\"proxies.txt\"]\n\
        [[route]]\nhost = \"*\"\norigins = [\"missing\"]\nbackends = [\"127.0.0.1:9\"]\n";

    #[tokio::test(start_paused = true)]
    async fn changed_list_is_used_once_stable() {
        let mut fixture = AddressFixture::new("stable");
        let old = "10.0.0.1".to_owned();
        assert_eq!(fixture.scan().await, (false, 1, old.clone()));
        fixture.write("10.0.0.1\n10.0.0");
        assert_eq!(fixture.scan().await, (false, 1, old.clone()), "may still be being written");
        fixture.write("10.0.0.1\n10.0.0.4\n");
        assert_eq!(fixture.scan().await, (false, 1, old), "has changed again");
        assert_eq!(fixture.scan().await, (false, 2, "10.0.0.1, 10.0.0.4".to_owned()));
        assert_eq!(fixture.scan().await.1, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn unusable_list_keeps_the_previous_addresses() {
        let mut fixture = AddressFixture::new("unusable");
        let old = "10.0.0.1".to_owned();
        for text in ["", "<html>\n"] {
            fixture.write(text);
            assert_eq!(fixture.scan().await, (false, 1, old.clone()));
            assert_eq!(fixture.scan().await, (true, 1, old.clone()));
            assert_eq!(fixture.scan().await, (true, 1, old.clone()));
        }
        fs::remove_file(fixture.folder.join("proxies.txt")).unwrap();
        fixture.scan().await;
        assert_eq!(fixture.scan().await, (true, 1, old));
        let scrape = fixture.state.metrics.scrape(Default::default());
        let rejected = "tidegate_trusted_proxy_updates_total{outcome=\"rejected\"} 3\n";
        assert!(scrape.contains(rejected), "{scrape}");
    }
}
