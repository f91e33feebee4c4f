//! The head and the body of a response on a stream.

use std::cell::RefCell;
use std::mem;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::{HeaderMap, Response, StatusCode};
use tokio::time::{Sleep, sleep};

use crate::downstream::response::Body;
use crate::http::fields::list_members;
use crate::net::http2::unread::UnreadResponse;
use crate::sys::clock::wall;

/// Converts the head of a response. A 101 becomes 200 (RFC 8441 5).
pub(super) fn convert(response: &mut Response<Body>) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
    }
    remove_connection_fields(response.headers_mut());
    let length = response.body().size_hint().exact();
    let may_have_length =
        !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    if let (Some(length @ 1..), true) = (length, may_have_length)
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !headers.contains_key(DATE) {
        headers.insert(DATE, date());
    }
}

/// RFC 9113 8.2.2: HTTP/2 has no fields about the connection.
pub(super) fn remove_connection_fields(headers: &mut HeaderMap) {
    for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING, TE, KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
}

/// The value of `Date` (RFC 9110 6.6.1), formatted once a second by each worker.
fn date() -> HeaderValue {
    DATE_NOW.with_borrow_mut(|(second, value)| {
        let now = wall() as u64;
        if now != *second {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
            if let Ok(formatted) = HeaderValue::try_from(text) {
                (*second, *value) = (now, formatted);
            }
        }
        value.clone()
    })
}

thread_local! {
    static DATE_NOW: RefCell<(u64, HeaderValue)> =
        const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// When everything that the streams of a connection had to send has been written.
#[derive(Debug, Default)]
pub(super) struct FlushSignal(Mutex<FlushWaiters>);

#[derive(Debug, Default)]
struct FlushWaiters {
    /// Number of flushes; it wraps.
    flushes: u32,
    wakers: Vec<Waker>,
}

impl FlushSignal {
    /// Reports that everything has been written.
    pub(super) fn set_flushed(&self) {
        let wakers = {
            let mut waiters = self.lock();
            waiters.flushes = waiters.flushes.wrapping_add(1);
            mem::take(&mut waiters.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ready at the first flush after `since` is set to the current one, which the first call does.
    fn poll_flushed(&self, since: &mut Option<u32>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiters = self.lock();
        if *since.get_or_insert(waiters.flushes) != waiters.flushes {
            return Poll::Ready(());
        }
        if !waiters.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiters.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, FlushWaiters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a response that is being sent.
pub(super) struct SendBody<'c> {
    stream: SendStream<Bytes>,
    body: Body,
    flushes: &'c FlushSignal,
    /// The body has failed, after this number of flushes.
    failed: Option<Option<u32>>,
    /// The names of the trailers that the head announces.
    trailers: Vec<HeaderName>,
    /// Data that flow control does not permit yet.
    unsent: Bytes,
    /// Nothing follows the unsent data.
    is_last: bool,
    /// `None` for a response of the proxy itself.
    unread: Option<UnreadResponse>,
    write_timeout: Duration,
    stall: Option<ReadStall>,
}

/// Data of a response waits for flow control.
struct ReadStall {
    until: Pin<Box<Sleep>>,
    /// Bytes that were permitted since the time began.
    permitted: usize,
}

impl<'c> SendBody<'c> {
    /// Sends `body` after this head. A client that does not permit [`MIN_READ_RATE`] for `write_timeout` is given up.
    /// What it does not read counts in `unread`.
    pub(super) fn new(
        stream: SendStream<Bytes>,
        headers: &HeaderMap,
        (body, unread): (Body, Option<UnreadResponse>),
        write_timeout: Duration,
        flushes: &'c FlushSignal,
    ) -> Self {
        let trailers = list_members(headers, &TRAILER);
        let trailers = trailers.filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
        Self {
            stream,
            body,
            flushes,
            failed: None,
            trailers,
            unsent: Bytes::new(),
            is_last: false,
            unread,
            write_timeout,
            stall: None,
        }
    }

    /// Sends what flow control permits. Ready at the end of the body, or of the stream.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            if let Some(since) = &mut self.failed {
                // A reset discards what was not written. The client must not take the response for complete.
                ready!(self.flushes.poll_flushed(since, cx));
                self.stream.send_reset(Reason::INTERNAL_ERROR);
                return Poll::Ready(());
            }
            if ready!(self.poll_unsent(cx)).is_none() || self.is_last {
                return Poll::Ready(());
            }
            if self.unread.as_ref().is_some_and(|unread| unread.poll_room(cx).is_pending()) {
                return self.poll_stall(cx);
            }
            self.stall = None;
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if self.send_frame(frame).is_none() {
                        return Poll::Ready(());
                    }
                }
                Some(Err(_)) => self.failed = Some(None),
                None => {
                    // Fails only if the stream has ended.
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Sends a frame, or keeps its data as unsent. `None` if nothing may follow.
    fn send_frame(&mut self, frame: Frame<Bytes>) -> Option<()> {
        match frame.into_data() {
            Ok(data) => {
                self.unsent = match &self.unread {
                    Some(unread) if !data.is_empty() => unread.hold(data),
                    Some(_) | None => data,
                };
                // Saves an empty frame at the end.
                self.is_last = self.body.is_end_stream();
                if self.is_last && self.unsent.is_empty() {
                    let _ = self.stream.send_data(Bytes::new(), true);
                }
                Some(())
            }
            Err(frame) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                let names: Vec<HeaderName> = trailers.keys().cloned().collect();
                for name in names.iter().filter(|name| !self.trailers.contains(name)) {
                    trailers.remove(name);
                }
                let _ = if trailers.is_empty() {
                    self.stream.send_data(Bytes::new(), true)
                } else {
                    self.stream.send_trailers(trailers)
                };
                None
            }
        }
    }

    /// Ready once there is no unsent data; `None` if the stream has ended.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        while !self.unsent.is_empty() {
            self.stream.reserve_capacity(self.unsent.len());
            let mut capacity = self.stream.capacity();
            if capacity == 0 {
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(assigned))) => capacity = assigned,
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                    Poll::Pending => return self.poll_stall(cx).map(|()| None),
                }
            }
            let data = self.unsent.split_to(capacity.min(self.unsent.len()));
            if let Some(stall) = &mut self.stall {
                stall.permitted = stall.permitted.saturating_add(data.len());
            }
            let is_end = self.is_last && self.unsent.is_empty();
            if self.stream.send_data(data, is_end).is_err() {
                return Poll::Ready(None);
            }
        }
        self.stall = None;
        Poll::Ready(Some(()))
    }

    /// Ready once the client has permitted too little for too long; the stream is reset then.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.write_timeout;
        let new_stall = || ReadStall { until: Box::pin(sleep(timeout)), permitted: 0 };
        let stall = self.stall.get_or_insert_with(new_stall);
        loop {
            ready!(stall.until.as_mut().poll(cx));
            if stall.permitted as f64 <= MIN_READ_RATE * timeout.as_secs_f64() {
                self.stream.send_reset(Reason::CANCEL);
                return Poll::Ready(());
            }
            *stall = new_stall();
        }
    }
}

/// Bytes per second of a response that a client has to permit while some wait; as `limits.min_write_rate` of tunnels.
const MIN_READ_RATE: f64 = 100.0;
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::Stream as _;
    use futures_util::stream::FuturesUnordered;

    use super::*;

    #[test]
    fn stream_that_waits_for_a_flush_is_kept_once() {
        let flushes = FlushSignal::default();
        let mut since = None;
        let waiting = poll_fn(|cx| {
            for _ in 0..100 {
                assert!(flushes.poll_flushed(&mut since, cx).is_pending());
            }
            assert_eq!(flushes.lock().wakers.len(), 1);
            flushes.set_flushed();
            flushes.poll_flushed(&mut since, cx)
        });
        // As a connection polls its streams.
        let mut streams = FuturesUnordered::from_iter([waiting]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut streams).poll_next(&mut cx).is_ready());
    }
}
