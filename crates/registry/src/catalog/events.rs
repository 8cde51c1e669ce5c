//! What changed between two explanations of a service, endpoint by endpoint.

use std::collections::BTreeMap;

use portolan_core::endpoint::{EndpointKey, State};
use portolan_core::rules::{Rule, Sidecar};

use super::stated::Stated;
use super::{Candidate, Event, Explained};

/// When what changed was said, and what else was.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) index: u64,
    pub(super) at_ms: u64,
    pub(super) stated: &'a Stated,
}

/// The changes from `before` to `now`, in the order of the endpoints. Refused candidates are in no answer, so of
/// nothing that happens to them a client would see a change.
pub(super) fn between(before: Option<&Explained>, now: &Explained, said: Said<'_>) -> Vec<Event> {
    let before = before.map(answered).unwrap_or_default();
    let after = answered(now);
    let event = |candidate: &Candidate, from: Option<State>, to: State| Event {
        index: said.index,
        at_ms: said.at_ms,
        service: now.key.clone(),
        endpoint: candidate.key.clone(),
        container: candidate.container.clone(),
        from,
        to,
        rule: None,
        order_reason: None,
        exit_code: candidate.ending.as_ref().and_then(|ending| ending.exit_code),
        is_out_of_memory: candidate.ending.as_ref().is_some_and(|ending| ending.is_out_of_memory),
    };
    let mut events = Vec::new();
    for (&key, &candidate) in &before {
        if !after.contains_key(key) && candidate.decision.state != State::Gone {
            events.push(event(candidate, Some(candidate.decision.state), State::Gone));
        }
    }
    for (&key, &candidate) in &after {
        let to = candidate.decision.state;
        let from = before.get(key).map(|candidate| candidate.decision.state);
        let is_new_ending = from.is_some() && before.get(key).is_some_and(|before| before.ending != candidate.ending);
        // ECS tells of tasks before they run and after; that one was never there is no change.
        if from.is_none() && to == State::Gone && candidate.witnesses.sidecar == Sidecar::None {
            continue;
        }
        // Docker tells the exit code some milliseconds after the death was seen: another event of the same end.
        if from != Some(to) || is_new_ending {
            let (rule, order_reason) = (Some(candidate.decision.rule), order_reason(candidate, said.stated));
            events.push(Event { rule, order_reason, ..event(candidate, from, to) });
        }
    }
    events.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
    events
}

/// Why an operator ordered what the candidate is by now.
fn order_reason(candidate: &Candidate, stated: &Stated) -> Option<String> {
    let is_ordered = matches!(candidate.decision.rule, Rule::Evicted | Rule::Drained);
    let (_, order) = stated.order_about(candidate).filter(|_| is_ordered)?;
    Some(order.reason.clone()).filter(|reason| !reason.is_empty())
}

fn answered(explained: &Explained) -> BTreeMap<&EndpointKey, &Candidate> {
    let candidates = explained.candidates.iter().filter(|candidate| !candidate.is_refused);
    candidates.map(|candidate| (&candidate.key, candidate)).collect()
}
