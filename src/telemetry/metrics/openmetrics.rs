//! Writes metric families in the OpenMetrics text format.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::counters::BucketCounts;

/// Label names and values of one sample.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// Encodes metric families. Every method fails only if the underlying writer does.
pub(super) struct MetricsText<'e>(pub(super) DescriptorEncoder<'e>);

impl MetricsText<'_> {
    /// A counter family; the encoder appends `_total` to the name.
    pub(super) fn counters<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Counter, rows, |encoder, count| {
            encoder.encode_counter::<NoLabelSet, u64, f64>(&count, None)
        })
    }

    /// A counter family of durations in seconds; the encoder appends `_seconds_total` to the name.
    pub(super) fn second_counters<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a, N>, f64)>,
    ) -> fmt::Result {
        let unit = Some(Unit::Seconds);
        self.family(name, help, unit, MetricType::Counter, rows, |encoder, seconds| {
            encoder.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)
        })
    }

    /// A family of values that go up and down.
    pub(super) fn gauges<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels<'a, N>, f64)>,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge, rows, |encoder, number| {
            // Integers are written without a fraction: 9000, not 9000.0.
            if number.fract() == 0.0 && number.abs() < 9e15 {
                encoder.encode_gauge(&(number as i64))
            } else {
                encoder.encode_gauge(&number)
            }
        })
    }

    /// A family of distributions over buckets.
    pub(super) fn histograms<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Unit,
        rows: impl IntoIterator<Item = (Labels<'a, N>, BucketCounts)>,
    ) -> fmt::Result {
        self.family(name, help, Some(unit), MetricType::Histogram, rows, |encoder, read| {
            let count = read.count();
            encoder.encode_histogram::<NoLabelSet>(read.sum, count, &read.counts, None)
        })
    }

    /// An info family with constant labels; the encoder appends `_info` to the name.
    pub(super) fn info<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels<'_, N>,
    ) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }

    fn family<'a, T, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        rows: impl IntoIterator<Item = (Labels<'a, N>, T)>,
        encode: impl Fn(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in rows {
            if N == 0 {
                encode(&mut family, value)?;
            } else {
                encode(&mut family.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }
}
