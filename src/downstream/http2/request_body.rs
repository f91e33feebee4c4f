//! The body of a request.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::net::http2::receiver::StreamReceiver;

/// The body of a request, with the trailers after it. Dropping it discards what the client still sends.
#[derive(Debug)]
pub struct Http2Body {
    /// `None` if there is no body.
    receiver: Option<Arc<Mutex<StreamReceiver>>>,
    /// Bytes that follow, if the client has announced their number.
    left: Option<u64>,
}

/// The stream of a [`Http2Body`], while it is needed.
#[derive(Debug)]
pub(super) struct BodyStream(Weak<Mutex<StreamReceiver>>);

impl Http2Body {
    /// The body that `receiver` receives, of this announced length; `None` for no body.
    pub(super) fn new(receiver: Option<StreamReceiver>, length: Option<u64>) -> Self {
        let receiver = receiver.map(|receiver| Arc::new(Mutex::new(receiver)));
        Self { receiver, left: length }
    }

    /// The stream from which the body is received.
    pub(super) fn stream(&self) -> BodyStream {
        BodyStream(self.receiver.as_ref().map_or_else(Weak::new, Arc::downgrade))
    }
}

impl BodyStream {
    /// Keeps what was received and is not needed yet. Must be called after whatever reads the body was
    /// polled, in each poll, because it replaces the waker.
    pub(super) fn keep_received(&self, cx: &mut Context<'_>) {
        if let Some(receiver) = self.0.upgrade() {
            lock(&receiver).keep_received(cx);
        }
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let Some(receiver) = &this.receiver else { return Poll::Ready(None) };
        let mut receiver = lock(receiver);
        match ready!(receiver.poll_chunk(cx)) {
            Some(Ok(data)) => {
                this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                let trailers = ready!(receiver.poll_trailers(cx));
                Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.receiver.as_ref().is_none_or(|receiver| lock(receiver).is_at_end())
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.receiver, self.left) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

fn lock(receiver: &Mutex<StreamReceiver>) -> MutexGuard<'_, StreamReceiver> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner)
}
