//! One place's check as a pure state machine: one pass is enough, three failures in a row make it fail.

use crate::intake::statement::CheckState;

/// Failures in a row that make a passing place fail: one lost packet must not.
const FAILURES_MAX: u32 = 3;

/// A check over its outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) state: CheckState,
    failures: u32,
}

impl Check {
    /// A check that goes on where it was; nothing known: it has not passed yet.
    pub(super) fn new(former: Option<CheckState>) -> Check {
        Check { state: former.unwrap_or(CheckState::Starting), failures: 0 }
    }

    /// Takes an outcome.
    pub(super) fn observe(&mut self, passed: bool) {
        self.failures = if passed { 0 } else { self.failures.saturating_add(1) };
        self.state = match self.state {
            _ if passed => CheckState::Passing,
            CheckState::Passing if self.failures >= FAILURES_MAX => CheckState::Failing,
            state => state,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_thresholds() {
        let mut check = Check::new(None);
        let mut after = |outcomes: &str, expected: CheckState| {
            outcomes.chars().for_each(|outcome| check.observe(outcome == '+'));
            assert_eq!(check.state, expected, "after {outcomes}");
        };
        after("-----", CheckState::Starting);
        after("+", CheckState::Passing);
        after("--", CheckState::Passing);
        after("+--", CheckState::Passing);
        after("-", CheckState::Failing);
        after("-", CheckState::Failing);
        after("+", CheckState::Passing);
    }
}
