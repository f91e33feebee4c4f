//! Where the records of connections go: to standard error, or to a file of their own, written by
//! a thread of its own and opened anew at each reload.

use std::fs::{File, Metadata, OpenOptions, metadata};
use std::io::{self, Seek, Write};
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
use super::line_writer::{LineSender, LineSink, LogTarget};
use super::log::stderr;
use super::timestamp::LogTime;
use crate::config::settings::{AccessTarget, LogFormat, Settings};

/// A place for records, opened.
#[derive(Clone, Debug)]
pub struct AccessLog {
    format: LogFormat,
    start: bool,
    lines: LineSender,
    file: Option<OpenFile>,
}

/// What came before, which may have lines to write yet.
#[derive(Debug)]
pub struct PreviousLog(Option<OpenFile>);

/// The file of records could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the access log {path}: {source}{hint}", path = path.display())]
pub struct AccessLogError {
    path: PathBuf,
    source: io::Error,
    hint: &'static str,
}

/// The file behind a thread.
#[derive(Clone, Debug)]
struct OpenFile {
    /// Device and number: the same name may lead to another file.
    id: (u64, u64),
    /// Closed when the thread has written its last line.
    over: watch::Receiver<()>,
}

impl AccessLog {
    /// Opens what the settings name; no record goes there yet. The file that is in use already is
    /// used on.
    pub fn open(settings: &Settings) -> Result<Self, AccessLogError> {
        let (format, start) = (settings.access.format, settings.access.start);
        let path = match &settings.access.to {
            AccessTarget::Stderr => {
                return Ok(Self { format, start, lines: stderr(format), file: None });
            }
            AccessTarget::File(path) => path,
        };
        let fault = |source: io::Error| {
            let hint = HINTS.iter().find(|(kind, _)| *kind == source.kind());
            let hint = hint.map_or("", |(_, hint)| hint);
            AccessLogError { path: path.clone(), source, hint }
        };
        let (file, id) = open_file(path, settings).map_err(fault)?;
        if let Some(before) = &*ACCESS.load()
            && before.file.as_ref().is_some_and(|used| used.id == id)
        {
            return Ok(Self { format, start, ..AccessLog::clone(before) });
        }
        let (lines, over) = write_to(file, path).map_err(fault)?;
        Ok(Self { format, start, lines, file: Some(OpenFile { id, over }) })
    }

    /// From here on records go there.
    pub fn begin(self) -> PreviousLog {
        let id = self.file.as_ref().map(|file| file.id);
        let before = ACCESS.swap(Some(Arc::new(self)));
        let file = before.and_then(|before| before.file.clone());
        PreviousLog(file.filter(|file| Some(file.id) != id))
    }
}

impl PreviousLog {
    /// Ready when its last line is written and its file closed; waits a second at most.
    pub async fn finish(self) {
        if let Some(mut file) = self.0 {
            let _ = timeout(FINISH_MAX, file.over.changed()).await;
        }
    }
}

/// Writes one record: its time, its event, and what `fill` says.
pub(super) fn record(event: &str, fill: impl FnOnce(&mut LogLine)) {
    if let Some(access) = &*ACCESS.load() {
        let mut line = LogLine::begin(access.format);
        line.show("time", LogTime::now());
        line.text("event", event);
        fill(&mut line);
        access.lines.send(line.end());
    }
}

/// Whether tunnels have a record when they begin.
pub(super) fn wants_start() -> bool {
    ACCESS.load().as_ref().is_some_and(|access| access.start)
}

/// Waits until what goes to a file is written.
pub(super) fn flush() {
    let access = ACCESS.load_full();
    if let Some(access) = access.filter(|access| access.file.is_some()) {
        access.lines.flush();
    }
}

fn open_file(path: &Path, settings: &Settings) -> io::Result<(File, (u64, u64))> {
    let fits = |found: &Metadata| match settings.not_for_records(found) {
        Some(problem) => Err(io::Error::other(format!("it {problem}"))),
        None => Ok(()),
    };
    // Opening a pipe to write waits for a reader, and a reader that goes would lose lines.
    if let Ok(found) = metadata(path) {
        fits(&found)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    // A link may lead elsewhere by now.
    let found = file.metadata()?;
    fits(&found)?;
    Ok((file, (found.dev(), found.ino())))
}

fn write_to(file: File, path: &Path) -> io::Result<(LineSender, watch::Receiver<()>)> {
    let (closing, over) = watch::channel(());
    if OPEN.fetch_add(1, Ordering::Relaxed) >= OPEN_MAX {
        OPEN.fetch_sub(1, Ordering::Relaxed);
        return Err(io::Error::other("earlier ones still wait to be written: does a disk stall?"));
    }
    let path = path.to_owned();
    let sink = AccessFile { file, path, torn: false, _closing: closing };
    let (lines, started) = LineSender::start("access", LogTarget::AccessFile, sink);
    started.map(|()| (lines, over))
}

/// The file, in the hands of its thread.
struct AccessFile {
    file: File,
    path: PathBuf,
    /// It ends within a line.
    torn: bool,
    /// After the file, as fields are dropped in their order.
    _closing: watch::Sender<()>,
}

impl AccessFile {
    /// Takes back the beginning of a line whose rest found no room, so that the file stays one of
    /// whole lines.
    fn take_back(&mut self, written: usize) -> io::Result<()> {
        let end = self.file.stream_position()?;
        // Somebody else may append, too.
        if self.file.metadata()?.len() != end {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        self.file.set_len(end.saturating_sub(written as u64))
    }
}

impl LineSink for AccessFile {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let written = line.len() - rest.len();
                    self.torn = written > 0 && self.take_back(written).is_err();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, lost: u64, error: Option<&io::Error>) -> io::Result<()> {
        let path = self.path.display();
        match error {
            Some(error) => {
                let error = error.to_string();
                error!(lost, %path, error, "records were lost: the access log cannot be written");
            }
            None => error!(lost, %path, "records were lost: the access log is too slow"),
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
/// Files that a thread still writes to.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// One in use, and some that a stalled disk holds on to.
const OPEN_MAX: usize = 4;
/// Who was there, and what they asked for, is not everybody's to read.
const MODE: u32 = 0o640;
const FINISH_MAX: Duration = Duration::from_secs(1);

/// What to do about it.
const HINTS: [(io::ErrorKind, &str); 3] = [
    (
        io::ErrorKind::NotFound,
        "; make its folder, and let the user that tidegate runs as write to it",
    ),
    (
        io::ErrorKind::PermissionDenied,
        "; let the user that tidegate runs as write there (systemd: LogsDirectory=tidegate)",
    ),
    (
        io::ErrorKind::ReadOnlyFilesystem,
        "; choose a folder that can be written to (systemd: LogsDirectory=tidegate)",
    ),
];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A configuration whose records go to this file.
    fn to(path: &Path) -> Settings {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:80\"\ntls = false\n\
             [[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"b:1\"]\n\
             [access]\nto = \"{}\"\nformat = \"json\"\n",
            path.display()
        );
        Settings::parse(&text, "proxy.toml").unwrap()
    }

    /// Whoever compresses the old file as soon as the reload is reported loses nothing.
    #[tokio::test]
    async fn what_came_before_is_written_when_it_is_finished() {
        let folder = std::env::temp_dir().join(format!("tidegate-access-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let open = |name: &str| AccessLog::open(&to(&folder.join(name))).unwrap();
        let mut names = (0..20).map(|n| n.to_string());
        let mut before = names.next().unwrap();
        drop(open(&before).begin());
        for name in names {
            for _ in 0..1000 {
                record("test", |line| line.text("in", &*before));
            }
            open(&name).begin().finish().await;
            let text = fs::read_to_string(folder.join(&before)).unwrap();
            let whole = |line: &&str| line.ends_with(&format!("\"in\":\"{before}\"}}"));
            assert_eq!(text.lines().filter(whole).count(), 1000);
            before = name;
        }
        let opened = OPEN.load(Ordering::Relaxed);
        // The same file is not written to by two.
        drop(open(&before).begin());
        assert_eq!(OPEN.load(Ordering::Relaxed), opened);
        ACCESS.store(None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_fault_says_where_what_and_what_to_do() {
        let fault = |path: &str| AccessLog::open(&to(path.as_ref())).unwrap_err().to_string();
        assert_eq!(
            fault("/nowhere/access.log"),
            "cannot open the access log /nowhere/access.log: No such file or directory \
             (os error 2); make its folder, and let the user that tidegate runs as write to it"
        );
        assert!(fault("/tmp").contains("it is a folder: name the file in it"));
        // Opening it would wait for a reader.
        let pipe = std::env::temp_dir().join(format!("tidegate-pipe-{}", std::process::id()));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(fault(pipe.to_str().unwrap()).contains("it is a pipe"));
        fs::remove_file(pipe).unwrap();
    }
}
