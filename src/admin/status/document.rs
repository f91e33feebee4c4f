//! Builds `/status.json` and the process metrics of `/metrics`. `docs/status.md` describes every
//! field.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::pools::{delays, pools};
use super::top_lists::TopLists;
use crate::config::settings::{AccessTarget, ListenerSettings};
use crate::control_protocol::response::{Change, ChangedKey};
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::server::reload::report;
use crate::sessions::drains::RunningDrain;
use crate::sessions::rebalances::RunningRebalance;
use crate::sys::clock::wall;
use crate::telemetry::line_writer::{self, LogTarget, line_loss};
use crate::telemetry::log;
use crate::telemetry::metrics::ReasonCount;
use crate::telemetry::metrics::handles::{FlowCounts, ListenerCounts, RouteCounts};
use crate::telemetry::metrics::process::ProcessUsage;
use crate::telemetry::metrics::process_snapshot::{CertificateValidity, ProcessSnapshot};
use crate::telemetry::record_rate::records_suppressed;

/// The gauges of `/metrics` that are read at scrape time.
pub fn process_snapshot(state: &ProxyState) -> ProcessSnapshot {
    let snapshot = state.snapshot();
    let reloaded = state.last_reload.load();
    let reload = reloaded.as_ref().map(|reloaded| (reloaded.at, reloaded.outcome.is_ok()));
    ProcessSnapshot {
        started: state.started_at,
        generation: snapshot.generation,
        draining: !state.is_ready(),
        connections_max: snapshot.capacity.connections,
        tunnels_max: snapshot.capacity.tunnels,
        pending_memory: state.pending.memory_used_and_limit(),
        // The first configuration counts as applied: the process would not run otherwise.
        reload: reload.unwrap_or((state.started_at, true)),
        backends: snapshot.backend_snapshots(),
        names: snapshot.name_snapshots(),
        tunnels: snapshot.open_tunnels(),
        acme: snapshot.acme.as_ref().map(|acme| acme.snapshot()),
        certificates: snapshot.tls.as_ref().map_or(vec![], |tls| tls.certs().validities().to_vec()),
        usage: ProcessUsage::read(),
        lines_lost: lines_lost(),
        records_suppressed: records_suppressed(),
        panics: log::panics(),
    }
}

/// Lines of the log and the access log that could not be written.
fn lines_lost() -> u64 {
    LogTarget::ALL.into_iter().map(line_writer::lines_lost).sum()
}

/// The whole document.
pub(super) fn status(state: &ProxyState, top: &TopLists) -> Value {
    let snapshot = state.snapshot();
    let metrics = &state.metrics;
    let (rejected, dropped) = (metrics.rejects(), metrics.drops());
    let routes = metrics.routes();
    let listeners = metrics.listeners();
    let backends = metrics.tunnel_counts();
    let process = ProcessUsage::read();
    let total = |causes: &[ReasonCount]| causes.iter().map(|cause| cause.count).sum::<u64>();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": if !state.is_ready() { "draining" } else { "running" },
        "now": wall(),
        "started": state.started_at,
        "generation": snapshot.generation,
        "connections": {
            "open": listeners.iter().map(|listener| listener.open.get()).sum::<u64>(),
            "opened": listeners.iter().map(|listener| listener.opened.get()).sum::<u64>(),
            "max": snapshot.capacity.connections,
        },
        "tunnels": {
            "open": backends.iter().map(|backend| backend.open.get()).sum::<u64>(),
            "opened": backends.iter().map(|backend| backend.opened.get()).sum::<u64>(),
            "max": snapshot.capacity.tunnels,
        },
        "requests_rejected": total(&rejected),
        "connections_dropped": total(&dropped),
        "messages": both_directions(&routes, |flow| flow.messages.get()),
        "bytes": both_directions(&routes, |flow| flow.bytes.get()),
        "rejected": causes(rejected, "stage", "reason"),
        "dropped": causes(dropped, "stage", "reason"),
        "ended": by_route(&routes, RouteCounts::terminations, "by", "reason"),
        "close_frames": by_route(&routes, RouteCounts::closes, "side", "code"),
        "would_have_closed": by_route(&routes, RouteCounts::reported, "side", "reason"),
        "delayed": by_route(&routes, RouteCounts::delays, "side", "limit"),
        "delayed_seconds": delays(&routes),
        "rtt": { "client": top.rtt[0], "backend": top.rtt[1] },
        "pools": pools(&snapshot, &backends),
        "listeners": listeners_of(&snapshot),
        "clients": top.clients,
        "busiest": top.tunnels,
        "drains": drains(state),
        "rebalances": rebalances(state),
        "restart_required": state.restart_required(),
        "reload": reload(state),
        "certificates": certificates(&snapshot),
        "memory": { "resident_bytes": process.resident_bytes },
        "descriptors": { "open": process.descriptors, "max": process.descriptors_max },
        "log_lines_lost": lines_lost(),
        "log_losses": log_losses(&snapshot),
    })
}

/// When and why lines were lost, for each target that has lost any.
fn log_losses(snapshot: &Snapshot) -> Value {
    let row = |target: LogTarget| {
        let loss = line_loss(target)?;
        let to = match (target, &snapshot.settings.access.to) {
            (LogTarget::AccessFile, AccessTarget::File(path)) => path.display().to_string(),
            (LogTarget::AccessFile, AccessTarget::Stderr) => "an earlier access log".to_owned(),
            (LogTarget::Stderr, _) => "standard error".to_owned(),
        };
        Some(json!({
            "to": to,
            "lines": line_writer::lines_lost(target),
            "first": loss.first,
            "last": loss.last,
            "error": loss.error,
        }))
    };
    LogTarget::ALL.into_iter().filter_map(row).collect()
}

fn both_directions(routes: &[Arc<RouteCounts>], read: impl Fn(&FlowCounts) -> u64) -> Value {
    json!({
        "up": routes.iter().map(|route| read(&route.up)).sum::<u64>(),
        "down": routes.iter().map(|route| read(&route.down)).sum::<u64>(),
    })
}

/// Sums the causes of all routes, each with the routes where it was most frequent. `label` and
/// `reason` name the fields of a row.
fn by_route(
    routes: &[Arc<RouteCounts>],
    read: impl Fn(&RouteCounts) -> Vec<ReasonCount>,
    label: &str,
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
    let row = |((of, cause), mut sum): ((&str, &str), CauseCounts<'_>)| {
        sum.routes.sort_by_key(|(_, count)| Reverse(*count));
        let routes = sum.routes.iter().take(ROUTES_MAX);
        let routes: Vec<Value> =
            routes.map(|(route, count)| json!({ "route": route, "count": count })).collect();
        json!({
            label: of,
            reason: cause,
            "count": sum.count,
            "routes": routes,
            "routes_total": sum.routes.len(),
        })
    };
    rows.into_iter().map(row).collect()
}

/// Total of a cause, and its count at each route.
#[derive(Default)]
struct CauseCounts<'r> {
    count: u64,
    routes: Vec<(&'r str, u64)>,
}

/// The causes that occurred, the most frequent first.
fn causes(mut causes: Vec<ReasonCount>, label: &str, reason: &str) -> Value {
    causes.retain(|cause| cause.count > 0);
    causes.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.cmp(b)));
    let row = |cause: &ReasonCount| {
        json!({
            label: cause.group,
            reason: cause.reason,
            "count": cause.count,
        })
    };
    causes.iter().map(row).collect()
}

fn listeners_of(snapshot: &Snapshot) -> Value {
    let row = |(listener, counts): (&ListenerSettings, &Arc<ListenerCounts>)| {
        json!({
            "name": &*listener.name,
            "tls": listener.tls,
            "connections": counts.open.get(),
            "opened": counts.opened.get(),
            "accept_pauses": counts.pauses.get(),
        })
    };
    snapshot.listeners().map(row).collect()
}

fn drains(state: &ProxyState) -> Value {
    let row = |running: &RunningDrain| {
        json!({
            "scope": running.selection.to_string(),
            "tunnels": running.sessions,
            "left": running.remaining(),
        })
    };
    state.drains.running().iter().map(row).collect()
}

fn rebalances(state: &ProxyState) -> Value {
    let row = |running: &RunningRebalance| {
        json!({
            "pool": &**running.owner.name(),
            "closed": running.progress.closed(),
            "left": running.progress.left(),
            "per_second": running.progress.scope().0.rate,
        })
    };
    state.rebalances.running().iter().map(row).collect()
}

/// The last reload, with diagnostics and changes truncated to what fits on a screen.
fn reload(state: &ProxyState) -> Value {
    match state.last_reload.load().as_deref() {
        None => Value::Null,
        Some(reloaded) => match &reloaded.outcome {
            Ok(changes) => json!({
                "at": reloaded.at,
                "applied": true,
                "changed": report::summary(changes),
                "changes": changes.iter().take(CHANGES_MAX).map(change).collect::<Vec<_>>(),
                "changes_total": changes.len(),
            }),
            Err(errors) => {
                let cut = |error: &String| report::truncate(error, TEXT_MAX);
                json!({
                    "at": reloaded.at,
                    "applied": false,
                    "errors": errors.lines.iter().take(ERRORS_MAX).map(cut).collect::<Vec<_>>(),
                    "errors_total": errors.count,
                })
            }
        },
    }
}

fn change(change: &Change) -> Value {
    let cut =
        |value: &Option<String>| value.as_deref().map(|value| report::truncate(value, TEXT_MAX));
    let key = |key: &ChangedKey| {
        json!({
            "key": key.key,
            "before": cut(&key.before),
            "after": cut(&key.after),
        })
    };
    json!({
        "section": change.section,
        "name": change.name,
        "action": change.action,
        "keys": change.keys.iter().map(key).collect::<Vec<_>>(),
        "tunnels": change.tunnels,
        "effect": change.effect,
    })
}

fn certificates(snapshot: &Snapshot) -> Value {
    let states = snapshot.tls.as_ref().map_or(&[][..], |tls| tls.certs().validities());
    let row = |state: &CertificateValidity| {
        let first = Some(&state.name).filter(|name| !name.is_empty());
        let names: Vec<&String> = first.into_iter().chain(&*state.more_names).collect();
        json!({ "name": state.name, "names": names, "not_after": state.not_after, "order": null })
    };
    let files = states.iter().filter(|state| !state.renews_itself).map(row);
    let ordered = snapshot.acme.iter().flat_map(|acme| acme.status()).map(|(name, status)| {
        let error = status.last_error.map(|error| json!({ "at": error.at, "text": error.text }));
        let order = json!({
            "in_progress": status.is_ordering,
            "next": status.next_order,
            "failures": status.failures,
            "last_error": error,
        });
        let names = status.names;
        json!({ "name": name, "names": names, "not_after": status.not_after, "order": order })
    });
    files.chain(ordered).collect()
}

/// Routes listed for a cause.
const ROUTES_MAX: usize = 10;
const ERRORS_MAX: usize = 20;
const CHANGES_MAX: usize = 20;
/// Length of a diagnostic or value.
const TEXT_MAX: usize = 300;
