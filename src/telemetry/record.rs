//! Writes the access log records: one for each dropped connection, rejected request and ended tunnel,
//! with the initiator, the reason and the setting that decided; optionally one for each new tunnel.

use std::time::Duration;

use ws::{DirectionStats, Side, Stats, Summary, Violation};

use super::access_log::{records_starts, write_record};
use super::line::LogLine;
use super::redact::truncate;
use super::request_fields::RequestFields;
use crate::client::ClientInfo;
use crate::reject::RejectReason;
use crate::reject::drop_reason::DropReason;
use crate::reject::stage::ConnectionStage;

/// The configuration key that caused a rejection or an end, and its value.
#[derive(Clone, Debug, Default)]
pub struct DecidingSetting {
    /// The key as it appears in the configuration file.
    pub key: Option<&'static str>,
    /// The value in the notation of the configuration file.
    pub value: Option<String>,
}

/// A connection that ended before it had a complete request.
#[derive(Debug)]
pub struct DroppedConnection<'a> {
    /// The client, as far as it is known.
    pub client: &'a ClientInfo,
    /// Why the connection ended.
    pub reason: &'a DropReason,
    /// The host that a rejected head names, already redacted.
    pub host: Option<&'a str>,
    /// The target of a rejected head, already redacted.
    pub target: Option<&'a str>,
    /// The setting that caused the end.
    pub deciding: DecidingSetting,
    /// Time since the connection was accepted.
    pub age: Duration,
}

/// A request that was rejected, whose client left before the response, or whose response was aborted.
#[derive(Debug)]
pub struct RejectedRequest<'a> {
    /// The client that sent the request.
    pub client: &'a ClientInfo,
    /// Why the request was rejected.
    pub reason: &'a RejectReason,
    /// More details than the text of the reason, already redacted.
    pub detail: Option<&'a str>,
    /// Name of the route, if one matched.
    pub route: Option<&'a str>,
    /// Id of the backend, if a connection to one was established.
    pub backend: Option<&'a str>,
    /// Fields of the request, already redacted.
    pub fields: RequestFields<'a>,
    /// `Origin` header field, already redacted.
    pub origin: Option<&'a str>,
    /// The setting that caused the rejection.
    pub deciding: DecidingSetting,
    /// What was transferred before a response was aborted.
    pub progress: Option<ResponseProgress>,
    /// Whether a client that disconnected before the response is recorded at every log level.
    pub is_logged: bool,
    /// Time since the request head was complete.
    pub age: Duration,
    /// Number of the active configuration.
    pub generation: u64,
}

/// How far an exchange with a backend came after its response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseProgress {
    /// Bytes of the request body that the backend got, without its framing.
    pub up_bytes: u64,
    /// Bytes of the response body, without its framing.
    pub down_bytes: u64,
    /// Time from the complete request head to the complete response head.
    pub head: Duration,
}

/// The fields that the start record and the end record of a tunnel share.
#[derive(Debug)]
pub struct SessionStart<'a> {
    /// The client of the tunnel.
    pub client: &'a ClientInfo,
    /// Number of the session, counted from 1 in each process.
    pub session: u64,
    /// Name of the route, as configured.
    pub route: &'a str,
    /// Id of the backend in the pool of the route.
    pub backend: &'a str,
    /// Fields of the request, already redacted.
    pub fields: RequestFields<'a>,
    /// Time from the first attempt to connect to a backend to the 101 of that backend.
    pub backend_handshake: Duration,
    /// Number of the configuration that admitted the tunnel.
    pub generation: u64,
}

/// A tunnel that ended, with everything that its record shows.
#[derive(Debug)]
pub struct SessionEnd<'a> {
    /// The fields of its start.
    pub start: SessionStart<'a>,
    /// How it ended and what it relayed.
    pub summary: &'a Summary,
    /// Time from the 101 to the end.
    pub age: Duration,
}

/// Writes the record of a connection that ended before a complete request. A client that only
/// disconnected is recorded only if the log level is debug or lower.
pub fn record_drop(dropped: &DroppedConnection<'_>) {
    // Port scans and health checks connect and disconnect all day without sending a request, and browsers open
    // spare connections.
    let is_routine =
        matches!(dropped.reason, DropReason::ClientDisconnected(_) | DropReason::NoRequest);
    if !is_routine || is_debug() {
        write_record("dropped", |line| write_drop(line, dropped));
    }
}

/// Writes the record of a rejected request, including an upgrade that the backend rejected, or of an
/// aborted response. A client that disconnected before the response is recorded only if its requests are logged,
/// or if the log level is debug or lower.
pub fn record_reject(request: &RejectedRequest<'_>) {
    let is_aborted = matches!(request.reason, RejectReason::ResponseAborted(..));
    let event = if is_aborted { "aborted" } else { "rejected" };
    let is_routine = matches!(request.reason, RejectReason::ClientDisconnected);
    if !is_routine || request.is_logged || is_debug() {
        write_record(event, |line| write_reject(line, request));
    }
}

/// Writes the record of a new tunnel, if `access.start` is set.
pub fn record_start(session: &SessionStart<'_>) {
    if records_starts() {
        write_record("started", |line| write_start(line, session));
    }
}

/// Writes the record of a tunnel that ended.
pub fn record_end(session: &SessionEnd<'_>) {
    write_record("ended", |line| write_end(line, session));
}

fn is_debug() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

fn write_drop(line: &mut LogLine, dropped: &DroppedConnection<'_>) {
    let DroppedConnection { client, reason, host, target, deciding, age } = dropped;
    write_client(line, client);
    line.text("host", *host);
    line.text("target", *target);
    line.text("stage", reason.stage().as_str());
    line.text("end", reason.as_str());
    if let DropReason::HeadInvalid(head) = reason {
        line.number("status", head.status.map(|status| u64::from(status.as_u16())));
    }
    let detail = match reason {
        DropReason::TlsFailed(detail) => Some(truncate(detail)),
        DropReason::HeadInvalid(head) => Some(truncate(&head.detail)),
        DropReason::ProxyHeaderInvalid(detail) => Some((*detail).to_owned()),
        DropReason::AddressDenied(rule) => Some(rule.to_string()),
        DropReason::ClientLimit
        | DropReason::ProxyLimit
        | DropReason::ProxyHeaderUntrusted
        | DropReason::ProxyHeaderMissing
        | DropReason::ProxyHeaderTimeout
        | DropReason::TlsTimeout
        | DropReason::ClientDisconnected(_)
        | DropReason::NoRequest
        | DropReason::HeadTimeout
        | DropReason::WriteTimeout => None,
    };
    line.text("detail", detail.as_deref());
    write_deciding(line, deciding);
    line.number("age_ms", millis(*age));
}

fn write_reject(line: &mut LogLine, request: &RejectedRequest<'_>) {
    write_client(line, request.client);
    line.text("route", request.route);
    line.text("backend", request.backend);
    write_request_fields(line, &request.fields);
    line.text("origin", request.origin);
    line.text("stage", request.reason.stage().as_str());
    line.text("end", request.reason.as_str());
    line.number("status", u64::from(request.reason.status().as_u16()));
    match request.detail {
        Some(detail) => line.text("detail", detail),
        None => line.show("detail", request.reason),
    }
    write_deciding(line, &request.deciding);
    if let Some(progress) = &request.progress {
        write_response(line, progress);
    }
    line.number("age_ms", millis(request.age));
    line.number("generation", request.generation);
}

fn write_start(line: &mut LogLine, session: &SessionStart<'_>) {
    line.number("session", session.session);
    write_client(line, session.client);
    line.text("route", session.route);
    line.text("backend", session.backend);
    write_request_fields(line, &session.fields);
    line.text("protocol", "http/1.1");
    line.number("backend_handshake_ms", millis(session.backend_handshake));
    line.number("generation", session.generation);
}

fn write_end(line: &mut LogLine, ended: &SessionEnd<'_>) {
    write_start(line, &ended.start);
    line.text("stage", ConnectionStage::Tunnel.as_str());
    let Summary { reason, value, size, stats, close_codes, sides } = ended.summary;
    line.text("end", reason.as_str());
    line.text("by", reason.initiator());
    line.text("key", reason.key());
    line.text("value", value.as_deref());
    line.number("size", *size);
    line.number("close_client", close_codes.to_client.map(u64::from));
    line.number("close_backend", close_codes.to_backend.map(u64::from));
    let Stats { up, down } = stats;
    write_both(line, ["up_bytes", "down_bytes"], [up, down], |flow| flow.bytes);
    write_both(line, ["up_messages", "down_messages"], [up, down], |flow| flow.messages);
    write_both(line, ["up_compressed", "down_compressed"], [up, down], |flow| flow.compressed);
    write_both(line, ["up_largest", "down_largest"], [up, down], |flow| flow.largest);
    line.millis("client_rtt_ms", sides.client.rtt.map(|rtt| rtt.last));
    line.millis("client_rtt_max_ms", sides.client.rtt.map(|rtt| rtt.max));
    line.millis("backend_rtt_ms", sides.backend.rtt.map(|rtt| rtt.last));
    line.millis("backend_rtt_max_ms", sides.backend.rtt.map(|rtt| rtt.max));
    for (keys, side) in [
        (["would_close_client", "would_close_client_size"], sides.client),
        (["would_close_backend", "would_close_backend_size"], sides.backend),
    ] {
        line.list(keys[0], labels(side.reported.iter()));
        line.number(keys[1], side.reported_size);
    }
    for (keys, side) in [
        (["delayed_client_ms", "delayed_client_by"], Side::Client),
        (["delayed_backend_ms", "delayed_backend_by"], Side::Backend),
    ] {
        let delays = sides[side].delays;
        line.number(keys[0], Some(millis(delays.time)).filter(|time| *time > 0));
        line.list(keys[1], labels(delays.by.iter()));
    }
    line.number("age_ms", millis(ended.age));
}

fn write_client(line: &mut LogLine, client: &ClientInfo) {
    line.show("client", client.addr);
    line.show("client_key", client.key);
    if let Some(peer) = &client.peer {
        line.show("peer", peer);
    }
    line.text("client_source", client.addr_source.label());
    line.text("listener", &*client.listener);
    if let Some(tls) = &client.tls {
        line.text("tls_version", tls.version.as_str());
        line.text("tls_cipher", tls.cipher);
        line.text("sni", tls.sni.as_deref().map(truncate).as_deref());
    }
}

fn write_request_fields(line: &mut LogLine, fields: &RequestFields<'_>) {
    line.text("host", fields.host);
    line.text("target", fields.target);
    line.text("user_agent", fields.user_agent);
    line.text("request_id", fields.request_id);
    line.text("traceparent", fields.traceparent);
    line.text("subprotocol", fields.subprotocol);
    line.text("forwarded_invalid", fields.forwarded_invalid);
    line.text("would_reject", fields.would_reject);
    line.text("dropped_headers", fields.dropped_headers);
}

fn write_deciding(line: &mut LogLine, deciding: &DecidingSetting) {
    line.text("key", deciding.key);
    line.text("value", deciding.value.as_deref());
}

fn write_response(line: &mut LogLine, progress: &ResponseProgress) {
    line.number("up_bytes", progress.up_bytes);
    line.number("down_bytes", progress.down_bytes);
    line.number("response_header_ms", millis(progress.head));
}

fn write_both(
    line: &mut LogLine,
    keys: [&str; 2],
    flows: [&DirectionStats; 2],
    of: impl Fn(&DirectionStats) -> u64,
) {
    for (key, flow) in keys.into_iter().zip(flows) {
        line.number(key, of(flow));
    }
}

/// The names of violations, each once: several protocol errors share a name.
fn labels(violations: impl Iterator<Item = Violation>) -> Vec<&'static str> {
    let mut labels: Vec<_> = violations.map(Violation::as_str).collect();
    labels.dedup();
    labels
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub mod served;
#[cfg(test)]
mod tests;
