//! The listing's rows for pools and for backends.

use std::path::PathBuf;
use std::sync::Arc;

use super::key_group::KeyGroup;
use super::probe::probe;
use super::value::{duration, list, on_backend_loss, or_auto, or_off, per_second, plain, text};
use crate::config::explain::effect::AppliesTo::{Immediately, Requests};
use crate::config::resolve::choice::QUEUE_TIME;
use crate::config::settings::Settings;
use crate::config::settings::choice::{CookieAttributes, PinSettings, SameSite};
use crate::config::settings::pool::{BackendSettings, PoolSettings, PoolTlsSettings};

/// A list of backends in the file, by the index of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendList {
    /// That of a `[[route]]`.
    Route(usize),
    /// That of a `[[pool]]`.
    Pool(usize),
}

impl BackendList {
    /// The pool that consists of these backends.
    pub fn pool(self, settings: &Settings) -> Option<&PoolSettings> {
        match self {
            Self::Route(index) => settings.routes.get(index).map(|route| &*route.pool),
            Self::Pool(index) => settings.pools.get(index).map(|pool| &**pool),
        }
    }

    /// The backends.
    pub fn backends(self, settings: &Settings) -> &[BackendSettings] {
        self.pool(settings).map_or(&[], |pool| &pool.backends)
    }

    /// The keys of one backend.
    pub fn backend(self, settings: &Settings, index: usize) -> Option<KeyGroup> {
        let backend = self.backends(settings).get(index)?;
        let mut group = KeyGroup::new(match self {
            Self::Route(table) => format!("route[{table}].backends[{index}]"),
            Self::Pool(table) => format!("pool[{table}].backends[{index}]"),
        });
        let address = format!("{}.address", group.prefix);
        // A backend in short form consists of its address.
        let is_short = settings.source_map.line(&address).is_none();
        let address = if is_short { group.prefix.clone() } else { address };
        group.add("address", Requests, text(&backend.address));
        group.add("weight", Requests, plain(backend.weight));
        group.add_inherited("id", Requests, text(&backend.id), address);
        group.add("backup", Requests, plain(backend.is_backup));
        group.add("canary", Requests, plain(backend.is_canary));
        group.add("max_tunnels", Requests, or_off(backend.max_tunnels, plain));
        group.add("cookie_value", Requests, or_off(backend.cookie_value.as_deref(), text));
        Some(group)
    }
}

/// The keys of a `[[pool]]` without its backends, and of its TLS if it has any.
pub fn pool(settings: &Settings, index: usize) -> Option<KeyGroup> {
    let PoolSettings {
        name,
        choice,
        tls,
        on_backend_loss: loss,
        probe: of_probe,
        resolve,
        bind,
        ..
    } = &**settings.pools.get(index)?;
    let mut group = KeyGroup::new(format!("pool[{index}]"));
    group.add("name", Requests, text(name.as_deref()?));
    group.add("on_backend_loss", Immediately, on_backend_loss(*loss));
    group.add("bind", Requests, list(bind.iter().map(ToString::to_string)));
    group.add("resolve", Requests, or_off(*resolve, duration));
    group.add("hash", Requests, text(&choice.hash));
    group.add("balance", Requests, text(choice.balance.name()));
    group.add("hash_balance_factor", Requests, or_off(choice.hash_balance_factor, plain));
    group.add("slow_start", Requests, or_off(choice.slow_start, duration));
    group.add("queue", Requests, or_off(choice.queue, |queue| plain(queue.length)));
    let queue_time = choice.queue.map_or(QUEUE_TIME, |queue| queue.time);
    group.add("queue_time", Requests, duration(queue_time));
    group.add("canary.share", Requests, text(choice.canary.share));
    group.add("canary.request", Requests, or_off(choice.canary.request.as_ref(), text));
    group.add("rebalance", Immediately, text(choice.rebalance.name()));
    let rate = per_second(&plain(choice.rebalance_rate));
    group.add("rebalance_rate", Immediately, rate);
    pin(&mut group, choice.pin.as_ref());
    probe(&mut group, of_probe.as_ref());
    if let Some(tls) = tls {
        add_tls(&mut group, tls);
    }
    Some(group)
}

fn add_tls(group: &mut KeyGroup, tls: &PoolTlsSettings) {
    let name = |name: &Option<Arc<str>>| or_auto(name.as_deref(), text);
    let file = |path: Option<&PathBuf>| or_off(path, |path| text(path.display()));
    let certificate = tls.certificate.as_ref();
    let ca = tls.ca.as_ref().map_or_else(|| text("system"), |path| text(path.display()));
    group.add("tls.ca", Requests, ca);
    group.add("tls.server_name", Requests, name(&tls.server_name));
    group.add("tls.verify_name", Requests, name(&tls.verify_name));
    group.add("tls.certificate", Requests, file(certificate.map(|of| &of.chain)));
    group.add("tls.key", Requests, file(certificate.map(|of| &of.key)));
    group.add("tls.insecure_skip_verify", Requests, plain(tls.insecure_skip_verify));
}

fn pin(group: &mut KeyGroup, pin: Option<&PinSettings>) {
    let default = CookieAttributes::default();
    let attributes = pin.map_or(&default, |pin| &pin.attributes);
    group.add("pin.cookie", Requests, or_off(pin, |pin| text(&pin.cookie)));
    group.add("pin.key_file", Requests, or_off(pin, |pin| text(pin.key_file.display())));
    group.add("pin.path", Requests, text(&attributes.path));
    group.add("pin.domain", Requests, or_off(attributes.domain.as_deref(), text));
    group.add("pin.secure", Requests, plain(attributes.secure));
    group.add("pin.http_only", Requests, plain(attributes.http_only));
    let mut names = SameSite::NAMES.into_iter();
    let same_site = names.find(|(_, same_site)| *same_site == attributes.same_site);
    group.add("pin.same_site", Requests, text(same_site.map_or("", |(name, _)| name)));
    group.add("pin.partitioned", Requests, plain(attributes.partitioned));
}
