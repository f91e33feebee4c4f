//! Leaving, of some sessions or of all: each gets its own moment in a window, so that its clients do
//! not come back all at once, and nothing waits longer than a deadline.

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

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// Told to leave: still serving, but unready, so that balancers send nobody more.
    Leaving,
    /// No new session, the open ones are being closed.
    Draining,
}

/// How sessions are let go of.
#[derive(Clone, Debug)]
pub struct DrainPlan {
    /// What they are told.
    pub notice: Arc<SessionClose>,
    /// `rate` makes the window longer, the deadline is when what is left is cut.
    pub pace: DrainSettings,
    /// Where the jitter between two closes comes from.
    pub net: Arc<dyn Net>,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOutcome {
    /// Sessions open at its beginning.
    pub sessions: usize,
    /// Those that had to be cut.
    pub cut: usize,
    /// Whether it was hurried, by a second signal.
    pub hurried: bool,
}

impl DrainPlan {
    /// As the file says, in the words of each session's own terms.
    pub fn standard(net: Arc<dyn Net>, pace: DrainSettings, end: TerminationReason) -> Self {
        Self { notice: Arc::new(SessionClose::new(end)), pace, net }
    }

    /// Over how long so many are closed.
    pub fn window(&self, sessions: usize) -> Duration {
        let least = self.pace.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(sessions as f64 / f64::from(rate.get()))
        });
        self.pace.window.max(least).min(self.pace.deadline)
    }

    /// The i-th of n sessions is closed at `window * (i + rand) / n`, unless it is gone by then.
    async fn close_one_by_one(&self, lines: &[Weak<SessionHandle>], began: Instant) {
        let (window, count) = (self.window(lines.len()), lines.len().max(1) as f64);
        for (index, line) in lines.iter().enumerate() {
            let moment = began + window.mul_f64((index as f64 + self.net.random_f64()) / count);
            // In short naps: where nobody is left there is nothing to wait for.
            while line.strong_count() > 0 && Instant::now() < moment {
                sleep_until(moment.min(Instant::now() + NAP_MAX)).await;
            }
            if let Some(line) = line.upgrade() {
                line.leave(&self.notice);
            }
        }
    }

    /// Closes these sessions, and cuts what is left at the deadline. Whoever leaves meanwhile is
    /// held by nothing here.
    pub async fn drain(&self, lines: &[Weak<SessionHandle>]) -> DrainOutcome {
        let polite = async {
            self.close_one_by_one(lines, Instant::now()).await;
            while lines.iter().any(|line| line.strong_count() > 0) {
                sleep(LOOK_EVERY).await;
            }
        };
        let late = timeout(self.pace.deadline, polite).await.is_err();
        let left = lines.iter().filter_map(Weak::upgrade).filter(|line| late && !line.is_gone());
        let cut = left.inspect(|line| line.cut()).count();
        DrainOutcome { sessions: lines.len(), cut, hurried: false }
    }
}

/// Closes all sessions, and waits for them and for every other task of the tracker. `hurry`
/// becomes ready when there is no time for that.
pub async fn drain(
    registry: &Registry,
    tasks: &TaskTracker,
    course: &DrainPlan,
    hurry: impl Future<Output = ()>,
) -> DrainOutcome {
    let began = Instant::now();
    let deadline = began + course.pace.deadline;
    let lines: Vec<_> = registry.lines().iter().map(Arc::downgrade).collect();
    let sessions = lines.len();
    tasks.close();
    let polite = async {
        course.close_one_by_one(&lines, began).await;
        // Sessions whose handshake was under way when the drain began.
        registry.lines().iter().for_each(|line| line.leave(&course.notice));
        tasks.wait().await;
    };
    let mut hurry = pin!(hurry);
    let hurried = select! {
        () = polite => false,
        () = sleep_until(deadline) => false,
        () = &mut hurry => true,
    };
    let left = registry.lines();
    left.iter().for_each(|line| line.cut());
    // A session that is cut only has its record to write.
    let _ = timeout(LAST_WORDS, tasks.wait()).await;
    DrainOutcome { sessions, cut: left.len(), hurried }
}

const LAST_WORDS: Duration = Duration::from_secs(1);
/// How soon the last goodbye is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const NAP_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::net::network::SystemNet;

    #[test]
    fn a_rate_makes_the_window_longer_up_to_the_deadline() {
        let seconds = Duration::from_secs;
        let pace = |rate| DrainSettings {
            delay: None,
            window: seconds(10),
            rate: NonZeroU32::new(rate),
            deadline: seconds(60),
        };
        let window = |rate, count| {
            DrainPlan::standard(Arc::new(SystemNet), pace(rate), TerminationReason::Drained)
                .window(count)
        };
        assert_eq!(window(0, 100_000), seconds(10));
        assert_eq!(window(100, 500), seconds(10));
        assert_eq!(window(100, 3_000), seconds(30));
        assert_eq!(window(100, 100_000), seconds(60));
    }
}
