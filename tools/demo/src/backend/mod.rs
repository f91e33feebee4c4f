//! The demo's backend: the page, an echo and a chat on a plain loopback port.
//!
//! Stands for the application that the proxy protects. hyper serves HTTP and tungstenite serves
//! WebSockets, because tidegate itself is a relay and not an endpoint. The backend's only link to
//! the proxy is the channel that requests a drain.

mod websocket;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::websocket::{chat, echo, upgrade};
use crate::chat_room::ChatRoom;
use crate::page::Page;

/// A running backend; [`Backend::stop`] ends it.
#[derive(Debug)]
pub struct Backend {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Backend {
    /// Serves on `listener`. A press of the page's drain button sends a message to `drain`; while
    /// that channel is full, further presses are answered with 503.
    pub fn start(listener: TcpListener, page: Page, drain: mpsc::Sender<()>) -> Self {
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let state = Arc::new(State {
            page,
            drain,
            room: Arc::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        tasks.spawn(accept(listener, state));
        Self { tasks, stop }
    }

    /// Drops every connection and waits until all tasks have finished.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What all connections share.
struct State {
    page: Page,
    drain: mpsc::Sender<()>,
    room: Arc<ChatRoom>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

type Reply = Response<Full<Bytes>>;

async fn accept(listener: TcpListener, state: Arc<State>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accepting = async {
        // The semaphore is never closed, so this loop does not end.
        while let Ok(permit) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    state.tasks.spawn(connection(stream, Arc::clone(&state), Arc::new(permit)));
                }
                // Usually the file descriptors are exhausted: wait until some are closed.
                Err(_) => sleep(ACCEPT_RETRY).await,
            }
        }
    };
    state.stop.run_until_cancelled(accepting).await;
}

/// Serves one TCP connection until it ends or is upgraded.
async fn connection(stream: TcpStream, state: Arc<State>, permit: Arc<OwnedSemaphorePermit>) {
    // Only a matter of latency: without it small writes are delayed.
    let _ = stream.set_nodelay(true);
    let stop = state.stop.clone();
    let service = hyper::service::service_fn(move |request| {
        let reply = respond(request, &state, &permit);
        async move { Ok::<_, Infallible>(reply) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // The connection is gone, so there is no peer left to report an error to.
    let _ = stop.run_until_cancelled(serving).await;
}

fn respond(
    request: Request<Incoming>,
    state: &Arc<State>,
    permit: &Arc<OwnedSemaphorePermit>,
) -> Reply {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => state.page.response(),
        (&Method::GET, "/echo") => upgrade(request, state, permit, |socket, _| echo(socket)),
        (&Method::GET, "/chat") => upgrade(request, state, permit, chat),
        (&Method::POST, "/demo/drain") => drain(request.headers(), state),
        (_, "/" | "/echo" | "/chat" | "/demo/drain") => status(StatusCode::METHOD_NOT_ALLOWED),
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// Requests a drain, if the request comes from the demo's own page.
fn drain(headers: &HeaderMap, state: &State) -> Reply {
    if !is_own_page(headers) {
        return status(StatusCode::FORBIDDEN);
    }
    match state.drain.try_send(()) {
        Ok(()) => status(StatusCode::ACCEPTED),
        Err(_) => status(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Whether the Origin equals the request's authority, and that authority is a loopback name. The
/// second condition rejects DNS rebinding: a foreign name that resolves to this machine.
fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (Some(host), Some(origin)) = (text(header::HOST), text(header::ORIGIN)) else {
        return false;
    };
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    // The port follows the last colon; an IPv6 address keeps its brackets.
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    authority.eq_ignore_ascii_case(host) && LOOPBACK_NAMES.contains(&name)
}

fn status(status: StatusCode) -> Reply {
    let mut reply = Response::default();
    *reply.status_mut() = status;
    reply
}

/// Maximum number of connections; the proxy's own limits take effect long before.
const CONNECTIONS_MAX: usize = 512;

/// Timeout for a request header, also for the next one on an idle connection.
const REQUEST_HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Delay of the accept loop after an error.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The names of the demo's certificate as they appear in a Host header.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
