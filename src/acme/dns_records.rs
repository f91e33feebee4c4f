//! The TXT records of challenges. Each is noted before the hook sets it, so that it is removed also if the process is
//! stopped or killed within an order.

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use super::failure::AcmeFailure;
use super::record::{CertRecord, DnsRecord};
use super::storage::StateFolder;
use super::{cert_files, dns_hook};
use crate::config::settings::acme::{AcmeCertificate, AcmeSettings};

/// Sets a record.
///
/// # Errors
/// It cannot be noted, or the hook fails. It is to be removed even then.
pub async fn set(
    hook: &Path,
    certificate: &AcmeCertificate,
    record: &mut CertRecord,
    of: DnsRecord,
) -> Result<(), AcmeFailure> {
    // The same value again, after the process was killed.
    record.dns_records.retain(|other| *other != of);
    let too_many = record.dns_records.len().saturating_sub(RECORDS_MAX - 1);
    for forgotten in record.dns_records.drain(..too_many) {
        warn!(name = forgotten.name, value = forgotten.value, "{LEFT}");
    }
    record.dns_records.push(of.clone());
    cert_files::store(certificate, record)?;
    dns_hook::run(hook, "set", &of.name, &of.value).await
}

/// Removes all records that are noted. Those for which the hook fails stay noted, for the next order.
pub async fn clean(hook: Option<&Path>, record: &mut CertRecord) {
    let Some(hook) = hook else {
        for of in record.dns_records.drain(..) {
            warn!(name = of.name, value = of.value, "{LEFT}");
        }
        return;
    };
    let mut kept = 0;
    while let Some(of) = record.dns_records.get(kept).cloned() {
        match dns_hook::run(hook, "clean", &of.name, &of.value).await {
            Ok(()) => drop(record.dns_records.remove(kept)),
            Err(failure) => {
                warn!(error = %failure, "a DNS record of a challenge was not removed");
                kept += 1;
            }
        }
    }
}

/// Removes what an earlier process has left, as far as that does not take long.
pub async fn clean_left(hook: Option<&Path>, record: &mut CertRecord) {
    if timeout(LEFT_TIMEOUT, clean(hook, record)).await.is_err() {
        warn!("acme.dns_hook: removing the DNS records of an earlier order takes too long");
    }
}

/// Removes the records of an order that was interrupted because the process stops. Blocks on files.
pub async fn clean_interrupted(settings: &AcmeSettings, certificate: &AcmeCertificate) {
    // If a successor has the lock, it does this itself.
    let Ok(Some(_lock)) = StateFolder::new(&settings.state_directory).lock() else { return };
    let Ok(mut record) = cert_files::read(certificate) else { return };
    if record.dns_records.is_empty() {
        return;
    }
    let cleaning = clean(settings.dns_hook.as_deref(), &mut record);
    if timeout(STOP_TIMEOUT, cleaning).await.is_err() {
        warn!("acme.dns_hook: DNS records are left to the next order: the process has to stop");
    }
    if let Err(failure) = cert_files::store(certificate, &record) {
        warn!(error = %failure, "the state of a certificate cannot be stored");
    }
}

/// For records that no hook removes.
const LEFT: &str = "a DNS record of a challenge is left; remove it by hand";
/// How many records are noted: Let's Encrypt allows 100 names in a certificate.
const RECORDS_MAX: usize = 200;
/// For all records of an earlier order.
const LEFT_TIMEOUT: Duration = Duration::from_secs(60);
/// For all records when the process stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
