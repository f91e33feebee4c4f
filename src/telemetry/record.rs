//! Writes the access log records: one for each dropped connection, rejected request and ended tunnel,
//! with the initiator, the reason and the setting that decided; optionally one for each new tunnel.
//!
//! Fields have the order of the table in `docs/records.md`, which a test compares: what ended and why,
//! the setting, status and close codes; then what it was about; then figures; then the connection. In text, a
//! refusal is brief: it has no TLS parameters and no fields of the request that only repeat or identify.

use std::time::Duration;

use ws::{DirectionStats, Side, Stats, Summary, Violation};

use super::access_log::{records_starts, write_record};
use super::line::LogLine;
use super::record_rate::RecordKind;
use super::redact::truncate;
use super::request_fields::RequestFields;
use crate::client::{ClientInfo, HttpProtocol};
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
    /// The address that it was opened to, if the backend is a name.
    pub backend_address: Option<&'a str>,
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

/// Writes the record of a connection that ended before a request; a mere disconnection only at debug level.
pub fn record_drop(dropped: &DroppedConnection<'_>) {
    // Port scans, health checks and spare connections of browsers end all day without a request.
    let is_routine =
        matches!(dropped.reason, DropReason::ClientDisconnected(_) | DropReason::NoRequest);
    if !is_routine || is_debug() {
        let kind = kind(dropped.client, "dropped", dropped.reason.as_str());
        write_record(kind, |line| write_drop(line, dropped));
    }
}

/// Writes the record of a request that was rejected, also by the backend, or redirected, or whose response was aborted. If the
/// client disconnected before the response, only if its requests are logged or at debug level; a redirect only at debug level.
pub fn record_reject(request: &RejectedRequest<'_>) {
    let is_redirect = matches!(request.reason, RejectReason::Redirected(_));
    let event = match is_redirect {
        true => "redirected",
        false if matches!(request.reason, RejectReason::ResponseAborted(..)) => "aborted",
        false => "rejected",
    };
    let is_routine = is_redirect || matches!(request.reason, RejectReason::ClientDisconnected);
    if !is_routine || request.is_logged || is_debug() {
        let kind = kind(request.client, event, request.reason.as_str());
        write_record(kind, |line| write_reject(line, request));
    }
}

/// Writes the record of a new tunnel, if `access.start` is set.
pub fn record_start<'s>(session: impl FnOnce() -> SessionStart<'s>) {
    if records_starts() {
        let start = session();
        write_record(kind(start.client, "started", ""), |line| write_start(line, &start));
    }
}

/// Writes the record of a tunnel that ended.
pub fn record_end(session: &SessionEnd<'_>) {
    let kind = kind(session.start.client, "ended", session.summary.reason.as_str());
    write_record(kind, |line| write_end(line, session));
}

fn kind(client: &ClientInfo, event: &'static str, end: &'static str) -> RecordKind {
    RecordKind { client: Some(client.key), event, end }
}

fn is_debug() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

fn write_drop(line: &mut LogLine, dropped: &DroppedConnection<'_>) {
    let DroppedConnection { client, reason, host, target, deciding, age } = dropped;
    line.bare("client", |bytes| client.addr.write_to(bytes));
    line.text("end", reason.as_str());
    write_deciding(line, deciding);
    if let DropReason::HeadInvalid(head) = reason {
        line.number("status", head.status.map(|status| u64::from(status.as_u16())));
    }
    let detail = match reason {
        DropReason::TlsFailed(detail) => Some(truncate(detail)),
        DropReason::HeadInvalid(head) => Some(truncate(&head.detail)),
        DropReason::Http2Invalid(detail) | DropReason::Http2Flood(detail) => Some(truncate(detail)),
        DropReason::ProxyHeaderInvalid(detail) => Some((*detail).into()),
        DropReason::AddressDenied(rule) => Some(rule.to_string().into()),
        DropReason::ClientLimit
        | DropReason::ClientConnectionRate
        | DropReason::ProxyLimit
        | DropReason::Shed(_)
        | DropReason::ProxyHeaderUntrusted
        | DropReason::ProxyHeaderMissing
        | DropReason::ProxyHeaderTimeout
        | DropReason::Overloaded
        | DropReason::TlsTimeout
        | DropReason::ClientDisconnected(_)
        | DropReason::NoRequest
        | DropReason::HeadTimeout
        | DropReason::WriteTimeout => None,
    };
    line.text("detail", detail.as_deref());
    line.text("host", *host);
    line.text("target", *target);
    line.number("age_ms", millis(*age));
    let is_full = !line.is_text();
    if is_full {
        line.text("stage", reason.stage().as_str());
    }
    line.text("listener", &*client.listener);
    write_address(line, client);
    if is_full {
        write_tls(line, client);
    }
    write_protocol(line, client);
}

fn write_reject(line: &mut LogLine, request: &RejectedRequest<'_>) {
    let RejectedRequest { client, reason, fields, .. } = request;
    line.bare("client", |bytes| client.addr.write_to(bytes));
    line.text("end", reason.as_str());
    write_deciding(line, &request.deciding);
    // A client that left received no status.
    let has_left = matches!(reason, RejectReason::ClientDisconnected);
    line.text("by", has_left.then_some("client"));
    line.number("status", (!has_left).then(|| u64::from(reason.status().as_u16())));
    match request.detail {
        Some(detail) => line.text("detail", detail),
        // The key and its value say the same.
        None if line.is_text() && request.deciding.value.is_some() => {}
        None => line.show("detail", reason),
    }
    line.text("route", request.route);
    write_target(line, fields);
    line.text("origin", request.origin);
    line.text("backend", request.backend);
    line.number("age_ms", millis(request.age));
    if let Some(progress) = &request.progress {
        write_response(line, progress);
    }
    write_header_problems(line, fields);
    if line.is_text() {
        write_address(line, client);
        write_protocol(line, client);
        // Only a request that was forwarded is in the log of the application.
        line.text("request_id", request.backend.and(fields.request_id));
        return;
    }
    line.text("stage", reason.stage().as_str());
    line.text("listener", &*client.listener);
    write_address(line, client);
    write_tls(line, client);
    write_protocol(line, client);
    write_request(line, fields);
    line.number("generation", request.generation);
}

fn write_start(line: &mut LogLine, session: &SessionStart<'_>) {
    line.bare("client", |bytes| session.client.addr.write_to(bytes));
    write_session(line, session);
    line.number("backend_handshake_ms", millis(session.backend_handshake));
    write_header_problems(line, &session.fields);
    write_connection(line, session);
}

fn write_end(line: &mut LogLine, ended: &SessionEnd<'_>) {
    let SessionEnd { start, summary, age } = ended;
    let Summary { reason, value, size, stats, close_codes, sides } = summary;
    line.bare("client", |bytes| start.client.addr.write_to(bytes));
    line.text("end", reason.as_str());
    line.text("by", reason.initiator());
    line.text("key", reason.key());
    line.text("value", value.as_deref());
    line.number("close_client", close_codes.to_client.map(u64::from));
    line.number("close_backend", close_codes.to_backend.map(u64::from));
    line.number("size", *size);
    write_session(line, start);
    line.number("age_ms", millis(*age));
    line.number("backend_handshake_ms", millis(start.backend_handshake));
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
    write_header_problems(line, &start.fields);
    line.text("stage", ConnectionStage::Tunnel.as_str());
    write_connection(line, start);
}

fn write_deciding(line: &mut LogLine, deciding: &DecidingSetting) {
    line.text("key", deciding.key);
    line.text("value", deciding.value.as_deref());
}

fn write_session(line: &mut LogLine, session: &SessionStart<'_>) {
    line.number("session", session.session);
    line.text("route", session.route);
    write_target(line, &session.fields);
    line.text("backend", session.backend);
    line.text("backend_address", session.backend_address);
}

fn write_target(line: &mut LogLine, fields: &RequestFields<'_>) {
    line.text("host", fields.host);
    line.text("target", fields.target);
}

fn write_header_problems(line: &mut LogLine, fields: &RequestFields<'_>) {
    line.text("would_reject", fields.would_reject);
    line.text("forwarded_invalid", fields.forwarded_invalid);
    line.text("dropped_headers", fields.dropped_headers);
    line.text("choice", fields.choice);
}

/// The connection and the request of a tunnel.
fn write_connection(line: &mut LogLine, session: &SessionStart<'_>) {
    line.text("listener", &*session.client.listener);
    write_address(line, session.client);
    write_tls(line, session.client);
    line.text("protocol", session.client.protocol.as_str());
    write_request(line, &session.fields);
    line.number("generation", session.generation);
}

/// How the client's address was found. In text, the client key is omitted if it is that address.
fn write_address(line: &mut LogLine, client: &ClientInfo) {
    if !line.is_text() || !client.key.is_address(client.addr.ip()) {
        line.bare("client_key", |bytes| client.key.write_to(bytes));
    }
    if let Some(peer) = &client.peer {
        line.bare("peer", |bytes| peer.write_to(bytes));
    }
    line.text("client_source", client.addr_source.label());
}

fn write_tls(line: &mut LogLine, client: &ClientInfo) {
    if let Some(tls) = &client.tls {
        line.text("tls_version", tls.version.as_str());
        line.text("tls_cipher", tls.cipher);
        line.text("sni", tls.sni.as_deref().map(truncate).as_deref());
    }
}

/// The protocol of a connection without a tunnel, if it is not HTTP/1.1.
fn write_protocol(line: &mut LogLine, client: &ClientInfo) {
    if client.protocol == HttpProtocol::Http2 {
        line.text("protocol", client.protocol.as_str());
    }
}

fn write_request(line: &mut LogLine, fields: &RequestFields<'_>) {
    line.text("subprotocol", fields.subprotocol);
    line.text("user_agent", fields.user_agent);
    line.text("request_id", fields.request_id);
    line.text("traceparent", fields.traceparent);
}

fn write_response(line: &mut LogLine, progress: &ResponseProgress) {
    line.number("response_header_ms", millis(progress.head));
    line.number("up_bytes", progress.up_bytes);
    line.number("down_bytes", progress.down_bytes);
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
