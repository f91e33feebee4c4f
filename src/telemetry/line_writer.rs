//! A bounded queue of lines, and the thread that writes them out: whoever has a line to write
//! never waits. Lines that find no room, or cannot be written, are counted and told of.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::thread;
use std::time::{Duration, Instant};

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error: what the operator is told, and records unless they have a file.
    Stderr,
    /// The file of `access.to`, through all its reopenings.
    AccessFile,
}

impl LogTarget {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stderr, Self::AccessFile];

    /// The name in metric labels.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Stderr => "stderr",
            Self::AccessFile => "access_file",
        }
    }

    fn lost(self) -> &'static AtomicU64 {
        match self {
            Self::Stderr => &LOST_STDERR,
            Self::AccessFile => &LOST_ACCESS_FILE,
        }
    }
}

/// Lines that never came to where they should, since the process began.
pub fn lines_lost(target: LogTarget) -> u64 {
    target.lost().load(Ordering::Relaxed)
}

/// What a thread writes to.
pub trait LineSink: Send + 'static {
    /// Writes a whole line. An error means that the line is lost.
    fn write(&mut self, line: &[u8]) -> io::Result<()>;

    /// Says that so many lines were lost: by this error, or because nothing more could wait. An
    /// error means that nobody has heard of it.
    fn tell(&mut self, lost: u64, error: Option<&io::Error>) -> io::Result<()>;
}

/// The way to the writing thread, which ends when the last of these is gone.
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
    untold: AtomicU64,
}

impl LineSender {
    /// Starts the thread. If there is none, every line is lost.
    pub fn start(name: &str, target: LogTarget, sink: impl LineSink) -> (Self, io::Result<()>) {
        let (queue, items) = sync_channel(LINES_MAX);
        let lost = Arc::new(LostLines { target, untold: AtomicU64::new(0) });
        let mut writer = WriterThread { sink, lost: lost.clone(), told: None, error: None };
        let thread =
            thread::Builder::new().name(name.into()).spawn(move || writer.write_out(&items));
        (Self { queue, lost }, thread.map(drop))
    }

    /// Hands a line over, or counts it as lost.
    pub fn send(&self, line: Vec<u8>) {
        match self.queue.try_send(QueueItem::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lost.one_more(),
        }
    }

    /// Waits until what was handed over is written, for at most two seconds.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        // A full queue in front of something that stalls must not hold up the end of the process.
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
    fn one_more(&self) {
        self.untold.fetch_add(1, Ordering::Relaxed);
        self.target.lost().fetch_add(1, Ordering::Relaxed);
    }
}

/// What the thread has in hand.
struct WriterThread<S> {
    sink: S,
    lost: Arc<LostLines>,
    /// When losses were last told of.
    told: Option<Instant>,
    /// The last one that nobody was told of.
    error: Option<io::Error>,
}

impl<S: LineSink> WriterThread<S> {
    fn write_out(&mut self, items: &Receiver<QueueItem>) {
        let mut wrote = false;
        loop {
            let item = match items.try_recv() {
                // To wake a thread costs whoever has a line more than the line: where one came,
                // more may come, and need wake nobody.
                Err(TryRecvError::Empty) if wrote => {
                    wrote = false;
                    thread::sleep(GATHER);
                    continue;
                }
                Err(_) => items.recv_timeout(self.patience()),
                Ok(item) => Ok(item),
            };
            match item {
                Ok(QueueItem::Line(line)) => {
                    wrote = true;
                    if let Err(error) = self.sink.write(&line) {
                        self.lost.one_more();
                        self.error = Some(error);
                    }
                }
                Ok(QueueItem::Flush(done)) => {
                    self.tell();
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.patience().is_zero() {
                self.tell();
            }
        }
        self.tell();
    }

    /// How long until losses may be told of; for ever if there are none.
    fn patience(&self) -> Duration {
        if self.lost.untold.load(Ordering::Relaxed) == 0 {
            return Duration::MAX;
        }
        self.told
            .map_or(Duration::ZERO, |told| (told + TELL_EVERY).saturating_duration_since(clock()))
    }

    fn tell(&mut self) {
        let lost = self.lost.untold.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        self.told = Some(clock());
        match self.sink.tell(lost, self.error.as_ref()) {
            Ok(()) => self.error = None,
            Err(_) => drop(self.lost.untold.fetch_add(lost, Ordering::Relaxed)),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, outside of all sessions")]
fn clock() -> Instant {
    Instant::now()
}

static LOST_STDERR: AtomicU64 = AtomicU64::new(0);
static LOST_ACCESS_FILE: AtomicU64 = AtomicU64::new(0);
/// About 4 MiB of ordinary lines.
const LINES_MAX: usize = 4096;
/// A line that comes alone is written at once; those after it wait so long at most.
const GATHER: Duration = Duration::from_millis(5);
const TELL_EVERY: Duration = Duration::from_secs(60);
const FLUSH_MAX: Duration = Duration::from_secs(1);
const FLUSH_TRIES: u32 = 20;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct SlowSink(Arc<Mutex<WrittenLines>>);

    #[derive(Debug, Default)]
    struct WrittenLines {
        full: bool,
        deaf: bool,
        lines: Vec<Vec<u8>>,
        told: Vec<(u64, Option<String>)>,
    }

    impl LineSink for SlowSink {
        fn write(&mut self, line: &[u8]) -> io::Result<()> {
            let mut papers = self.0.lock().unwrap();
            if papers.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            papers.lines.push(line.to_vec());
            Ok(())
        }

        fn tell(&mut self, lost: u64, error: Option<&io::Error>) -> io::Result<()> {
            let mut papers = self.0.lock().unwrap();
            if papers.deaf {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            papers.told.push((lost, error.map(io::Error::to_string)));
            Ok(())
        }
    }

    fn writer(desk: &SlowSink) -> WriterThread<SlowSink> {
        let lost = Arc::new(LostLines { target: LogTarget::AccessFile, untold: AtomicU64::new(0) });
        WriterThread { sink: desk.clone(), lost, told: None, error: None }
    }

    fn feed(writer: &mut WriterThread<SlowSink>, lines: usize) {
        let (queue, items) = sync_channel(lines);
        for _ in 0..lines {
            queue.send(QueueItem::Line(b"x\n".to_vec())).unwrap();
        }
        drop(queue);
        writer.write_out(&items);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_of() {
        let desk = SlowSink::default();
        desk.0.lock().unwrap().full = true;
        let before = lines_lost(LogTarget::AccessFile);
        feed(&mut writer(&desk), 5);
        assert!(lines_lost(LogTarget::AccessFile) >= before + 5);
        let papers = desk.0.lock().unwrap();
        // The first at once, and not each of them: the rest when the thread ends.
        let words = Some("no storage space".to_owned());
        assert_eq!(papers.told, [(1, words.clone()), (4, words)]);
    }

    #[test]
    fn losses_that_nobody_heard_of_are_kept() {
        let desk = SlowSink::default();
        desk.0.lock().unwrap().full = true;
        desk.0.lock().unwrap().deaf = true;
        let mut writer = writer(&desk);
        feed(&mut writer, 3);
        assert!(desk.0.lock().unwrap().told.is_empty());
        desk.0.lock().unwrap().deaf = false;
        writer.tell();
        assert_eq!(desk.0.lock().unwrap().told[0].0, 3);
    }

    #[test]
    fn whoever_writes_does_not_wait_for_a_full_queue() {
        let desk = SlowSink::default();
        let held = desk.0.lock().unwrap();
        let (lines, started) = LineSender::start("test", LogTarget::AccessFile, desk.clone());
        started.unwrap();
        for _ in 0..LINES_MAX + 100 {
            lines.send(b"x\n".to_vec());
        }
        let untold = lines.lost.untold.load(Ordering::Relaxed);
        // The thread may hold one in its hand.
        assert!((99..=100).contains(&untold), "{untold}");
        drop(held);
        lines.flush();
        let papers = desk.0.lock().unwrap();
        assert_eq!(papers.lines.len() as u64 + untold, LINES_MAX as u64 + 100);
        assert_eq!(papers.told.iter().map(|(lost, _)| lost).sum::<u64>(), untold);
    }
}
