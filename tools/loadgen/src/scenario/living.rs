//! Established tunnels during a storm: echoes at a fixed rate, first alone and then while another
//! process opens thousands of tunnels.

use serde_json::{Map, Value};

use super::open_loop::OpenLoop;
use super::{Plan, child};
use crate::error::Error;
use crate::measure::histogram::Histogram;
use crate::measure::measurement::{Measurement, rounded};
use crate::measure::process::Sample;

pub async fn run(plan: &Plan, rate: f64, storm: usize) -> Result<Map<String, Value>, Error> {
    let (pids, mut open_loop) = (&plan.common.pids, OpenLoop::open(plan, rate).await?);
    let stats = open_loop.stats.clone();
    let periods = async {
        stats.wait(plan.warmup()).await?;
        stats.measuring.set(true);
        stats.wait(plan.time()).await?;
        let alone = stats.take_latencies();
        let (from, before) = (Sample::take(pids)?, stats.units.get());
        let options = ["--hold".to_owned(), "--tunnels".to_owned(), storm.to_string()];
        let storm = child::run("storm", &plan.common, &options).await?;
        stats.measuring.set(false);
        let mut measurement = Measurement::default();
        measurement.add(&from, &Sample::take(pids)?, (stats.units.get() - before) as f64);
        Ok((alone, measurement, storm))
    };
    let (alone, measurement, storm) = open_loop.run_with(periods).await?;
    let sender = open_loop.finish().await?;
    let mut report = measurement.report("living", Some(&stats));
    report.insert("rate".into(), rate.into());
    report.insert("tunnels".into(), sender.tunnels.len().into());
    report.insert("storm".into(), storm);
    let quantile = |of: &Histogram, share| of.quantile(share).map(|us| rounded(us, 2));
    for (name, share) in [("alone_p50_us", 0.5), ("alone_p99_us", 0.99), ("alone_p999_us", 0.999)] {
        report.insert(name.into(), quantile(&alone, share).into());
    }
    sender.report(&mut report);
    Ok(report)
}
