//! Every metric family: its name, its help text and its samples.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::{Registry, Unit};
use ws::Side;

use super::backend_state::BackendState;
use super::handles::{BackendCounts, FlowCounts, RouteCounts};
use super::openmetrics::{Labels, MetricsText};
use super::process_snapshot::ProcessSnapshot;
use super::reasons;
use crate::client::AddrSource;
use crate::telemetry::metrics::{HandshakeStage, Metrics, ReasonCount};

/// The media type of a scrape (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// All metrics as text of the type `CONTENT_TYPE`.
    pub fn scrape(self: &Arc<Self>, process: ProcessSnapshot) -> String {
        let mut registry = Registry::with_prefix("tidegate");
        registry.register_collector(Box::new(Scrape { metrics: self.clone(), process }));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    process: ProcessSnapshot,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut text = MetricsText(encoder);
        self.connection_metrics(&mut text)?;
        self.duration_metrics(&mut text)?;
        self.traffic_metrics(&mut text)?;
        self.reject_metrics(&mut text)?;
        self.termination_metrics(&mut text)?;
        self.limit_metrics(&mut text)?;
        self.backend_metrics(&mut text)?;
        self.config_metrics(&mut text)?;
        self.acme_metrics(&mut text)?;
        self.process_metrics(&mut text)
    }
}

impl Scrape {
    fn connection_metrics(&self, text: &mut MetricsText<'_>) -> fmt::Result {
        let listeners = self.metrics.listeners();
        text.gauges(
            "connections",
            "Open connections, including tunnels",
            None,
            listeners.iter().map(|l| ([("listener", &*l.name)], l.open.get() as f64)),
        )?;
        text.counters(
            "connections_opened",
            "Connections accepted",
            None,
            listeners.iter().map(|l| ([("listener", &*l.name)], l.opened.get())),
        )?;
        text.counters(
            "accept_pauses",
            "Pauses of accept because file descriptors or memory ran out",
            None,
            listeners.iter().map(|l| ([("listener", &*l.name)], l.pauses.get())),
        )?;
        let backends = self.metrics.backends();
        text.gauges(
            "tunnels",
            "Open tunnels",
            None,
            self.process.tunnels.iter().map(|((route, id), open)| {
                ([("route", &**route), ("backend", &**id)], *open as f64)
            }),
        )?;
        text.counters(
            "tunnels_opened",
            "Tunnels opened",
            None,
            backends.iter().map(|backend| (of(backend), backend.opened.get())),
        )?;
        let routes = self.metrics.routes();
        let requests = routes.iter().flat_map(|route| {
            let labels = |class| [("route", &*route.name), ("status", class)];
            route.requests().map(move |(class, count)| (labels(class), count))
        });
        text.counters(
            "http_requests",
            "Plain HTTP requests that were answered, by a backend or by tidegate, by the class of the status",
            None,
            requests,
        )?;
        let choices = routes.iter().flat_map(|route| {
            let labels = |reason| [("route", &*route.name), ("chosen_by", reason)];
            route.choices().map(move |(reason, count)| (labels(reason), count))
        });
        text.counters(
            "backend_choices",
            "Handshakes and plain requests by why their backend was tried first",
            None,
            choices,
        )?;
        text.counters(
            "headers_dropped",
            "Request headers not forwarded because of an underscore in their names",
            None,
            routes.iter().map(|route| ([("route", &*route.name)], route.headers_dropped.get())),
        )?;
        let limits =
            [("connections", self.process.connections_max), ("tunnels", self.process.tunnels_max)];
        text.gauges(
            "capacity",
            "Maximum number of open connections and tunnels",
            None,
            limits.map(|(resource, max)| ([("resource", resource)], max as f64)),
        )
    }

    fn duration_metrics(&self, text: &mut MetricsText<'_>) -> fmt::Result {
        let routes = self.metrics.routes();
        text.histograms(
            "tunnel_duration",
            "Lifetime of tunnels that ended",
            Unit::Seconds,
            routes.iter().map(|route| ([("route", &*route.name)], route.durations.read())),
        )?;
        text.histograms(
            "http_request_duration",
            "Time from the complete head of a plain HTTP request to the end of the response",
            Unit::Seconds,
            routes.iter().map(|route| ([("route", &*route.name)], route.request_durations.read())),
        )?;
        let stages = HandshakeStage::ALL.map(|stage| {
            ([("stage", stage.as_str())], self.metrics.handshakes[stage as usize].read())
        });
        text.histograms(
            "handshake_duration",
            "Duration of the handshakes by stage: tls: TLS handshake; upgrade: from the complete request \
             head to the 101; backend: the part of upgrade spent on connecting to the backend and its \
             response",
            Unit::Seconds,
            stages,
        )?;
        text.histograms(
            "relay_latency",
            "Time from reading bytes to writing them to the other side, sampled",
            Unit::Seconds,
            routes.iter().map(|route| ([("route", &*route.name)], route.relay_latency.read())),
        )?;
        let rtts = routes.iter().flat_map(|route| {
            Side::BOTH.map(|side| {
                let labels = [("route", &*route.name), ("side", side.as_str())];
                (labels, route.rtt[reasons::side_index(side)].read())
            })
        });
        text.histograms("ping_rtt", "Time from a ping to its pong", Unit::Seconds, rtts)
    }

    fn traffic_metrics(&self, text: &mut MetricsText<'_>) -> fmt::Result {
        let routes = self.metrics.routes();
        text.counters(
            "messages",
            "Complete messages relayed, up (client to backend) or down",
            None,
            flows(&routes, |flow| flow.messages.get()),
        )?;
        text.counters(
            "messages_compressed",
            "Complete messages relayed that were compressed, up (client to backend) or down",
            None,
            flows(&routes, |flow| flow.compressed.get()),
        )?;
        text.counters(
            "relayed",
            "Bytes of frames relayed, including frame headers, up (client to backend) or down",
            Some(Unit::Bytes),
            flows(&routes, |flow| flow.bytes.get()),
        )?;
        text.histograms(
            "message_size",
            "Payload size of complete messages on the wire, up (client to backend) or down",
            Unit::Bytes,
            flows(&routes, |flow| flow.sizes.read()),
        )
    }

    fn reject_metrics(&self, text: &mut MetricsText<'_>) -> fmt::Result {
        let by_stage = |counts: Vec<ReasonCount>| {
            counts
                .into_iter()
                .map(|row| ([("stage", row.group), ("reason", row.reason)], row.count))
        };
        text.counters(
            "connections_dropped",
            "Connections that ended before a complete request, by stage and reason",
            None,
            by_stage(self.metrics.drops()),
        )?;
        text.counters(
            "admin_connections_dropped",
            "Connections of the admin listener closed without a complete request, because too many were open",
            None,
            [([], self.metrics.admin_connections_dropped.get())],
        )?;
        text.counters(
            "requests_rejected",
            "Requests rejected (stage `response`: responses aborted), by stage and reason",
            None,
            by_stage(self.metrics.rejects()),
        )?;
        text.counters(
            "http2_heads_refused",
            "Request heads over HTTP/2 that were malformed, far too large or beyond the limit of streams",
            None,
            [([], self.metrics.http2_heads_refused.get())],
        )?;
        text.counters(
            "requests_redirected",
            "Requests without TLS redirected to https",
            None,
            [([], self.metrics.redirected.get())],
        )?;
        let sources = AddrSource::REPORTED.iter().enumerate().filter_map(|(index, source)| {
            let count = self.metrics.forwarded_addresses.get(index);
            source.label().map(|source| ([("source", source)], count))
        });
        text.counters(
            "forwarded_addresses",
            "Client addresses stated by trusted proxies, once per connection (PROXY header) or request \
             (forwarded headers), by source; includes those that could not be used",
            None,
            sources,
        )
    }

    fn termination_metrics(&self, text: &mut MetricsText<'_>) -> fmt::Result {
        let routes = self.metrics.routes();
        text.counters(
            "tunnels_ended",
            "Tunnels that ended, by initiator and reason",
            None,
            rows(&routes, ["by", "reason"], RouteCounts::terminations),
        )?;
        text.counters(
            "close_frames",
            "Close frames sent, by receiving side and close code",
            None,
            rows(&routes, ["side", "code"], RouteCounts::closes),
        )
    }

    fn limit_metrics(&self, text: &mut MetricsText<'_>) -> fmt::Result {
        let routes = self.metrics.routes();
        text.counters(
            "would_have_closed",
            "Violations of limits and rules whose action is `report`, counted once per limit and tunnel",
            None,
            rows(&routes, ["side", "reason"], RouteCounts::reported),
        )?;
        text.counters(
            "tunnels_delayed",
            "Tunnels with a side delayed by a rate limit, counted once per limit and tunnel",
            None,
            rows(&routes, ["side", "limit"], RouteCounts::delays),
        )?;
        let delays = routes.iter().flat_map(|route| {
            Side::BOTH.map(|side| {
                ([("route", &*route.name), ("side", side.as_str())], route.delay_seconds(side))
            })
        });
        text.second_counters("delayed", "Time that sides were delayed by rate limits", delays)
    }

    fn backend_metrics(&self, text: &mut MetricsText<'_>) -> fmt::Result {
        let backends = &self.process.backends;
        let states = backends.iter().flat_map(|backend| {
            BackendState::ALL.map(|state| {
                let [route, id] = of(&backend.counts);
                let labels = [route, id, ("state", state.as_str())];
                (labels, f64::from(u8::from(backend.state == state)))
            })
        });
        text.gauges(
            "backend_state",
            "1 for the state of the backend: up, down, untried, or drained",
            None,
            states,
        )?;
        let ports = backends
            .iter()
            .filter_map(|backend| Some((of(&backend.counts), backend.local_ports_left? as f64)));
        text.gauges(
            "backend_local_ports_left",
            "Local ports left for further connections to the backend",
            None,
            ports,
        )?;
        text.counters(
            "backend_connect_failures",
            "Failed connection attempts to the backend",
            None,
            backends
                .iter()
                .map(|backend| (of(&backend.counts), backend.counts.connect_failures.get())),
        )?;
        text.counters(
            "backend_ejections",
            "Ejections of the backend because of failed responses",
            None,
            backends.iter().map(|backend| (of(&backend.counts), backend.counts.ejections.get())),
        )?;
        let probes = backends.iter().flat_map(|backend| {
            let [route, id] = of(&backend.counts);
            OUTCOMES
                .into_iter()
                .zip(&backend.counts.probes)
                .map(move |(outcome, count)| ([route, id, ("outcome", outcome)], count.get()))
        });
        text.counters("backend_probes", "Probes of the backend by `[pool.probe]`", None, probes)?;
        let names = &self.process.names;
        text.gauges(
            "backend_name_addresses",
            "Addresses in the last answer for the name of a backend",
            None,
            names
                .iter()
                .map(|of| ([("route", &*of.route), ("name", &*of.name)], of.addresses as f64)),
        )?;
        let lookups = names.iter().flat_map(|of| {
            let labels =
                |outcome| [("route", &*of.route), ("name", &*of.name), ("outcome", outcome)];
            OUTCOMES
                .into_iter()
                .zip(of.lookups)
                .map(move |(outcome, count)| (labels(outcome), count))
        });
        text.counters("backend_name_lookups", "Lookups of the name of a backend", None, lookups)?;
        text.gauges(
            "backend_connections_idle",
            "Connections to backends that wait for a plain HTTP request",
            None,
            [([], self.metrics.idle_backend_connections.get() as f64)],
        )
    }
}

/// In the order of [`BackendCounts::probes`], and of the lookups of names.
const OUTCOMES: [&str; 2] = ["succeeded", "failed"];

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
    read: impl Fn(&RouteCounts) -> Vec<ReasonCount> + 'a,
) -> impl Iterator<Item = (Labels<'a, 3>, u64)> {
    routes.iter().flat_map(move |route| {
        let labels = move |row: ReasonCount| {
            let labels = [("route", &*route.name), (names[0], row.group), (names[1], row.reason)];
            (labels, row.count)
        };
        read(route).into_iter().map(labels)
    })
}

mod acme;
mod process;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let metrics = Arc::new(Metrics::default());
        let _route = metrics.route(&"a \"b\" \\c".into());
        let text = metrics.scrape(ProcessSnapshot::default());
        let row = r#"tidegate_messages_total{route="a \"b\" \\c",direction="up"} 0"#;
        assert!(text.lines().any(|line| line == row), "{text}");
        assert!(text.ends_with("\n# EOF\n"));
    }
}
