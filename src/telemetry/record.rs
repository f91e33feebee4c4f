//! The one place that writes the records of connections: one line for each that was dropped,
//! refused or ended, with who ended it, why, and the configuration key that decided; if wanted,
//! one for each that began.

use std::time::Duration;

use ws::{
    CloseCodes, DirectionStats, ReadDelays, ReportedViolations, Rtt, Stats, TerminationReason,
    Violation,
};

use super::access_log::{record, wants_start};
use super::line::LogLine;
use super::redact::cut;
use super::request_fields::RequestFields;
use crate::client::ClientInfo;
use crate::reject::{ConnectionStage, DropReason, RejectReason};

/// The configuration key that decided, and what it was set to.
#[derive(Clone, Debug, Default)]
pub struct DecidingSetting {
    /// As it is spelled in the file.
    pub key: Option<&'static str>,
    /// As a person would write it.
    pub value: Option<String>,
}

/// A request that was not served as asked.
#[derive(Debug)]
pub struct RejectedRequest<'a> {
    /// Who asked.
    pub visitor: &'a ClientInfo,
    /// Why not.
    pub refusal: &'a RejectReason,
    /// Name of the route, once known.
    pub route: Option<&'a str>,
    /// Id of the backend, once one took the connection.
    pub backend: Option<&'a str>,
    /// What the request said of itself.
    pub particulars: RequestFields<'a>,
    /// `Origin` as sent, already redacted.
    pub origin: Option<&'a str>,
    /// What decided.
    pub deciding: DecidingSetting,
    /// Since the head was read.
    pub age: Duration,
    /// Number of the configuration in force.
    pub generation: u64,
}

/// A tunnel: what the records of its beginning and of its end have in common.
#[derive(Debug)]
pub struct SessionStart<'a> {
    /// Whose it is.
    pub visitor: &'a ClientInfo,
    /// Counts up from 1 in each process.
    pub session: u64,
    /// Name of the route.
    pub route: &'a str,
    /// Id of the backend.
    pub backend: &'a str,
    /// What the request said of itself.
    pub particulars: RequestFields<'a>,
    /// How long the backend took to be reached and to answer.
    pub dial: Duration,
    /// Number of the configuration it was admitted under.
    pub generation: u64,
}

/// A tunnel that is over.
#[derive(Debug)]
pub struct SessionEnd<'a> {
    /// Which.
    pub tunnel: SessionStart<'a>,
    /// Why it ended.
    pub end: TerminationReason,
    /// What decided.
    pub deciding: DecidingSetting,
    /// What went through.
    pub tally: &'a Stats,
    /// Codes that went out to each side.
    pub closes: CloseCodes,
    /// How fast the client answered pings.
    pub client_rtt: Option<Rtt>,
    /// How fast the backend did.
    pub backend_rtt: Option<Rtt>,
    /// What the client would have been closed for.
    pub client_reported: ReportedViolations,
    /// What the backend would have been closed for.
    pub backend_reported: ReportedViolations,
    /// How long the client was made to wait, and by which limits.
    pub client_delayed: ReadDelays,
    /// How long the backend was.
    pub backend_delayed: ReadDelays,
    /// Since the 101.
    pub age: Duration,
}

/// A connection that never came to a request.
pub fn dropped(
    visitor: &ClientInfo,
    dropped: &DropReason,
    deciding: DecidingSetting,
    age: Duration,
) {
    // Port scans and balancers' probes come and go all day; nothing was asked.
    if !matches!(dropped, DropReason::Gone(_)) || wants_debug() {
        record("dropped", |line| tell_dropped(line, visitor, dropped, &deciding, age));
    }
}

/// A request that got a status of ours, or the backend's own refusal of an upgrade.
pub fn refused(refused: &RejectedRequest<'_>) {
    // Whoever gives up waiting was not refused, and long polls are given up all day.
    if !matches!(refused.refusal, RejectReason::ClientGone) || wants_debug() {
        record("rejected", |line| tell_refused(line, refused));
    }
}

/// A tunnel that begins.
pub fn begun(tunnel: &SessionStart<'_>) {
    if wants_start() {
        record("started", |line| tell_begun(line, tunnel));
    }
}

/// A tunnel that is over.
pub fn ended(ended: &SessionEnd<'_>) {
    record("ended", |line| tell_ended(line, ended));
}

fn wants_debug() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

fn tell_dropped(
    line: &mut LogLine,
    visitor: &ClientInfo,
    dropped: &DropReason,
    deciding: &DecidingSetting,
    age: Duration,
) {
    tell_visitor(line, visitor);
    line.text("stage", dropped.stage().slug());
    line.text("end", dropped.slug());
    let detail = match dropped {
        DropReason::TlsFailed(words) | DropReason::HeadBad(words) => Some(cut(words)),
        DropReason::ProxyHeaderBad(rule) => Some((*rule).to_owned()),
        DropReason::ClientFull
        | DropReason::GateFull
        | DropReason::ProxyHeaderUntrusted
        | DropReason::ProxyHeaderMissing
        | DropReason::ProxyHeaderTimeout
        | DropReason::TlsTimeout
        | DropReason::Gone(_)
        | DropReason::HeadTimeout
        | DropReason::WriteStall => None,
    };
    line.text("detail", detail.as_deref());
    tell_deciding(line, deciding);
    line.number("age_ms", millis(age));
}

fn tell_refused(line: &mut LogLine, refused: &RejectedRequest<'_>) {
    tell_visitor(line, refused.visitor);
    line.text("route", refused.route);
    line.text("backend", refused.backend);
    tell_particulars(line, &refused.particulars);
    line.text("origin", refused.origin);
    line.text("stage", refused.refusal.stage().slug());
    line.text("end", refused.refusal.slug());
    line.number("status", u64::from(refused.refusal.status().as_u16()));
    line.show("detail", refused.refusal);
    tell_deciding(line, &refused.deciding);
    line.number("age_ms", millis(refused.age));
    line.number("generation", refused.generation);
}

fn tell_begun(line: &mut LogLine, tunnel: &SessionStart<'_>) {
    line.number("session", tunnel.session);
    tell_visitor(line, tunnel.visitor);
    line.text("route", tunnel.route);
    line.text("backend", tunnel.backend);
    tell_particulars(line, &tunnel.particulars);
    line.text("protocol", "http/1.1");
    line.number("backend_handshake_ms", millis(tunnel.dial));
    line.number("generation", tunnel.generation);
}

fn tell_ended(line: &mut LogLine, ended: &SessionEnd<'_>) {
    tell_begun(line, &ended.tunnel);
    line.text("stage", ConnectionStage::Tunnel.slug());
    line.text("end", ended.end.slug());
    line.text("by", ended.end.by());
    tell_deciding(line, &ended.deciding);
    line.number("close_client", ended.closes.to_client.map(u64::from));
    line.number("close_backend", ended.closes.to_backend.map(u64::from));
    let Stats { up, down } = ended.tally;
    tell_both(line, ["up_bytes", "down_bytes"], [up, down], |flow| flow.bytes);
    tell_both(line, ["up_messages", "down_messages"], [up, down], |flow| flow.messages);
    tell_both(line, ["up_compressed", "down_compressed"], [up, down], |flow| flow.compressed);
    tell_both(line, ["up_largest", "down_largest"], [up, down], |flow| flow.largest);
    line.millis("client_rtt_ms", ended.client_rtt.map(|rtt| rtt.last));
    line.millis("client_rtt_max_ms", ended.client_rtt.map(|rtt| rtt.max));
    line.millis("backend_rtt_ms", ended.backend_rtt.map(|rtt| rtt.last));
    line.millis("backend_rtt_max_ms", ended.backend_rtt.map(|rtt| rtt.max));
    let none = ReportedViolations::default();
    line.list("would_close_client", slugs(ended.client_reported.since(none)));
    line.list("would_close_backend", slugs(ended.backend_reported.since(none)));
    for (keys, delayed) in [
        (["delayed_client_ms", "delayed_client_by"], ended.client_delayed),
        (["delayed_backend_ms", "delayed_backend_by"], ended.backend_delayed),
    ] {
        line.number(keys[0], Some(millis(delayed.time)).filter(|time| *time > 0));
        line.list(keys[1], slugs(delayed.by.since(none)));
    }
    line.number("age_ms", millis(ended.age));
}

fn tell_visitor(line: &mut LogLine, visitor: &ClientInfo) {
    line.show("client", visitor.addr);
    line.show("client_key", visitor.key);
    if let Some(peer) = &visitor.peer {
        line.show("peer", peer);
    }
    line.text("client_source", visitor.known_by.slug());
    line.text("listener", &*visitor.listener);
    if let Some(tls) = &visitor.tls {
        line.text("tls_version", tls.version.slug());
        line.text("tls_cipher", tls.cipher);
        line.text("sni", tls.sni.as_deref().map(cut).as_deref());
    }
}

fn tell_particulars(line: &mut LogLine, particulars: &RequestFields<'_>) {
    line.text("host", particulars.host);
    line.text("target", particulars.target);
    line.text("user_agent", particulars.user_agent);
    line.text("request_id", particulars.request_id);
    line.text("traceparent", particulars.traceparent);
    line.text("subprotocol", particulars.subprotocol);
}

fn tell_deciding(line: &mut LogLine, deciding: &DecidingSetting) {
    line.text("key", deciding.key);
    line.text("value", deciding.value.as_deref());
}

fn tell_both(
    line: &mut LogLine,
    keys: [&str; 2],
    flows: [&DirectionStats; 2],
    of: impl Fn(&DirectionStats) -> u64,
) {
    for (key, flow) in keys.into_iter().zip(flows) {
        line.number(key, of(flow));
    }
}

/// Each once, though several breaches share one.
fn slugs(offences: impl Iterator<Item = Violation>) -> Vec<&'static str> {
    let mut slugs: Vec<_> = offences.map(Violation::slug).collect();
    slugs.dedup();
    slugs
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
