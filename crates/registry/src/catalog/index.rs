//! Where each task is told of: by which ECS records, and by which nodes' reports. Usually one of each.

use std::collections::{BTreeSet, HashMap};

use portolan_core::name::NodeKey;

/// Everything by task id.
#[derive(Debug, Default)]
pub(super) struct Index {
    tasks: HashMap<String, Tellers>,
}

/// Who tells of a task, each in the order of the keys.
#[derive(Debug, Default)]
struct Tellers {
    ecs: Vec<NodeKey>,
    reports: Vec<NodeKey>,
}

impl Index {
    /// The ECS records that hold the task.
    pub(super) fn records(&self, task: &str) -> &[NodeKey] {
        self.tasks.get(task).map(|tellers| tellers.ecs.as_slice()).unwrap_or_default()
    }

    /// The nodes that report the task.
    pub(super) fn reporters(&self, task: &str) -> &[NodeKey] {
        self.tasks.get(task).map(|tellers| tellers.reports.as_slice()).unwrap_or_default()
    }

    /// From now on the ECS record of `node` holds the tasks `now`, where it held `before`.
    pub(super) fn hold(&mut self, node: &NodeKey, before: &BTreeSet<&str>, now: &BTreeSet<&str>) {
        self.change(before, now, |tellers, is_told| put(&mut tellers.ecs, node, is_told));
    }

    /// From now on `node` reports the tasks `now`, where it reported `before`.
    pub(super) fn report(&mut self, node: &NodeKey, before: &BTreeSet<&str>, now: &BTreeSet<&str>) {
        self.change(before, now, |tellers, is_told| put(&mut tellers.reports, node, is_told));
    }

    fn change(&mut self, before: &BTreeSet<&str>, now: &BTreeSet<&str>, put: impl Fn(&mut Tellers, bool)) {
        for task in before.symmetric_difference(now) {
            let tellers = self.tasks.entry((*task).to_owned()).or_default();
            put(tellers, now.contains(task));
            if tellers.ecs.is_empty() && tellers.reports.is_empty() {
                self.tasks.remove(*task);
            }
        }
    }
}

fn put(nodes: &mut Vec<NodeKey>, node: &NodeKey, is_told: bool) {
    match (nodes.binary_search(node), is_told) {
        (Err(place), true) => nodes.insert(place, node.clone()),
        (Ok(place), false) => drop(nodes.remove(place)),
        (Ok(_), true) | (Err(_), false) => {}
    }
}
