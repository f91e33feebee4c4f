//! Where lines go: to stderr, by a thread of their own, so that a stalled journal or a full pipe
//! never stops a connection. Lines that find no room are counted and reported later.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::config::settings::{LogFormat, LogSettings};

/// Begins to write records as told. Only the first call of a process counts: the format of a
/// running process does not change.
pub fn init(settings: &LogSettings) -> LogFlush {
    let lines = LINES.get_or_init(Lines::start).clone();
    let builder = tracing_subscriber::fmt()
        .with_max_level(settings.level)
        .with_writer(lines.clone())
        .with_target(false)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    // An error means that an earlier call has set the format already.
    let _ = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    LogFlush(lines)
}

/// Writes out what is queued when dropped, for at most two seconds.
#[derive(Debug)]
pub struct LogFlush(Lines);

impl Drop for LogFlush {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        // A full queue in front of a stalled stderr must not hold up the end of the process.
        for _ in 0..FLUSH_TRIES {
            match self.0.queue.try_send(Item::Flush(done.clone())) {
                Ok(()) => {
                    let _ = wait.recv_timeout(FLUSH_MAX);
                    return;
                }
                Err(TrySendError::Full(_)) => thread::sleep(FLUSH_MAX / FLUSH_TRIES),
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }
}

/// The way to the writing thread.
#[derive(Clone, Debug)]
pub struct Lines {
    queue: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Lines {
    fn start() -> Self {
        let (queue, items) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let writer = thread::Builder::new().name("log".into()).spawn(move || write(items, counted));
        // Without the thread every line is counted as lost; the proxy itself goes on.
        drop(writer);
        Self { queue, lost }
    }
}

/// tracing formats a whole line and hands it over in one call.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.queue.try_send(Item::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn write(items: Receiver<Item>, lost: Arc<AtomicU64>) {
    let mut stderr = io::stderr();
    for item in items {
        let missing = lost.swap(0, Ordering::Relaxed);
        // A line that cannot be written has nobody to be told to.
        if missing > 0 {
            let _ = writeln!(stderr, "tidegate: {missing} log lines were lost: stderr is too slow");
        }
        match item {
            Item::Line(line) => {
                let _ = stderr.write_all(&line);
            }
            Item::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

static LINES: OnceLock<Lines> = OnceLock::new();
/// About 2 MiB of ordinary lines.
const LINES_MAX: usize = 4096;
const FLUSH_MAX: Duration = Duration::from_secs(1);
const FLUSH_TRIES: u32 = 20;
