//! The whole exposition: every family with its name, its help and its rows.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::{Registry, Unit};
use ws::Side;

use super::causes;
use super::handles::{BackendCounts, FlowCounts, RouteCounts};
use super::openmetrics::{Labels, MetricsText};
use super::process_snapshot::ProcessSnapshot;
use crate::client::AddrSource;
use crate::telemetry::metrics::{CauseCount, HandshakeStep, Metrics};

/// What the media type of a scrape is (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// All of it as text, of [`CONTENT_TYPE`].
    pub fn scrape(self: &Arc<Self>, house: ProcessSnapshot) -> String {
        let mut registry = Registry::with_prefix("tidegate");
        registry.register_collector(Box::new(Scrape { metrics: self.clone(), house }));
        let mut text = String::new();
        // A string takes everything.
        let _ = encode(&mut text, &registry);
        text
    }
}

#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    house: ProcessSnapshot,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = MetricsText(encoder);
        self.how_many(&mut page)?;
        self.how_long(&mut page)?;
        self.how_much(&mut page)?;
        self.why(&mut page)?;
        self.pools(&mut page)?;
        self.configuration(&mut page)?;
        self.process(&mut page)
    }
}

impl Scrape {
    fn how_many(&self, page: &mut MetricsText<'_>) -> fmt::Result {
        let listeners = self.metrics.listeners();
        page.gauges(
            "connections",
            "Open connections, including tunnels",
            None,
            listeners.iter().map(|l| ([("listener", &*l.name)], l.open.get() as f64)),
        )?;
        page.counters(
            "connections_opened",
            "Connections accepted",
            None,
            listeners.iter().map(|l| ([("listener", &*l.name)], l.opened.get())),
        )?;
        page.counters(
            "accept_pauses",
            "Pauses of accept because file descriptors or memory ran out",
            None,
            listeners.iter().map(|l| ([("listener", &*l.name)], l.pauses.get())),
        )?;
        let backends = self.metrics.backends();
        page.gauges(
            "tunnels",
            "Open tunnels",
            None,
            backends.iter().map(|backend| (of(backend), backend.open.get() as f64)),
        )?;
        page.counters(
            "tunnels_opened",
            "Tunnels opened",
            None,
            backends.iter().map(|backend| (of(backend), backend.opened.get())),
        )?;
        let routes = self.metrics.routes();
        page.counters(
            "http_requests",
            "Plain HTTP requests that a backend answered",
            None,
            routes.iter().map(|route| ([("route", &*route.name)], route.requests.get())),
        )?;
        let limits =
            [("connections", self.house.connections_max), ("tunnels", self.house.tunnels_max)];
        page.gauges(
            "capacity",
            "Maximum number of open connections and tunnels",
            None,
            limits.map(|(what, most)| ([("resource", what)], most as f64)),
        )
    }

    fn how_long(&self, page: &mut MetricsText<'_>) -> fmt::Result {
        let routes = self.metrics.routes();
        page.histograms(
            "tunnel_duration",
            "Lifetime of tunnels that ended",
            Unit::Seconds,
            routes.iter().map(|route| ([("route", &*route.name)], route.durations.read())),
        )?;
        let steps = HandshakeStep::ALL
            .map(|step| ([("stage", step.slug())], self.metrics.handshakes[step as usize].read()));
        page.histograms(
            "handshake_duration",
            "Duration of the handshake by stage: TLS, request head to 101, backend connect and response",
            Unit::Seconds,
            steps,
        )?;
        page.histograms(
            "message_delay",
            "Time from reading bytes to writing them to the other side, sampled",
            Unit::Seconds,
            routes.iter().map(|route| ([("route", &*route.name)], route.late.read())),
        )?;
        let trips = routes.iter().flat_map(|route| {
            Side::BOTH.map(|side| {
                let labels = [("route", &*route.name), ("side", side.slug())];
                (labels, route.rtt[causes::side_place(side)].read())
            })
        });
        page.histograms("ping_rtt", "Time from a ping to its pong", Unit::Seconds, trips)
    }

    fn how_much(&self, page: &mut MetricsText<'_>) -> fmt::Result {
        let routes = self.metrics.routes();
        page.counters(
            "messages",
            "Complete messages relayed",
            None,
            flows(&routes, |flow| flow.messages.get()),
        )?;
        page.counters(
            "messages_compressed",
            "Complete messages relayed that were compressed",
            None,
            flows(&routes, |flow| flow.compressed.get()),
        )?;
        page.counters(
            "relayed",
            "Bytes of frames relayed, including frame headers",
            Some(Unit::Bytes),
            flows(&routes, |flow| flow.bytes.get()),
        )?;
        page.histograms(
            "message_size",
            "Payload size of complete messages as sent on the wire",
            Unit::Bytes,
            flows(&routes, |flow| flow.sizes.read()),
        )
    }

    fn why(&self, page: &mut MetricsText<'_>) -> fmt::Result {
        let by_stage = |causes: Vec<CauseCount>| {
            causes
                .into_iter()
                .map(|cause| ([("stage", cause.of), ("reason", cause.reason)], cause.count))
        };
        page.counters(
            "connections_dropped",
            "Connections that ended before a complete request, by stage and reason",
            None,
            by_stage(self.metrics.drops()),
        )?;
        let named = AddrSource::MENTIONED.iter().enumerate().filter_map(|(place, by)| {
            by.slug().map(|by| ([("source", by)], self.metrics.named.get(place)))
        });
        page.counters(
            "forwarded_clients",
            "Connections and requests whose client address came from a trusted proxy, by source",
            None,
            named,
        )?;
        page.counters(
            "requests_rejected",
            "Requests rejected, by stage and reason",
            None,
            by_stage(self.metrics.refusals()),
        )?;
        let routes = self.metrics.routes();
        page.counters(
            "tunnels_ended",
            "Tunnels that ended, by initiator and reason",
            None,
            rows(&routes, ["by", "reason"], RouteCounts::ends),
        )?;
        page.counters(
            "close_frames",
            "Close frames sent, by receiving side and close code",
            None,
            rows(&routes, ["side", "code"], RouteCounts::closes),
        )?;
        page.counters(
            "would_have_closed",
            "Violations of limits and rules set to report, by side and reason, once per tunnel",
            None,
            rows(&routes, ["side", "reason"], RouteCounts::reported),
        )?;
        page.counters(
            "tunnels_delayed",
            "Tunnels with a side delayed by a rate limit, by side and limit",
            None,
            rows(&routes, ["side", "reason"], RouteCounts::delays),
        )?;
        let waits = routes.iter().flat_map(|route| {
            Side::BOTH.map(|side| {
                ([("route", &*route.name), ("side", side.slug())], route.delay_seconds(side))
            })
        });
        page.times("delayed", "Time that sides were delayed by rate limits", waits)
    }

    fn pools(&self, page: &mut MetricsText<'_>) -> fmt::Result {
        let backends = &self.house.backends;
        page.gauges(
            "backend_up",
            "Whether the backend is up: 1 if it receives new tunnels",
            None,
            backends.iter().map(|backend| (of(&backend.counts), f64::from(u8::from(backend.up)))),
        )?;
        page.counters(
            "backend_connect_failures",
            "Failed connection attempts to the backend",
            None,
            backends.iter().map(|backend| (of(&backend.counts), backend.counts.refused.get())),
        )
    }

    fn configuration(&self, page: &mut MetricsText<'_>) -> fmt::Result {
        let house = &self.house;
        let outcomes = [("rejected", 0), ("applied", 1)];
        page.counters(
            "config_reloads",
            "Reloads of the configuration, by outcome",
            None,
            outcomes.map(|(word, place)| ([("outcome", word)], self.metrics.reloads.get(place))),
        )?;
        page.counters(
            "certificate_renewals",
            "Renewals of certificates whose files changed, by outcome",
            None,
            outcomes.map(|(word, place)| ([("outcome", word)], self.metrics.renewals.get(place))),
        )?;
        let (when, applied) = house.reload;
        page.gauges(
            "config_last_reload_timestamp",
            "Time of the last reload",
            Some(Unit::Seconds),
            [([], when)],
        )?;
        page.gauges(
            "config_last_reload_successful",
            "Whether the last reload was applied",
            None,
            [([], f64::from(u8::from(applied)))],
        )?;
        page.gauges(
            "config_generation",
            "Number of the active configuration, from 1",
            None,
            [([], house.generation as f64)],
        )?;
        let indices: Vec<String> =
            house.certificates.iter().map(|of| of.index.to_string()).collect();
        page.gauges(
            "certificate_expiry_timestamp",
            "Expiry time of each certificate, by position in the file and first DNS name",
            Some(Unit::Seconds),
            house.certificates.iter().zip(&indices).map(|(of, index)| {
                ([("certificate", index.as_str()), ("name", of.name.as_str())], of.not_after as f64)
            }),
        )
    }

    fn process(&self, page: &mut MetricsText<'_>) -> fmt::Result {
        let house = &self.house;
        let known = |number: Option<u64>| number.map(|number| ([], number as f64));
        page.gauges(
            "open_descriptors",
            "Open file descriptors",
            None,
            known(house.process.descriptors),
        )?;
        page.gauges(
            "max_descriptors",
            "Maximum number of open file descriptors",
            None,
            known(house.process.descriptors_max),
        )?;
        page.gauges(
            "resident_memory",
            "Resident memory",
            Some(Unit::Bytes),
            known(house.process.resident),
        )?;
        page.counters(
            "log_lines_lost",
            "Log lines dropped because they could not be written",
            None,
            [([], house.lines_lost)],
        )?;
        page.counters("tasks_panicked", "Tasks that panicked", None, [([], house.panics)])?;
        page.gauges(
            "draining",
            "Whether the process is shutting down",
            None,
            [([], f64::from(u8::from(house.draining)))],
        )?;
        page.gauges(
            "start_time",
            "Start time of the process",
            Some(Unit::Seconds),
            [([], house.started)],
        )?;
        page.info(
            "build",
            "Version of the running process",
            [("version", env!("CARGO_PKG_VERSION"))],
        )
    }
}

fn of(backend: &BackendCounts) -> Labels<'_, 2> {
    [("route", &backend.route.name), ("backend", &backend.id)]
}

fn flows<'a, T: 'a>(
    routes: &'a [Arc<RouteCounts>],
    read: impl Fn(&FlowCounts) -> T + 'a,
) -> impl Iterator<Item = (Labels<'a, 2>, T)> {
    routes.iter().flat_map(move |route| {
        [("up", &route.up), ("down", &route.down)].map(|(direction, flow)| {
            ([("route", &*route.name), ("direction", direction)], read(flow))
        })
    })
}

fn rows<'a>(
    routes: &'a [Arc<RouteCounts>],
    names: [&'static str; 2],
    read: impl Fn(&RouteCounts) -> Vec<CauseCount> + 'a,
) -> impl Iterator<Item = (Labels<'a, 3>, u64)> {
    routes.iter().flat_map(move |route| {
        let labels = move |cause: CauseCount| {
            let labels = [("route", &*route.name), (names[0], cause.of), (names[1], cause.reason)];
            (labels, cause.count)
        };
        read(route).into_iter().map(labels)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_configuration_are_escaped() {
        let metrics = Arc::new(Metrics::default());
        let _route = metrics.route(&"a \"b\" \\c".into());
        let text = metrics.scrape(ProcessSnapshot::default());
        let row = r#"tidegate_messages_total{route="a \"b\" \\c",direction="up"} 0"#;
        assert!(text.lines().any(|line| line == row), "{text}");
        assert!(text.ends_with("\n# EOF\n"));
    }
}
