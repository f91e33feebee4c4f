//! What the record of a request needs, collected while the request is handled. A rejected request gets
//! its record from [`RequestLog::finish`]; one whose client leaves while a backend is asked gets it
//! when the log is dropped.

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
use crate::telemetry::record::{DecidingSetting, RejectedRequest, record_reject};
use crate::telemetry::redact::{authority, origin, subprotocol, target, traceparent, truncate};
use crate::telemetry::request_fields::{PackedFields, RequestFields};
use crate::upstream::pool::Backend;

/// The fields of a request's record. Route and backend are added as they become known, so that the
/// record of a request that is cancelled has them, too.
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
    /// Identifies the request in records and at the backend.
    pub request_id: Box<str>,
    /// Generation of the snapshot that handles the request.
    pub generation: u64,
    /// When the head was complete.
    pub began: Instant,
    metrics: Arc<Metrics>,
    pending: bool,
}

impl RequestLog {
    /// Copies the fields: a value of the head itself would keep hyper's read buffer alive.
    pub fn begin(
        connection: Arc<Connection>,
        snapshot: &Snapshot,
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
            redact: snapshot.settings.log.redact.clone(),
            request_id,
            generation: snapshot.number,
            began,
            metrics: snapshot.metrics.clone(),
            pending: true,
        }
    }

    /// The fields of the request with secrets redacted; `chosen` is the backend's subprotocol.
    pub fn redacted(&self, chosen: Option<&str>) -> PackedFields {
        let hidden = |raw: &str| target(raw, &self.redact);
        let chosen = chosen.map(|raw| subprotocol(raw, &self.redact));
        RequestFields {
            host: &authority(&self.host),
            target: &target(&self.target, &self.redact),
            user_agent: self.user_agent.as_deref().map(hidden).as_deref(),
            request_id: Some(&truncate(&self.request_id)),
            traceparent: self.traceparent.as_deref(),
            subprotocol: chosen.as_deref(),
        }
        .pack()
    }

    /// Sets the route of the request.
    pub fn on_route(&mut self, route: &Arc<Route>) {
        self.route = Some(route.clone());
    }

    /// Sets the backend that accepted the connection.
    pub fn at_backend(&mut self, backend: &Arc<Backend>) {
        self.backend = Some(backend.clone());
    }

    /// Writes the record if the request was rejected. A request that got what it asked for has none.
    pub fn finish(mut self, rejected: Option<RejectReason>, snapshot: &Snapshot) {
        self.pending = false;
        if let Some(reason) = rejected {
            let setting = deciding_setting::of_rejection(&reason, snapshot, self.route.as_deref());
            self.record(&reason, setting);
        }
    }

    fn record(&self, reason: &RejectReason, setting: DecidingSetting) {
        self.metrics.rejected(reason);
        let shown = self.redacted(None);
        let origin = self.origin.as_ref().map(|sent| origin(sent, &self.redact));
        record_reject(&RejectedRequest {
            client: &self.connection.client,
            reason,
            route: self.route.as_ref().map(|route| &*route.name),
            backend: self.backend.as_ref().map(|backend| &*backend.id),
            fields: shown.unpack(),
            origin: origin.as_deref(),
            deciding: setting,
            age: now().duration_since(self.began),
            generation: self.generation,
        });
    }
}

/// Copies the first [`KEPT_MAX`] bytes; they are redacted only when a record is written.
fn first(raw: &[u8]) -> Box<str> {
    String::from_utf8_lossy(&raw[..raw.len().min(KEPT_MAX)]).into()
}

/// None of several lines is used: it is unknown which one counts.
fn trace(request: &Request<Incoming>) -> Option<Box<str>> {
    let mut lines = request.headers().get_all("traceparent").iter();
    let only = lines.next().filter(|_| lines.next().is_none())?;
    traceparent(only.as_bytes()).map(Into::into)
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        if self.pending {
            self.record(&RejectReason::ClientDisconnected, DecidingSetting::default());
        }
    }
}

/// Bytes; more than a record shows, since redaction shortens a value.
const KEPT_MAX: usize = 512;
