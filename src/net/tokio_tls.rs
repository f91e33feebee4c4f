//! TLS with tokio-rustls: the reference that tests compare [`UnbufferedTls`] with.
//!
//! [`UnbufferedTls`]: super::unbuffered_tls::UnbufferedTls

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::plain::poll_fin;
use super::scratch::{RecvScratch, SendScratch};
use crate::net::{PARTS_MAX, Recv, SEND_BYTES_MAX, Stream, Transport, io_slices};

/// A [`Stream`] over a TLS connection with a complete handshake.
///
/// Reads through tokio-rustls, but writes through rustls directly: tokio-rustls does not expose the
/// number of unsent bytes, which the write timeout needs.
#[derive(Debug)]
pub struct TokioTls<Io> {
    tls: TlsStream<Io>,
    /// Bytes of ciphertext inside rustls after the last attempt to write.
    held: usize,
    close_notify_sent: bool,
}

impl<Io: Transport> TokioTls<Io> {
    /// Wraps a connection after its handshake. Pending session tickets are written by the first
    /// [`poll_ready`](Stream::poll_ready).
    pub fn new(mut tls: TlsStream<Io>) -> Self {
        // Fits one `send`. A lower limit would not save memory, because the next `send` happens
        // only after the first is written; it would only cause more system calls.
        tls.get_mut().1.set_buffer_limit(Some(SEND_BYTES_MAX + REPLIES_BYTES_MAX));
        Self { tls, held: 0, close_notify_sent: false }
    }

    /// Writes the ciphertext that rustls holds, and flushes.
    fn poll_write_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (io, tls) = self.tls.get_mut();
        while tls.wants_write() {
            let mut wire = RecordWriter { io, cx, held: &mut self.held };
            match tls.write_tls(&mut wire) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.held = 0;
        Pin::new(io).poll_flush(cx)
    }
}

impl<Io: Transport> Stream for TokioTls<Io> {
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>> {
        let mut buf = ReadBuf::new(&mut scratch.plain);
        let read = Pin::new(&mut self.tls).poll_read(cx, &mut buf);
        let len = buf.filled().len();
        match read {
            Poll::Ready(Ok(())) if len == 0 => Poll::Ready(Ok(Recv::Closed)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(Recv::Data(&mut scratch.plain[..len]))),
            // The error of rustls for a FIN without close_notify.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(Recv::Truncated))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                // Reading may have caused a reply (an alert, or the rejection of a TLS 1.2
                // renegotiation). `poll_ready` reports an error of writing it.
                if self.tls.get_ref().1.wants_write() {
                    let _ = self.poll_write_pending(cx);
                }
                Poll::Pending
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_pending(cx)
    }

    fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        _scratch: &mut SendScratch,
    ) -> io::Result<()> {
        let mut writer = self.tls.get_mut().1.writer();
        for parts in parts.chunks(PARTS_MAX) {
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            let mut remaining = io_slices(parts, &mut slices);
            // rustls accepts only a part if a key update is due in between.
            while !remaining.is_empty() {
                let accepted = writer.write_vectored(remaining)?;
                if accepted == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                IoSlice::advance_slices(&mut remaining, accepted);
            }
        }
        match self.poll_write_pending(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>> {
        if !self.close_notify_sent {
            self.close_notify_sent = true;
            self.tls.get_mut().1.send_close_notify();
        }
        ready!(self.poll_write_pending(cx))?;
        poll_fin(self.tls.get_mut().0, cx)
    }

    fn abort(&mut self) {
        self.tls.get_mut().0.reset_on_drop();
    }

    fn backlog(&self) -> usize {
        // Records queued since the last attempt are not counted yet, but must not count as zero.
        if self.tls.get_ref().1.wants_write() { self.held.max(1) } else { 0 }
    }
}

/// The target for rustls' records. rustls passes all pending records at each attempt, so the unsent
/// bytes can be counted here.
struct RecordWriter<'a, 'b, Io> {
    io: &'a mut Io,
    cx: &'a mut Context<'b>,
    held: &'a mut usize,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Write for RecordWriter<'_, '_, Io> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        *self.held = records.iter().map(|record| record.len()).sum();
        // A single slice uses plain `write`: from a short count tokio learns that the socket is
        // full, and saves the next attempt.
        let poll = match records {
            [only] => Pin::new(&mut *self.io).poll_write(self.cx, only),
            several => Pin::new(&mut *self.io).poll_write_vectored(self.cx, several),
        };
        match poll {
            Poll::Ready(written) => {
                let written = written?;
                *self.held = self.held.saturating_sub(written);
                Ok(written)
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // `poll_write_pending` flushes once everything is written.
    }
}

/// Space inside rustls in addition to one `send`: tickets, key updates, alerts.
const REPLIES_BYTES_MAX: usize = 16 * 1024;
