//! Terms of a session and caps.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{count, value_or};
use crate::config::fault::{Complaint, Place};
use crate::config::file::{ConfigFile, RouteTable};
use crate::config::findings::Findings;
use crate::config::kinds::{OrAuto, OrOff};
use crate::config::reader::Given;
use crate::config::settings::Caps;
use crate::config::units::{ByteSize, show_duration};
use crate::ws::{CloseCode, Heartbeat, Terms};

/// What sessions are held to: on this route, or on every route that says nothing of its own.
pub(super) fn terms(
    file: &ConfigFile,
    route: Option<&RouteTable>,
    findings: &mut Findings<'_>,
) -> Terms {
    let limits = route.map(|route| &route.limits);
    let heartbeat = route.map(|route| &route.heartbeat);
    let interval = pick(heartbeat.map(|own| &own.interval), &file.heartbeat.interval);
    let patience = pick(heartbeat.map(|own| &own.patience), &file.heartbeat.patience);
    let idle = pick(limits.map(|own| &own.idle), &file.limits.idle);
    let close_grace = pick(limits.map(|own| &own.close_grace), &file.limits.close_grace);
    let write_stall = pick(limits.map(|own| &own.write_stall), &file.limits.write_stall);
    let from_client =
        pick(limits.map(|own| &own.message_from_client), &file.limits.message_from_client);
    let from_backend =
        pick(limits.map(|own| &own.message_from_backend), &file.limits.message_from_backend);

    let patience_time = value_or(patience, Duration::from_secs(10));
    let terms = Terms {
        message_from_client_max: value_or(from_client, MESSAGE_FROM_CLIENT).0.map(ByteSize::get),
        message_from_backend_max: value_or(from_backend, OrOff(None)).0.map(ByteSize::get),
        heartbeat: value_or(interval, OrOff(Some(Duration::from_secs(30))))
            .0
            .map(|interval| Heartbeat { interval, patience: patience_time }),
        idle: value_or(idle, OrOff(Some(Duration::from_secs(3600)))).0,
        close_grace: value_or(close_grace, Duration::from_secs(5)),
        write_stall: value_or(write_stall, Duration::from_secs(30)),
        drain_code: value_or(&file.drain.code, CloseCode::SERVICE_RESTART),
    };
    if !(interval.is_faulty() || patience.is_faulty() || idle.is_faulty()) {
        let places = [idle.place(), interval.place(), patience.place()];
        heartbeat_before_idle(&terms, &places, route.map(|route| &route.place), findings);
    }
    terms
}

/// A lost client is noticed before it counts as idle, or the heartbeat is for nothing.
fn heartbeat_before_idle(
    terms: &Terms,
    places: &[Option<&Place>],
    route: Option<&Place>,
    findings: &mut Findings<'_>,
) {
    let (Some(heartbeat), Some(idle)) = (terms.heartbeat, terms.idle) else {
        return;
    };
    let noticed = heartbeat.interval.saturating_add(heartbeat.patience);
    if noticed < idle {
        return;
    }
    // Without a key of its own, the route's trouble is told once, at the common table.
    let of_route = |place: &&Place| route.is_none_or(|route| place.key.starts_with(&route.key));
    let Some(place) = places.iter().copied().flatten().find(of_route) else {
        return;
    };
    let wrong = Complaint::new(format!(
        "limits.idle = {} is not longer than heartbeat.interval + heartbeat.patience = {}",
        show_duration(idle),
        show_duration(noticed),
    ));
    let help = format!(
        "a lost client should be noticed before the tunnel counts as idle:\n\
         let idle be longer than {}, or switch it or the interval \"off\"",
        show_duration(noticed)
    );
    findings.fault(place, wrong.help(help));
}

/// Caps and rates. A per-client cap that is not in the file is lowered to the cap on all clients.
pub(super) fn caps(file: &ConfigFile, findings: &mut Findings<'_>) -> Caps {
    let given = &file.caps;
    let all = auto(&given.connections);
    // Each tunnel is a connection, so that the cap on these is one on those.
    let tunnels = auto(&given.tunnels).or(all);
    let of_tunnels = match given.tunnels.value() {
        Some(OrAuto(Some(_))) => "caps.tunnels",
        Some(OrAuto(None)) | None => "caps.connections",
    };
    let mut check = |number: Option<NonZeroU32>, place: Option<&Place>, cap, of_cap| {
        if let (Some(number), Some(place), Some(cap)) = (number, place, cap)
            && number > cap
        {
            let wrong = Complaint::new(format!("{number} is more than {of_cap} = {cap}"));
            findings.fault(place, wrong.help(format!("write at most {cap}, or raise {of_cap}")));
        }
    };
    let per_client = &given.connections_per_client;
    check(per_client.value().copied(), per_client.place(), all, "caps.connections");
    check(auto(&given.tunnels), given.tunnels.place(), all, "caps.connections");
    let per_client = &given.tunnels_per_client;
    check(per_client.value().copied(), per_client.place(), tunnels, of_tunnels);
    for route in file.routes.value().into_iter().flatten() {
        let number = route.tunnels.value().and_then(|tunnels| tunnels.0);
        check(number, route.tunnels.place(), tunnels, of_tunnels);
    }

    let within = |given: &Given<NonZeroU32>, default: u32, cap: Option<NonZeroU32>| {
        let default = cap.map_or(default, |cap| cap.get().min(default));
        given.value().map_or(at_least_one(default), |number| *number)
    };
    Caps {
        connections: all.map(count),
        tunnels: auto(&given.tunnels).map(count),
        connections_per_client: count(within(&given.connections_per_client, 512, all)),
        tunnels_per_client: count(within(&given.tunnels_per_client, 256, tunnels)),
        handshakes_per_client: given
            .handshakes_per_client
            .value()
            .map_or(at_least_one(20), |rate| rate.0),
        handshakes_burst: value_or(&given.handshakes_burst, at_least_one(100)),
    }
}

/// The route's own key, or else the common one.
fn pick<'g, T>(own: Option<&'g Given<T>>, common: &'g Given<T>) -> &'g Given<T> {
    match own {
        Some(own @ (Given::Here(_) | Given::Faulty)) => own,
        Some(Given::Absent) | None => common,
    }
}

fn auto(given: &Given<OrAuto<NonZeroU32>>) -> Option<NonZeroU32> {
    given.value().and_then(|number| number.0)
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

const MESSAGE_FROM_CLIENT: OrOff<ByteSize> = OrOff(Some(ByteSize::new(1 << 20)));
