//! The CA's HTTPS server (HTTP/1.1), with the faults of the script.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::api;
use super::problem::Problem;
use super::script::{Fault, Step};
use super::state::CaState;
use crate::support::{RawResponse, read_body, read_head};

/// A request to the CA.
pub struct CaRequest {
    /// `GET`, `HEAD` or `POST`.
    pub method: String,
    /// The path, from the slash on.
    pub path: String,
    /// The value of `Content-Type`, if there is one.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A response of the CA.
pub struct CaResponse {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl CaResponse {
    /// A response in JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::with_type(status, "application/json", body.to_string())
    }

    /// A response of this media type.
    pub fn with_type(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type", media_type.to_owned())];
        Self { status, headers, body: body.into() }
    }

    /// The response to a request that failed.
    pub fn problem(problem: &Problem) -> Self {
        let body = problem.json().to_string();
        let response = Self::with_type(problem.status, "application/problem+json", body);
        match &problem.retry_after {
            Some(value) => response.header("Retry-After", value),
            None => response,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn bytes(&self, without_body: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} -\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        let body = if without_body { &[][..] } else { &self.body };
        [head.as_bytes(), body].concat()
    }
}

/// Accepts connections until its task is aborted.
pub async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<CaState>) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        open.spawn(serve_connection(stream, acceptor.clone(), state.clone()));
        while open.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<CaState>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let mut stream = BufReader::new(stream);
    loop {
        let head = read_head(&mut stream).await;
        let mut words = head.split(' ');
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
        let (method, path) = (method.to_owned(), path.to_owned());
        let head = RawResponse { status: 0, head };
        let content_type = head.header("content-type").map(str::to_owned);
        let has_body = head.header("content-length").is_some();
        let body = if has_body { read_body(&mut stream, &head).await } else { Vec::new() };
        let request = CaRequest { method, path, content_type, body };
        let is_head = request.method == "HEAD";
        let Some((answer, is_complete)) = answer(&request, is_head, &state).await else { return };
        let sent = stream.write_all(&answer).await.is_ok() && stream.flush().await.is_ok();
        if !sent || !is_complete {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// The bytes of the answer, and whether they are all of it; `None` closes the connection.
async fn answer(
    request: &CaRequest,
    is_head: bool,
    state: &Arc<CaState>,
) -> Option<(Vec<u8>, bool)> {
    let Some(step) = api::step(request) else {
        let missing = CaResponse::problem(&Problem::new(404, "malformed", "no such resource"));
        return Some((missing.bytes(is_head), true));
    };
    let fault = state.reach(step);
    match &fault {
        Some(Fault::Disconnect) => return None,
        Some(Fault::Problem(problem)) => {
            let response = CaResponse::problem(problem);
            return Some((with_nonce(response, step, state).bytes(is_head), true));
        }
        _ => {}
    }
    let response = api::respond(step, request, state);
    let response = response.unwrap_or_else(|problem| CaResponse::problem(&problem));
    state.changed.notify_waiters();
    let bytes = with_nonce(response, step, state).bytes(is_head);
    match fault {
        Some(Fault::HalfAnswer) => Some((bytes[..bytes.len() / 2].to_vec(), false)),
        Some(Fault::Page(status)) => {
            let page = "<html><h1>Something went wrong</h1></html>";
            Some((CaResponse::with_type(status, "text/html", page).bytes(is_head), true))
        }
        Some(Fault::Hold(gatekeeper)) => {
            gatekeeper.pass().await;
            Some((bytes, true))
        }
        Some(Fault::Disconnect | Fault::Problem(_)) | None => Some((bytes, true)),
    }
}

/// Every response except to GET has a nonce (RFC 8555 6.5).
fn with_nonce(response: CaResponse, step: Step, state: &CaState) -> CaResponse {
    if matches!(step, Step::Directory | Step::RenewalInfo) {
        return response;
    }
    response.header("Replay-Nonce", state.new_nonce()).header("Cache-Control", "no-store")
}
