//! Collects the fields of a request's record while the request is handled. The record of a rejected
//! request is written by [`RequestLog::finish`], that of a response by [`RequestLog::served`] or
//! [`RequestLog::aborted`]; if the client disconnects before there is a response, the record is written when the log is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::HeaderName;
use hyper::{HeaderMap, Request, StatusCode};

use super::deciding_setting;
use super::route::Route;
use super::route_match::Unrouted;
use super::sent_fields::SentFields;
use super::snapshot::Snapshot;
use crate::config::values::hash_source::HashSource;
use crate::http::forwarded::{Forwarded, InvalidForwarded};
use crate::reject::RejectReason;
use crate::reject::abort::AbortCause;
use crate::sessions::connection::Connection;
use crate::sys::clock::now;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::chosen_by::ChosenBy;
use crate::telemetry::record::served::{ServedRequest, record_served};
use crate::telemetry::record::{DecidingSetting, RejectedRequest, ResponseProgress, record_reject};
use crate::telemetry::redact::{authority, origin, subprotocol, target, truncate};
use crate::telemetry::request_fields::{PackedFields, RequestFields};
use crate::upstream::choice::load::LoadGuard;
use crate::upstream::choice::rendezvous::KeyHash;
use crate::upstream::connect_error::ConnectError;
use crate::upstream::negotiate::SelectedSubprotocol;
use crate::upstream::pool::Backend;
use crate::upstream::pool::choosing::ChoiceRequest;

/// The fields of a request's record. Route and backend are set as soon as they are known, so that the
/// record of a cancelled request contains them.
#[derive(Debug)]
pub struct RequestLog {
    connection: Arc<Connection>,
    route: Option<Arc<Route>>,
    backend: Option<Arc<Backend>>,
    choice: Option<ChoiceRequest>,
    chosen_by: Option<ChosenBy>,
    /// Counts the request at its backend.
    load: Option<LoadGuard>,
    sent: SentFields,
    forwarded_invalid: Option<Box<str>>,
    dropped_headers: Option<Box<str>>,
    detail: Option<Box<str>>,
    /// When the backend had accepted the connection, or had kept it since another request.
    connected: Option<Instant>,
    redact: Arc<[String]>,
    /// Generation of the snapshot that handles the request.
    pub generation: u64,
    /// When the head was complete.
    pub started: Instant,
    metrics: Arc<Metrics>,
    /// Whether the record is written if the request succeeds or the client cancels it.
    is_logged: bool,
    is_plain: bool,
    pending: bool,
}

impl RequestLog {
    /// Starts a record with the fields of the head. `request_id` identifies the request in records and to the
    /// backend (`X-Request-ID`).
    pub fn start<B>(
        connection: Arc<Connection>,
        snapshot: &Snapshot,
        request: &Request<B>,
        forwarded: &Forwarded,
        request_id: &str,
    ) -> Self {
        Self {
            connection,
            route: None,
            backend: None,
            choice: None,
            chosen_by: None,
            load: None,
            sent: SentFields::copy(request, request_id),
            forwarded_invalid: named_invalid(forwarded, &snapshot.settings.log.redact),
            dropped_headers: None,
            detail: None,
            connected: None,
            redact: snapshot.settings.log.redact.clone(),
            generation: snapshot.generation,
            started: now(),
            metrics: snapshot.metrics.clone(),
            is_logged: false,
            is_plain: false,
            pending: true,
        }
    }

    /// The fields of the request with secrets redacted, for a tunnel. `selected` is the negotiated subprotocol.
    pub fn packed_fields(&self, selected: Option<&SelectedSubprotocol>) -> PackedFields {
        self.with_redacted(selected, |fields| fields.pack())
    }

    /// Calls `with` with the fields of the request, in which secrets are redacted.
    fn with_redacted<T>(
        &self,
        selected: Option<&SelectedSubprotocol>,
        with: impl FnOnce(RequestFields<'_>) -> T,
    ) -> T {
        let user_agent = target(self.sent.user_agent(), &self.redact);
        let subprotocol = selected.map(|selected| subprotocol(&selected.name, &self.redact));
        let sent = |text| Some(text).filter(|text: &&str| !text.is_empty());
        with(RequestFields {
            host: &authority(self.sent.host()),
            target: &target(self.sent.target(), &self.redact),
            user_agent: sent(&user_agent),
            request_id: sent(&truncate(self.sent.request_id())),
            traceparent: sent(self.sent.traceparent()),
            subprotocol: subprotocol.as_deref(),
            forwarded_invalid: self.forwarded_invalid.as_deref(),
            would_reject: selected.and_then(|selected| selected.reported),
            dropped_headers: self.dropped_headers.as_deref(),
            choice: self.shown_choice(),
        })
    }

    /// Adds the route of the request.
    pub fn set_route(&mut self, route: &Arc<Route>) {
        self.route = Some(route.clone());
    }

    /// Has a plain request recorded even if it succeeds, unless the route leaves out this one.
    pub fn set_plain(&mut self, route: &Route) {
        self.is_plain = true;
        self.is_logged = route.logs_next_request();
    }

    /// The route of the request, if one matched.
    pub fn route(&self) -> Option<&Arc<Route>> {
        self.route.as_ref()
    }

    /// Adds why the backend is tried first. `load` counts the request there, so that others see it while it is
    /// connected.
    pub fn set_choice(
        &mut self,
        request: ChoiceRequest,
        chosen_by: ChosenBy,
        load: Option<LoadGuard>,
    ) {
        if let Some(route) = &self.route {
            route.counts.backend_chosen(chosen_by);
        }
        (self.choice, self.chosen_by, self.load) = (Some(request), Some(chosen_by), load);
    }

    /// Replaces what counts the request, if another backend than the first one accepted the connection of a tunnel.
    pub fn set_load(&mut self, load: Option<LoadGuard>) {
        if load.is_some() {
            self.load = load;
        }
    }

    /// Why the first backend was the first; `None` also if the hash of the client decided, as by default.
    fn shown_choice(&self) -> Option<&'static str> {
        let (chosen_by, route) = (self.chosen_by?, self.route.as_ref()?);
        let is_default =
            chosen_by == ChosenBy::Hash && route.pool.settings().hash == HashSource::Client;
        (!is_default).then(|| chosen_by.as_str())
    }

    /// Adds the backend that accepted the connection.
    pub fn set_backend(&mut self, backend: &Arc<Backend>) {
        if let (Some(route), Some(choice), Some(load)) = (&self.route, &self.choice, &self.load)
            && !load.is_of(&backend.load)
        {
            self.load = route.pool.enter(backend, choice.key);
        }
        self.backend = Some(backend.clone());
        self.connected = Some(now());
    }

    /// Adds the pin cookie of the backend that answered to its response, if the client needs it.
    pub fn issue_pin(&self, response: &mut HeaderMap) {
        if let (Some(route), Some(backend), Some(choice)) =
            (&self.route, &self.backend, &self.choice)
        {
            route.pool.issue_pin(choice, backend, response);
        }
    }

    /// The hash of the key by which the backend is chosen; the client's before that.
    pub fn choice_key(&self) -> KeyHash {
        let client = self.connection.client.key;
        self.choice.as_ref().map_or_else(|| KeyHash::of_client(client), |choice| choice.key.hash)
    }

    /// What counts the request at its backend, for the tunnel that it opens.
    pub fn take_load(&mut self) -> Option<LoadGuard> {
        self.load.take()
    }

    /// Adds the names of headers that were not forwarded because of an underscore.
    pub fn set_dropped_headers(&mut self, names: &[&HeaderName]) {
        if !names.is_empty() {
            let shown = names.iter().take(DROPPED_NAMES_MAX);
            let mut shown: Vec<String> =
                shown.map(|name| truncate(&shorten(name.as_str())).into_owned()).collect();
            if let more @ 1.. = names.len().saturating_sub(DROPPED_NAMES_MAX) {
                shown.push(format!("{more} more"));
            }
            self.dropped_headers = Some(shown.join(", ").into());
        }
    }

    /// Replaces the text of a reason to reject the request by a more detailed one. It must not contain
    /// unredacted text of the client.
    pub fn set_detail(&mut self, detail: String) {
        self.detail = Some(detail.into());
    }

    /// Adds why the request has no route. Returns the reason to reject it.
    pub fn set_unrouted(&mut self, unrouted: Unrouted) -> RejectReason {
        self.detail = unrouted.detail.map(Into::into);
        unrouted.reason
    }

    /// Adds why no backend accepted a connection. Returns the reason to reject the request.
    pub fn set_connect_error(&mut self, failed: &ConnectError) -> RejectReason {
        self.set_detail(truncate(&failed.detail).into_owned());
        failed.reason
    }

    /// Writes the record if the request was rejected. A tunnel has records of its own.
    pub fn finish(mut self, rejected: Option<RejectReason>, snapshot: &Snapshot) {
        self.pending = false;
        if let Some(reason) = rejected {
            let setting = deciding_setting::of_rejection(&reason, snapshot, self.route.as_deref());
            self.record(&reason, setting, None);
            if let (Some(route), true) = (&self.route, self.is_plain) {
                route.counts.request_answered(reason.status(), now().duration_since(self.started));
            }
        }
    }

    /// Counts a plain request that the backend answered, and writes its record. `is_complete` is whether the
    /// client got all of the response, as far as it can be known.
    pub fn served(mut self, status: StatusCode, is_complete: bool, progress: ResponseProgress) {
        self.pending = false;
        let (Some(route), Some(backend)) = (&self.route, &self.backend) else { return };
        let age = now().duration_since(self.started);
        route.counts.request_answered(status, age);
        if self.is_logged {
            self.with_redacted(None, |fields| {
                record_served(&ServedRequest {
                    client: &self.connection.client,
                    route: &route.name,
                    backend: &backend.id,
                    fields,
                    status,
                    is_complete,
                    progress,
                    age,
                    generation: self.generation,
                });
            });
        }
    }

    /// Writes the record of a response that was aborted after its head, with this status, had been sent.
    pub fn aborted(mut self, status: StatusCode, cause: AbortCause, progress: ResponseProgress) {
        self.pending = false;
        let setting = deciding_setting::of_abort(cause, self.route.as_deref());
        self.record(&RejectReason::ResponseAborted(status, cause), setting, Some(progress));
    }

    /// For a client that left: how long its backend had not responded. After a handshake it counts as a failure of the
    /// backend if that was long, since most clients of a backend that hangs do not wait for `timeouts.response_header`. How
    /// long a plain request takes is up to the application (long polls).
    fn note_silent_backend(&mut self) {
        let Some(connected) = self.connected else { return };
        let waited = now().duration_since(connected);
        self.set_detail(format!(
            "the client disconnected after the backend had not responded for {:.1} s",
            waited.as_secs_f64()
        ));
        if let (Some(route), Some(backend), false) = (&self.route, &self.backend, self.is_plain)
            && waited >= SILENT_MIN
        {
            self.is_logged = true;
            route.pool.record_silence(backend, self.connection.client.key, waited);
        }
    }

    fn record(
        &self,
        reason: &RejectReason,
        setting: DecidingSetting,
        progress: Option<ResponseProgress>,
    ) {
        self.metrics.rejected(reason);
        let origin = self.sent.origin().map(|sent| origin(sent, &self.redact));
        self.with_redacted(None, |fields| {
            record_reject(&RejectedRequest {
                client: &self.connection.client,
                reason,
                detail: self.detail.as_deref(),
                route: self.route.as_ref().map(|route| &*route.name),
                backend: self.backend.as_ref().map(|backend| &*backend.id),
                fields,
                origin: origin.as_deref(),
                deciding: setting,
                progress,
                is_logged: self.is_logged,
                age: now().duration_since(self.started),
                generation: self.generation,
            });
        });
    }
}

/// The first bytes of a header name, which is ASCII.
fn shorten(name: &str) -> String {
    name.chars().take(DROPPED_NAME_BYTES_MAX).collect()
}

/// What trusted proxies sent that could not be understood, as text; none in most requests.
fn named_invalid(forwarded: &Forwarded, redact: &[String]) -> Option<Box<str>> {
    if forwarded.invalid.is_empty() {
        return None;
    }
    let shown = |invalid: &InvalidForwarded| {
        let value = origin(&invalid.value, redact).into();
        InvalidForwarded { value, ..*invalid }.to_string()
    };
    let named: Vec<String> = forwarded.invalid.iter().map(shown).collect();
    Some(named.join("; ").into())
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        if self.pending {
            self.note_silent_backend();
            self.record(&RejectReason::ClientDisconnected, DecidingSetting::default(), None);
        }
    }
}

/// From when on a backend counts as failed that does not respond to a handshake whose client leaves. Less than the 10 s that
/// clients commonly wait (Node's `ws` if told to, Python's `websockets`), and more than an upgrade takes anywhere.
const SILENT_MIN: Duration = Duration::from_secs(5);
/// Maximum names of dropped headers in a record.
const DROPPED_NAMES_MAX: usize = 8;
/// Maximum bytes of each.
const DROPPED_NAME_BYTES_MAX: usize = 40;
