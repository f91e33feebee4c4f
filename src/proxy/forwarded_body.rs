//! The body of a forwarded response. With its end the request is recorded, as served or as aborted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};

use super::request_log::RequestLog;
use crate::admission::concurrency::RequestPermit;
use crate::admission::request_memory::RequestCharge;
use crate::reject::abort::AbortCause;
use crate::sys::clock::now;
use crate::telemetry::record::ResponseProgress;
use crate::upstream::http1::response_body::ResponseBody;

/// What counts for a request until the end of its response.
pub type RequestHolds = (RequestPermit, Arc<RequestCharge>);

/// A response body with the log of its request.
#[derive(Debug)]
pub struct ForwardedBody {
    body: ResponseBody,
    status: StatusCode,
    /// Time from the request head to the response head.
    head: Duration,
    /// Released before the record is written, so that a reader of the record can rely on it.
    holds: Option<RequestHolds>,
    /// `None` once the response was aborted.
    log: Option<RequestLog>,
}

impl ForwardedBody {
    /// Wraps the body of a response whose head, with this status, has just been received.
    pub fn new(
        body: ResponseBody,
        status: StatusCode,
        holds: RequestHolds,
        log: RequestLog,
    ) -> Self {
        let head = now().duration_since(log.started);
        Self { body, status, head, holds: Some(holds), log: Some(log) }
    }

    fn progress(&self) -> ResponseProgress {
        let [up_bytes, down_bytes] = self.body.activity().body_bytes();
        ResponseProgress { up_bytes, down_bytes, head: self.head }
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
            self.holds = None;
            log.aborted(self.status, *cause, self.progress());
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

/// hyper drops the body at its end, or earlier if the client disconnects.
impl Drop for ForwardedBody {
    fn drop(&mut self) {
        self.holds = None;
        if let Some(log) = self.log.take() {
            log.served(self.status, self.body.has_ended(), self.progress());
        }
    }
}
