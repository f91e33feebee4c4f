//! The bare byte relay, and the one that lies.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::relay::{Ends, Motion, READ_BYTES, Route, Unread};

/// Relays bytes as they are, or with one bit in each `corrupt` bytes flipped.
pub struct Plain {
    scratch: Box<[u8]>,
    corrupt: Option<u64>,
}

/// What each side was sent but has not taken yet, and who has said all.
#[derive(Default)]
pub struct PlainFlow {
    up: Way,
    down: Way,
}

/// One direction.
#[derive(Default)]
pub struct Way {
    waiting: Waiting,
    ended: bool,
    passed: u64,
}

impl Plain {
    pub fn new(corrupt: Option<u64>) -> Self {
        Self { scratch: vec![0; READ_BYTES].into(), corrupt }
    }
}

impl Route for Plain {
    type Flow = PlainFlow;

    fn flow(&mut self) -> io::Result<PlainFlow> {
        Ok(PlainFlow::default())
    }

    fn pump(&mut self, ends: &mut Ends, flow: &mut PlainFlow) -> io::Result<Motion> {
        let Ends { client, backend, client_unread, backend_unread } = ends;
        flow.up.pump(client, client_unread, backend, &mut self.scratch, None)?;
        flow.down.pump(backend, backend_unread, client, &mut self.scratch, self.corrupt)?;
        Ok(if flow.up.ended && flow.down.ended { Motion::Over } else { Motion::Goes })
    }
}

impl Way {
    fn pump(
        &mut self,
        from: &mut TcpStream,
        unread: &mut Unread,
        to: &mut TcpStream,
        scratch: &mut [u8],
        corrupt: Option<u64>,
    ) -> io::Result<()> {
        while self.waiting.flush(to)? && unread.some && !self.ended {
            let Some(read) = read(from, unread, scratch)? else { break };
            if read == 0 {
                self.ended = true;
                to.shutdown(Shutdown::Write)?;
                break;
            }
            let bytes = &mut scratch[..read];
            if let Some(every) = corrupt {
                corrupted(bytes, self.passed, every);
            }
            self.passed += read as u64;
            self.waiting.send(to, bytes)?;
        }
        Ok(())
    }
}

fn corrupted(bytes: &mut [u8], passed: u64, every: u64) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        if (passed + at as u64 + 1).is_multiple_of(every) {
            *byte ^= 1;
        }
    }
}

/// Bytes that a socket did not take; empty but under pressure.
#[derive(Default)]
pub struct Waiting {
    bytes: Vec<u8>,
    sent: usize,
}

impl Waiting {
    /// Whether all of it is gone now.
    pub fn flush(&mut self, to: &mut TcpStream) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            match write(to, &self.bytes[self.sent..])? {
                0 => return Ok(false),
                written => self.sent += written,
            }
        }
        *self = Self::default();
        Ok(true)
    }

    /// Sends now what the socket takes; the rest waits. Only when nothing waits already.
    pub fn send(&mut self, to: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        let written = write(to, bytes)?;
        if written < bytes.len() {
            self.bytes.extend_from_slice(&bytes[written..]);
        }
        Ok(())
    }
}

/// `None`: there is nothing. After a read that filled less than there was room for there is nothing
/// either, until epoll says so again (epoll(7)).
pub fn read(
    from: &mut TcpStream,
    unread: &mut Unread,
    into: &mut [u8],
) -> io::Result<Option<usize>> {
    match from.read(into) {
        Ok(read) => {
            unread.some = read == into.len() || unread.last;
            Ok(Some(read))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            unread.some = false;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// 0: the socket takes nothing now.
fn write(to: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match to.write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
