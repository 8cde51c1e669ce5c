//! A site: everything held of one node key, a node with a sidecar, a container instance without, or a part of the tasks
//! that run on none; and what follows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::Ipv4Net;
use portolan_core::ecs::{Container, EcsReport, Instance, InstanceStatus, Task};
use portolan_core::evidence::{ContainerReport, NodeReport};
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::refusal::Refusal;
use portolan_core::view::Node;
use portolan_proto::node_report;

use super::join::{Claimant, Join, Joined};
use super::naming::{self, Named, Told};
use super::needs::{NameNeeds, Recorded};
use super::stated::Stated;
use super::{NodeStatus, StoppedTask, announce, stopped};
use crate::store::record::Presence;

/// How many refusals are kept of one node.
const REFUSALS_MAX: usize = 200;

/// What is held of one node key.
#[derive(Debug, Default)]
pub(super) struct Site {
    pub(super) report: Option<Report>,
    pub(super) presence: Option<Recorded<Presence>>,
    pub(super) derived: Derived,
    /// Since when its containers wait for a name, Unix milliseconds.
    waiting_since: BTreeMap<String, u64>,
    /// When its report was kept, Unix milliseconds.
    pub(super) reported_at_ms: u64,
    /// When its report or presence changed, Unix milliseconds.
    pub(super) changed_at_ms: u64,
    /// When ECS last said something else of it, Unix milliseconds.
    pub(super) ecs_at_ms: u64,
}

/// A sidecar's report, decoded.
#[derive(Debug)]
pub(super) struct Report {
    /// All but its containers. `None`: it cannot be read, and counts as one that says nothing.
    about: Option<NodeReport>,
    containers: Vec<Arc<ContainerReport>>,
    left_out: Vec<Refusal>,
}

/// What follows of what is held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Derived {
    pub(super) named: Named,
    pub(super) stopped: BTreeMap<ServiceKey, Vec<StoppedTask>>,
    /// Container ids whose names are kept for nothing.
    pub(super) stale_names: Vec<String>,
}

impl Report {
    /// Reads what is kept of `node`.
    pub(super) fn read(node: &NodeKey, bytes: &[u8]) -> Report {
        match node_report::decode(bytes) {
            Ok(mut decoded) => {
                let containers = std::mem::take(&mut decoded.report.containers).into_iter().map(Arc::new).collect();
                Report { about: Some(decoded.report), containers, left_out: decoded.left_out }
            }
            Err(error) => {
                tracing::warn!(node = %node, "the report that is kept of node `{node}` cannot be read: {error}");
                let left_out = vec![Refusal::new("report", error.to_string())];
                Report { about: None, containers: Vec::new(), left_out }
            }
        }
    }

    /// The tasks that it tells of.
    pub(super) fn tasks(&self) -> BTreeSet<&str> {
        self.containers.iter().filter_map(|container| container.task_id.as_deref()).collect()
    }

    /// Whether it tells of the container.
    pub(super) fn has(&self, container: &str) -> bool {
        self.containers.iter().any(|known| known.id == container)
    }
}

impl Derived {
    /// Every service that is concerned.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.named.claims.keys().chain(self.stopped.keys())
    }

    /// Whether anything is said of `service`.
    pub(super) fn is_about(&self, service: &ServiceKey) -> bool {
        self.named.claims.contains_key(service) || self.stopped.contains_key(service)
    }

    /// Whether `service` is another one by this than by `other`.
    pub(super) fn differs(&self, other: &Derived, service: &ServiceKey) -> bool {
        self.named.claims.get(service) != other.named.claims.get(service)
            || self.stopped.get(service) != other.stopped.get(service)
    }
}

impl Site {
    /// What follows of the site, joined.
    pub(super) fn derive(&self, stated: &Stated, join: &Join<'_>) -> Derived {
        let ecs = stated.ecs.get(join.node).map(AsRef::as_ref);
        let before = &self.derived.named;
        let mut named = match (&self.report, ecs) {
            (Some(report), _) => naming::name(report.told(join), before, join),
            (None, Some(ecs)) if is_alone(stated, join.node, ecs) => naming::name(told(ecs, join), before, join),
            (None, _) => Named::default(),
        };
        named.refusals.splice(0..0, self.report.iter().flat_map(|report| report.left_out.iter().cloned()));
        named.refusals.truncate(REFUSALS_MAX);
        Derived {
            named,
            stopped: ecs.map(|ecs| stopped::of(ecs, join)).unwrap_or_default(),
            stale_names: self.stale_names(ecs, join),
        }
    }

    /// Names of containers that nobody tells of any more. While anything of a report cannot be read, nothing is stale.
    fn stale_names(&self, ecs: Option<&EcsReport>, join: &Join<'_>) -> Vec<String> {
        if self.report.as_ref().is_some_and(|report| report.about.is_none() || !report.left_out.is_empty()) {
            return Vec::new();
        }
        let containers = ecs.into_iter().flat_map(|ecs| &ecs.tasks).flat_map(|task| &task.containers);
        let of_ecs: BTreeSet<&str> = containers.map(|container| container.report.id.as_str()).collect();
        let reported = self.report.iter().flat_map(|report| &report.containers);
        let told: BTreeSet<&str> = reported.map(|container| container.id.as_str()).chain(of_ecs).collect();
        join.names.keys().filter(|id| !told.contains(*id)).map(|id| (*id).to_owned()).collect()
    }

    /// Takes what follows of it by now; what followed before. Whoever waits for a name does so since its report came.
    pub(super) fn replace(&mut self, derived: Derived) -> Derived {
        let waiting = derived.named.waiting.keys();
        let since = |id: &String| (id.clone(), self.waiting_since.get(id).copied().unwrap_or(self.reported_at_ms));
        self.waiting_since = waiting.map(since).collect();
        std::mem::replace(&mut self.derived, derived)
    }

    /// Whether nothing is held of it any more.
    pub(super) fn is_empty(&self) -> bool {
        self.report.is_none() && self.presence.is_none() && self.derived == Derived::default()
    }

    /// Names that should be stored.
    pub(super) fn name_needs(&self) -> Option<NameNeeds> {
        let named = &self.derived.named;
        let kept = named.to_keep.iter().map(|(id, record)| (id.clone(), record.clone()));
        let waiting = named
            .waiting
            .iter()
            .filter_map(|(id, fallback)| Some((id.clone(), *self.waiting_since.get(id)?, fallback.clone()?)));
        let reported = self.report.iter().flat_map(|report| &report.containers);
        let unnamed = reported.filter(|container| named.waiting.contains_key(&container.id));
        let tasks = unnamed.filter_map(|container| Some((container.cluster.clone(), container.task_id.clone()?)));
        let needs = NameNeeds { given: kept.collect(), waiting: waiting.collect(), tasks: tasks.collect() };
        (needs != NameNeeds::default()).then_some(needs)
    }

    /// What is shown and answered of it; `None` when it is no node.
    pub(super) fn node(&self, key: &NodeKey, stated: &Stated, range: Ipv4Net) -> Option<(NodeStatus, Node)> {
        let is_used = stated.clusters.contains_key(&key.cluster);
        let ecs = stated.ecs.get(key).filter(|_| is_used).map(AsRef::as_ref);
        let about = self.report.as_ref().and_then(|report| report.about.as_ref());
        let is_there = |instance: &&Instance| instance.status != InstanceStatus::Terminated;
        let instance = ecs.and_then(|ecs| Some((ecs, ecs.instance.as_ref().filter(is_there)?)));
        match (about, instance) {
            (Some(about), _) => Some(self.of_report(key, about, range)),
            (None, Some((ecs, instance))) => Some(self.of_instance(key, (ecs, instance), range)),
            (None, None) => None,
        }
    }

    fn of_report(&self, key: &NodeKey, about: &NodeReport, range: Ipv4Net) -> (NodeStatus, Node) {
        let (addresses, refusal) = announce::of_node(&about.addresses, range);
        let node = Node { key: key.clone(), host_name: about.host_name.clone(), addresses, az: about.az.clone() };
        let presence = self.presence.as_ref();
        let status = NodeStatus {
            version: about.version.clone(),
            boot_id: about.boot_id.clone(),
            session: about.session,
            generation: about.generation,
            speaking_since_ms: presence.map_or(0, |presence| presence.value.since_ms),
            silence: presence.and_then(|presence| presence.value.silence.clone()),
            presence_revision: presence.map(|presence| presence.revision),
            reported_at_ms: self.reported_at_ms,
            containers: self.report.as_ref().map_or(0, |report| report.containers.len()),
            refusals: refusal.into_iter().chain(self.derived.named.refusals.iter().cloned()).collect(),
            ..self.status(&node)
        };
        (status, node)
    }

    fn of_instance(
        &self,
        key: &NodeKey,
        (ecs, instance): (&EcsReport, &Instance),
        range: Ipv4Net,
    ) -> (NodeStatus, Node) {
        let (addresses, refusal) = announce::of_node(&instance.addresses, range);
        let node = Node { key: key.clone(), host_name: None, addresses, az: instance.az.clone() };
        let status = NodeStatus {
            reported_at_ms: instance.first_seen_ms,
            containers: ecs.tasks.iter().map(|task| task.containers.len()).sum(),
            refusals: refusal.into_iter().chain(self.derived.named.refusals.iter().cloned()).collect(),
            ..self.status(&node)
        };
        (status, node)
    }

    /// What is the same with a sidecar and without.
    fn status(&self, node: &Node) -> NodeStatus {
        NodeStatus {
            key: node.key.clone(),
            host_name: node.host_name.clone(),
            addresses: node.addresses.clone(),
            az: node.az.clone(),
            has_sidecar: self.report.is_some(),
            version: String::new(),
            boot_id: String::new(),
            session: 0,
            generation: 0,
            speaking_since_ms: 0,
            silence: None,
            presence_revision: None,
            reported_at_ms: 0,
            containers: 0,
            unnamed: self.derived.named.waiting.len(),
            refusals: Vec::new(),
        }
    }
}

impl Report {
    fn told<'a>(&'a self, join: &'a Join<'a>) -> impl Iterator<Item = Told<'a>> {
        let az: Option<Arc<str>> = self.about.as_ref().and_then(|about| about.az.as_deref()).map(Arc::from);
        self.containers.iter().map(move |container| Told {
            container: container.clone(),
            claimant: Claimant::Sidecar,
            joined: join.joined(container),
            az: az.clone(),
        })
    }
}

/// Whether ECS alone says what is there: no sidecar spoke there in time, or none ever will.
fn is_alone(stated: &Stated, node: &NodeKey, ecs: &EcsReport) -> bool {
    stated.clusters.contains_key(&node.cluster) && (ecs.instance.is_none() || stated.alone.contains_key(node))
}

/// What ECS alone tells of, but for what some sidecar reports.
fn told<'a>(ecs: &'a EcsReport, join: &'a Join<'a>) -> impl Iterator<Item = Told<'a>> {
    let of_instance: Option<Arc<str>> = ecs.instance.as_ref().and_then(|i| i.az.as_deref()).map(Arc::from);
    let unreported = ecs.tasks.iter().filter(|task| !join.is_reported(&task.id));
    unreported.flat_map(move |task| {
        let az = task.az.as_deref().map(Arc::from).or_else(|| of_instance.clone());
        task.containers.iter().map(move |container| Told {
            container: Arc::new(of_task(container, task)),
            claimant: Claimant::Ecs,
            joined: Joined { task: Some((ecs, task)), container: Some(container) },
            az: az.clone(),
        })
    })
}

/// The container's report, of its task whether it says so or not.
fn of_task(container: &Container, task: &Task) -> ContainerReport {
    let mut report = container.report.clone();
    report.task_id.get_or_insert_with(|| task.id.clone());
    report.task_arn.get_or_insert_with(|| task.arn.clone());
    report
}
