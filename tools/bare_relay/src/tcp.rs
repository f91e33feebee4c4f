//! The bare TCP relay, with an option to corrupt bytes.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::relay::{READ_BYTES, ReadState, Sockets, Status, Transport};

/// Relays bytes unchanged, or flips one bit in every `corrupt` bytes sent to the client.
pub struct Tcp {
    scratch: Box<[u8]>,
    corrupt: Option<u64>,
}

/// The two directions of a connection.
#[derive(Default)]
pub struct TcpConnection {
    up: Direction,
    down: Direction,
}

/// Pending bytes and progress of one direction.
#[derive(Default)]
pub struct Direction {
    pending: WriteBuffer,
    ended: bool,
    passed: u64,
}

impl Tcp {
    pub fn new(corrupt: Option<u64>) -> Self {
        Self { scratch: vec![0; READ_BYTES].into(), corrupt }
    }
}

impl Transport for Tcp {
    type Connection = TcpConnection;

    fn connection(&mut self) -> io::Result<TcpConnection> {
        Ok(TcpConnection::default())
    }

    fn pump(
        &mut self,
        sockets: &mut Sockets,
        connection: &mut TcpConnection,
    ) -> io::Result<Status> {
        let Sockets { client, backend, client_ready, backend_ready } = sockets;
        connection.up.pump(client, client_ready, backend, &mut self.scratch, None)?;
        connection.down.pump(backend, backend_ready, client, &mut self.scratch, self.corrupt)?;
        Ok(if connection.up.ended && connection.down.ended { Status::Closed } else { Status::Open })
    }
}

impl Direction {
    fn pump(
        &mut self,
        from: &mut TcpStream,
        state: &mut ReadState,
        to: &mut TcpStream,
        scratch: &mut [u8],
        corrupt: Option<u64>,
    ) -> io::Result<()> {
        while self.pending.flush(to)? && state.readable && !self.ended {
            let Some(read) = read(from, state, scratch)? else { break };
            if read == 0 {
                self.ended = true;
                to.shutdown(Shutdown::Write)?;
                break;
            }
            let bytes = &mut scratch[..read];
            if let Some(every) = corrupt {
                corrupt_bytes(bytes, self.passed, every);
            }
            self.passed += read as u64;
            self.pending.send(to, bytes)?;
        }
        Ok(())
    }
}

fn corrupt_bytes(bytes: &mut [u8], passed: u64, every: u64) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        if (passed + at as u64 + 1).is_multiple_of(every) {
            *byte ^= 1;
        }
    }
}

/// Bytes that a socket did not accept; usually empty.
#[derive(Default)]
pub struct WriteBuffer {
    bytes: Vec<u8>,
    sent: usize,
}

impl WriteBuffer {
    /// Writes pending bytes. Returns whether all are written.
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

    /// Writes what the socket accepts and buffers the rest. Requires an empty buffer.
    pub fn send(&mut self, to: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        let written = write(to, bytes)?;
        if written < bytes.len() {
            self.bytes.extend_from_slice(&bytes[written..]);
        }
        Ok(())
    }
}

/// Returns `None` if nothing is available. A short read also means that nothing is left until epoll
/// reports the socket again (epoll(7)).
pub fn read(
    from: &mut TcpStream,
    state: &mut ReadState,
    into: &mut [u8],
) -> io::Result<Option<usize>> {
    match from.read(into) {
        Ok(read) => {
            state.readable = read == into.len() || state.eof;
            Ok(Some(read))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            state.readable = false;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Returns 0 if the socket is not writable.
fn write(to: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match to.write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
