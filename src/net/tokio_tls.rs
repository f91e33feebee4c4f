//! TLS by tokio-rustls: the first implementation, and the oracle for later ones.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::plain::poll_fin;
use super::scratch::{RecvScratch, SendScratch};
use crate::net::{PARTS_MAX, Recv, SEND_BYTES_MAX, Stream, Transport, slices};

/// A [`Stream`] over a TLS connection whose handshake is done.
///
/// Reads by tokio-rustls, but writes by rustls itself: tokio-rustls does not tell how much of
/// what it was given is still waiting, and the write-stall clock lives on that number.
#[derive(Debug)]
pub struct TokioTls<Io> {
    tls: TlsStream<Io>,
    /// Ciphertext inside rustls, as of the last try to write it.
    held: usize,
    farewell_said: bool,
}

impl<Io: Transport> TokioTls<Io> {
    /// Takes the connection after its handshake. Session tickets may still wait inside; the
    /// first [`poll_ready`](Stream::poll_ready) writes them.
    pub fn new(mut tls: TlsStream<Io>) -> Self {
        // One `send` always fits. A lower limit would bound nothing more, as no second `send`
        // comes before the first is gone; it would only cut it into several system calls.
        tls.get_mut().1.set_buffer_limit(Some(SEND_BYTES_MAX + ANSWERS_BYTES_MAX));
        Self { tls, held: 0, farewell_said: false }
    }

    /// Writes what rustls holds, and flushes.
    fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        let mut room = ReadBuf::new(&mut scratch.plain);
        let read = Pin::new(&mut self.tls).poll_read(cx, &mut room);
        let len = room.filled().len();
        match read {
            Poll::Ready(Ok(())) if len == 0 => Poll::Ready(Ok(Recv::Closed)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(Recv::Data(&mut scratch.plain[..len]))),
            // This is how rustls names a FIN without close_notify.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(Recv::Truncated))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                // Reading may have made rustls answer something (an alert, a TLS 1.2 refusal to
                // renegotiate). A failure to write it is for `poll_ready` to tell.
                if self.tls.get_ref().1.wants_write() {
                    let _ = self.poll_drive(cx);
                }
                Poll::Pending
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drive(cx)
    }

    fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        _scratch: &mut SendScratch,
    ) -> io::Result<()> {
        let mut writer = self.tls.get_mut().1.writer();
        for parts in parts.chunks(PARTS_MAX) {
            let mut room = [IoSlice::new(&[]); PARTS_MAX];
            let mut unsealed = slices(parts, &mut room);
            // rustls takes less than all of it where a key update falls due in between.
            while !unsealed.is_empty() {
                let sealed = writer.write_vectored(unsealed)?;
                if sealed == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                IoSlice::advance_slices(&mut unsealed, sealed);
            }
        }
        match self.poll_drive(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>> {
        if !self.farewell_said {
            self.farewell_said = true;
            self.tls.get_mut().1.send_close_notify();
        }
        ready!(self.poll_drive(cx))?;
        poll_fin(self.tls.get_mut().0, cx)
    }

    fn abort(&mut self) {
        self.tls.get_mut().0.reset_on_drop();
    }

    fn backlog(&self) -> usize {
        // What rustls queued since the last try is not counted yet, but it is not nothing.
        if self.tls.get_ref().1.wants_write() { self.held.max(1) } else { 0 }
    }
}

/// Where rustls writes its records. rustls shows all that it holds at each try, so this is where
/// the rest can be counted.
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
        // One slice goes by plain `write`: from its short count tokio knows that the socket is
        // full, and need not ask again.
        let poll = match records {
            [only] => Pin::new(&mut *self.io).poll_write(self.cx, only),
            several => Pin::new(&mut *self.io).poll_write_vectored(self.cx, several),
        };
        match poll {
            Poll::Ready(taken) => {
                let taken = taken?;
                *self.held = self.held.saturating_sub(taken);
                Ok(taken)
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // `poll_drive` flushes when all is written.
    }
}

/// Room inside rustls beside one `send`: tickets, key updates, alerts.
const ANSWERS_BYTES_MAX: usize = 16 * 1024;
