//! A bounded queue of lines and the thread that writes them. Sending a line never waits for a write; lines that
//! do not fit into the queue or cannot be written are counted and reported.
//!
//! Lines are copied into batches, each of which is one write: a record takes no allocation of its own, and no
//! system call while more of them come.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::clock::wall;

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

    fn loss(self) -> &'static Mutex<Option<LineLoss>> {
        match self {
            Self::Stderr => &LOSS_STDERR,
            Self::AccessFile => &LOSS_ACCESS_FILE,
        }
    }
}

/// Number of lines lost on the way to `target` since the process started.
pub fn lines_lost(target: LogTarget) -> u64 {
    target.lost().load(Ordering::Relaxed)
}

/// Lines that were lost on the way to a target. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct LineLoss {
    /// When the first one was lost.
    pub first: f64,
    /// When the last one was lost.
    pub last: f64,
    /// Why the last write failed; `None` if lines came faster than they were written.
    pub error: Option<String>,
}

/// When and why lines to `target` were lost; `None` if none was.
pub fn line_loss(target: LogTarget) -> Option<LineLoss> {
    target.loss().lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What a writer thread writes to.
pub trait LineSink: Send + 'static {
    /// Bytes of lines that are written at once; a longer line is written alone.
    const BATCH_BYTES: usize;

    /// Writes complete lines.
    ///
    /// # Errors
    /// A line could not be written. The lines before it are written; those after it are not.
    fn write(&mut self, lines: &[u8]) -> Result<(), WriteError>;

    /// Reports that `lost` lines were lost, with the last write error, or `None` if the queue was
    /// full.
    ///
    /// # Errors
    /// The report could not be written; it is repeated later.
    fn report_lost(&mut self, lost: u64, error: Option<&io::Error>) -> io::Result<()>;
}

/// Lines that were written only in part.
#[derive(Debug)]
pub struct WriteError {
    /// Bytes that were written, part of a line included.
    pub written: usize,
    /// Why the rest was not.
    pub source: io::Error,
}

/// Writes complete lines.
///
/// # Errors
/// The error of `to`.
pub fn write_lines(to: &mut impl Write, lines: &[u8]) -> Result<(), WriteError> {
    let mut written = 0;
    while written < lines.len() {
        match to.write(&lines[written..]) {
            Ok(0) => return Err(WriteError { written, source: io::ErrorKind::WriteZero.into() }),
            Ok(bytes) => written += bytes,
            Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(WriteError { written, source }),
        }
    }
    Ok(())
}

impl WriteError {
    /// Bytes written of the line that failed.
    pub fn partial_bytes(&self, lines: &[u8]) -> usize {
        let written = &lines[..self.written];
        written.iter().rev().position(|byte| *byte == b'\n').unwrap_or(written.len())
    }

    /// The lines after the one that failed.
    fn rest<'l>(&self, lines: &'l [u8]) -> &'l [u8] {
        let unwritten = &lines[self.written..];
        let end = unwritten.iter().position(|byte| *byte == b'\n');
        &unwritten[end.map_or(unwritten.len(), |end| end + 1)..]
    }
}

/// Sends lines to a writer thread. The thread ends after the last clone is dropped.
#[derive(Clone, Debug)]
pub struct LineSender(Arc<OpenQueue>);

/// Closes the queue when it is dropped.
#[derive(Debug)]
struct OpenQueue(Arc<LineQueue>);

impl LineSender {
    /// Starts a writer thread. The second value is an error if the thread could not be started; the
    /// sender then counts every line as lost.
    pub fn start<S: LineSink>(name: &str, target: LogTarget, sink: S) -> (Self, io::Result<()>) {
        let queue = Arc::new(LineQueue::new(target, S::BATCH_BYTES));
        let mut writer = WriterThread { sink, queue: queue.clone(), reported: None, error: None };
        let thread = thread::Builder::new().name(name.into()).spawn(move || writer.run());
        if thread.is_err() {
            queue.close();
        }
        (Self(Arc::new(OpenQueue(queue))), thread.map(drop))
    }

    /// Queues a line with its line break, or counts it as lost if the queue is full. Never waits for a write.
    pub fn send(&self, line: &[u8]) {
        self.0.0.push(line);
    }

    /// Blocks until all queued lines are written, at most two seconds.
    pub fn flush(&self) {
        self.0.0.flush();
    }
}

impl Drop for OpenQueue {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Lines between the threads that send them and the one that writes them.
#[derive(Debug)]
struct LineQueue {
    target: LogTarget,
    batch_bytes: usize,
    state: Mutex<QueueState>,
    /// Wakes the writer thread.
    wake: Condvar,
    /// Wakes those that wait for [`QueueState::is_flushing`] to end.
    flushed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Complete lines, the oldest batch first.
    batches: VecDeque<Vec<u8>>,
    /// Bytes in `batches` and of the batch that is being written.
    bytes: usize,
    /// The memory of a batch that was written.
    spare: Vec<u8>,
    /// The writer thread waits for `wake`.
    is_waiting: bool,
    /// A thread waits until all lines are written.
    is_flushing: bool,
    /// No lines will be written any more, except those that are queued.
    is_closed: bool,
    /// Lines lost since the last report.
    unreported: u64,
}

impl LineQueue {
    fn new(target: LogTarget, batch_bytes: usize) -> Self {
        let (wake, flushed) = (Condvar::new(), Condvar::new());
        Self { target, batch_bytes, state: Mutex::default(), wake, flushed }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.is_closed || state.bytes + line.len() > QUEUE_BYTES_MAX {
            self.lose(&mut state, None);
            return;
        }
        state.bytes += line.len();
        match state.batches.back_mut() {
            Some(batch) if batch.len() + line.len() <= self.batch_bytes => batch.extend(line),
            Some(_) | None => {
                let mut batch = std::mem::take(&mut state.spare);
                batch.extend(line);
                state.batches.push_back(batch);
            }
        }
        let is_waiting = std::mem::take(&mut state.is_waiting);
        drop(state);
        if is_waiting {
            self.wake.notify_one();
        }
    }

    /// Counts a lost line, with the error of its write.
    fn lose(&self, state: &mut QueueState, error: Option<&io::Error>) {
        state.unreported += 1;
        self.target.lost().fetch_add(1, Ordering::Relaxed);
        let mut loss = self.target.loss().lock().unwrap_or_else(PoisonError::into_inner);
        let now = wall();
        let loss = loss.get_or_insert(LineLoss { first: now, last: now, error: None });
        loss.last = now;
        if let Some(error) = error {
            loss.error = Some(error.to_string());
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    fn flush(&self) {
        let mut state = self.lock();
        if !state.is_closed {
            state.is_flushing = true;
            self.wake.notify_one();
            // A stalled target must not delay the exit of the process.
            let waited =
                self.flushed.wait_timeout_while(state, FLUSH_MAX, |state| state.is_flushing);
            drop(waited);
        }
    }
}

/// The state of a writer thread.
struct WriterThread<S> {
    sink: S,
    queue: Arc<LineQueue>,
    /// Time of the last report of lost lines.
    reported: Option<Instant>,
    /// The last write error that was not reported yet.
    error: Option<io::Error>,
}

/// What a writer thread does next.
enum NextStep {
    Write(Vec<u8>),
    /// Everything is written, and a thread waits for that.
    Flush,
    /// A report may be due.
    Report,
    End,
}

impl<S: LineSink> WriterThread<S> {
    fn run(&mut self) {
        loop {
            match self.next() {
                NextStep::Write(mut batch) => {
                    self.write(&batch);
                    let mut state = self.queue.lock();
                    state.bytes -= batch.len();
                    batch.clear();
                    state.spare = batch;
                    let is_last = state.batches.is_empty() && !state.is_flushing;
                    drop(state);
                    // Waking this thread costs the sender more than the line itself. After a line more
                    // are likely, so sleep briefly and let them queue up without a wake-up.
                    if is_last {
                        thread::sleep(BATCH_DELAY);
                    }
                }
                NextStep::Flush => {
                    self.report_lost();
                    self.queue.lock().is_flushing = false;
                    self.queue.flushed.notify_all();
                }
                NextStep::Report => {}
                NextStep::End => break,
            }
            if self.time_to_report(&self.queue.lock()).is_some_and(|time| time.is_zero()) {
                self.report_lost();
            }
        }
        self.report_lost();
    }

    /// Waits for something to do.
    fn next(&self) -> NextStep {
        let mut state = self.queue.lock();
        loop {
            if let Some(batch) = state.batches.pop_front() {
                return NextStep::Write(batch);
            }
            if state.is_flushing {
                return NextStep::Flush;
            }
            if state.is_closed {
                return NextStep::End;
            }
            state.is_waiting = true;
            state = match self.time_to_report(&state) {
                None => self.queue.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) if time.is_zero() => return NextStep::Report,
                Some(time) => {
                    let waited = self.queue.wake.wait_timeout(state, time);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.is_waiting = false;
        }
    }

    fn write(&mut self, mut lines: &[u8]) {
        while !lines.is_empty()
            && let Err(error) = self.sink.write(lines)
        {
            self.queue.lose(&mut self.queue.lock(), Some(&error.source));
            lines = error.rest(lines);
            self.error = Some(error.source);
        }
    }

    /// Time until the next report of lost lines is due; `None` if there is nothing to report.
    fn time_to_report(&self, state: &QueueState) -> Option<Duration> {
        let time = self.reported.map_or(Duration::ZERO, |reported| {
            (reported + REPORT_INTERVAL).saturating_duration_since(clock())
        });
        (state.unreported > 0).then_some(time)
    }

    fn report_lost(&mut self) {
        let lost = std::mem::take(&mut self.queue.lock().unreported);
        if lost == 0 {
            return;
        }
        self.reported = Some(clock());
        match self.sink.report_lost(lost, self.error.as_ref()) {
            Ok(()) => self.error = None,
            Err(_) => self.queue.lock().unreported += lost,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "runs in its own thread, outside of all sessions")]
fn clock() -> Instant {
    Instant::now()
}

static LOST_STDERR: AtomicU64 = AtomicU64::new(0);
static LOST_ACCESS_FILE: AtomicU64 = AtomicU64::new(0);
static LOSS_STDERR: Mutex<Option<LineLoss>> = Mutex::new(None);
static LOSS_ACCESS_FILE: Mutex<Option<LineLoss>> = Mutex::new(None);
/// Bytes of lines that wait to be written: about three thousand records.
const QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A single line is written at once; lines that follow it wait at most this long.
const BATCH_DELAY: Duration = Duration::from_millis(5);
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
const FLUSH_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
