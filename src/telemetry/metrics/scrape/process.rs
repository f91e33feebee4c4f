//! The metrics of the configuration and of the process itself.

use std::fmt;

use prometheus_client::registry::Unit;

use super::Scrape;
use crate::telemetry::metrics::openmetrics::MetricsText;

impl Scrape {
    pub(super) fn config_metrics(&self, text: &mut MetricsText<'_>) -> fmt::Result {
        let process = &self.process;
        let outcomes = [("rejected", 0), ("applied", 1)];
        text.counters(
            "config_reloads",
            "Reloads of the configuration, by outcome",
            None,
            outcomes
                .map(|(outcome, index)| ([("outcome", outcome)], self.metrics.reloads.get(index))),
        )?;
        text.counters(
            "certificate_renewals",
            "Renewals of certificates whose files changed, by outcome",
            None,
            outcomes
                .map(|(outcome, index)| ([("outcome", outcome)], self.metrics.renewals.get(index))),
        )?;
        let updates = &self.metrics.address_updates;
        text.counters(
            "trusted_proxy_updates",
            "Changes of the files of proxy addresses, by outcome",
            None,
            outcomes.map(|(outcome, index)| ([("outcome", outcome)], updates.get(index))),
        )?;
        let (when, applied) = process.reload;
        text.gauges(
            "config_last_reload_timestamp",
            "Time of the last reload",
            Some(Unit::Seconds),
            [([], when)],
        )?;
        text.gauges(
            "config_last_reload_successful",
            "Whether the last reload was applied",
            None,
            [([], f64::from(u8::from(applied)))],
        )?;
        text.gauges(
            "config_generation",
            "Number of the active configuration, from 1",
            None,
            [([], process.generation as f64)],
        )?;
        let indices: Vec<String> =
            process.certificates.iter().map(|state| state.index.to_string()).collect();
        text.gauges(
            "certificate_expiry_timestamp",
            "Expiry time of each certificate, by position in the file and first DNS name",
            Some(Unit::Seconds),
            process.certificates.iter().zip(&indices).map(|(state, index)| {
                let labels = [("certificate", index.as_str()), ("name", state.name.as_str())];
                (labels, state.not_after as f64)
            }),
        )
    }

    pub(super) fn process_metrics(&self, text: &mut MetricsText<'_>) -> fmt::Result {
        let process = &self.process;
        let usage = &process.usage;
        let known = |number: Option<u64>| number.map(|number| ([], number as f64));
        text.gauges("open_descriptors", "Open file descriptors", None, known(usage.descriptors))?;
        text.gauges(
            "max_descriptors",
            "Maximum number of open file descriptors",
            None,
            known(usage.descriptors_max),
        )?;
        let [used, limit] = process.pending_memory;
        text.gauges(
            "pending_memory",
            "Memory of the connections without a tunnel, as estimated for its budget",
            Some(Unit::Bytes),
            [([], used as f64)],
        )?;
        text.gauges(
            "pending_memory_max",
            "Budget of that memory",
            Some(Unit::Bytes),
            [([], limit as f64)],
        )?;
        text.gauges(
            "resident_memory",
            "Resident memory",
            Some(Unit::Bytes),
            known(usage.resident_bytes),
        )?;
        text.counters(
            "log_lines_lost",
            "Log lines and access records dropped because they could not be written",
            None,
            [([], process.lines_lost)],
        )?;
        text.counters(
            "records_suppressed",
            "Access records not written because a client caused too many of the same kind",
            None,
            [([], process.records_suppressed)],
        )?;
        text.counters("tasks_panicked", "Tasks that panicked", None, [([], process.panics)])?;
        text.gauges(
            "draining",
            "Whether new clients should go elsewhere: the process is shutting down or an operator has drained it",
            None,
            [([], f64::from(u8::from(process.draining)))],
        )?;
        text.gauges(
            "start_time",
            "Start time of the process",
            Some(Unit::Seconds),
            [([], process.started)],
        )?;
        text.info(
            "build",
            "Version of the running process",
            [("version", env!("CARGO_PKG_VERSION"))],
        )
    }
}
