//! TLS that keeps nothing at rest: what arrives is read and opened in the worker's scratch, what
//! leaves is sealed there and written in one call. Only the piece of a record that has not all
//! come, and what the kernel did not take, stay with the connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{Error as TlsError, InvalidMessage};
use tokio::io::ReadBuf;

use super::engine::Engine;
use super::plain::{PlainStream, poll_fin};
use super::scratch::{RecvScratch, SendScratch, WIRE_RECORD_BYTES_MAX};
use crate::net::{Recv, Stream, Transport};

/// A [`Stream`] over TLS, by an [`Engine`].
#[derive(Debug)]
pub struct UnbufferedTls<E, Io> {
    /// What is written here is sealed.
    wire: PlainStream<Io>,
    engine: E,
    /// What arrived and cannot be opened yet: less than a record, or than a handshake message.
    /// Allocated to size, freed when empty.
    rest: Box<[u8]>,
    /// What the end of the handshake left.
    early: Option<Box<HandshakeRest>>,
    /// Boxed like the one before, as a tunnel at rest has neither.
    ended: Option<Box<ReadEnd>>,
}

/// What is left of the handshake: for a moment only.
#[derive(Debug, Default)]
struct HandshakeRest {
    /// Plaintext that was not lent yet.
    data: Vec<u8>,
    /// Records that go out before the first of our own: a client can do without its tickets until
    /// it is answered, and one system call takes both.
    tickets: Vec<u8>,
}

/// Why nothing more is read.
#[derive(Debug)]
enum ReadEnd {
    Closed,
    Truncated,
    Broken(TlsError),
}

impl<E: Engine, Io: Transport> UnbufferedTls<E, Io> {
    /// Shakes hands. The deadline is the caller's.
    ///
    /// # Errors
    /// The peer went away; or, as [`io::ErrorKind::InvalidData`] around a [`rustls::Error`], it
    /// did not speak lawful TLS, and was told so.
    pub async fn accept(io: Io, engine: E) -> io::Result<Self> {
        let mut stream = Self {
            wire: PlainStream::new(io),
            engine,
            rest: Box::default(),
            early: None,
            ended: None,
        };
        poll_fn(|cx| SCRATCH.with_borrow_mut(|scratch| stream.poll_handshake(cx, scratch))).await?;
        Ok(stream)
    }

    /// What was agreed in the handshake is the engine's to tell.
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut RecvScratch,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.ended.as_deref() {
                Some(ReadEnd::Broken(fault)) => {
                    let error = invalid(fault);
                    self.part(cx, scratch);
                    return Poll::Ready(Err(error));
                }
                Some(ReadEnd::Closed | ReadEnd::Truncated) if self.engine.is_handshaking() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Some(ReadEnd::Closed | ReadEnd::Truncated) | None => {}
            }
            // Also the last flight, before it comes to rest.
            ready!(self.wire.poll_ready(cx))?;
            if !self.engine.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            let len = ready!(self.poll_open(cx, scratch))?;
            if let Some(early) = scratch.plain.get(..len).filter(|early| !early.is_empty()) {
                self.early.get_or_insert_default().data = early.to_vec();
            }
        }
    }

    /// The end of a handshake that failed. The alert is on its way; what was not read would draw
    /// a reset, and that could overtake it.
    fn part(&mut self, cx: &mut Context<'_>, scratch: &mut RecvScratch) {
        let _ = poll_fin(&mut self.wire.io, cx);
        for _ in 0..READS_MAX {
            let mut waste = ReadBuf::new(&mut scratch.wire);
            let read = Pin::new(&mut self.wire.io).poll_read(cx, &mut waste);
            if !matches!(read, Poll::Ready(Ok(()))) || waste.filled().is_empty() {
                return;
            }
        }
    }

    /// One read, opened. How much plaintext that made; it may be none.
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut RecvScratch,
    ) -> Poll<io::Result<usize>> {
        let RecvScratch { wire, plain, answers } = scratch;
        let waited = self.rest.len();
        let (front, room) = wire.split_at_mut(waited.min(wire.len()));
        let mut room = ReadBuf::new(room);
        ready!(Pin::new(&mut self.wire.io).poll_read(cx, &mut room))?;
        let arrived = room.filled().len();
        if arrived == 0 {
            self.end(ReadEnd::Truncated);
            return Poll::Ready(Ok(0));
        }
        front.copy_from_slice(&self.rest);
        let unread = &mut wire[..waited + arrived];

        answers.clear();
        let was_handshaking = self.engine.is_handshaking();
        let opened = self.engine.open(unread, plain, answers);
        self.rest = unread.get(opened.used..).unwrap_or_default().into();
        let handshaking = self.engine.is_handshaking();
        let most = if handshaking { HANDSHAKE_BYTES_MAX } else { WIRE_RECORD_BYTES_MAX };
        if let Some(fault) = opened.fault {
            self.end(ReadEnd::Broken(fault));
        } else if opened.closed {
            self.end(ReadEnd::Closed);
        } else if self.rest.len() > most {
            self.end(ReadEnd::Broken(TOO_LARGE));
        }
        let done = was_handshaking && !handshaking && self.ended.is_none();
        if done && self.engine.tickets_may_wait() {
            self.early.get_or_insert_default().tickets = answers.bytes().to_vec();
        } else if !answers.bytes().is_empty() {
            // That it cannot be written is for `poll_ready` to tell: what was read counts.
            let tickets = self.take_tickets();
            let _ = self.wire.push(cx, &[&tickets, answers.bytes()]);
        }
        Poll::Ready(Ok(opened.plain))
    }

    /// Records that must go out before any other.
    fn take_tickets(&mut self) -> Vec<u8> {
        let Some(early) = &mut self.early else {
            return Vec::new();
        };
        let tickets = mem::take(&mut early.tickets);
        if early.data.is_empty() {
            self.early = None;
        }
        tickets
    }

    /// Nothing more is read. The rest stays: sealing, and a farewell, still need it.
    fn end(&mut self, ended: ReadEnd) {
        self.ended = Some(Box::new(ended));
    }
}

impl<E: Engine, Io: Transport> Stream for UnbufferedTls<E, Io> {
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>> {
        if let Some(early) = self.early.as_deref_mut().filter(|early| !early.data.is_empty()) {
            // The HTTP phase lends less than the handshake.
            let later = early.data.split_off(early.data.len().min(scratch.plain.len()));
            let data = mem::replace(&mut early.data, later);
            if early.data.is_empty() && early.tickets.is_empty() {
                self.early = None;
            }
            let lent = &mut scratch.plain[..data.len()];
            lent.copy_from_slice(&data);
            return Poll::Ready(Ok(Recv::Data(lent)));
        }
        for _ in 0..READS_MAX {
            match self.ended.as_deref() {
                Some(ReadEnd::Closed) => return Poll::Ready(Ok(Recv::Closed)),
                Some(ReadEnd::Truncated) => return Poll::Ready(Ok(Recv::Truncated)),
                Some(ReadEnd::Broken(fault)) => return Poll::Ready(Err(invalid(fault))),
                None => {}
            }
            let Poll::Ready(opened) = self.poll_open(cx, scratch) else {
                // An answer of TLS itself may wait; a failure is for `poll_ready` to tell.
                let _ = self.wire.poll_ready(cx);
                return Poll::Pending;
            };
            let len = opened?;
            if len > 0 {
                return Poll::Ready(Ok(Recv::Data(&mut scratch.plain[..len])));
            }
        }
        // Others want to run, too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_ready(cx)
    }

    fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        scratch: &mut SendScratch,
    ) -> io::Result<()> {
        let SendScratch { joined, sealed } = scratch;
        let data = join(parts, joined);
        if data.is_empty() {
            return Ok(());
        }
        sealed.begin(&self.take_tickets());
        let outcome = self.engine.seal(&mut self.rest, data, sealed);
        self.wire.push(cx, &[sealed.bytes()])?;
        outcome.map_err(|fault| invalid(&fault))
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>> {
        scratch.sealed.begin(&self.take_tickets());
        // It says so once. Where there is nothing to say it with, the FIN says it.
        let _ = self.engine.close(&mut self.rest, &mut scratch.sealed);
        self.wire.push(cx, &[scratch.sealed.bytes()])?;
        self.wire.poll_close(cx, scratch)
    }

    fn abort(&mut self) {
        self.wire.abort();
    }

    fn backlog(&self) -> usize {
        self.wire.backlog()
    }
}

/// As tokio-rustls says it.
fn invalid(fault: &TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault.clone())
}

/// All parts as one; in `room`, unless there is only one.
fn join<'a>(parts: &[&'a [u8]], room: &'a mut Vec<u8>) -> &'a [u8] {
    let mut filled = parts.iter().filter(|part| !part.is_empty());
    match (filled.next(), filled.next()) {
        (None, _) => &[],
        (Some(only), None) => only,
        (Some(_), Some(_)) => {
            room.clear();
            parts.iter().for_each(|part| room.extend_from_slice(part));
            room
        }
    }
}

// Lent to whichever handshake this worker polls.
thread_local! {
    static SCRATCH: RefCell<RecvScratch> = RefCell::default();
}

/// Reads in a row that bring nothing but what is TLS' own.
const READS_MAX: usize = 8;

/// What may arrive of a handshake message before it is whole; less than a read has room for.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// A peer that splits its messages as nobody does.
const TOO_LARGE: TlsError = TlsError::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge);

#[cfg(test)]
mod tests;
