//! What happens later, and how fast things go on.

use std::collections::BTreeMap;

use super::task::Status;

/// How tasks go from one status to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// All the way in no time. The order of events is as in life.
    #[default]
    AtOnce,
    /// As the test says, or Docker: the scheduler starts and stops tasks, but no agent does what it is told.
    ByHand,
    /// In the times that ECS takes, by chance.
    Lifelike,
}

impl Pace {
    /// How long a task stays in a status at least and at most, in milliseconds.
    pub(super) fn stay_ms(status: Status) -> std::ops::RangeInclusive<u64> {
        match status {
            Status::Provisioning => 3_000..=12_000,
            // The image is pulled.
            Status::Pending => 1_000..=20_000,
            Status::Activating | Status::Deactivating => 1_000..=5_000,
            // It was told to stop, and the agent does not know it yet.
            Status::Running => 20..=2_000,
            // The stop timeout is 30 s.
            Status::Stopping => 100..=30_500,
            Status::Deprovisioning => 5_000..=15_000,
            Status::Stopped => 0..=0,
        }
    }
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Step {
    /// A task goes on to its next status, if it is still in this one.
    Task { arn: String, from: Status },
    /// A task that ended is forgotten.
    Forget(String),
    /// An agent loses its connection, or has it again.
    Flap { instance: String, every_ms: u64 },
}

/// Steps in the order of their times, and of their coming.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    steps: BTreeMap<(u64, u64), Step>,
    added: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at_ms: u64, step: Step) {
        self.added += 1;
        self.steps.insert((at_ms, self.added), step);
    }

    pub(super) fn next_ms(&self) -> Option<u64> {
        self.steps.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    pub(super) fn pop(&mut self) -> Option<Step> {
        self.steps.pop_first().map(|(_, step)| step)
    }
}
