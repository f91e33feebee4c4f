//! The writing half of a socket, to which others write as well.

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;

use crate::buffer::Outgoing;

/// More than this waits for a peer that reads nothing: it is cut.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Idle sockets keep no more than this.
const KEPT_BYTES_MAX: usize = 4 << 10;

pub struct Peer {
    stream: OwnedWriteHalf,
    waiting: RefCell<Outgoing>,
    /// Of the task that flushes; only set when others may write.
    task: RefCell<Option<Waker>>,
    cut: Cell<bool>,
}

impl Peer {
    pub fn new(stream: OwnedWriteHalf) -> Self {
        Self {
            stream,
            waiting: RefCell::default(),
            task: RefCell::default(),
            cut: Cell::new(false),
        }
    }

    /// Writes at once what the socket takes; the rest waits.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        let taken = if waiting.is_empty() { self.write(bytes)? } else { 0 };
        if taken < bytes.len() {
            waiting.push(&bytes[taken..]);
            if let Some(task) = self.task.borrow_mut().take() {
                task.wake();
            }
        }
        self.cut.set(self.cut.get() || waiting.waiting().len() > WAITING_BYTES_MAX);
        Ok(())
    }

    /// What the socket takes of this now.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let mut waiting = self.waiting.borrow_mut();
        while !waiting.is_empty() {
            match self.stream.try_write(waiting.waiting()) {
                Ok(count) => waiting.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(self.poll_writable(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if waiting.capacity() > KEPT_BYTES_MAX {
            *waiting = Outgoing::default();
        }
        Poll::Ready(Ok(()))
    }

    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_ref().poll_write_ready(context)
    }

    /// No more will be written.
    pub fn shut(&self) -> io::Result<()> {
        SockRef::from(self.stream.as_ref()).shutdown(std::net::Shutdown::Write)
    }

    /// Who shall be woken when others leave something here.
    pub fn wake(&self, context: &Context<'_>) {
        *self.task.borrow_mut() = Some(context.waker().clone());
    }
}
