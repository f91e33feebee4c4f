//! Waves of short-lived tunnels: memory that remains after each wave.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::sleep;

use super::Plan;
use super::tunnel_set::TunnelSet;
use crate::error::Error;
use crate::measure::measurement::Measurement;
use crate::measure::process::{Sample, pss};

const SIZE: usize = 1 << 10;
const SETTLE: Duration = Duration::from_secs(2);

pub async fn run(plan: &Plan, waves: usize, reset: bool) -> Result<Map<String, Value>, Error> {
    let (pids, count) = (&plan.common.pids, plan.tunnels_or(500));
    let start = pss(pids)?;
    let mut measurement = Measurement::default();
    let mut after = Vec::with_capacity(waves);
    for wave in 1..=waves {
        let from = Sample::take(pids)?;
        one(plan, count, reset).await.map_err(|error| error.context(format!("wave {wave}")))?;
        measurement.add(&from, &Sample::take(pids)?, count as f64);
        sleep(SETTLE).await;
        after.push(pss(pids)?.zip(start).map(|(now, start)| now.saturating_sub(start)));
    }
    let mut report = measurement.report("churn", None);
    report.insert("tunnels".into(), count.into());
    report.insert("waves".into(), waves.into());
    report.insert("reset".into(), reset.into());
    report.insert("after_wave_b".into(), after.into());
    Ok(report)
}

async fn one(plan: &Plan, count: usize, reset: bool) -> Result<(), Error> {
    let mut tunnel_set = TunnelSet::open(plan, count).await?;
    tunnel_set.exchange(plan.size_or(SIZE)).await?;
    if reset { tunnel_set.reset().await } else { tunnel_set.close().await }
}
