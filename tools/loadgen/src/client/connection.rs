//! A WebSocket of the load generator: a TCP stream, optional TLS, and frames.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::tls::Tls;
use crate::buffer::WriteBuffer;
use crate::error::Error;
use crate::frame::{CLOSE, CONTINUATION, Header, PING, PONG, Reader, Step, TEXT};

const READ_BYTES: usize = 256 << 10;
/// With more pending bytes the peer is considered stuck.
const PENDING_BYTES_MAX: usize = 256 << 20;

/// Buffers shared by all connections, because only one reads or writes at a time.
pub struct SharedBuffers {
    reading: RefCell<Vec<u8>>,
    writing: RefCell<WriteBuffer>,
}

impl SharedBuffers {
    pub fn new() -> Rc<Self> {
        Rc::new(Self { reading: RefCell::new(vec![0; READ_BYTES]), writing: RefCell::default() })
    }
}

/// Receives data messages piece by piece.
pub trait MessageHandler {
    fn on_data(&mut self, part: &[u8]) -> Result<(), Error>;

    fn on_message_end(&mut self, text: bool) -> Result<(), Error>;
}

/// A stream after the TLS handshake, and after the opening handshake if it is a WebSocket's.
pub struct Established {
    pub stream: TcpStream,
    pub tls: Option<Box<Tls>>,
    /// Received bytes that TLS has not processed yet.
    pub partial: Vec<u8>,
    /// Received plaintext.
    pub early: Vec<u8>,
}

pub struct Connection {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
    buffers: Rc<SharedBuffers>,
    /// An incomplete TLS record.
    partial: Vec<u8>,
    /// Data received together with the handshake response.
    early: Vec<u8>,
    pending: WriteBuffer,
    frames: Incoming,
    task: Option<Waker>,
    closing: bool,
    eof: bool,
}

impl Connection {
    pub fn new(established: Established, buffers: Rc<SharedBuffers>) -> Self {
        let Established { stream, tls, partial, early } = established;
        Self {
            stream,
            tls,
            buffers,
            partial,
            early,
            pending: WriteBuffer::default(),
            frames: Incoming::default(),
            task: None,
            closing: false,
            eof: false,
        }
    }

    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref()
    }

    /// The code of the peer's Close, once received.
    pub fn close_code(&self) -> Option<u16> {
        self.frames.close_code
    }

    /// Whether no data is pending.
    pub fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }

    /// Writes encoded frames, encrypted if the connection uses TLS, and buffers what the socket does not
    /// accept.
    pub fn send(&mut self, plain: &[u8]) -> Result<(), Error> {
        match &mut self.tls {
            Some(tls) => {
                let buffers = self.buffers.clone();
                let mut out = buffers.writing.borrow_mut();
                out.clear();
                tls.encrypt(plain, &mut out)?;
                self.write_buffer(&mut out)?;
            }
            None => {
                let written = if self.pending.is_empty() { self.write(plain)? } else { 0 };
                self.pending.push(&plain[written..]);
            }
        }
        self.check_backlog()
    }

    /// Sends a Close, once.
    pub fn close(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.closing, true) {
            return Ok(());
        }
        self.send_control(CLOSE, &1000u16.to_be_bytes())
    }

    /// Sends close_notify, after the peer's Close was received.
    pub fn send_close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            let mut out = WriteBuffer::default();
            tls.close_notify(&mut out);
            // The connection is closed either way.
            let _ = self.stream.try_write(out.as_slice());
        }
    }

    /// Sends a reset when dropped, which leaves no socket in TIME_WAIT.
    pub fn reset_on_drop(&self) -> Result<(), Error> {
        Ok(self.stream.set_zero_linger()?)
    }

    pub fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.pending.is_empty() {
            match self.stream.try_write(self.pending.as_slice()) {
                Ok(count) => self.pending.consume(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        if self.pending.capacity() > 0 {
            // Give the buffer back, unless the shared one has grown larger.
            let mut shared = self.buffers.writing.borrow_mut();
            if shared.capacity() < self.pending.capacity() {
                std::mem::swap(&mut *shared, &mut self.pending);
            }
            self.pending = WriteBuffer::default();
        }
        Poll::Ready(Ok(()))
    }

    /// Flushes, reads once, and passes received data to `handler`. Pending writes do not block the
    /// read.
    pub fn poll_read_once(
        &mut self,
        context: &mut Context<'_>,
        handler: &mut impl MessageHandler,
    ) -> Poll<Result<(), Error>> {
        if let Poll::Ready(Err(error)) = self.poll_flush(context) {
            return Poll::Ready(Err(error));
        }
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            return Poll::Ready(self.frames.process(&early, handler).and_then(|()| self.respond()));
        }
        let buffers = self.buffers.clone();
        let mut reading = buffers.reading.borrow_mut();
        let (end, bytes) = match ready!(self.poll_read(context, &mut reading)) {
            Ok(end) => (end, &mut reading[..end]),
            Err(error) => return Poll::Ready(Err(error)),
        };
        if end == 0 {
            return Poll::Ready(self.on_eof());
        }
        let taken = match &mut self.tls {
            Some(tls) => {
                let mut out = buffers.writing.borrow_mut();
                out.clear();
                let frames = &mut self.frames;
                tls.process(bytes, &mut out, |plain| frames.process(plain, handler)).and_then(
                    |turn| {
                        self.eof = turn.closed;
                        self.partial.extend_from_slice(&bytes[turn.used..]);
                        self.write_buffer(&mut out)
                    },
                )
            }
            None => self.frames.process(bytes, handler),
        };
        drop(reading);
        Poll::Ready(taken.and_then(|()| self.respond()))
    }

    /// Reads, and appends to the bytes kept from the last read. Returns the number of bytes, 0 at EOF.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<Result<usize, Error>> {
        let kept = self.partial.len();
        let mut buffer = ReadBuf::new(&mut into[kept..]);
        match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
            Ok(()) => {}
            // A reset after both Close frames is a normal end.
            Err(_) if self.frames.close_code.is_some() => return Poll::Ready(Ok(0)),
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

    fn on_eof(&mut self) -> Result<(), Error> {
        self.eof = true;
        match self.frames.close_code {
            Some(_) => Ok(()),
            None => Err(Error::new("connection closed without a Close frame")),
        }
    }

    /// Sends pongs, and fails if the peer has closed without being asked to.
    fn respond(&mut self) -> Result<(), Error> {
        if self.eof && self.frames.close_code.is_none() {
            return Err(Error::new("received close_notify without a Close frame"));
        }
        while let Some(pong) = self.frames.pongs.pop() {
            self.send_control(PONG, &pong)?;
        }
        match self.frames.close_code {
            Some(code) if !self.closing => {
                Err(Error::new(format!("the peer closed the connection with {code}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn send_control(&mut self, opcode: u8, payload: &[u8]) -> Result<(), Error> {
        let mut key = [0; 4];
        getrandom::fill(&mut key)
            .map_err(|error| Error::new(format!("cannot get random bytes: {error}")))?;
        let (bytes, end) = Header::whole(opcode, payload.len()).masked(key).encode();
        let mut frame = [&bytes[..end], payload].concat();
        crate::frame::mask(&mut frame[end..], key, 0);
        self.send(&frame)
    }

    fn write_buffer(&mut self, out: &mut WriteBuffer) -> Result<(), Error> {
        if self.pending.is_empty() {
            let written = self.write(out.as_slice())?;
            out.consume(written);
            // Small remainders are copied, large ones swapped.
            if out.as_slice().len() > 4 << 10 {
                std::mem::swap(&mut self.pending, out);
            }
        }
        self.pending.push(out.as_slice());
        out.clear();
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Error> {
        match self.stream.try_write(bytes) {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn check_backlog(&mut self) -> Result<(), Error> {
        if !self.pending.is_empty() {
            if self.pending.as_slice().len() > PENDING_BYTES_MAX {
                return Err(Error::new("the peer does not read fast enough"));
            }
            self.wake();
        }
        Ok(())
    }

    /// Sets the task to wake when another task sends on this connection.
    pub fn set_waker(&mut self, context: &Context<'_>) {
        match &self.task {
            Some(task) if task.will_wake(context.waker()) => {}
            Some(_) | None => self.task = Some(context.waker().clone()),
        }
    }
}

/// The state of the received frames.
#[derive(Default)]
struct Incoming {
    reader: Reader,
    head: Option<Header>,
    text: bool,
    control: Vec<u8>,
    pongs: Vec<Vec<u8>>,
    close_code: Option<u16>,
}

impl Incoming {
    fn process(
        &mut self,
        mut bytes: &[u8],
        handler: &mut impl MessageHandler,
    ) -> Result<(), Error> {
        while let Some((used, step)) = self.reader.step(bytes)? {
            let (taken, rest) = bytes.split_at(used);
            bytes = rest;
            match (step, self.head) {
                (Step::Header(head), _) => self.on_header(head)?,
                (Step::Payload { end }, Some(head)) if head.opcode < CLOSE => {
                    handler.on_data(taken)?;
                    if end && head.fin {
                        handler.on_message_end(self.text)?;
                    }
                }
                (Step::Payload { end }, Some(head)) => self.on_control(head.opcode, taken, end),
                (Step::Payload { .. }, None) => {
                    return Err(Error::new("received a payload without a header"));
                }
            }
        }
        Ok(())
    }

    fn on_header(&mut self, head: Header) -> Result<(), Error> {
        if head.mask.is_some() {
            return Err(Error::new("received a masked frame from the server"));
        }
        if self.close_code.is_some() {
            return Err(Error::new("received a frame after the Close frame"));
        }
        if head.opcode < CLOSE && head.opcode != CONTINUATION {
            self.text = head.opcode == TEXT;
        }
        self.head = Some(head);
        Ok(())
    }

    fn on_control(&mut self, opcode: u8, part: &[u8], end: bool) {
        self.control.extend_from_slice(part);
        if !end {
            return;
        }
        let payload = std::mem::take(&mut self.control);
        match opcode {
            PING => self.pongs.push(payload),
            CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.close_code = Some(code);
            }
            _ => {}
        }
    }
}
