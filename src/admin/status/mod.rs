//! What `/status.json` says, and `/metrics` beside its counts: the process as it is now.
//! `docs/status.md` describes every field.

pub(crate) mod page;
pub(crate) mod watch;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use serde_json::{Value, json};
use ws::Side;

use self::watch::TopLists;
use crate::config::settings::ListenerSettings;
use crate::protocol::answer::{Change, ChangedKey};
use crate::proxy::snapshot::{Route, Snapshot};
use crate::proxy::state::ProxyState;
use crate::server::reload_report;
use crate::sessions::drains::RunningDrain;
use crate::sys::clock::{now, wall};
use crate::telemetry::line_writer::{self, LogTarget};
use crate::telemetry::log;
use crate::telemetry::metrics::ReasonCount;
use crate::telemetry::metrics::handles::{FlowCounts, ListenerCounts, RouteCounts};
use crate::telemetry::metrics::process::ProcessUsage;
use crate::telemetry::metrics::process_snapshot::ProcessSnapshot;
use crate::upstream::pool::Backend;

/// What a scrape needs beside the counts.
pub fn house(gate: &ProxyState) -> ProcessSnapshot {
    let generation = gate.snapshot();
    let reloaded = gate.reloaded.load();
    let reload = reloaded.as_ref().map(|reloaded| (reloaded.at, reloaded.outcome.is_ok()));
    ProcessSnapshot {
        started: gate.born,
        generation: generation.number,
        draining: !gate.is_wanted(),
        connections_max: generation.capacity.connections,
        tunnels_max: generation.capacity.tunnels,
        // What it was started with was taken, or it would not be here.
        reload: reload.unwrap_or((gate.born, true)),
        backends: generation.backend_states(now()),
        certificates: generation.tls.as_ref().map_or(vec![], |tls| tls.certs().states().to_vec()),
        process: ProcessUsage::read(),
        lines_lost: lines_lost(),
        panics: log::panics(),
    }
}

/// Lines of log and access record that could not be written.
fn lines_lost() -> u64 {
    LogTarget::ALL.into_iter().map(line_writer::lines_lost).sum()
}

/// The whole status; takes milliseconds if there are thousands of tunnels.
fn status(gate: &ProxyState, ranked: &TopLists) -> Value {
    let generation = gate.snapshot();
    let metrics = &gate.metrics;
    let (refused, dropped) = (metrics.rejects(), metrics.drops());
    let routes = metrics.routes();
    let listeners = metrics.listeners();
    let backends = metrics.backends();
    let process = ProcessUsage::read();
    let total = |causes: &[ReasonCount]| causes.iter().map(|cause| cause.count).sum::<u64>();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": if !gate.is_wanted() { "draining" } else { "running" },
        "now": wall(),
        "started": gate.born,
        "generation": generation.number,
        "connections": {
            "open": listeners.iter().map(|listener| listener.open.get()).sum::<u64>(),
            "opened": listeners.iter().map(|listener| listener.opened.get()).sum::<u64>(),
            "max": generation.capacity.connections,
        },
        "tunnels": {
            "open": backends.iter().map(|backend| backend.open.get()).sum::<u64>(),
            "opened": backends.iter().map(|backend| backend.opened.get()).sum::<u64>(),
            "max": generation.capacity.tunnels,
        },
        "requests_rejected": total(&refused),
        "connections_dropped": total(&dropped),
        "messages": both(&routes, |flow| flow.messages.get()),
        "bytes": both(&routes, |flow| flow.bytes.get()),
        "rejected": causes(refused, "stage", "reason"),
        "dropped": causes(dropped, "stage", "reason"),
        "ended": by_route(&routes, RouteCounts::terminations, "by", "reason"),
        "close_frames": by_route(&routes, RouteCounts::closes, "side", "code"),
        "would_have_closed": by_route(&routes, RouteCounts::reported, "side", "reason"),
        "delayed": by_route(&routes, RouteCounts::delays, "side", "reason"),
        "delayed_seconds": waits(&routes),
        "rtt": { "client": ranked.rtt[0], "backend": ranked.rtt[1] },
        "pools": generation.route_list.iter().map(|route| pool(route)).collect::<Vec<_>>(),
        "listeners": doors(&generation),
        "clients": ranked.clients,
        "busiest": ranked.tunnels,
        "drains": drains(gate),
        "restart_required": gate.restart_required(),
        "reload": reload(gate),
        "certificates": certificates(&generation),
        "memory": { "resident_bytes": process.resident },
        "descriptors": { "open": process.descriptors, "max": process.descriptors_max },
        "log_lines_lost": lines_lost(),
    })
}

fn both(routes: &[Arc<RouteCounts>], read: impl Fn(&FlowCounts) -> u64) -> Value {
    json!({
        "up": routes.iter().map(|route| read(&route.up)).sum::<u64>(),
        "down": routes.iter().map(|route| read(&route.down)).sum::<u64>(),
    })
}

/// For how long sides were made to wait.
fn waits(routes: &[Arc<RouteCounts>]) -> Value {
    let of = |side| routes.iter().map(|route| route.delay_seconds(side)).sum::<f64>();
    json!({ "client": of(Side::Client), "backend": of(Side::Backend) })
}

/// The same causes of all routes, added up, each with the routes that it came most often at.
fn by_route(
    routes: &[Arc<RouteCounts>],
    read: impl Fn(&RouteCounts) -> Vec<ReasonCount>,
    of: &str,
    reason: &str,
) -> Value {
    let mut sums: BTreeMap<(&str, &str), CauseCounts<'_>> = BTreeMap::new();
    for route in routes {
        for cause in read(route).into_iter().filter(|cause| cause.count > 0) {
            let sum = sums.entry((cause.group, cause.reason)).or_default();
            sum.count += cause.count;
            sum.routes.push((&route.name, cause.count));
        }
    }
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by_key(|(_, sum)| Reverse(sum.count));
    let row = |((culprit, slug), mut sum): ((&str, &str), CauseCounts<'_>)| {
        sum.routes.sort_by_key(|(_, count)| Reverse(*count));
        let routes = sum.routes.iter().take(ROUTES_MAX);
        let named: Vec<Value> =
            routes.map(|(route, count)| json!({ "route": route, "count": count })).collect();
        json!({
            of: culprit,
            reason: slug,
            "count": sum.count,
            "routes": named,
            "routes_total": sum.routes.len(),
        })
    };
    rows.into_iter().map(row).collect()
}

/// How often a cause came, in all and at each route.
#[derive(Default)]
struct CauseCounts<'r> {
    count: u64,
    routes: Vec<(&'r str, u64)>,
}

/// Those that came at all, the most frequent first.
fn causes(mut causes: Vec<ReasonCount>, of: &str, reason: &str) -> Value {
    causes.retain(|cause| cause.count > 0);
    causes.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.cmp(b)));
    let row = |cause: &ReasonCount| json!({ of: cause.group, reason: cause.reason, "count": cause.count });
    causes.iter().map(row).collect()
}

fn pool(route: &Route) -> Value {
    let backends = route.pool.backends();
    let weights: f64 = backends.iter().map(|backend| f64::from(backend.share().get())).sum();
    let open: u64 = backends.iter().map(|backend| backend.counts.open.get()).sum();
    let row = |backend: &Arc<Backend>| {
        let counts = &backend.counts;
        json!({
            "id": &*backend.id,
            "up": backend.health.is_up(now().into()),
            "drained": backend.standing.away.is_away(),
            "expected_share": f64::from(backend.share().get()) / weights,
            "share": (open > 0).then(|| counts.open.get() as f64 / open as f64),
            "tunnels": counts.open.get(),
            "opened": counts.opened.get(),
            "connect_failures": counts.connect_failures.get(),
        })
    };
    json!({
        "route": &*route.name,
        "drained": route.drain.is_away(),
        "tunnels": open,
        "tunnels_max": route.tunnels_max,
        "delayed_seconds": waits(slice::from_ref(&route.counts)),
        "backends": backends.iter().map(row).collect::<Vec<_>>(),
    })
}

fn doors(generation: &Snapshot) -> Value {
    let row = |(listener, counts): (&ListenerSettings, &Arc<ListenerCounts>)| {
        json!({
            "name": &*listener.name,
            "tls": listener.tls,
            "connections": counts.open.get(),
            "opened": counts.opened.get(),
            "accept_pauses": counts.pauses.get(),
        })
    };
    generation.listeners().map(row).collect()
}

/// Drains under way.
fn drains(gate: &ProxyState) -> Value {
    let row = |running: &RunningDrain| json!({ "scope": running.of.to_string(), "tunnels": running.sessions, "left": running.left() });
    gate.drains.running().iter().map(row).collect()
}

/// The last reload; its faults cut to what fits on a screen.
fn reload(gate: &ProxyState) -> Value {
    match gate.reloaded.load().as_deref() {
        None => Value::Null,
        Some(reloaded) => match &reloaded.outcome {
            Ok(changes) => json!({
                "at": reloaded.at,
                "applied": true,
                "changed": reload_report::words(changes),
                "changes": changes.iter().take(CHANGES_MAX).map(change).collect::<Vec<_>>(),
                "changes_total": changes.len(),
            }),
            Err(faults) => {
                let cut = |fault: &String| reload_report::cut(fault, FAULT_MAX);
                json!({
                    "at": reloaded.at,
                    "applied": false,
                    "errors": faults.iter().take(FAULTS_MAX).map(cut).collect::<Vec<_>>(),
                    "errors_total": faults.len(),
                })
            }
        },
    }
}

/// One change, its values cut likewise.
fn change(change: &Change) -> Value {
    let cut =
        |value: &Option<String>| value.as_deref().map(|value| reload_report::cut(value, FAULT_MAX));
    let key = |of: &ChangedKey| json!({ "key": of.key, "before": cut(&of.before), "after": cut(&of.after) });
    json!({
        "section": change.part,
        "name": change.name,
        "action": change.what,
        "keys": change.keys.iter().map(key).collect::<Vec<_>>(),
        "tunnels": change.tunnels,
        "effect": change.effect,
    })
}

fn certificates(generation: &Snapshot) -> Value {
    let states = generation.tls.as_ref().map_or(&[][..], |tls| tls.certs().states());
    states.iter().map(|of| json!({ "name": of.name, "not_after": of.not_after })).collect()
}

/// Routes told of with a cause.
const ROUTES_MAX: usize = 10;
const FAULTS_MAX: usize = 20;
const CHANGES_MAX: usize = 20;
const FAULT_MAX: usize = 300;
