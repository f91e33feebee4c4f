//! The one place that writes the record of a connection: one line for each that was dropped,
//! refused or ended, with who ended it, why, and the configuration key that decided.

use std::time::Duration;

use tracing::{debug, info};

use super::redact::cut;
use crate::outcome::{Dropped, Refusal, Stage};
use crate::visitor::Visitor;
use crate::ws::{Closes, End, Tally};

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
    /// `Host` as asked for.
    pub host: &'a str,
    /// Target, already redacted.
    pub target: &'a str,
    /// `Origin` as sent.
    pub origin: Option<&'a str>,
    /// What decided.
    pub deciding: Deciding,
    /// Since the head was read.
    pub age: Duration,
    /// Number of the configuration in force.
    pub generation: u64,
}

/// A tunnel that is over.
#[derive(Debug)]
pub struct Ended<'a> {
    /// Whose it was.
    pub visitor: &'a Visitor,
    /// Counts up from 1 in each process.
    pub session: u64,
    /// Name of the route.
    pub route: &'a str,
    /// Id of the backend.
    pub backend: &'a str,
    /// `Host` as asked for.
    pub host: &'a str,
    /// Target, already redacted.
    pub target: &'a str,
    /// Why it ended.
    pub end: End,
    /// What decided.
    pub deciding: Deciding,
    /// What went through.
    pub tally: &'a Tally,
    /// Codes that went out to each side.
    pub closes: Closes,
    /// Since the 101.
    pub age: Duration,
    /// How long the backend took to be reached and to answer.
    pub dial: Duration,
    /// Number of the configuration it was admitted under.
    pub generation: u64,
}

/// A connection that never came to a request.
pub fn dropped(visitor: &Visitor, dropped: &Dropped, deciding: Deciding, age: Duration) {
    let detail = match dropped {
        Dropped::TlsFailed(words) | Dropped::HeadBad(words) => Some(cut(words)),
        Dropped::ClientFull
        | Dropped::GateFull
        | Dropped::TlsTimeout
        | Dropped::Gone(_)
        | Dropped::HeadTimeout
        | Dropped::WriteStall => None,
    };
    macro_rules! record {
        ($level:ident) => {
            $level!(
                client = %visitor.addr,
                client_key = %visitor.key,
                listener = &*visitor.listener,
                stage = %dropped.stage().slug(),
                end = %dropped.slug(),
                detail,
                key = deciding.key,
                value = deciding.value,
                age_ms = millis(age),
                "dropped"
            )
        };
    }
    // Port scans and balancers' probes come and go all day; nothing was asked.
    if matches!(dropped, Dropped::Gone(_)) { record!(debug) } else { record!(info) }
}

/// A request that got a status of ours, or the backend's own refusal of an upgrade.
pub fn refused(record: &Refused<'_>) {
    macro_rules! record {
        ($level:ident) => {
            $level!(
        client = %record.visitor.addr,
        client_key = %record.visitor.key,
        listener = &*record.visitor.listener,
        route = record.route,
        backend = record.backend,
        host = record.host,
        target = record.target,
        origin = record.origin,
        stage = %record.refusal.stage().slug(),
        end = %record.refusal.slug(),
        status = record.refusal.status().as_u16(),
        detail = record.refusal.to_string(),
        key = record.deciding.key,
        value = record.deciding.value.as_deref(),
        age_ms = millis(record.age),
        generation = record.generation,
        "refused"
            )
        };
    }
    // Whoever gives up waiting was not refused, and long polls are given up all day.
    if matches!(record.refusal, Refusal::ClientGone) { record!(debug) } else { record!(info) }
}

/// A tunnel that is over.
pub fn ended(record: &Ended<'_>) {
    let tls = record.visitor.tls.as_ref();
    info!(
        session = record.session,
        client = %record.visitor.addr,
        client_key = %record.visitor.key,
        listener = &*record.visitor.listener,
        tls_version = tls.map(|tls| tls.version),
        sni = tls.and_then(|tls| tls.sni.as_deref()).map(cut),
        route = record.route,
        backend = record.backend,
        host = record.host,
        target = record.target,
        via = %"http/1.1",
        stage = %Stage::Tunnel.slug(),
        end = %record.end.slug(),
        by = %record.end.by(),
        key = record.deciding.key,
        value = record.deciding.value.as_deref(),
        close_client = record.closes.to_client,
        close_backend = record.closes.to_backend,
        up_bytes = record.tally.up.bytes,
        down_bytes = record.tally.down.bytes,
        up_messages = record.tally.up.messages,
        down_messages = record.tally.down.messages,
        age_ms = millis(record.age),
        dial_ms = millis(record.dial),
        generation = record.generation,
        "ended"
    );
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
