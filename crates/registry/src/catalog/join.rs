//! The join: what ECS, neighbours and operators say of one container that a node claims.
//!
//! By the runtime's id first, else by task and container name; what counts is the task. Pure: reads what was stated, and
//! the index of tasks.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use ipnet::Ipv4Net;
use portolan_core::ecs::{self, EcsReport, InstanceStatus, Task};
use portolan_core::evidence::ContainerReport;
use portolan_core::name::{Label, NodeKey};
use portolan_core::rules::{Declared, Ecs, Neighbours, Operator};

use super::index::Index;
use super::stated::Stated;
use crate::store::Target;
use crate::store::evidence::{AbsenceRecord, NameRecord, Order, OrderRecord};
use crate::store::record::Presence;

/// What the witnesses say of a claim, but for what its own sidecar says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// Who claims it.
    pub(super) claimant: Claimant,
    pub(super) ecs: Ecs,
    pub(super) neighbours: Neighbours,
    pub(super) operator: Operator,
    /// Its task is missing, and it was committed that it may go.
    pub(super) may_go: bool,
}

/// Who says that there is something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimant {
    /// A sidecar.
    Sidecar,
    /// ECS alone, of a node without a sidecar.
    Ecs,
    /// An operator.
    Declared(Declared),
}

/// All that one node's containers are joined to.
#[derive(Debug)]
pub(super) struct Join<'a> {
    pub(super) node: &'a NodeKey,
    pub(super) range: Ipv4Net,
    stated: &'a Stated,
    index: &'a Index,
    /// Names that its containers were given.
    pub(super) names: BTreeMap<&'a str, &'a NameRecord>,
    /// What neighbours met since the node fell silent.
    met: HashMap<SocketAddr, Neighbours>,
    absence: Option<&'a AbsenceRecord>,
}

/// What ECS has of one container.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Joined<'a> {
    /// Its task, and the record that holds it.
    pub(super) task: Option<(&'a EcsReport, &'a Task)>,
    /// The container itself.
    pub(super) container: Option<&'a ecs::Container>,
}

impl<'a> Join<'a> {
    /// What the containers of `node`, which is present like that, are joined to.
    pub(super) fn new(
        node: &'a NodeKey,
        presence: Option<&Presence>,
        (stated, index): (&'a Stated, &'a Index),
        range: Ipv4Net,
    ) -> Self {
        let first = (node.clone(), String::new());
        let of_node = stated.names.range(first..).take_while(|((of, _), _)| of == node);
        // What was met before the silence, or during another one, says nothing of this one.
        let silent_since_ms = presence.and_then(|presence| presence.silence.as_ref()).map(|silence| silence.since_ms);
        let probe = stated.probes.get(node).filter(|probe| silent_since_ms.is_some_and(|since| probe.at_ms >= since));
        let verdicts = probe.into_iter().flat_map(|probe| &probe.verdicts);
        Join {
            node,
            range,
            stated,
            index,
            names: of_node.map(|((_, id), record)| (id.as_str(), record.as_ref())).collect(),
            met: verdicts.map(|verdict| (verdict.place, verdict.word)).collect(),
            absence: stated.absences.get(node).map(AsRef::as_ref),
        }
    }

    /// Whether ECS is a witness for `cluster`.
    pub(super) fn is_used(&self, cluster: &Label) -> bool {
        self.stated.clusters.contains_key(cluster)
    }

    /// The one ECS service that tasks of `family` were seen to belong to.
    pub(super) fn only_service(&self, cluster: &Label, family: &Label) -> Option<&'a str> {
        let record = self.stated.families.get(&(cluster.clone(), family.clone()))?;
        let [only] = record.services.as_slice() else { return None };
        Some(only)
    }

    /// Whether a sidecar, of whichever node, reports the task.
    pub(super) fn is_reported(&self, task: &str) -> bool {
        !self.index.reporters(task).is_empty()
    }

    /// What ECS has of `container`; nothing when it is no witness for its cluster.
    pub(super) fn joined(&self, container: &ContainerReport) -> Joined<'a> {
        if !self.is_used(&container.cluster) {
            return Joined::default();
        }
        let task = match &container.task_id {
            Some(id) => self.task(&container.cluster, id),
            None => self.task_that_runs(&container.id),
        };
        let containers = || task.iter().flat_map(|(_, task)| &task.containers);
        let by_id = containers().find(|known| known.report.id == container.id);
        let by_name = || containers().find(|known| known.report.name == container.name);
        Joined { task, container: by_id.or_else(by_name) }
    }

    /// The task of that id. If two records hold it for a moment, because it is told elsewhere now, the newer version counts.
    fn task(&self, cluster: &Label, id: &str) -> Option<(&'a EcsReport, &'a Task)> {
        let records = self.index.records(id).iter().filter(|node| &node.cluster == cluster);
        let held = records.filter_map(|node| {
            let report: &'a EcsReport = self.stated.ecs.get(node)?;
            Some((report, in_order(report, id)?))
        });
        held.max_by_key(|(_, task)| task.version)
    }

    /// The task on this very instance that has the container, for one whose labels tell no task.
    fn task_that_runs(&self, container: &str) -> Option<(&'a EcsReport, &'a Task)> {
        let report: &'a EcsReport = self.stated.ecs.get(self.node)?;
        let has = |task: &&Task| task.containers.iter().any(|known| known.report.id == container);
        report.tasks.iter().find(has).map(|task| (report, task))
    }

    /// What all but the sidecar say of a container.
    pub(super) fn said(&self, container: &ContainerReport, joined: Joined<'_>, claimant: Claimant) -> Said {
        let is_listed = |id: &String| self.absence.is_some_and(|absence| absence.passed.contains(id));
        Said {
            claimant,
            ecs: self.ecs(container, joined),
            neighbours: Neighbours::NotKnown,
            operator: operator(self.stated, self.node, container.task_id.as_deref(), &container.id),
            may_go: container.task_id.as_ref().is_some_and(is_listed),
        }
    }

    fn ecs(&self, container: &ContainerReport, joined: Joined<'_>) -> Ecs {
        let status = |report: &EcsReport| report.instance.as_ref().map_or(InstanceStatus::Active, |i| i.status);
        if !self.is_used(&container.cluster) {
            return Ecs::NotUsed;
        }
        match joined.task {
            Some((report, task)) => status(report).over(task.word()),
            None => self.stated.ecs.get(self.node).map_or(Ecs::NotKnown, |report| status(report).over(Ecs::NotKnown)),
        }
    }

    /// What neighbours say of a port: that they connect if any of its places was reached, that they are refused if
    /// everything they know says so.
    pub(super) fn neighbours(&self, addresses: &[IpAddr], port: u16) -> Neighbours {
        let words = addresses.iter().filter_map(|address| self.met.get(&SocketAddr::new(*address, port)));
        words.fold(Neighbours::NotKnown, |so_far, word| match (so_far, word) {
            (Neighbours::Connect, _) | (_, Neighbours::Connect) => Neighbours::Connect,
            (Neighbours::Refused, _) | (_, Neighbours::Refused) => Neighbours::Refused,
            (Neighbours::NotKnown, Neighbours::NotKnown) => Neighbours::NotKnown,
        })
    }
}

/// Tasks stand in the order of their ids; one that does not is found all the same.
fn in_order<'a>(report: &'a EcsReport, id: &str) -> Option<&'a Task> {
    match report.tasks.binary_search_by(|task| task.id.as_str().cmp(id)) {
        Ok(place) => report.tasks.get(place),
        Err(_) => report.tasks.iter().find(|task| task.id == id),
    }
}

/// What operators ordered of a container. Out for good counts more than out for a while.
pub(super) fn operator(stated: &Stated, node: &NodeKey, task: Option<&str>, container: &str) -> Operator {
    orders(stated, node, task, container).fold(Operator::Nothing, |so_far, order| match (so_far, order.order) {
        (_, Order::Evict) | (Operator::Evicted, Order::Drain) => Operator::Evicted,
        (Operator::Nothing | Operator::Drained, Order::Drain) => Operator::Drained,
        // Said of services, not of what runs.
        (operator, Order::Unlink) => operator,
    })
}

/// The orders that are about a container.
pub(super) fn orders<'a>(
    stated: &'a Stated,
    node: &NodeKey,
    task: Option<&str>,
    container: &str,
) -> impl Iterator<Item = &'a OrderRecord> {
    let targets = if stated.orders.is_empty() {
        Vec::new()
    } else {
        let task = task.map(|id| Target::Task(id.to_owned()));
        [Some(Target::Node(node.clone())), task, Some(Target::Container(container.to_owned()))]
            .into_iter()
            .flatten()
            .collect()
    };
    targets.into_iter().filter_map(|target| stated.orders.get(&target)).map(AsRef::as_ref)
}
