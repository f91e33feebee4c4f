//! The listing's rows for all tables except routes, `[limits]` and `[heartbeat]`.

use std::path::PathBuf;

use ipnet::IpNet;
use ws::SessionPolicy;

use super::key_group::KeyGroup;
use super::value::{DisplayValue, duration, list, or_auto, or_off, per_second, plain, size, text};
use crate::config::address_rules::AddressRules;
use crate::config::explain::effect::AppliesTo;
use crate::config::explain::effect::AppliesTo::{
    Connections, Drain, Immediately, Requests, Restart, Tunnels,
};
use crate::config::settings::acme::UntilIssued;
use crate::config::settings::rates::ClientRate;
use crate::config::settings::{
    AccessTarget, CertificateSource, ControlSocket, ERROR_PAGES, HttpsRedirect, LogFormat,
    RequestTimeouts, Settings,
};
use crate::config::values::network::show_network;

/// The keys of a `[[listener]]`.
pub fn listener(settings: &Settings, index: usize) -> Option<KeyGroup> {
    let values = settings.listeners.get(index)?;
    let mut group = KeyGroup::new(format!("listener[{index}]"));
    group.add("address", Immediately, text(values.address));
    group.add_inherited(
        "name",
        Connections,
        text(&values.name),
        format!("listener[{index}].address"),
    );
    group.add("tls", Connections, plain(values.tls));
    group.add("http2", Connections, plain(values.http2));
    group.add("proxy_protocol", Connections, plain(values.proxy_protocol));
    group.add("health_path", Connections, or_off(values.health_path.as_deref(), text));
    group.add("request_head_size", Connections, size(values.request_head.bytes as u64));
    group.add("request_head_fields", Connections, plain(values.request_head.fields));
    let redirect = or_off(values.redirect, |redirect| {
        text(match redirect {
            HttpsRedirect::Permanent => "https",
            HttpsRedirect::Moved => "https-301",
        })
    });
    group.add("redirect", Connections, redirect);
    let except = values.redirect_except.iter().map(|path| path.as_str().to_owned());
    group.add("redirect_except", Connections, list(except));
    addresses(&mut group, Connections, &values.addresses);
    Some(group)
}

/// The keys of a `[[certificate]]`.
pub fn certificate(settings: &Settings, index: usize) -> Option<KeyGroup> {
    let values = settings.certificates.get(index)?;
    let mut group = KeyGroup::new(format!("certificate[{index}]"));
    let (files, names) = match &values.source {
        CertificateSource::Files { chain, key } => {
            (Some((text(chain.display()), text(key.display()))), &[][..])
        }
        // The PEM text itself is never shown.
        CertificateSource::Memory { .. } => (Some((text("(memory)"), text("(memory)"))), &[][..]),
        CertificateSource::Acme(ordered) => (None, ordered.names.as_slice()),
    };
    // The first key tells certificates apart.
    let is_ordered = files.is_none();
    if let Some((chain, key)) = files {
        group.add("chain", Connections, chain);
        group.add("key", Connections, key);
    }
    group.add("names", Immediately, list(names.iter().cloned()));
    group.add("acme", Immediately, plain(is_ordered));
    group.add("default", Connections, plain(values.default));
    Some(group)
}

/// The keys of `[acme]`; none if the file does not have that table.
fn acme(settings: &Settings) -> KeyGroup {
    let mut group = KeyGroup::new("acme");
    let Some(values) = &settings.acme else { return group };
    let mut add = |name: &str, value: DisplayValue| group.add(name, Immediately, value);
    let path = |path: Option<&PathBuf>| or_off(path, |path| text(path.display()));
    let account = values.external_account.as_ref();
    add("accept_terms", plain(true));
    add("email", or_off(values.email.as_deref(), text));
    add("directory", text(&values.directory));
    add("ca", text(values.ca.as_ref().map_or("system".into(), |path| path.to_string_lossy())));
    add("profile", or_off(values.profile.as_deref(), text));
    add("eab_key_id", or_off(account.map(|account| &account.key_id), text));
    add("eab_key_file", path(account.map(|account| &account.key_file)));
    add("state_directory", text(values.state_directory.display()));
    add("until_issued", text(name_of(&UntilIssued::NAMES, values.until_issued)));
    add("challenge", text(values.challenge.as_str()));
    add("dns_hook", path(values.dns_hook.as_ref()));
    group
}

fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    names.iter().find(|(_, of)| *of == value).map_or("", |(name, _)| *name)
}

/// The other tables: those listed before `[limits]` and `[heartbeat]`, and those after.
pub fn process(settings: &Settings) -> (Vec<KeyGroup>, Vec<KeyGroup>) {
    let mut server = KeyGroup::new("server");
    let workers = (!settings.source_map.workers_auto).then_some(settings.workers);
    server.add("workers", Restart, or_auto(workers, plain));
    let leading = vec![server, acme(settings)];
    let trailing = vec![
        timeouts(settings),
        concurrency(settings),
        rates(settings),
        trusted_proxies(settings),
        client_key(settings),
        drain(settings),
        error_pages(settings),
        admin(settings),
        control(settings),
        log(settings),
        access(settings),
    ];
    (leading, trailing)
}

fn timeouts(settings: &Settings) -> KeyGroup {
    let values = &settings.timeouts;
    let mut group = KeyGroup::new("timeouts");
    group.add("proxy_header", Connections, duration(values.proxy_header));
    group.add("tls", Connections, duration(values.tls));
    group.add("request_header", Connections, duration(values.request_header));
    group.add("keep_alive", Connections, duration(values.keep_alive));
    for (name, value) in request_timeouts(&values.requests) {
        group.add(name, Requests, value);
    }
    group
}

/// The keys `allow` and `deny` of a listener or a route.
pub(super) fn addresses(group: &mut KeyGroup, applies_to: AppliesTo, rules: &AddressRules) {
    group.add("allow", applies_to, networks(&rules.allow));
    group.add("deny", applies_to, networks(&rules.deny));
}

fn networks(networks: &[IpNet]) -> DisplayValue {
    list(networks.iter().map(|network| show_network(*network)))
}

/// The keys that `[timeouts]` and `[route.timeouts]` share.
pub(super) fn request_timeouts(values: &RequestTimeouts) -> [(&'static str, DisplayValue); 5] {
    let min_body_rate = values.min_body_rate.map(|rate| size(rate.get()));
    [
        ("connect", duration(values.connect)),
        ("response_header", duration(values.response_header)),
        ("idle", duration(values.idle)),
        ("min_body_rate", or_off(min_body_rate, |rate| per_second(&rate))),
        ("backend_keep_alive", or_off(values.backend_keep_alive, duration)),
    ]
}

/// The keys that `[drain]` and `[route.drain]` share.
pub(super) fn drain_close(policy: &SessionPolicy) -> [(&'static str, DisplayValue); 2] {
    [("code", plain(policy.drain_code.get())), ("reason", text(&policy.drain_reason))]
}

fn concurrency(settings: &Settings) -> KeyGroup {
    let values = &settings.concurrency;
    let mut group = KeyGroup::new("concurrency");
    group.add("connections", Connections, or_auto(values.connections, plain));
    group.add("tunnels", Requests, or_auto(values.tunnels, plain));
    // A default is lowered to the limit on all clients.
    let lowered = |number: usize, all: Option<usize>| all == Some(number);
    let (connections, tunnels) = (values.connections_per_client, values.tunnels_per_client);
    match lowered(connections, values.connections) {
        true => group.add_inherited(
            "connections_per_client",
            Connections,
            plain(connections),
            "concurrency.connections",
        ),
        false => group.add("connections_per_client", Connections, plain(connections)),
    }
    match (lowered(tunnels, values.tunnels), lowered(tunnels, values.connections)) {
        (true, _) => group.add_inherited(
            "tunnels_per_client",
            Requests,
            plain(tunnels),
            "concurrency.tunnels",
        ),
        (false, true) => group.add_inherited(
            "tunnels_per_client",
            Requests,
            plain(tunnels),
            "concurrency.connections",
        ),
        (false, false) => group.add("tunnels_per_client", Requests, plain(tunnels)),
    }
    group.add("requests_per_client", Requests, plain(values.requests_per_client));
    group.add("pending_memory", Connections, or_auto(values.pending_memory, size));
    group
}

fn rates(settings: &Settings) -> KeyGroup {
    let values = &settings.rates;
    let mut group = KeyGroup::new("rates");
    let rates = [
        ("connections", Connections, values.connections),
        ("handshakes", Requests, values.handshakes),
        ("requests", Requests, values.requests),
    ];
    for (name, applies_to, ClientRate { per_second: rate, burst }) in rates {
        group.add(&format!("{name}_per_client"), applies_to, per_second(&plain(rate)));
        group.add(&format!("{name}_burst"), applies_to, plain(burst));
    }
    group
}

fn trusted_proxies(settings: &Settings) -> KeyGroup {
    let mut group = KeyGroup::new("trusted_proxies");
    group.add("addresses", Requests, networks(&settings.trusted_proxies.networks));
    let files = settings.trusted_proxies.files.iter().map(|file| file.display().to_string());
    group.add("address_files", Requests, list(files));
    group.add("header", Requests, text(settings.trusted_proxies.header.name()));
    group
}

fn client_key(settings: &Settings) -> KeyGroup {
    let mut group = KeyGroup::new("client_key");
    group.add("ipv4_prefix", Requests, plain(settings.client_key.v4));
    group.add("ipv6_prefix", Requests, plain(settings.client_key.v6));
    group
}

fn drain(settings: &Settings) -> KeyGroup {
    let (values, policy) = (&settings.drain, &settings.source_map.top_level_policy);
    let mut group = KeyGroup::new("drain");
    group.add("delay", Drain, or_off(values.delay, duration));
    group.add("window", Drain, duration(values.window));
    group.add("rate", Drain, or_off(values.rate, |rate| per_second(&plain(rate))));
    group.add("deadline", Drain, duration(values.deadline));
    for (name, value) in drain_close(policy) {
        group.add(name, Tunnels, value);
    }
    group
}

fn error_pages(settings: &Settings) -> KeyGroup {
    let mut group = KeyGroup::new("error_pages");
    for ((key, _), file) in ERROR_PAGES.into_iter().zip(&settings.error_pages) {
        group.add(key, Requests, or_off(file.as_deref(), |file| text(file.display())));
    }
    group
}

fn admin(settings: &Settings) -> KeyGroup {
    let written = settings.source_map.admin;
    let address = settings.admin.or(written.map(|written| written.address));
    let mut group = KeyGroup::new("admin");
    group.add("address", Restart, or_off(address, text));
    group.add("enabled", Restart, plain(settings.admin.is_some()));
    group.add("public", Restart, plain(written.is_some_and(|written| written.public)));
    group
}

fn control(settings: &Settings) -> KeyGroup {
    let mut group = KeyGroup::new("control");
    group.add(
        "socket",
        Restart,
        match &settings.control {
            ControlSocket::Auto => text("auto"),
            ControlSocket::Off => text("off"),
            ControlSocket::At(path) => text(path.display()),
        },
    );
    group
}

fn log(settings: &Settings) -> KeyGroup {
    let values = &settings.log;
    let mut group = KeyGroup::new("log");
    group.add("format", Restart, text(format(values.format)));
    group.add("level", Immediately, text(values.level.as_str().to_ascii_lowercase()));
    group.add("redact", Requests, list(values.redact.iter().cloned()));
    group
}

fn access(settings: &Settings) -> KeyGroup {
    let values = &settings.access;
    let mut group = KeyGroup::new("access");
    group.add(
        "to",
        Immediately,
        match &values.to {
            AccessTarget::Stderr => text("stderr"),
            AccessTarget::File(path) => text(path.display()),
        },
    );
    group.add_inherited("format", Immediately, text(format(values.format)), "log.format");
    group.add("start", Immediately, plain(values.start));
    let rate = or_off(values.records_per_client, |rate| per_second(&plain(rate)));
    group.add("records_per_client", Immediately, rate);
    group
}

fn format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}
