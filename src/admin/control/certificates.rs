//! The commands about certificates.

use std::collections::BTreeMap;

use rustls::sign::CertifiedKey;

use crate::acme::state::OrderStatus;
use crate::config::settings::CertificateSource;
use crate::control_protocol::certificates::{
    CertificateError, CertificateList, CertificateRow, OrderRequested,
};
use crate::control_protocol::response::{CommandError, CommandErrorKind};
use crate::proxy::state::ProxyState;
use crate::sys::clock::wall;
use crate::tls::certs::CertTable;
use crate::tls::certs::issued::{names_of, validity_of};

/// Lists all certificates.
pub(super) fn list(state: &ProxyState) -> CertificateList {
    let snapshot = state.snapshot();
    let status = snapshot.acme.as_ref().map(|acme| acme.status()).unwrap_or_default();
    let certificates = snapshot.certs().into_iter().flat_map(CertTable::listed);
    let certificates = certificates.map(|(source, key)| row(source, key, &status)).collect();
    CertificateList { now: wall(), certificates }
}

fn row(
    source: &CertificateSource,
    key: Option<&CertifiedKey>,
    status: &BTreeMap<String, OrderStatus>,
) -> CertificateRow {
    let mut row = CertificateRow::default();
    if let Some(key) = key {
        (row.names, row.not_after) = (names_of(key), Some(validity_of(key).1));
    }
    match source {
        CertificateSource::Files { chain, .. } => row.source = chain.display().to_string(),
        CertificateSource::Memory { .. } => "memory".clone_into(&mut row.source),
        CertificateSource::Acme(ordered) => {
            "acme".clone_into(&mut row.source);
            // It may be one that tidegate has made until the first one is issued.
            row.not_after = None;
            if let Some(status) = status.get(ordered.name()) {
                row.not_after = status.not_after;
                (row.next_order, row.ordering) = (Some(status.next_order), status.is_ordering);
                row.failures = status.failures;
                let error = status.last_error.clone();
                row.last_error =
                    error.map(|error| CertificateError { at: error.at, text: error.text });
            }
            // A certificate that the names had before may have others as well.
            if row.names.is_empty() || row.not_after.is_none() {
                row.names.clone_from(&ordered.names);
            }
        }
    }
    row
}

/// Asks for an order of the certificate that is for this name.
pub(super) fn renew(state: &ProxyState, name: &str) -> Result<OrderRequested, CommandError> {
    let snapshot = state.snapshot();
    let error = |kind, message: String| CommandError::new(kind, message);
    let Some(acme) = &snapshot.acme else {
        let message = "no certificates are ordered: the configuration has no [acme]";
        return Err(error(CommandErrorKind::Rejected, message.to_owned()));
    };
    let wanted = name.to_ascii_lowercase();
    let ordered = snapshot.certs().map_or(&[][..], CertTable::ordered);
    let found = ordered
        .iter()
        .find(|of| of.certificate.name() == wanted)
        .or_else(|| ordered.iter().find(|of| of.certificate.names.contains(&wanted)));
    let Some(found) = found else {
        let message = format!("no certificate is ordered for {name}; see `tidegate ctl certs`");
        return Err(error(CommandErrorKind::NotFound, message));
    };
    acme.request(found.certificate.name());
    state.certificate_orders.notify_one();
    Ok(OrderRequested { names: found.certificate.names.clone() })
}
