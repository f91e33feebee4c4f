//! Interim responses (1xx) of a backend, which precede its final response (RFC 9110 15.2).

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use hyper::{HeaderMap, Response, StatusCode};

use crate::config::settings::HeaderRules;
use crate::reject::RejectReason;
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
