//! Container instances on which no sidecar spoke in time: there ECS alone says what runs.

use portolan_core::ecs::{Instance, InstanceStatus};

use crate::catalog::Catalog;
use crate::intake::statement::Statement;
use crate::store::evidence::AloneRecord;

/// How long a sidecar may take to speak after its instance was first heard of, milliseconds.
pub(super) const SIDECAR_WAIT_MS: u64 = 60_000;

/// Instances that are without a sidecar from now on.
pub(super) fn due(catalog: &Catalog, now_ms: u64) -> Vec<Statement> {
    let stated = &catalog.stated;
    let is_due = |instance: &Instance| {
        instance.status != InstanceStatus::Terminated
            && now_ms.saturating_sub(instance.first_seen_ms) >= SIDECAR_WAIT_MS
    };
    let instances = stated.ecs.iter().filter(|(_, report)| report.instance.as_ref().is_some_and(is_due));
    let without = instances.filter(|(node, _)| !has_sidecar(catalog, node) && !stated.alone.contains_key(*node));
    without.map(|(node, _)| Statement::Alone(node.clone(), Some(AloneRecord { since_ms: now_ms }))).collect()
}

/// Instances that have a sidecar by now, or are no longer told of.
pub(super) fn taken_back(catalog: &Catalog) -> Vec<Statement> {
    let stated = &catalog.stated;
    let is_over = |node: &&_| has_sidecar(catalog, node) || !stated.ecs.contains_key(*node);
    stated.alone.keys().filter(is_over).map(|node| Statement::Alone(node.clone(), None)).collect()
}

fn has_sidecar(catalog: &Catalog, node: &portolan_core::name::NodeKey) -> bool {
    catalog.nodes.get(node).is_some_and(|status| status.has_sidecar)
}
