//! One HTTP/1.1 request to a backend and its response. The caller drives the connection by polling: no
//! task is spawned, and dropping the exchange closes the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;

use super::interim::{InterimInbox, InterimRelay};
use super::reset_tolerant_writer::ResetTolerantWriter;
use crate::http::head_limits::HeadLimits;
use crate::net::socket::Socket;
use crate::reject::RejectReason;
use crate::reject::abort::AbortCause;

/// Error of a request body, in the form hyper requires.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A backend connection that carries one request.
#[derive(Debug)]
pub struct BackendExchange<B>
where
    B: Body + 'static,
{
    connection: Box<Connection<ResetTolerantWriter<TokioIo<Socket>>, B>>,
    limits: HeadLimits,
    /// Interim (1xx) responses.
    interim: Arc<InterimInbox>,
    /// The connection has finished and must not be polled again.
    is_done: bool,
    /// The connection has finished because the request body failed.
    request_failed: bool,
}

/// The response that hyper will return.
pub type PendingResponse = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

impl<B> BackendExchange<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    /// Prepares a request. It is sent while the exchange is polled.
    ///
    /// # Errors
    /// [`RejectReason::BackendHandshakeInvalid`] if hyper cannot use the connection.
    pub async fn start(
        stream: Socket,
        limits: HeadLimits,
        mut request: Request<B>,
    ) -> Result<(Self, PendingResponse), RejectReason> {
        let mut builder = Builder::new();
        builder
            // Includes tunnel bytes received together with the head.
            .max_buf_size(limits.bytes)
            // RFC 9112 5.1 and 5.2: a proxy removes the space and unfolds the lines.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            // Some servers compare field names exactly.
            .preserve_header_case(true)
            .title_case_headers(true);
        // hyper's own limit is 100; it allocates space for any that is set.
        if limits.fields != HeadLimits::default().fields {
            builder.max_headers(limits.fields);
        }
        let opened = builder.handshake(ResetTolerantWriter::new(TokioIo::new(stream))).await;
        let (mut sender, connection): (SendRequest<B>, _) =
            opened.map_err(|error| classify_error(&error))?;
        let interim = Arc::<InterimInbox>::default();
        let inbox = Arc::clone(&interim);
        hyper::ext::on_informational(&mut request, move |response| {
            inbox.receive(response.status(), response.headers());
        });
        let response = Box::pin(sender.send_request(request));
        Ok((
            Self {
                connection: Box::new(connection),
                limits,
                interim,
                is_done: false,
                request_failed: false,
            },
            response,
        ))
    }

    /// Reads and writes as far as possible. Errors are reported by the response or its body.
    pub fn poll_io(&mut self, cx: &mut Context<'_>) {
        if !self.is_done
            && let Poll::Ready(end) = self.connection.poll_without_shutdown(cx)
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
        self.poll_io(cx);
        self.interim.pass_on(interim)?;
        // hyper always resolves this future. If it is pending after the connection has finished, the
        // task has only used up its budget for this poll.
        let response =
            ready!(response.as_mut().poll(cx)).map_err(|error| classify_error(&error))?;
        // hyper compares the size only when a read was not enough, and a read may be as large as the limit.
        if head_bytes(response.headers()) > self.limits.bytes {
            return Poll::Ready(Err(RejectReason::BackendHandshakeInvalid(HEAD_TOO_LARGE)));
        }
        Poll::Ready(Ok(response))
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

    /// Returns the stream after a 101 response, and the bytes read after its head. They are copied, so
    /// that hyper's read buffer is freed.
    pub async fn into_upgraded(mut self) -> (Socket, Bytes) {
        std::future::poll_fn(|cx| {
            self.poll_io(cx);
            if self.is_done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.connection.into_parts();
        (parts.io.into_inner().into_inner(), Bytes::copy_from_slice(&parts.read_buf))
    }
}

/// The size of these fields, as they are usually written.
fn head_bytes(headers: &HeaderMap) -> usize {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + ": \r\n".len()
    };
    headers.iter().map(field).sum()
}

/// Converts an error of hyper into the reason for the record.
fn classify_error(error: &hyper::Error) -> RejectReason {
    if error.is_user() {
        return RejectReason::RequestInvalid("the request body ended early");
    }
    RejectReason::BackendHandshakeInvalid(if error.is_parse_too_large() {
        HEAD_TOO_LARGE
    } else if error.is_parse() {
        "the response head is malformed"
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "the connection was closed before the response"
    } else {
        "the connection failed before the response"
    })
}

const HEAD_TOO_LARGE: &str =
    "the response head exceeds route.response_head_size or route.response_head_fields";
