//! Orders certificates and renews them (`[acme]`), one after the other. Without `[acme]` nothing runs and nothing is
//! kept. Issued certificates are activated like any other renewed file.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::select;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::acme::attempt::{Attempt, AttemptOutcome, AttemptTask, Attempted};
use crate::acme::cert_files;
use crate::acme::dns_records::clean_interrupted;
use crate::acme::record::{Backoff, CertRecord};
use crate::acme::renewal_info::certificate_id;
use crate::acme::schedule::{CertFacts, backoff_end, order_time, renewal_info_time, spread_of};
use crate::acme::state::{AcmeState, OrderStatus};
use crate::acme::storage::finish_install;
use crate::acme::tried::Tried;
use crate::config::settings::acme::{AcmeCertificate, AcmeSettings};
use crate::net::network::Net;
use crate::proxy::state::ProxyState;
use crate::sessions::drain_plan::Phase;
use crate::sys::clock::wall;
use crate::telemetry::timestamp::rfc3339;
use crate::tls::certs::CertTable;
use crate::tls::certs::issued::{covers, validity_of};
use crate::tls::certs::ordered_cert::OrderedCert;

/// Orders certificates while the configuration asks for it. Never returns.
pub async fn run(state: Arc<ProxyState>) {
    loop {
        if state.snapshot().acme.is_some() {
            // In a box, so that a process without certificates to order does not keep room for it.
            let orders: Pin<Box<dyn Future<Output = ()> + Send>> =
                Box::pin(CertificateOrders::default().run(&state));
            orders.await;
        }
        state.certificate_orders.notified().await;
    }
}

/// What is known about the certificates that are ordered.
#[derive(Default)]
struct CertificateOrders {
    /// By folder.
    records: HashMap<PathBuf, CertRecord>,
    /// Failures of the directory.
    directory: Backoff,
    /// What orders try at present.
    tried: Tried,
}

/// What is to be done next for a certificate, and when, in seconds since 1970.
struct PlannedAttempt {
    certificate: OrderedCert,
    at: u64,
    task: AttemptTask,
}

impl CertificateOrders {
    /// Returns once the configuration asks for no certificates.
    async fn run(mut self, state: &Arc<ProxyState>) {
        loop {
            let snapshot = state.snapshot();
            let (Some(acme), Some(settings)) = (&snapshot.acme, &snapshot.settings.acme) else {
                return;
            };
            if state.phase() != Phase::Running {
                // A successor has the listeners, which answer challenges.
                return std::future::pending().await;
            }
            let ordered = snapshot.certs().map_or(&[][..], CertTable::ordered);
            self.load(settings, ordered).await;
            let now = wall() as u64;
            let (planned, status) = self.plan(acme, settings, ordered, now);
            acme.set_status(status);
            let due = planned.into_iter().min_by_key(|planned| planned.at);
            let wait = match due {
                Some(planned) if planned.at <= now => {
                    self.attempt(state, acme, settings, planned).await
                }
                Some(planned) => Duration::from_secs(planned.at - now).min(LOOK_INTERVAL),
                None => LOOK_INTERVAL,
            };
            select! {
                () = sleep(wait) => {}
                () = state.certificate_orders.notified() => {}
                () = state.wait_draining() => {}
            }
        }
    }

    /// Reads the records of certificates that are new here, and looks at what would be tried.
    async fn load(&mut self, settings: &AcmeSettings, ordered: &[OrderedCert]) {
        self.records.retain(|folder, _| ordered.iter().any(|of| of.certificate.folder == *folder));
        let new = |of: &&OrderedCert| !self.records.contains_key(&of.certificate.folder);
        let new: Vec<Arc<AcmeCertificate>> =
            ordered.iter().filter(new).map(|of| of.certificate.clone()).collect();
        let settings = settings.clone();
        let read = move || {
            let read = |certificate: Arc<AcmeCertificate>| {
                let record = finish_install(&certificate.folder)
                    .and_then(|()| cert_files::read(&certificate));
                let record = record.unwrap_or_else(|failure| {
                    error!(certificate = certificate.name(), error = %failure, "ACME: state unreadable");
                    CertRecord::default()
                });
                (certificate.folder.clone(), record)
            };
            (Tried::new(&settings), new.into_iter().map(read).collect::<Vec<_>>())
        };
        let Ok((tried, new)) = spawn_blocking(read).await else { return };
        if self.tried.account != tried.account {
            self.directory = Backoff::default();
        }
        self.tried = tried;
        self.records.extend(new);
        self.forget_delays(ordered);
    }

    /// The delay after failures does not hold for what has not failed.
    fn forget_delays(&mut self, ordered: &[OrderedCert]) {
        let now = wall() as u64;
        for of in ordered {
            let certificate = &of.certificate;
            let Some(record) = self.records.get_mut(&certificate.folder) else { continue };
            let void = record.tries(&self.tried.order(certificate));
            if void.is_some_and(|void| backoff_end(&void, now) > now) {
                info!(
                    certificate = certificate.name(),
                    error = record.last_error.as_ref().map(|last| &*last.text),
                    "ACME: settings of the failed order have changed, so its delay does not hold"
                );
            }
        }
    }

    /// The next attempt for each certificate, and the status for operators.
    fn plan(
        &self,
        acme: &AcmeState,
        settings: &AcmeSettings,
        ordered: &[OrderedCert],
        now: u64,
    ) -> (Vec<PlannedAttempt>, BTreeMap<String, OrderStatus>) {
        let mut status = BTreeMap::new();
        let mut planned = Vec::new();
        for of in ordered {
            let (certificate, issued) = (&of.certificate, of.issued.as_deref());
            let record = self.records.get(&certificate.folder).cloned().unwrap_or_default();
            let validity = issued.map(validity_of);
            let facts = CertFacts {
                validity,
                covers_names: issued.is_some_and(|issued| covers(issued, &certificate.names)),
                record: &record,
                directory: &settings.directory,
                spread: spread_of(certificate.name()),
            };
            let is_requested = acme.is_requested(certificate.name());
            let directory = backoff_end(&self.directory, now);
            let order_at = order_time(&facts, now).max(backoff_end(&record.backoff, now));
            let order_at = if is_requested { 0 } else { order_at.max(directory) };
            let info_at = issued
                .and_then(certificate_id)
                .map(|id| renewal_info_time(&record, &id, now).max(directory))
                .filter(|at| *at < order_at);
            let (at, task) = match info_at {
                Some(at) if order_at > now => (at, AttemptTask::RenewalInfo),
                Some(_) | None => (order_at, AttemptTask::Order { is_requested }),
            };
            planned.push(PlannedAttempt { certificate: of.clone(), at, task });
            let row = OrderStatus {
                names: certificate.names.clone(),
                is_ordering: false,
                not_after: validity.map(|(_, until)| until).or(of.kept_until),
                next_order: order_at.max(now),
                failures: match record.last_error {
                    Some(_) => record.failures().max(self.directory.failures),
                    None => 0,
                },
                last_error: record.last_error,
            };
            status.insert(certificate.name().to_owned(), row);
        }
        (planned, status)
    }

    /// Makes an attempt. Returns how long to wait before the next one.
    async fn attempt(
        &mut self,
        state: &Arc<ProxyState>,
        acme: &Arc<AcmeState>,
        settings: &AcmeSettings,
        planned: PlannedAttempt,
    ) -> Duration {
        let OrderedCert { certificate, issued, kept_until, .. } = planned.certificate;
        let name = certificate.name();
        if planned.task != AttemptTask::RenewalInfo {
            acme.take_request(name);
            acme.update(name, |status| status.is_ordering = true);
        }
        let net: &dyn Net = &*state.net;
        let attempt = Attempt {
            net: state.net.clone(),
            settings: settings.clone(),
            certificate: certificate.clone(),
            issued: issued.clone(),
            acme: acme.clone(),
            task: planned.task,
            tried: self.tried.clone(),
            record: self.records.get(&certificate.folder).cloned().unwrap_or_default(),
            directory: self.directory,
            random: net.random_f64(),
            now: wall() as u64,
        };
        // Files are written between requests, and a slow disk must not delay anything else.
        let (runtime, process) = (Handle::current(), state.clone());
        let interrupted = (settings.clone(), certificate.clone());
        // The process does not end while DNS records of a challenge are removed.
        let token = state.tasks.token();
        let attempting = move || {
            let _token = token;
            runtime.block_on(async {
                select! {
                    attempted = attempt.run() => Some(attempted),
                    () = process.wait_draining() => {
                        clean_interrupted(&interrupted.0, &interrupted.1).await;
                        None
                    }
                }
            })
        };
        let Ok(Some(attempted)) = spawn_blocking(attempting).await else { return LOOK_INTERVAL };
        acme.update(name, |status| status.is_ordering = false);
        let is_busy = attempted.outcome == Ok(AttemptOutcome::Busy);
        if is_busy && planned.task == (AttemptTask::Order { is_requested: true }) {
            acme.request(name);
        }
        let is_first = issued.is_none() && kept_until.is_none();
        self.finish(state, acme, &certificate, is_first, attempted)
    }

    /// Keeps and logs the result of an attempt.
    fn finish(
        &mut self,
        state: &ProxyState,
        acme: &AcmeState,
        certificate: &AcmeCertificate,
        is_first: bool,
        attempted: Attempted,
    ) -> Duration {
        let Attempted { record, directory, outcome } = attempted;
        let (name, now) = (certificate.name(), wall() as u64);
        self.directory = directory;
        let wait = match &outcome {
            Ok(AttemptOutcome::Busy) => BUSY_INTERVAL,
            Ok(AttemptOutcome::Unneeded | AttemptOutcome::Asked) => Duration::ZERO,
            Ok(AttemptOutcome::Issued) => {
                acme.count(true);
                info!(certificate = name, "ACME: certificate issued");
                // Shorter if it is in use before.
                SWAP_INTERVAL
            }
            Err(failure) => {
                acme.count(false);
                let next = backoff_end(&record.backoff, now).max(backoff_end(&directory, now));
                warn!(
                    certificate = name,
                    error = %failure,
                    failures = record.failures().max(directory.failures),
                    next_attempt = rfc3339(next.max(now)),
                    consequence = match is_first {
                        true => "clients get no trusted certificate for it yet",
                        false => "the certificate in use stays active",
                    },
                    "ACME: order failed"
                );
                Duration::ZERO
            }
        };
        self.records.insert(certificate.folder.clone(), record);
        // Also if another process has issued it.
        state.certificate_installed.notify_one();
        wait
    }
}

/// How often the time of day is looked at, which may be set.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How long an issued certificate is waited for to be in use.
const SWAP_INTERVAL: Duration = Duration::from_secs(2);
/// How soon the lock is tried again that another process has.
const BUSY_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<F: Future>(_: impl FnOnce(Arc<ProxyState>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn process_without_acme_keeps_no_room_for_orders() {
        let bytes = bytes_of(run);
        assert!(bytes <= 256, "{bytes} bytes");
    }
}
