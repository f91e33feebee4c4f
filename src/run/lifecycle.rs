//! Leaving: every session gets its own moment in a window, so that its clients do not come back
//! all at once, and nothing waits longer than a deadline.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::select;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::chance::fraction;
use super::registry::Registry;
use crate::config::settings::DrainSettings;
use crate::tunnel::Order;

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// Told to leave: no new session, the open ones are being closed.
    Draining,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Sessions open at its beginning.
    pub sessions: usize,
    /// Those that had to be cut.
    pub cut: usize,
    /// Whether it was hurried, by a second signal.
    pub hurried: bool,
}

/// Closes all sessions, and waits for them and for every other task of the tracker. `hurry`
/// becomes ready when there is no time for that.
pub async fn drain(
    registry: &Registry,
    tasks: &TaskTracker,
    settings: &DrainSettings,
    hurry: impl Future<Output = ()>,
) -> Drained {
    let began = Instant::now();
    let deadline = began + settings.deadline;
    let sessions = registry.len();
    tasks.close();
    let polite = async {
        close_one_by_one(registry, began, settings.window).await;
        tasks.wait().await;
    };
    let mut hurry = pin!(hurry);
    let hurried = select! {
        () = polite => false,
        () = sleep_until(deadline) => false,
        () = &mut hurry => true,
    };
    let cut = registry.len();
    registry.order_all(Order::Cut);
    // A session that is cut only has its record to write.
    let _ = timeout(LAST_WORDS, tasks.wait()).await;
    Drained { sessions, cut, hurried }
}

/// The i-th of n sessions is closed at `window * (i + rand) / n`.
async fn close_one_by_one(registry: &Registry, began: Instant, window: Duration) {
    let lines = registry.lines();
    let count = lines.len().max(1) as f64;
    for (index, line) in lines.into_iter().enumerate() {
        sleep_until(began + window.mul_f64((index as f64 + fraction()) / count)).await;
        line.order(Order::Drain);
    }
    // Sessions whose handshake was under way when the drain began.
    registry.order_all(Order::Drain);
}

const LAST_WORDS: Duration = Duration::from_secs(1);
