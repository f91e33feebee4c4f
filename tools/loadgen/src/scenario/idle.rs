//! What open tunnels cost that say nothing.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::sleep;

use super::Plan;
use super::herd::Herd;
use crate::fail::Fail;
use crate::measure::process::{Sample, pss};
use crate::measure::window::{Window, rounded};

const SETTLE: Duration = Duration::from_secs(2);
const GONE: Duration = Duration::from_secs(5);

pub async fn run(plan: &Plan, hold: f64) -> Result<Map<String, Value>, Fail> {
    let (pids, count) = (&plan.common.pids, plan.tunnels(5_000));
    let start = pss(pids)?;
    let over = |now: Option<u64>| now.zip(start).map(|(now, start)| now.saturating_sub(start));
    let each = |now| over(now).map(|bytes| rounded(bytes as f64 / count as f64, 1));

    let mut opening = Window::default();
    let from = Sample::take(pids)?;
    let mut herd = Herd::open(plan, count).await?;
    opening.add(&from, &Sample::take(pids)?, count as f64);
    let idle = settled(&mut herd, pids).await?;
    herd.stats.measuring.set(true);
    herd.exchange(125).await?;
    let small = settled(&mut herd, pids).await?;
    let mut holding = Window::default();
    let from = Sample::take(pids)?;
    let rest = async {
        sleep(Duration::from_secs_f64(hold)).await;
        Ok(())
    };
    herd.crew.during(rest).await?;
    holding.add(&from, &Sample::take(pids)?, count as f64);
    herd.exchange(16 << 10).await?;
    let large = settled(&mut herd, pids).await?;
    let stats = herd.stats.clone();
    herd.leave().await?;
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

async fn settled(herd: &mut Herd, pids: &[u32]) -> Result<Option<u64>, Fail> {
    let rest = async {
        sleep(SETTLE).await;
        pss(pids)
    };
    herd.crew.during(rest).await
}
