//! How much weak evidence may remove: never the last answered endpoint of a service, and within a minute at most 15 % of a
//! service's endpoints (rounded down) and of the nodes (at least 1). Silences and missing tasks share these limits.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use portolan_core::endpoint::State;
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::rules::{Deadline, Rule};

use crate::catalog::{Candidate, Catalog, Explained};

/// The span in which the limits count, milliseconds.
const WINDOW_MS: u64 = 60_000;
const LIMIT_PERCENT: usize = 15;
/// How many removals are remembered; beyond that nothing passes until older ones leave the window.
const REMOVALS_MAX: usize = 20_000;

/// What weak evidence removed lately.
#[derive(Debug, Default)]
pub(super) struct Removals {
    recent: VecDeque<Removal>,
}

#[derive(Debug)]
struct Removal {
    at_ms: u64,
    node: NodeKey,
    cause: Cause,
    /// How many endpoints of which services.
    services: BTreeMap<ServiceKey, usize>,
}

/// Why something is to be removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Its node is silent.
    Silence,
    /// This task of its is missing.
    Missing(String),
}

/// What would go, per service.
pub(super) type Stakes = BTreeMap<ServiceKey, usize>;

/// One look at the catalog.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) now_ms: u64,
    removals: &'a mut Removals,
    nodes_max: usize,
    /// Nodes on which something was removed lately.
    nodes: BTreeSet<NodeKey>,
    /// Of each service of which something is doubted.
    counts: HashMap<ServiceKey, Counts>,
    /// What only a deadline keeps, and this very cause would remove. What was removed lately is not in it, even if the catalog
    /// does not show that yet. What is in no answer has no stakes.
    waiting: BTreeMap<(NodeKey, Cause), Stakes>,
    /// Services in which a node is silent and answered all the same, because another witness speaks for it.
    vouched: BTreeMap<NodeKey, BTreeSet<ServiceKey>>,
}

/// Endpoints of one service.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Answered, but for those that were removed and are shown all the same.
    answered: usize,
    /// Removed lately.
    removed: usize,
}

impl Removals {
    /// A removal was not kept after all.
    pub(super) fn forget(&mut self, is_forgotten: impl Fn(&NodeKey, &Cause) -> bool) {
        self.recent.retain(|removal| !is_forgotten(&removal.node, &removal.cause));
    }
}

impl<'a> Look<'a> {
    /// A look at `catalog` at `now_ms`.
    pub(super) fn new(catalog: &'a Catalog, removals: &'a mut Removals, now_ms: u64) -> Self {
        removals.recent.retain(|removal| now_ms.saturating_sub(removal.at_ms) < WINDOW_MS);
        let parts = catalog.stated.ecs.values().filter(|report| report.instance.is_none()).count();
        let nodes_max = ((catalog.nodes.len() + parts) * LIMIT_PERCENT / 100).max(1);
        let nodes = removals.recent.iter().map(|removal| removal.node.clone()).collect();
        let (counts, waiting, vouched) = (HashMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut look = Look { catalog, now_ms, removals, nodes_max, nodes, counts, waiting, vouched };
        for explained in catalog.doubted.keys().filter_map(|service| catalog.explained.get(service)) {
            look.take(explained);
        }
        look.leave_out_what_was_removed();
        look
    }

    fn take(&mut self, explained: &Explained) {
        for candidate in &explained.candidates {
            let (node, cause) = (candidate.key.node.clone(), waits(candidate));
            if !is_answered(candidate) {
                if let Some(cause @ Cause::Missing(_)) = cause {
                    self.waiting.entry((node, cause)).or_default();
                }
                continue;
            }
            self.counts.entry(explained.key.clone()).or_default().answered += 1;
            if let Some(cause) = cause {
                let stakes = self.waiting.entry((node, cause)).or_default();
                *stakes.entry(explained.key.clone()).or_default() += 1;
            } else if matches!(candidate.decision.rule, Rule::SilentVouched | Rule::SilentRunning) {
                self.vouched.entry(node).or_default().insert(explained.key.clone());
            }
        }
    }

    fn leave_out_what_was_removed(&mut self) {
        for removal in &self.removals.recent {
            let at = (removal.node.clone(), removal.cause.clone());
            let mut stakes = self.waiting.get_mut(&at);
            for (service, count) in &removal.services {
                let counts = self.counts.entry(service.clone()).or_default();
                counts.removed += count;
                let still = stakes.as_mut().and_then(|stakes| stakes.remove(service)).unwrap_or_default();
                counts.answered = counts.answered.saturating_sub(still);
            }
            if stakes.is_some_and(|stakes| stakes.is_empty()) {
                self.waiting.remove(&at);
            }
        }
    }

    /// What `cause` would remove on `node`.
    pub(super) fn stakes(&self, node: &NodeKey, cause: &Cause) -> Stakes {
        self.waiting.get(&(node.clone(), cause.clone())).cloned().unwrap_or_default()
    }

    /// Services in which another witness keeps silent endpoints of `node` answered.
    pub(super) fn vouched(&self, node: &NodeKey) -> BTreeSet<ServiceKey> {
        self.vouched.get(node).cloned().unwrap_or_default()
    }

    /// Everything that is missing and waits, in the order of nodes and tasks.
    pub(super) fn missing(&self) -> Vec<(NodeKey, Cause)> {
        self.waiting.keys().filter(|(_, cause)| matches!(cause, Cause::Missing(_))).cloned().collect()
    }

    /// Whether something may be removed on `node` at all.
    pub(super) fn may_remove_on(&self, node: &NodeKey) -> bool {
        let is_one_too_many = !self.nodes.contains(node) && self.nodes.len() >= self.nodes_max;
        !is_one_too_many && self.removals.recent.len() < REMOVALS_MAX
    }

    /// Whether `count` endpoints of `service` may be removed.
    pub(super) fn may_remove(&self, service: &ServiceKey, count: usize) -> bool {
        let Counts { answered, removed } = self.counts.get(service).copied().unwrap_or_default();
        count < answered && count + removed <= (answered + removed) * LIMIT_PERCENT / 100
    }

    /// Remembers a removal. One of nothing is none.
    pub(super) fn remove(&mut self, node: &NodeKey, cause: Cause, services: Stakes) {
        if services.is_empty() {
            return;
        }
        for (service, count) in &services {
            let counts = self.counts.entry(service.clone()).or_default();
            (counts.answered, counts.removed) = (counts.answered.saturating_sub(*count), counts.removed + count);
        }
        self.nodes.insert(node.clone());
        self.removals.recent.push_back(Removal { at_ms: self.now_ms, node: node.clone(), cause, services });
    }
}

fn is_answered(candidate: &Candidate) -> bool {
    !candidate.is_refused && matches!(candidate.decision.state, State::Usable | State::Unverified(_))
}

/// What would remove it, if only its deadline passed.
fn waits(candidate: &Candidate) -> Option<Cause> {
    match (candidate.decision.rule, candidate.witnesses.deadline) {
        (Rule::SilentUnknown, Deadline::Running) => Some(Cause::Silence),
        (Rule::EcsMissing, Deadline::Running) => candidate.task_id.clone().map(Cause::Missing),
        _ => None,
    }
}
