//! The measured period and its report.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::histogram::Histogram;
use super::process::Sample;
use crate::error::Error;

/// A run fails if nothing is received for this time.
const STALL: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// State shared between a run and its tunnels.
#[derive(Default)]
pub struct Stats {
    pub measuring: Cell<bool>,
    pub stopping: Cell<bool>,
    /// Units since the start, including the warm-up.
    pub units: Cell<u64>,
    latencies: RefCell<Histogram>,
}

impl Stats {
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    pub fn add(&self, units: u64) {
        self.units.set(self.units.get() + units);
    }

    pub fn latency(&self, of: Duration) {
        if self.measuring.get() {
            self.latencies.borrow_mut().add(of.as_nanos() as u64);
        }
    }

    pub fn quantile(&self, share: f64) -> Option<f64> {
        self.latencies.borrow().quantile(share)
    }

    /// Removes the latencies recorded so far, to begin another period.
    pub fn take_latencies(&self) -> Histogram {
        self.latencies.take()
    }

    /// Waits for `time`. Fails if no unit is completed for [`STALL`].
    pub async fn wait(&self, time: Duration) -> Result<(), Error> {
        let (mut left, mut seen, mut still) = (time, self.units.get(), Duration::ZERO);
        while left > Duration::ZERO {
            let step = left.min(POLL_INTERVAL);
            sleep(step).await;
            left -= step;
            still = if self.units.get() == seen { still + step } else { Duration::ZERO };
            seen = self.units.get();
            if still >= STALL {
                return Err(Error::new(format!("nothing received for {} s", STALL.as_secs())));
            }
        }
        Ok(())
    }
}

/// The resources used during one or more measured periods.
#[derive(Default)]
pub struct Measurement {
    pub units: f64,
    wall_s: f64,
    own_s: f64,
    cpu_ns: Option<u64>,
    user_ticks: u64,
    all_ticks: u64,
}

impl Measurement {
    /// Warms up, then measures while the tunnels run.
    pub async fn run(
        stats: &Stats,
        pids: &[u32],
        warmup: Duration,
        time: Duration,
    ) -> Result<Self, Error> {
        stats.wait(warmup).await?;
        let (before, from) = (stats.units.get(), Sample::take(pids)?);
        stats.measuring.set(true);
        stats.wait(time).await?;
        stats.measuring.set(false);
        let mut measurement = Self::default();
        measurement.add(&from, &Sample::take(pids)?, (stats.units.get() - before) as f64);
        if measurement.units == 0.0 {
            return Err(Error::new("no unit completed during the measurement"));
        }
        Ok(measurement)
    }

    pub fn add(&mut self, from: &Sample, to: &Sample, units: f64) {
        self.units += units;
        self.wall_s += to.at.duration_since(from.at).as_secs_f64();
        self.own_s += to.own_ns.saturating_sub(from.own_ns) as f64 / 1e9;
        if let (Some(from), Some(to)) = (from.cpu_ns, to.cpu_ns) {
            self.cpu_ns = Some(self.cpu_ns.unwrap_or_default() + to.saturating_sub(from));
        }
        let user = to.user_ticks.saturating_sub(from.user_ticks);
        self.user_ticks += user;
        self.all_ticks += user + to.system_ticks.saturating_sub(from.system_ticks);
    }

    /// CPU time of the processes relative to the elapsed time.
    pub fn cpu_share(&self) -> Option<f64> {
        self.cpu_ns.map(|ns| rounded(ns as f64 / 1e9 / self.wall_s, 6))
    }

    /// The report fields that all scenarios share.
    pub fn report(&self, scenario: &str, stats: Option<&Stats>) -> Map<String, Value> {
        let latency = |share| stats.and_then(|s| s.quantile(share)).map(|us| rounded(us, 2));
        let share = (self.all_ticks > 0).then(|| self.user_ticks as f64 / self.all_ticks as f64);
        let fields = json!({
            "scenario": scenario,
            "units": rounded(self.units, 3),
            "wall_s": rounded(self.wall_s, 4),
            "cpu_ns": self.cpu_ns,
            "cpu_us_per_unit": self.cpu_ns.map(|ns| rounded(ns as f64 / 1e3 / self.units, 4)),
            "cpu_user_share": share.filter(|_| self.cpu_ns.is_some()).map(|s| rounded(s, 3)),
            "p50_us": latency(0.5),
            "p99_us": latency(0.99),
            "p999_us": latency(0.999),
            "max_us": latency(1.0),
            "units_per_s": rounded(self.units / self.wall_s, 2),
            "load_busy": rounded(self.own_s / self.wall_s, 3),
        });
        match fields {
            Value::Object(fields) => fields,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        }
    }
}

pub fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
