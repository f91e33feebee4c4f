//! The idle timeout of an exchange with a backend: a limit on the time in which neither direction makes
//! progress.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The party that an exchange without progress waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The client, for its request body.
    Client,
    /// The backend.
    Backend,
}

/// Progress of one exchange, recorded by both directions.
#[derive(Debug, Default)]
pub struct ExchangeActivity {
    /// Counts progress.
    count: AtomicU32,
    /// The backend could take more of the request body than the client has sent.
    awaiting_client: AtomicBool,
    /// The client waits for a 100 of the backend before it sends its request body.
    has_expectation: AtomicBool,
    /// All of the request body was passed on.
    request_sent: AtomicBool,
    /// Bytes of the request body.
    up: AtomicU64,
    /// Bytes of the response body.
    down: AtomicU64,
}

impl ExchangeActivity {
    /// Records progress in either direction.
    pub fn record(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds bytes of the request body.
    pub fn add_up(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Adds bytes of the response body.
    pub fn add_down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of the request body and of the response body that were passed on.
    pub fn body_bytes(&self) -> [u64; 2] {
        [self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed)]
    }

    /// Records that all of the request body was passed on.
    pub fn set_request_sent(&self) {
        self.request_sent.store(true, Ordering::Relaxed);
    }

    /// Whether all of the request body was passed on.
    pub fn is_request_sent(&self) -> bool {
        self.request_sent.load(Ordering::Relaxed)
    }

    /// Sets whether the client waits for a 100 of the backend before it sends its request body.
    pub fn set_expectation(&self, expects: bool) {
        self.has_expectation.store(expects, Ordering::Relaxed);
    }

    /// Whether the exchange waits for the client's request body and not for the backend.
    pub fn set_awaiting_client(&self, awaiting: bool) {
        self.awaiting_client.store(awaiting, Ordering::Relaxed);
    }
}

/// Expires when an exchange makes no progress.
#[derive(Debug)]
pub struct IdleTimer {
    activity: Arc<ExchangeActivity>,
    /// The count at the last poll.
    seen: u32,
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl IdleTimer {
    /// Starts a timer that expires after `limit` without progress.
    pub fn new(limit: Duration) -> Self {
        Self { activity: Arc::default(), seen: 0, limit, sleep: Box::pin(sleep(limit)) }
    }

    /// Where both directions record their progress.
    pub fn activity(&self) -> &Arc<ExchangeActivity> {
        &self.activity
    }

    /// Ready when the exchange made no progress for too long. Must be called after the exchange was
    /// polled, so that data which has already arrived counts as progress.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Awaited> {
        let count = self.activity.count.load(Ordering::Relaxed);
        if count != self.seen {
            self.seen = count;
            self.sleep.as_mut().reset(Instant::now() + self.limit);
        }
        self.sleep.as_mut().poll(cx).map(|()| {
            let activity = &*self.activity;
            if activity.awaiting_client.load(Ordering::Relaxed)
                && !activity.has_expectation.load(Ordering::Relaxed)
            {
                Awaited::Client
            } else {
                Awaited::Backend
            }
        })
    }
}
