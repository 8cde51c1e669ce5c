//! What each witness says of a candidate, and ECS of tasks that stopped, in words.

use portolan_core::name::Label;
use portolan_core::rules::{Declared, Ecs, LastCheck, Neighbours, Operator, Rule, Sidecar, Word};

use super::super::{api, convert};
use crate::catalog::{Candidate, StoppedTask};
use crate::intake::statement::{OrderRecord, Target};

/// An order, and what it was said of.
type Ordered<'a> = (&'a Target, &'a OrderRecord);

/// A candidate as people read it.
pub(super) fn candidate(
    candidate: &Candidate,
    order: Option<Ordered<'_>>,
    is_answered: bool,
    now_ms: u64,
) -> api::Candidate {
    let ended = candidate.ending.as_ref().map(|ending| api::Ended {
        at: convert::time(ending.at_ms),
        exit_code: ending.exit_code,
        is_out_of_memory: ending.is_out_of_memory,
    });
    api::Candidate {
        id: convert::id(&candidate.key, &candidate.container, candidate.task_id.as_deref()),
        address: candidate.addresses.first().copied(),
        port: candidate.port,
        state: candidate.decision.state.as_str().to_owned(),
        is_answered,
        is_held: candidate.is_held,
        rule: rule_word(candidate.decision.rule),
        rule_text: candidate.decision.rule.text().to_owned(),
        named_by: candidate.source.text().to_owned(),
        witnesses: witnesses(candidate, order, now_ms),
        ended,
        is_refused: candidate.is_refused,
        refused: convert::refused(&candidate.refusals),
    }
}

/// The rule as its JSON has it, so that words are the same wherever it is stored or shown.
fn rule_word(rule: Rule) -> String {
    match serde_json::to_value(rule) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn witnesses(candidate: &Candidate, order: Option<Ordered<'_>>, now_ms: u64) -> Vec<api::Testimony> {
    let (said, since) = (&candidate.witnesses, &candidate.since);
    let told = |witness: &str, word: &str, since_ms: u64| api::Testimony {
        witness: witness.to_owned(),
        word: word.to_owned(),
        since: Some(convert::time(since_ms)),
        age_seconds: Some(now_ms.saturating_sub(since_ms) / 1_000),
    };
    let silent = |witness: &str, word: &str| api::Testimony {
        witness: witness.to_owned(),
        word: word.to_owned(),
        since: None,
        age_seconds: None,
    };
    let mut all = vec![told("sidecar", &sidecar(said.sidecar), since.sidecar_ms)];
    all.push(match said.ecs {
        Ecs::NotUsed => silent("ecs", ecs(said.ecs)),
        _ => told("ecs", ecs(said.ecs), since.ecs_ms),
    });
    all.push(match said.neighbours {
        Neighbours::NotKnown => silent("neighbours", neighbours(said.neighbours)),
        _ => told("neighbours", neighbours(said.neighbours), since.neighbours_ms),
    });
    match said.operator {
        Operator::Nothing => {}
        Operator::Drained => all.push(told("operator", &ordered("drains", order), since.operator_ms)),
        Operator::Evicted => all.push(told("operator", &ordered("evicted", order), since.operator_ms)),
    }
    all
}

/// What an operator does, to what, and why: whoever wants to undo it has to say the same.
fn ordered(word: &str, order: Option<Ordered<'_>>) -> String {
    let what = match order {
        Some((Target::Node(_), _)) => "its node",
        Some((Target::Task(_), _)) => "its task",
        Some((Target::Container(_) | Target::Service(_), _)) | None => "it",
    };
    match order.map(|(_, order)| order.reason.as_str()).filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{word} {what}: {reason}"),
        None => format!("{word} {what}"),
    }
}

/// A task that stopped, as people read it.
pub(super) fn stopped(task: &StoppedTask) -> api::StoppedTask {
    let container = |(name, exit_code, reason): &(Label, Option<i64>, Option<String>)| api::StoppedContainer {
        name: name.to_string(),
        exit_code: *exit_code,
        reason: reason.clone(),
    };
    api::StoppedTask {
        task_id: task.task_id.clone(),
        family: task.family.as_ref().map(ToString::to_string),
        at: convert::time(task.stop.at_ms),
        code: task.stop.code.clone(),
        reason: task.stop.reason.clone(),
        containers: task.containers.iter().map(container).collect(),
    }
}

fn sidecar(sidecar: Sidecar) -> String {
    match sidecar {
        Sidecar::Speaks(said) => word(said).to_owned(),
        Sidecar::Silent(said) => format!("silent; last said: {}", word(said)),
        Sidecar::None => "the node has none".to_owned(),
        Sidecar::External(Declared::Unchecked) => "declared".to_owned(),
        Sidecar::External(Declared::Starting) => "declared; check not yet passed".to_owned(),
        Sidecar::External(Declared::Passing) => "declared; check passes".to_owned(),
        Sidecar::External(Declared::Failing) => "declared; check fails".to_owned(),
    }
}

fn word(word: Word) -> &'static str {
    match word {
        Word::Died => "died or removed",
        Word::Stopping(LastCheck::Passed) => "stop signal sent; last check passed",
        Word::Stopping(LastCheck::NotPassed) => "stop signal sent; last check not passed",
        Word::Paused => "paused",
        Word::Failing => "failing",
        Word::Starting => "check not yet passed",
        Word::Passing => "passing",
    }
}

fn ecs(ecs: Ecs) -> &'static str {
    match ecs {
        Ecs::NotUsed => "not used",
        Ecs::NotKnown => "not known",
        Ecs::Missing => "listed no longer",
        Ecs::MissingUnhealthy => "listed no longer, unhealthy",
        Ecs::Pending => "not yet running",
        Ecs::Running => "running",
        Ecs::RunningUnhealthy => "running, unhealthy",
        Ecs::Drained => "running, on an instance that drains",
        Ecs::Leaving => "leaving",
        Ecs::Stopped => "stopped",
    }
}

fn neighbours(neighbours: Neighbours) -> &'static str {
    match neighbours {
        Neighbours::NotKnown => "not known",
        Neighbours::Connect => "connect",
        Neighbours::Refused => "refused",
    }
}
