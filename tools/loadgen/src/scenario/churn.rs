//! Waves of tunnels that come and go: what stays after each.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::sleep;

use super::Plan;
use super::herd::Herd;
use crate::fail::Fail;
use crate::measure::process::{Sample, pss};
use crate::measure::window::Window;

const SIZE: usize = 1 << 10;
const SETTLE: Duration = Duration::from_secs(2);

pub async fn run(plan: &Plan, waves: usize, reset: bool) -> Result<Map<String, Value>, Fail> {
    let (pids, count) = (&plan.common.pids, plan.tunnels(500));
    let start = pss(pids)?;
    let mut window = Window::default();
    let mut after = Vec::with_capacity(waves);
    for wave in 1..=waves {
        let from = Sample::take(pids)?;
        one(plan, count, reset).await.map_err(|fail| fail.at(format!("wave {wave}")))?;
        window.add(&from, &Sample::take(pids)?, count as f64);
        sleep(SETTLE).await;
        after.push(pss(pids)?.zip(start).map(|(now, start)| now.saturating_sub(start)));
    }
    let mut report = window.report("churn", None);
    report.insert("tunnels".into(), count.into());
    report.insert("waves".into(), waves.into());
    report.insert("reset".into(), reset.into());
    report.insert("after_wave_b".into(), after.into());
    Ok(report)
}

async fn one(plan: &Plan, count: usize, reset: bool) -> Result<(), Fail> {
    let mut herd = Herd::open(plan, count).await?;
    herd.exchange(plan.size(SIZE)).await?;
    if reset { herd.reset().await } else { herd.leave().await }
}
