//! Turns for connections that are being opened. Everything up to the first response needs a turn, and there
//! are few, so that connections which arrive together are opened a few at a time: the first are ready early,
//! and those that wait have no buffers. If all progressed at once, all would be ready late.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::client::ClientKey;
use crate::sys::fair_queue::FairQueue;

/// The turns of the process, and who waits for one.
///
/// A connection that has begun comes before one that has not, because it holds more memory; but every
/// [`BEGUN_IN_A_ROW`]th turn goes to a new one if any waits. Within both groups clients take turns.
#[derive(Debug)]
pub struct Turns {
    queues: Mutex<Queues>,
}

#[derive(Debug)]
struct Queues {
    free: usize,
    begun: FairQueue<ClientKey, oneshot::Sender<Turn>>,
    new: FairQueue<ClientKey, oneshot::Sender<Turn>>,
    begun_in_a_row: usize,
}

/// The right to work on a connection that is being opened. Dropping it passes it on.
#[derive(Debug)]
pub struct Turn(Option<Arc<Turns>>);

/// Waits for a turn. Dropping it gives up the place in the queue.
#[derive(Debug)]
pub struct TurnRequest(oneshot::Receiver<Turn>);

/// Whether the connection that needs a turn has had one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpeningProgress {
    /// Nothing of it has been read.
    New,
    /// It has buffers, and perhaps half a handshake.
    Begun,
}

impl Turns {
    /// Creates this many turns.
    pub fn new(count: usize) -> Arc<Self> {
        let (begun, new) = Default::default();
        Arc::new(Self { queues: Mutex::new(Queues { free: count, begun, new, begun_in_a_row: 0 }) })
    }

    /// Requests a turn for a connection of this client.
    pub fn request(self: &Arc<Self>, client: ClientKey, progress: OpeningProgress) -> TurnRequest {
        let (sender, receiver) = oneshot::channel();
        let mut queues = self.queues();
        if queues.free > 0 {
            queues.free -= 1;
            drop(queues);
            // Cannot fail: the receiver exists.
            let _ = sender.send(Turn(Some(self.clone())));
        } else {
            match progress {
                OpeningProgress::New => queues.new.push(client, sender),
                OpeningProgress::Begun => queues.begun.push(client, sender),
            }
        }
        TurnRequest(receiver)
    }

    /// Gives a turn to the next request that was not dropped.
    fn pass_on(self: &Arc<Self>) {
        while let Some(next) = self.queues().next_or_free() {
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // It no longer waits. The turn must not pass itself on.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        // No code that can panic runs while the lock is held.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// The next in order; if no one waits, the turn becomes free.
    fn next_or_free(&mut self) -> Option<oneshot::Sender<Turn>> {
        let is_new_due = self.begun_in_a_row + 1 >= BEGUN_IN_A_ROW;
        let overdue = if is_new_due { self.new.pop() } else { None };
        if overdue.is_none()
            && let Some(next) = self.begun.pop()
        {
            self.begun_in_a_row += 1;
            return Some(next);
        }
        self.begun_in_a_row = 0;
        let next = overdue.or_else(|| self.new.pop());
        if next.is_none() {
            self.free += 1;
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

impl Future for TurnRequest {
    type Output = Turn;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Turn> {
        // The sender is only dropped with all turns; then none needs to be passed on.
        Pin::new(&mut self.0).poll(cx).map(|turn| turn.unwrap_or(Turn(None)))
    }
}

/// Out of this number of turns, all but one may go to connections that have begun.
const BEGUN_IN_A_ROW: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests that have a turn, which they keep.
    fn granted(requests: &mut [TurnRequest]) -> Vec<bool> {
        let granted = requests.iter_mut().map(|request| !request.0.is_empty());
        granted.collect()
    }

    #[test]
    fn turns_are_passed_on_in_order() {
        let turns = Turns::new(2);
        let mut requests: Vec<_> =
            (0..4).map(|_| turns.request(ClientKey::sample(1), OpeningProgress::New)).collect();
        assert_eq!(granted(&mut requests), [true, true, false, false]);
        drop(requests.remove(0));
        assert_eq!(granted(&mut requests), [true, true, false]);
        // Gives up its place; the next turn goes to the one behind.
        drop(requests.remove(1));
        drop(requests.remove(0));
        assert_eq!(granted(&mut requests), [true]);
        drop(requests);
        assert_eq!(turns.queues().free, 2);
    }

    #[test]
    fn begun_comes_first_but_does_not_starve_new() {
        let turns = Turns::new(1);
        let held = turns.request(ClientKey::sample(1), OpeningProgress::New);
        let new: Vec<_> =
            (0..3).map(|_| turns.request(ClientKey::sample(2), OpeningProgress::New)).collect();
        let begun: Vec<_> =
            (0..6).map(|_| turns.request(ClientKey::sample(3), OpeningProgress::Begun)).collect();
        let mut waiting: Vec<_> = new
            .into_iter()
            .map(|one| ("new", one))
            .chain(begun.into_iter().map(|one| ("begun", one)))
            .collect();
        drop(held);
        let mut order = Vec::new();
        while let Some(next) = waiting.iter().position(|(_, request)| !request.0.is_empty()) {
            let (kind, request) = waiting.remove(next);
            order.push(kind);
            drop(request);
        }
        let (b, n) = ("begun", "new");
        assert_eq!(order, [b, b, b, n, b, b, b, n, n]);
    }

    #[test]
    fn thousands_that_gave_up_are_skipped() {
        let turns = Turns::new(1);
        let held = turns.request(ClientKey::sample(1), OpeningProgress::New);
        let gone: Vec<_> = (0..50_000)
            .map(|_| turns.request(ClientKey::sample(1), OpeningProgress::New))
            .collect();
        let last = turns.request(ClientKey::sample(1), OpeningProgress::New);
        drop(gone);
        drop(held);
        assert!(!last.0.is_empty());
    }
}
