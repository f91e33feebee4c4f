//! Certificates change in their files whenever somebody renews them. The files are looked at every
//! few seconds, through links; what changed is put in force like a reload, whole or not at all.
//! By the same clock it is told when a certificate comes nearer to its end.

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
use crate::telemetry::metrics::process_snapshot::CertificateState;
use crate::telemetry::timestamp::rfc3339;
use crate::tls::certs::current_file_states;
use crate::tls::certs::expiry::ExpiryStep;
use crate::tls::certs::pair::FileState;

/// Looks after the certificates in force.
pub struct CertWatcher {
    poll: Interval,
    /// Files are looked at beside all else: a disk may take its time, and signals are heard
    /// meanwhile.
    looking: Option<JoinHandle<ScanResult>>,
    failed: Option<ScanFailure>,
    ends: ExpiryWarnings,
}

/// What was found when the files were looked at.
pub enum ScanResult {
    /// What is in force.
    Same,
    /// What could not be taken already, of which everything is told.
    StillFaulty,
    /// What cannot be taken.
    Faulty(Vec<FileState>, Vec<LateDiagnostic>),
    /// Other certificates, to be put in force.
    Changed(Box<ChangedCerts>),
}

/// Certificates that are to be put in force.
pub struct ChangedCerts {
    /// In whose place.
    before: Arc<Snapshot>,
    after: Snapshot,
    /// What was not to be said of those before.
    warnings: Vec<LateDiagnostic>,
}

/// Files that could not be taken.
struct ScanFailure {
    seen: Vec<FileState>,
    /// Whoever writes several files may be at it still: a fault is told when it stays.
    told: bool,
}

impl CertWatcher {
    /// From here on; what there is to say of this generation was said.
    pub fn new(generation: &Snapshot) -> Self {
        let mut poll = interval_at(Instant::now() + POLL_EVERY, POLL_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ends = ExpiryWarnings::default();
        ends.news(generation, wall());
        Self { poll, looking: None, failed: None, ends }
    }

    /// Looks at the files when it is time to. Nothing is lost if this is dropped.
    pub async fn found(&mut self, gate: &ProxyState) -> ScanResult {
        loop {
            if let Some(looking) = &mut self.looking {
                let found = looking.await;
                self.looking = None;
                return found.unwrap_or(ScanResult::Same);
            }
            self.poll.tick().await;
            let (generation, ticketer) = (gate.snapshot(), gate.ticketer.clone());
            let failed = self.failed.as_ref().filter(|failed| failed.told);
            let failed = failed.map(|failed| failed.seen.clone());
            let look = move || compare(generation, &ticketer, failed.as_deref());
            self.looking = Some(spawn_blocking(look));
        }
    }

    /// Does what is to be done about it, and says so.
    pub fn take(&mut self, found: ScanResult, gate: &ProxyState, source: &ConfigSource) {
        match found {
            ScanResult::Same => self.failed = None,
            ScanResult::StillFaulty => {}
            ScanResult::Faulty(seen, faults) => self.refuse(seen, &faults, gate, source),
            ScanResult::Changed(changed) => {
                self.failed = None;
                // A reload came in between, and read them itself.
                if changed.before.generation == gate.snapshot().generation {
                    apply(*changed, gate, source, &mut self.ends);
                }
            }
        }
        reload::warn(source, &self.ends.news(&gate.snapshot(), wall()));
    }

    fn refuse(
        &mut self,
        seen: Vec<FileState>,
        faults: &[LateDiagnostic],
        gate: &ProxyState,
        source: &ConfigSource,
    ) {
        let told = self.failed.as_ref().is_some_and(|failed| failed.seen == seen);
        if told {
            gate.metrics.renewed(false);
            for fault in source.place(faults) {
                error!(fault, "changed certificates refused; those in force stay");
            }
        }
        self.failed = Some(ScanFailure { seen, told });
    }
}

/// Whether other files are there than those that this generation was made of.
fn compare(
    before: Arc<Snapshot>,
    ticketer: &Arc<dyn ProducesTickets>,
    failed: Option<&[FileState]>,
) -> ScanResult {
    let Some(certs) = before.certs() else { return ScanResult::Same };
    let seen = current_file_states(&before.settings.certificates);
    if seen == certs.file_states() {
        return ScanResult::Same;
    }
    if failed == Some(&seen) {
        return ScanResult::StillFaulty;
    }
    match before.with_certificates(ticketer) {
        Ok(after) => {
            let warnings = after.remarks_beyond(&before);
            ScanResult::Changed(Box::new(ChangedCerts { before, after, warnings }))
        }
        Err(faults) => ScanResult::Faulty(seen, faults),
    }
}

fn apply(
    changed: ChangedCerts,
    gate: &ProxyState,
    source: &ConfigSource,
    ends: &mut ExpiryWarnings,
) {
    let ChangedCerts { before, after, warnings } = changed;
    let states = replaced(&before, &after);
    let mut names: Vec<&str> = states.iter().map(|state| &*state.name).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let not_after = states.iter().map(|state| state.not_after).min();
    let generation = after.generation;
    // What is said of these is said below, not by whoever loaded them.
    ends.generation = generation;
    gate.swap(after);
    gate.metrics.renewed(true);
    // After the swap: a handshake that follows this line gets the new certificates.
    info!(
        generation,
        certificates = states.len(),
        names = names.join(", ") + if more > 0 { ", ..." } else { "" },
        not_after = not_after.map(rfc3339),
        "certificates renewed; open tunnels notice nothing"
    );
    systemd::ready(&reload::status(gate));
    reload::warn(source, &warnings);
}

/// The certificates that were read from other files than before.
fn replaced(before: &Snapshot, after: &Snapshot) -> Vec<CertificateState> {
    let (Some(before), Some(after)) = (before.certs(), after.certs()) else { return Vec::new() };
    let states = after.states().iter();
    let other = |state: &&CertificateState| {
        before.file_states().get(state.index) != after.file_states().get(state.index)
    };
    states.filter(other).cloned().collect()
}

impl Snapshot {
    /// What there is to say of this one's file that was not to be said of another's.
    fn remarks_beyond(&self, other: &Self) -> Vec<LateDiagnostic> {
        let said: HashSet<&LateDiagnostic> = other.static_warnings.iter().collect();
        self.static_warnings.iter().filter(|later| !said.contains(later)).cloned().collect()
    }
}

/// How near their ends certificates are, as far as that was told: by place and last moment.
#[derive(Default)]
struct ExpiryWarnings {
    generation: u64,
    told: HashMap<(usize, u64), ExpiryStep>,
}

impl ExpiryWarnings {
    /// What is to be told now; nothing of a generation that was met by surprise, as whoever loaded
    /// it told of that.
    fn news(&mut self, generation: &Snapshot, now: f64) -> Vec<LateDiagnostic> {
        let mut reached = HashMap::new();
        let mut news = Vec::new();
        for (state, step) in
            generation.certs().into_iter().flat_map(|certs| certs.expiring(now as u64))
        {
            let which = (state.index, state.not_after);
            reached.insert(which, step);
            if self.generation == generation.generation && self.told.get(&which) != Some(&step) {
                news.push(step.warning(state, now as u64));
            }
        }
        (self.generation, self.told) = (generation.generation, reached);
        news
    }
}

/// How often the files are looked at.
const POLL_EVERY: Duration = Duration::from_secs(10);
/// Names of certificates told of at once.
const NAMES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::settings::Settings;
    use crate::tls::terminate::ticketer;

    /// A gate whose certificate lies in a folder of its own, and who looks after it.
    struct RenewalFixture {
        folder: PathBuf,
        gate: Arc<ProxyState>,
        renewal: CertWatcher,
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
            let generation = Snapshot::build(settings, None, &ticketer, 1024).unwrap();
            let renewal = CertWatcher::new(&generation);
            let gate = Arc::new(ProxyState::new(
                Arc::new(crate::net::network::SystemNet),
                generation,
                ticketer,
                1024,
            ));
            Self { folder, gate, renewal, source: ConfigSource::File(path) }
        }

        /// One look at the files; the number of the generation in force after it, and of renewals
        /// refused and taken.
        async fn look(&mut self) -> (u64, u64, u64) {
            let found = self.renewal.found(&self.gate).await;
            self.renewal.take(found, &self.gate, &self.source);
            let scrape = self.gate.metrics.scrape(Default::default());
            let count = |of: &str| {
                let name = "tidegate_certificate_renewals_total{outcome=";
                let row = format!("{name}\"{of}\"}} ");
                let count = scrape.lines().find_map(|line| line.strip_prefix(&row));
                count.unwrap().parse().unwrap()
            };
            (self.gate.snapshot().generation, count("rejected"), count("applied"))
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
        let mut house = RenewalFixture::new("ck06");
        assert_eq!(house.look().await, (1, 0, 0));
        let (chain, key) = pair();
        fs::write(house.folder.join("chain.pem"), &chain).unwrap();
        assert_eq!(house.look().await, (1, 0, 0), "somebody may be at it");
        for _ in 0..3 {
            assert_eq!(house.look().await, (1, 1, 0));
        }
        // Another fault.
        fs::remove_file(house.folder.join("key.pem")).unwrap();
        assert_eq!(house.look().await, (1, 1, 0));
        assert_eq!(house.look().await, (1, 2, 0));
        write(&house.folder, &(chain, key));
        assert_eq!(house.look().await, (2, 2, 1));
        assert_eq!(house.look().await, (2, 2, 1));
        // What was faulty once may be so again.
        fs::write(house.folder.join("key.pem"), "").unwrap();
        assert_eq!(house.look().await, (2, 2, 1));
        assert_eq!(house.look().await, (2, 3, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_before_a_reload_is_not_taken_after_it() {
        let mut house = RenewalFixture::new("race");
        write(&house.folder, &pair());
        let found = house.renewal.found(&house.gate).await;
        assert!(matches!(found, ScanResult::Changed(_)));
        let before = house.gate.snapshot();
        let (settings, ticketer) = (before.settings.clone(), &house.gate.ticketer);
        let after = Snapshot::build(settings, Some(&before), ticketer, 1024).unwrap();
        house.gate.swap(after);
        house.renewal.take(found, &house.gate, &house.source);
        assert_eq!(house.look().await, (2, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_carries_everything_over() {
        let mut house = RenewalFixture::new("whole");
        let before = house.gate.snapshot();
        write(&house.folder, &pair());
        assert_eq!(house.look().await, (2, 0, 1));
        let after = house.gate.snapshot();
        assert_eq!(before.settings, after.settings);
        assert!(Arc::ptr_eq(&before.handshake_rate, &after.handshake_rate));
        assert!(Arc::ptr_eq(&before.route_list[0], &after.route_list[0]));
        let found = |generation: &Snapshot| generation.routes.find("h", "/").unwrap().clone();
        assert!(Arc::ptr_eq(&found(&before), &found(&after)));
    }

    // Requirements: CK02.
    #[tokio::test(start_paused = true)]
    async fn each_expiry_warning_is_logged_once() {
        let house = RenewalFixture::new("ck02");
        let generation = house.gate.snapshot();
        let end = generation.certs().unwrap().states()[0].not_after as f64;
        let day = 86_400.0;
        let mut ends = ExpiryWarnings::default();
        // Whoever loaded it has told of this.
        assert_eq!(ends.news(&generation, end - 20.0 * day), []);
        let mut told = Vec::new();
        for hours in (-48..24 * 20).rev() {
            for later in ends.news(&generation, end - f64::from(hours) * day / 24.0) {
                assert_eq!(later.key, "certificate[0].chain");
                told.push((hours / 24, later.problem));
            }
        }
        let days: Vec<i32> = told.iter().map(|(days, _)| *days).collect();
        assert_eq!(days, [14, 7, 3, 1, 0], "{told:?}");
        assert!(told[4].1.contains("expired"), "{told:?}");
    }
}
