//! Certificate renewal: changed certificates are loaded and replace the old ones, except those that cannot be
//! read, which are reported. Each scan of their files also warns of certificates that are about to expire.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::ProducesTickets;
use tokio::sync::Notify;
use tracing::{error, info};

use super::file_watcher::{ChangedFiles, FileWatcher, ScanResult, WatchedFiles};
use super::reload::{self, ConfigSource};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::sys::clock::wall;
use crate::sys::systemd;
use crate::telemetry::metrics::process_snapshot::CertificateValidity;
use crate::telemetry::timestamp::rfc3339;
use crate::tls::certs::CertTable;
use crate::tls::certs::expiry::ExpiryStep;
use crate::tls::certs::pair::FileState;

/// Watches the files of the active certificates.
pub struct CertWatcher {
    files: FileWatcher<CertFiles>,
    expiry: ExpiryWarnings,
}

/// The chains and keys of the certificates.
pub struct CertFiles;

impl WatchedFiles for CertFiles {
    type State = Vec<FileState>;
    // A chain and a key that match are complete.
    const WAIT_UNTIL_STABLE: bool = false;

    fn loaded(snapshot: &Snapshot) -> Option<Self::State> {
        snapshot.certs().map(|certs| certs.file_states().to_vec())
    }

    fn current(snapshot: &Snapshot) -> Self::State {
        snapshot.certs().map(CertTable::current_file_states).unwrap_or_default()
    }

    fn changed(state: &ProxyState) -> Option<&Notify> {
        Some(&state.certificate_installed)
    }

    fn load(
        snapshot: &Snapshot,
        ticketer: &Arc<dyn ProducesTickets>,
    ) -> Result<Snapshot, Vec<LateDiagnostic>> {
        snapshot.with_certificates(ticketer)
    }
}

impl CertWatcher {
    /// Starts to watch. The caller logs the warnings of this snapshot.
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut expiry = ExpiryWarnings::default();
        expiry.update(snapshot, wall());
        Self { files: FileWatcher::start(), expiry }
    }

    /// Waits for the next scan and returns its result. Cancel safe.
    pub async fn scan(&mut self, state: &ProxyState) -> ScanResult<Vec<FileState>> {
        self.files.scan(state).await
    }

    /// Applies the result of a scan and logs it.
    pub fn apply(
        &mut self,
        result: ScanResult<Vec<FileState>>,
        state: &ProxyState,
        source: &ConfigSource,
    ) {
        match self.files.evaluate(result, state) {
            None => {}
            Some(Ok(changed)) => apply_renewal(changed, state, source, &mut self.expiry),
            Some(Err(errors)) => {
                state.metrics.renewed(false);
                for error in source.locate(&errors).lines() {
                    error!(error, "changed certificates rejected; the previous ones stay active");
                }
            }
        }
        reload::warn(source, &self.expiry.update(&state.snapshot(), wall()));
    }
}

fn apply_renewal(
    changed: ChangedFiles,
    state: &ProxyState,
    source: &ConfigSource,
    expiry: &mut ExpiryWarnings,
) {
    let ChangedFiles { before, after, warnings } = changed;
    let states = changed_certificates(&before, &after);
    let mut names: Vec<&str> = states.iter().map(|state| &*state.name).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let not_after = states.iter().map(|state| state.not_after).min();
    let generation = after.generation;
    // The caller reports their expiry next, as for every known generation.
    expiry.generation = generation;
    state.swap(after);
    state.metrics.renewed(true);
    state.certificate_orders.notify_one();
    // Logged after the swap: handshakes after this line use the new certificates.
    info!(
        generation,
        certificates = states.len(),
        names = names.join(", ") + if more > 0 { ", ..." } else { "" },
        not_after = not_after.map(rfc3339),
        "certificates renewed; open tunnels are not affected"
    );
    systemd::ready(&reload::status(state));
    reload::warn(source, &warnings);
}

/// The certificates whose files have changed.
fn changed_certificates(before: &Snapshot, after: &Snapshot) -> Vec<CertificateValidity> {
    let (Some(before), Some(after)) = (before.certs(), after.certs()) else { return Vec::new() };
    let states = after.validities().iter();
    let changed = |state: &&CertificateValidity| {
        before.file_states().get(state.index) != after.file_states().get(state.index)
    };
    states.filter(changed).cloned().collect()
}

/// The last expiry step reported for each certificate, by index and end of validity.
#[derive(Default)]
struct ExpiryWarnings {
    generation: u64,
    reported: HashMap<(usize, u64), ExpiryStep>,
}

impl ExpiryWarnings {
    /// The new warnings. Returns none for a snapshot seen for the first time, as the reload that
    /// built it has logged them.
    fn update(&mut self, snapshot: &Snapshot, now: f64) -> Vec<LateDiagnostic> {
        let mut current = HashMap::new();
        let mut warnings = Vec::new();
        for (state, step) in
            snapshot.certs().into_iter().flat_map(|certs| certs.needing_warning(now as u64))
        {
            let key = (state.index, state.not_after);
            current.insert(key, step);
            if self.generation == snapshot.generation && self.reported.get(&key) != Some(&step) {
                warnings.push(step.warning(state, now as u64));
            }
        }
        (self.generation, self.reported) = (snapshot.generation, current);
        warnings
    }
}

/// Certificate names listed in one log line.
const NAMES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::settings::Settings;
    use crate::http::path::RoutePath;
    use crate::tls::terminate::ticketer;

    /// A proxy state with a certificate in a temporary folder, and its watcher.
    struct RenewalFixture {
        folder: PathBuf,
        state: Arc<ProxyState>,
        watcher: CertWatcher,
        source: ConfigSource,
    }

    impl RenewalFixture {
        fn new(name: &str) -> Self {
            Self::with_config(name, CONFIG)
        }

        fn with_config(name: &str, config: &str) -> Self {
            let name = format!("tidegate-renewal-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join("proxy.toml");
            fs::write(&path, config).unwrap();
            write(&folder, &pair());
            let settings = Settings::load(&path).unwrap();
            let ticketer = ticketer().unwrap();
            let snapshot = Snapshot::build(settings, None, &ticketer, 1024).unwrap();
            let watcher = CertWatcher::new(&snapshot);
            let state = Arc::new(ProxyState::new(
                Arc::new(crate::net::network::SystemNet),
                snapshot,
                ticketer,
                1024,
            ));
            Self { folder, state, watcher, source: ConfigSource::File(path) }
        }

        /// Runs one scan. Returns the active generation and the renewals rejected and applied so
        /// far.
        async fn scan(&mut self) -> (u64, u64, u64) {
            let result = self.watcher.scan(&self.state).await;
            self.watcher.apply(result, &self.state, &self.source);
            let scrape = self.state.metrics.scrape(Default::default());
            let count = |of: &str| {
                let name = "tidegate_certificate_renewals_total{outcome=";
                let row = format!("{name}\"{of}\"}} ");
                let count = scrape.lines().find_map(|line| line.strip_prefix(&row));
                count.unwrap().parse().unwrap()
            };
            (self.state.snapshot().generation, count("rejected"), count("applied"))
        }
    }

    impl Drop for RenewalFixture {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    const CONFIG: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n\
        [[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n\
        [[route]]\nhost = \"*\"\norigins = [\"missing\"]\nbackends = [\"127.0.0.1:9\"]\n";

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn write(folder: &Path, (chain, key): &(String, String)) {
        fs::write(folder.join("chain.pem"), chain).unwrap();
        fs::write(folder.join("key.pem"), key).unwrap();
    }

    // Requirements: CK06.
    #[tokio::test(start_paused = true)]
    async fn persistent_error_is_reported_once() {
        let mut fixture = RenewalFixture::new("ck06");
        assert_eq!(fixture.scan().await, (1, 0, 0));
        let (chain, key) = pair();
        fs::write(fixture.folder.join("chain.pem"), &chain).unwrap();
        assert_eq!(fixture.scan().await, (1, 0, 0), "files may still be being written");
        for _ in 0..3 {
            assert_eq!(fixture.scan().await, (1, 1, 0));
        }
        // Another error.
        fs::remove_file(fixture.folder.join("key.pem")).unwrap();
        assert_eq!(fixture.scan().await, (1, 1, 0));
        assert_eq!(fixture.scan().await, (1, 2, 0));
        write(&fixture.folder, &(chain, key));
        assert_eq!(fixture.scan().await, (2, 2, 1));
        assert_eq!(fixture.scan().await, (2, 2, 1));
        // The same error is reported again after a valid state.
        fs::write(fixture.folder.join("key.pem"), "").unwrap();
        assert_eq!(fixture.scan().await, (2, 2, 1));
        assert_eq!(fixture.scan().await, (2, 3, 1));
    }

    // Requirements: CK06.
    #[tokio::test(start_paused = true)]
    async fn unusable_certificate_does_not_keep_others_from_renewal() {
        let other = "[[certificate]]\nchain = \"other/chain.pem\"\nkey = \"other/key.pem\"\n";
        let folder =
            std::env::temp_dir().join(format!("tidegate-renewal-both-{}", std::process::id()));
        fs::create_dir_all(folder.join("other")).unwrap();
        write(&folder.join("other"), &pair());
        let mut fixture = RenewalFixture::with_config("both", &format!("{CONFIG}{other}"));
        let states = |fixture: &RenewalFixture| {
            fixture.state.snapshot().certs().unwrap().file_states().to_vec()
        };
        let before = states(&fixture);
        let kept = fixture.state.snapshot().certs().unwrap().validities()[0].clone();
        fs::remove_file(folder.join("key.pem")).unwrap();
        write(&folder.join("other"), &pair());
        assert_eq!(fixture.scan().await, (2, 0, 1));
        let after = states(&fixture);
        assert_eq!((after.len(), after[0]), (2, before[0]));
        assert_ne!(after[1], before[1]);
        let snapshot = fixture.state.snapshot();
        assert_eq!(snapshot.certs().unwrap().validities()[0], kept);
        assert_eq!(snapshot.certs().unwrap().listed().filter(|(_, key)| key.is_some()).count(), 2);
        // Then it is reported, once.
        assert_eq!(fixture.scan().await, (2, 0, 1));
        for _ in 0..3 {
            assert_eq!(fixture.scan().await, (2, 1, 1));
        }
        write(&folder, &pair());
        assert_eq!(fixture.scan().await, (3, 1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn scan_before_a_reload_is_discarded() {
        let mut fixture = RenewalFixture::new("race");
        write(&fixture.folder, &pair());
        let result = fixture.watcher.scan(&fixture.state).await;
        assert!(matches!(result, ScanResult::Changed(_)));
        let before = fixture.state.snapshot();
        let (settings, ticketer) = (before.settings.clone(), &fixture.state.ticketer);
        let after = Snapshot::build(settings, Some(&before), ticketer, 1024).unwrap();
        fixture.state.swap(after);
        fixture.watcher.apply(result, &fixture.state, &fixture.source);
        assert_eq!(fixture.scan().await, (2, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn renewal_keeps_everything_else() {
        let mut fixture = RenewalFixture::new("whole");
        let before = fixture.state.snapshot();
        write(&fixture.folder, &pair());
        assert_eq!(fixture.scan().await, (2, 0, 1));
        let after = fixture.state.snapshot();
        assert_eq!(before.settings, after.settings);
        assert!(Arc::ptr_eq(&before.client_rates.handshakes, &after.client_rates.handshakes));
        assert!(Arc::ptr_eq(&before.route_list[0], &after.route_list[0]));
        let path = RoutePath::new("/");
        let found =
            |generation: &Snapshot| generation.routes.select("h", &path).route.unwrap().clone();
        assert!(Arc::ptr_eq(&found(&before), &found(&after)));
    }

    // Requirements: CK02.
    #[tokio::test(start_paused = true)]
    async fn each_expiry_warning_is_logged_once() {
        let fixture = RenewalFixture::new("ck02");
        let snapshot = fixture.state.snapshot();
        let end = snapshot.certs().unwrap().validities()[0].not_after as f64;
        let day = 86_400.0;
        let mut expiry = ExpiryWarnings::default();
        // The first call reports nothing, as the reload has.
        assert_eq!(expiry.update(&snapshot, end - 20.0 * day), []);
        let mut warnings = Vec::new();
        for hours in (-48..24 * 20).rev() {
            for warning in expiry.update(&snapshot, end - f64::from(hours) * day / 24.0) {
                assert_eq!(warning.key, "certificate[0].chain");
                warnings.push((hours / 24, warning.problem));
            }
        }
        let days: Vec<i32> = warnings.iter().map(|(days, _)| *days).collect();
        assert_eq!(days, [14, 7, 3, 1, 0], "{warnings:?}");
        assert!(warnings[4].1.contains("expired"), "{warnings:?}");
    }
}
