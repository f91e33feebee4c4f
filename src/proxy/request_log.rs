//! One request on its way to an answer, so that each gets its record: also the one whose client
//! left while a backend was asked.

use std::sync::Arc;
use std::time::Instant;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{HOST, ORIGIN, USER_AGENT};

use super::deciding_setting;
use super::snapshot::{Route, Snapshot};
use crate::reject::RejectReason;
use crate::sessions::connection::Connection;
use crate::sys::clock::now;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::record::{DecidingSetting, RejectedRequest, refused};
use crate::telemetry::redact::{authority, cut, origin, subprotocol, target, traceparent};
use crate::telemetry::request_fields::{PackedFields, RequestFields};
use crate::upstream::pool::Backend;

/// What a record of a request will say. Dropped without a word, it says that the client left.
#[derive(Debug)]
pub struct RequestLog {
    connection: Arc<Connection>,
    route: Option<Arc<Route>>,
    backend: Option<Arc<Backend>>,
    host: Box<str>,
    target: Box<str>,
    origin: Option<Box<str>>,
    user_agent: Option<Box<str>>,
    traceparent: Option<Box<str>>,
    redact: Arc<[String]>,
    /// What the request is known by, here and at the backend.
    pub request_id: Box<str>,
    /// Number of the configuration that judges it.
    pub generation: u64,
    /// When its head was whole.
    pub began: Instant,
    metrics: Arc<Metrics>,
    open: bool,
}

impl RequestLog {
    /// Copies what the record will need: a value kept from the head itself would hold on to
    /// hyper's read buffer.
    pub fn begin(
        connection: Arc<Connection>,
        generation: &Snapshot,
        request: &Request<Incoming>,
        request_id: Box<str>,
        began: Instant,
    ) -> Self {
        let text = |name| request.headers().get(name).map(|v| first(v.as_bytes()));
        let target = request.uri().path_and_query().map(|target| target.as_str());
        let named = request.uri().authority().map(|authority| first(authority.as_str().as_bytes()));
        Self {
            connection,
            route: None,
            backend: None,
            host: named.or_else(|| text(HOST)).unwrap_or_default(),
            target: first(target.unwrap_or_default().as_bytes()),
            origin: text(ORIGIN),
            user_agent: text(USER_AGENT),
            traceparent: trace(request),
            redact: generation.settings.log.redact.clone(),
            request_id,
            generation: generation.number,
            began,
            metrics: generation.metrics.clone(),
            open: true,
        }
    }

    /// What the request said of itself, as a record may show it; the backend chose the
    /// subprotocol.
    pub fn shown(&self, chosen: Option<&str>) -> PackedFields {
        let hidden = |raw: &str| target(raw, &self.redact);
        let chosen = chosen.map(|raw| subprotocol(raw, &self.redact));
        RequestFields {
            host: &authority(&self.host),
            target: &target(&self.target, &self.redact),
            user_agent: self.user_agent.as_deref().map(hidden).as_deref(),
            request_id: Some(&cut(&self.request_id)),
            traceparent: self.traceparent.as_deref(),
            subprotocol: chosen.as_deref(),
        }
        .pack()
    }

    /// The route is known.
    pub fn on(&mut self, route: &Arc<Route>) {
        self.route = Some(route.clone());
    }

    /// A backend took the connection.
    pub fn at(&mut self, backend: &Arc<Backend>) {
        self.backend = Some(backend.clone());
    }

    /// It got what it asked for: no record now.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// It was refused: the record.
    pub fn refuse(&mut self, refusal: RejectReason, generation: &Snapshot) {
        let deciding = deciding_setting::of_refusal(&refusal, generation, self.route.as_deref());
        self.record(&refusal, deciding);
    }

    fn record(&mut self, refusal: &RejectReason, deciding: DecidingSetting) {
        self.open = false;
        self.metrics.refused(refusal);
        let shown = self.shown(None);
        let origin = self.origin.as_ref().map(|sent| origin(sent, &self.redact));
        refused(&RejectedRequest {
            visitor: &self.connection.visitor,
            refusal,
            route: self.route.as_ref().map(|route| &*route.name),
            backend: self.backend.as_ref().map(|backend| &*backend.id),
            particulars: shown.particulars(),
            origin: origin.as_deref(),
            deciding,
            age: now().duration_since(self.began),
            generation: self.generation,
        });
    }
}

/// A copy of the first [`KEPT_MAX`] bytes, made fit for a record only if there is to be one.
fn first(raw: &[u8]) -> Box<str> {
    String::from_utf8_lossy(&raw[..raw.len().min(KEPT_MAX)]).into()
}

/// Of several, nobody knows which one counts.
fn trace(request: &Request<Incoming>) -> Option<Box<str>> {
    let mut lines = request.headers().get_all("traceparent").iter();
    let only = lines.next().filter(|_| lines.next().is_none())?;
    traceparent(only.as_bytes()).map(Into::into)
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        if self.open {
            self.record(&RejectReason::ClientGone, DecidingSetting::default());
        }
    }
}

/// More than a record shows, so that what is hidden makes room for what follows.
const KEPT_MAX: usize = 512;
