//! Memory and CPU of idle tunnels.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::sleep;

use super::Plan;
use super::tunnel_set::TunnelSet;
use crate::error::Error;
use crate::measure::measurement::{Measurement, rounded};
use crate::measure::process::{Sample, pss};

const SETTLE: Duration = Duration::from_secs(2);
const GONE: Duration = Duration::from_secs(5);

pub async fn run(plan: &Plan, hold: f64) -> Result<Map<String, Value>, Error> {
    let (pids, count) = (&plan.common.pids, plan.tunnels_or(5_000));
    let start = pss(pids)?;
    let over = |now: Option<u64>| now.zip(start).map(|(now, start)| now.saturating_sub(start));
    let each = |now| over(now).map(|bytes| rounded(bytes as f64 / count as f64, 1));

    let mut opening = Measurement::default();
    let from = Sample::take(pids)?;
    let mut tunnel_set = TunnelSet::open(plan, count).await?;
    opening.add(&from, &Sample::take(pids)?, count as f64);
    let idle = settled(&mut tunnel_set, pids).await?;
    tunnel_set.stats.measuring.set(true);
    tunnel_set.exchange(125).await?;
    let small = settled(&mut tunnel_set, pids).await?;
    let mut holding = Measurement::default();
    let from = Sample::take(pids)?;
    let rest = async {
        sleep(Duration::from_secs_f64(hold)).await;
        Ok(())
    };
    tunnel_set.tasks.run_with(rest).await?;
    holding.add(&from, &Sample::take(pids)?, count as f64);
    tunnel_set.exchange(16 << 10).await?;
    let large = settled(&mut tunnel_set, pids).await?;
    let stats = tunnel_set.stats.clone();
    tunnel_set.close().await?;
    sleep(GONE).await;
    let kept = over(pss(pids)?);

    let peak = [idle, small, large].into_iter().filter_map(over).max();
    let share = kept.zip(peak).map(|(kept, peak)| rounded(kept as f64 / peak.max(1) as f64, 4));
    let mut report = opening.report("idle", Some(&stats));
    let fields: [(&str, Value); 10] = [
        ("tunnels", count.into()),
        ("hold_s", hold.into()),
        ("start_b", start.into()),
        ("idle_b", each(idle).into()),
        ("after_125_b", each(small).into()),
        ("after_16k_b", each(large).into()),
        ("idle_cpu_share", holding.cpu_share().into()),
        ("peak_b", peak.into()),
        ("kept_b", kept.into()),
        ("kept_share", share.into()),
    ];
    report.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    Ok(report)
}

async fn settled(tunnel_set: &mut TunnelSet, pids: &[u32]) -> Result<Option<u64>, Error> {
    let rest = async {
        sleep(SETTLE).await;
        pss(pids)
    };
    tunnel_set.tasks.run_with(rest).await
}
