//! Certificate renewal. The certificate files are checked every 10 s, through symbolic links;
//! changed certificates are loaded and replace the old ones together, or not at all on an error.
//! The same timer warns of certificates that are about to expire.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rustls::server::ProducesTickets;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::{error, info};

use super::reload::{self, ConfigSource};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::sys::clock::wall;
use crate::sys::systemd;
use crate::telemetry::metrics::process_snapshot::CertificateValidity;
use crate::telemetry::timestamp::rfc3339;
use crate::tls::certs::current_file_states;
use crate::tls::certs::expiry::ExpiryStep;
use crate::tls::certs::pair::FileState;

/// Watches the files of the active certificates.
pub struct CertWatcher {
    poll: Interval,
    /// A scan in progress, in a blocking thread: a slow disk must not delay signals.
    scan: Option<JoinHandle<ScanResult>>,
    failure: Option<ScanFailure>,
    expiry: ExpiryWarnings,
}

/// The result of a scan of the files.
pub enum ScanResult {
    /// The files are those of the active certificates.
    Unchanged,
    /// The files are still invalid, and their errors have been logged.
    StillInvalid,
    /// The files have changed and are invalid.
    Invalid(Vec<FileState>, Vec<LateDiagnostic>),
    /// The files contain other certificates, ready to be applied.
    Changed(Box<ChangedCerts>),
}

/// Certificates that are ready to be applied.
pub struct ChangedCerts {
    /// The snapshot that they replace.
    before: Arc<Snapshot>,
    after: Snapshot,
    /// Warnings that the replaced certificates did not have.
    warnings: Vec<LateDiagnostic>,
}

/// Invalid files.
struct ScanFailure {
    files: Vec<FileState>,
    /// Whether the errors were logged. That happens once a second scan finds the same invalid files,
    /// because the first may have read files that were still being written.
    logged: bool,
}

impl CertWatcher {
    /// Starts to watch. The caller logs the warnings of this snapshot.
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut poll = interval_at(Instant::now() + POLL_INTERVAL, POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expiry = ExpiryWarnings::default();
        expiry.update(snapshot, wall());
        Self { poll, scan: None, failure: None, expiry }
    }

    /// Waits for the next scan and returns its result. Cancel safe.
    pub async fn scan(&mut self, state: &ProxyState) -> ScanResult {
        loop {
            if let Some(scan) = &mut self.scan {
                let result = scan.await;
                self.scan = None;
                return result.unwrap_or(ScanResult::Unchanged);
            }
            self.poll.tick().await;
            let (snapshot, ticketer) = (state.snapshot(), state.ticketer.clone());
            let logged = self.failure.as_ref().filter(|failure| failure.logged);
            let logged = logged.map(|failure| failure.files.clone());
            let scan = move || compare(snapshot, &ticketer, logged.as_deref());
            self.scan = Some(spawn_blocking(scan));
        }
    }

    /// Applies the result of a scan and logs it.
    pub fn apply(&mut self, result: ScanResult, state: &ProxyState, source: &ConfigSource) {
        match result {
            ScanResult::Unchanged => self.failure = None,
            ScanResult::StillInvalid => {}
            ScanResult::Invalid(files, errors) => self.reject(files, &errors, state, source),
            ScanResult::Changed(changed) => {
                self.failure = None;
                // Otherwise a reload has loaded the certificates meanwhile.
                if changed.before.generation == state.snapshot().generation {
                    apply_renewal(*changed, state, source, &mut self.expiry);
                }
            }
        }
        reload::warn(source, &self.expiry.update(&state.snapshot(), wall()));
    }

    fn reject(
        &mut self,
        files: Vec<FileState>,
        errors: &[LateDiagnostic],
        state: &ProxyState,
        source: &ConfigSource,
    ) {
        let found_again = self.failure.as_ref().is_some_and(|failure| failure.files == files);
        if found_again {
            state.metrics.renewed(false);
            for error in source.locate(errors).lines() {
                error!(error, "changed certificates rejected; the previous ones stay active");
            }
        }
        self.failure = Some(ScanFailure { files, logged: found_again });
    }
}

/// Compares the files with those that the snapshot was built from.
fn compare(
    before: Arc<Snapshot>,
    ticketer: &Arc<dyn ProducesTickets>,
    logged: Option<&[FileState]>,
) -> ScanResult {
    let Some(certs) = before.certs() else { return ScanResult::Unchanged };
    let files = current_file_states(&before.settings.certificates);
    if files == certs.file_states() {
        return ScanResult::Unchanged;
    }
    if logged == Some(&files) {
        return ScanResult::StillInvalid;
    }
    match before.with_certificates(ticketer) {
        Ok(after) => {
            let warnings = after.new_warnings(&before);
            ScanResult::Changed(Box::new(ChangedCerts { before, after, warnings }))
        }
        Err(errors) => ScanResult::Invalid(files, errors),
    }
}

fn apply_renewal(
    changed: ChangedCerts,
    state: &ProxyState,
    source: &ConfigSource,
    expiry: &mut ExpiryWarnings,
) {
    let ChangedCerts { before, after, warnings } = changed;
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

impl Snapshot {
    /// The warnings of this snapshot that the previous one did not have.
    fn new_warnings(&self, previous: &Self) -> Vec<LateDiagnostic> {
        let known: HashSet<&LateDiagnostic> = previous.static_warnings.iter().collect();
        self.static_warnings.iter().filter(|warning| !known.contains(warning)).cloned().collect()
    }
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

const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Certificate names listed in one log line.
const NAMES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::settings::Settings;
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
            let name = format!("tidegate-renewal-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join("proxy.toml");
            fs::write(&path, CONFIG).unwrap();
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
        assert!(Arc::ptr_eq(&before.handshake_rate, &after.handshake_rate));
        assert!(Arc::ptr_eq(&before.route_list[0], &after.route_list[0]));
        let found = |generation: &Snapshot| generation.routes.find("h", "/").unwrap().clone();
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
