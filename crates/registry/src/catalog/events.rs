//! What changed between two explanations of a service, endpoint by endpoint.

use std::collections::BTreeMap;

use portolan_core::endpoint::{EndpointKey, State};
use portolan_core::rules::Sidecar;

use super::{Candidate, Event, Explained};

/// The changes from `before` to `now`, in the order of the endpoints. Refused candidates are in no answer, so of
/// nothing that happens to them a client would see a change.
pub(super) fn between(before: Option<&Explained>, now: &Explained, index: u64, at_ms: u64) -> Vec<Event> {
    let before = before.map(answered).unwrap_or_default();
    let after = answered(now);
    let event = |candidate: &Candidate, from: Option<State>, to: State| Event {
        index,
        at_ms,
        service: now.key.clone(),
        endpoint: candidate.key.clone(),
        container: candidate.container.clone(),
        from,
        to,
        rule: None,
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
            events.push(Event { rule: Some(candidate.decision.rule), ..event(candidate, from, to) });
        }
    }
    events.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
    events
}

fn answered(explained: &Explained) -> BTreeMap<&EndpointKey, &Candidate> {
    let candidates = explained.candidates.iter().filter(|candidate| !candidate.is_refused);
    candidates.map(|candidate| (&candidate.key, candidate)).collect()
}
