//! What a process used, from /proc.

use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time of `pid`, without its children.
///
/// # Errors
/// When it is gone.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
    // utime and stime are the 14th and 15th field of proc(5), in ticks of 10 ms on every Linux that we run on.
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Resident memory of `pid`, in kB.
///
/// # Errors
/// When it is gone.
pub fn resident_kb(pid: u32) -> Result<u64> {
    status_kb(pid, "VmRSS:")
}

/// The most that was resident of `pid` so far, in kB.
///
/// # Errors
/// When it is gone.
pub fn resident_peak_kb(pid: u32) -> Result<u64> {
    status_kb(pid, "VmHWM:")
}

fn status_kb(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let value = value.with_context(|| format!("process {pid} has no {field}"))?;
    value.trim().trim_end_matches(" kB").parse().with_context(|| format!("{field} is a number of kB"))
}

/// The processes that `pid` started, and theirs.
pub fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let direct: Vec<u32> = list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    direct.iter().flat_map(|pid| children(*pid)).chain(direct.iter().copied()).collect()
}
