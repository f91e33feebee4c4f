//! Draining of some or all sessions. The closes are spread over a window, so that clients do not
//! all reconnect at once, and sessions still open at the deadline are aborted.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::select;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use ws::{SessionClose, TerminationReason};

use super::registry::{Registry, SessionHandle};
use crate::config::settings::DrainSettings;
use crate::net::network::Net;

/// The lifecycle of the process.
///
/// | state | event | next |
/// | --- | --- | --- |
/// | `Running` | SIGTERM, SIGINT, or a successor serves | `Unready` |
/// | `Unready` | `drain.delay` has passed, or a second signal | `Draining` |
/// | `Draining` | all tunnels closed, `drain.deadline`, or a second signal | the process exits |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serves and reports ready.
    Running,
    /// Still serves, but `/readyz` fails, so that load balancers stop sending clients.
    Unready,
    /// Admits no new sessions and closes the open ones.
    Draining,
}

/// How sessions are closed.
#[derive(Clone, Debug)]
pub struct DrainPlan {
    /// Termination reason, close code and close reason.
    pub close: Arc<SessionClose>,
    /// Window, rate and deadline. A rate can extend the window; sessions open at the deadline are
    /// aborted.
    pub pacing: DrainSettings,
    /// The source of the random spread between closes.
    pub net: Arc<dyn Net>,
}

/// The result of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOutcome {
    /// Sessions open at its start.
    pub sessions: usize,
    /// Sessions that were aborted.
    pub aborted: usize,
    /// Whether a second signal ended it early.
    pub forced: bool,
}

impl DrainPlan {
    /// A plan with the configured pacing and the close code and reason of each session's policy.
    pub fn standard(net: Arc<dyn Net>, pacing: DrainSettings, end: TerminationReason) -> Self {
        Self { close: Arc::new(SessionClose::new(end)), pacing, net }
    }

    /// The time over which this number of closes is spread.
    pub fn window(&self, sessions: usize) -> Duration {
        let by_rate = self.pacing.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(sessions as f64 / f64::from(rate.get()))
        });
        self.pacing.window.max(by_rate).min(self.pacing.deadline)
    }

    /// Closes the i-th of n sessions at `window * (i + random) / n`, unless it has ended by then.
    async fn close_one_by_one(&self, sessions: &[Weak<SessionHandle>], started: Instant) {
        let (window, count) = (self.window(sessions.len()), sessions.len().max(1) as f64);
        for (index, session) in sessions.iter().enumerate() {
            let due = started + window.mul_f64((index as f64 + self.net.random_f64()) / count);
            // Polled, so that a session that has ended is not waited for.
            while session.strong_count() > 0 && Instant::now() < due {
                sleep_until(due.min(Instant::now() + POLL_MAX)).await;
            }
            if let Some(session) = session.upgrade() {
                session.close(&self.close);
            }
        }
    }

    /// Closes the sessions and aborts those still open at the deadline. The weak references do not
    /// keep a session alive that ends earlier.
    pub async fn drain(&self, sessions: &[Weak<SessionHandle>]) -> DrainOutcome {
        let closing = async {
            self.close_one_by_one(sessions, Instant::now()).await;
            while sessions.iter().any(|session| session.strong_count() > 0) {
                sleep(POLL_INTERVAL).await;
            }
        };
        let late = timeout(self.pacing.deadline, closing).await.is_err();
        let open = sessions.iter().filter_map(Weak::upgrade);
        let open = open.filter(|session| late && !session.has_ended());
        let aborted = open.inspect(|session| session.abort()).count();
        DrainOutcome { sessions: sessions.len(), aborted, forced: false }
    }
}

/// Closes all sessions and waits for all tasks of the tracker. At the deadline, or as soon as
/// `force` is ready, the open sessions are aborted.
pub async fn drain(
    registry: &Registry,
    tasks: &TaskTracker,
    plan: &DrainPlan,
    force: impl Future<Output = ()>,
) -> DrainOutcome {
    let started = Instant::now();
    let deadline = started + plan.pacing.deadline;
    let sessions: Vec<_> = registry.sessions().iter().map(Arc::downgrade).collect();
    let count = sessions.len();
    tasks.close();
    let closing = async {
        plan.close_one_by_one(&sessions, started).await;
        // Sessions whose handshake was in progress when the drain started.
        registry.sessions().iter().for_each(|session| session.close(&plan.close));
        tasks.wait().await;
    };
    let mut force = pin!(force);
    let forced = select! {
        () = closing => false,
        () = sleep_until(deadline) => false,
        () = &mut force => true,
    };
    let open = registry.sessions();
    open.iter().for_each(|session| session.abort());
    // An aborted session only has to write its record.
    let _ = timeout(RECORD_TIMEOUT, tasks.wait()).await;
    DrainOutcome { sessions: count, aborted: open.len(), forced }
}

const RECORD_TIMEOUT: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const POLL_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::net::network::SystemNet;

    #[test]
    fn rate_extends_the_window_up_to_the_deadline() {
        let seconds = Duration::from_secs;
        let pacing = |rate| DrainSettings {
            delay: None,
            window: seconds(10),
            rate: NonZeroU32::new(rate),
            deadline: seconds(60),
        };
        let window = |rate, count| {
            DrainPlan::standard(Arc::new(SystemNet), pacing(rate), TerminationReason::Drained)
                .window(count)
        };
        assert_eq!(window(0, 100_000), seconds(10));
        assert_eq!(window(100, 500), seconds(10));
        assert_eq!(window(100, 3_000), seconds(30));
        assert_eq!(window(100, 100_000), seconds(60));
    }
}
