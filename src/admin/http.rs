//! The read-only HTTP server of the admin listener: health, metrics and status. It listens on
//! loopback by default.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CONTENT_TYPE, HOST, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, json};
use tokio::net::TcpStream;
use tokio::select;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use super::connections::{AdminConnections, AdminPermit, PermitRevoked};
use super::status::cache::StatusCache;
use super::status::document::process_snapshot;
use super::status::page;
use crate::downstream::response::{Body, text};
use crate::listener::socket::{AcceptEvent, Listener};
use crate::net::network::{Net, SystemNet};
use crate::net::socket::Socket;
use crate::proxy::state::ProxyState;
use crate::telemetry::metrics::backend_state::BackendState;
use crate::telemetry::metrics::scrape::CONTENT_TYPE as OPENMETRICS;

#[derive(Clone)]
struct Admin {
    state: Arc<ProxyState>,
    status: Arc<StatusCache>,
}

/// Serves requests until the returned future is dropped.
pub fn serve(
    state: Arc<ProxyState>,
    status: Arc<StatusCache>,
    listener: Listener,
) -> impl Future<Output = ()> + Send {
    let admin = Admin { state, status };
    info!(address = %listener.local_addr(), "admin listening");
    // An attacker who can connect directly gains nothing from DNS rebinding.
    let any_host = !listener.local_addr().ip().is_loopback();
    async move {
        let mut tasks = JoinSet::new();
        let connections = AdminConnections::new(admin.state.metrics.clone());
        let each = |event| match event {
            AcceptEvent::Connection(accepted) => {
                while tasks.try_join_next().is_some() {}
                // The listener accepts from the operating system only.
                let Socket::Tcp(io) = accepted.io else { return };
                let io = Arc::new(io);
                if let Some((permit, revoked)) = connections.admit(&io, accepted.peer) {
                    tasks.spawn(serve_connection(admin.clone(), io, permit, revoked, any_host));
                }
            }
            AcceptEvent::Paused(error, _) => warn!(%error, "admin: accept failed, pausing"),
        };
        let net: &dyn Net = &SystemNet;
        listener.run(|| net.random_f64(), each).await;
    }
}

async fn serve_connection(
    admin: Admin,
    io: Arc<TcpStream>,
    permit: AdminPermit,
    revoked: PermitRevoked,
    any_host: bool,
) {
    select! {
        _ = revoked => {}
        _ = timeout(CONNECTION_TIMEOUT, serve_request(&admin, io, &permit, any_host)) => {}
    }
}

async fn serve_request(admin: &Admin, io: Arc<TcpStream>, permit: &AdminPermit, any_host: bool) {
    // A silent connection has no buffers.
    let Ok(Ok(1..)) = timeout(REQUEST_TIMEOUT, io.peek(&mut [0])).await else { return };
    permit.request_started();
    // The permit held the only other reference.
    let Some(io) = Arc::into_inner(io) else { return };
    let service = service_fn(|request: Request<Incoming>| async move {
        permit.request_complete();
        let response = respond(admin, permit, &request, any_host).await;
        Ok::<_, Infallible>(with_security_headers(response))
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(io), service);
    // The response to a failed connection has no reader, so errors are ignored.
    let _ = serving.await;
}

async fn respond(
    admin: &Admin,
    permit: &AdminPermit,
    request: &Request<Incoming>,
    any_host: bool,
) -> Response<Body> {
    let path = request.uri().path();
    // Load balancers send arbitrary Host headers, and `/readyz` reveals almost nothing.
    if !any_host && path != "/readyz" && !has_own_host(request) {
        return text(StatusCode::MISDIRECTED_REQUEST, MISDIRECTED);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n");
        // RFC 9110 15.5.6
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/healthz" => typed(JSON, healthz(&admin.state)),
        "/readyz" => match admin.state.unready_cause() {
            None => text(StatusCode::OK, "ready\n"),
            Some(cause) => text(StatusCode::SERVICE_UNAVAILABLE, format!("unready: {cause}\n")),
        },
        "/metrics" | "/status" | "/status.json" if !permit.start_document() => {
            text(StatusCode::SERVICE_UNAVAILABLE, DOCUMENTS_BUSY)
        }
        "/metrics" => {
            let scrape =
                |admin: Admin| admin.state.metrics.scrape(process_snapshot(&admin.state)).into();
            run_blocking(admin, OPENMETRICS, scrape).await
        }
        "/status.json" => {
            run_blocking(admin, JSON, |admin| admin.status.cached_json(&admin.state)).await
        }
        "/status" => page::response(),
        _ => text(StatusCode::NOT_FOUND, PATHS),
    }
}

/// Whether the host of the request is one of this listener. A web page of another origin can point
/// its own name to this address (DNS rebinding), but it cannot change the `Host` header.
fn has_own_host(request: &Request<Incoming>) -> bool {
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let headers = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    // Browsers always send a host.
    headers.chain(authority).all(is_own_host)
}

/// Accepts IP addresses, which need no DNS, and `localhost`, which always resolves to this machine.
fn is_own_host(authority: &[u8]) -> bool {
    let Ok(authority) = std::str::from_utf8(authority) else { return false };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok(),
    }
}

/// Builds a response that may take milliseconds outside of the worker threads, which serve tunnels.
async fn run_blocking(
    admin: &Admin,
    media_type: &'static str,
    make: impl FnOnce(Admin) -> Bytes + Send + 'static,
) -> Response<Body> {
    let admin = admin.clone();
    match tokio::task::spawn_blocking(move || make(admin)).await {
        Ok(body) => typed(media_type, body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see tidegate's log\n"),
    }
}

fn typed(media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Adds headers that keep browsers from sniffing content types or sharing responses across origins.
fn with_security_headers(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(policy, HeaderValue::from_static("same-origin"));
    response
}

fn healthz(state: &ProxyState) -> String {
    let snapshot = state.snapshot();
    let states = snapshot.backend_states();
    let mut backends = Map::from_iter(BackendState::ALL.map(|state| {
        let count = states.values().filter(|other| **other == state).count();
        (state.as_str().to_owned(), count.into())
    }));
    backends.insert("total".to_owned(), states.len().into());
    let body = json!({
        "status": if !state.is_ready() { "draining" } else { "ok" },
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": state.uptime().as_secs(),
        "generation": snapshot.generation,
        "connections": state.concurrency.connections(),
        "tunnels": state.concurrency.tunnels(),
        "backends": backends,
    });
    format!("{body}\n")
}

const PATHS: &str = "\
    /status       the status page\n\
    /status.json  the data of the status page\n\
    /metrics      metrics for Prometheus (OpenMetrics)\n\
    /healthz      liveness and a summary\n\
    /readyz       whether new clients are accepted\n";
const MISDIRECTED: &str = "\
    this listener is on loopback and accepts only `localhost` or an IP address as the host, so \
    that web pages cannot read it through a browser (DNS rebinding)\n";
const DOCUMENTS_BUSY: &str =
    "too many clients are reading metrics or status, and do not finish; try again later\n";
const JSON: &str = "application/json";

const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
