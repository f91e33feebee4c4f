//! The metrics of ordered certificates, which a process without `[acme]` does not have.

use std::fmt;

use prometheus_client::registry::Unit;

use super::Scrape;
use crate::telemetry::metrics::openmetrics::MetricsText;

impl Scrape {
    pub(super) fn acme_metrics(&self, text: &mut MetricsText<'_>) -> fmt::Result {
        let Some(acme) = &self.process.acme else { return Ok(()) };
        text.counters(
            "acme_orders",
            "Orders of certificates, by outcome",
            None,
            [("failed", acme.failed), ("issued", acme.issued)]
                .map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        let all = acme.certificates.iter();
        text.gauges(
            "acme_issued",
            "Whether a certificate has been issued, by its first name",
            None,
            all.clone().map(|of| ([("name", &*of.name)], f64::from(u8::from(of.is_issued)))),
        )?;
        text.gauges(
            "acme_failures",
            "Failed orders of a certificate since the last success",
            None,
            all.clone().map(|of| ([("name", &*of.name)], f64::from(of.failures))),
        )?;
        text.gauges(
            "acme_next_order_timestamp",
            "When a certificate is ordered next",
            Some(Unit::Seconds),
            all.map(|of| ([("name", &*of.name)], of.next_order as f64)),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::metrics::process_snapshot::{
        AcmeCertificateSnapshot, AcmeSnapshot, ProcessSnapshot,
    };

    #[test]
    fn metrics_of_orders_match_their_documentation() {
        let certificate = AcmeCertificateSnapshot {
            name: "a.example".to_owned(),
            is_issued: true,
            failures: 2,
            next_order: 1_800_000_000,
        };
        let acme = AcmeSnapshot { issued: 3, failed: 4, certificates: vec![certificate] };
        let process = ProcessSnapshot { acme: Some(acme), ..ProcessSnapshot::default() };
        let scrape = Arc::new(Metrics::default()).scrape(process);
        let served: Vec<&str> =
            scrape.lines().filter(|line| line.starts_with("tidegate_acme_")).collect();
        assert_eq!(
            served,
            [
                "tidegate_acme_orders_total{outcome=\"failed\"} 4",
                "tidegate_acme_orders_total{outcome=\"issued\"} 3",
                "tidegate_acme_issued{name=\"a.example\"} 1",
                "tidegate_acme_failures{name=\"a.example\"} 2",
                "tidegate_acme_next_order_timestamp_seconds{name=\"a.example\"} 1800000000",
            ]
        );
        let docs = include_str!("../../../../docs/metrics.md");
        for line in served {
            let (name, labels) = line.split_once('{').unwrap();
            let (label, _) = labels.split_once('=').unwrap();
            let row = docs.lines().find(|row| row.starts_with(&format!("| `{name}` |")));
            assert!(row.is_some_and(|row| row.contains(&format!("| `{label}` |"))), "{line}");
        }
        let scrape = Arc::new(Metrics::default()).scrape(ProcessSnapshot::default());
        assert!(!scrape.contains("acme"), "{scrape}");
    }
}
