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

pin_project! {
    /// The timer of one connection.
    #[derive(Debug)]
    pub(super) struct RequestTimer {
        timeouts: HttpTimeouts,
        phase: ConnectionPhase,
        #[pin]
        sleep: Sleep,
    }
}

impl RequestTimer {
    /// Starts the timer for the first request.
    pub(super) fn new(timeouts: HttpTimeouts) -> Self {
        Self { timeouts, phase: ConnectionPhase::Head, sleep: sleep(timeouts.request_header) }
    }

    /// Ready if what is awaited has not come in time.
    pub(super) fn poll_expired(
        self: Pin<&mut Self>,
        phase: ConnectionPhase,
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
        if *this.phase != phase {
            *this.phase = phase;
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
        let mut expired = async |phase, seconds: u32| {
            // A timer starts when it is polled.
            let poll_once = std::future::poll_fn(|cx| timer.as_mut().poll_expired(phase, cx));
            assert!(poll!(pin!(poll_once)).is_pending(), "{phase:?}");
            advance(seconds * second).await;
            let poll_once = std::future::poll_fn(|cx| timer.as_mut().poll_expired(phase, cx));
            poll!(pin!(poll_once)).is_ready()
        };
        // The first head.
        assert!(!expired(ConnectionPhase::Head, 9).await);
        // A response takes as long as it takes.
        assert!(!expired(ConnectionPhase::Response, 1000).await);
        assert!(!expired(ConnectionPhase::Idle, 74).await);
        // A head that begins late has its whole time.
        assert!(!expired(ConnectionPhase::Head, 9).await);
        assert!(!expired(ConnectionPhase::Response, 1).await);
        // Pipelined.
        assert!(!expired(ConnectionPhase::Head, 5).await);
        assert!(expired(ConnectionPhase::Head, 6).await);
        assert!(!expired(ConnectionPhase::Response, 1).await);
        assert!(expired(ConnectionPhase::Idle, 76).await);
    }
}
