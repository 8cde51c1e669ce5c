//! What has to be stated: of everything that may have changed, what the store does not hold already.
//!
//! A node's record is written whole. What a listing or a task definition adds to it gathers for a while, so that a large
//! cluster's first listing does not write every node again with each of its calls; what changes an answer does not wait, nor does
//! what concerns a task that an event told of.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::ecs::EcsReport;
use portolan_core::hash;
use portolan_core::name::{Label, NodeKey};
use portolan_core::refusal::Refusal;

use super::{Changed, Knowledge, Stated};
use crate::intake::statement::Statement;
use crate::store::evidence::FamilyRecord;
use crate::store::record::encode;

/// The longest record of one node, in bytes; far above what real tasks come to, below what the store takes.
const REPORT_BYTES_MAX: usize = 2 << 20;

/// How long what can wait gathers after its node was stated, milliseconds: ten calls of the default budget, and little beside the
/// minute that a sidecar is waited for.
const GATHER_MS: u64 = 5_000;

/// Statements, and what follows when they are kept or not.
#[derive(Debug, Default)]
pub(in crate::ecs) struct Plan {
    pub(in crate::ecs) statements: Vec<Statement>,
    nodes: BTreeMap<NodeKey, Option<u64>>,
    families: BTreeSet<Label>,
    has_record: bool,
    at_ms: u64,
}

impl Knowledge {
    /// What has to be stated now. Either [`settle`](Self::settle) or [`restore`](Self::restore) is to follow.
    pub(in crate::ecs) fn plan(&mut self, now_ms: u64) -> Plan {
        let Changed { has_record, mut nodes, gathering, families } = std::mem::take(&mut self.changed);
        let (due, waiting): (BTreeSet<_>, BTreeSet<_>) =
            gathering.into_iter().partition(|node| nodes.contains(node) || now_ms >= self.gathered_ms(node));
        nodes.extend(due);
        self.changed.gathering = waiting;
        let mut plan = Plan { has_record, at_ms: now_ms, ..Plan::default() };
        if has_record {
            plan.statements.push(Statement::Cluster(self.cluster.clone(), self.record.clone()));
        }
        for family in families {
            let services = self.families.get(&family).into_iter().flatten().cloned().collect();
            let record = FamilyRecord { services };
            plan.statements.push(Statement::Family(self.cluster.clone(), family.clone(), Some(record)));
            plan.families.insert(family);
        }
        // What comes before what goes: a task that moved is never nowhere.
        let mut taken_back = Vec::new();
        for node in nodes {
            let (report, fingerprint) = self.report(&node).map(bounded).unzip();
            if fingerprint == self.stated.get(&node).map(|stated| stated.fingerprint) {
                continue;
            }
            let into = if report.is_none() { &mut taken_back } else { &mut plan.statements };
            into.push(Statement::Ecs(node.clone(), report.map(Box::new)));
            plan.nodes.insert(node, fingerprint);
        }
        plan.statements.extend(taken_back);
        plan.statements.extend(self.services.plan(&self.cluster));
        plan
    }

    /// The plan's statements are in the store.
    pub(in crate::ecs) fn settle(&mut self, plan: Plan) {
        self.services.settle(&plan.statements);
        for (node, fingerprint) in plan.nodes {
            match fingerprint {
                Some(fingerprint) => drop(self.stated.insert(node, Stated { fingerprint, at_ms: plan.at_ms })),
                None => drop(self.stated.remove(&node)),
            }
        }
    }

    /// They may be in the store or not: they are stated again.
    pub(in crate::ecs) fn restore(&mut self, plan: Plan) {
        for (node, _) in plan.nodes {
            // Whatever is there, it is not known to be the same.
            self.stated.insert(node.clone(), Stated::default());
            self.changed.nodes.insert(node);
        }
        self.changed.families.extend(plan.families);
        self.changed.has_record |= plan.has_record;
        self.services.restore();
    }

    /// When what gathers is to be stated, Unix milliseconds; `None`: nothing does.
    pub(in crate::ecs) fn due_ms(&self) -> Option<u64> {
        self.changed.gathering.iter().map(|node| self.gathered_ms(node)).min()
    }

    /// Until when changes of a node gather; long ago where nothing was stated lately.
    fn gathered_ms(&self, node: &NodeKey) -> u64 {
        self.stated.get(node).map_or(0, |stated| stated.at_ms + GATHER_MS)
    }

    /// What is known of a node, as it is stated; `None`: nothing.
    fn report(&self, node: &NodeKey) -> Option<EcsReport> {
        let instance = self.instances.instance(&node.node);
        let ids = self.tasks.places.tasks(node);
        let tasks: Vec<_> = ids.filter_map(|id| self.tasks.get(id)).map(|known| known.task.clone()).collect();
        if instance.is_none() && tasks.is_empty() {
            return None;
        }
        Some(EcsReport { instance, tasks })
    }

    /// Everything that is known, as it is stated.
    #[cfg(test)]
    pub(in crate::ecs) fn reports(&self) -> BTreeMap<NodeKey, EcsReport> {
        let nodes = self.tasks.places.nodes().map(|(node, _)| node.clone());
        let changed = self.changed.nodes.union(&self.changed.gathering).cloned();
        let nodes = nodes.chain(self.stated.keys().cloned()).chain(changed);
        nodes.filter_map(|node| Some((node.clone(), self.report(&node)?))).collect()
    }
}

/// Tells one report from another.
pub(super) fn fingerprint(report: &EcsReport) -> u64 {
    hash::stable(&[&encode(report)])
}

/// The report within [`REPORT_BYTES_MAX`], and its fingerprint: first without tags and metadata, then without the last
/// tasks' containers.
fn bounded(mut report: EcsReport) -> (EcsReport, u64) {
    let encoded = encode(&report);
    if encoded.len() <= REPORT_BYTES_MAX {
        return (report, hash::stable(&[&encoded]));
    }
    for container in report.tasks.iter_mut().flat_map(|task| &mut task.containers) {
        container.report.tags.clear();
        container.report.meta.clear();
        container.report.refusals = vec![Refusal::new("tags and metadata", "too long on this node; left out")];
    }
    let mut kept = report.tasks.len();
    while encode(&report).len() > REPORT_BYTES_MAX && kept > 0 {
        let half = kept / 2;
        report.tasks[half..kept].iter_mut().for_each(|task| task.containers.clear());
        kept = half;
    }
    let fingerprint = fingerprint(&report);
    (report, fingerprint)
}
