//! Log messages, through tracing. A separate thread writes them to standard error, so that a stalled
//! journal or a full pipe never blocks a connection.

use std::panic;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Level, error};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use super::access_log;
use super::line_writer::LineSender;
use super::log_event::LogLayer;
use super::stderr::stderr;
use crate::config::settings::LogSettings;

/// Installs the log with the given format and level, and a panic hook that logs. Only the first call
/// in a process takes effect; [`set_log_level`] changes the level later, the format never changes.
pub fn init(settings: &LogSettings) -> LogFlush {
    let lines = stderr(settings.format);
    let (level, handle) = reload::Layer::new(LevelFilter::from_level(settings.level));
    let queue = lines.clone();
    let layer = LogLayer { format: settings.format, send: move |line: Vec<u8>| queue.send(&line) };
    // An error means that an earlier call has installed the log.
    if tracing_subscriber::registry().with(level).with(layer).try_init().is_ok() {
        // Cannot fail: only the call that installed the log gets here.
        let _ = LEVEL.set(handle);
    }
    // The default hook would block on standard error in the thread that panics.
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string);
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let message = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        PANICS.fetch_add(1, Ordering::Relaxed);
        error!(
            location,
            panic = message,
            "internal error: a task panicked, which is a bug in tidegate; a connection that it served is lost"
        );
    }));
    LogFlush(lines)
}

/// The level that applies now; INFO if the log is not installed.
pub fn log_level() -> Level {
    let level =
        LEVEL.get().and_then(|level| level.clone_current()).and_then(LevelFilter::into_level);
    level.unwrap_or(Level::INFO)
}

/// Changes the level. Log statements below the level cost as little as with a fixed level. Does
/// nothing if the log is not installed.
pub fn set_log_level(level: Level) {
    if let Some(handle) = LEVEL.get() {
        // Fails only if the subscriber is gone, and then nothing is logged at all.
        let _ = handle.reload(LevelFilter::from_level(level));
    }
}

/// Number of panics since [`init`]; every one of them is a bug in tidegate.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Writes all queued lines when dropped; waits at most two seconds per target.
#[derive(Debug)]
pub struct LogFlush(LineSender);

impl Drop for LogFlush {
    fn drop(&mut self) {
        // The access log first: its lost records are reported through the log.
        access_log::flush();
        self.0.flush();
    }
}

static PANICS: AtomicU64 = AtomicU64::new(0);
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
