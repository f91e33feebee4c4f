//! What a probe of `[pool.probe]` does on its connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use data_encoding::BASE64;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    CONNECTION, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use hyper::{HeaderMap, Request};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};
use ws::{CloseCode, ControlFrame, Entropy, Side, Strictness};

use super::closing::close;
use super::frames::FrameReader;
use crate::config::settings::HeaderRules;
use crate::config::settings::probe::{ProbeKind, ProbeRequest};
use crate::config::values::units::show_duration;
use crate::http::head_limits::HeadLimits;
use crate::net::network::Net;
use crate::net::socket::Socket;
use crate::upstream::handshake::{BackendResponse, check_switching, send_request};
use crate::upstream::http1::exchange::{AfterResponse, BackendExchange};
use crate::upstream::http1::interim::InterimRelay;

/// One probe on a new connection.
pub(super) struct ProbeExchange<'p> {
    pub(super) net: &'p dyn Net,
    pub(super) kind: &'p ProbeKind,
    /// `Host` unless the settings name one.
    pub(super) host: &'p str,
    pub(super) limits: HeadLimits,
    /// The time for the probe, and when it is over.
    pub(super) time: (Duration, Instant),
}

/// Why a probe failed.
#[derive(Debug)]
pub(super) enum ProbeFailure {
    /// There was no answer in time.
    TimedOut(String),
    /// Any other cause.
    Failed(String),
}

impl From<String> for ProbeFailure {
    fn from(cause: String) -> Self {
        Self::Failed(cause)
    }
}

/// The connection of a successful probe, which remains to be closed.
pub(super) enum ProbedConnection {
    Tcp(Socket),
    Http(Incoming, BackendExchange),
    WebSocket(Socket, FrameReader),
}

impl ProbeExchange<'_> {
    /// Probes the backend.
    pub(super) async fn run(&self, socket: Socket) -> Result<ProbedConnection, ProbeFailure> {
        match self.kind {
            ProbeKind::Tcp => Ok(ProbedConnection::Tcp(socket)),
            ProbeKind::Http(request, statuses) => {
                let mut headers = self.headers(request);
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
                match self.send(socket, request, headers).await? {
                    BackendResponse::Declined { head, body, exchange } => {
                        let status = head.status.as_u16();
                        match statuses.iter().any(|range| range.contains(&status)) {
                            true => Ok(ProbedConnection::Http(body, exchange)),
                            false => Err(format!("the response has the status {status}").into()),
                        }
                    }
                    BackendResponse::Switching { .. } => {
                        Err("the response is a 101".to_owned().into())
                    }
                }
            }
            ProbeKind::WebSocket(request, subprotocol) => {
                self.open(socket, request, subprotocol.as_slice()).await
            }
        }
    }

    /// Opens a WebSocket, and waits for the answer to a ping.
    async fn open(
        &self,
        socket: Socket,
        request: &ProbeRequest,
        subprotocols: &[String],
    ) -> Result<ProbedConnection, ProbeFailure> {
        let mut nonce = [0; 16];
        self.net.fill_random(&mut nonce);
        let key = BASE64.encode(&nonce);
        let mut headers = self.headers(request);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let offer = (SEC_WEBSOCKET_PROTOCOL, subprotocols.first());
        for (name, value) in [(SEC_WEBSOCKET_KEY, Some(&key)), offer] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        let (mut socket, after_head) = match self.send(socket, request, headers).await? {
            BackendResponse::Switching { head, stream, after_head } => {
                check_switching(&head, &key, subprotocols, &[], Strictness::Enforce)
                    .map_err(str::to_owned)?;
                (stream, after_head)
            }
            BackendResponse::Declined { head, .. } => {
                let status = head.status.as_u16();
                return Err(format!("the response has the status {status} instead of 101").into());
            }
        };
        let mut payload = [0; 8];
        self.net.fill_random(&mut payload);
        let mut frames = FrameReader::new(after_head);
        let ponging = async {
            let ping = ControlFrame::ping(Side::Backend, payload, &mut NetEntropy(self.net));
            socket.write_all(ping.as_bytes()).await.map_err(|error| error.to_string())?;
            frames.wait_for_pong(&mut socket, &payload).await
        };
        self.within("no pong", ponging).await?;
        Ok(ProbedConnection::WebSocket(socket, frames))
    }

    async fn send(
        &self,
        socket: Socket,
        probe: &ProbeRequest,
        headers: HeaderMap,
    ) -> Result<BackendResponse, ProbeFailure> {
        let mut request = Request::new(());
        *request.uri_mut() = probe.target.clone();
        *request.headers_mut() = headers;
        let rules = HeaderRules::default();
        let interim = InterimRelay { rules: &rules, send: &|_| {} };
        let sending = send_request(socket, self.limits, request, interim);
        let sending = async { sending.await.map_err(|reason| reason.to_string()) };
        self.within("no response", sending).await
    }

    fn headers(&self, request: &ProbeRequest) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let host = request.host.clone().or_else(|| HeaderValue::from_str(self.host).ok());
        headers.extend(host.map(|host| (HOST, host)));
        headers.insert(USER_AGENT, HeaderValue::from_static("tidegate-probe"));
        let own = |(name, value): &(HeaderName, HeaderValue)| (name.clone(), value.clone());
        request.headers.iter().map(own).for_each(|(name, value)| drop(headers.insert(name, value)));
        headers
    }

    async fn within<T>(
        &self,
        missing: &str,
        exchange: impl Future<Output = Result<T, String>>,
    ) -> Result<T, ProbeFailure> {
        let (limit, deadline) = self.time;
        match timeout_at(deadline, exchange).await {
            Ok(ended) => Ok(ended?),
            Err(_elapsed) => {
                let cause = format!("{missing} within {}", show_duration(limit));
                Err(ProbeFailure::TimedOut(cause))
            }
        }
    }
}

impl ProbedConnection {
    /// Closes the connection as its protocol asks for. The caller limits the time.
    pub(super) async fn close(self, net: &dyn Net) -> io::Result<()> {
        let socket = match self {
            Self::Tcp(socket) => Some(socket),
            Self::Http(body, exchange) => after_body(body, exchange).await,
            Self::WebSocket(mut socket, mut frames) => {
                let code = Some(CloseCode::NORMAL);
                let close = ControlFrame::close(Side::Backend, code, "", &mut NetEntropy(net));
                socket.write_all(close.as_bytes()).await?;
                frames.wait_for_close(&mut socket).await;
                Some(socket)
            }
        };
        match socket {
            Some(socket) => close(socket).await,
            None => Ok(()),
        }
    }
}

/// Reads the rest of a response, at most [`BODY_MAX`] bytes of it.
async fn after_body(mut body: Incoming, mut exchange: BackendExchange) -> Option<Socket> {
    let mut read = 0;
    poll_fn(|cx| {
        loop {
            exchange.poll_io(cx);
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if read < BODY_MAX => {
                    read += frame.data_ref().map_or(0, bytes::Bytes::len);
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    match exchange.take_after_response()? {
        AfterResponse::Reusable(http) => Some(http.into_parts().0),
        AfterResponse::Ended(socket) => Some(socket),
    }
}

/// The randomness of the network.
struct NetEntropy<'n>(&'n dyn Net);

impl Entropy for NetEntropy<'_> {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_random(bytes);
    }
}

const BODY_MAX: usize = 64 * 1024;
