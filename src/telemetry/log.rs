//! What the operator is told, through tracing: to standard error, by a thread of its own, so that
//! a stalled journal or a full pipe never stops a connection.

use std::io::{self, Write};
use std::panic;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Level, error};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use super::access_log;
use super::line::LogLine;
use super::line_writer::{LineSender, LineSink, LogTarget};
use super::timestamp::LogTime;
use crate::config::settings::{LogFormat, LogSettings};

/// Begins to write as told. Only the first call of a process counts: the format of a running
/// process does not change, the level does by [`set_log_level`].
pub fn init(settings: &LogSettings) -> LogFlush {
    let lines = stderr(settings.format);
    let (level, handle) = reload::Layer::new(LevelFilter::from_level(settings.level));
    let layer = fmt::layer()
        .with_writer(LineBuffer(lines.clone()))
        .with_target(false)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    let registry = tracing_subscriber::registry().with(level);
    // An error means that an earlier call has set the format already.
    let set = match settings.format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    if set.is_ok() {
        // The first is the only one.
        let _ = LEVEL.set(handle);
    }
    // The default hook would write to standard error from the thread that panics, and wait there.
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string);
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let words = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no words");
        PANICS.fetch_add(1, Ordering::Relaxed);
        error!(place, words, "a task of ours has panicked and is lost; please report this");
    }));
    LogFlush(lines)
}

/// How much is written now.
pub fn log_level() -> Level {
    let level =
        LEVEL.get().and_then(|level| level.clone_current()).and_then(LevelFilter::into_level);
    // Where nothing was begun nothing is written, whatever its level.
    level.unwrap_or(Level::INFO)
}

/// From now on writes so much. Places that are silent stay as cheap as they were from the beginning.
pub fn set_log_level(level: Level) {
    if let Some(handle) = LEVEL.get() {
        // It fails only where the subscriber is gone, and with it whoever could read of it.
        let _ = handle.reload(LevelFilter::from_level(level));
    }
}

/// Tasks that panicked since [`init`]: each of them is a fault of ours.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// The lines to standard error; the format is for losses, and counts in the first call only.
pub(super) fn stderr(format: LogFormat) -> LineSender {
    // Without the thread every line is counted as lost; the proxy itself goes on.
    LINES.get_or_init(|| LineSender::start("log", LogTarget::Stderr, Stderr(format)).0).clone()
}

/// Writes out what is queued when dropped, for at most two seconds a target.
#[derive(Debug)]
pub struct LogFlush(LineSender);

impl Drop for LogFlush {
    fn drop(&mut self) {
        // First: what is lost there is told of here.
        access_log::flush();
        self.0.flush();
    }
}

/// tracing formats a whole line and hands it over in one call.
#[derive(Clone, Debug)]
struct LineBuffer(LineSender);

impl Write for LineBuffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineBuffer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Standard error, with the format of what is told of losses.
struct Stderr(LogFormat);

impl LineSink for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        io::stderr().write_all(line)
    }

    fn tell(&mut self, lost: u64, error: Option<&io::Error>) -> io::Result<()> {
        io::stderr().write_all(&notice(self.0, LogTime::now(), lost, error))
    }
}

/// A line like those of tracing, which cannot be asked here: it would queue behind what is full.
fn notice(format: LogFormat, now: LogTime, lost: u64, error: Option<&io::Error>) -> Vec<u8> {
    let words = "lines were lost: standard error is too slow, or could not be written";
    let error = error.map(io::Error::to_string);
    match format {
        LogFormat::Text => {
            let error = error.map(|error| format!(" error={error:?}")).unwrap_or_default();
            format!("{now}  WARN {words} lost={lost}{error}\n").into_bytes()
        }
        LogFormat::Json => {
            let mut line = LogLine::begin(format);
            line.show("timestamp", now);
            line.text("level", "WARN");
            line.text("message", words);
            line.number("lost", lost);
            line.text("error", error.as_deref());
            line.end()
        }
    }
}

static PANICS: AtomicU64 = AtomicU64::new(0);
static LINES: OnceLock<LineSender> = OnceLock::new();
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_in_the_format_of_all_other_lines() {
        let now = LogTime::now();
        let error = io::Error::from(io::ErrorKind::StorageFull);
        let json = notice(LogFormat::Json, now, 7, Some(&error));
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((&json["lost"], &json["level"]), (&7.into(), &"WARN".into()));
        assert_eq!(json["error"], "no storage space");
        let text = String::from_utf8(notice(LogFormat::Text, now, 7, None)).unwrap();
        assert!(text.contains(" WARN ") && text.ends_with("lost=7\n"), "{text}");
        assert!(serde_json::from_slice::<serde_json::Value>(text.as_bytes()).is_err());
    }
}
