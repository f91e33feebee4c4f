//! The one place that writes the records of connections: one line for each that was dropped,
//! refused or ended, with who ended it, why, and the configuration key that decided; if wanted,
//! one for each that began.

use std::time::Duration;

use ws::{Closes, Delayed, End, Flow, Offence, Reported, Rtt, Tally};

use super::access_log::{record, wants_start};
use super::line::Line;
use super::redact::cut;
use super::request_fields::Particulars;
use crate::client::Visitor;
use crate::reject::{Dropped, Refusal, Stage};

/// The configuration key that decided, and what it was set to.
#[derive(Clone, Debug, Default)]
pub struct Deciding {
    /// As it is spelled in the file.
    pub key: Option<&'static str>,
    /// As a person would write it.
    pub value: Option<String>,
}

/// A request that was not served as asked.
#[derive(Debug)]
pub struct Refused<'a> {
    /// Who asked.
    pub visitor: &'a Visitor,
    /// Why not.
    pub refusal: &'a Refusal,
    /// Name of the route, once known.
    pub route: Option<&'a str>,
    /// Id of the backend, once one took the connection.
    pub backend: Option<&'a str>,
    /// What the request said of itself.
    pub particulars: Particulars<'a>,
    /// `Origin` as sent, already redacted.
    pub origin: Option<&'a str>,
    /// What decided.
    pub deciding: Deciding,
    /// Since the head was read.
    pub age: Duration,
    /// Number of the configuration in force.
    pub generation: u64,
}

/// A tunnel: what the records of its beginning and of its end have in common.
#[derive(Debug)]
pub struct Begun<'a> {
    /// Whose it is.
    pub visitor: &'a Visitor,
    /// Counts up from 1 in each process.
    pub session: u64,
    /// Name of the route.
    pub route: &'a str,
    /// Id of the backend.
    pub backend: &'a str,
    /// What the request said of itself.
    pub particulars: Particulars<'a>,
    /// How long the backend took to be reached and to answer.
    pub dial: Duration,
    /// Number of the configuration it was admitted under.
    pub generation: u64,
}

/// A tunnel that is over.
#[derive(Debug)]
pub struct Ended<'a> {
    /// Which.
    pub tunnel: Begun<'a>,
    /// Why it ended.
    pub end: End,
    /// What decided.
    pub deciding: Deciding,
    /// What went through.
    pub tally: &'a Tally,
    /// Codes that went out to each side.
    pub closes: Closes,
    /// How fast the client answered pings.
    pub client_rtt: Option<Rtt>,
    /// How fast the backend did.
    pub backend_rtt: Option<Rtt>,
    /// What the client would have been closed for.
    pub client_reported: Reported,
    /// What the backend would have been closed for.
    pub backend_reported: Reported,
    /// How long the client was made to wait, and by which limits.
    pub client_delayed: Delayed,
    /// How long the backend was.
    pub backend_delayed: Delayed,
    /// Since the 101.
    pub age: Duration,
}

/// A connection that never came to a request.
pub fn dropped(visitor: &Visitor, dropped: &Dropped, deciding: Deciding, age: Duration) {
    // Port scans and balancers' probes come and go all day; nothing was asked.
    if !matches!(dropped, Dropped::Gone(_)) || wants_debug() {
        record("dropped", |line| tell_dropped(line, visitor, dropped, &deciding, age));
    }
}

/// A request that got a status of ours, or the backend's own refusal of an upgrade.
pub fn refused(refused: &Refused<'_>) {
    // Whoever gives up waiting was not refused, and long polls are given up all day.
    if !matches!(refused.refusal, Refusal::ClientGone) || wants_debug() {
        record("refused", |line| tell_refused(line, refused));
    }
}

/// A tunnel that begins.
pub fn begun(tunnel: &Begun<'_>) {
    if wants_start() {
        record("begun", |line| tell_begun(line, tunnel));
    }
}

/// A tunnel that is over.
pub fn ended(ended: &Ended<'_>) {
    record("ended", |line| tell_ended(line, ended));
}

fn wants_debug() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

fn tell_dropped(
    line: &mut Line,
    visitor: &Visitor,
    dropped: &Dropped,
    deciding: &Deciding,
    age: Duration,
) {
    tell_visitor(line, visitor);
    line.text("stage", dropped.stage().slug());
    line.text("end", dropped.slug());
    let detail = match dropped {
        Dropped::TlsFailed(words) | Dropped::HeadBad(words) => Some(cut(words)),
        Dropped::ProxyHeaderBad(rule) => Some((*rule).to_owned()),
        Dropped::ClientFull
        | Dropped::GateFull
        | Dropped::ProxyHeaderUntrusted
        | Dropped::ProxyHeaderMissing
        | Dropped::ProxyHeaderTimeout
        | Dropped::TlsTimeout
        | Dropped::Gone(_)
        | Dropped::HeadTimeout
        | Dropped::WriteStall => None,
    };
    line.text("detail", detail.as_deref());
    tell_deciding(line, deciding);
    line.number("age_ms", millis(age));
}

fn tell_refused(line: &mut Line, refused: &Refused<'_>) {
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

fn tell_begun(line: &mut Line, tunnel: &Begun<'_>) {
    line.number("session", tunnel.session);
    tell_visitor(line, tunnel.visitor);
    line.text("route", tunnel.route);
    line.text("backend", tunnel.backend);
    tell_particulars(line, &tunnel.particulars);
    line.text("via", "http/1.1");
    line.number("dial_ms", millis(tunnel.dial));
    line.number("generation", tunnel.generation);
}

fn tell_ended(line: &mut Line, ended: &Ended<'_>) {
    tell_begun(line, &ended.tunnel);
    line.text("stage", Stage::Tunnel.slug());
    line.text("end", ended.end.slug());
    line.text("by", ended.end.by());
    tell_deciding(line, &ended.deciding);
    line.number("close_client", ended.closes.to_client.map(u64::from));
    line.number("close_backend", ended.closes.to_backend.map(u64::from));
    let Tally { up, down } = ended.tally;
    tell_both(line, ["up_bytes", "down_bytes"], [up, down], |flow| flow.bytes);
    tell_both(line, ["up_messages", "down_messages"], [up, down], |flow| flow.messages);
    tell_both(line, ["up_compressed", "down_compressed"], [up, down], |flow| flow.compressed);
    tell_both(line, ["up_largest", "down_largest"], [up, down], |flow| flow.largest);
    line.millis("client_rtt_ms", ended.client_rtt.map(|rtt| rtt.last));
    line.millis("client_rtt_max_ms", ended.client_rtt.map(|rtt| rtt.max));
    line.millis("backend_rtt_ms", ended.backend_rtt.map(|rtt| rtt.last));
    line.millis("backend_rtt_max_ms", ended.backend_rtt.map(|rtt| rtt.max));
    let none = Reported::default();
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

fn tell_visitor(line: &mut Line, visitor: &Visitor) {
    line.show("client", visitor.addr);
    line.show("client_key", visitor.key);
    if let Some(peer) = &visitor.peer {
        line.show("peer", peer);
    }
    line.text("known_by", visitor.known_by.slug());
    line.text("listener", &*visitor.listener);
    if let Some(tls) = &visitor.tls {
        line.text("tls_version", tls.version.slug());
        line.text("tls_cipher", tls.cipher);
        line.text("sni", tls.sni.as_deref().map(cut).as_deref());
    }
}

fn tell_particulars(line: &mut Line, particulars: &Particulars<'_>) {
    line.text("host", particulars.host);
    line.text("target", particulars.target);
    line.text("user_agent", particulars.user_agent);
    line.text("request_id", particulars.request_id);
    line.text("traceparent", particulars.traceparent);
    line.text("subprotocol", particulars.subprotocol);
}

fn tell_deciding(line: &mut Line, deciding: &Deciding) {
    line.text("key", deciding.key);
    line.text("value", deciding.value.as_deref());
}

fn tell_both(line: &mut Line, keys: [&str; 2], flows: [&Flow; 2], of: impl Fn(&Flow) -> u64) {
    for (key, flow) in keys.into_iter().zip(flows) {
        line.number(key, of(flow));
    }
}

/// Each once, though several breaches share one.
fn slugs(offences: impl Iterator<Item = Offence>) -> Vec<&'static str> {
    let mut slugs: Vec<_> = offences.map(Offence::slug).collect();
    slugs.dedup();
    slugs
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
