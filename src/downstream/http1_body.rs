//! The body of an HTTP/1.1 request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::output::ResponseOutput;

/// A request body that reports its end: until then hyper has a part of it, or waits for more.
#[derive(Debug)]
pub struct Http1Body {
    body: Incoming,
    /// `None` after the end.
    output: Option<ResponseOutput>,
}

impl Http1Body {
    /// Wraps the body of a request that was received on the connection of `output`.
    pub fn new(body: Incoming, output: &ResponseOutput) -> Self {
        let output = (!body.is_end_stream()).then(|| output.clone());
        if let Some(output) = &output {
            output.set_body_unread(true);
        }
        Self { body, output }
    }
}

impl Body for Http1Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // After an error hyper has not read the rest.
        let has_ended = match &frame {
            Some(Ok(_)) => self.body.is_end_stream(),
            Some(Err(_)) => false,
            None => true,
        };
        if has_ended && let Some(output) = self.output.take() {
            output.set_body_unread(false);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
