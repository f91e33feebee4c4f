//! A bounded queue of lines and the thread that writes them. Sending a line never blocks; lines that
//! do not fit into the queue or cannot be written are counted and reported.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::thread;
use std::time::{Duration, Instant};

/// Where a writer thread writes its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error: log messages, and records unless they have a file.
    Stderr,
    /// The file of `access.to`, across reopenings.
    AccessFile,
}

impl LogTarget {
    /// Every target, for totals over all of them.
    pub const ALL: [Self; 2] = [Self::Stderr, Self::AccessFile];

    fn lost(self) -> &'static AtomicU64 {
        match self {
            Self::Stderr => &LOST_STDERR,
            Self::AccessFile => &LOST_ACCESS_FILE,
        }
    }
}

/// Number of lines lost on the way to `target` since the process started.
pub fn lines_lost(target: LogTarget) -> u64 {
    target.lost().load(Ordering::Relaxed)
}

/// What a writer thread writes to.
pub trait LineSink: Send + 'static {
    /// Writes a complete line.
    ///
    /// # Errors
    /// The line could not be written and counts as lost.
    fn write(&mut self, line: &[u8]) -> io::Result<()>;

    /// Reports that `lost` lines were lost, with the last write error, or `None` if the queue was
    /// full.
    ///
    /// # Errors
    /// The report could not be written; it is repeated later.
    fn report_lost(&mut self, lost: u64, error: Option<&io::Error>) -> io::Result<()>;
}

/// Sends lines to a writer thread. The thread ends after the last clone is dropped.
#[derive(Clone, Debug)]
pub struct LineSender {
    queue: SyncSender<QueueItem>,
    lost: Arc<LostLines>,
}

#[derive(Debug)]
enum QueueItem {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Debug)]
struct LostLines {
    target: LogTarget,
    /// Lines lost since the last report.
    unreported: AtomicU64,
}

impl LineSender {
    /// Starts a writer thread. The second value is an error if the thread could not be started; the
    /// sender then counts every line as lost.
    pub fn start(name: &str, target: LogTarget, sink: impl LineSink) -> (Self, io::Result<()>) {
        let (queue, items) = sync_channel(LINES_MAX);
        let lost = Arc::new(LostLines { target, unreported: AtomicU64::new(0) });
        let mut writer = WriterThread { sink, lost: lost.clone(), reported: None, error: None };
        let thread = thread::Builder::new().name(name.into()).spawn(move || writer.run(&items));
        (Self { queue, lost }, thread.map(drop))
    }

    /// Queues a line, or counts it as lost if the queue is full. Never blocks.
    pub fn send(&self, line: Vec<u8>) {
        match self.queue.try_send(QueueItem::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lost.inc(),
        }
    }

    /// Blocks until all queued lines are written, at most two seconds.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        // A full queue to a stalled target must not delay the exit of the process.
        for _ in 0..FLUSH_TRIES {
            match self.queue.try_send(QueueItem::Flush(done.clone())) {
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

impl LostLines {
    fn inc(&self) {
        self.unreported.fetch_add(1, Ordering::Relaxed);
        self.target.lost().fetch_add(1, Ordering::Relaxed);
    }
}

/// The state of a writer thread.
struct WriterThread<S> {
    sink: S,
    lost: Arc<LostLines>,
    /// Time of the last report of lost lines.
    reported: Option<Instant>,
    /// The last write error that was not reported yet.
    error: Option<io::Error>,
}

impl<S: LineSink> WriterThread<S> {
    fn run(&mut self, items: &Receiver<QueueItem>) {
        let mut wrote = false;
        loop {
            let item = match items.try_recv() {
                // Waking this thread costs the sender more than the line itself. After a line more
                // are likely, so sleep briefly and let them queue up without a wake-up.
                Err(TryRecvError::Empty) if wrote => {
                    wrote = false;
                    thread::sleep(BATCH_DELAY);
                    continue;
                }
                Err(_) => items.recv_timeout(self.time_to_report()),
                Ok(item) => Ok(item),
            };
            match item {
                Ok(QueueItem::Line(line)) => {
                    wrote = true;
                    if let Err(error) = self.sink.write(&line) {
                        self.lost.inc();
                        self.error = Some(error);
                    }
                }
                Ok(QueueItem::Flush(done)) => {
                    self.report_lost();
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.time_to_report().is_zero() {
                self.report_lost();
            }
        }
        self.report_lost();
    }

    /// Time until the next report of lost lines is due; the maximum if there is nothing to report.
    fn time_to_report(&self) -> Duration {
        if self.lost.unreported.load(Ordering::Relaxed) == 0 {
            return Duration::MAX;
        }
        self.reported.map_or(Duration::ZERO, |reported| {
            (reported + REPORT_INTERVAL).saturating_duration_since(clock())
        })
    }

    fn report_lost(&mut self) {
        let lost = self.lost.unreported.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        self.reported = Some(clock());
        match self.sink.report_lost(lost, self.error.as_ref()) {
            Ok(()) => self.error = None,
            Err(_) => drop(self.lost.unreported.fetch_add(lost, Ordering::Relaxed)),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "runs in its own thread, outside of all sessions")]
fn clock() -> Instant {
    Instant::now()
}

static LOST_STDERR: AtomicU64 = AtomicU64::new(0);
static LOST_ACCESS_FILE: AtomicU64 = AtomicU64::new(0);
/// Capacity of the queue: about 4 MiB of typical lines.
const LINES_MAX: usize = 4096;
/// A single line is written at once; lines that follow it wait at most this long.
const BATCH_DELAY: Duration = Duration::from_millis(5);
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
const FLUSH_MAX: Duration = Duration::from_secs(1);
const FLUSH_TRIES: u32 = 20;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct TestSink(Arc<Mutex<WrittenLines>>);

    #[derive(Debug, Default)]
    struct WrittenLines {
        full: bool,
        reports_fail: bool,
        lines: Vec<Vec<u8>>,
        reports: Vec<(u64, Option<String>)>,
    }

    impl LineSink for TestSink {
        fn write(&mut self, line: &[u8]) -> io::Result<()> {
            let mut written = self.0.lock().unwrap();
            if written.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            written.lines.push(line.to_vec());
            Ok(())
        }

        fn report_lost(&mut self, lost: u64, error: Option<&io::Error>) -> io::Result<()> {
            let mut written = self.0.lock().unwrap();
            if written.reports_fail {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            written.reports.push((lost, error.map(io::Error::to_string)));
            Ok(())
        }
    }

    fn writer(sink: &TestSink) -> WriterThread<TestSink> {
        let unreported = AtomicU64::new(0);
        let lost = Arc::new(LostLines { target: LogTarget::AccessFile, unreported });
        WriterThread { sink: sink.clone(), lost, reported: None, error: None }
    }

    fn feed(writer: &mut WriterThread<TestSink>, lines: usize) {
        let (queue, items) = sync_channel(lines);
        for _ in 0..lines {
            queue.send(QueueItem::Line(b"x\n".to_vec())).unwrap();
        }
        drop(queue);
        writer.run(&items);
    }

    #[test]
    fn failed_lines_are_counted_and_reported() {
        let sink = TestSink::default();
        sink.0.lock().unwrap().full = true;
        let before = lines_lost(LogTarget::AccessFile);
        feed(&mut writer(&sink), 5);
        assert!(lines_lost(LogTarget::AccessFile) >= before + 5);
        let written = sink.0.lock().unwrap();
        // The first loss is reported at once, the others together when the thread ends.
        let error = Some("no storage space".to_owned());
        assert_eq!(written.reports, [(1, error.clone()), (4, error)]);
    }

    #[test]
    fn failed_reports_are_repeated() {
        let sink = TestSink::default();
        sink.0.lock().unwrap().full = true;
        sink.0.lock().unwrap().reports_fail = true;
        let mut writer = writer(&sink);
        feed(&mut writer, 3);
        assert!(sink.0.lock().unwrap().reports.is_empty());
        sink.0.lock().unwrap().reports_fail = false;
        writer.report_lost();
        assert_eq!(sink.0.lock().unwrap().reports[0].0, 3);
    }

    #[test]
    fn sending_to_a_full_queue_does_not_block() {
        let sink = TestSink::default();
        let held = sink.0.lock().unwrap();
        let (lines, started) = LineSender::start("test", LogTarget::AccessFile, sink.clone());
        started.unwrap();
        for _ in 0..LINES_MAX + 100 {
            lines.send(b"x\n".to_vec());
        }
        let lost = lines.lost.unreported.load(Ordering::Relaxed);
        // The thread may have taken one line out of the queue.
        assert!((99..=100).contains(&lost), "{lost}");
        drop(held);
        lines.flush();
        let written = sink.0.lock().unwrap();
        assert_eq!(written.lines.len() as u64 + lost, LINES_MAX as u64 + 100);
        assert_eq!(written.reports.iter().map(|(lost, _)| lost).sum::<u64>(), lost);
    }
}
