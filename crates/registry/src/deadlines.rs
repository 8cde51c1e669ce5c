//! Deadlines: commits that a silence has lasted ten minutes, as far as weak evidence may remove anything (DESIGN
//! section 5).
//!
//! Silence alone never removes the last answered endpoint of a service, nor within a minute more than 15 % of a service's
//! endpoints (rounded down) or of the nodes (at least 1). What exceeds that is held back, stays as it is, and is looked
//! at again every second. While the registry doubts itself nothing passes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use portolan_core::endpoint::State;
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::rules::{Deadline, Rule};
use portolan_core::view::Readiness;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::catalog::{Candidate, Catalog, NodeStatus};
use crate::clock::Clock;
use crate::intake::Intake;

/// How long a silence may last before it counts, milliseconds.
pub const SILENCE_MAX_MS: u64 = 600_000;
/// The span in which the limits count, milliseconds.
const LIMIT_WINDOW_MS: u64 = 60_000;
const LIMIT_PERCENT: usize = 15;
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many removals are remembered; beyond that nothing passes until older ones leave the window.
const REMOVALS_MAX: usize = 20_000;

/// Starts the job.
pub fn start(jobs: &Jobs, intake: Arc<Intake>, catalog: Reader<Catalog>, clock: Clock) {
    jobs.start("deadlines", async move {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut removals = Removals::default();
        loop {
            ticks.tick().await;
            let now = clock.now();
            if intake.is_doubtful(now) {
                continue;
            }
            for passage in due(&catalog.load(), &mut removals, now.unix_ms) {
                let Passage { node, held } = passage;
                let count = held.len();
                match intake.pass(&node, held, now.unix_ms).await {
                    Ok(()) => info!(node = %node, held = count, "node `{node}` has been silent for ten minutes"),
                    Err(error) => warn!(node = %node, "the deadline of node `{node}` cannot be written: {error}"),
                }
            }
        }
    });
}

/// What silence removed lately, for the limits.
#[derive(Debug, Default)]
struct Removals {
    /// When, Unix milliseconds, and the endpoints per service of each passage.
    recent: VecDeque<(u64, NodeKey, BTreeMap<ServiceKey, usize>)>,
}

/// A deadline that passes now.
#[derive(Debug, PartialEq, Eq)]
struct Passage {
    node: NodeKey,
    /// Services whose endpoints on the node are kept all the same.
    held: Vec<ServiceKey>,
}

/// The deadlines that pass at `now_ms`.
fn due(catalog: &Catalog, removals: &mut Removals, now_ms: u64) -> Vec<Passage> {
    removals.recent.retain(|(at_ms, ..)| now_ms.saturating_sub(*at_ms) < LIMIT_WINDOW_MS);
    let nodes: Vec<_> = catalog.nodes.values().filter(|node| is_due(node, now_ms)).collect();
    if nodes.is_empty() || catalog.view.readiness != Readiness::Current {
        return Vec::new();
    }
    let nodes_max = (catalog.nodes.len() * LIMIT_PERCENT / 100).max(1);
    let stakes = stakes(catalog);
    let mut passages = Vec::new();
    for status in nodes {
        let passed: BTreeSet<_> = removals.recent.iter().map(|(_, node, _)| node).collect();
        let is_one_too_many = !passed.contains(&status.key) && passed.len() >= nodes_max;
        if is_one_too_many || removals.recent.len() >= REMOVALS_MAX {
            continue;
        }
        let (removed, held) = weigh(stakes.get(&status.key).map_or(&[], Vec::as_slice), removals);
        let passage = status.silence.as_ref().and_then(|silence| silence.passage.as_ref());
        if passage.is_none_or(|passage| passage.held != held) {
            removals.recent.push_back((now_ms, status.key.clone(), removed));
            passages.push(Passage { node: status.key.clone(), held });
        }
    }
    passages
}

/// Silent for long enough, and not yet passed in full.
fn is_due(node: &NodeStatus, now_ms: u64) -> bool {
    node.silence.as_ref().is_some_and(|silence| {
        let is_passed = silence.passage.as_ref().is_some_and(|passage| passage.held.is_empty());
        !is_passed && now_ms.saturating_sub(silence.since_ms) >= SILENCE_MAX_MS
    })
}

/// What a node's passage would take from one service.
struct Stake<'a> {
    service: &'a ServiceKey,
    /// Endpoints on this node that only the deadline keeps.
    here: usize,
    /// Answered endpoints of the whole service.
    answered: usize,
}

/// Per node, the services in which only the deadline keeps some of its endpoints.
fn stakes(catalog: &Catalog) -> HashMap<&NodeKey, Vec<Stake<'_>>> {
    let mut stakes: HashMap<&NodeKey, Vec<Stake<'_>>> = HashMap::new();
    for (service, explained) in &catalog.explained {
        let answered = explained.candidates.iter().filter(|c| is_answered(c)).count();
        let mut waiting: BTreeMap<&NodeKey, usize> = BTreeMap::new();
        for candidate in explained.candidates.iter().filter(|c| is_answered(c) && waits(c)) {
            *waiting.entry(&candidate.key.node).or_default() += 1;
        }
        for (node, here) in waiting {
            stakes.entry(node).or_default().push(Stake { service, here, answered });
        }
    }
    stakes
}

/// What a passage removes per service, and the services where it may not.
fn weigh(stakes: &[Stake<'_>], removals: &Removals) -> (BTreeMap<ServiceKey, usize>, Vec<ServiceKey>) {
    let (mut removed, mut held) = (BTreeMap::new(), Vec::new());
    for stake in stakes {
        let lately: usize = removals.recent.iter().filter_map(|(.., services)| services.get(stake.service)).sum();
        let may_go = (stake.answered + lately) * LIMIT_PERCENT / 100;
        if stake.here == stake.answered || stake.here + lately > may_go {
            held.push(stake.service.clone());
        } else {
            removed.insert(stake.service.clone(), stake.here);
        }
    }
    (removed, held)
}

fn is_answered(candidate: &Candidate) -> bool {
    !candidate.is_refused && matches!(candidate.decision.state, State::Usable | State::Unverified(_))
}

/// Whether only its deadline keeps it.
fn waits(candidate: &Candidate) -> bool {
    candidate.decision.rule == Rule::SilentUnknown && candidate.witnesses.deadline == Deadline::Running
}

#[cfg(test)]
mod tests;
