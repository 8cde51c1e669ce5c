//! What a process used, from /proc.

use std::iter::Sum;
use std::ops::{Add, Sub};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// CPU time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// In the program.
    pub user: Duration,
    /// In the kernel, for it.
    pub system: Duration,
}

impl Cpu {
    /// Both.
    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

impl Add for Cpu {
    type Output = Cpu;

    fn add(self, other: Cpu) -> Cpu {
        Cpu { user: self.user + other.user, system: self.system + other.system }
    }
}

/// At least nothing: the kernel divides one sum into the two, each time anew.
impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, other: Cpu) -> Cpu {
        Cpu { user: self.user.saturating_sub(other.user), system: self.system.saturating_sub(other.system) }
    }
}

impl Sum for Cpu {
    fn sum<I: Iterator<Item = Cpu>>(all: I) -> Cpu {
        all.fold(Cpu::default(), Add::add)
    }
}

/// CPU time of `pid`, without its children.
///
/// # Errors
/// When it is gone.
pub fn cpu(pid: u32) -> Result<Cpu> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
    // utime and stime are the 14th and 15th field of proc(5), in ticks of 10 ms on every Linux that we run on.
    let time = |field: usize| anyhow::Ok(Duration::from_millis(fields[field].parse::<u64>()? * 10));
    Ok(Cpu { user: time(11)?, system: time(12)? })
}

/// How long the threads that `pid` has now were on a processor, to the nanosecond, which [`cpu`] is not.
///
/// # Errors
/// When it is gone.
pub fn on_cpu(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))? {
        // A thread may end meanwhile.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let spent = stat.split_ascii_whitespace().next().context("a schedstat line")?;
        total += Duration::from_nanos(spent.parse()?);
    }
    Ok(total)
}

/// Keeps a process, its threads and what they start from now on, on one processor.
///
/// # Errors
/// When it is gone.
pub fn pin(pid: u32, cpu: u32) -> Result<()> {
    let list = ["-a", "-cp", &cpu.to_string(), &pid.to_string()].map(str::to_owned);
    let status = Command::new("taskset").args(list).stdout(Stdio::null()).status().context("run taskset")?;
    ensure!(status.success(), "taskset failed for process {pid}");
    Ok(())
}

/// What `pid` has of memory, shared pages by its share, in kB.
///
/// # Errors
/// When it is gone.
pub fn proportional_kb(pid: u32) -> Result<u64> {
    field_kb(pid, "smaps_rollup", "Pss:")
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
    field_kb(pid, "status", field)
}

fn field_kb(pid: u32, file: &str, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("process {pid}"))?;
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
