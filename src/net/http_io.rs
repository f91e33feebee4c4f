//! Runs hyper on a [`Stream`], for the HTTP phase of a connection that may become a tunnel.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, Sleep, sleep};

use super::scratch::{RecvScratch, Scratch, SendScratch};
use crate::net::{PARTS_MAX, Recv, SEND_BYTES_MAX, Stream};
use crate::sys::worker_step::{charge_part, poll_step};

/// Adapts a [`Stream`] to hyper's I/O traits, and returns the stream for the tunnel afterwards.
///
/// A write during which the peer accepts no bytes for `write_timeout` fails with
/// [`io::ErrorKind::TimedOut`]; hyper has no such timeout.
#[derive(Debug)]
pub struct HttpIo<S> {
    stream: S,
    /// Received bytes that did not fit into hyper's buffer, at most [`RECV_BYTES`], or that were
    /// [put back](Self::put_back).
    excess: Vec<u8>,
    /// Follows the excess.
    failure: Option<io::Error>,
    /// `None` if the caller has deadlines of its own.
    write_timeout: Option<Duration>,
    stall: Option<WriteStall>,
}

impl<S: Stream> HttpIo<S> {
    /// Adapts a stream on which nothing has been read yet.
    pub fn new(stream: S, write_timeout: Duration) -> Self {
        Self { write_timeout: Some(write_timeout), ..Self::without_timeout(stream) }
    }

    /// Like [`new`](Self::new), for a caller that has deadlines of its own.
    pub fn without_timeout(stream: S) -> Self {
        Self { stream, excess: Vec::new(), failure: None, write_timeout: None, stall: None }
    }

    /// The stream, and the received bytes that hyper has not read.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.excess)
    }

    /// Makes the drop of the stream reset the connection, if the transport can.
    pub fn abort(&mut self) {
        self.stream.abort();
    }

    /// Receives what the next reads return; ready once there are bytes, the end of the stream or a failure.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(poll_step(cx));
        SCRATCH.with_borrow_mut(|scratch| {
            match ready!(self.stream.poll_recv(cx, &mut scratch.recv)) {
                Ok(Recv::Data(data)) => {
                    self.excess.reserve_exact(data.len());
                    self.excess.extend_from_slice(data);
                }
                // The next read finds it again.
                Ok(Recv::Closed | Recv::Truncated) => {}
                Err(failure) => self.failure = Some(failure),
            }
            Poll::Ready(())
        })
    }

    /// Makes the next reads return these bytes again, before all others.
    pub fn put_back(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.excess = [bytes, &self.excess].concat();
        }
    }

    /// Reads at most `space` bytes, and calls `put` with them; does not call it at the end of the stream.
    ///
    /// # Errors
    /// The connection failed, or ended without the end of TLS.
    pub fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        space: usize,
        put: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<()>> {
        if space == 0 {
            return Poll::Ready(Ok(()));
        }
        if !self.excess.is_empty() {
            let len = space.min(self.excess.len());
            put(&self.excess[..len]);
            self.excess.drain(..len);
            if self.excess.is_empty() {
                self.excess = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Err(failure));
        }
        ready!(poll_step(cx));
        SCRATCH.with_borrow_mut(|scratch| {
            match ready!(self.stream.poll_recv(cx, &mut scratch.recv))? {
                Recv::Data(data) => {
                    charge_part(data.len());
                    let (fits, excess) = data.split_at(space.min(data.len()));
                    put(fits);
                    self.excess = excess.to_vec();
                    Poll::Ready(Ok(()))
                }
                Recv::Closed => Poll::Ready(Ok(())),
                Recv::Truncated => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        })
    }

    /// Applies the write timeout to a pending write. The timeout restarts whenever the backlog
    /// shrinks.
    fn check_write_timeout<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let Some(write_timeout) = self.write_timeout else { return Poll::Pending };
        let backlog = self.stream.backlog();
        let stall = self.stall.get_or_insert_with(|| WriteStall {
            deadline: Box::pin(sleep(write_timeout)),
            backlog,
        });
        if backlog < stall.backlog {
            stall.backlog = backlog;
            stall.deadline.as_mut().reset(Instant::now() + write_timeout);
        }
        ready!(stall.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Stream> Read for HttpIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let space = buf.remaining();
        self.poll_read_with(cx, space, |bytes| buf.put_slice(bytes))
    }
}

impl<S: Stream> Write for HttpIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let ready = self.stream.poll_ready(cx);
        ready!(self.check_write_timeout(cx, ready))?;
        let mut parts: [&[u8]; PARTS_MAX] = [&[]; PARTS_MAX];
        let mut total = 0;
        for (part, buf) in parts.iter_mut().zip(bufs) {
            *part = &buf[..buf.len().min(SEND_BYTES_MAX - total)];
            total += part.len();
        }
        let this = &mut *self;
        SCRATCH.with_borrow_mut(|scratch| this.stream.send(cx, &parts, &mut scratch.send))?;
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.stream.poll_ready(cx);
        self.check_write_timeout(cx, ready)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let closed =
            SCRATCH.with_borrow_mut(|scratch| this.stream.poll_close(cx, &mut scratch.send));
        this.check_write_timeout(cx, closed)
    }
}

/// A pending write and its deadline.
#[derive(Debug)]
struct WriteStall {
    deadline: Pin<Box<Sleep>>,
    /// The smallest backlog since the deadline was set.
    backlog: usize,
}

// Shared by all HTTP connections that this worker polls.
thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        recv: RecvScratch::with_capacity(RECV_BYTES),
        send: SendScratch::default(),
    });
}

/// Size of one read in the HTTP phase. Small, because bytes that do not fit into hyper's buffer are
/// copied.
const RECV_BYTES: usize = 24 * 1024;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::task::Waker;

    use http_body_util::Full;
    use hyper::body::Bytes;
    use hyper::rt::ReadBuf;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioTimer;

    use super::*;
    use crate::net::scripted::script;
    use crate::sys::worker_step::WorkerStep;

    async fn read(io: &mut HttpIo<impl Stream>, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut buf = ReadBuf::new(&mut bytes);
        poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, buf.unfilled())).await?;
        Ok(buf.filled().to_vec())
    }

    #[tokio::test]
    async fn excess_is_returned_with_the_stream() {
        let (stream, script) = script();
        let mut io = HttpIo::new(stream, Duration::from_secs(1));
        script.push(b"0123456789");
        assert_eq!(read(&mut io, 4).await.unwrap(), b"0123");
        assert_eq!(read(&mut io, 4).await.unwrap(), b"4567");
        let (_, rest) = io.into_parts();
        assert_eq!(rest, b"89");
    }

    #[tokio::test]
    async fn excess_is_freed_after_it_was_read() {
        let (stream, script) = script();
        let mut io = HttpIo::new(stream, Duration::from_secs(1));
        script.push(b"0123");
        script.push_closed();
        assert_eq!(read(&mut io, 3).await.unwrap(), b"012");
        assert_eq!(read(&mut io, 3).await.unwrap(), b"3");
        assert_eq!(io.excess.capacity(), 0);
        assert_eq!(read(&mut io, 3).await.unwrap(), b"");
        assert_eq!(script.state().reads, 2);
    }

    #[tokio::test]
    async fn filled_and_returned_bytes_come_first() {
        let (stream, script) = script();
        let mut io = HttpIo::new(stream, Duration::from_secs(1));
        for piece in [b"45", b"67"] {
            script.push(piece);
            poll_fn(|cx| io.poll_fill(cx)).await;
        }
        assert!(futures_util::poll!(poll_fn(|cx| io.poll_fill(cx))).is_pending());
        io.put_back(b"0123");
        script.push_truncated();
        poll_fn(|cx| io.poll_fill(cx)).await;
        assert_eq!(read(&mut io, 3).await.unwrap(), b"012");
        assert_eq!(read(&mut io, 9).await.unwrap(), b"34567");
        assert_eq!(read(&mut io, 3).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn truncation_is_an_error() {
        let (stream, script) = script();
        let mut io = HttpIo::new(stream, Duration::from_secs(1));
        script.push_truncated();
        assert_eq!(read(&mut io, 3).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    // Requirements: TC07.
    #[tokio::test(start_paused = true)]
    async fn stalled_write_times_out() {
        let (stream, script) = script();
        script.set_send_allowance(3);
        let mut io = HttpIo::new(stream, Duration::from_secs(30));
        let start = Instant::now();
        let wrote = poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"0123456789")).await.unwrap();
        assert_eq!(wrote, 10);
        let drip = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            script.set_send_allowance(2);
            std::future::pending::<()>().await;
        };
        let flush = poll_fn(|cx| Pin::new(&mut io).poll_flush(cx));
        let error = tokio::select! { result = flush => result.unwrap_err(), () = drip => panic!() };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // The bytes accepted at 20 s restarted the timeout.
        assert_eq!(start.elapsed().as_secs(), 50);
        assert_eq!(script.state().sent, b"01234");
    }

    #[tokio::test]
    async fn large_write_is_accepted_in_part() {
        let (stream, script) = script();
        let mut io = HttpIo::new(stream, Duration::from_secs(30));
        let large = vec![7; 3 * SEND_BYTES_MAX / 2];
        let bufs = [IoSlice::new(b"head"), IoSlice::new(&large)];
        let wrote = poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, &bufs)).await.unwrap();
        assert_eq!((wrote, script.state().sent.len()), (SEND_BYTES_MAX, SEND_BYTES_MAX));
    }

    #[tokio::test]
    async fn hyper_upgrade_returns_stream_and_excess() {
        let (stream, script) = script();
        script.push(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n");
        script.push(b"\r\n\x81\x85abcdhello");
        let service = service_fn(|_: Request<hyper::body::Incoming>| async {
            let mut reply = Response::new(Full::new(Bytes::new()));
            *reply.status_mut() = hyper::StatusCode::SWITCHING_PROTOCOLS;
            reply.headers_mut().insert("upgrade", "websocket".parse().unwrap());
            Ok::<_, Infallible>(reply)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(HttpIo::new(stream, Duration::from_secs(1)), service);
        let parts = connection.without_shutdown().await.unwrap();
        assert_eq!(&parts.read_buf[..], b"\x81\x85abcdhello");
        let (_, rest) = parts.io.into_parts();
        assert!(rest.is_empty());
        let state = script.state();
        assert!(state.sent.starts_with(b"HTTP/1.1 101 "));
        assert!(!state.closed);
    }

    #[tokio::test]
    async fn reading_ends_with_the_step_of_the_worker() {
        let (stream, script) = script();
        let mut io = HttpIo::new(stream, Duration::from_secs(1));
        for _ in 0..2000 {
            script.push(&[7; 100]);
        }
        let step = WorkerStep::begin();
        std::thread::sleep(Duration::from_millis(1));
        let mut reads = 0;
        let mut cx = Context::from_waker(Waker::noop());
        while io.poll_read_with(&mut cx, 100, |_| reads += 1).is_ready() {}
        assert!((1..100).contains(&reads), "{reads} reads");
        drop(step);
        assert!(io.poll_read_with(&mut cx, 100, |_| reads += 1).is_ready());
    }
}
