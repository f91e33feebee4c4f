//! The write half of a connection, shared with the connections that broadcast to it.

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;

use crate::buffer::WriteBuffer;

/// A connection with more pending bytes is dropped: its peer does not read.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// Buffer capacity that an idle connection keeps, in bytes.
const IDLE_CAPACITY_MAX: usize = 4 << 10;

pub struct Writer {
    stream: OwnedWriteHalf,
    pending: RefCell<WriteBuffer>,
    /// Waker of the flushing task; only set if other connections write here.
    waker: RefCell<Option<Waker>>,
    overflowed: Cell<bool>,
}

impl Writer {
    pub fn new(stream: OwnedWriteHalf) -> Self {
        Self {
            stream,
            pending: RefCell::default(),
            waker: RefCell::default(),
            overflowed: Cell::new(false),
        }
    }

    /// Writes what the socket accepts and buffers the rest.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut pending = self.pending.borrow_mut();
        let written = if pending.is_empty() { self.write(bytes)? } else { 0 };
        if written < bytes.len() {
            pending.push(&bytes[written..]);
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
        self.overflowed.set(self.overflowed.get() || pending.as_slice().len() > PENDING_BYTES_MAX);
        Ok(())
    }

    /// Writes what the socket accepts; 0 if it is not writable.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.overflowed.get() {
            return Poll::Ready(Err(io::Error::other("the peer does not read fast enough")));
        }
        let mut pending = self.pending.borrow_mut();
        while !pending.is_empty() {
            match self.stream.try_write(pending.as_slice()) {
                Ok(count) => pending.consume(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(self.poll_writable(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if pending.capacity() > IDLE_CAPACITY_MAX {
            *pending = WriteBuffer::default();
        }
        Poll::Ready(Ok(()))
    }

    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_ref().poll_write_ready(context)
    }

    /// Closes the write side of the socket.
    pub fn shutdown(&self) -> io::Result<()> {
        SockRef::from(self.stream.as_ref()).shutdown(std::net::Shutdown::Write)
    }

    /// Sets the task to wake when another connection buffers data here.
    pub fn set_waker(&self, context: &Context<'_>) {
        *self.waker.borrow_mut() = Some(context.waker().clone());
    }
}
