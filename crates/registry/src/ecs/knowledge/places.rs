//! Under which node each task is stated: its container instance, or a part of the tasks that have none.
//!
//! A part keeps its tasks: who joined it stays in it, whatever else comes and goes, so that one task's change is one small
//! record's change.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::ecs::Task;
use portolan_core::name::{Label, NodeKey};

/// How many tasks one part has at most, those that ended lately among them.
const PART_TASKS_MAX: usize = 200;

/// Which tasks are where.
#[derive(Debug, Default)]
pub(super) struct Places {
    tasks: BTreeMap<NodeKey, BTreeSet<String>>,
}

/// Why a task has no container instance of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It runs on Fargate.
    Fargate,
    /// Its instance is not known, or it has none yet.
    Unplaced,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Fargate => "fargate",
            Kind::Unplaced => "unplaced",
        }
    }
}

/// The parts that a task may be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    cluster: Label,
    name: String,
}

impl Parts {
    /// Those for such tasks: by service, else by family.
    pub(super) fn of(cluster: &Label, kind: Kind, task: &Task) -> Parts {
        let service = task.service.as_ref().map(|service| &service.label);
        let group = service.or(task.family.as_ref()).map_or("tasks", Label::as_str);
        Parts { cluster: cluster.clone(), name: format!("{}-{group}", kind.as_str()) }
    }

    /// Those that a task stated there is in.
    pub(super) fn held(node: &NodeKey, task: &Task) -> Parts {
        let is_fargate = node.node.as_str().starts_with(Kind::Fargate.as_str());
        Parts::of(&node.cluster, if is_fargate { Kind::Fargate } else { Kind::Unplaced }, task)
    }

    /// One of them, as a node that no machine is.
    fn node(&self, number: u32) -> NodeKey {
        let node = Label::sanitise(&format!("{}-{number}", self.name)).expect("made of labels, a hyphen and digits");
        NodeKey { cluster: self.cluster.clone(), node }
    }
}

impl Places {
    /// The ids of the tasks that are stated there.
    pub(super) fn tasks(&self, node: &NodeKey) -> impl Iterator<Item = &String> {
        self.tasks.get(node).into_iter().flatten()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&NodeKey, &BTreeSet<String>)> {
        self.tasks.iter()
    }

    /// The first of these parts that has room.
    pub(super) fn part_with_room(&self, parts: &Parts) -> NodeKey {
        let has_room = |node: &NodeKey| self.tasks.get(node).is_none_or(|tasks| tasks.len() < PART_TASKS_MAX);
        let numbers = 0..=u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        let node = numbers.map(|number| parts.node(number)).find(has_room);
        node.expect("of one more part than there are places at least one is empty")
    }

    pub(super) fn enter(&mut self, node: &NodeKey, id: &str) {
        self.tasks.entry(node.clone()).or_default().insert(id.to_owned());
    }

    pub(super) fn leave(&mut self, node: &NodeKey, id: &str) {
        if let Some(tasks) = self.tasks.get_mut(node) {
            tasks.remove(id);
            if tasks.is_empty() {
                self.tasks.remove(node);
            }
        }
    }
}
