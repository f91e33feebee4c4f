//! The idle timeout of an exchange with a backend: a limit on the time in which neither direction makes
//! progress. A request body also has a least rate, so that a client cannot hold a backend with a byte now and
//! then.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::upstream::health::{Health, WaitingUpload};

/// How long an exchange may take without progress.
#[derive(Clone, Copy, Debug)]
pub struct IdleLimits {
    /// The longest time without progress.
    pub idle: Duration,
    /// The least rate of a request body in bytes per second. Waiting for the client uses up `idle`, and each byte
    /// received gives back the time that it may take at this rate. `None` if each byte gives back all of it.
    pub min_body_rate: Option<NonZeroU64>,
}

/// The party that an exchange without progress waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The client, which stopped sending its request body.
    Client,
    /// The client, which sends its request body too slowly.
    SlowClient,
    /// The backend.
    Backend,
}

/// Progress of one exchange, recorded by both directions.
#[derive(Debug, Default)]
pub struct ExchangeActivity {
    /// Counts progress of the response.
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
    /// Records progress of the backend.
    pub fn record(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds bytes of the request body, which are progress of the client.
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

    fn seen(&self) -> Seen {
        let expects = self.has_expectation.load(Ordering::Relaxed);
        Seen {
            count: self.count.load(Ordering::Relaxed),
            up: self.up.load(Ordering::Relaxed),
            awaits_client: self.awaiting_client.load(Ordering::Relaxed) && !expects,
        }
    }
}

/// Expires when an exchange makes no progress.
#[derive(Debug)]
pub struct IdleTimer {
    activity: Arc<ExchangeActivity>,
    limits: IdleLimits,
    /// As of the last change.
    seen: Seen,
    changed: Instant,
    /// How much longer the exchange may wait for its client, as of the last change.
    patience: Duration,
    /// When bytes of the request body were last seen.
    last_up: Instant,
    sleep: Pin<Box<Sleep>>,
    /// The backend that carries the exchange.
    health: Arc<Health>,
    /// Held while the exchange waits for its client.
    waiting: Option<WaitingUpload>,
}

/// What an [`IdleTimer`] has seen of its exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    count: u32,
    up: u64,
    awaits_client: bool,
}

impl IdleTimer {
    /// Starts a timer for an exchange that starts `now` on a connection to this backend. It expires after
    /// `limits.idle` without progress.
    pub fn new(
        limits: IdleLimits,
        activity: Arc<ExchangeActivity>,
        health: &Arc<Health>,
        now: Instant,
    ) -> Self {
        Self {
            seen: Seen { awaits_client: false, ..activity.seen() },
            activity,
            limits,
            changed: now,
            patience: limits.idle,
            last_up: now,
            sleep: Box::pin(sleep_until(now + limits.idle)),
            health: health.clone(),
            waiting: None,
        }
    }

    /// Where both directions record their progress.
    pub fn activity(&self) -> &Arc<ExchangeActivity> {
        &self.activity
    }

    /// Ready when the exchange made no progress for too long. Must be called after the exchange was
    /// polled, so that data which has already arrived counts as progress.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Awaited> {
        let current = self.activity.seen();
        if current != self.seen {
            self.update(current, Instant::now());
        }
        self.sleep.as_mut().poll(cx).map(|()| {
            let silent = self.last_up.elapsed();
            match self.seen.awaits_client {
                true if silent >= self.limits.idle / 2 => Awaited::Client,
                true => Awaited::SlowClient,
                false => Awaited::Backend,
            }
        })
    }

    fn update(&mut self, current: Seen, now: Instant) {
        let (before, idle) = (self.seen, self.limits.idle);
        let received = current.up.saturating_sub(before.up);
        if before.awaits_client {
            self.patience = self.patience.saturating_sub(now - self.changed);
        }
        if received > 0 {
            self.last_up = now;
            let earned = self.limits.min_body_rate.map_or(idle, |rate| time_at(received, rate));
            self.patience = self.patience.saturating_add(earned).min(idle);
        }
        if current.count != before.count {
            self.patience = idle;
        }
        self.waiting = match self.waiting.take() {
            Some(waiting) if current.awaits_client => Some(waiting),
            Some(_) | None => current.awaits_client.then(|| WaitingUpload::new(&self.health)),
        };
        (self.seen, self.changed) = (current, now);
        let time = if current.awaits_client { self.patience } else { idle };
        self.sleep.as_mut().reset(now + time);
    }
}

/// The time that `bytes` take at a rate per second.
fn time_at(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * NANOS_PER_SECOND / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::poll;
    use tokio::time::{advance, timeout};

    use super::*;

    const IDLE: Duration = Duration::from_secs(120);

    fn timer(rate: u64) -> IdleTimer {
        timer_on(&Arc::default(), rate)
    }

    fn timer_on(health: &Arc<Health>, rate: u64) -> IdleTimer {
        let limits = IdleLimits { idle: IDLE, min_body_rate: NonZeroU64::new(rate) };
        IdleTimer::new(limits, Arc::default(), health, Instant::now())
    }

    /// Receives `bytes` every `pause` seconds, until the timer expires or half an hour is over.
    async fn upload(timer: &mut IdleTimer, bytes: usize, pause: u64) -> Option<(Awaited, u64)> {
        let started = Instant::now();
        timer.activity.set_awaiting_client(true);
        while started.elapsed() < Duration::from_secs(1800) {
            let expired = poll_fn(|cx| timer.poll_expired(cx));
            if let Ok(awaited) = timeout(Duration::from_secs(pause), expired).await {
                return Some((awaited, started.elapsed().as_secs()));
            }
            timer.activity.add_up(bytes);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn body_must_have_the_least_rate_in_the_long_run() {
        for (rate, bytes, pause, expected) in [
            // A byte now and then.
            (500, 1, 1, Some((Awaited::SlowClient, 120))),
            (500, 1, 50, Some((Awaited::SlowClient, 120))),
            // A tenth of the rate takes as long as the allowance lasts.
            (500, 50, 1, Some((Awaited::SlowClient, 133))),
            (500, 0, 1, Some((Awaited::Client, 120))),
            // Exactly the rate, in steady parts and in large ones.
            (500, 500, 1, None),
            (500, 50_000, 100, None),
            // A pause that is too long, whatever came before.
            (500, 1_000_000, 121, Some((Awaited::Client, 120))),
            // Without a rate, any byte is progress.
            (0, 1, 119, None),
            (0, 1, 121, Some((Awaited::Client, 120))),
        ] {
            let ended = upload(&mut timer(rate), bytes, pause).await;
            assert_eq!(ended, expected, "{rate} {bytes} {pause}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_waiting_for_the_client_counts_against_it() {
        let mut timer = timer(500);
        let mut expired = async |seconds, awaiting, answered| {
            timer.activity.set_awaiting_client(awaiting);
            if answered {
                timer.activity.record();
            }
            assert!(poll!(poll_fn(|cx| timer.poll_expired(cx))).is_pending());
            advance(Duration::from_secs(seconds)).await;
            match poll!(poll_fn(|cx| timer.poll_expired(cx))) {
                Poll::Ready(awaited) => Some(awaited),
                Poll::Pending => None,
            }
        };
        // A backend that takes its time.
        assert_eq!(expired(100, true, false).await, None);
        assert_eq!(expired(100, false, false).await, None);
        assert_eq!(expired(19, true, false).await, None);
        // A response that streams while the client sends.
        for _ in 0..20 {
            assert_eq!(expired(100, true, true).await, None);
        }
        assert_eq!(expired(121, false, true).await, Some(Awaited::Backend));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_uploads_are_counted_until_dropped() {
        let health = Arc::<Health>::default();
        let mut timer = timer_on(&health, 500);
        for (awaiting, expects, uploads) in [
            (false, false, 0),
            (true, false, 1),
            (true, false, 1),
            (true, true, 0),
            (true, false, 1),
        ] {
            timer.activity.set_awaiting_client(awaiting);
            timer.activity.set_expectation(expects);
            assert!(poll!(poll_fn(|cx| timer.poll_expired(cx))).is_pending());
            assert_eq!(health.waiting_uploads(), uploads);
        }
        drop(timer);
        assert_eq!(health.waiting_uploads(), 0);
    }
}
