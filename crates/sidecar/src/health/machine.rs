//! The thresholds of one port as a pure state machine.

use portolan_core::evidence::Health;

/// Failures in a row that make a passing port fail: one lost packet must not.
const FAILURES_MAX: u32 = 3;

/// One check's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
}

/// A port's health over its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    health: Health,
    failures: u32,
}

impl Machine {
    pub(super) fn new(health: Health) -> Self {
        Machine { health, failures: 0 }
    }

    /// Takes an outcome; returns the health that follows.
    pub(super) fn observe(&mut self, outcome: Outcome) -> Health {
        self.failures = match outcome {
            Outcome::Passed => 0,
            Outcome::Failed => self.failures.saturating_add(1),
        };
        self.health = match (self.health, outcome) {
            (_, Outcome::Passed) => Health::Passing,
            (Health::Passing, Outcome::Failed) if self.failures >= FAILURES_MAX => Health::Failing,
            (health, Outcome::Failed) => health,
        };
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_thresholds() {
        let mut machine = Machine::new(Health::Starting);
        let mut check = |outcomes: &str, expected: Health| {
            for outcome in outcomes.chars() {
                machine.observe(if outcome == '+' { Outcome::Passed } else { Outcome::Failed });
            }
            assert_eq!(machine.health, expected, "after {outcomes}");
        };
        check("-----", Health::Starting);
        check("+", Health::Passing);
        check("--", Health::Passing);
        check("+--", Health::Passing);
        check("-", Health::Failing);
        check("-", Health::Failing);
        check("+", Health::Passing);
    }
}
