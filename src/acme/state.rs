//! What the process knows about the certificates that it orders, shared by the task that does so, listeners that
//! answer challenges, and operators.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::LastError;
use crate::telemetry::metrics::process_snapshot::{AcmeCertificateSnapshot, AcmeSnapshot};
use crate::tls::challenges::ChallengeAnswers;

/// Shared by all snapshots that order certificates.
#[derive(Debug, Default)]
pub struct AcmeState {
    /// Answers to challenges.
    pub answers: Arc<ChallengeAnswers>,
    /// By the first name of each certificate.
    status: Mutex<BTreeMap<String, OrderStatus>>,
    /// The certificates that operators have ordered.
    requested: Mutex<BTreeSet<String>>,
    /// Orders that have failed, and those that have not.
    ended: [AtomicU64; 2],
}

/// An ordered certificate, as operators see it. Times are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderStatus {
    /// Its names.
    pub names: Vec<String>,
    /// Whether an order is in progress.
    pub is_ordering: bool,
    /// Last second of the validity of the one in use, which may be one that the names had before; `None` if there is
    /// none.
    pub not_after: Option<u64>,
    /// When the next order is made.
    pub next_order: u64,
    /// Failed orders since the last success.
    pub failures: u32,
    /// Why the last one failed.
    pub last_error: Option<LastError>,
}

impl AcmeState {
    /// Replaces the status of all certificates.
    pub fn set_status(&self, status: BTreeMap<String, OrderStatus>) {
        *locked(&self.status) = status;
    }

    /// Changes the status of one certificate.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut OrderStatus)) {
        if let Some(status) = locked(&self.status).get_mut(name) {
            change(status);
        }
    }

    /// The status of all certificates, by their first names.
    pub fn status(&self) -> BTreeMap<String, OrderStatus> {
        locked(&self.status).clone()
    }

    /// Counts an order.
    pub fn count(&self, is_issued: bool) {
        self.ended[usize::from(is_issued)].fetch_add(1, Ordering::Relaxed);
    }

    /// What metrics show.
    pub fn snapshot(&self) -> AcmeSnapshot {
        let [failed, issued] = [0, 1].map(|index: usize| self.ended[index].load(Ordering::Relaxed));
        let certificates =
            self.status().into_iter().map(|(name, status)| AcmeCertificateSnapshot {
                name,
                is_issued: status.not_after.is_some(),
                failures: status.failures,
                next_order: status.next_order,
            });
        AcmeSnapshot { issued, failed, certificates: certificates.collect() }
    }

    /// Asks for an order now, whatever the back-off.
    pub fn request(&self, name: &str) {
        locked(&self.requested).insert(name.to_owned());
    }

    /// Whether an order was asked for.
    pub fn is_requested(&self, name: &str) -> bool {
        locked(&self.requested).contains(name)
    }

    /// Forgets the request for an order.
    pub fn take_request(&self, name: &str) -> bool {
        locked(&self.requested).remove(name)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
