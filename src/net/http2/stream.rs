//! A stream of an HTTP/2 connection as a [`Stream`], for the tunnel of an extended CONNECT (RFC 8441).

use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::receiver::{StreamReceiver, failure};
use crate::net::scratch::{RecvScratch, SendScratch};
use crate::net::{Recv, Stream};

/// The tunnels of a connection: there is one reference for each of them, and one for the connection.
pub type OpenTunnels = Arc<()>;

/// A stream after its 200. An idle one owns no buffer.
///
/// The end of a direction (END_STREAM) corresponds to FIN, and a reset of the stream to one of the connection
/// (RFC 8441 5). As with a connection, dropping it sends the end after the data, unless some may not be sent yet.
#[derive(Debug)]
pub struct Http2Stream {
    // Dropped first: dropping the stream wakes the connection, which then looks at the number of tunnels.
    _open: OpenTunnels,
    receiver: StreamReceiver,
    sender: SendStream<Bytes>,
    /// Bytes that flow control does not permit yet.
    unsent: Bytes,
    /// It was read since [`Stream::poll_ready`] was called last.
    was_read: bool,
    /// The end or a reset was sent.
    is_ended: bool,
}

impl Http2Stream {
    /// The stream to which `receiver` and `sender` belong.
    pub fn new(open: OpenTunnels, receiver: StreamReceiver, sender: SendStream<Bytes>) -> Self {
        Self {
            _open: open,
            receiver,
            sender,
            unsent: Bytes::new(),
            was_read: false,
            is_ended: false,
        }
    }

    /// Number of received bytes that are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.receiver.kept()
    }

    /// Sends what flow control permits now, which may be nothing.
    fn send_permitted(&mut self, data: &mut Bytes) -> io::Result<()> {
        // Asks for no more than is needed: streams share the window of the connection.
        self.sender.reserve_capacity(data.len());
        let permitted = self.sender.capacity().min(data.len());
        if permitted > 0 {
            self.sender.send_data(data.split_to(permitted), false).map_err(failure)?;
        }
        Ok(())
    }
}

impl Stream for Http2Stream {
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>> {
        self.was_read = true;
        let received = ready!(self.receiver.poll_take(cx, &mut scratch.plain))?;
        if received > 0 {
            return Poll::Ready(Ok(Recv::Data(&mut scratch.plain[..received])));
        }
        match self.receiver.poll_trailers(cx) {
            // RFC 9113 8.5: a CONNECT has no trailers.
            Poll::Ready(Ok(Some(_))) => {
                self.sender.send_reset(Reason::PROTOCOL_ERROR);
                Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
            }
            Poll::Ready(Ok(None)) | Poll::Pending => Poll::Ready(Ok(Recv::Closed)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // While the other side of the tunnel is blocked, nothing is read, but frames arrive. They have woken
        // this task, which then calls this function.
        if !mem::take(&mut self.was_read) {
            self.receiver.keep_received(cx);
        }
        while !self.unsent.is_empty() {
            let mut unsent = mem::take(&mut self.unsent);
            let sent = self.send_permitted(&mut unsent);
            self.unsent = unsent;
            sent?;
            if !self.unsent.is_empty() {
                match ready!(self.sender.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(failure(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send(
        &mut self,
        _cx: &mut Context<'_>,
        parts: &[&[u8]],
        _scratch: &mut SendScratch,
    ) -> io::Result<()> {
        let mut data = Bytes::from(parts.concat());
        if data.is_empty() {
            return Ok(());
        }
        if !self.unsent.is_empty() {
            // The contract excludes this call, but bytes must never be reordered.
            self.unsent = Bytes::from([&self.unsent[..], &data].concat());
            return Ok(());
        }
        let total = data.len();
        self.send_permitted(&mut data)?;
        // A part is copied, because it would keep what was sent in memory.
        let is_part = data.len() < total;
        self.unsent = if is_part { Bytes::copy_from_slice(&data) } else { data };
        Ok(())
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>> {
        if self.is_ended {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_ready(cx))?;
        self.is_ended = true;
        Poll::Ready(self.sender.send_data(Bytes::new(), true).map_err(failure))
    }

    fn abort(&mut self) {
        // Otherwise the library resets it when it is dropped: with NO_ERROR, and after what was sent (RFC 9113 8.1).
        if !self.is_ended {
            self.is_ended = true;
            self.sender.send_reset(Reason::CANCEL);
        }
    }

    fn backlog(&self) -> usize {
        self.unsent.len()
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        if !self.is_ended && self.unsent.is_empty() {
            // Fails only if the stream was reset. Otherwise the library would reset it, and discard its data.
            let _ = self.sender.send_data(Bytes::new(), true);
        }
    }
}
