//! One stream, from its request to the end of its response or to its tunnel.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use h2::RecvStream;
use h2::server::SendResponse;
use hyper::body::Body as _;
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::time::{Instant, sleep};

use super::frame_limits::Allowance;
use super::handler::Http2Handler;
use super::request_body::{BodyStream, Http2Body};
use super::request_head;
use super::response::{self, FlushSignal, SendBody};
use crate::downstream::reply::Reply;
use crate::downstream::response::Body;
use crate::http::head_limits::HeadLimits;
use crate::http::upgrade::ExtendedConnect;
use crate::net::http2::receiver::StreamReceiver;
use crate::net::http2::stream::{Http2Stream, OpenTunnels};
use crate::net::http2::unread::UnreadResponse;
use crate::net::http2::waiting::{ConnectionWaiting, StreamWaiting};

/// What all streams of a connection share.
#[derive(Debug)]
pub(super) struct StreamContext<H> {
    pub(super) handler: H,
    pub(super) limits: HeadLimits,
    pub(super) waiting: Arc<ConnectionWaiting>,
    /// Maximum time in which a client permits no byte of a response.
    pub(super) write_timeout: Duration,
    pub(super) flushes: FlushSignal,
    pub(super) rejections: RejectionPacing,
    pub(super) tunnels: OpenTunnels,
    /// Has a reference for each stream whose response is the proxy's own.
    pub(super) own_responses: Arc<()>,
}

/// Serves one stream. Ends early, without a response, if the client resets it.
pub(super) async fn serve<H: Http2Handler>(
    context: Arc<StreamContext<H>>,
    request: Request<RecvStream>,
    responder: SendResponse<Bytes>,
) {
    let (mut head, recv) = request.into_parts();
    let has_body = !recv.is_end_stream();
    let receiver =
        has_body.then(|| StreamReceiver::new(recv, StreamWaiting::new(context.waiting.clone())));
    let key = || websocket_key(&context.handler);
    let checked = request_head::convert(&mut head, has_body, context.limits, key);
    let is_head = head.method == Method::HEAD;
    let is_connect = head.extensions.get::<ExtendedConnect>().is_some();
    // The bytes on the stream of a tunnel are no body.
    let (mut early, body) = if is_connect { (receiver, None) } else { (None, receiver) };
    let body = Http2Body::new(body, content_length(&head.headers));
    let body_stream = body.stream();
    let responder = Responder::new(responder, has_body && head.headers.contains_key(EXPECT));
    let reply = {
        let send_interim = |response: &Response<()>| responder.send_interim(response);
        let request = Request::from_parts(head, body);
        // In a box, which is freed before the response is sent.
        let mut handling = Box::pin(context.handler.handle(request, checked, &send_interim));
        poll_fn(|cx| {
            // Before the first poll, so that no work is done for a stream that was reset meanwhile.
            if responder.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            let reply = handling.as_mut().poll(cx);
            if reply.is_pending() {
                body_stream.keep_received(cx);
                early.iter_mut().for_each(|receiver| receiver.keep_received(cx));
            }
            reply.map(Some)
        })
        .await
    };
    match reply {
        None => {}
        Some(Reply::Response(mut response)) => {
            let unread = response.extensions_mut().remove::<UnreadResponse>();
            let _own = unread.is_none().then(|| context.own_responses.clone());
            // What would have been a tunnel is not received any more.
            drop(early.take());
            if is_connect && response.status().is_success() {
                // A 2xx would open a tunnel (RFC 9110 9.3.6).
                *response.status_mut() = StatusCode::BAD_GATEWAY;
            }
            // In HTTP/1.1, this response would end the connection.
            if response.headers().contains_key(CONNECTION) {
                context.rejections.pace(&responder).await;
            }
            let sent = (response, unread);
            send_response(&context, &responder, sent, is_head, &body_stream).await;
        }
        Some(Reply::Tunnel { mut response, tunnel }) => {
            response::convert(&mut response);
            let sender = responder.send(response.map(|_| ()), false);
            match (sender, early.take()) {
                (Some(sender), Some(receiver)) => {
                    let open = context.tunnels.clone();
                    let stream = Http2Stream::new(open, receiver, sender);
                    context.handler.start_tunnel(stream, tunnel);
                }
                (_, _) => context.handler.abandon_tunnel(tunnel),
            }
        }
    }
}

/// Sends a response to its end, while the rest of the request is received.
async fn send_response<H>(
    context: &StreamContext<H>,
    responder: &Responder,
    (mut response, unread): (Response<Body>, Option<UnreadResponse>),
    is_head: bool,
    body_stream: &BodyStream,
) {
    response::convert(&mut response);
    let (head, body) = response.into_parts();
    let is_end = is_head || body.is_end_stream();
    let headers = head.headers.clone();
    let Some(stream) = responder.send(Response::from_parts(head, ()), is_end) else { return };
    if !is_end {
        let StreamContext { write_timeout, flushes, .. } = context;
        let mut sending = SendBody::new(stream, &headers, (body, unread), *write_timeout, flushes);
        poll_fn(|cx| {
            let sent = sending.poll_send(cx);
            body_stream.keep_received(cx);
            sent
        })
        .await;
    }
}

/// Spreads the rejected requests of a connection over time. In HTTP/1.1 each of them costs its client a
/// connection.
#[derive(Debug)]
pub(super) struct RejectionPacing(Option<Mutex<Allowance>>);

impl RejectionPacing {
    /// For a new connection. One that is shared by the clients of a proxy is not limited.
    pub(super) fn new(is_shared: bool) -> Self {
        let allowance =
            || Mutex::new(Allowance::new(REJECTIONS, REJECTIONS_PER_SECOND, Instant::now()));
        Self((!is_shared).then(allowance))
    }

    /// Waits until one more request may be rejected, or the client resets its stream.
    async fn pace(&self, responder: &Responder) {
        let Some(allowance) = &self.0 else { return };
        let is_permitted = || {
            let mut allowance = allowance.lock().unwrap_or_else(PoisonError::into_inner);
            allowance.take(Instant::now()).is_some()
        };
        while !is_permitted() {
            let mut wait = pin!(sleep(Duration::from_secs(1) / REJECTIONS_PER_SECOND));
            let is_reset = poll_fn(|cx| match responder.poll_reset(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => wait.as_mut().poll(cx).map(|()| false),
            });
            if is_reset.await {
                return;
            }
        }
    }
}

/// Number of requests of a connection that are rejected at once.
const REJECTIONS: u32 = 200;
/// And after that.
const REJECTIONS_PER_SECOND: u32 = 50;

/// A new `Sec-WebSocket-Key` (RFC 6455 4.1).
fn websocket_key<H: Http2Handler>(handler: &H) -> HeaderValue {
    let mut nonce = [0; 16];
    handler.fill_random(&mut nonce);
    // Base64 is valid in a header field.
    HeaderValue::try_from(BASE64.encode(&nonce)).unwrap_or(HeaderValue::from_static(""))
}

/// The announced length of a body. The h2 library has checked the field.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Sends the interim responses and the head of the response of one stream.
struct Responder {
    stream: Mutex<SendResponse<Bytes>>,
    expects_continue: bool,
    /// Bytes of interim responses.
    interim_bytes: AtomicUsize,
}

impl Responder {
    fn new(stream: SendResponse<Bytes>, expects_continue: bool) -> Self {
        Self { stream: Mutex::new(stream), expects_continue, interim_bytes: AtomicUsize::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, SendResponse<Bytes>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready once the client has reset the stream, or the connection has failed.
    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.lock().poll_reset(cx).map(|_| ())
    }

    /// Sends an interim response, unless it is a 100 that the client does not wait for, or there were too many.
    fn send_interim(&self, response: &Response<()>) {
        if response.status() == StatusCode::CONTINUE && !self.expects_continue {
            return;
        }
        let mut interim = Response::new(());
        *interim.status_mut() = response.status();
        *interim.headers_mut() = response.headers().clone();
        response::remove_connection_fields(interim.headers_mut());
        let fields = interim.headers().iter();
        let bytes = fields.map(|(name, value)| name.as_str().len() + value.len()).sum();
        if self.interim_bytes.fetch_add(bytes, Ordering::Relaxed) <= HeadLimits::BYTES_MAX {
            // Fails only if the stream has ended.
            let _ = self.lock().send_informational(interim);
        }
    }

    /// Sends the head; `None` if the stream has ended.
    fn send(&self, head: Response<()>, is_end: bool) -> Option<h2::SendStream<Bytes>> {
        self.lock().send_response(head, is_end).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, pending};
    use std::hint::black_box;

    use h2::{client, server};
    use tokio::io::duplex;

    use super::*;
    use crate::downstream::http2::request_body::Http2Body;
    use crate::net::http2::waiting::WaitingBytes;
    use crate::reject::RejectReason;
    use crate::reject::drop_reason::DropReason;

    /// A handler that needs much memory.
    struct LargeHandler;

    impl Http2Handler for LargeHandler {
        type Tunnel = ();

        async fn handle(
            &self,
            _: Request<Http2Body>,
            _: Result<(), RejectReason>,
            _: &(dyn Fn(&Response<()>) + Sync),
        ) -> Reply<()> {
            let large = [7_u8; 64 * 1024];
            pending::<()>().await;
            black_box(large);
            Reply::Response(Response::default())
        }

        fn start_tunnel(&self, _: Http2Stream, _: Box<()>) {}
        fn abandon_tunnel(&self, _: Box<()>) {}
        fn set_idle(&self) {}
        fn set_waiting(&self, _: usize, _: bool) {}
        fn set_partial_head(&self, _: u64) -> Result<(), DropReason> {
            Ok(())
        }
        fn count_refused_heads(&self, _: u32) {}
        fn is_shared(&self) -> bool {
            false
        }
        fn fill_random(&self, _: &mut [u8]) {}
    }

    async fn served_stream() -> impl Future<Output = ()> {
        let (near, far) = duplex(1 << 16);
        let client = async {
            let (mut requests, connection) = client::handshake(far).await.unwrap();
            let request = Request::get("https://a/").body(()).unwrap();
            let _response = requests.send_request(request, true).unwrap();
            connection.await
        };
        let accept = async {
            let mut server = server::handshake(near).await.unwrap();
            server.accept().await.unwrap().unwrap()
        };
        let (request, responder) =
            tokio::select! { _ = client => panic!(), accepted = accept => accepted };
        let context = StreamContext {
            handler: LargeHandler,
            limits: HeadLimits { bytes: 8192, fields: 100 },
            waiting: Arc::new(ConnectionWaiting::new(Arc::<WaitingBytes>::default())),
            write_timeout: Duration::from_secs(1),
            flushes: FlushSignal::default(),
            rejections: RejectionPacing::new(false),
            own_responses: Arc::default(),
            tunnels: OpenTunnels::default(),
        };
        serve(Arc::new(context), request, responder)
    }

    #[tokio::test]
    async fn sending_takes_little_memory() {
        let stream = served_stream().await;
        assert!(size_of_val(&stream) <= 2048, "{} bytes", size_of_val(&stream));
    }
}
