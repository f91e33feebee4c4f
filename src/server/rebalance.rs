//! Closes tunnels whose clients have another backend now, paced: after a change of their pool
//! (`rebalance = "on_scale_out"`), by `tidegate ctl rebalance`, and after a canary was aborted. Each tunnel is judged on its
//! own when it is closed, by the configuration of that moment, so that a rebalance may end at any time.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval, sleep_until};
use tracing::info;
use ws::{SessionClose, TerminationReason};

use crate::config::settings::choice::RebalanceMode;
use crate::proxy::route::Route;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::sessions::rebalances::{RebalanceProgress, RebalanceScope};
use crate::sessions::registry::SessionHandle;
use crate::sys::clock::now;
use crate::upstream::backends_owner::BackendsOwner;
use crate::upstream::pool::moves::PoolComposition;

/// The tunnels that a rebalance may close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebalanceTarget {
    /// Their pool.
    pub owner: BackendsOwner,
    /// Only those of canary backends.
    pub only_canaries: bool,
}

/// How fast a rebalance closes tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceRate {
    /// That of the pool, or of the rebalance that it joins.
    OfPool(NonZeroU32),
    /// What an operator has given.
    Given(NonZeroU32),
}

/// The tunnels of a target.
#[derive(Debug, Default)]
pub struct RebalanceScan {
    /// Open tunnels of the pool.
    pub tunnels: usize,
    /// Those whose clients have another backend now.
    pub moving: Vec<Weak<SessionHandle>>,
    /// Further ones, which were moved lately and stay for now.
    pub held: usize,
}

/// Starts rebalances after changes of the pools that ask for it, until dropped.
pub async fn run(state: Arc<ProxyState>) {
    let mut watched: HashMap<BackendsOwner, WatchedPool> = HashMap::new();
    let mut poll = interval(POLL_INTERVAL);
    loop {
        poll.tick().await;
        let snapshot = state.snapshot();
        let found = compositions(&snapshot);
        watched.retain(|owner, _| found.contains_key(owner));
        for (owner, (composition, rate)) in found {
            let new = || WatchedPool { settled: composition.clone(), pending: None };
            let pool = watched.entry(owner.clone()).or_insert_with(new);
            if pool.has_changed(composition) {
                let target = RebalanceTarget { owner, only_canaries: false };
                start(&state, target, RebalanceRate::OfPool(rate), "the pool has changed");
            }
        }
    }
}

/// The pools that are rebalanced after changes, with the rate of each.
fn compositions(snapshot: &Snapshot) -> HashMap<BackendsOwner, (Vec<PoolComposition>, NonZeroU32)> {
    let mut found: HashMap<_, (Vec<PoolComposition>, NonZeroU32)> = HashMap::new();
    for route in &snapshot.route_list {
        let settings = route.pool.settings();
        if settings.rebalance == RebalanceMode::OnScaleOut {
            let new = || (Vec::new(), settings.rebalance_rate);
            let of_pool = found.entry(route.backends_owner()).or_insert_with(new);
            // Weights may be set for one route.
            of_pool.0.push(route.pool.composition());
        }
    }
    found
}

/// A pool whose changes are watched.
#[derive(Debug)]
struct WatchedPool {
    settled: Vec<PoolComposition>,
    /// What it has changed to, until a second look confirms it: another reload may follow at once.
    pending: Option<Vec<PoolComposition>>,
}

impl WatchedPool {
    /// Whether it has changed, also if it is as before again: clients may have moved meanwhile.
    fn has_changed(&mut self, now: Vec<PoolComposition>) -> bool {
        if self.pending.is_none() && now == self.settled {
            return false;
        }
        if self.pending.as_ref() != Some(&now) {
            self.pending = Some(now);
            return false;
        }
        (self.settled, self.pending) = (now, None);
        true
    }
}

/// Starts a rebalance, or lets the one of the same pool that is in progress close these tunnels as well. `cause` is for
/// the log. Returns the tunnels closed per second, and whether it was in progress.
pub fn start(
    state: &Arc<ProxyState>,
    target: RebalanceTarget,
    rate: RebalanceRate,
    cause: &'static str,
) -> (NonZeroU32, bool) {
    let RebalanceTarget { owner, only_canaries } = target;
    let (rate, has_rate) = match rate {
        RebalanceRate::OfPool(rate) => (rate, false),
        RebalanceRate::Given(rate) => (rate, true),
    };
    let scope = RebalanceScope { only_canaries, rate };
    let (proxy, of) = (state.clone(), owner.clone());
    let (scope, is_joined) =
        state.rebalances.start_or_join(owner.clone(), scope, has_rate, |progress| async move {
            close_paced(&proxy, &of, &progress, cause).await;
            let closed = progress.closed();
            if closed > 0 {
                info!(pool = &**of.name(), tunnels = closed, "rebalance finished");
            }
        });
    if is_joined {
        let (pool, per_second) = (&**owner.name(), scope.rate.get());
        info!(pool, per_second, "rebalance in progress extended: {cause}");
    }
    (scope.rate, is_joined)
}

/// Closes tunnels until none is left that has another backend, those included that stay for a time because they were moved
/// lately, and no weight is growing.
async fn close_paced(
    state: &Arc<ProxyState>,
    owner: &BackendsOwner,
    progress: &RebalanceProgress,
    cause: &'static str,
) {
    let close = Arc::new(SessionClose::new(TerminationReason::Rebalanced));
    let (mut pace, mut is_logged) = (Pace::new(progress.scope().0.rate), false);
    loop {
        let (RebalanceScope { only_canaries, rate }, version) = progress.scope();
        pace.set_rate(rate);
        let target = RebalanceTarget { owner: owner.clone(), only_canaries };
        let found = scan(state, &target).await;
        if !is_logged && !found.moving.is_empty() {
            is_logged = true;
            log_start(owner, &found, rate, cause);
        }
        let is_ramping = is_ramping(&state.snapshot(), &target);
        let later = if is_ramping { RESCAN_INTERVAL } else { HELD_INTERVAL };
        if found.moving.is_empty() && found.held == 0 && !is_ramping {
            if progress.end(version) {
                return;
            }
            continue;
        }
        let count = found.moving.len();
        for (index, session) in found.moving.iter().enumerate() {
            progress.set_left(count - index);
            if is_due(state, &target, session).is_none() {
                continue;
            }
            pace.wait(state.net.random_f64()).await;
            if progress.scope().1 != version {
                break;
            }
            // Again, as it has waited.
            if let Some((session, route)) = is_due(state, &target, session)
                && route.pool.state().moved.record(session.info.key, now())
            {
                session.close(&close);
                progress.add_closed();
                pace.advance();
            }
        }
        if state.is_draining() {
            return;
        }
        if progress.scope().1 == version {
            progress.set_left(found.held);
            wait_for_scan(if count > 0 { RESCAN_INTERVAL } else { later }, progress, version).await;
        }
    }
}

/// Waits for this time, or until another rebalance joins.
async fn wait_for_scan(time: Duration, progress: &RebalanceProgress, version: usize) {
    let until = Instant::now() + time;
    while Instant::now() < until && progress.scope().1 == version {
        sleep_until(until.min(Instant::now() + RESCAN_INTERVAL)).await;
    }
}

fn log_start(owner: &BackendsOwner, found: &RebalanceScan, rate: NonZeroU32, cause: &str) {
    info!(
        pool = &**owner.name(),
        tunnels = found.moving.len(),
        held = found.held,
        per_second = rate.get(),
        "rebalance started: {cause}"
    );
}

/// The tunnel and its route if it is to be closed now.
fn is_due(
    state: &ProxyState,
    target: &RebalanceTarget,
    session: &Weak<SessionHandle>,
) -> Option<(Arc<SessionHandle>, Arc<Route>)> {
    let session = session.upgrade()?;
    let snapshot = state.snapshot();
    let name = &session.info.counts.route.name;
    let route = snapshot.route_list.iter().find(|route| route.name == *name)?;
    let is_meant = !state.is_draining() && route.backends_owner() == target.owner;
    (is_meant && is_movable(route, &session, target.only_canaries))
        .then(|| (session, route.clone()))
}

/// Finds the tunnels outside of the worker threads, which serve them.
async fn scan(state: &Arc<ProxyState>, target: &RebalanceTarget) -> RebalanceScan {
    let (state, target) = (state.clone(), target.clone());
    spawn_blocking(move || find(&state, &target)).await.unwrap_or_default()
}

/// Finds the tunnels that a rebalance would close now. Takes about a microsecond for each tunnel.
pub fn find(state: &ProxyState, target: &RebalanceTarget) -> RebalanceScan {
    let snapshot = state.snapshot();
    let routes: HashMap<&str, &Arc<Route>> = snapshot
        .route_list
        .iter()
        .filter(|route| route.backends_owner() == target.owner)
        .map(|route| (&*route.name, route))
        .collect();
    let (mut found, now) = (RebalanceScan::default(), now());
    for session in state.registry.sessions() {
        let info = &session.info;
        let Some(route) = routes.get(&*info.counts.route.name) else { continue };
        found.tunnels += 1;
        if !is_movable(route, &session, target.only_canaries) {
            continue;
        }
        if route.pool.state().moved.may_move(info.key, info.opened, now) {
            found.moving.push(Arc::downgrade(&session));
        } else {
            found.held += 1;
        }
    }
    found
}

/// Whether the client of a tunnel would come back to another backend.
fn is_movable(route: &Route, session: &SessionHandle, only_canaries: bool) -> bool {
    let info = &session.info;
    let is_served = !route.is_draining() && route.maintenance.cause().is_none();
    let is_known = u64::from(info.generation) >= route.keys_since;
    let current = route.pool.backend_with(&info.counts);
    let is_meant = !only_canaries || route.pool.is_canary(&current);
    let moves = || route.pool.moved_to(&current, is_known.then_some(info.key)).is_some();
    is_served && is_meant && !session.is_closing() && moves()
}

fn is_ramping(snapshot: &Snapshot, target: &RebalanceTarget) -> bool {
    let mut routes = snapshot.route_list.iter();
    routes.any(|route| route.backends_owner() == target.owner && route.pool.is_ramping())
}

/// Closes at `start + (n + random) / rate`. After a pause they go on at the rate, and do not catch up.
struct Pace {
    rate: f64,
    start: Instant,
    count: u32,
}

impl Pace {
    fn new(rate: NonZeroU32) -> Self {
        Self { rate: f64::from(rate.get()), start: Instant::now(), count: 0 }
    }

    /// Closes go on at another rate.
    fn set_rate(&mut self, rate: NonZeroU32) {
        if self.rate != f64::from(rate.get()) {
            *self = Self::new(rate);
        }
    }

    /// Waits until the next one is due; `random` is between 0 and 1.
    async fn wait(&mut self, random: f64) {
        let now = Instant::now();
        let place = (f64::from(self.count) + random) / self.rate;
        let due = self.start + Duration::from_secs_f64(place);
        if due + LATE_MAX < now {
            (self.start, self.count) = (now, 0);
            return;
        }
        sleep_until(due).await;
    }

    fn advance(&mut self) {
        self.count = self.count.saturating_add(1);
    }
}

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// From one search for tunnels to the next.
const RESCAN_INTERVAL: Duration = Duration::from_secs(1);
/// The same while there are only tunnels that were moved lately.
const HELD_INTERVAL: Duration = Duration::from_secs(30);
/// Timers are late by a few milliseconds, which is made up for.
const LATE_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::network::{Net, SystemNet};

    #[tokio::test(start_paused = true)]
    async fn pace_keeps_the_rate() {
        let net: &dyn Net = &SystemNet;
        let (mut pace, start) = (Pace::new(NonZeroU32::new(50).unwrap()), Instant::now());
        for _ in 0..500 {
            pace.wait(net.random_f64()).await;
            pace.advance();
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!((9.9..=10.1).contains(&seconds), "{seconds}");
        // No burst after a pause.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..50 {
            pace.wait(net.random_f64()).await;
            pace.advance();
        }
        assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    }

    #[test]
    fn change_counts_once_it_is_seen_twice() {
        let composition =
            |backends| vec![crate::upstream::scripted::pool_of(backends).composition()];
        let mut pool = WatchedPool { settled: composition(3), pending: None };
        let mut look = |backends| pool.has_changed(composition(backends));
        assert_eq!([3, 4, 4, 4].map(&mut look), [false, false, true, false]);
        assert_eq!([5, 6, 7, 7].map(&mut look), [false, false, false, true]);
        // A backend that was away for a moment.
        assert_eq!([6, 7, 7, 7].map(&mut look), [false, false, true, false]);
    }
}
