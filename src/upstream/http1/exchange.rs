//! One HTTP/1.1 request to a backend and its response. The caller drives the connection by polling: no
//! task is spawned, and dropping the exchange closes the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response};
use tokio::task::coop::unconstrained;

use super::connection::{HEAD_TOO_LARGE, HttpConnection, MALFORMED, UploadBody, classify_error};
use super::exchange_waker::ExchangeWaker;
use super::interim::{InterimInbox, InterimRelay};
use super::other_protocol::other_protocol;
use crate::net::Transport as _;
use crate::net::socket::Socket;
use crate::reject::RejectReason;
use crate::reject::abort::AbortCause;

/// A request on a backend connection, and its response.
#[derive(Debug)]
pub struct BackendExchange {
    /// `None` once it was taken out.
    http: Option<HttpConnection>,
    waker: Arc<ExchangeWaker>,
    /// Interim (1xx) responses.
    interim: Arc<InterimInbox>,
    /// The request, if the connection ended before any of it was sent.
    unsent: Option<Box<Request<UploadBody>>>,
    /// The connection has finished and must not be polled again.
    is_done: bool,
    /// The connection has finished because the request body failed.
    request_failed: bool,
    /// Whether an incomplete exchange resets the connection.
    resets: bool,
}

/// The response that hyper will return.
pub type PendingResponse = Pin<
    Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<UploadBody>>>> + Send>,
>;

/// What remains of a connection after a complete response.
#[derive(Debug)]
pub enum AfterResponse {
    /// It can carry another request.
    Reusable(HttpConnection),
    /// The backend or the protocol ends it here.
    Ended(Socket),
}

impl BackendExchange {
    /// Prepares a request. It is sent while the exchange is polled.
    pub fn start(
        mut http: HttpConnection,
        mut request: Request<UploadBody>,
    ) -> (Self, PendingResponse) {
        let interim = Arc::<InterimInbox>::default();
        let inbox = Arc::clone(&interim);
        hyper::ext::on_informational(&mut request, move |response| {
            inbox.receive(response.status(), response.headers());
        });
        let response = Box::pin(unconstrained(http.sender.try_send_request(request)));
        let exchange = Self {
            waker: http.waker.clone(),
            http: Some(http),
            interim,
            unsent: None,
            is_done: false,
            request_failed: false,
            resets: false,
        };
        (exchange, response)
    }

    /// Has the connection reset if this exchange is dropped before it is complete. The proxy closes it first
    /// then, and TIME_WAIT would occupy a local port for a minute: one client that cancels its requests
    /// could exhaust them.
    pub fn reset_if_incomplete(&mut self) {
        self.resets = true;
    }

    /// Reads and writes as far as possible. Errors are reported by the response or its body.
    pub fn poll_io(&mut self, cx: &mut Context<'_>) {
        if !self.is_done
            && let Some(http) = &mut self.http
            && let Poll::Ready(end) = http.connection.poll_without_shutdown(cx)
        {
            self.is_done = true;
            self.request_failed = end.is_err_and(|error| error.is_user());
        }
    }

    /// Waits for the complete response head, and passes on the interim responses before it. The caller
    /// enforces the deadline.
    ///
    /// # Errors
    /// [`RejectReason::BackendHandshakeInvalid`] if a response is malformed, too large or missing, and
    /// [`RejectReason::RequestInvalid`] if the request body failed.
    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut PendingResponse,
        interim: InterimRelay<'_>,
    ) -> Poll<Result<Response<Incoming>, RejectReason>> {
        let waker = self.waker.clone();
        waker.poll(cx, |cx| self.poll_received(cx, response, interim))
    }

    fn poll_received(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut PendingResponse,
        interim: InterimRelay<'_>,
    ) -> Poll<Result<Response<Incoming>, RejectReason>> {
        self.poll_io(cx);
        self.interim.pass_on(interim)?;
        // hyper resolves this future only while the connection is polled. With its own waker, the task would be
        // woken by itself and be polled once more.
        let mut unused = Context::from_waker(Waker::noop());
        let mut received = response.as_mut().poll(&mut unused);
        if received.is_pending() && self.is_done {
            // The backend closed the connection before the request was sent. hyper returns it with the connection.
            self.http = None;
            received = response.as_mut().poll(&mut unused);
        }
        let response = match ready!(received) {
            Ok(response) => response,
            Err(mut error) => {
                self.unsent = error.take_message().map(Box::new);
                return Poll::Ready(Err(classify_error(error.error())));
            }
        };
        // hyper compares the size only when a read was not enough, and a read may be as large as the limit.
        let limit = self.http.as_ref().map_or(0, |http| http.limits.bytes);
        if head_bytes(response.headers()) > limit {
            return Poll::Ready(Err(RejectReason::BackendHandshakeInvalid(HEAD_TOO_LARGE)));
        }
        Poll::Ready(Ok(response))
    }

    /// The next part of the response body. What came with the head is there before the connection is polled, and the
    /// rest comes only while it is polled, so that the body needs no waker.
    pub fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut unused = Context::from_waker(Waker::noop());
        let waker = self.waker.clone();
        waker.poll(cx, |cx| match Pin::new(&mut *body).poll_frame(&mut unused) {
            Poll::Pending => {
                self.poll_io(cx);
                Pin::new(body).poll_frame(&mut unused)
            }
            part => part,
        })
    }

    /// Why the response body ended with this error.
    pub fn abort_cause(&self, error: &hyper::Error) -> AbortCause {
        if self.request_failed {
            return AbortCause::RequestInvalid;
        }
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
        match source.map(io::Error::kind) {
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
                AbortCause::BackendInvalid
            }
            _ => AbortCause::BackendDisconnected,
        }
    }

    /// The request, if the connection ended before any of it was sent. It can then be sent on another
    /// connection, whatever its method.
    pub fn take_unsent(&mut self) -> Option<Request<UploadBody>> {
        self.unsent.take().map(|request| *request)
    }

    /// The reason after [`poll_response`](Self::poll_response) has failed with `reason`: names the protocol of a
    /// backend that does not speak HTTP/1.1.
    pub fn into_reason(mut self, reason: RejectReason) -> RejectReason {
        if reason != RejectReason::BackendHandshakeInvalid(MALFORMED) {
            return reason;
        }
        // hyper leaves a head that it could not parse in its buffer.
        let received = self.http.take().map(|http| http.into_parts().1).unwrap_or_default();
        other_protocol(&received).map_or(reason, RejectReason::BackendHandshakeInvalid)
    }

    /// Whether the connection ended before any byte of a response.
    pub fn ended_unanswered(mut self) -> bool {
        if !self.is_done || !self.interim.is_empty() {
            return false;
        }
        self.http.take().is_some_and(|http| http.into_parts().1.is_empty())
    }

    /// What remains of the connection after the response body has ended; `None` if the request is not
    /// complete, or the backend sent more than the response.
    pub fn take_after_response(&mut self) -> Option<AfterResponse> {
        // hyper notices the end of a body when it is polled next. The waker is replaced with the next use.
        self.poll_io(&mut Context::from_waker(Waker::noop()));
        let is_ready = self.http.as_ref().is_some_and(|http| http.sender.is_ready());
        if self.is_done && !self.request_failed {
            let (mut socket, rest) = self.http.take()?.into_parts();
            if rest.is_empty() {
                return Some(AfterResponse::Ended(socket));
            }
            socket.reset_on_drop();
            None
        } else if is_ready {
            let mut http = self.http.take()?;
            http.responses = http.responses.saturating_add(1);
            Some(AfterResponse::Reusable(http))
        } else {
            None
        }
    }

    /// Returns the stream after a 101 response, and the bytes read after its head. They are copied, so
    /// that hyper's read buffer is freed. `None` if the connection was taken out before.
    pub async fn into_upgraded(mut self) -> Option<(Socket, Bytes)> {
        std::future::poll_fn(|cx| {
            self.poll_io(cx);
            if self.is_done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let (socket, rest) = self.http.take()?.into_parts();
        Some((socket, Bytes::copy_from_slice(&rest)))
    }
}

impl Drop for BackendExchange {
    fn drop(&mut self) {
        if let (Some(http), true) = (self.http.take(), self.resets) {
            http.reset();
        }
    }
}

/// The size of these fields, as they are usually written.
fn head_bytes(headers: &HeaderMap) -> usize {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + ": \r\n".len()
    };
    headers.iter().map(field).sum()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use http_body_util::{BodyExt as _, Empty};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::config::settings::HeaderRules;
    use crate::http::head_limits::HeadLimits;
    use crate::upstream::scripted::{connected, reply};

    fn request() -> Request<UploadBody> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        Request::get("/").header("host", "a").body(body).unwrap()
    }

    async fn respond(
        exchange: &mut BackendExchange,
        mut pending: PendingResponse,
    ) -> Result<Response<Incoming>, RejectReason> {
        let rules = HeaderRules::default();
        let interim = InterimRelay { rules: &rules, send: &|_| {} };
        let response = poll_fn(|cx| exchange.poll_response(cx, &mut pending, interim));
        timeout(Duration::from_secs(60), response).await.unwrap()
    }

    /// A connection that has carried a request, and the other end.
    async fn used_connection() -> (HttpConnection, TcpStream) {
        let ((socket, _), mut backend) = connected().await;
        let http = HttpConnection::new(socket, HeadLimits::default()).await.unwrap();
        let (mut exchange, pending) = BackendExchange::start(http, request());
        let response = b"HTTP/1.1 204 No Content\r\n\r\n";
        let (_, received) =
            tokio::join!(reply(&mut backend, response), respond(&mut exchange, pending));
        received.unwrap();
        let Some(AfterResponse::Reusable(http)) = exchange.take_after_response() else {
            panic!("not reusable")
        };
        (http, backend)
    }

    #[tokio::test]
    async fn request_on_a_closed_connection_is_returned() {
        for unexpected in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
            let (http, mut backend) = used_connection().await;
            backend.write_all(unexpected).await.unwrap();
            drop(backend);
            // Lets the runtime notice this.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let (mut exchange, pending) = BackendExchange::start(http, request());
            respond(&mut exchange, pending).await.unwrap_err();
            assert!(exchange.take_unsent().is_some(), "{}", unexpected.escape_ascii());
        }
    }
}
