//! The body of a forwarded response. With its end the request is either counted as answered or recorded
//! as aborted.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::request_log::RequestLog;
use crate::reject::abort::AbortCause;
use crate::upstream::forward::RequestBody;
use crate::upstream::response_body::ResponseBody;

/// A response body with the log of its request.
#[derive(Debug)]
pub struct ForwardedBody {
    body: ResponseBody<RequestBody<Incoming>>,
    status: StatusCode,
    /// `None` once the response was aborted.
    log: Option<RequestLog>,
}

impl ForwardedBody {
    /// Wraps the body of a response with this status.
    pub fn new(
        body: ResponseBody<RequestBody<Incoming>>,
        status: StatusCode,
        log: RequestLog,
    ) -> Self {
        Self { body, status, log: Some(log) }
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = AbortCause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AbortCause>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(cause)) = &frame
            && let Some(log) = self.log.take()
        {
            log.aborted(self.status, *cause);
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

/// hyper drops the body at its end, or earlier if the client disconnects. The request counts as answered
/// in both cases, since the backend did respond.
impl Drop for ForwardedBody {
    fn drop(&mut self) {
        if let Some(log) = self.log.take() {
            log.answered();
        }
    }
}
