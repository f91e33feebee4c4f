//! What a snapshot is built from besides the settings: the limits of this machine, the target of access records, and
//! files that the configuration names.

use std::sync::Arc;

use rustls::server::ProducesTickets;

use crate::acme::state::AcmeState;
use crate::config::settings::pool::PoolSettings;
use crate::config::settings::{RouteSettings, Settings};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::trusted_proxies::TrustedProxies;
use crate::config::values::patterns::HostPattern;
use crate::downstream::error_pages::ErrorPages;
use crate::proxy::capacity::Capacity;
use crate::sys::clock::wall;
use crate::sys::memory;
use crate::tls::certs::CertTable;
use crate::tls::certs::coverage::Uncovered;
use crate::tls::pool::PoolTlsClients;
use crate::tls::terminate::TlsTerminator;
use crate::upstream::choice::pin_keys::PinKeys;
use crate::upstream::source_addresses;

/// What is outside the configuration file, as far as it can be used, and what cannot.
pub struct Outside {
    pub capacity: Option<Capacity>,
    pub certs: Option<CertTable>,
    pub pool_tls: PoolTlsClients,
    pub error_pages: Option<ErrorPages>,
    pub trusted_proxies: Option<TrustedProxies>,
    pub pin_keys: Vec<Option<PinKeys>>,
    pub errors: Vec<LateDiagnostic>,
}

/// Reads it. `previous` are the certificates in use.
pub fn outside(settings: &Settings, previous: Option<&CertTable>, descriptors: usize) -> Outside {
    let mut errors = Vec::new();
    let (limits, listeners) = (&settings.concurrency, settings.listeners.len());
    let capacity = Capacity::new(limits, listeners, descriptors, memory::available());
    let capacity = capacity.map_err(|more| errors.extend(more)).ok();
    errors.extend(settings.check_access_log_target());
    let certs = certificates(settings, previous);
    let certs = certs.map_err(|more| errors.extend(more)).ok();
    let pool_tls = PoolTlsClients::load(&settings.pools, &mut errors);
    let error_pages = ErrorPages::load(&settings.error_pages);
    let error_pages = error_pages.map_err(|more| errors.extend(more)).ok();
    let trusted_proxies = TrustedProxies::load(&settings.trusted_proxies);
    let trusted_proxies = trusted_proxies.map_err(|more| errors.extend(more)).ok();
    let pin_keys = pin_keys(settings, &mut errors);
    errors.extend(source_addresses::missing(settings));
    Outside { capacity, certs, pool_tls, error_pages, trusted_proxies, pin_keys, errors }
}

/// The certificates of the file, and those that are ordered for hosts that none of them covers.
///
/// # Errors
/// All problems of their files.
pub fn certificates(
    settings: &Settings,
    previous: Option<&CertTable>,
) -> Result<CertTable, Vec<LateDiagnostic>> {
    let mut certs = CertTable::load(&settings.certificates, previous)?;
    if let Some(acme) = &settings.acme {
        certs.order_uncovered(acme, &settings.routes, previous);
        certs.keep_until_issued(acme, previous, wall() as u64);
    }
    Ok(certs)
}

/// The same, read again. A certificate of the file that cannot be read is taken from the `previous` table.
///
/// # Errors
/// All problems of their files, if nothing else has changed: the others become active first.
pub fn renewed_certificates(
    settings: &Settings,
    previous: &CertTable,
) -> Result<CertTable, Vec<LateDiagnostic>> {
    let (mut certs, errors) = CertTable::renew(&settings.certificates, previous);
    if let Some(acme) = &settings.acme {
        certs.order_uncovered(acme, &settings.routes, Some(previous));
        certs.keep_until_issued(acme, Some(previous), wall() as u64);
    }
    let is_changed = certs.file_states() != previous.file_states();
    if errors.is_empty() || is_changed { Ok(certs) } else { Err(errors) }
}

/// The keys of the pin cookie of each pool, if it has one.
fn pin_keys(settings: &Settings, errors: &mut Vec<LateDiagnostic>) -> Vec<Option<PinKeys>> {
    let keys = |(index, pool): (usize, &Arc<PoolSettings>)| {
        let file = &pool.choice.pin.as_ref()?.key_file;
        let loaded = PinKeys::load(file).map_err(|problem| {
            let (key, problem) =
                (format!("pool[{index}].pin.key_file"), format!("{}: {problem}", file.display()));
            errors.push(LateDiagnostic { key, problem });
        });
        loaded.ok()
    };
    settings.pools.iter().enumerate().map(keys).collect()
}

/// Which hosts and certificates do not fit. Nothing is a fault if a listener without TLS serves all hosts; one
/// that redirects to `https` does not.
pub fn uncovered(settings: &Settings, certs: &CertTable) -> Uncovered {
    let mut listeners = settings.listeners.iter();
    if !listeners.clone().any(|listener| listener.tls) {
        return Uncovered::default();
    }
    let mut found = certs.uncovered(&settings.routes);
    for of in found.faults.iter_mut().chain(&mut found.warnings) {
        if let Some(why) = why_not_ordered(settings, &of.key) {
            of.problem.push_str(why);
        }
    }
    if listeners.any(|listener| !listener.tls && listener.redirect.is_none()) {
        found.warnings.append(&mut found.faults);
    }
    found
}

/// Why `[acme]` orders nothing for the route with this key, which nothing covers.
fn why_not_ordered(settings: &Settings, key: &str) -> Option<&'static str> {
    settings.acme.as_ref()?;
    let of_key = |(index, _): &(usize, &RouteSettings)| key == format!("route[{index}].host");
    let (_, route) = settings.routes.iter().enumerate().find(of_key)?;
    Some(match route.host {
        HostPattern::Subdomains(_) => {
            "; [acme] orders a wildcard only with challenge = \"dns-01\" and dns_hook = \"/path/of/a/program\""
        }
        HostPattern::Exact(_) | HostPattern::Any => "; [acme] orders none for an IP address",
    })
}

/// The terminator; absent if no listener uses TLS.
///
/// # Errors
/// The TLS library rejects its settings.
pub fn tls_terminator(
    settings: &Settings,
    certs: CertTable,
    ticketer: &Arc<dyn ProducesTickets>,
    acme: Option<&AcmeState>,
) -> Result<Option<TlsTerminator>, LateDiagnostic> {
    if !settings.listeners.iter().any(|listener| listener.tls) {
        return Ok(None);
    }
    TlsTerminator::new(certs, ticketer.clone(), acme.map(|acme| acme.answers.clone()))
        .map(Some)
        .map_err(|error| LateDiagnostic { key: "listener".into(), problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_not_ordered_have_a_reason() {
        let route = |host: &str| {
            format!(
                "[[route]]\nhost = \"{host}\"\norigins = [\"missing\"]\nbackends = [\"127.0.0.1:9\"]\n"
            )
        };
        let problems = |table: &str| {
            let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
            let text = [listener, table, &route("*.example.com"), &route("192.0.2.1")].concat();
            let settings = Settings::parse(&text, "proxy.toml").unwrap();
            let faults = uncovered(&settings, &CertTable::default()).faults;
            [0, 1].map(|index: usize| faults[index].problem.clone())
        };
        let [wildcard, address] = problems("[acme]\naccept_terms = true\n");
        assert!(wildcard.contains("[acme]") && wildcard.contains("dns-01"), "{wildcard}");
        assert!(wildcard.contains("dns_hook"), "{wildcard}");
        assert!(address.ends_with("[acme] orders none for an IP address"), "{address}");
        for other in problems("[[certificate]]\nchain = \"c\"\nkey = \"k\"\n") {
            assert!(!other.contains("acme"), "{other}");
        }
    }
}
