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

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::h1::HttpTimeouts;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
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
        awaited: Awaited,
        #[pin]
        sleep: Sleep,
    }
}

impl RequestTimer {
    /// Starts the timer for the first request.
    pub(super) fn new(timeouts: HttpTimeouts) -> Self {
        Self { timeouts, awaited: Awaited::Head, sleep: sleep(timeouts.request_header) }
    }

    /// Ready if what is awaited has not come in time.
    pub(super) fn poll_expired(
        self: Pin<&mut Self>,
        awaited: Awaited,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        let time = match awaited {
            Awaited::Head => this.timeouts.request_header,
            Awaited::Idle => this.timeouts.keep_alive,
            Awaited::Response => {
                *this.awaited = awaited;
                return Poll::Pending;
            }
        };
        if *this.awaited != awaited {
            *this.awaited = awaited;
            this.sleep.as_mut().reset(Instant::now() + time);
        }
        this.sleep.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use futures_util::poll;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_time() {
        let second = Duration::from_secs(1);
        let timeouts =
            HttpTimeouts { request_header: 10 * second, keep_alive: 75 * second, write: second };
        let mut timer = pin!(RequestTimer::new(timeouts));
        let mut expired = async |awaited, seconds: u32| {
            // A timer starts when it is polled.
            let poll_once = std::future::poll_fn(|cx| timer.as_mut().poll_expired(awaited, cx));
            assert!(poll!(pin!(poll_once)).is_pending(), "{awaited:?}");
            advance(seconds * second).await;
            let poll_once = std::future::poll_fn(|cx| timer.as_mut().poll_expired(awaited, cx));
            poll!(pin!(poll_once)).is_ready()
        };
        // The first head.
        assert!(!expired(Awaited::Head, 9).await);
        // A response takes as long as it takes.
        assert!(!expired(Awaited::Response, 1000).await);
        assert!(!expired(Awaited::Idle, 74).await);
        // A head that begins late has its whole time.
        assert!(!expired(Awaited::Head, 9).await);
        assert!(!expired(Awaited::Response, 1).await);
        // Pipelined.
        assert!(!expired(Awaited::Head, 5).await);
        assert!(expired(Awaited::Head, 6).await);
        assert!(!expired(Awaited::Response, 1).await);
        assert!(expired(Awaited::Idle, 76).await);
    }
}
