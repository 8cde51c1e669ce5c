//! What was called and when: for budgets.

use std::collections::{BTreeMap, VecDeque};

/// How many calls are remembered one by one. All are counted.
const CALLS_MAX: usize = 1_000_000;

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// When it came, Unix milliseconds.
    pub at_ms: u64,
    /// As IAM names it: `ecs:ListTasks`.
    pub action: &'static str,
    /// How it went.
    pub outcome: Outcome,
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// The rate was used up.
    Throttled,
    /// It was refused: not allowed, not there, or not understood.
    Refused,
    /// The server or the network failed.
    Failed,
}

/// All calls.
#[derive(Debug, Default)]
pub struct Calls {
    recent: VecDeque<Call>,
    counts: BTreeMap<&'static str, u64>,
}

impl Calls {
    /// Writes one down.
    pub fn add(&mut self, call: Call) {
        if self.recent.len() == CALLS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(call);
        *self.counts.entry(call.action).or_default() += 1;
    }

    /// How often an action was called.
    pub fn count(&self, action: &str) -> u64 {
        self.counts.get(action).copied().unwrap_or_default()
    }

    /// The last ones, in their order.
    pub fn recent(&self) -> impl Iterator<Item = &Call> {
        self.recent.iter()
    }

    /// The most calls that came within any time as long as `window_ms`, of actions that are counted.
    pub fn busiest(&self, window_ms: u64, is_counted: impl Fn(&Call) -> bool) -> usize {
        let mut window = VecDeque::new();
        let mut most = 0;
        for call in self.recent.iter().filter(|call| is_counted(call)) {
            window.push_back(call.at_ms);
            while window.front().is_some_and(|first| first + window_ms <= call.at_ms) {
                window.pop_front();
            }
            most = most.max(window.len());
        }
        most
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Calls::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_time_is_found() {
        let mut calls = Calls::default();
        for at_ms in [0, 600, 900, 1_000, 1_600, 5_000] {
            calls.add(Call { at_ms, action: "ecs:ListTasks", outcome: Outcome::Answered });
        }
        assert_eq!(calls.busiest(1_000, |_| true), 3);
        assert_eq!((calls.count("ecs:ListTasks"), calls.count("ecs:DescribeTasks")), (6, 0));
    }
}
