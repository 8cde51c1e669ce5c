//! What ECS, neighbours and operators stated, decoded, by key: for joining it to endpoints, and for surfaces and jobs that
//! show it or act on it.

use std::sync::Arc;

use portolan_core::ecs::EcsReport;
use portolan_core::name::{Label, NodeKey, ServiceKey};
use serde::de::DeserializeOwned;

use super::Candidate;
use crate::store::evidence::{
    AbsenceRecord, AloneRecord, ClusterRecord, ExternalRecord, FamilyRecord, NameRecord, Order, OrderRecord,
    ProbeRecord, ResolvedRecord, ServiceRecord,
};
use crate::store::{Key, Target, record};

/// Records by their keys. Cloning shares what did not change.
type Records<K, V> = imbl::OrdMap<K, Arc<V>>;

/// Everything stated. A record that this version cannot read counts as one that is not there.
#[derive(Debug, Clone, Default)]
pub struct Stated {
    /// Clusters for which ECS is a witness.
    pub clusters: Records<Label, ClusterRecord>,
    /// What ECS says of container instances and their tasks.
    pub ecs: Records<NodeKey, EcsReport>,
    /// What ECS says of services.
    pub services: Records<ServiceKey, ServiceRecord>,
    /// Which services a family's tasks belong to, by cluster and family.
    pub families: Records<(Label, Label), FamilyRecord>,
    /// Names that were given, by node and container id.
    pub names: Records<(NodeKey, String), NameRecord>,
    /// Container instances without a sidecar.
    pub alone: Records<NodeKey, AloneRecord>,
    /// Missing tasks that may go.
    pub absences: Records<NodeKey, AbsenceRecord>,
    /// What neighbours met.
    pub probes: Records<NodeKey, ProbeRecord>,
    /// Declared endpoints.
    pub externals: Records<ServiceKey, ExternalRecord>,
    /// Where those are.
    pub resolved: Records<ServiceKey, ResolvedRecord>,
    /// Operators' orders.
    pub orders: Records<Target, OrderRecord>,
}

impl Stated {
    /// The order that counts for a candidate, the strongest of those about it, and what it was said of.
    pub fn order_about(&self, candidate: &Candidate) -> Option<(&Target, &OrderRecord)> {
        let key = &candidate.key;
        let task = candidate.task_id.clone().map(Target::Task);
        let targets = [Target::Container(key.container_id.clone()), Target::Node(key.node.clone())];
        let mut found = None;
        for target in task.iter().chain(&targets) {
            let Some((target, record)) = self.orders.get_key_value(target) else { continue };
            if record.order == Order::Evict {
                return Some((target, record));
            }
            found.get_or_insert((target, record.as_ref()));
        }
        found
    }

    /// Takes one write in. Whether that is news: not when it says what was said before, or is none of ours.
    pub(super) fn apply(&mut self, key: &Key, value: Option<&[u8]>) -> bool {
        match key {
            Key::Cluster(cluster) => put(&mut self.clusters, cluster.clone(), value),
            Key::Ecs(node) => put(&mut self.ecs, node.clone(), value),
            Key::Service(service) => put(&mut self.services, service.clone(), value),
            Key::Family(cluster, family) => put(&mut self.families, (cluster.clone(), family.clone()), value),
            Key::Name(node, container) => put(&mut self.names, (node.clone(), container.clone()), value),
            Key::Alone(node) => put(&mut self.alone, node.clone(), value),
            Key::Absence(node) => put(&mut self.absences, node.clone(), value),
            Key::Probe(node) => put(&mut self.probes, node.clone(), value),
            Key::External(service) => put(&mut self.externals, service.clone(), value),
            Key::Resolved(service) => put(&mut self.resolved, service.clone(), value),
            Key::Order(target) => put(&mut self.orders, target.clone(), value),
            Key::Node(_)
            | Key::Presence(_)
            | Key::Owner(_)
            | Key::Link(_)
            | Key::Address(_)
            | Key::Session
            | Key::Other(_) => false,
        }
    }
}

fn put<K: Ord + Clone, V: DeserializeOwned + PartialEq>(
    records: &mut Records<K, V>,
    key: K,
    value: Option<&[u8]>,
) -> bool {
    let Some(record) = value.and_then(record::decode::<V>) else { return records.remove(&key).is_some() };
    let is_news = records.get(&key).is_none_or(|known| **known != record);
    if is_news {
        records.insert(key, Arc::new(record));
    }
    is_news
}
