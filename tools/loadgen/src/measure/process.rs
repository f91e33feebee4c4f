//! Figures of processes, from /proc.

use std::fs;
use std::time::Instant;

use crate::fail::Fail;

/// What some processes had used at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Instant,
    /// The proxy's; none if no processes were named.
    pub cpu_ns: Option<u64>,
    pub user_ticks: u64,
    pub system_ticks: u64,
    pub own_ns: u64,
}

impl Sample {
    pub fn take(pids: &[u32]) -> Result<Self, Fail> {
        let mut sample = Self {
            at: Instant::now(),
            cpu_ns: None,
            user_ticks: 0,
            system_ticks: 0,
            own_ns: cpu_ns(std::process::id())?,
        };
        for &pid in pids {
            let [user, system] = ticks(pid)?;
            sample.user_ticks += user;
            sample.system_ticks += system;
            sample.cpu_ns = Some(sample.cpu_ns.unwrap_or_default() + cpu_ns(pid)?);
        }
        Ok(sample)
    }
}

/// Proportional set size of all of them, in bytes; none if none were named.
pub fn pss(pids: &[u32]) -> Result<Option<u64>, Fail> {
    let mut sum = None;
    for &pid in pids {
        let rollup = read(pid, "smaps_rollup")?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let kib = kib.ok_or_else(|| Fail::new(format!("process {pid}: no Pss")))?;
        sum = Some(sum.unwrap_or_default() + kib * 1024);
    }
    Ok(sum)
}

/// Of all threads, by the scheduler's own clock.
fn cpu_ns(pid: u32) -> Result<u64, Fail> {
    let gone = |error| Fail::from(error).at(format!("process {pid}"));
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(gone)? {
        // A thread may end between the listing and the reading.
        if let Ok(text) = fs::read_to_string(task.map_err(gone)?.path().join("schedstat")) {
            sum += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// User and system time; the name in brackets before them may hold spaces.
fn ticks(pid: u32) -> Result<[u64; 2], Fail> {
    let text = read(pid, "stat")?;
    let rest = text.rsplit(')').next().unwrap_or_default();
    let mut fields = rest.split_whitespace().skip(11).map(|field| field.parse().unwrap_or(0));
    Ok([fields.next().unwrap_or(0), fields.next().unwrap_or(0)])
}

fn read(pid: u32, name: &str) -> Result<String, Fail> {
    fs::read_to_string(format!("/proc/{pid}/{name}"))
        .map_err(|error| Fail::from(error).at(format!("process {pid}")))
}
