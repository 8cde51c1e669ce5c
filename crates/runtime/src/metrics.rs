//! What `/metrics` shows: the program's own series under `portolan_`, and the process's figures from `/proc/self`.
//!
//! Reading never fails: a figure that cannot be read is left out.

use std::fmt;
use std::fs;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::jobs::Jobs;

/// The media type of [`Metrics::encode`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Units of CPU time in `/proc/self/stat` per second: USER_HZ, 100 on every Linux that we run on (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// All series of a program.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
}

impl Metrics {
    /// With `portolan_build_info` and the process's figures.
    pub fn new(program: &'static str, version: &'static str) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let build = Info::new(vec![("program", program), ("version", version)]);
        registry.sub_registry_with_prefix("portolan").register("build", "What this is", build);
        Metrics { registry: Mutex::new(registry) }
    }

    /// Adds series; their names get `portolan_` before them. Made at start, each name once.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        add(registry.sub_registry_with_prefix("portolan"))
    }

    /// Adds the count of panics in pieces of work.
    pub fn register_jobs(&self, jobs: &Jobs) {
        self.register(|registry| registry.register_collector(Box::new(Panics(jobs.clone()))));
    }

    /// Everything, as OpenMetrics text.
    pub fn encode(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing to a String cannot fail; a collector that could not is left out by itself.
        prometheus_client::encoding::text::encode(&mut text, &registry).ok();
        text
    }
}

#[derive(Debug)]
struct Panics(Jobs);

impl Collector for Panics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let count = ConstCounter::new(self.0.panics());
        let described =
            encoder.encode_descriptor("work_panics", "Pieces of work that panicked", None, count.metric_type())?;
        count.encode(described)
    }
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        if let Some(seconds) = cpu_seconds() {
            let (name, help) = ("process_cpu_seconds", "User and system CPU time spent in seconds");
            let value = ConstCounter::new(seconds);
            value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)?;
        }
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Resident memory size in bytes",
                status_number("VmRSS:").map(|kib| kib * 1024),
            ),
            ("process_threads", "Threads", status_number("Threads:")),
            ("process_open_fds", "Open file descriptors", open_files()),
            ("process_max_fds", "File descriptors that may be open", open_files_max()),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
        }
        Ok(())
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold blanks; utime and stime are 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u32 = fields.get(11)?.parse::<u32>().ok()?.checked_add(fields.get(12)?.parse().ok()?)?;
    Some(f64::from(ticks) / TICKS_PER_SECOND)
}

fn status_number(field: &str) -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<i64> {
    // One of them is the listing's own.
    Some(i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()? - 1)
}

fn open_files_max() -> Option<i64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn shows_the_build_the_process_and_what_was_registered() {
        let metrics = Metrics::new("portolan-sidecar", "1.2.3");
        let questions = Counter::<u64>::default();
        metrics.register(|registry| registry.register("questions", "Questions", questions.clone()));
        metrics.register_jobs(&Jobs::new());
        questions.inc_by(3);
        let text = metrics.encode();
        let expected = [
            "portolan_build_info{program=\"portolan-sidecar\",version=\"1.2.3\"} 1\n",
            "\nportolan_questions_total 3\n",
            "\nportolan_work_panics_total 0\n",
            "\nprocess_cpu_seconds_total ",
            "\nprocess_resident_memory_bytes ",
            "\nprocess_open_fds ",
            "\nprocess_max_fds ",
            "\nprocess_threads ",
        ];
        for expected in expected {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(status_number("VmRSS:").unwrap() > 100 && open_files().unwrap() >= 3);
    }
}
