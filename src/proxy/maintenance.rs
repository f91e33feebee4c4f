//! Maintenance of a route: its requests are answered with 503, and its open tunnels stay open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::reject::RejectReason;
use crate::reject::maintenance::MaintenanceCause;

/// Whether a route is in maintenance.
#[derive(Debug, Default)]
pub struct Maintenance {
    /// Set by an operator; kept across reloads.
    command: Arc<AtomicBool>,
    file: Option<Arc<MaintenanceFile>>,
}

/// A file that switches maintenance on by its existence.
#[derive(Debug)]
pub struct MaintenanceFile {
    path: PathBuf,
    /// Whether it existed when it was last looked for.
    exists: AtomicBool,
    /// The last reported state.
    reported: AtomicBool,
    /// Whether the last attempt to look for it failed.
    failed: AtomicBool,
}

/// What is new after looking for a file.
#[derive(Debug)]
pub enum FileChange {
    /// It has been created, or removed.
    Exists(bool),
    /// It can no longer be determined; the previous state applies.
    Unknown(io::Error),
}

impl Maintenance {
    /// Builds the state of a route, and looks for its file. `previous` is that of the route of the same name.
    pub fn build(file: Option<&Path>, previous: Option<&Self>) -> Self {
        let known = previous.and_then(|previous| previous.file.as_ref());
        let build = |path: &Path| match known.filter(|known| known.path == path) {
            Some(known) => known.clone(),
            None => Arc::new(MaintenanceFile::new(path)),
        };
        let command = previous.map(|previous| previous.command.clone()).unwrap_or_default();
        Self { command, file: file.map(build) }
    }

    /// Why the route is in maintenance, if it is.
    pub fn cause(&self) -> Option<MaintenanceCause> {
        let exists = || self.file.as_ref().is_some_and(|file| file.exists.load(Ordering::Relaxed));
        if self.command.load(Ordering::Relaxed) {
            Some(MaintenanceCause::Command)
        } else {
            exists().then_some(MaintenanceCause::File)
        }
    }

    /// Admits a request.
    ///
    /// # Errors
    /// [`RejectReason::Maintenance`] if the route is in maintenance.
    pub fn admit(&self) -> Result<(), RejectReason> {
        self.cause().map_or(Ok(()), |cause| Err(RejectReason::Maintenance(cause)))
    }

    /// Switches maintenance on, or off unless the file exists.
    pub fn set_by_command(&self, on: bool) {
        self.command.store(on, Ordering::Relaxed);
    }

    /// The file that switches maintenance on, if the route has one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Looks for the file, which may block. Returns what has not been reported yet.
    pub fn look(&self) -> Option<FileChange> {
        self.file.as_ref()?.look()
    }
}

impl MaintenanceFile {
    fn new(path: &Path) -> Self {
        // A failure is reported when the file is looked for again.
        let exists = path.try_exists().unwrap_or(false);
        Self {
            path: path.to_owned(),
            exists: AtomicBool::new(exists),
            reported: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    fn look(&self) -> Option<FileChange> {
        match self.path.try_exists() {
            Ok(exists) => {
                self.failed.store(false, Ordering::Relaxed);
                self.exists.store(exists, Ordering::Relaxed);
                let reported = self.reported.swap(exists, Ordering::Relaxed);
                (reported != exists).then_some(FileChange::Exists(exists))
            }
            Err(error) => {
                let is_known = self.failed.swap(true, Ordering::Relaxed);
                (!is_known).then_some(FileChange::Unknown(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn file_and_command_switch_independently() {
        let path =
            std::env::temp_dir().join(format!("tidegate-maintenance-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let first = Maintenance::build(Some(&path), None);
        assert_eq!(first.cause(), Some(MaintenanceCause::File));
        assert!(matches!(first.look(), Some(FileChange::Exists(true))));
        assert!(first.look().is_none());
        first.set_by_command(true);
        assert_eq!(first.cause(), Some(MaintenanceCause::Command));
        fs::remove_file(&path).unwrap();
        // A reload keeps both, and what has been reported.
        let second = Maintenance::build(Some(&path), Some(&first));
        assert!(matches!(second.look(), Some(FileChange::Exists(false))));
        second.set_by_command(false);
        assert_eq!((second.cause(), second.admit()), (None, Ok(())));
        // Without the key the file has no effect.
        fs::write(&path, "").unwrap();
        second.look();
        assert_eq!(second.cause(), Some(MaintenanceCause::File));
        assert_eq!(Maintenance::build(None, Some(&second)).cause(), None);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn failure_is_reported_once_and_changes_nothing() {
        let file = Maintenance::build(Some(&Path::new("/").join("a".repeat(300))), None);
        assert!(matches!(file.look(), Some(FileChange::Unknown(_))));
        assert!(file.look().is_none() && file.cause().is_none());
    }
}
