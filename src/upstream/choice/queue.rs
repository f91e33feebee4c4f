//! Handshakes that wait until a backend of their pool may have another tunnel.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The queue of one pool. Counts are ordered with those of the backends, so that no wake-up is missed. Places that become free wake those that wait in the order in which they came.
#[derive(Debug, Default)]
pub struct WaitQueue {
    waiting: AtomicUsize,
    freed: Notify,
}

/// A place in a queue, until it is dropped.
#[derive(Debug)]
pub struct Waiting<'q>(&'q WaitQueue);

impl WaitQueue {
    /// Number of handshakes that wait.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Enters the queue unless it has this length.
    pub fn enter(&self, length_max: usize) -> Option<Waiting<'_>> {
        let more = |waiting: usize| (waiting < length_max).then_some(waiting + 1);
        let entered = self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        entered.ok().map(|_| Waiting(self))
    }

    /// Wakes the first one: a backend may have another tunnel.
    pub fn notify(&self) {
        if self.len() > 0 {
            self.freed.notify_one();
        }
    }
}

impl Waiting<'_> {
    /// Completes when a place has become free. One that becomes free after [`Notified::enable`] is not missed.
    pub fn freed(&self) -> Notified<'_> {
        self.0.freed.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The number of tunnels of one backend, which `max_tunnels` limits.
#[derive(Debug, Default)]
pub struct TunnelCount(AtomicUsize);

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

    /// Counts one more, unless there are `max`.
    pub fn enter(
        self: &Arc<Self>,
        max: Option<usize>,
        queue: &Arc<WaitQueue>,
    ) -> Option<TunnelPlace> {
        let more = |count: usize| max.is_none_or(|max| count < max).then_some(count + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(TunnelPlace { count: self.clone(), queue: queue.clone() })
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
    use std::pin::pin;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn queue_and_backend_have_bounds() {
        let (count, queue) = (Arc::<TunnelCount>::default(), Arc::<WaitQueue>::default());
        let places = [(); 3].map(|()| count.enter(Some(2), &queue));
        assert_eq!((places.iter().flatten().count(), count.get()), (2, 2));
        assert!(count.enter(None, &queue).is_some());
        drop(places);
        assert_eq!(count.get(), 0);
        let waiting = [(); 3].map(|()| queue.enter(2));
        assert_eq!((waiting.iter().flatten().count(), queue.len()), (2, 2));
        drop(waiting);
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn freed_places_wake_in_order() {
        let (count, queue) = (Arc::<TunnelCount>::default(), Arc::<WaitQueue>::default());
        let place = count.enter(Some(1), &queue);
        let waiting = [(); 2].map(|()| queue.enter(2).unwrap());
        let [mut first, mut second] = [pin!(waiting[0].freed()), pin!(waiting[1].freed())];
        first.as_mut().enable();
        second.as_mut().enable();
        drop(place);
        let short = std::time::Duration::from_secs(1);
        assert!(timeout(short, second.as_mut()).await.is_err());
        assert!(timeout(short, first).await.is_ok());
        drop(count.enter(Some(1), &queue));
        assert!(timeout(short, second).await.is_ok());
    }
}
