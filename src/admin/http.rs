//! Read-only HTTP for the operator, on loopback unless told otherwise: health, metrics, status.

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
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use super::status::watch::StatusCache;
use super::status::{self, page};
use crate::downstream::response::{Body, text};
use crate::listener::socket::{AcceptEvent, Listener};
use crate::net::network::{Net, SystemNet};
use crate::net::socket::Socket;
use crate::proxy::state::ProxyState;
use crate::sys::clock::{now, wall};
use crate::telemetry::metrics::scrape::CONTENT_TYPE as OPENMETRICS;

/// What the handlers read.
#[derive(Clone)]
struct Admin {
    state: Arc<ProxyState>,
    status: Arc<StatusCache>,
}

/// Answers requests until the future is dropped.
pub fn serve(
    state: Arc<ProxyState>,
    status: Arc<StatusCache>,
    listener: Listener,
) -> impl Future<Output = ()> + Send {
    let admin = Admin { state, status };
    info!(address = %listener.local_addr(), "admin listening");
    // Whoever may come from elsewhere needs no page to read this for him.
    let any_host = !listener.local_addr().ip().is_loopback();
    async move {
        let mut open = JoinSet::new();
        let each = |event| match event {
            AcceptEvent::Connection(accepted) => {
                while open.try_join_next().is_some() {}
                // Operators and scrapers are few; whoever comes beyond that waits elsewhere.
                if open.len() < CONNECTIONS_MAX {
                    open.spawn(converse(admin.clone(), accepted.io, any_host));
                }
            }
            AcceptEvent::Paused(error, _) => warn!(%error, "admin: accepting pauses"),
        };
        let net: &dyn Net = &SystemNet;
        listener.run(|| net.random_f64(), each).await;
    }
}

async fn converse(admin: Admin, io: Socket, any_host: bool) {
    let service = service_fn(|request: Request<Incoming>| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(sealed(answer(&admin, &request, any_host).await)) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_MAX)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(io), service);
    // A visitor who breaks off has nothing to be told.
    let _ = timeout(CONNECTION_MAX, serving).await;
}

async fn answer(admin: &Admin, request: &Request<Incoming>, any_host: bool) -> Response<Body> {
    let path = request.uri().path();
    // Load balancers ask by whatever name, and learn one word.
    if !any_host && path != "/readyz" && !is_for_us(request) {
        return text(StatusCode::MISDIRECTED_REQUEST, MISDIRECTED);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        // RFC 9110 15.5.6
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/healthz" => typed(JSON, healthz(&admin.state)),
        "/readyz" if ready(&admin.state) => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "unready\n"),
        "/metrics" => {
            let scrape =
                |admin: Admin| admin.state.metrics.scrape(status::house(&admin.state)).into();
            made(admin, OPENMETRICS, scrape).await
        }
        "/status.json" => made(admin, JSON, |admin| admin.status.body(&admin.state)).await,
        "/status" => page::reply(),
        _ => text(StatusCode::NOT_FOUND, PATHS),
    }
}

/// Whether a browser that asks was told by its user to ask here. A page of another origin may have
/// its name point to this address (DNS rebinding), but it cannot choose what `Host` says.
fn is_for_us(request: &Request<Incoming>) -> bool {
    let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let headers = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    // Without any it is no browser.
    headers.chain(named).all(is_own_name)
}

/// An IP address, which nobody else can have pointed here, or the one name that is always ours.
fn is_own_name(authority: &[u8]) -> bool {
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

/// What takes its time is made beside the workers, who have tunnels to serve.
async fn made(
    admin: &Admin,
    media_type: &'static str,
    make: impl FnOnce(Admin) -> Bytes + Send + 'static,
) -> Response<Body> {
    let admin = admin.clone();
    match tokio::task::spawn_blocking(move || make(admin)).await {
        Ok(body) => typed(media_type, body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "no answer; the journal says why\n"),
    }
}

fn typed(media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// For browsers: what is said here is nobody else's, and is what it says it is.
fn sealed(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(policy, HeaderValue::from_static("same-origin"));
    response
}

/// New clients are wanted, would take a certificate, and some backend may take them.
fn ready(gate: &ProxyState) -> bool {
    let generation = gate.snapshot();
    gate.is_wanted() && !generation.has_expired(wall()) && generation.backends(now()).0 > 0
}

fn healthz(gate: &ProxyState) -> String {
    let generation = gate.snapshot();
    let (up, total) = generation.backends(now());
    let body = json!({
        "status": if !gate.is_wanted() { "draining" } else { "ok" },
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": gate.uptime().as_secs(),
        "generation": generation.number,
        "connections": gate.occupancy.connections(),
        "tunnels": gate.occupancy.tunnels(),
        "backends": { "up": up, "total": total },
    });
    format!("{body}\n")
}

const PATHS: &str = "\
    /status       the page\n\
    /status.json  what it shows\n\
    /metrics      for Prometheus (OpenMetrics)\n\
    /healthz      how it is\n\
    /readyz       whether it takes new clients\n";
const MISDIRECTED: &str = "\
    on loopback this listener answers to `localhost` and to IP addresses alone, so that no \
    page from elsewhere can read it through a visitor's browser\n";
const JSON: &str = "application/json";

const CONNECTIONS_MAX: usize = 32;
const REQUEST_MAX: Duration = Duration::from_secs(2);
const CONNECTION_MAX: Duration = Duration::from_secs(60);
