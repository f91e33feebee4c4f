//! The record of a certificate in its folder.

use super::failure::AcmeFailure;
use super::record::CertRecord;
use super::storage;
use crate::config::settings::acme::AcmeCertificate;

/// Reads the record of a certificate. May block.
///
/// # Errors
/// The file cannot be read.
pub fn read(certificate: &AcmeCertificate) -> Result<CertRecord, AcmeFailure> {
    storage::read_json(&certificate.folder.join("state.json"))
}

/// Writes the record of a certificate. May block.
///
/// # Errors
/// The file cannot be written.
pub fn store(certificate: &AcmeCertificate, record: &CertRecord) -> Result<(), AcmeFailure> {
    storage::write_json(&certificate.folder.join("state.json"), record)
}
