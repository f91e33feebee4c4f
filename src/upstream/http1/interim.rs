//! Interim responses (1xx) of a backend, which precede its final response (RFC 9110 15.2).

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use hyper::{HeaderMap, Response, StatusCode};

use crate::config::settings::HeaderRules;
use crate::reject::RejectReason;
use crate::sys::worker_step::end_step;
use crate::upstream::head;

/// Passes interim responses to the client: with the fields that may be forwarded, to `send`.
#[derive(Clone, Copy)]
pub struct InterimRelay<'r> {
    /// The changes of the route.
    pub rules: &'r HeaderRules,
    /// Sends one to the client.
    pub send: &'r (dyn Fn(&Response<()>) + Sync),
}

/// Interim responses of one exchange that have been received and not passed on yet.
#[derive(Debug, Default)]
pub struct InterimInbox {
    /// Number received so far.
    received: AtomicU32,
    heads: Mutex<Vec<(StatusCode, HeaderMap)>>,
}

impl InterimInbox {
    /// Keeps a received one, unless there were too many.
    pub fn receive(&self, status: StatusCode, headers: &HeaderMap) {
        if self.received.fetch_add(1, Ordering::Relaxed) < INTERIM_MAX {
            let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
            heads.push((status, headers.clone()));
        } else {
            // hyper continues with the next one for as long as bytes come.
            end_step();
        }
    }

    /// Whether none was received so far.
    pub fn is_empty(&self) -> bool {
        self.received.load(Ordering::Relaxed) == 0
    }

    /// Passes on what was received since the last call.
    ///
    /// # Errors
    /// [`RejectReason::BackendHandshakeInvalid`] after too many of them, or if one is malformed.
    pub fn pass_on(&self, relay: InterimRelay<'_>) -> Result<(), RejectReason> {
        let received = self.received.load(Ordering::Relaxed);
        if received == 0 {
            return Ok(());
        }
        if received > INTERIM_MAX {
            return Err(RejectReason::BackendHandshakeInvalid("too many interim responses"));
        }
        let heads = mem::take(&mut *self.heads.lock().unwrap_or_else(PoisonError::into_inner));
        for (status, headers) in heads {
            (relay.send)(&head::interim_response(status, &headers, relay.rules)?);
        }
        Ok(())
    }
}

/// Maximum number of interim responses before the final one. A long operation may send a 102 every few
/// seconds.
pub const INTERIM_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::sys::worker_step::{WorkerStep, poll_step};

    #[test]
    fn too_many_end_the_step_of_the_worker() {
        let (inbox, headers) = (InterimInbox::default(), HeaderMap::new());
        let mut cx = Context::from_waker(Waker::noop());
        let _step = WorkerStep::begin();
        for _ in 0..INTERIM_MAX {
            inbox.receive(StatusCode::PROCESSING, &headers);
        }
        assert!(poll_step(&mut cx).is_ready());
        inbox.receive(StatusCode::PROCESSING, &headers);
        assert!(poll_step(&mut cx).is_pending(), "more would be read");
    }
}
