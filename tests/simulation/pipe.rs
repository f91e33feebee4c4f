//! A simulated connection: two byte channels with latency, a bounded window, pieces of random size,
//! and an end or a reset at a random byte.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tidegate::net::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::rng::Rng;

/// What happens to a channel after a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The reader sees the end of the stream; the writer gets errors.
    Eof,
    /// Both directions fail.
    Reset,
}

/// How a connection behaves.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// Most milliseconds that a piece travels.
    pub latency_ms: u64,
    /// Bytes under way before the writer has to wait.
    pub window: usize,
    /// From the first end to the second, and back.
    pub faults: [Option<(u64, Fault)>; 2],
}

#[derive(Debug)]
struct Channel {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    buffered: usize,
    window: usize,
    latency_ms: u64,
    rng: Rng,
    written: u64,
    fault: Option<(u64, Fault)>,
    broken: Broken,
    last_arrival: Instant,
    /// When the reader sees the end.
    end: Option<Instant>,
    reset: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Channel {
    fn new(rng: Rng, weather: &Weather, fault: Option<(u64, Fault)>, broken: &Broken) -> Shared {
        Arc::new(Mutex::new(Self {
            pieces: VecDeque::new(),
            buffered: 0,
            window: weather.window.max(1),
            latency_ms: weather.latency_ms,
            rng,
            written: 0,
            fault,
            broken: broken.clone(),
            last_arrival: Instant::now(),
            end: None,
            reset: false,
            reader_gone: false,
            reader: None,
            writer: None,
        }))
    }

    /// Bytes arrive in order, each after a random time.
    fn arrival(&mut self) -> Instant {
        let travel = Duration::from_millis(self.rng.below(self.latency_ms + 1));
        self.last_arrival = self.last_arrival.max(Instant::now() + travel);
        self.last_arrival
    }

    fn finish(&mut self) {
        if self.end.is_none() {
            self.end = Some(self.arrival());
        }
        self.wake();
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

type Shared = Arc<Mutex<Channel>>;

/// Whether a fault has broken the connection.
pub type Broken = Arc<AtomicBool>;

/// One end of a connection.
#[derive(Debug)]
pub struct SimStream {
    incoming: Shared,
    outgoing: Shared,
    timer: Option<Pin<Box<Sleep>>>,
    reset_on_drop: bool,
}

/// A connection with both of its ends.
pub fn pipe(rng: &mut Rng, weather: &Weather) -> (SimStream, SimStream) {
    let broken = Broken::default();
    let there = Channel::new(rng.fork(), weather, weather.faults[0], &broken);
    let back = Channel::new(rng.fork(), weather, weather.faults[1], &broken);
    let end = |incoming: &Shared, outgoing: &Shared| SimStream {
        incoming: incoming.clone(),
        outgoing: outgoing.clone(),
        timer: None,
        reset_on_drop: false,
    };
    (end(&back, &there), end(&there, &back))
}

fn lock(channel: &Shared) -> MutexGuard<'_, Channel> {
    channel.lock().unwrap()
}

impl SimStream {
    /// Whether a fault has broken this connection, now or later.
    pub fn broken(&self) -> Broken {
        lock(&self.incoming).broken.clone()
    }

    fn reset(&self) {
        for channel in [&self.incoming, &self.outgoing] {
            let mut channel = lock(channel);
            channel.reset = true;
            channel.pieces.clear();
            channel.wake();
        }
    }

    /// Waits until `at`; the waker of the channel is registered as well.
    fn wait(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let shared = self.incoming.clone();
            let mut channel = lock(&shared);
            if channel.reset {
                return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
            }
            channel.reader = Some(cx.waker().clone());
            let next = match (channel.pieces.front(), channel.end) {
                (Some((at, _)), _) => *at,
                (None, Some(at)) => at,
                (None, None) => return Poll::Pending,
            };
            if next > Instant::now() {
                drop(channel);
                ready!(self.wait(cx, next));
                continue;
            }
            let most = buf.remaining();
            let Some((_, piece)) = channel.pieces.front_mut() else { return Poll::Ready(Ok(())) };
            let len = piece.len().min(most);
            let rest = piece.split_off(len);
            buf.put_slice(piece);
            *piece = rest;
            if piece.is_empty() {
                channel.pieces.pop_front();
            }
            channel.buffered -= len;
            channel.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut channel = lock(&self.outgoing);
        if channel.reset {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if channel.end.is_some() || channel.reader_gone {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let room = channel.window - channel.buffered;
        if room == 0 {
            channel.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = bytes.len().min(room) as u64;
        let mut len = if channel.rng.chance(50) { most } else { channel.rng.between(1, most) };
        if let Some((at, fault)) = channel.fault {
            len = len.min(at - channel.written);
            if len == 0 {
                channel.broken.store(true, Ordering::Relaxed);
                match fault {
                    Fault::Eof => channel.finish(),
                    Fault::Reset => {
                        drop(channel);
                        self.reset();
                    }
                }
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
        }
        let len = len as usize;
        let at = channel.arrival();
        channel.pieces.push_back((at, bytes[..len].to_vec()));
        channel.buffered += len;
        channel.written += len as u64;
        channel.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.outgoing).finish();
        Poll::Ready(Ok(()))
    }
}

impl Transport for SimStream {
    fn reset_on_drop(&mut self) {
        self.reset_on_drop = true;
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        // Like the kernel: unread bytes turn the close into a reset.
        let unread = !lock(&self.incoming).pieces.is_empty();
        if self.reset_on_drop || unread {
            self.reset();
            return;
        }
        lock(&self.outgoing).finish();
        let mut incoming = lock(&self.incoming);
        incoming.reader_gone = true;
        incoming.wake();
    }
}
