//! The parts of a response that its client has not accepted: those that wait for credit, and those in the HTTP/2 library
//! that wait for the connection to be writable. Each counts until it is freed, wherever it is then.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use bytes::Bytes;

/// Where the memory of a response counts that exceeds [`RESERVED_BYTES`], which count from the request on.
pub trait UnreadBudget: Debug + Send + Sync {
    /// Whether a response may take more than that.
    fn has_room(&self) -> bool;

    /// Counts bytes.
    fn add(&self, bytes: usize);

    /// Takes counted bytes back.
    fn remove(&self, bytes: usize);
}

/// The unread parts of one response.
#[derive(Clone, Debug)]
pub struct UnreadResponse(Arc<UnreadParts>);

#[derive(Debug)]
struct UnreadParts {
    budget: Arc<dyn UnreadBudget>,
    bytes: AtomicUsize,
    /// Woken when a part is freed.
    waker: AtomicWaker,
}

/// A part of a response.
struct CountedPart {
    data: Bytes,
    response: UnreadResponse,
}

impl UnreadResponse {
    /// A response of which nothing was received.
    pub fn new(budget: Arc<dyn UnreadBudget>) -> Self {
        let (bytes, waker) = (AtomicUsize::new(0), AtomicWaker::new());
        Self(Arc::new(UnreadParts { budget, bytes, waker }))
    }

    /// Ready when a further part may be received: while there is no unread one, or room in the budget. The first case does
    /// not depend on others, so that each response makes progress while its client reads.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.may_receive() {
            return Poll::Ready(());
        }
        self.0.waker.register(cx.waker());
        // A part may have been freed meanwhile.
        if self.may_receive() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn may_receive(&self) -> bool {
        self.0.bytes.load(Ordering::Acquire) == 0 || self.0.budget.has_room()
    }

    /// Counts a part until all of it has been freed.
    pub fn hold(&self, data: Bytes) -> Bytes {
        let before = self.0.bytes.fetch_add(data.len(), Ordering::AcqRel);
        let more = excess(before + data.len()) - excess(before);
        if more > 0 {
            self.0.budget.add(more);
        }
        Bytes::from_owner(CountedPart { data, response: self.clone() })
    }
}

impl AsRef<[u8]> for CountedPart {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for CountedPart {
    fn drop(&mut self) {
        let parts = &*self.response.0;
        let before = parts.bytes.fetch_sub(self.data.len(), Ordering::AcqRel);
        let less = excess(before) - excess(before - self.data.len());
        if less > 0 {
            parts.budget.remove(less);
        }
        parts.waker.wake();
    }
}

fn excess(bytes: usize) -> usize {
    bytes.saturating_sub(RESERVED_BYTES)
}

/// What a response may always take: the largest part that hyper passes on, which is one read of its buffer.
pub const RESERVED_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Room for this many bytes, and how many are taken.
    #[derive(Debug)]
    struct Room(usize, AtomicUsize);

    impl UnreadBudget for Room {
        fn has_room(&self) -> bool {
            self.1.load(Ordering::Relaxed) < self.0
        }

        fn add(&self, bytes: usize) {
            self.1.fetch_add(bytes, Ordering::Relaxed);
        }

        fn remove(&self, bytes: usize) {
            self.1.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    #[test]
    fn part_counts_until_all_of_it_is_freed() {
        let room = Arc::new(Room(1, AtomicUsize::new(0)));
        let (one, other) = (UnreadResponse::new(room.clone()), UnreadResponse::new(room.clone()));
        let may_receive = |response: &UnreadResponse| {
            response.poll_room(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        let taken = || room.1.load(Ordering::Relaxed);
        let first = one.hold(vec![1; RESERVED_BYTES].into());
        assert!(may_receive(&one) && taken() == 0);
        let mut second = one.hold(vec![2; 100].into());
        assert_eq!(taken(), 100);
        assert!(!may_receive(&one) && may_receive(&other), "one part is always possible");
        let held = other.hold(Bytes::from_static(b"abc"));
        assert!(!may_receive(&other) && taken() == 100);
        let sent = second.split_to(99);
        drop((first, second));
        assert_eq!((&sent[..2], taken()), (&[2, 2][..], 0));
        assert!(may_receive(&one) && may_receive(&other));
        drop((sent, held));
        assert_eq!((one.0.bytes.load(Ordering::Relaxed), taken()), (0, 0));
    }
}
