//! Concurrency limits of the process, of a client and of a route, and the rates of a client.

use std::num::NonZeroU32;

use crate::config::resolve::{count, value_or};
use crate::config::schema::ConfigFile;
use crate::config::settings::{ConcurrencySettings, Rates};
use crate::config::toml::diagnostic::{KeyPath, Problem};
use crate::config::toml::findings::DiagnosticSink;
use crate::config::toml::reader::{Located, Parsed};
use crate::config::values::scalars::{AtLeastOne, OrAuto};

/// The concurrency limits. A per-client limit that is not in the file is lowered to the limit on all
/// clients.
pub(crate) fn concurrency(
    file: &ConfigFile,
    findings: &mut DiagnosticSink<'_>,
) -> ConcurrencySettings {
    let given = &file.concurrency;
    let all = auto(&given.connections);
    // Each tunnel is a connection, so that the cap on these is one on those.
    let tunnels = auto(&given.tunnels).or(all);
    let of_tunnels = match given.tunnels.value() {
        Some(OrAuto(Some(_))) => "concurrency.tunnels",
        Some(OrAuto(None)) | None => "concurrency.connections",
    };
    let mut check = |number: Option<NonZeroU32>, place: Option<&KeyPath>, cap, of_cap| {
        if let (Some(number), Some(place), Some(cap)) = (number, place, cap)
            && number > cap
        {
            let wrong = Problem::new(format!("{number} is more than {of_cap} = {cap}"));
            findings.fault(place, wrong.help(format!("write at most {cap}, or raise {of_cap}")));
        }
    };
    let per_client = &given.connections_per_client;
    check(
        per_client.value().map(|number| number.0),
        per_client.place(),
        all,
        "concurrency.connections",
    );
    check(auto(&given.tunnels), given.tunnels.place(), all, "concurrency.connections");
    let per_client = &given.tunnels_per_client;
    check(per_client.value().map(|number| number.0), per_client.place(), tunnels, of_tunnels);
    for route in file.routes.value().into_iter().flatten() {
        let number = route.tunnels.value().and_then(|tunnels| tunnels.0);
        check(number, route.tunnels.place(), tunnels, of_tunnels);
    }

    let told = tunnels.is_some_and(|cap| per_client.value().is_some_and(|number| number.0 > cap));
    if !told {
        tunnels_within_connections(file, findings);
    }

    let within = |given: &Parsed<AtLeastOne<NonZeroU32>>, default: u32, cap: Option<NonZeroU32>| {
        let default = cap.map_or(default, |cap| cap.get().min(default));
        given.value().map_or(at_least_one(default), |number| number.0)
    };
    ConcurrencySettings {
        connections: all.map(count),
        tunnels: auto(&given.tunnels).map(count),
        connections_per_client: count(within(&given.connections_per_client, CONNECTIONS, all)),
        tunnels_per_client: count(within(&given.tunnels_per_client, 256, tunnels)),
    }
}

/// The rates of one client.
pub(super) fn rates(file: &ConfigFile) -> Rates {
    let given = &file.rates;
    Rates {
        handshakes_per_client: given
            .handshakes_per_client
            .value()
            .map_or(at_least_one(20), |rate| rate.0.0),
        handshakes_burst: value_or(&given.handshakes_burst, AtLeastOne(at_least_one(100))).0,
    }
}

/// Each tunnel of a client is a connection of it, but for those who come through a trusted proxy.
fn tunnels_within_connections(file: &ConfigFile, findings: &mut DiagnosticSink<'_>) {
    let (tunnels, connections) =
        (&file.concurrency.tunnels_per_client, &file.concurrency.connections_per_client);
    let trusted = &file.trusted_proxies.addresses;
    let nobody = !trusted.is_faulty() && trusted.value().is_none_or(|list| list.is_empty());
    let (Some(Located { value: AtLeastOne(number), place }), true, false) =
        (tunnels.here(), nobody, connections.is_faulty())
    else {
        return;
    };
    let (cap, whose) = match connections.value() {
        Some(cap) => (cap.0.get(), ""),
        None => (CONNECTIONS, " by default"),
    };
    if number.get() > cap {
        let key = "concurrency.connections_per_client";
        let wrong = Problem::new(format!("{number} is more than {key}, which is {cap}{whose}"));
        let help =
            format!("each tunnel is a connection: write at most {cap}, or raise {key} as well");
        findings.fault(place, wrong.help(help));
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

/// Of one client, unless the file says otherwise.
const CONNECTIONS: u32 = 512;
