//! An HTTP/1.1 connection to a backend, on which requests follow one another.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::exchange_waker::ExchangeWaker;
use super::reset_tolerant_writer::ResetTolerantWriter;
use crate::client::ClientAddr;
use crate::http::head_limits::HeadLimits;
use crate::net::Transport as _;
use crate::net::socket::Socket;
use crate::reject::RejectReason;
use crate::upstream::tls_failure::of_exchange;

/// Error of a request body, in the form hyper requires.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to a backend.
pub type UploadBody = UnsyncBoxBody<Bytes, BodyError>;

/// A connection between two requests.
#[derive(Debug)]
pub struct HttpConnection {
    pub(super) connection: Box<Connection<ResetTolerantWriter<TokioIo<Socket>>, UploadBody>>,
    pub(super) sender: SendRequest<UploadBody>,
    pub(super) waker: Arc<ExchangeWaker>,
    /// How large the heads of its responses may be.
    pub(super) limits: HeadLimits,
    /// Complete responses that it has carried.
    pub(super) responses: u32,
    /// The only client whose requests it may carry from now on.
    pub(super) client: Option<ClientAddr>,
}

impl HttpConnection {
    /// Prepares a new connection. Nothing is sent.
    ///
    /// # Errors
    /// [`RejectReason::BackendHandshakeInvalid`] if hyper cannot use the connection.
    pub async fn new(stream: Socket, limits: HeadLimits) -> Result<Self, RejectReason> {
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
        let (sender, connection) = opened.map_err(|error| classify_error(&error))?;
        Ok(Self {
            connection: Box::new(connection),
            sender,
            waker: Arc::default(),
            limits,
            responses: 0,
            client: None,
        })
    }

    /// Reserves the connection for the requests of one client. A backend may take a body that it has not read
    /// for the next request, and no proxy can see whether it has.
    pub fn reserve_for(&mut self, client: ClientAddr) {
        self.client = Some(client);
    }

    /// Closes the connection with a reset.
    pub(super) fn reset(self) {
        self.into_parts().0.reset_on_drop();
    }

    /// The socket, and what was read from it and not used.
    pub(in crate::upstream) fn into_parts(self) -> (Socket, Bytes) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner().into_inner(), parts.read_buf)
    }
}

/// Converts an error of hyper into the reason for the record.
pub(super) fn classify_error(error: &hyper::Error) -> RejectReason {
    if error.is_user() {
        return RejectReason::RequestInvalid("the request body ended early");
    }
    if let Some(failure) = of_exchange(error) {
        return RejectReason::BackendTls(failure);
    }
    RejectReason::BackendHandshakeInvalid(if error.is_parse_too_large() {
        HEAD_TOO_LARGE
    } else if error.is_parse() {
        MALFORMED
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "the connection was closed before the response"
    } else {
        "the connection failed before the response"
    })
}

pub(super) const MALFORMED: &str = "the response head is malformed";
pub(super) const HEAD_TOO_LARGE: &str =
    "the response head exceeds route.response_head_size or route.response_head_fields";
