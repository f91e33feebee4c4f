//! One attempt to get or to look after a certificate, under the lock of the state directory.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use tracing::{debug, info, warn};

use super::account::{self, AccountFiles};
use super::cert_files;
use super::failure::AcmeFailure;
use super::order::{OrderContext, obtain};
use super::record::{Backoff, CertRecord};
use super::renewal_info::{certificate_id, renewal_window};
use super::schedule::{backoff_end, record_failure};
use super::state::AcmeState;
use super::storage::{self, StateFolder};
use super::transport::AcmeTransport;
use super::tried::Tried;
use crate::config::settings::acme::{AcmeCertificate, AcmeSettings};
use crate::net::network::Net;
use crate::sys::clock::wall;
use crate::tls::certs::issued::validity_of;

/// Everything that an attempt needs.
pub struct Attempt {
    pub net: Arc<dyn Net>,
    pub settings: AcmeSettings,
    pub certificate: Arc<AcmeCertificate>,
    /// The certificate in use.
    pub issued: Option<Arc<CertifiedKey>>,
    pub acme: Arc<AcmeState>,
    pub task: AttemptTask,
    /// What it tries.
    pub tried: Tried,
    /// What is known from before.
    pub record: CertRecord,
    pub directory: Backoff,
    /// In `[0, 1)`.
    pub random: f64,
    /// The time of day at its start, in seconds since 1970.
    pub now: u64,
}

/// What an attempt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptTask {
    /// Orders the certificate. `is_requested` by an operator: whatever the back-off.
    Order { is_requested: bool },
    /// Asks the authority when to renew.
    RenewalInfo,
}

/// The result of an attempt, with what is known afterwards.
pub struct Attempted {
    pub record: CertRecord,
    pub directory: Backoff,
    pub outcome: Result<AttemptOutcome, AcmeFailure>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Another process has the lock.
    Busy,
    /// There was nothing to do: another process has done it, or its back-off holds here as well.
    Unneeded,
    /// A certificate was issued and is in its files.
    Issued,
    /// The authority was asked when to renew.
    Asked,
}

impl Attempt {
    /// Runs the attempt. Blocks on files.
    pub async fn run(mut self) -> Attempted {
        let outcome = self.run_locked().await;
        Attempted { record: self.record, directory: self.directory, outcome }
    }

    async fn run_locked(&mut self) -> Result<AttemptOutcome, AcmeFailure> {
        let folder = StateFolder::new(&self.settings.state_directory);
        let account = AccountFiles::new(folder.account(&self.settings.directory));
        let locked = folder.lock();
        if let Ok(None) = locked {
            return Ok(AttemptOutcome::Busy);
        }
        let outcome = match locked.and_then(|lock| self.read_again(&account).map(|()| lock)) {
            Ok(_lock) => {
                let outcome = self.perform(&account).await;
                self.finish(&account, outcome)
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &outcome {
            self.record.is_requested |= self.task == (AttemptTask::Order { is_requested: true });
            let lifetime = self.issued.as_deref().map(|issued| {
                let (from, until) = validity_of(issued);
                until.saturating_sub(from)
            });
            record_failure(
                failure,
                &mut self.record,
                &mut self.directory,
                lifetime,
                self.random,
                // It may have taken minutes.
                wall() as u64,
            );
            self.store(&account);
        }
        outcome
    }

    /// Another process may have ordered in the meantime.
    fn read_again(&mut self, account: &AccountFiles) -> Result<(), AcmeFailure> {
        storage::finish_install(&self.certificate.folder)?;
        let mut stored = cert_files::read(&self.certificate)?;
        // The task that orders has logged it.
        let _ = stored.tries(&self.tried.order(&self.certificate));
        // What could not be written is still known here.
        if stored.issued_at > self.record.issued_at
            || stored.backoff.failed_at >= self.record.backoff.failed_at
        {
            let is_new = stored.issued_at > self.record.issued_at;
            self.record = stored;
            if is_new && self.task == (AttemptTask::Order { is_requested: false }) {
                self.task = AttemptTask::RenewalInfo;
            }
        }
        let mut stored = account.record()?;
        let void = stored.tries(&self.tried.account);
        if void.is_some_and(|void| backoff_end(&void, self.now) > self.now) {
            let directory = &self.settings.directory;
            info!(
                directory,
                "ACME: the delay after failures of another directory or account does not hold"
            );
        }
        if stored.backoff.failed_at >= self.directory.failed_at {
            self.directory = stored.backoff;
        }
        Ok(())
    }

    async fn perform(&mut self, account: &AccountFiles) -> Result<AttemptOutcome, AcmeFailure> {
        let id = self.issued.as_deref().and_then(certificate_id);
        let transport = AcmeTransport::new(self.net.clone(), self.settings.ca.as_deref())?;
        match self.task {
            AttemptTask::Order { is_requested } => {
                let backoff = |of| backoff_end(of, self.now) > self.now;
                let must_wait = backoff(&self.record.backoff) || backoff(&self.directory);
                if must_wait && !is_requested {
                    return Ok(AttemptOutcome::Unneeded);
                }
                self.order(transport, account, id).await.map(|()| AttemptOutcome::Issued)
            }
            AttemptTask::RenewalInfo => {
                let Some(id) = id else { return Ok(AttemptOutcome::Unneeded) };
                self.ask(&transport, &id).await;
                Ok(AttemptOutcome::Asked)
            }
        }
    }

    async fn order(
        &mut self,
        transport: AcmeTransport,
        account: &AccountFiles,
        replaces: Option<String>,
    ) -> Result<(), AcmeFailure> {
        info!(
            certificate = self.certificate.name(),
            names = self.certificate.names.join(", "),
            directory = self.settings.directory,
            challenge = self.settings.challenge.as_str(),
            "ACME: ordering a certificate"
        );
        let mut client = account::open(transport, &self.settings, account).await?;
        // A certificate of another authority is not replaced, as far as this one is concerned.
        let replaces = replaces.filter(|_| self.record.directory == self.settings.directory);
        let context = OrderContext {
            settings: &self.settings,
            certificate: &self.certificate,
            account,
            answers: &self.acme.answers,
            replaces,
        };
        let (chain, (valid_from, valid_until)) =
            obtain(&context, &mut client, &mut self.record).await?;
        storage::install(&self.certificate.folder, &chain)?;
        self.record = CertRecord {
            directory: self.settings.directory.clone(),
            issued_at: wall() as u64,
            valid_from,
            valid_until,
            dns_records: std::mem::take(&mut self.record.dns_records),
            ..CertRecord::default()
        };
        self.directory = Backoff::default();
        Ok(())
    }

    /// Asks when to renew. A failure is none of the certificate: without a suggestion it is renewed in time as well.
    async fn ask(&mut self, transport: &AcmeTransport, id: &str) {
        let asked = renewal_window(transport, &self.settings.directory, id).await;
        let record = &mut self.record;
        let is_same = record.renewal_info_for == id;
        (record.renewal_info_for, record.renewal_info_at) = (id.to_owned(), wall() as u64);
        match asked {
            Ok((window, interval)) => {
                let certificate = self.certificate.name();
                debug!(certificate, ?window, "ACME: renewal time suggested");
                let explanation = window.as_ref().and_then(|window| window.explanation.as_ref());
                if let Some(explanation) = explanation.filter(|_| window != record.renewal_window) {
                    info!(
                        certificate,
                        explanation, "ACME: the authority explains its renewal time"
                    );
                }
                record.renewal_window = window;
                record.renewal_info_every = interval.as_secs();
            }
            Err(failure) => {
                let certificate = self.certificate.name();
                debug!(certificate, error = %failure, "ACME: no renewal time suggested");
                let asked = failure.retry_after.map_or(0, |delay| delay.as_secs());
                record.renewal_window = record.renewal_window.take().filter(|_| is_same);
                record.renewal_info_every = asked.clamp(INFO_RETRY_MIN, INFO_RETRY_MAX);
            }
        }
    }

    /// Stores what is known after success.
    fn finish(
        &self,
        account: &AccountFiles,
        outcome: Result<AttemptOutcome, AcmeFailure>,
    ) -> Result<AttemptOutcome, AcmeFailure> {
        if outcome.is_ok() {
            self.store(account);
        }
        outcome
    }

    /// What cannot be written is still known to this process.
    fn store(&self, account: &AccountFiles) {
        let stored = cert_files::store(&self.certificate, &self.record).and_then(|()| {
            let before = account.record()?;
            let mut record = before.clone();
            let _ = record.tries(&self.tried.account);
            record.backoff = self.directory;
            if record.backoff == before.backoff && record.other_failures == before.other_failures {
                return Ok(());
            }
            account.store(&record)
        });
        if let Err(failure) = stored {
            warn!(error = %failure, "the state of a certificate cannot be stored");
        }
    }
}

/// When to ask again after a failure, in seconds.
const INFO_RETRY_MIN: u64 = 3600;
const INFO_RETRY_MAX: u64 = 24 * 3600;
