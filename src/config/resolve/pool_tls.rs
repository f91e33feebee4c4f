//! TLS to the backends of a pool.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::defaults::{optional_file, value_or};
use crate::config::schema::pool::{PoolTable, PoolTlsTable};
use crate::config::settings::Settings;
use crate::config::settings::pool::{ClientCertificate, PoolTlsSettings};
use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::Located;
use crate::config::values::backend_address::BackendAddress;
use crate::config::values::pool::{CertificateName, SniName, TrustedIssuers};
use crate::config::values::scalars::OrAuto;

/// The settings of `[pool.tls]`; `None` if the pool has no TLS.
pub(super) fn pool_tls(
    pool: &PoolTable,
    dir: &Path,
    sink: &mut DiagnosticSink<'_>,
) -> Option<Arc<PoolTlsSettings>> {
    let Located { value: Some(table), .. } = pool.tls.located()? else { return None };
    let server_name = match table.server_name.value() {
        Some(OrAuto(Some(SniName(name)))) => Some(name.clone()),
        Some(OrAuto(None)) | None => None,
    };
    let verify_name = match table.verify_name.value() {
        Some(OrAuto(Some(CertificateName(name)))) => Some(name.clone()),
        Some(OrAuto(None)) | None => None,
    };
    let insecure_skip_verify = value_or(&table.insecure_skip_verify, false);
    if insecure_skip_verify {
        check_unused(table, sink);
    }
    let has_names = !table.server_name.is_invalid() && !table.verify_name.is_invalid();
    if has_names && server_name.is_none() && verify_name.is_none() && !insecure_skip_verify {
        check_hosts(pool, sink);
    }
    Some(Arc::new(PoolTlsSettings {
        ca: value_or(&table.ca, TrustedIssuers(None)).0.map(|path| dir.join(path)),
        server_name,
        verify_name,
        certificate: client_certificate(table, dir, sink),
        insecure_skip_verify,
    }))
}

/// Without verification, nothing is compared with these keys.
fn check_unused(table: &PoolTlsTable, sink: &mut DiagnosticSink<'_>) {
    let issuers = table.ca.located().filter(|ca| ca.value.0.is_some()).map(|ca| &ca.location);
    let name = table.verify_name.located().filter(|name| name.value.0.is_some());
    for location in issuers.into_iter().chain(name.map(|name| &name.location)) {
        let problem = Problem::new(
            "insecure_skip_verify = true accepts any certificate, so this has no effect",
        );
        sink.report(location, problem.help("remove insecure_skip_verify"));
    }
}

/// Each backend must have a name that its certificate can be valid for.
fn check_hosts(pool: &PoolTable, sink: &mut DiagnosticSink<'_>) {
    for item in pool.backends.value().into_iter().flatten() {
        let Some(Located { value: address, location }) = item.value.address.located() else {
            continue;
        };
        let problem = match address {
            BackendAddress::Unix(_) => {
                "a Unix socket has no name that its certificate could be valid for"
            }
            BackendAddress::Tcp { host, .. } if ServerName::try_from(host.as_str()).is_err() => {
                "no certificate is valid for the name of this host"
            }
            BackendAddress::Tcp { .. } => continue,
        };
        let help = "add server_name = \"app.internal\" to [pool.tls]";
        sink.report(location, Problem::new(problem).help(help));
    }
}

fn client_certificate(
    table: &PoolTlsTable,
    dir: &Path,
    sink: &mut DiagnosticSink<'_>,
) -> Option<ClientCertificate> {
    let chain = optional_file(&table.certificate, dir);
    let key = optional_file(&table.key, dir);
    let is_complete = !table.certificate.is_invalid() && !table.key.is_invalid();
    let mut missing = |location: Option<&Location>, other: &str| {
        if let (Some(location), true) = (location, is_complete) {
            let problem = Problem::new("a client certificate consists of certificate and key");
            sink.report(location, problem.help(format!("add {other}")));
        }
    };
    match (chain, key) {
        (Some(chain), Some(key)) => Some(ClientCertificate { chain, key }),
        (Some(_), None) => {
            missing(table.certificate.location(), "key = \"client-key.pem\"");
            None
        }
        (None, Some(_)) => {
            missing(table.key.location(), "certificate = \"client.pem\"");
            None
        }
        (None, None) => None,
    }
}

impl Settings {
    /// Pools that accept any certificate.
    pub(super) fn unverified_pools(&self) -> impl Iterator<Item = LateDiagnostic> {
        let pools = self.pools.iter().enumerate();
        let unverified =
            pools.filter(|(_, pool)| pool.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify));
        unverified.map(|(index, _)| LateDiagnostic {
            key: format!("pool[{index}].tls.insecure_skip_verify"),
            problem: "the certificates of these backends are not verified: anyone on the path can read and \
                      change everything; write ca = \"ca.pem\" with their issuer instead"
                .to_owned(),
        })
    }
}
