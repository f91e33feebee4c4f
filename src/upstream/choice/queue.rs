//! Handshakes that wait until a backend of their pool may have another tunnel.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The queue of one pool. Only the first handshake tries to get a place, so that they get theirs in the order in
/// which they came. One that cannot use the free places may let the next one try.
#[derive(Debug, Default)]
pub struct WaitQueue {
    waiting: Mutex<VecDeque<WaitingTurn>>,
    /// As in the list. Ordered with the counts of the backends, so that no wake-up is missed.
    length: AtomicUsize,
    tickets: AtomicU64,
}

#[derive(Debug)]
struct WaitingTurn {
    /// Ascending.
    ticket: u64,
    turn: Arc<Notify>,
}

/// A place in a queue, until it is dropped.
#[derive(Debug)]
pub struct Waiting<'q> {
    queue: &'q WaitQueue,
    ticket: u64,
    turn: Arc<Notify>,
}

impl WaitQueue {
    /// Number of handshakes that wait.
    pub fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// Enters the queue unless it has this length.
    pub fn enter(&self, length_max: usize) -> Option<Waiting<'_>> {
        let mut waiting = self.lock();
        if waiting.len() >= length_max {
            return None;
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let turn = Arc::<Notify>::default();
        waiting.push_back(WaitingTurn { ticket, turn: turn.clone() });
        self.length.store(waiting.len(), Ordering::SeqCst);
        Some(Waiting { queue: self, ticket, turn })
    }

    /// Lets the first one try: a backend may have another tunnel.
    pub fn notify(&self) {
        if self.len() > 0 {
            notify(self.lock().front());
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<WaitingTurn>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Whether no other one came before.
    pub fn is_first(&self) -> bool {
        self.queue.lock().front().is_some_and(|first| first.ticket == self.ticket)
    }

    /// Completes when it may try. A turn that comes earlier is not missed.
    pub async fn turn(&self) {
        self.turn.notified().await;
    }

    /// Lets the next one try, which may use other backends.
    pub fn pass_on(&self) {
        let waiting = self.queue.lock();
        let next = waiting.partition_point(|of| of.ticket <= self.ticket);
        notify(waiting.get(next));
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        let was_first = waiting.front().is_some_and(|first| first.ticket == self.ticket);
        if let Ok(index) = waiting.binary_search_by_key(&self.ticket, |of| of.ticket) {
            waiting.remove(index);
        }
        self.queue.length.store(waiting.len(), Ordering::SeqCst);
        if was_first {
            // There may be several places.
            notify(waiting.front());
        }
    }
}

fn notify(waiting: Option<&WaitingTurn>) {
    if let Some(WaitingTurn { turn, .. }) = waiting {
        turn.notify_one();
    }
}

/// The number of tunnels of one backend, which `max_tunnels` limits.
#[derive(Debug, Default)]
pub struct TunnelCount(AtomicUsize);

/// A backend has `max_tunnels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaximumReached;

/// One tunnel of a backend, until it is dropped.
#[derive(Debug)]
pub struct TunnelPlace {
    count: Arc<TunnelCount>,
    queue: Arc<WaitQueue>,
}

impl TunnelCount {
    /// The number now.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Counts one more.
    ///
    /// # Errors
    /// There are `max`.
    pub fn enter(
        self: &Arc<Self>,
        max: Option<usize>,
        queue: &Arc<WaitQueue>,
    ) -> Result<TunnelPlace, MaximumReached> {
        let more = |count: usize| max.is_none_or(|max| count < max).then_some(count + 1);
        let entered = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        entered.map_err(|_| MaximumReached)?;
        Ok(TunnelPlace { count: self.clone(), queue: queue.clone() })
    }
}

impl Drop for TunnelPlace {
    fn drop(&mut self) {
        self.count.0.fetch_sub(1, Ordering::SeqCst);
        self.queue.notify();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Whether it is the turn of this one.
    async fn has_turn(waiting: &Waiting<'_>) -> bool {
        timeout(Duration::from_secs(1), waiting.turn()).await.is_ok()
    }

    #[test]
    fn queue_and_backend_have_bounds() {
        let (count, queue) = (Arc::<TunnelCount>::default(), Arc::<WaitQueue>::default());
        let places = [(); 3].map(|()| count.enter(Some(2), &queue));
        assert_eq!((places.iter().flatten().count(), count.get()), (2, 2));
        assert!(count.enter(None, &queue).is_ok());
        drop(places);
        assert_eq!(count.get(), 0);
        let waiting = [(); 3].map(|()| queue.enter(2));
        assert_eq!((waiting.iter().flatten().count(), queue.len()), (2, 2));
        drop(waiting);
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn first_one_has_every_turn_until_it_leaves() {
        let (count, queue) = (Arc::<TunnelCount>::default(), Arc::<WaitQueue>::default());
        let [first, second, third] = [(); 3].map(|()| queue.enter(3).unwrap());
        assert!(first.is_first() && !second.is_first());
        for _ in 0..2 {
            drop(count.enter(Some(1), &queue));
            assert!(!has_turn(&second).await);
            assert!(has_turn(&first).await);
        }
        // One that leaves does not take the turn of others with it.
        drop(second);
        assert!(!has_turn(&third).await);
        drop(first);
        assert!(third.is_first() && has_turn(&third).await);
    }

    #[tokio::test(start_paused = true)]
    async fn turn_is_passed_on_in_order() {
        let queue = WaitQueue::default();
        let [first, second, third] = [(); 3].map(|()| queue.enter(3).unwrap());
        first.pass_on();
        assert!(has_turn(&second).await && !has_turn(&third).await);
        second.pass_on();
        assert!(has_turn(&third).await);
        third.pass_on();
        assert!(!has_turn(&first).await);
    }
}
