//! The listing's rows for all tables except routes and common limits.

use ipnet::IpNet;

use super::key_group::KeyGroup;
use super::value::{duration, list, or_auto, or_off, per_second, plain, text};
use crate::config::explain::effect::AppliesTo::{
    Connections, Drain, Immediately, Requests, Restart, Tunnels,
};
use crate::config::settings::{
    AccessTarget, CertificateSource, ControlSocket, ForwardedHeader, LogFormat, Settings,
};

/// The keys of a `[[listener]]`.
pub fn listener(settings: &Settings, index: usize) -> Option<KeyGroup> {
    let of = settings.listeners.get(index)?;
    let mut group = KeyGroup::new(format!("listener[{index}]"));
    group.add("address", Immediately, text(of.address));
    group.add_with_fallback(
        "name",
        Connections,
        text(&of.name),
        format!("listener[{index}].address"),
    );
    group.add("tls", Connections, plain(of.tls));
    group.add("proxy_protocol", Connections, plain(of.proxy_protocol));
    group.add("health_path", Connections, or_off(of.health_path.as_deref(), text));
    Some(group)
}

/// The keys of a `[[certificate]]`.
pub fn certificate(settings: &Settings, index: usize) -> Option<KeyGroup> {
    let of = settings.certificates.get(index)?;
    let mut group = KeyGroup::new(format!("certificate[{index}]"));
    let (chain, key) = match &of.source {
        CertificateSource::Files { chain, key } => (text(chain.display()), text(key.display())),
        // The PEM text itself is never shown.
        CertificateSource::Memory { .. } => (text("(memory)"), text("(memory)")),
    };
    group.add("chain", Connections, chain);
    group.add("key", Connections, key);
    group.add("default", Connections, plain(of.default));
    Some(group)
}

/// The other tables: those listed before `[limits]` and `[heartbeat]`, and those after.
pub fn process(settings: &Settings) -> (Vec<KeyGroup>, Vec<KeyGroup>) {
    let mut server = KeyGroup::new("server");
    let workers = (!settings.source_map.workers_auto).then_some(settings.workers);
    server.add("workers", Restart, or_auto(workers, plain));
    let after = vec![
        timeouts(settings),
        concurrency(settings),
        rates(settings),
        trusted_proxies(settings),
        client_key(settings),
        drain(settings),
        admin(settings),
        control(settings),
        log(settings),
        access(settings),
    ];
    (vec![server], after)
}

fn timeouts(settings: &Settings) -> KeyGroup {
    let of = &settings.timeouts;
    let mut group = KeyGroup::new("timeouts");
    group.add("proxy_header", Connections, duration(of.proxy_header));
    group.add("tls", Connections, duration(of.tls));
    group.add("request_header", Connections, duration(of.request_header));
    group.add("connect", Requests, duration(of.connect));
    group.add("response_header", Requests, duration(of.response_header));
    group.add("idle", Requests, duration(of.idle));
    group
}

fn concurrency(settings: &Settings) -> KeyGroup {
    let of = &settings.concurrency;
    let mut group = KeyGroup::new("concurrency");
    group.add("connections", Connections, or_auto(of.connections, plain));
    group.add("tunnels", Requests, or_auto(of.tunnels, plain));
    // A default is lowered to the limit on all clients.
    let lowered = |number: usize, all: Option<usize>| all == Some(number);
    let (connections, tunnels) = (of.connections_per_client, of.tunnels_per_client);
    match lowered(connections, of.connections) {
        true => group.add_with_fallback(
            "connections_per_client",
            Connections,
            plain(connections),
            "concurrency.connections",
        ),
        false => group.add("connections_per_client", Connections, plain(connections)),
    }
    match (lowered(tunnels, of.tunnels), lowered(tunnels, of.connections)) {
        (true, _) => group.add_with_fallback(
            "tunnels_per_client",
            Requests,
            plain(tunnels),
            "concurrency.tunnels",
        ),
        (false, true) => group.add_with_fallback(
            "tunnels_per_client",
            Requests,
            plain(tunnels),
            "concurrency.connections",
        ),
        (false, false) => group.add("tunnels_per_client", Requests, plain(tunnels)),
    }
    group
}

fn rates(settings: &Settings) -> KeyGroup {
    let of = &settings.rates;
    let mut group = KeyGroup::new("rates");
    group.add("handshakes_per_client", Requests, per_second(&plain(of.handshakes_per_client)));
    group.add("handshakes_burst", Requests, plain(of.handshakes_burst));
    group
}

fn trusted_proxies(settings: &Settings) -> KeyGroup {
    let show = |net: &IpNet| match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    };
    let mut group = KeyGroup::new("trusted_proxies");
    group.add("addresses", Requests, list(settings.trusted_proxies.networks.iter().map(show)));
    group.add(
        "header",
        Requests,
        text(match settings.trusted_proxies.header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        }),
    );
    group
}

fn client_key(settings: &Settings) -> KeyGroup {
    let mut group = KeyGroup::new("client_key");
    group.add("ipv4_prefix", Requests, plain(settings.client_key.v4));
    group.add("ipv6_prefix", Requests, plain(settings.client_key.v6));
    group
}

fn drain(settings: &Settings) -> KeyGroup {
    let (of, policy) = (&settings.drain, &settings.source_map.common);
    let mut group = KeyGroup::new("drain");
    group.add("delay", Drain, or_off(of.delay, duration));
    group.add("window", Drain, duration(of.window));
    group.add("rate", Drain, or_off(of.rate, |rate| per_second(&plain(rate))));
    group.add("deadline", Drain, duration(of.deadline));
    group.add("code", Tunnels, plain(policy.drain_code.get()));
    group.add("reason", Tunnels, text(&policy.drain_reason));
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
    let of = &settings.log;
    let mut group = KeyGroup::new("log");
    group.add("format", Restart, text(format(of.format)));
    group.add("level", Immediately, text(of.level.as_str().to_ascii_lowercase()));
    group.add("redact", Requests, list(of.redact.iter().cloned()));
    group
}

fn access(settings: &Settings) -> KeyGroup {
    let of = &settings.access;
    let mut group = KeyGroup::new("access");
    group.add(
        "to",
        Immediately,
        match &of.to {
            AccessTarget::Stderr => text("stderr"),
            AccessTarget::File(path) => text(path.display()),
        },
    );
    group.add_with_fallback("format", Immediately, text(format(of.format)), "log.format");
    group.add("start", Immediately, plain(of.start));
    group
}

fn format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}
