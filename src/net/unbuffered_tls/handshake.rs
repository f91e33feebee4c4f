//! The handshake of a stream.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::{ReadEnd, UnbufferedTls, invalid_data};
use crate::net::plain::poll_fin;
use crate::net::scratch::RecvScratch;
use crate::net::tls_engine::Engine;
use crate::net::tls_records::DecryptBudget;
use crate::net::{Stream as _, Transport};

impl<E: Engine, Io: Transport> UnbufferedTls<E, Io> {
    /// Performs the handshake as the server. The caller is responsible for the deadline. The stream is in a box, because
    /// it passes through all layers of the HTTP phase, and takes more than 1 KB.
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer disconnected; `InvalidData` with a [`rustls::Error`] inside if the
    /// handshake failed, in which case an alert was sent.
    pub async fn accept(io: Io, engine: E) -> io::Result<Box<Self>> {
        let mut stream = Box::new(Self::new(io, engine));
        poll_fn(|cx| SCRATCH.with_borrow_mut(|scratch| stream.poll_handshake(cx, scratch))).await?;
        Ok(stream)
    }

    /// Performs the handshake as the client, whose first records the engine makes without any input. In TLS 1.3
    /// the server learns with the first data that the handshake is complete, and may reject the client's
    /// certificate only then.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub async fn connect(io: Io, engine: E) -> io::Result<Box<Self>> {
        let mut stream = Box::new(Self::new(io, engine));
        poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| stream.start(cx, scratch));
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| SCRATCH.with_borrow_mut(|scratch| stream.poll_handshake(cx, scratch))).await?;
        Ok(stream)
    }

    fn start(&mut self, cx: &mut Context<'_>, scratch: &mut RecvScratch) {
        let RecvScratch { plain, replies, .. } = scratch;
        self.decrypt(cx, &mut [], plain, replies, &mut DecryptBudget::new());
    }

    fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut RecvScratch,
    ) -> Poll<io::Result<()>> {
        let mut budget = DecryptBudget::new();
        loop {
            match self.read_end() {
                Some(ReadEnd::Failed(error)) => {
                    let error = invalid_data(error);
                    self.abort_handshake(cx, scratch);
                    return Poll::Ready(Err(error));
                }
                Some(ReadEnd::Closed | ReadEnd::Truncated) if self.engine.is_handshaking() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Some(ReadEnd::Closed | ReadEnd::Truncated) | None => {}
            }
            // Also sends the last flight before the handshake counts as complete.
            ready!(self.wire.poll_ready(cx))?;
            if !self.engine.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_budget(cx));
            let len = ready!(self.poll_decrypt(cx, scratch, &mut budget))?;
            if let Some(data) = scratch.plain.get(..len).filter(|data| !data.is_empty()) {
                self.after_handshake.get_or_insert_default().plaintext = data.to_vec();
            }
        }
    }

    /// Ends a failed handshake with FIN. Unread input is discarded first: otherwise the kernel would
    /// send a reset, which can overtake the alert.
    fn abort_handshake(&mut self, cx: &mut Context<'_>, scratch: &mut RecvScratch) {
        let _ = poll_fin(&mut self.wire.io, cx);
        for _ in 0..READS_MAX {
            let mut discarded = ReadBuf::new(&mut scratch.ciphertext);
            let read = Pin::new(&mut self.wire.io).poll_read(cx, &mut discarded);
            if !matches!(read, Poll::Ready(Ok(()))) || discarded.filled().is_empty() {
                return;
            }
        }
    }
}

// Shared by all handshakes that this worker polls.
thread_local! {
    static SCRATCH: RefCell<RecvScratch> = RefCell::default();
}

/// Maximum number of reads that discard the input of a failed handshake.
const READS_MAX: usize = 8;
