//! The access log: records go to standard error, or to a file that a separate thread writes and
//! each reload reopens.

use std::cell::Cell;
use std::fs::{File, Metadata, OpenOptions, metadata};
use std::io::{self, Seek, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::error;

use super::line::LogLine;
use super::line_writer::{LineSender, LineSink, LogTarget, WriteError, write_lines};
use super::record_rate::{RATES, RecordKind, SuppressedRecords, write_suppressed};
use super::stderr::stderr;
use super::timestamp::LogTime;
use crate::config::settings::{AccessSettings, AccessTarget, LogFormat, Settings};
use crate::sys::clock::now;

/// An open destination for records.
#[derive(Clone, Debug)]
pub struct AccessLog {
    format: LogFormat,
    start: bool,
    /// Records of one kind that a client may cause per second; `None` for any number.
    records_per_client: Option<NonZeroU32>,
    lines: LineSender,
    file: Option<OpenFile>,
}

/// The destination that was replaced; its thread may still have lines to write.
#[derive(Debug)]
pub struct PreviousLog(Option<OpenFile>);

/// The access log file could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the access log {path}: {source}{hint}", path = path.display())]
pub struct AccessLogError {
    path: PathBuf,
    source: io::Error,
    hint: &'static str,
}

/// A file that a writer thread holds open.
#[derive(Clone, Debug)]
struct OpenFile {
    /// Device and inode: after a rotation the same name is another file.
    id: (u64, u64),
    /// Closed once the thread has written its last line.
    done: watch::Receiver<()>,
}

impl AccessLog {
    /// Opens the destination that the settings name, without sending records there yet. If that file
    /// is in use already, its thread is reused.
    ///
    /// # Errors
    /// The file cannot be opened, is not a regular file, or too many earlier files still have lines
    /// to write.
    pub fn open(settings: &Settings) -> Result<Self, AccessLogError> {
        let AccessSettings { format, start, records_per_client, .. } = settings.access;
        let path = match &settings.access.to {
            AccessTarget::Stderr => {
                let lines = stderr(format);
                return Ok(Self { format, start, records_per_client, lines, file: None });
            }
            AccessTarget::File(path) => path,
        };
        let error = |source: io::Error| {
            let hint = HINTS.iter().find(|(kind, _)| *kind == source.kind());
            let hint = hint.map_or("", |(_, hint)| hint);
            AccessLogError { path: path.clone(), source, hint }
        };
        let (file, id) = open_file(path, settings).map_err(error)?;
        if let Some(current) = &*ACCESS.load()
            && current.file.as_ref().is_some_and(|used| used.id == id)
        {
            return Ok(Self { format, start, records_per_client, ..AccessLog::clone(current) });
        }
        let (lines, done) = start_writer(file, path).map_err(error)?;
        let file = Some(OpenFile { id, done });
        Ok(Self { format, start, records_per_client, lines, file })
    }

    /// Sends all further records to this destination.
    pub fn activate(self) -> PreviousLog {
        let id = self.file.as_ref().map(|file| file.id);
        let previous = ACCESS.swap(Some(Arc::new(self)));
        let file = previous.and_then(|previous| previous.file.clone());
        PreviousLog(file.filter(|file| Some(file.id) != id))
    }

    /// Whether a record may be written; counts it otherwise.
    fn admits(&self, kind: RecordKind) -> bool {
        self.records_per_client.is_none_or(|rate| RATES.admit(kind, rate, now()))
    }

    fn write(&self, event: &str, fill: impl FnOnce(&mut LogLine)) {
        // Only a thread that is ending has no buffer any more.
        let buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        let mut line = LogLine::in_buffer(self.format, buffer);
        line.bare("time", |bytes| LogTime::now().write_to(bytes));
        line.text("event", event);
        fill(&mut line);
        let line = line.finish();
        self.lines.send(&line);
        let _ = BUFFER.try_with(|buffer| buffer.set(line));
    }
}

impl PreviousLog {
    /// Waits until the last line is written and the file is closed, at most one second.
    pub async fn finish(self) {
        if let Some(mut file) = self.0 {
            let _ = timeout(FINISH_MAX, file.done.changed()).await;
        }
    }
}

/// Writes one record, unless its client has caused too many of this kind: the time, the event, and the fields that
/// `fill` adds.
pub(super) fn write_record(kind: RecordKind, fill: impl FnOnce(&mut LogLine)) {
    if let Some(access) = &*ACCESS.load()
        && access.admits(kind)
    {
        access.write(kind.event, fill);
    }
}

/// Writes a record for each kind of records that were not written since the last call. Call it every second.
pub fn sum_up_suppressed() {
    if let Some(access) = &*ACCESS.load() {
        for (kind, count) in RATES.take_suppressed() {
            let rate = access.records_per_client.map(|rate| format!("{rate}/s"));
            let suppressed = SuppressedRecords { kind, count, rate };
            access.write("suppressed", |line| write_suppressed(line, &suppressed));
        }
    }
}

thread_local! {
    /// The memory of the records that this thread writes.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Whether a record is written when a tunnel starts (`access.start`).
pub(super) fn records_starts() -> bool {
    ACCESS.load().as_ref().is_some_and(|access| access.start)
}

/// Sums up the records that were not written, and blocks until all records for a file are written, at most two seconds.
pub(super) fn flush() {
    sum_up_suppressed();
    let access = ACCESS.load_full();
    if let Some(access) = access.filter(|access| access.file.is_some()) {
        access.lines.flush();
    }
}

fn open_file(path: &Path, settings: &Settings) -> io::Result<(File, (u64, u64))> {
    let check = |found: &Metadata| match settings.access_log_target_problem(found) {
        Some(problem) => Err(io::Error::other(format!("it {problem}"))),
        None => Ok(()),
    };
    // Opening a pipe for writing blocks until it has a reader, and lines would be lost with that
    // reader.
    if let Ok(found) = metadata(path) {
        check(&found)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    // The path may lead to another file by now.
    let found = file.metadata()?;
    check(&found)?;
    Ok((file, (found.dev(), found.ino())))
}

fn start_writer(file: File, path: &Path) -> io::Result<(LineSender, watch::Receiver<()>)> {
    let (closing, done) = watch::channel(());
    if OPEN.fetch_add(1, Ordering::Relaxed) >= OPEN_MAX {
        OPEN.fetch_sub(1, Ordering::Relaxed);
        return Err(io::Error::other(
            "the files of earlier reloads still have lines to write; check for a stalled disk",
        ));
    }
    let path = path.to_owned();
    let sink = AccessFile { file, path, torn: false, _closing: closing };
    let (lines, started) = LineSender::start("access", LogTarget::AccessFile, sink);
    started.map(|()| (lines, done))
}

/// The file, owned by its writer thread.
struct AccessFile {
    file: File,
    path: PathBuf,
    /// The file ends with an incomplete line.
    torn: bool,
    /// Declared after `file`, because fields are dropped in order and this one signals the close.
    _closing: watch::Sender<()>,
}

impl AccessFile {
    /// Removes the start of a line that could not be written completely, so that the file contains
    /// complete lines only.
    fn truncate_partial(&mut self, written: usize) -> io::Result<()> {
        let end = self.file.stream_position()?;
        // Another process may have appended to the file.
        if self.file.metadata()?.len() != end {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        self.file.set_len(end.saturating_sub(written as u64))
    }
}

impl LineSink for AccessFile {
    const BATCH_BYTES: usize = 64 * 1024;

    fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        if self.torn {
            self.file.write_all(b"\n").map_err(|source| WriteError { written: 0, source })?;
            self.torn = false;
        }
        write_lines(&mut self.file, lines).inspect_err(|error| {
            let partial = error.partial_bytes(lines);
            self.torn = partial > 0 && self.truncate_partial(partial).is_err();
        })
    }

    fn report_lost(&mut self, lost: u64, error: Option<&io::Error>) -> io::Result<()> {
        let path = self.path.display();
        match error {
            Some(error) => {
                let error = error.to_string();
                error!(lost, %path, error, "access log: records lost, the file cannot be written");
            }
            None => error!(lost, %path, "access log: records lost, writing cannot keep up"),
        }
        Ok(())
    }
}

impl Drop for AccessFile {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

static ACCESS: ArcSwapOption<AccessLog> = ArcSwapOption::const_empty();
/// Number of files that writer threads hold open.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// One file in use, and a few that a stalled disk keeps open.
const OPEN_MAX: usize = 4;
/// Records contain client addresses and request targets, so other users may not read them.
const MODE: u32 = 0o640;
const FINISH_MAX: Duration = Duration::from_secs(1);

/// What the operator can do about each error.
const HINTS: [(io::ErrorKind, &str); 3] = [
    (
        io::ErrorKind::NotFound,
        "; create the directory and make it writable for the user that runs tidegate",
    ),
    (
        io::ErrorKind::PermissionDenied,
        "; make it writable for the user that runs tidegate (systemd: LogsDirectory=tidegate)",
    ),
    (
        io::ErrorKind::ReadOnlyFilesystem,
        "; use a directory on a writable file system (systemd: LogsDirectory=tidegate)",
    ),
];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::client::ClientKey;

    /// Settings that send records to this file.
    fn settings_for(path: &Path) -> Settings {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:80\"\ntls = false\n\
             [[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"b:1\"]\n\
             [access]\nto = \"{}\"\nformat = \"json\"\nrecords_per_client = \"off\"\n",
            path.display()
        );
        Settings::parse(&text, "proxy.toml").unwrap()
    }

    /// The old file may be compressed as soon as the reload is reported.
    #[tokio::test]
    async fn previous_file_is_complete_once_finished() {
        let folder = std::env::temp_dir().join(format!("tidegate-access-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let open = |name: &str| AccessLog::open(&settings_for(&folder.join(name))).unwrap();
        let kind = RecordKind { client: Some(ClientKey::sample(1)), event: "test", end: "" };
        let mut names = (0..20).map(|n| n.to_string());
        let mut before = names.next().unwrap();
        drop(open(&before).activate());
        for name in names {
            for _ in 0..1000 {
                write_record(kind, |line| line.text("in", &*before));
            }
            open(&name).activate().finish().await;
            let text = fs::read_to_string(folder.join(&before)).unwrap();
            let complete = |line: &&str| line.ends_with(&format!("\"in\":\"{before}\"}}"));
            assert_eq!(text.lines().filter(complete).count(), 1000);
            before = name;
        }
        let opened = OPEN.load(Ordering::Relaxed);
        // Opening the same file again starts no second writer.
        drop(open(&before).activate());
        assert_eq!(OPEN.load(Ordering::Relaxed), opened);
        ACCESS.store(None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn open_errors_name_path_cause_and_remedy() {
        let error =
            |path: &str| AccessLog::open(&settings_for(path.as_ref())).unwrap_err().to_string();
        assert_eq!(
            error("/nowhere/access.log"),
            "cannot open the access log /nowhere/access.log: No such file or directory \
             (os error 2); create the directory and make it writable for the user that runs tidegate"
        );
        assert!(error("/tmp").contains("it is a directory: name the file in it"));
        // Opening a pipe would block until it has a reader.
        let pipe = std::env::temp_dir().join(format!("tidegate-pipe-{}", std::process::id()));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(error(pipe.to_str().unwrap()).contains("it is a pipe"));
        fs::remove_file(pipe).unwrap();
    }
}
