//! The timer of a client connection while it waits for a request.
//!
//! hyper's own timer covers the idle time of a connection together with the head that ends it, so that one
//! duration would have to be short for slow clients and long for balancers that keep idle connections.
//!
//! | state | event | next | restarts the timer |
//! | --- | --- | --- | --- |
//! | `Head` | the head is complete | `Response` | |
//! | `Response` | everything has been written, and nothing was received | `Idle` | with `keep_alive` |
//! | `Response` | everything has been written, and a part of the next head was received | `Head` | with `request_header` |
//! | `Idle` | the first byte of a head | `Head` | with `request_header` |
//!
//! A request whose response is written within the poll that received it, such as a health check, passes through
//! `Response` unseen; the number of requests shows it, and the timer restarts as if it had been seen.
//!
//! A new connection is in `Head`: its first request has to follow at once.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

/// Timeouts of a connection until it becomes a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct HttpTimeouts {
    /// From the first byte of a request head, or the start of the connection, to the end of the head.
    pub request_header: Duration,
    /// Maximum time without a byte between a response and the next request.
    pub keep_alive: Duration,
    /// Maximum time in which a client accepts no bytes of its response.
    pub write: Duration,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionPhase {
    /// The rest of a request head, or the first request.
    Head,
    /// The response to the current request; other timeouts apply.
    Response,
    /// The next request on an idle connection.
    Idle,
}

impl ConnectionPhase {
    /// `is_answered`: each request has its whole response. `is_idle`: there was one, and no byte after it.
    pub(super) fn of(is_answered: bool, is_idle: bool) -> Self {
        match (is_answered, is_idle) {
            (false, _) => Self::Response,
            (true, true) => Self::Idle,
            (true, false) => Self::Head,
        }
    }
}

pin_project! {
    /// The timer of one connection.
    #[derive(Debug)]
    pub(super) struct RequestTimer {
        timeouts: HttpTimeouts,
        phase: ConnectionPhase,
        // Number of requests received when the timer was last polled.
        requests: u32,
        #[pin]
        sleep: Sleep,
    }
}

impl RequestTimer {
    /// Starts the timer for the first request.
    pub(super) fn new(timeouts: HttpTimeouts) -> Self {
        let sleep = sleep(timeouts.request_header);
        Self { timeouts, phase: ConnectionPhase::Head, requests: 0, sleep }
    }

    /// Ready if what is awaited has not come in time. `requests` is the number of requests received so far.
    pub(super) fn poll_expired(
        self: Pin<&mut Self>,
        phase: ConnectionPhase,
        requests: u32,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        let time = match phase {
            ConnectionPhase::Head => this.timeouts.request_header,
            ConnectionPhase::Idle => this.timeouts.keep_alive,
            ConnectionPhase::Response => {
                *this.phase = phase;
                return Poll::Pending;
            }
        };
        if (*this.phase, *this.requests) != (phase, requests) {
            (*this.phase, *this.requests) = (phase, requests);
            this.sleep.as_mut().reset(Instant::now() + time);
        }
        this.sleep.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_time() {
        let second = Duration::from_secs(1);
        let timeouts =
            HttpTimeouts { request_header: 10 * second, keep_alive: 75 * second, write: second };
        let mut timer = pin!(RequestTimer::new(timeouts));
        let mut expired = async |phase, requests, seconds: u32| {
            // A timer starts when it is polled.
            let poll_once =
                std::future::poll_fn(|cx| timer.as_mut().poll_expired(phase, requests, cx));
            assert!(poll!(pin!(poll_once)).is_pending(), "{phase:?}");
            advance(seconds * second).await;
            let poll_once =
                std::future::poll_fn(|cx| timer.as_mut().poll_expired(phase, requests, cx));
            poll!(pin!(poll_once)).is_ready()
        };
        // The first head.
        assert!(!expired(ConnectionPhase::Head, 0, 9).await);
        // A response takes as long as it takes.
        assert!(!expired(ConnectionPhase::Response, 1, 1000).await);
        assert!(!expired(ConnectionPhase::Idle, 1, 74).await);
        // A head that begins late has its whole time.
        assert!(!expired(ConnectionPhase::Head, 1, 9).await);
        assert!(!expired(ConnectionPhase::Response, 2, 1).await);
        // Pipelined.
        assert!(!expired(ConnectionPhase::Head, 2, 5).await);
        assert!(expired(ConnectionPhase::Head, 2, 6).await);
        assert!(!expired(ConnectionPhase::Response, 3, 1).await);
        assert!(expired(ConnectionPhase::Idle, 3, 76).await);
        // Answered at once, as a health check is.
        assert!(!expired(ConnectionPhase::Idle, 4, 70).await);
        assert!(!expired(ConnectionPhase::Idle, 5, 70).await);
        assert!(!expired(ConnectionPhase::Head, 6, 9).await);
        assert!(!expired(ConnectionPhase::Head, 7, 9).await);
    }
}
