//! Looks up the names of backends, each at times of its own, and gives the pools the backends at their addresses.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::net::network::Net;
use crate::proxy::members;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::telemetry::events::{name_fails, name_moved, name_recovered};
use crate::upstream::backend_name::{BackendName, NameChange};
use crate::upstream::connect_error::lookup_cause;

/// The next lookup of each name, by the address of its [`BackendName`].
#[derive(Debug)]
pub struct NameLookups {
    next: HashMap<usize, NextLookup>,
    /// A lookup that gets no answer holds a thread for as long as the system's resolver waits.
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct NextLookup {
    at: Instant,
    /// The last one that was started.
    running: Option<AbortHandle>,
}

impl Default for NameLookups {
    fn default() -> Self {
        Self { next: HashMap::new(), places: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl NameLookups {
    /// Starts the lookups that are due within `period`, after which this must be called again, and forgets names that
    /// are not used any more. A name has one lookup at a time.
    pub fn start(
        &mut self,
        state: &Arc<ProxyState>,
        snapshot: &Arc<Snapshot>,
        period: Duration,
        tasks: &mut JoinSet<()>,
    ) {
        let names = names(snapshot);
        self.next.retain(|key, _| names.contains_key(key));
        if names.is_empty() {
            return;
        }
        // A reload may have built its pools from answers that have changed since.
        members::update(snapshot, None);
        let now = Instant::now();
        for (key, (name, interval)) in names {
            let jittered = interval.mul_f64(1.0 + JITTER * (2.0 * state.net.random_f64() - 1.0));
            // One that the start or the reload has looked up has the time of an interval.
            let first = if name.answer().is_empty() { now } else { now + jittered };
            let next = self.next.entry(key).or_insert(NextLookup { at: first, running: None });
            let is_running = next.running.as_ref().is_some_and(|lookup| !lookup.is_finished());
            if is_running || next.at >= now + period {
                continue;
            }
            let at = next.at;
            next.at = at.max(now) + jittered;
            let (state, places) = (state.clone(), self.places.clone());
            next.running = Some(tasks.spawn(async move {
                sleep_until(at).await;
                let Ok(_place) = places.acquire().await else { return };
                look_up(&*state.net, &name).await;
                members::update(&state.snapshot(), None);
            }));
        }
    }
}

/// Looks up the names of a new snapshot that have no answer yet, so that its first requests go where later ones do.
/// Takes at most two seconds; names without an answer by then get theirs later. `previous` is the snapshot that it
/// replaces.
pub async fn first_lookups(net: &Arc<dyn Net>, snapshot: &Snapshot, previous: Option<&Snapshot>) {
    let mut lookups = JoinSet::new();
    let places = Arc::new(Semaphore::new(LOOKUPS_MAX));
    for (name, _) in names(snapshot).into_values().filter(|(name, _)| name.answer().is_empty()) {
        let (net, places) = (net.clone(), places.clone());
        lookups.spawn(async move {
            let Ok(_place) = places.acquire().await else { return };
            look_up(&*net, &name).await;
        });
    }
    if lookups.is_empty() {
        return;
    }
    // Those that are not complete end with the set.
    let _ = timeout(FIRST_LOOKUPS_TIMEOUT, async { while lookups.join_next().await.is_some() {} })
        .await;
    members::update(snapshot, previous);
}

/// Looks a name up, and records and logs what it shows. Without an answer in time the name counts as failing; the
/// lookup is waited for nevertheless, since it cannot be stopped.
async fn look_up(net: &dyn Net, name: &BackendName) {
    let mut lookup = pin!(name.look_up(net));
    match timeout(LOOKUP_TIMEOUT, &mut lookup).await {
        Ok(answer) => record(name, answer.map_err(lookup_cause)),
        Err(elapsed) => {
            record(name, Err(lookup_cause(elapsed.into())));
            if lookup.await.is_ok() {
                record(name, Ok(()));
            }
        }
    }
}

fn record(name: &BackendName, answer: Result<(), String>) {
    let addresses = name.answer().len();
    match name.record(answer) {
        Some(NameChange::Failing(cause)) => name_fails(&name.address, &cause, addresses),
        Some(NameChange::Recovered) => name_recovered(&name.address, addresses),
        Some(NameChange::Moved { added, removed }) => {
            name_moved(&name.address, &added, &removed, addresses);
        }
        None => {}
    }
}

/// The names whose addresses are backends, and how often each is looked up.
fn names(snapshot: &Snapshot) -> HashMap<usize, (Arc<BackendName>, Duration)> {
    let pools = snapshot.route_list.iter().map(|route| &route.pool);
    let of_pools = pools.filter_map(|pool| Some((pool, pool.resolve?)));
    let names = of_pools.flat_map(|(pool, interval)| {
        pool.names
            .iter()
            .map(move |listed| (Arc::as_ptr(&listed.name).addr(), (listed.name.clone(), interval)))
    });
    names.collect()
}

/// Lookups at the same time.
const LOOKUPS_MAX: usize = 16;
/// How long a lookup may take before its name counts as failing: what resolv.conf(5) waits for one name server.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a start or a reload waits for the addresses of new names.
const FIRST_LOOKUPS_TIMEOUT: Duration = Duration::from_secs(2);
/// The part of an interval by which the next lookup may be earlier or later.
const JITTER: f64 = 0.1;

#[cfg(test)]
mod tests;
