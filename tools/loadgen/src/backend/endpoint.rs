//! The backend's endpoints: echo, sink, source and broadcast.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::timeout;

use super::State;
use super::writer::Writer;
use crate::buffer::WriteBuffer;
use crate::error::Error;
use crate::frame::{BINARY, CLOSE, CONTINUATION, Header, PING, PONG, Reader, Step, TEXT, mask};
use crate::message::{Checksum, MessagePool};

const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
const SOURCE_WRITE_BYTES: usize = 256 << 10;
/// Writes of one source before it yields to other tasks.
const SOURCE_WRITES: usize = 8;

pub enum Endpoint {
    Echo,
    Sink(Box<Sink>),
    Source(Box<Source>),
    /// The payload of the incomplete message.
    Broadcast(Vec<u8>),
}

impl Endpoint {
    pub fn is_subscriber(&self) -> bool {
        matches!(self, Self::Broadcast(_))
    }
}

#[derive(Default)]
pub struct Sink {
    bytes: u64,
    sum: Checksum,
    text: Vec<u8>,
}

pub struct Source {
    pool: Rc<MessagePool>,
    next: u64,
    /// Remaining whole messages, then the bytes of a final shorter one.
    left: u64,
    last: usize,
    /// Bytes of the message `next` already written.
    sent: usize,
}

impl Source {
    pub fn new(pool: Rc<MessagePool>, bytes: u64) -> Self {
        let size = pool.size() as u64;
        Self { pool, next: 0, left: bytes / size, last: (bytes % size) as usize, sent: 0 }
    }

    /// Writes as much as the socket accepts.
    fn poll(&mut self, writer: &Writer, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let frame = self.pool.frame_bytes();
        for _ in 0..SOURCE_WRITES {
            if self.left == 0 {
                return Poll::Ready(self.rest(writer));
            }
            let most = (SOURCE_WRITE_BYTES / frame).max(1).min(self.left.min(1 << 20) as usize);
            let (bytes, _) = self.pool.frames(self.next, most);
            let count = writer.write(&bytes[self.sent..])?;
            if count == 0 {
                ready!(writer.poll_writable(context))?;
            }
            let through = (self.sent + count) / frame;
            self.next += through as u64;
            self.left -= through as u64;
            self.sent = (self.sent + count) % frame;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn rest(&mut self, writer: &Writer) -> io::Result<()> {
        let last = std::mem::take(&mut self.last);
        if last > 0 {
            let (bytes, end) = Header::whole(BINARY, last).encode();
            writer.send(&[&bytes[..end], &self.pool.payload(self.next)[..last]].concat())?;
        }
        Ok(())
    }

    /// Completes a partly written message, because no control frame may interrupt a frame.
    fn finish_message(&mut self, writer: &Writer) -> io::Result<()> {
        let sent = std::mem::take(&mut self.sent);
        if sent == 0 {
            return Ok(());
        }
        self.left = self.left.saturating_sub(1);
        self.next += 1;
        writer.send(&self.pool.frames(self.next - 1, 1).0[sent..])
    }

    fn stop(&mut self) {
        self.left = 0;
        self.last = 0;
    }
}

/// Serves the endpoint until the peer closes.
pub async fn run(
    mut reading: OwnedReadHalf,
    writer: &Rc<Writer>,
    endpoint: Endpoint,
    state: &State,
    mut rest: Vec<u8>,
) -> Result<(), Error> {
    let mut handler = FrameHandler {
        endpoint,
        reader: Reader::default(),
        head: None,
        at: 0,
        control: Vec::new(),
    };
    let mut closed = handler.process(&mut rest, writer, state)?;
    poll_fn(|context| {
        loop {
            if handler.endpoint.is_subscriber() {
                writer.set_waker(context);
            }
            ready!(writer.poll_flush(context))?;
            if closed {
                return Poll::Ready(Ok::<_, Error>(()));
            }
            if let Endpoint::Source(source) = &mut handler.endpoint
                && let Poll::Ready(Err(error)) = source.poll(writer, context)
            {
                return Poll::Ready(Err(error.into()));
            }
            let mut bytes = state.reading.borrow_mut();
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut reading).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(Error::new(
                    "the peer closed the connection without a Close frame",
                )));
            }
            closed = handler.process(buffer.filled_mut(), writer, state)?;
        }
    })
    .await?;
    // Read until EOF: closing a socket with unread data sends a reset, and our Close would be lost.
    let mut scrap = [0; 1 << 10];
    let eof = poll_fn(|context| {
        loop {
            let mut buffer = ReadBuf::new(&mut scrap);
            ready!(Pin::new(&mut reading).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(io::Result::Ok(()));
            }
        }
    });
    writer.shutdown()?;
    timeout(CLOSE_TIMEOUT, eof)
        .await
        .map_err(|_| Error::new("the peer keeps the connection open after its Close frame"))??;
    Ok(())
}

struct FrameHandler {
    endpoint: Endpoint,
    reader: Reader,
    head: Option<Header>,
    /// Offset in the payload of the current frame.
    at: u64,
    control: Vec<u8>,
}

impl FrameHandler {
    /// Processes the bytes of one read and answers with one write. Returns true after a Close.
    fn process(
        &mut self,
        bytes: &mut [u8],
        writer: &Rc<Writer>,
        state: &State,
    ) -> Result<bool, Error> {
        let mut out = state.writing.borrow_mut();
        out.clear();
        let closed = self.process_frames(bytes, &mut out, writer, state);
        if !out.is_empty() {
            writer.send(out.as_slice())?;
        }
        closed
    }

    fn process_frames(
        &mut self,
        mut bytes: &mut [u8],
        out: &mut WriteBuffer,
        writer: &Rc<Writer>,
        state: &State,
    ) -> Result<bool, Error> {
        while let Some((used, step)) = self.reader.step(bytes)? {
            let (taken, rest) = bytes.split_at_mut(used);
            bytes = rest;
            match (step, self.head) {
                (Step::Header(head), _) => {
                    if head.mask.is_none() {
                        return Err(Error::new("received an unmasked frame from a client"));
                    }
                    self.head = Some(head);
                    self.at = 0;
                    if head.opcode < CLOSE {
                        self.on_header(head, out);
                    }
                }
                (Step::Payload { end }, Some(head)) => {
                    mask(taken, head.mask.unwrap_or_default(), self.at);
                    self.at += used as u64;
                    if head.opcode < CLOSE {
                        self.on_data(head, taken, end, out, state)?;
                    } else if self.on_control(head.opcode, taken, end, out, writer)? {
                        return Ok(true);
                    }
                }
                (Step::Payload { .. }, None) => {
                    return Err(Error::new("received a payload without a header"));
                }
            }
        }
        Ok(false)
    }

    fn on_header(&mut self, head: Header, out: &mut WriteBuffer) {
        match &mut self.endpoint {
            Endpoint::Echo => {
                let (bytes, end) = Header { mask: None, ..head }.encode();
                out.push(&bytes[..end]);
            }
            Endpoint::Sink(sink) if head.opcode != CONTINUATION => sink.text.clear(),
            Endpoint::Sink(_) | Endpoint::Source(_) | Endpoint::Broadcast(_) => {}
        }
    }

    fn on_data(
        &mut self,
        head: Header,
        part: &[u8],
        end: bool,
        out: &mut WriteBuffer,
        state: &State,
    ) -> Result<(), Error> {
        let whole = end && head.fin;
        match &mut self.endpoint {
            Endpoint::Echo => out.push(part),
            Endpoint::Sink(sink) => sink.on_data(head, part, whole, out),
            Endpoint::Source(_) => {}
            Endpoint::Broadcast(message) => {
                message.extend_from_slice(part);
                if whole {
                    let (bytes, end) = Header::whole(head.opcode, message.len()).encode();
                    let frame = [&bytes[..end], message].concat();
                    message.clear();
                    for other in state.subscribers.borrow().values() {
                        // A write error ends the other connection's own task.
                        let _ = other.send(&frame);
                    }
                }
            }
        }
        Ok(())
    }

    /// Answers control frames. Returns true after a Close.
    fn on_control(
        &mut self,
        opcode: u8,
        part: &[u8],
        end: bool,
        out: &mut WriteBuffer,
        writer: &Writer,
    ) -> Result<bool, Error> {
        self.control.extend_from_slice(part);
        if !end {
            return Ok(false);
        }
        let answer = match opcode {
            PING => PONG,
            CLOSE => CLOSE,
            _ => {
                self.control.clear();
                return Ok(false);
            }
        };
        if let Endpoint::Source(source) = &mut self.endpoint {
            source.finish_message(writer)?;
            if opcode == CLOSE {
                source.stop();
            }
        }
        let (bytes, end) = Header::whole(answer, self.control.len()).encode();
        out.push(&bytes[..end]);
        out.push(&self.control);
        self.control.clear();
        Ok(opcode == CLOSE)
    }
}

impl Sink {
    fn on_data(&mut self, head: Header, part: &[u8], whole: bool, out: &mut WriteBuffer) {
        if head.opcode == TEXT {
            self.text.extend_from_slice(part);
            if whole && self.text == b"sum?" {
                let answer = format!("{} {:016x}", self.bytes, self.sum.value());
                let (bytes, end) = Header::whole(TEXT, answer.len()).encode();
                out.push(&bytes[..end]);
                out.push(answer.as_bytes());
            }
            return;
        }
        self.bytes += part.len() as u64;
        self.sum.update(part);
        if whole {
            self.sum.end_message();
        }
    }
}
