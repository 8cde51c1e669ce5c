//! The rule table of DESIGN section 5: what the witnesses said of an endpoint, to its state. First match wins.
//!
//! Pure and total. Time enters only as evidence: whether the deadline of a silence was committed as passed. Limits on
//! how much weak evidence may remove at once are kept by whoever commits that passage, not here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::{Standing, State};
use crate::evidence::{ContainerReport, Health, Phase, PortReport};

/// What each witness says of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Witnesses {
    /// The sidecar of its node.
    pub sidecar: Sidecar,
    /// The ECS API.
    pub ecs: Ecs,
    /// Other nodes, which can try to connect.
    pub neighbours: Neighbours,
    /// Whether it is due that weak evidence removes it.
    pub deadline: Deadline,
    /// Whoever operates the cluster.
    pub operator: Operator,
}

/// The sidecar as a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sidecar {
    /// Its node's stream is alive and says this.
    Speaks(Word),
    /// Its node's stream ended or stalled; this was its last word.
    Silent(Word),
    /// The node never had one.
    None,
    /// Not on a node of ours: somebody declared it.
    External(Declared),
}

/// What a sidecar says of one port of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The run ended, or is no longer in the node's report.
    Died,
    /// Its stop signal was sent; whether its last check passed.
    Stopping(LastCheck),
    /// Frozen.
    Paused,
    /// Its check fails after it had passed.
    Failing,
    /// Its check has not passed yet in this run.
    Starting,
    /// Its check passes.
    Passing,
}

impl Word {
    /// What the sidecar says of one port, by its container's phase and the port's health.
    pub fn of(container: &ContainerReport, port: &PortReport) -> Word {
        match (&container.phase, port.health) {
            (Phase::Died(_), _) => Word::Died,
            (Phase::Stopping, Health::Passing) => Word::Stopping(LastCheck::Passed),
            (Phase::Stopping, Health::Starting | Health::Failing) => Word::Stopping(LastCheck::NotPassed),
            (Phase::Paused, _) => Word::Paused,
            (Phase::Running, Health::Failing) => Word::Failing,
            (Phase::Running, Health::Starting) => Word::Starting,
            (Phase::Running, Health::Passing) => Word::Passing,
        }
    }
}

/// The state of one port by the word of its own sidecar alone.
pub fn state_of(container: &ContainerReport, port: &PortReport) -> State {
    let witnesses = Witnesses {
        sidecar: Sidecar::Speaks(Word::of(container, port)),
        ecs: Ecs::NotUsed,
        neighbours: Neighbours::NotKnown,
        deadline: Deadline::Running,
        operator: Operator::Nothing,
    };
    decide(&witnesses).state
}

/// How the last check before a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastCheck {
    /// It passed: such an endpoint is answered when no usable one is left.
    Passed,
    /// It failed, or never passed.
    NotPassed,
}

/// An external endpoint by its own check, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Declared {
    /// Nothing checks it.
    Unchecked,
    /// Its check has not passed yet.
    Starting,
    /// Its check passes.
    Passing,
    /// Its check fails.
    Failing,
}

/// The ECS API as a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ecs {
    /// This registry does not ask ECS.
    NotUsed,
    /// ECS has no such task, or has not answered.
    NotKnown,
    /// It had the task, and two complete listings lack it.
    Missing,
    /// As `Missing`, and it was UNHEALTHY when last listed.
    MissingUnhealthy,
    /// Not yet running: PROVISIONING, PENDING, ACTIVATING.
    Pending,
    /// RUNNING and desired RUNNING, not UNHEALTHY.
    Running,
    /// RUNNING and desired RUNNING, UNHEALTHY.
    RunningUnhealthy,
    /// RUNNING and desired RUNNING, not UNHEALTHY, on an instance that is DRAINING.
    Drained,
    /// Desired STOPPED, DEACTIVATING or later but not yet STOPPED; or, what is not quite running, on a DRAINING instance.
    Leaving,
    /// STOPPED, or its instance is terminated.
    Stopped,
}

/// Neighbours as a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Neighbours {
    /// Nobody was asked, or their answers do not suffice.
    NotKnown,
    /// They connect.
    Connect,
    /// Two of three that also reach another node were refused or timed out.
    Refused,
}

/// Whether it was committed that weak evidence may act: that a silence lasted ten minutes, or that a task stays missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    /// Not yet, or held back because it would remove too much.
    Running,
    /// Passed.
    Passed,
}

/// An operator's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// None.
    Nothing,
    /// Out of answers while open links finish.
    Drained,
    /// Out for good.
    Evicted,
}

/// A state, and the row of the table that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decision {
    /// Where the endpoint stands.
    pub state: State,
    /// Why.
    pub rule: Rule,
}

/// The rows of the table, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Evicted by an operator.
    Evicted,
    /// Drained by an operator.
    Drained,
    /// Died or removed.
    Ended,
    /// Stop signal sent.
    Stopping,
    /// Paused or failing.
    Failing,
    /// Check not yet passed.
    NotYetPassed,
    /// Passing, and ECS takes it away.
    EcsLeaving,
    /// Passing.
    Passing,
    /// Silent, last word not usable, and ECS says STOPPED.
    SilentUnusableStopped,
    /// Silent, last word not usable.
    SilentAsLastSaid,
    /// Silent, was usable, and ECS says STOPPED.
    SilentStopped,
    /// Silent, was usable, and neighbours are refused.
    SilentRefused,
    /// Silent, was usable, and ECS says RUNNING.
    SilentRunning,
    /// Silent, was usable, ECS does not say RUNNING, and neighbours connect.
    SilentVouched,
    /// Silent, was usable, and nobody else knows.
    SilentUnknown,
    /// No sidecar, and ECS says RUNNING.
    EcsRunning,
    /// No sidecar, and ECS says RUNNING but UNHEALTHY.
    EcsUnhealthy,
    /// No sidecar, and ECS says RUNNING but drains its instance.
    EcsDrained,
    /// No sidecar, and ECS had its task but lists it no longer.
    EcsMissing,
    /// No sidecar, and ECS says anything else.
    EcsOther,
    /// Declared.
    External,
}

impl Rule {
    /// Every row, in the order of the table.
    pub const ALL: [Rule; 21] = [
        Rule::Evicted,
        Rule::Drained,
        Rule::Ended,
        Rule::Stopping,
        Rule::Failing,
        Rule::NotYetPassed,
        Rule::EcsLeaving,
        Rule::Passing,
        Rule::SilentUnusableStopped,
        Rule::SilentAsLastSaid,
        Rule::SilentStopped,
        Rule::SilentRefused,
        Rule::SilentRunning,
        Rule::SilentVouched,
        Rule::SilentUnknown,
        Rule::EcsRunning,
        Rule::EcsUnhealthy,
        Rule::EcsDrained,
        Rule::EcsMissing,
        Rule::EcsOther,
        Rule::External,
    ];

    /// The row in a sentence, as `explain` shows it.
    pub fn text(self) -> &'static str {
        match self {
            Rule::Evicted => "an operator evicted it: gone",
            Rule::Drained => "an operator drains it: draining",
            Rule::Ended => "its container ended or was removed: gone",
            Rule::Stopping => "its stop signal was sent: draining",
            Rule::Failing => "it is paused or fails its check: unusable",
            Rule::NotYetPassed => "its check has not passed yet: starting",
            Rule::EcsLeaving => "it passes, but ECS stops its task or drains its instance: draining",
            Rule::Passing => "it passes: usable",
            Rule::SilentUnusableStopped => "its node is silent and ECS says it stopped: gone",
            Rule::SilentAsLastSaid => "its node is silent and it was not usable before: as last said",
            Rule::SilentStopped => "its node is silent; it was usable, but ECS says it stopped: gone",
            Rule::SilentRefused => "its node is silent; it was usable, but neighbours cannot connect: gone",
            Rule::SilentRunning => "its node is silent; it was usable and ECS says RUNNING: unverified",
            Rule::SilentVouched => "its node is silent; it was usable and neighbours connect: unverified",
            Rule::SilentUnknown => {
                "its node is silent; it was usable and no other witness knows: unverified for 10 minutes, then gone"
            }
            Rule::EcsRunning => "its node has no sidecar and ECS says RUNNING: usable",
            Rule::EcsUnhealthy => "its node has no sidecar and ECS says UNHEALTHY: unusable",
            Rule::EcsDrained => "its node has no sidecar and ECS drains its instance: draining",
            Rule::EcsMissing => {
                "its node has no sidecar and ECS lists its task no longer: unverified, or unusable as it was, until as many may go, then gone"
            }
            Rule::EcsOther => "its node has no sidecar and ECS does not say RUNNING: in no answer",
            Rule::External => "it is external: usable, or as its check says",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The state of an endpoint of which the witnesses say this.
pub fn decide(witnesses: &Witnesses) -> Decision {
    let witnessed = by_witnesses(witnesses);
    if witnessed.state == State::Gone {
        return witnessed;
    }
    match witnesses.operator {
        Operator::Nothing => witnessed,
        // Draining ones are a last resort, and what never passed its check is none: an order only takes away.
        Operator::Drained if witnessed.state == State::Starting => witnessed,
        Operator::Drained => {
            let passed =
                matches!(witnessed.state, State::Usable | State::Unverified(_) | State::Draining { passed: true });
            decision(State::Draining { passed }, Rule::Drained)
        }
        Operator::Evicted => decision(State::Gone, Rule::Evicted),
    }
}

fn by_witnesses(witnesses: &Witnesses) -> Decision {
    match witnesses.sidecar {
        Sidecar::Speaks(Word::Passing) => match witnesses.ecs {
            Ecs::Drained | Ecs::Leaving | Ecs::Stopped => decision(State::Draining { passed: true }, Rule::EcsLeaving),
            Ecs::NotUsed
            | Ecs::NotKnown
            | Ecs::Missing
            | Ecs::MissingUnhealthy
            | Ecs::Pending
            | Ecs::Running
            | Ecs::RunningUnhealthy => decision(State::Usable, Rule::Passing),
        },
        Sidecar::Speaks(word) => said(word),
        Sidecar::Silent(Word::Passing) => silent_was_usable(witnesses),
        Sidecar::Silent(_) if witnesses.ecs == Ecs::Stopped => decision(State::Gone, Rule::SilentUnusableStopped),
        Sidecar::Silent(word) => decision(said(word).state, Rule::SilentAsLastSaid),
        Sidecar::None => without_sidecar(witnesses),
        Sidecar::External(declared) => {
            let state = match declared {
                Declared::Unchecked | Declared::Passing => State::Usable,
                Declared::Starting => State::Starting,
                Declared::Failing => State::Unusable,
            };
            decision(state, Rule::External)
        }
    }
}

fn without_sidecar(witnesses: &Witnesses) -> Decision {
    match (witnesses.ecs, witnesses.deadline) {
        (Ecs::Running, _) => decision(State::Usable, Rule::EcsRunning),
        (Ecs::RunningUnhealthy, _) => decision(State::Unusable, Rule::EcsUnhealthy),
        (Ecs::Drained, _) => decision(State::Draining { passed: true }, Rule::EcsDrained),
        (Ecs::Missing, Deadline::Running) => decision(State::Unverified(Standing::Last), Rule::EcsMissing),
        (Ecs::MissingUnhealthy, Deadline::Running) => decision(State::Unusable, Rule::EcsMissing),
        (Ecs::Missing | Ecs::MissingUnhealthy, Deadline::Passed) => decision(State::Gone, Rule::EcsMissing),
        (Ecs::NotUsed | Ecs::NotKnown | Ecs::Pending | Ecs::Leaving | Ecs::Stopped, _) => {
            decision(State::Gone, Rule::EcsOther)
        }
    }
}

/// The rows in which a speaking sidecar's word stands alone.
fn said(word: Word) -> Decision {
    match word {
        Word::Died => decision(State::Gone, Rule::Ended),
        Word::Stopping(last) => decision(State::Draining { passed: last == LastCheck::Passed }, Rule::Stopping),
        Word::Paused | Word::Failing => decision(State::Unusable, Rule::Failing),
        Word::Starting => decision(State::Starting, Rule::NotYetPassed),
        Word::Passing => decision(State::Usable, Rule::Passing),
    }
}

fn silent_was_usable(witnesses: &Witnesses) -> Decision {
    let is_running = matches!(witnesses.ecs, Ecs::Running | Ecs::RunningUnhealthy);
    let last = State::Unverified(Standing::Last);
    let vouched = State::Unverified(Standing::Vouched);
    if witnesses.ecs == Ecs::Stopped {
        return decision(State::Gone, Rule::SilentStopped);
    }
    match (witnesses.neighbours, witnesses.deadline) {
        (Neighbours::Refused, _) => decision(State::Gone, Rule::SilentRefused),
        (Neighbours::Connect, _) if is_running => decision(vouched, Rule::SilentRunning),
        (Neighbours::NotKnown, _) if is_running => decision(last, Rule::SilentRunning),
        (Neighbours::Connect, Deadline::Running) => decision(vouched, Rule::SilentVouched),
        (Neighbours::Connect, Deadline::Passed) => decision(last, Rule::SilentVouched),
        (Neighbours::NotKnown, Deadline::Running) => decision(last, Rule::SilentUnknown),
        (Neighbours::NotKnown, Deadline::Passed) => decision(State::Gone, Rule::SilentUnknown),
    }
}

fn decision(state: State, rule: Rule) -> Decision {
    Decision { state, rule }
}

#[cfg(test)]
mod tests;
