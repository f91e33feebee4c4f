//! What a socket does with its messages.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::timeout;

use super::House;
use super::peer::Peer;
use crate::buffer::Outgoing;
use crate::fail::Fail;
use crate::frame::{BINARY, CLOSE, CONTINUATION, Header, PING, PONG, Reader, Step, TEXT, mask};
use crate::pattern::{Pool, Sum};

const BYE_WAIT: Duration = Duration::from_secs(10);
const SOURCE_WRITE_BYTES: usize = 256 << 10;
/// Writes of one source before others have their turn.
const SOURCE_WRITES: usize = 8;

pub enum Job {
    Echo,
    Sink(Box<Sink>),
    Source(Box<Source>),
    /// The message that is coming in.
    Broadcast(Vec<u8>),
}

impl Job {
    pub fn listens(&self) -> bool {
        matches!(self, Self::Broadcast(_))
    }
}

#[derive(Default)]
pub struct Sink {
    bytes: u64,
    sum: Sum,
    text: Vec<u8>,
}

pub struct Source {
    pool: Rc<Pool>,
    next: u64,
    /// Whole messages that are still to be sent, and the bytes of the last one.
    left: u64,
    last: usize,
    /// How much of the message `next` is written.
    sent: usize,
}

impl Source {
    pub fn new(pool: Rc<Pool>, bytes: u64) -> Self {
        let size = pool.size() as u64;
        Self { pool, next: 0, left: bytes / size, last: (bytes % size) as usize, sent: 0 }
    }

    /// Writes what the socket takes.
    fn poll(&mut self, peer: &Peer, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let frame = self.pool.frame_bytes();
        for _ in 0..SOURCE_WRITES {
            if self.left == 0 {
                return Poll::Ready(self.rest(peer));
            }
            let most = (SOURCE_WRITE_BYTES / frame).max(1).min(self.left.min(1 << 20) as usize);
            let (bytes, _) = self.pool.frames(self.next, most);
            let count = peer.write(&bytes[self.sent..])?;
            if count == 0 {
                ready!(peer.poll_writable(context))?;
            }
            let through = (self.sent + count) / frame;
            self.next += through as u64;
            self.left -= through as u64;
            self.sent = (self.sent + count) % frame;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn rest(&mut self, peer: &Peer) -> io::Result<()> {
        let last = std::mem::take(&mut self.last);
        if last > 0 {
            let (bytes, end) = Header::whole(BINARY, last).encode();
            peer.send(&[&bytes[..end], &self.pool.payload(self.next)[..last]].concat())?;
        }
        Ok(())
    }

    /// The message that is half written has to be ended before anything else is said.
    fn round_off(&mut self, peer: &Peer) -> io::Result<()> {
        let sent = std::mem::take(&mut self.sent);
        if sent == 0 {
            return Ok(());
        }
        self.left = self.left.saturating_sub(1);
        self.next += 1;
        peer.send(&self.pool.frames(self.next - 1, 1).0[sent..])
    }

    fn stop(&mut self) {
        self.left = 0;
        self.last = 0;
    }
}

/// Until the peer closes.
pub async fn run(
    mut reading: OwnedReadHalf,
    peer: &Rc<Peer>,
    job: Job,
    house: &House,
    mut rest: Vec<u8>,
) -> Result<(), Fail> {
    let mut talk = Talk { job, reader: Reader::default(), head: None, at: 0, control: Vec::new() };
    let mut closed = talk.take(&mut rest, peer, house)?;
    poll_fn(|context| {
        loop {
            if talk.job.listens() {
                peer.wake(context);
            }
            ready!(peer.poll_flush(context))?;
            if closed {
                return Poll::Ready(Ok::<_, Fail>(()));
            }
            if let Job::Source(source) = &mut talk.job
                && let Poll::Ready(Err(error)) = source.poll(peer, context)
            {
                return Poll::Ready(Err(error.into()));
            }
            let mut bytes = house.reading.borrow_mut();
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut reading).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(Fail::new("gone without a Close")));
            }
            closed = talk.take(buffer.filled_mut(), peer, house)?;
        }
    })
    .await?;
    // What the peer still says must be read, or the kernel resets and our Close is lost.
    let mut scrap = [0; 1 << 10];
    let gone = poll_fn(|context| {
        loop {
            let mut buffer = ReadBuf::new(&mut scrap);
            ready!(Pin::new(&mut reading).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(io::Result::Ok(()));
            }
        }
    });
    peer.shut()?;
    timeout(BYE_WAIT, gone).await.map_err(|_| Fail::new("stays after its Close"))??;
    Ok(())
}

struct Talk {
    job: Job,
    reader: Reader,
    head: Option<Header>,
    /// Where in the frame's payload we are.
    at: u64,
    control: Vec<u8>,
}

impl Talk {
    /// All of one read, answered by one write; true after the peer's Close.
    fn take(&mut self, bytes: &mut [u8], peer: &Rc<Peer>, house: &House) -> Result<bool, Fail> {
        let mut out = house.writing.borrow_mut();
        out.clear();
        let closed = self.frames(bytes, &mut out, peer, house);
        if !out.is_empty() {
            peer.send(out.waiting())?;
        }
        closed
    }

    fn frames(
        &mut self,
        mut bytes: &mut [u8],
        out: &mut Outgoing,
        peer: &Rc<Peer>,
        house: &House,
    ) -> Result<bool, Fail> {
        while let Some((used, step)) = self.reader.step(bytes)? {
            let (taken, rest) = bytes.split_at_mut(used);
            bytes = rest;
            match (step, self.head) {
                (Step::Head(head), _) => {
                    if head.mask.is_none() {
                        return Err(Fail::new("a client's frame without a mask"));
                    }
                    self.head = Some(head);
                    self.at = 0;
                    if head.opcode < CLOSE {
                        self.begins(head, out);
                    }
                }
                (Step::Part { end }, Some(head)) => {
                    mask(taken, head.mask.unwrap_or_default(), self.at);
                    self.at += used as u64;
                    if head.opcode < CLOSE {
                        self.part(head, taken, end, out, house)?;
                    } else if self.controlled(head.opcode, taken, end, out, peer)? {
                        return Ok(true);
                    }
                }
                (Step::Part { .. }, None) => return Err(Fail::new("a payload without a header")),
            }
        }
        Ok(false)
    }

    fn begins(&mut self, head: Header, out: &mut Outgoing) {
        match &mut self.job {
            Job::Echo => {
                let (bytes, end) = Header { mask: None, ..head }.encode();
                out.push(&bytes[..end]);
            }
            Job::Sink(sink) if head.opcode != CONTINUATION => sink.text.clear(),
            Job::Sink(_) | Job::Source(_) | Job::Broadcast(_) => {}
        }
    }

    fn part(
        &mut self,
        head: Header,
        part: &[u8],
        end: bool,
        out: &mut Outgoing,
        house: &House,
    ) -> Result<(), Fail> {
        let whole = end && head.fin;
        match &mut self.job {
            Job::Echo => out.push(part),
            Job::Sink(sink) => sink.take(head, part, whole, out),
            Job::Source(_) => {}
            Job::Broadcast(message) => {
                message.extend_from_slice(part);
                if whole {
                    let (bytes, end) = Header::whole(head.opcode, message.len()).encode();
                    let frame = [&bytes[..end], message].concat();
                    message.clear();
                    for other in house.crowd.borrow().values() {
                        // Whoever cannot be written to is ended by its own task.
                        let _ = other.send(&frame);
                    }
                }
            }
        }
        Ok(())
    }

    /// True after a Close.
    fn controlled(
        &mut self,
        opcode: u8,
        part: &[u8],
        end: bool,
        out: &mut Outgoing,
        peer: &Peer,
    ) -> Result<bool, Fail> {
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
        if let Job::Source(source) = &mut self.job {
            source.round_off(peer)?;
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
    fn take(&mut self, head: Header, part: &[u8], whole: bool, out: &mut Outgoing) {
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
        self.sum.part(part);
        if whole {
            self.sum.end();
        }
    }
}
