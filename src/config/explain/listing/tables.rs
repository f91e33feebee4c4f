//! The keys of all tables but the routes'.

use ipnet::IpNet;

use super::value::{list, or_auto, or_off, per_second, plain, text, time};
use crate::config::explain::listing::KeyGroup;
use crate::config::settings::{
    AccessTarget, CertificateSource, ControlSocket, ForwardedHeader, LogFormat, Settings,
};

/// `[[listener]]`
pub fn listener(settings: &Settings, place: usize) -> Option<KeyGroup> {
    let of = settings.listeners.get(place)?;
    let mut group = KeyGroup::new(format!("listener[{place}]"));
    group.add("address", text(of.address));
    group.add_or("name", text(&of.name), format!("listener[{place}].address"));
    group.add("tls", plain(of.tls));
    group.add("proxy_protocol", plain(of.proxy_protocol));
    group.add("health_path", or_off(of.health_path.as_deref(), text));
    Some(group)
}

/// `[[certificate]]`
pub fn certificate(settings: &Settings, place: usize) -> Option<KeyGroup> {
    let of = settings.certificates.get(place)?;
    let mut group = KeyGroup::new(format!("certificate[{place}]"));
    let (chain, key) = match &of.source {
        CertificateSource::Files { chain, key } => (text(chain.display()), text(key.display())),
        // Made by the program itself; never the text.
        CertificateSource::Memory { .. } => (text("(memory)"), text("(memory)")),
    };
    group.add("chain", chain);
    group.add("key", key);
    group.add("default", plain(of.default));
    Some(group)
}

/// The tables of the process, those before `[limits]` and `[heartbeat]` and those after.
pub fn process(settings: &Settings) -> (Vec<KeyGroup>, Vec<KeyGroup>) {
    let mut server = KeyGroup::new("server");
    let workers = (!settings.written.workers_auto).then_some(settings.workers);
    server.add("workers", or_auto(workers, plain));
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
    group.add("proxy_header", time(of.proxy_header));
    group.add("tls", time(of.tls));
    group.add("request_header", time(of.request_header));
    group.add("connect", time(of.connect));
    group.add("response_header", time(of.response_header));
    group.add("idle", time(of.idle));
    group
}

fn concurrency(settings: &Settings) -> KeyGroup {
    let of = &settings.concurrency;
    let mut group = KeyGroup::new("concurrency");
    group.add("connections", or_auto(of.connections, plain));
    group.add("tunnels", or_auto(of.tunnels, plain));
    // One client never has more than all.
    let lowered = |number: usize, all: Option<usize>| all == Some(number);
    let (connections, tunnels) = (of.connections_per_client, of.tunnels_per_client);
    match lowered(connections, of.connections) {
        true => {
            group.add_or("connections_per_client", plain(connections), "concurrency.connections")
        }
        false => group.add("connections_per_client", plain(connections)),
    }
    match (lowered(tunnels, of.tunnels), lowered(tunnels, of.connections)) {
        (true, _) => group.add_or("tunnels_per_client", plain(tunnels), "concurrency.tunnels"),
        (false, true) => {
            group.add_or("tunnels_per_client", plain(tunnels), "concurrency.connections")
        }
        (false, false) => group.add("tunnels_per_client", plain(tunnels)),
    }
    group
}

fn rates(settings: &Settings) -> KeyGroup {
    let of = &settings.rates;
    let mut group = KeyGroup::new("rates");
    group.add("handshakes_per_client", per_second(&plain(of.handshakes_per_client)));
    group.add("handshakes_burst", plain(of.handshakes_burst));
    group
}

fn trusted_proxies(settings: &Settings) -> KeyGroup {
    let show = |net: &IpNet| match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    };
    let mut group = KeyGroup::new("trusted_proxies");
    group.add("addresses", list(settings.trusted.networks.iter().map(show)));
    group.add(
        "header",
        text(match settings.trusted.header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        }),
    );
    group
}

fn client_key(settings: &Settings) -> KeyGroup {
    let mut group = KeyGroup::new("client_key");
    group.add("ipv4_prefix", plain(settings.client_key.v4));
    group.add("ipv6_prefix", plain(settings.client_key.v6));
    group
}

fn drain(settings: &Settings) -> KeyGroup {
    let (of, terms) = (&settings.drain, &settings.written.common);
    let mut group = KeyGroup::new("drain");
    group.add("delay", or_off(of.delay, time));
    group.add("window", time(of.window));
    group.add("rate", or_off(of.rate, |rate| per_second(&plain(rate))));
    group.add("deadline", time(of.deadline));
    group.add("code", plain(terms.drain_code.get()));
    group.add("reason", text(&terms.drain_reason));
    group
}

fn admin(settings: &Settings) -> KeyGroup {
    let written = settings.written.admin;
    let address = settings.admin.or(written.map(|written| written.address));
    let mut group = KeyGroup::new("admin");
    group.add("address", or_off(address, text));
    group.add("enabled", plain(settings.admin.is_some()));
    group.add("public", plain(written.is_some_and(|written| written.public)));
    group
}

fn control(settings: &Settings) -> KeyGroup {
    let mut group = KeyGroup::new("control");
    group.add(
        "socket",
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
    group.add("format", text(format(of.format)));
    group.add("level", text(of.level.as_str().to_ascii_lowercase()));
    group.add("redact", list(of.redact.iter().cloned()));
    group
}

fn access(settings: &Settings) -> KeyGroup {
    let of = &settings.access;
    let mut group = KeyGroup::new("access");
    group.add(
        "to",
        match &of.to {
            AccessTarget::Stderr => text("stderr"),
            AccessTarget::File(path) => text(path.display()),
        },
    );
    group.add_or("format", text(format(of.format)), "log.format");
    group.add("start", plain(of.start));
    group
}

fn format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}
