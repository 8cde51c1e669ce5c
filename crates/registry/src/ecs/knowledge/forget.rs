//! What may be forgotten: tasks that ended or are missing for long enough, and machines with nothing on them.
//!
//! A word of ECS is kept for as long as the catalog still goes by it: without it, an endpoint that it ended would count as one
//! that nobody knows of. A day is the longest for anything.

use std::collections::BTreeSet;

use portolan_core::ecs::TaskStatus;
use portolan_core::endpoint::State;
use portolan_core::name::{Label, NodeKey};
use portolan_core::view::Readiness;

use super::Knowledge;
use crate::catalog::Catalog;

/// How long tasks that stopped stay, for their stop reasons, and machines that ended, milliseconds.
const ENDED_FOR_MS: u64 = 600_000;
/// How many of those one node has at most; the oldest go first.
const ENDED_MAX: usize = 50;
/// How long anything stays that is missing, or that the catalog goes by, milliseconds.
const KEPT_FOR_MS: u64 = 86_400_000;

impl Knowledge {
    /// Takes the passing of time in.
    pub(in crate::ecs) fn pass(&mut self, catalog: &Catalog, now_ms: u64) {
        self.settle_all_machines(now_ms);
        if catalog.view.readiness == Readiness::Loading {
            return;
        }
        let (mut certain, mut ended) = self.due_tasks(catalog, now_ms);
        let machines = self.due_machines_to_forget(catalog, now_ms);
        if !ended.is_empty() {
            let living = living(catalog, &ended);
            ended.retain(|id| !living.contains(id));
        }
        certain.extend(ended);
        certain.extend(self.too_many());
        for id in certain {
            self.changed.nodes.extend(self.tasks.remove(&id));
        }
        for machine in machines {
            self.forget_machine(&machine);
        }
    }

    /// Tasks that go whatever the catalog says, and those that go unless it goes by them.
    fn due_tasks(&self, catalog: &Catalog, now_ms: u64) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut certain, mut ended) = (BTreeSet::new(), BTreeSet::new());
        for (id, known) in self.tasks.all() {
            let age = |since_ms: u64| now_ms.saturating_sub(since_ms);
            match (&known.task.stop, known.task.status, known.absence.missing_since()) {
                (Some(stop), _, _) if age(stop.at_ms) >= KEPT_FOR_MS => drop(certain.insert(id.clone())),
                (Some(stop), _, _) if age(stop.at_ms) >= ENDED_FOR_MS && !is_silent(catalog, &known.node) => {
                    ended.insert(id.clone());
                }
                // It never ran.
                (None, TaskStatus::Pending, Some(_)) => drop(certain.insert(id.clone())),
                (None, _, Some(since_ms)) => {
                    let absence = catalog.stated.absences.get(&known.node);
                    let has_passed = absence.is_some_and(|absence| absence.passed.contains(id));
                    if (known.task.is_missing && has_passed) || age(since_ms) >= KEPT_FOR_MS {
                        certain.insert(id.clone());
                    }
                }
                (Some(_), _, _) | (None, _, None) => {}
            }
        }
        (certain, ended)
    }

    /// Tasks that stopped, of nodes that have too many of them, the oldest.
    fn too_many(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (_, ids) in self.tasks.places.nodes().filter(|(_, ids)| ids.len() > ENDED_MAX) {
            let stop = |id: &String| Some((self.tasks.get(id)?.task.stop.as_ref()?.at_ms, id.clone()));
            let mut stopped: Vec<_> = ids.iter().filter_map(stop).collect();
            stopped.sort();
            let excess = stopped.len().saturating_sub(ENDED_MAX);
            found.extend(stopped.into_iter().take(excess).map(|(_, id)| id));
        }
        found
    }

    /// Machines that ended, or that are missing and have no tasks.
    fn due_machines_to_forget(&self, catalog: &Catalog, now_ms: u64) -> Vec<Label> {
        let is_due = |(machine, since_ms, has_ended): &(&Label, u64, bool)| {
            let node = NodeKey { cluster: self.cluster.clone(), node: (*machine).clone() };
            let age = now_ms.saturating_sub(*since_ms);
            let is_free = self.tasks.places.tasks(&node).next().is_none();
            let may_go = age >= ENDED_FOR_MS && !is_silent(catalog, &node);
            (may_go || age >= KEPT_FOR_MS) && (*has_ended || is_free)
        };
        self.instances.over().filter(is_due).map(|(machine, ..)| machine.clone()).collect()
    }

    fn forget_machine(&mut self, machine: &Label) {
        let node = NodeKey { cluster: self.cluster.clone(), node: machine.clone() };
        let ids: Vec<String> = self.tasks.places.tasks(&node).cloned().collect();
        for id in ids {
            self.tasks.remove(&id);
        }
        self.instances.forget(machine);
        self.changed.nodes.insert(node);
    }
}

/// Whether the catalog goes by what ECS says there: the node's sidecar is silent, and the silence has not passed by itself.
fn is_silent(catalog: &Catalog, node: &NodeKey) -> bool {
    let silence = catalog.nodes.get(node).and_then(|status| status.silence.as_ref());
    silence.is_some_and(|silence| silence.passage.as_ref().is_none_or(|passage| !passage.held.is_empty()))
}

/// Those of the tasks of which something still runs, as a sidecar says.
fn living(catalog: &Catalog, ids: &BTreeSet<String>) -> BTreeSet<String> {
    let candidates = catalog.explained.values().flat_map(|explained| &explained.candidates);
    let living = candidates.filter(|candidate| candidate.decision.state != State::Gone);
    living.filter_map(|candidate| candidate.task_id.clone()).filter(|id| ids.contains(id)).collect()
}
