//! Watches the files that the active snapshot was built from. They are examined every 10 s, through
//! symbolic links, in a blocking thread: a slow disk must not delay signals. Changed files are loaded and
//! replace the old ones; what happens on an error is up to the kind of files.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::ProducesTickets;
use tokio::select;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;

/// Files that are loaded again when they change.
pub trait WatchedFiles: 'static {
    /// Identifies the content of all files.
    type State: Clone + PartialEq + Send + 'static;

    /// Whether the first part of a file can pass for a complete one. A change is then loaded only once a
    /// second examination finds the same files, because they may still be being written.
    const WAIT_UNTIL_STABLE: bool;

    /// The files that the snapshot was built from; `None` if it needs none.
    fn loaded(snapshot: &Snapshot) -> Option<Self::State>;

    /// The files as they are now. May block.
    fn current(snapshot: &Snapshot) -> Self::State;

    /// Notified when this process itself has changed the files.
    fn changed(_: &ProxyState) -> Option<&Notify> {
        None
    }

    /// Builds the next snapshot with the files read again. May block.
    ///
    /// # Errors
    /// All problems of the files.
    fn load(
        snapshot: &Snapshot,
        ticketer: &Arc<dyn ProducesTickets>,
    ) -> Result<Snapshot, Vec<LateDiagnostic>>;
}

/// Watches the files `W` of the active snapshot.
pub struct FileWatcher<W: WatchedFiles> {
    poll: Interval,
    /// A scan in progress.
    scan: Option<JoinHandle<ScanResult<W::State>>>,
    /// Changed files that are not in use, as the last scan found them.
    pending: Option<PendingFiles<W::State>>,
}

/// The result of a scan of the files.
pub enum ScanResult<S> {
    /// The files are those that the snapshot was built from.
    Unchanged,
    /// The files are still invalid, and their errors have been reported.
    StillInvalid,
    /// The files have changed, and may still be being written.
    Unstable(S),
    /// The files have changed and are invalid.
    Invalid(S, Vec<LateDiagnostic>),
    /// The files have changed and are ready to be applied.
    Changed(Box<ChangedFiles>),
}

/// Changed files that are ready to be applied.
pub struct ChangedFiles {
    /// The snapshot to be replaced.
    pub before: Arc<Snapshot>,
    /// The snapshot built from the changed files.
    pub after: Snapshot,
    /// Warnings that the replaced snapshot did not have.
    pub warnings: Vec<LateDiagnostic>,
}

#[derive(Clone)]
struct PendingFiles<S> {
    files: S,
    /// Whether their errors were reported. That happens once a second scan finds the same invalid files,
    /// because the first may have read files that were still being written.
    reported: bool,
}

impl<W: WatchedFiles> FileWatcher<W> {
    /// Starts to watch.
    pub fn start() -> Self {
        let mut poll = interval_at(Instant::now() + POLL_INTERVAL, POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { poll, scan: None, pending: None }
    }

    /// Waits for the next scan and returns its result. Cancel safe.
    pub async fn scan(&mut self, state: &ProxyState) -> ScanResult<W::State> {
        loop {
            if let Some(scan) = &mut self.scan {
                let result = scan.await;
                self.scan = None;
                return result.unwrap_or(ScanResult::Unchanged);
            }
            select! {
                _ = self.poll.tick() => {}
                () = notified(W::changed(state)) => {}
            }
            let (snapshot, ticketer) = (state.snapshot(), state.ticketer.clone());
            let pending = self.pending.clone();
            let scan = move || compare::<W>(snapshot, &ticketer, pending);
            self.scan = Some(spawn_blocking(scan));
        }
    }

    /// What a scan requires: files to apply, errors to report, or nothing.
    pub fn evaluate(
        &mut self,
        result: ScanResult<W::State>,
        state: &ProxyState,
    ) -> Option<Result<ChangedFiles, Vec<LateDiagnostic>>> {
        match result {
            ScanResult::Unchanged => {
                self.pending = None;
                None
            }
            ScanResult::StillInvalid => None,
            ScanResult::Unstable(files) => {
                self.pending = Some(PendingFiles { files, reported: false });
                None
            }
            ScanResult::Invalid(files, errors) => {
                let again = self.pending.as_ref().is_some_and(|pending| pending.files == files);
                self.pending = Some(PendingFiles { files, reported: again });
                again.then_some(Err(errors))
            }
            ScanResult::Changed(changed) => {
                self.pending = None;
                // Otherwise the snapshot has been replaced meanwhile.
                let is_current = changed.before.generation == state.snapshot().generation;
                is_current.then_some(Ok(*changed))
            }
        }
    }

    /// Whether the errors of the present files were reported.
    #[cfg(test)]
    pub fn has_reported(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.reported)
    }
}

async fn notified(changed: Option<&Notify>) {
    match changed {
        Some(changed) => changed.notified().await,
        None => std::future::pending().await,
    }
}

/// Compares the files with those that the snapshot was built from.
fn compare<W: WatchedFiles>(
    before: Arc<Snapshot>,
    ticketer: &Arc<dyn ProducesTickets>,
    pending: Option<PendingFiles<W::State>>,
) -> ScanResult<W::State> {
    let Some(loaded) = W::loaded(&before) else { return ScanResult::Unchanged };
    let files = W::current(&before);
    if files == loaded {
        return ScanResult::Unchanged;
    }
    match pending.filter(|pending| pending.files == files) {
        Some(pending) if pending.reported => return ScanResult::StillInvalid,
        None if W::WAIT_UNTIL_STABLE => return ScanResult::Unstable(files),
        Some(_) | None => {}
    }
    match W::load(&before, ticketer) {
        Ok(after) => {
            let warnings = after.new_warnings(&before);
            ScanResult::Changed(Box::new(ChangedFiles { before, after, warnings }))
        }
        Err(errors) => ScanResult::Invalid(files, errors),
    }
}

impl Snapshot {
    /// The warnings of this snapshot that the previous one did not have.
    fn new_warnings(&self, previous: &Self) -> Vec<LateDiagnostic> {
        let known: HashSet<&LateDiagnostic> = previous.static_warnings.iter().collect();
        self.static_warnings.iter().filter(|warning| !known.contains(warning)).cloned().collect()
    }
}

const POLL_INTERVAL: Duration = Duration::from_secs(10);
