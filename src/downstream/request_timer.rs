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
//!
//! A connection that has buffers is asked to free them when it has waited for [`REST_AFTER`]. Clients with many
//! requests do not let it come to that, because new buffers cost time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// Timeouts of a connection until it becomes a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct HttpTimeouts {
    /// From the first byte of a request head to its end.
    pub request_header: Duration,
    /// What is left of that for the first head of the connection.
    pub first_header: Duration,
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

/// What a connection has to do because of the time that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitEvent {
    /// It has waited for a moment: it should free its buffers.
    Rest,
    /// What is awaited has not come in time.
    Expired,
}

pin_project! {
    /// The timer of one connection.
    #[derive(Debug)]
    pub(super) struct RequestTimer {
        timeouts: HttpTimeouts,
        phase: ConnectionPhase,
        // Number of requests received when the timer was last polled.
        requests: u32,
        // Whether the connection had buffers then.
        is_active: bool,
        expires: Instant,
        // `Rest` comes before `expires`.
        rest_due: bool,
        #[pin]
        sleep: Sleep,
    }
}

impl RequestTimer {
    /// Starts the timer for the first request, of a connection without buffers.
    pub(super) fn new(timeouts: HttpTimeouts) -> Self {
        let expires = Instant::now() + timeouts.first_header;
        Self {
            timeouts,
            phase: ConnectionPhase::Head,
            requests: 0,
            is_active: false,
            expires,
            rest_due: false,
            sleep: sleep_until(expires),
        }
    }

    /// Ready if what is awaited has not come in time, on a connection that does not rest. `requests` is the number of
    /// requests received so far.
    pub(super) fn poll_expired(
        self: Pin<&mut Self>,
        phase: ConnectionPhase,
        requests: u32,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.poll_event(phase, requests, false, cx).map(|_| ())
    }

    /// Ready when the time for something has come. `requests` is the number of requests received so far, `is_active`
    /// whether the connection has buffers.
    pub(super) fn poll_event(
        self: Pin<&mut Self>,
        phase: ConnectionPhase,
        requests: u32,
        is_active: bool,
        cx: &mut Context<'_>,
    ) -> Poll<WaitEvent> {
        let mut this = self.project();
        let time = match phase {
            ConnectionPhase::Head => this.timeouts.request_header,
            ConnectionPhase::Idle => this.timeouts.keep_alive,
            ConnectionPhase::Response => {
                *this.phase = phase;
                return Poll::Pending;
            }
        };
        let is_new = (*this.phase, *this.requests) != (phase, requests);
        if is_new || is_active && !*this.is_active {
            let now = Instant::now();
            if is_new {
                (*this.phase, *this.requests) = (phase, requests);
                *this.expires = now + time;
            }
            *this.rest_due = is_active && now + REST_AFTER < *this.expires;
            let next = if *this.rest_due { now + REST_AFTER } else { *this.expires };
            this.sleep.as_mut().reset(next);
        }
        *this.is_active = is_active;
        ready!(this.sleep.as_mut().poll(cx));
        if !*this.rest_due {
            return Poll::Ready(WaitEvent::Expired);
        }
        *this.rest_due = false;
        this.sleep.reset(*this.expires);
        Poll::Ready(WaitEvent::Rest)
    }
}

/// How long a connection keeps its buffers while it waits. New ones cost about a hundredth of the time of a request.
const REST_AFTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_time() {
        let second = Duration::from_secs(1);
        let timeouts = HttpTimeouts {
            request_header: 10 * second,
            first_header: 10 * second,
            keep_alive: 75 * second,
            write: second,
        };
        let mut timer = pin!(RequestTimer::new(timeouts));
        let mut expired = async |phase, requests, seconds: u32| {
            let mut poll_once = async || {
                let polling = poll_fn(|cx| {
                    Poll::Ready(timer.as_mut().poll_event(phase, requests, false, cx))
                });
                polling.await
            };
            // A timer starts when it is polled.
            assert_eq!(poll_once().await, Poll::Pending, "{phase:?}");
            advance(seconds * second).await;
            poll_once().await == Poll::Ready(WaitEvent::Expired)
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

    #[tokio::test(start_paused = true)]
    async fn connection_with_buffers_rests_once_before_it_expires() {
        let (second, moment) = (Duration::from_secs(1), Duration::from_millis(1));
        let timeouts = HttpTimeouts {
            request_header: second,
            first_header: second,
            keep_alive: second,
            write: second,
        };
        let mut timer = pin!(RequestTimer::new(timeouts));
        let mut after = async |phase, is_active, time| {
            advance(time).await;
            poll_fn(|cx| Poll::Ready(timer.as_mut().poll_event(phase, 0, is_active, cx))).await
        };
        let (head, idle) = (ConnectionPhase::Head, ConnectionPhase::Idle);
        // Without buffers there is nothing to free.
        assert_eq!(after(head, false, second / 2).await, Poll::Pending);
        assert_eq!(after(head, true, moment).await, Poll::Pending);
        assert_eq!(after(head, true, REST_AFTER - moment).await, Poll::Pending);
        assert_eq!(after(head, true, 2 * moment).await, Poll::Ready(WaitEvent::Rest));
        // With its next byte it gets buffers again, and the same time as before for the head.
        assert_eq!(after(head, false, moment).await, Poll::Pending);
        assert_eq!(after(head, true, moment).await, Poll::Pending);
        assert_eq!(after(head, true, 2 * REST_AFTER).await, Poll::Ready(WaitEvent::Rest));
        assert_eq!(after(head, true, second / 4).await, Poll::Ready(WaitEvent::Expired));
        // Another phase begins with the time to rest.
        assert_eq!(after(idle, true, moment).await, Poll::Pending);
        assert_eq!(after(idle, true, 2 * REST_AFTER).await, Poll::Ready(WaitEvent::Rest));
        // It could not rest.
        assert_eq!(after(idle, true, second / 2).await, Poll::Pending);
        assert_eq!(after(idle, true, second).await, Poll::Ready(WaitEvent::Expired));
    }
}
