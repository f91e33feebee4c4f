//! A TLS stream without buffers of its own: data is received and decrypted in the worker's scratch
//! buffers, and encrypted there and sent with one system call. The connection keeps only an incomplete
//! record and the bytes that the kernel did not accept, and for a short time the records of a read that
//! would take too long to decrypt at once.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{Error as TlsError, InvalidMessage};
use tokio::io::ReadBuf;

use super::plain::PlainStream;
use super::scratch::{RecvScratch, SendScratch, WIRE_RECORD_BYTES_MAX, WriteBuffer};
use super::tls_engine::Engine;
use super::tls_records::{DecryptBudget, WITHOUT_DATA_MAX, WITHOUT_DATA_PERIOD, WithoutDataRate};
use crate::net::{Recv, Stream, Transport};
use crate::sys::worker_step::defer;

/// A [`Stream`] over TLS with an [`Engine`].
///
/// | state of reading | event | next |
/// | --- | --- | --- |
/// | handshaking | handshake complete | open |
/// | handshaking | FIN or `close_notify` | the handshake fails with `UnexpectedEof` |
/// | handshaking | TLS error | the handshake fails with `InvalidData`, after alert and FIN |
/// | open | `close_notify` received | closed (`Recv::Closed`) |
/// | open | FIN without `close_notify` | truncated (`Recv::Truncated`) |
/// | open | TLS error, an incomplete message is too long, too many records without data | failed (`InvalidData`) |
///
/// Closed and truncated streams can still send.
#[derive(Debug)]
pub struct UnbufferedTls<E, Io> {
    /// The transport, carrying TLS records.
    wire: PlainStream<Io>,
    engine: E,
    /// Received bytes that cannot be decrypted yet: an incomplete record or handshake message, or
    /// what one read received beyond the budget of a poll. Allocated to exact size, freed when empty.
    undecrypted: Box<[u8]>,
    /// Data and tickets from the end of the handshake.
    after_handshake: Option<Box<AfterHandshake>>,
    /// Boxed like `after_handshake`, because an open tunnel usually has neither.
    exception: Option<Box<ReadException>>,
}

/// Received or produced during the handshake and not yet passed on; present for a short time only.
#[derive(Debug, Default)]
struct AfterHandshake {
    /// Plaintext that `poll_recv` has not returned yet.
    plaintext: Vec<u8>,
    /// The session tickets of a server or the Finished of a client, sent together with the first data to save
    /// a system call. The peer does not need them earlier.
    unsent_tickets: Vec<u8>,
}

/// What most connections never have: an end of reading, records without data, or a read that exceeds
/// the budget of a poll.
#[derive(Debug, Default)]
struct ReadException {
    /// Why reading ended.
    end: Option<ReadEnd>,
    /// `undecrypted` has complete records, which are decrypted before anything is read.
    has_records: bool,
    /// The budget of a poll is spent: other tasks must run before more is decrypted.
    is_budget_spent: bool,
    /// Present once a record without data was received.
    without_data: Option<WithoutDataRate>,
}

/// Why nothing more is read.
#[derive(Debug)]
enum ReadEnd {
    Closed,
    Truncated,
    Failed(TlsError),
}

impl<E: Engine, Io: Transport> UnbufferedTls<E, Io> {
    fn new(io: Io, engine: E) -> Self {
        Self {
            wire: PlainStream::new(io),
            engine,
            undecrypted: Box::default(),
            after_handshake: None,
            exception: None,
        }
    }

    /// The engine, which knows the negotiated parameters.
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// Pending once after the budget of a poll was spent; the task is woken after the worker has looked at its
    /// sockets.
    fn poll_budget(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(exception) = &mut self.exception
            && mem::take(&mut exception.is_budget_spent)
        {
            defer(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Decrypts the records that are kept, or else reads once and decrypts. Returns the length of the
    /// plaintext, which may be 0.
    fn poll_decrypt(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut RecvScratch,
        budget: &mut DecryptBudget,
    ) -> Poll<io::Result<usize>> {
        let RecvScratch { ciphertext, plain, replies } = scratch;
        if self.exception.as_ref().is_some_and(|exception| exception.has_records) {
            // In place: the buffer of the HTTP phase is smaller than that of the handshake.
            let mut kept = mem::take(&mut self.undecrypted);
            return Poll::Ready(Ok(self.decrypt(cx, &mut kept, plain, replies, budget)));
        }
        let kept = self.undecrypted.len();
        let (front, space) = ciphertext.split_at_mut(kept.min(ciphertext.len()));
        let mut space = ReadBuf::new(space);
        ready!(Pin::new(&mut self.wire.io).poll_read(cx, &mut space))?;
        budget.charge_read();
        let received = space.filled().len();
        if received == 0 {
            self.end_reading(ReadEnd::Truncated);
            return Poll::Ready(Ok(0));
        }
        front.copy_from_slice(&self.undecrypted);
        let unread = &mut ciphertext[..kept + received];
        Poll::Ready(Ok(self.decrypt(cx, unread, plain, replies, budget)))
    }

    /// Decrypts as much of `unread` as the budget allows, keeps the rest, and sends the replies.
    /// Returns the length of the plaintext.
    fn decrypt(
        &mut self,
        cx: &mut Context<'_>,
        unread: &mut [u8],
        plain: &mut [u8],
        replies: &mut WriteBuffer,
        budget: &mut DecryptBudget,
    ) -> usize {
        replies.clear();
        let was_handshaking = self.engine.is_handshaking();
        let outcome = self.engine.decrypt(unread, plain, replies, budget);
        self.undecrypted = unread.get(outcome.consumed..).unwrap_or_default().into();
        if outcome.more || budget.is_spent() || self.exception.is_some() {
            let exception = self.exception.get_or_insert_default();
            exception.has_records = outcome.more;
            exception.is_budget_spent = budget.is_spent();
        }
        let handshaking = self.engine.is_handshaking();
        let max =
            if handshaking { self.engine.handshake_bytes_max() } else { WIRE_RECORD_BYTES_MAX };
        if let Some(error) = outcome.error {
            self.end_reading(ReadEnd::Failed(error));
        } else if outcome.closed {
            self.end_reading(ReadEnd::Closed);
        } else if !outcome.more && self.undecrypted.len() > max {
            self.end_reading(ReadEnd::Failed(TOO_LARGE));
        } else if outcome.without_data > 0 && !self.allows_without_data(outcome.without_data) {
            self.end_reading(ReadEnd::Failed(too_many_without_data()));
        }
        let done = was_handshaking && !handshaking && self.read_end().is_none();
        if done && self.engine.may_delay_tickets() {
            self.after_handshake.get_or_insert_default().unsent_tickets = replies.bytes().to_vec();
        } else if !replies.bytes().is_empty() {
            // `poll_ready` reports a write error; the data that was read is still valid.
            let tickets = self.take_tickets();
            let _ = self.wire.write_or_keep(cx, &[&tickets, replies.bytes()]);
        }
        outcome.plain
    }

    /// Counts records without data and returns whether their rate is accepted.
    fn allows_without_data(&mut self, records: usize) -> bool {
        let exception = self.exception.get_or_insert_default();
        exception.without_data.get_or_insert_with(WithoutDataRate::new).allows(records)
    }

    /// Takes the records that must be sent before all others.
    fn take_tickets(&mut self) -> Vec<u8> {
        let Some(pending) = &mut self.after_handshake else {
            return Vec::new();
        };
        let tickets = mem::take(&mut pending.unsent_tickets);
        if pending.plaintext.is_empty() {
            self.after_handshake = None;
        }
        tickets
    }

    /// Ends reading. `undecrypted` is kept, because encryption and `close` still need it.
    fn end_reading(&mut self, read_end: ReadEnd) {
        self.exception.get_or_insert_default().end = Some(read_end);
    }

    fn read_end(&self) -> Option<&ReadEnd> {
        self.exception.as_ref()?.end.as_ref()
    }
}

impl<E: Engine, Io: Transport> Stream for UnbufferedTls<E, Io> {
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>> {
        let pending = self.after_handshake.as_deref_mut();
        if let Some(pending) = pending.filter(|pending| !pending.plaintext.is_empty()) {
            // The buffer of the HTTP phase is smaller than that of the handshake.
            let later =
                pending.plaintext.split_off(pending.plaintext.len().min(scratch.plain.len()));
            let data = mem::replace(&mut pending.plaintext, later);
            if pending.plaintext.is_empty() && pending.unsent_tickets.is_empty() {
                self.after_handshake = None;
            }
            let lent = &mut scratch.plain[..data.len()];
            lent.copy_from_slice(&data);
            return Poll::Ready(Ok(Recv::Data(lent)));
        }
        let mut budget = DecryptBudget::new();
        loop {
            match self.read_end() {
                Some(ReadEnd::Closed) => return Poll::Ready(Ok(Recv::Closed)),
                Some(ReadEnd::Truncated) => return Poll::Ready(Ok(Recv::Truncated)),
                Some(ReadEnd::Failed(error)) => return Poll::Ready(Err(invalid_data(error))),
                None => {}
            }
            // A peer that sends only records without data, or very many small ones, must not occupy
            // the worker.
            ready!(self.poll_budget(cx));
            let Poll::Ready(decrypted) = self.poll_decrypt(cx, scratch, &mut budget) else {
                // A reply of the TLS layer may be unsent; `poll_ready` reports an error.
                let _ = self.wire.poll_ready(cx);
                return Poll::Pending;
            };
            let len = decrypted?;
            if len > 0 {
                return Poll::Ready(Ok(Recv::Data(&mut scratch.plain[..len])));
            }
        }
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
        let SendScratch { joined, encrypted } = scratch;
        let data = join(parts, joined);
        if data.is_empty() {
            return Ok(());
        }
        encrypted.set(&self.take_tickets());
        let outcome = self.engine.encrypt(&mut self.undecrypted, data, encrypted);
        self.wire.write_or_keep(cx, &[encrypted.bytes()])?;
        outcome.map_err(|error| invalid_data(&error))
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>> {
        scratch.encrypted.set(&self.take_tickets());
        // Sends close_notify once. If that is not possible, the FIN has to suffice.
        let _ = self.engine.close(&mut self.undecrypted, &mut scratch.encrypted);
        self.wire.write_or_keep(cx, &[scratch.encrypted.bytes()])?;
        self.wire.poll_close(cx, scratch)
    }

    fn abort(&mut self) {
        self.wire.abort();
    }

    fn backlog(&self) -> usize {
        self.wire.backlog()
    }
}

/// A TLS error in the form that tokio-rustls uses.
fn invalid_data(error: &TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}

/// Joins all parts in `buffer`; a single part is returned without a copy.
fn join<'a>(parts: &[&'a [u8]], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    let mut filled = parts.iter().filter(|part| !part.is_empty());
    match (filled.next(), filled.next()) {
        (None, _) => &[],
        (Some(only), None) => only,
        (Some(_), Some(_)) => {
            buffer.clear();
            parts.iter().for_each(|part| buffer.extend_from_slice(part));
            buffer
        }
    }
}

/// The error for an incomplete handshake message that exceeds its maximum length.
const TOO_LARGE: TlsError = TlsError::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge);

/// The error for a connection with too high a rate of key updates, empty records and the like.
fn too_many_without_data() -> TlsError {
    TlsError::General(format!(
        "more than {WITHOUT_DATA_MAX} TLS records without data within {} s",
        WITHOUT_DATA_PERIOD.as_secs()
    ))
}

mod handshake;

#[cfg(test)]
mod tests;
