//! CPU time and memory of processes, from /proc.

use std::fs;
use std::time::Instant;

use crate::error::Error;

/// The resources that some processes have used so far.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Instant,
    /// CPU time of the proxy; `None` without `--pids`.
    pub cpu_ns: Option<u64>,
    pub user_ticks: u64,
    pub system_ticks: u64,
    pub own_ns: u64,
}

impl Sample {
    pub fn take(pids: &[u32]) -> Result<Self, Error> {
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

/// Proportional set size of all processes in bytes; `None` without `--pids`.
pub fn pss(pids: &[u32]) -> Result<Option<u64>, Error> {
    sum_kib(pids, "smaps_rollup", "Pss:")
}

/// Resets the peak that [`peak_rss`] returns to the present size.
pub fn reset_peak_rss(pids: &[u32]) -> Result<(), Error> {
    for pid in pids {
        fs::write(format!("/proc/{pid}/clear_refs"), "5")
            .map_err(|error| Error::from(error).context(format!("process {pid}: clear_refs")))?;
    }
    Ok(())
}

/// Sum of the largest resident set sizes of all processes in bytes; `None` without `--pids`.
pub fn peak_rss(pids: &[u32]) -> Result<Option<u64>, Error> {
    sum_kib(pids, "status", "VmHWM:")
}

/// CPU time of all threads as counted by the scheduler.
fn cpu_ns(pid: u32) -> Result<u64, Error> {
    let gone = |error| Error::from(error).context(format!("process {pid}"));
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(gone)? {
        // A thread may end between listing and reading.
        if let Ok(text) = fs::read_to_string(task.map_err(gone)?.path().join("schedstat")) {
            sum += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// User and system time in ticks. The process name in parentheses before them may contain spaces.
fn ticks(pid: u32) -> Result<[u64; 2], Error> {
    let text = read(pid, "stat")?;
    let rest = text.rsplit(')').next().unwrap_or_default();
    let mut fields = rest.split_whitespace().skip(11).map(|field| field.parse().unwrap_or(0));
    Ok([fields.next().unwrap_or(0), fields.next().unwrap_or(0)])
}

fn read(pid: u32, name: &str) -> Result<String, Error> {
    fs::read_to_string(format!("/proc/{pid}/{name}"))
        .map_err(|error| Error::from(error).context(format!("process {pid}")))
}

/// Sum in bytes of the values in KiB that follow `label` in a file of /proc.
fn sum_kib(pids: &[u32], file: &str, label: &str) -> Result<Option<u64>, Error> {
    let mut sum = None;
    for &pid in pids {
        let text = read(pid, file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(label));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let kib = kib.ok_or_else(|| Error::new(format!("process {pid}: no {label} in {file}")))?;
        sum = Some(sum.unwrap_or_default() + kib * 1024);
    }
    Ok(sum)
}
