//! Read-only HTTP for the operator, on loopback unless told otherwise: `/healthz`, `/readyz`.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use super::chance::fraction;
use super::gate::{Gate, now};
use crate::accept::{BindFault, Event, Listener};
use crate::admit::{Body, text};

/// Binds now; the future answers until it is dropped.
pub fn bind(
    gate: Arc<Gate>,
    address: SocketAddr,
) -> Result<impl Future<Output = ()> + Send, BindFault> {
    let listener = Listener::bind(address)?;
    info!(address = %listener.local(), "admin listening");
    Ok(async move {
        let mut open = JoinSet::new();
        let each = |event| match event {
            Event::Connection(accepted) => {
                while open.try_join_next().is_some() {}
                // Operators and scrapers are few; whoever comes beyond that waits elsewhere.
                if open.len() < CONNECTIONS_MAX {
                    open.spawn(converse(gate.clone(), accepted.io));
                }
            }
            Event::Paused(error, _) => warn!(%error, "admin: accepting pauses"),
        };
        listener.run(fraction, each).await;
    })
}

async fn converse(gate: Arc<Gate>, io: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| {
        let gate = gate.clone();
        async move { Ok::<_, Infallible>(answer(&gate, &request)) }
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

fn answer(gate: &Gate, request: &Request<Incoming>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        // RFC 9110 15.5.6
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/healthz" => healthz(gate),
        "/readyz" if ready(gate) => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "unready\n"),
        _ => text(StatusCode::NOT_FOUND, "try /healthz or /readyz\n"),
    }
}

/// New clients are wanted, and some backend may take them.
fn ready(gate: &Gate) -> bool {
    !gate.is_draining() && gate.generation().backends(now()).0 > 0
}

fn healthz(gate: &Gate) -> Response<Body> {
    let generation = gate.generation();
    let (up, total) = generation.backends(now());
    let body = json!({
        "status": if gate.is_draining() { "draining" } else { "ok" },
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": gate.uptime().as_secs(),
        "generation": generation.number,
        "connections": gate.occupancy.connections(),
        "tunnels": gate.occupancy.tunnels(),
        "backends": { "up": up, "total": total },
    });
    let mut response = text(StatusCode::OK, format!("{body}\n"));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

const CONNECTIONS_MAX: usize = 32;
const REQUEST_MAX: Duration = Duration::from_secs(2);
const CONNECTION_MAX: Duration = Duration::from_secs(60);
