//! One question to a backend over HTTP/1.1, driven by whoever waits for the answer: no task is
//! spawned, and dropping the exchange drops the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::ignore_reset::IgnoreResetOnWrite;
use crate::net::socket::Socket;
use crate::reject::RejectReason;

/// What a request body may fail with; hyper wants it boxable.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A connection that carries one request.
#[derive(Debug)]
pub struct BackendExchange<B>
where
    B: Body + 'static,
{
    connection: Box<Connection<IgnoreResetOnWrite<TokioIo<Socket>>, B>>,
    /// Interim responses so far.
    interim: Arc<AtomicU32>,
    /// The connection has nothing more to do, and may not be polled again.
    over: bool,
}

/// hyper's answer to come.
pub type PendingResponse = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

impl<B> BackendExchange<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    /// Gets a request ready to be sent; it is sent as the exchange is polled.
    pub async fn begin(
        stream: Socket,
        mut request: Request<B>,
    ) -> Result<(Self, PendingResponse), RejectReason> {
        let mut builder = Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(FIELDS_MAX);
        let opened = builder.handshake(IgnoreResetOnWrite::new(TokioIo::new(stream))).await;
        let (mut sender, connection): (SendRequest<B>, _) =
            opened.map_err(|error| blame(&error))?;
        let interim = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&interim);
        hyper::ext::on_informational(&mut request, move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let answer = Box::pin(sender.send_request(request));
        Ok((Self { connection: Box::new(connection), interim, over: false }, answer))
    }

    /// Moves bytes both ways. Failures reach whoever waits for the answer or its body.
    pub fn poll_drive(&mut self, cx: &mut Context<'_>) {
        if !self.over {
            self.over = self.connection.poll_without_shutdown(cx).is_ready();
        }
    }

    /// Waits for the whole answer head; the deadline is the caller's.
    pub fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        answer: &mut PendingResponse,
    ) -> Poll<Result<Response<Incoming>, RejectReason>> {
        self.poll_drive(cx);
        if self.interim.load(Ordering::Relaxed) > INTERIM_MAX {
            return Poll::Ready(Err(RejectReason::BackendHandshakeInvalid(
                "too many interim responses",
            )));
        }
        // hyper resolves this whatever happens. Pending after the connection is over only says
        // that the task has used up its budget for this turn.
        answer.as_mut().poll(cx).map_err(|error| blame(&error))
    }

    /// The stream behind a 101, and what was read beyond its head (owned: hyper's buffer goes).
    pub async fn switch(mut self) -> (Socket, Bytes) {
        std::future::poll_fn(|cx| {
            self.poll_drive(cx);
            if self.over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.connection.into_parts();
        (parts.io.into_inner().into_inner(), Bytes::copy_from_slice(&parts.read_buf))
    }
}

/// What hyper's complaint means to us.
fn blame(error: &hyper::Error) -> RejectReason {
    if error.is_user() {
        return RejectReason::RequestInvalid("the request body broke off");
    }
    RejectReason::BackendHandshakeInvalid(if error.is_parse_too_large() {
        "the answer's head is too large"
    } else if error.is_parse() {
        "the answer's head is malformed"
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "the connection ended before the answer"
    } else {
        "the connection broke before the answer"
    })
}

/// Largest answer head; bytes of the tunnel that come with it count as well.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most fields of an answer.
const FIELDS_MAX: usize = 64;

/// Most interim responses (1xx) before the answer; they are not passed on.
const INTERIM_MAX: u32 = 8;
