//! One WebSocket of the load: a TCP stream, TLS or not, frames.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::tls::Tls;
use crate::buffer::Outgoing;
use crate::fail::Fail;
use crate::frame::{CLOSE, CONTINUATION, Header, PING, PONG, Reader, Step, TEXT};

const READ_BYTES: usize = 256 << 10;
/// More than this on its way out means that the peer does not keep up.
const WAITING_BYTES_MAX: usize = 256 << 20;

/// One link reads or writes at a time, so all share their buffers.
pub struct Desk {
    reading: RefCell<Vec<u8>>,
    writing: RefCell<Outgoing>,
}

impl Desk {
    pub fn new() -> Rc<Self> {
        Rc::new(Self { reading: RefCell::new(vec![0; READ_BYTES]), writing: RefCell::default() })
    }
}

/// Who is told of data messages, piece by piece.
pub trait Hear {
    fn part(&mut self, part: &[u8]) -> Result<(), Fail>;

    fn whole(&mut self, text: bool) -> Result<(), Fail>;
}

/// A stream on which the handshakes are done.
pub struct Start {
    pub stream: TcpStream,
    pub tls: Option<Box<Tls>>,
    pub partial: Vec<u8>,
    pub early: Vec<u8>,
}

pub struct Link {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
    desk: Rc<Desk>,
    /// A record of which the rest has yet to come.
    partial: Vec<u8>,
    /// What came right behind the answer to the handshake.
    early: Vec<u8>,
    waiting: Outgoing,
    frames: Frames,
    task: Option<Waker>,
    leaving: bool,
    gone: bool,
}

impl Link {
    pub fn new(start: Start, desk: Rc<Desk>) -> Self {
        let Start { stream, tls, partial, early } = start;
        Self {
            stream,
            tls,
            desk,
            partial,
            early,
            waiting: Outgoing::default(),
            frames: Frames::default(),
            task: None,
            leaving: false,
            gone: false,
        }
    }

    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref()
    }

    /// The code of the peer's Close, once it has come.
    pub fn ended(&self) -> Option<u16> {
        self.frames.ended
    }

    /// Nothing waits to be written.
    pub fn clear(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Encrypts and writes in one call; what the socket does not take waits.
    pub fn send(&mut self, plain: &[u8]) -> Result<(), Fail> {
        match &mut self.tls {
            Some(tls) => {
                let desk = self.desk.clone();
                let mut out = desk.writing.borrow_mut();
                out.clear();
                tls.seal(plain, &mut out)?;
                self.put(&mut out)?;
            }
            None => {
                let taken = if self.waiting.is_empty() { self.write(plain)? } else { 0 };
                self.waiting.push(&plain[taken..]);
            }
        }
        self.woken()
    }

    /// Asks the peer to close, once.
    pub fn leave(&mut self) -> Result<(), Fail> {
        if std::mem::replace(&mut self.leaving, true) {
            return Ok(());
        }
        self.control(CLOSE, &1000u16.to_be_bytes())
    }

    /// Ends TLS as it should end; the peer's Close has been read.
    pub fn goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            let mut out = Outgoing::default();
            tls.goodbye(&mut out);
            // Nobody waits for it.
            let _ = self.stream.try_write(out.waiting());
        }
    }

    /// No FIN, no TIME_WAIT: the socket is gone when this is dropped.
    pub fn reset(&self) -> Result<(), Fail> {
        Ok(self.stream.set_zero_linger()?)
    }

    pub fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fail>> {
        while !self.waiting.is_empty() {
            match self.stream.try_write(self.waiting.waiting()) {
                Ok(count) => self.waiting.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        if self.waiting.capacity() > 0 {
            // Back to all, unless they have a larger one by now.
            let mut shared = self.desk.writing.borrow_mut();
            if shared.capacity() < self.waiting.capacity() {
                std::mem::swap(&mut *shared, &mut self.waiting);
            }
            self.waiting = Outgoing::default();
        }
        Poll::Ready(Ok(()))
    }

    /// Flushes, reads once, and hands what came to `hear`. Bytes still to be written do not keep
    /// it from reading.
    pub fn poll_turn(
        &mut self,
        context: &mut Context<'_>,
        hear: &mut impl Hear,
    ) -> Poll<Result<(), Fail>> {
        if let Poll::Ready(Err(error)) = self.poll_flush(context) {
            return Poll::Ready(Err(error));
        }
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            return Poll::Ready(self.frames.take(&early, hear).and_then(|()| self.answer()));
        }
        let desk = self.desk.clone();
        let mut reading = desk.reading.borrow_mut();
        let (end, bytes) = match ready!(self.poll_read(context, &mut reading)) {
            Ok(end) => (end, &mut reading[..end]),
            Err(error) => return Poll::Ready(Err(error)),
        };
        if end == 0 {
            return Poll::Ready(self.at_end());
        }
        let taken = match &mut self.tls {
            Some(tls) => {
                let mut out = desk.writing.borrow_mut();
                out.clear();
                let frames = &mut self.frames;
                tls.take(bytes, &mut out, |plain| frames.take(plain, hear)).and_then(|turn| {
                    self.gone = turn.closed;
                    self.partial.extend_from_slice(&bytes[turn.used..]);
                    self.put(&mut out)
                })
            }
            None => self.frames.take(bytes, hear),
        };
        drop(reading);
        Poll::Ready(taken.and_then(|()| self.answer()))
    }

    /// What is kept from before and what comes now, from the buffer's beginning; 0 at the end.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<Result<usize, Fail>> {
        let kept = self.partial.len();
        let mut buffer = ReadBuf::new(&mut into[kept..]);
        match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
            Ok(()) => {}
            // A reset behind both Closes is an end like any other.
            Err(_) if self.frames.ended.is_some() => return Poll::Ready(Ok(0)),
            Err(error) => return Poll::Ready(Err(error.into())),
        }
        let read = buffer.filled().len();
        if read == 0 {
            return Poll::Ready(Ok(0));
        }
        into[..kept].copy_from_slice(&self.partial);
        self.partial = Vec::new();
        Poll::Ready(Ok(kept + read))
    }

    fn at_end(&mut self) -> Result<(), Fail> {
        self.gone = true;
        match self.frames.ended {
            Some(_) => Ok(()),
            None => Err(Fail::new("connection closed without a Close")),
        }
    }

    /// Pongs, and the answer to a Close that we did not ask for.
    fn answer(&mut self) -> Result<(), Fail> {
        if self.gone && self.frames.ended.is_none() {
            return Err(Fail::new("TLS closed without a Close"));
        }
        while let Some(pong) = self.frames.pongs.pop() {
            self.control(PONG, &pong)?;
        }
        match self.frames.ended {
            Some(code) if !self.leaving => {
                Err(Fail::new(format!("closed by the other side with {code}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn control(&mut self, opcode: u8, payload: &[u8]) -> Result<(), Fail> {
        let mut key = [0; 4];
        getrandom::fill(&mut key).map_err(|error| Fail::new(format!("no randomness: {error}")))?;
        let (bytes, end) = Header::whole(opcode, payload.len()).masked(key).encode();
        let mut frame = [&bytes[..end], payload].concat();
        crate::frame::mask(&mut frame[end..], key, 0);
        self.send(&frame)
    }

    fn put(&mut self, out: &mut Outgoing) -> Result<(), Fail> {
        if self.waiting.is_empty() {
            let taken = self.write(out.waiting())?;
            out.sent(taken);
            // Small leftovers are copied, large ones are taken as they are.
            if out.waiting().len() > 4 << 10 {
                std::mem::swap(&mut self.waiting, out);
            }
        }
        self.waiting.push(out.waiting());
        out.clear();
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Fail> {
        match self.stream.try_write(bytes) {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn woken(&mut self) -> Result<(), Fail> {
        if !self.waiting.is_empty() {
            if self.waiting.waiting().len() > WAITING_BYTES_MAX {
                return Err(Fail::new("the other side does not keep up"));
            }
            self.wake();
        }
        Ok(())
    }

    /// Whose turn it is when others leave something to write.
    pub fn watch(&mut self, context: &Context<'_>) {
        match &self.task {
            Some(task) if task.will_wake(context.waker()) => {}
            Some(_) | None => self.task = Some(context.waker().clone()),
        }
    }
}

/// What came, as far as the link itself needs to know.
#[derive(Default)]
struct Frames {
    reader: Reader,
    head: Option<Header>,
    text: bool,
    control: Vec<u8>,
    pongs: Vec<Vec<u8>>,
    ended: Option<u16>,
}

impl Frames {
    fn take(&mut self, mut bytes: &[u8], hear: &mut impl Hear) -> Result<(), Fail> {
        while let Some((used, step)) = self.reader.step(bytes)? {
            let (taken, rest) = bytes.split_at(used);
            bytes = rest;
            match (step, self.head) {
                (Step::Head(head), _) => self.begins(head)?,
                (Step::Part { end }, Some(head)) if head.opcode < CLOSE => {
                    hear.part(taken)?;
                    if end && head.fin {
                        hear.whole(self.text)?;
                    }
                }
                (Step::Part { end }, Some(head)) => self.controlled(head.opcode, taken, end),
                (Step::Part { .. }, None) => return Err(Fail::new("a payload without a header")),
            }
        }
        Ok(())
    }

    fn begins(&mut self, head: Header) -> Result<(), Fail> {
        if head.mask.is_some() {
            return Err(Fail::new("a server's frame with a mask"));
        }
        if self.ended.is_some() {
            return Err(Fail::new("a frame behind the Close"));
        }
        if head.opcode < CLOSE && head.opcode != CONTINUATION {
            self.text = head.opcode == TEXT;
        }
        self.head = Some(head);
        Ok(())
    }

    fn controlled(&mut self, opcode: u8, part: &[u8], end: bool) {
        self.control.extend_from_slice(part);
        if !end {
            return;
        }
        let payload = std::mem::take(&mut self.control);
        match opcode {
            PING => self.pongs.push(payload),
            CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.ended = Some(code);
            }
            _ => {}
        }
    }
}
