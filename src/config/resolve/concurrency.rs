//! Concurrency limits of the process, of a client and of a route, and the rates of a client.

use std::num::NonZeroU32;

use super::defaults::{count, value_or};
use crate::config::schema::ConfigFile;
use crate::config::settings::ConcurrencySettings;
use crate::config::settings::rates::{ClientRate, RateSettings};
use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::scalars::{OrAuto, PerClientLimit};
use crate::config::values::units::{ByteSize, PerSecond};

/// The concurrency limits. The default of a per-client limit is lowered to the limit on all
/// clients.
pub(crate) fn concurrency(file: &ConfigFile, sink: &mut DiagnosticSink<'_>) -> ConcurrencySettings {
    let given = &file.concurrency;
    let all = auto(&given.connections);
    // Each tunnel is a connection, so the limit on connections also applies to tunnels.
    let tunnels = auto(&given.tunnels).or(all);
    let tunnels_key = match given.tunnels.value() {
        Some(OrAuto(Some(_))) => "concurrency.tunnels",
        Some(OrAuto(None)) | None => "concurrency.connections",
    };
    let mut check = |number: Option<NonZeroU32>, location: Option<&Location>, max, max_key| {
        if let (Some(number), Some(location), Some(max)) = (number, location, max)
            && number > max
        {
            let problem = Problem::new(format!("{number} is more than {max_key} = {max}"));
            sink.report(location, problem.help(format!("write at most {max}, or raise {max_key}")));
        }
    };
    let per_client = &given.connections_per_client;
    check(
        per_client.value().map(|number| number.0),
        per_client.location(),
        all,
        "concurrency.connections",
    );
    check(auto(&given.tunnels), given.tunnels.location(), all, "concurrency.connections");
    let per_client = &given.tunnels_per_client;
    check(per_client.value().map(|number| number.0), per_client.location(), tunnels, tunnels_key);
    for route in file.routes.value().into_iter().flatten() {
        let number = route.tunnels.value().and_then(|tunnels| tunnels.0);
        check(number, route.tunnels.location(), tunnels, tunnels_key);
    }

    let reported =
        tunnels.is_some_and(|max| per_client.value().is_some_and(|number| number.0 > max));
    if !reported {
        tunnels_within_connections(file, sink);
    }

    let memory = given.pending_memory.value().and_then(|size| size.0);
    if let (Some(size), Some(location)) = (memory, given.pending_memory.location())
        && size < PENDING_MEMORY_MIN
    {
        let problem = Problem::new(format!("{size} is too little for any number of connections"));
        sink.report(location, problem.help(format!("write at least \"{PENDING_MEMORY_MIN}\"")));
    }
    let within =
        |given: &Parsed<PerClientLimit<NonZeroU32>>, default: u32, max: Option<NonZeroU32>| {
            let default = max.map_or(default, |max| max.get().min(default));
            given.value().map_or(at_least_one(default), |number| number.0)
        };
    ConcurrencySettings {
        connections: all.map(count),
        tunnels: auto(&given.tunnels).map(count),
        connections_per_client: count(within(&given.connections_per_client, CONNECTIONS, all)),
        tunnels_per_client: count(within(&given.tunnels_per_client, 1024, tunnels)),
        requests_per_client: count(within(&given.requests_per_client, 1024, None)),
        pending_memory: memory.map(ByteSize::get),
    }
}

/// The rate limits of one client.
pub(super) fn rates(file: &ConfigFile) -> RateSettings {
    let given = &file.rates;
    let handshakes = rate(&given.handshakes_per_client, &given.handshakes_burst, HANDSHAKES);
    // Each handshake may need a connection of its own.
    let connections = ClientRate {
        per_second: NEW_CONNECTIONS.per_second.max(handshakes.per_second),
        burst: NEW_CONNECTIONS.burst.max(handshakes.burst),
    };
    RateSettings {
        connections: rate(&given.connections_per_client, &given.connections_burst, connections),
        handshakes,
        requests: rate(&given.requests_per_client, &given.requests_burst, REQUESTS),
    }
}

fn rate(
    per_second: &Parsed<PerClientLimit<PerSecond>>,
    burst: &Parsed<PerClientLimit<NonZeroU32>>,
    default: ClientRate,
) -> ClientRate {
    ClientRate {
        per_second: per_second.value().map_or(default.per_second, |rate| rate.0.0),
        burst: value_or(burst, PerClientLimit(default.burst)).0,
    }
}

/// Each tunnel of a client is one of its connections, except for clients behind a trusted proxy.
fn tunnels_within_connections(file: &ConfigFile, sink: &mut DiagnosticSink<'_>) {
    let (tunnels, connections) =
        (&file.concurrency.tunnels_per_client, &file.concurrency.connections_per_client);
    let none_trusted = file.trusted_proxies.is_empty();
    let (Some(Located { value: PerClientLimit(number), location }), true, false) =
        (tunnels.located(), none_trusted, connections.is_invalid())
    else {
        return;
    };
    let (max, note) = match connections.value() {
        Some(max) => (max.0.get(), ""),
        None => (CONNECTIONS, " (default)"),
    };
    if number.get() > max {
        let key = "concurrency.connections_per_client";
        let problem = Problem::new(format!("{number} is more than {key} = {max}{note}"));
        let help = format!(
            "each tunnel is a connection: write at most {max}, or raise {key} to at least {number}"
        );
        sink.report(location, problem.help(help));
    }
}

fn auto(given: &Parsed<OrAuto<NonZeroU32>>) -> Option<NonZeroU32> {
    given.value().and_then(|number| number.0)
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// Enough for a few requests with the longest heads.
const PENDING_MEMORY_MIN: ByteSize = ByteSize::new(1 << 20);
/// Default of `connections_per_client`.
const CONNECTIONS: u32 = 2048;
/// The burst lets all [`CONNECTIONS`] of an office return at once after an outage, and try again.
const NEW_CONNECTIONS: ClientRate =
    ClientRate { per_second: at_least_one(500), burst: at_least_one(5000) };
const HANDSHAKES: ClientRate =
    ClientRate { per_second: at_least_one(20), burst: at_least_one(100) };
/// Above the needs of an office with a hundred users behind one address, which poll every second and load pages of
/// hundreds of files.
const REQUESTS: ClientRate =
    ClientRate { per_second: at_least_one(1000), burst: at_least_one(5000) };
