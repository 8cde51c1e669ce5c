//! What is forgotten after a time: services that are long empty, nodes that are long silent, names that nobody bears.

use portolan_core::ecs::InstanceStatus;
use portolan_core::name::NodeKey;
use portolan_core::selection::Rank;
use std::collections::BTreeSet;

use super::KEPT_MS;
use crate::catalog::{Catalog, NodeStatus};
use crate::store::record::{self, AddressRecord, Owner};
use crate::store::{Expectation, Key, Transaction};

/// How long a node whose instance ECS calls terminated stays known after its last word, milliseconds.
pub(crate) const TERMINATED_KEPT_MS: u64 = 3_600_000;
/// How many nodes are forgotten at one look.
const NODES_AT_ONCE: usize = 200;
/// How many names are forgotten in one transaction, and in how many at one look.
const NAMES_AT_ONCE: (usize, usize) = (256, 64);

/// Everything that is due to be forgotten.
pub(crate) fn expire(catalog: &Catalog, now_ms: u64) -> Vec<Transaction> {
    let mut due = services(catalog, now_ms);
    due.extend(nodes(catalog, now_ms));
    due.extend(names(catalog, now_ms));
    due
}

/// Services that have been empty for [`KEPT_MS`] are forgotten, and their addresses are free for others after as long
/// again.
fn services(catalog: &Catalog, now_ms: u64) -> Vec<Transaction> {
    let is_due = |owner: &Owner| owner.empty_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= KEPT_MS);
    let due = catalog.explained.iter().filter(|(_, explained)| explained.owner.as_ref().is_some_and(is_due));
    due.map(|(service, explained)| {
        let owner = explained.owner.as_ref().map(record::encode).unwrap_or_default();
        let key = Key::Owner(service.clone());
        let mut made = Transaction::at(now_ms)
            .expecting(Expectation::Holds(key.clone(), owner))
            .deleting(key)
            .deleting(Key::Link(service.clone()));
        if let Some(address) = explained.link.as_ref().and_then(|link| link.address) {
            let freed = AddressRecord { service: service.clone(), freed_at_ms: Some(now_ms) };
            made = made.putting(Key::Address(address), record::encode(&freed));
        }
        made
    })
    .collect()
}

/// Nodes whose sidecars have been silent for [`KEPT_MS`], or whose instance is terminated, and of which nothing is answered
/// any more.
fn nodes(catalog: &Catalog, now_ms: u64) -> Vec<Transaction> {
    let mut due: Vec<&NodeStatus> =
        catalog.nodes.values().map(AsRef::as_ref).filter(|node| is_due(catalog, node, now_ms)).collect();
    if due.is_empty() {
        return Vec::new();
    }
    let answered: BTreeSet<&NodeKey> = catalog
        .view
        .services
        .values()
        .filter_map(|service| service.known_endpoints())
        .flat_map(|endpoints| endpoints.iter())
        .filter(|endpoint| Rank::of(endpoint.state).is_some())
        .map(|endpoint| &endpoint.key.node)
        .collect();
    due.retain(|node| !answered.contains(&node.key));
    let forget = |node: &NodeStatus| {
        let key = Key::Presence(node.key.clone());
        // Whoever comes back writes its presence first.
        let expectation = Expectation::AtRevision(key.clone(), node.presence_revision?);
        let made = Transaction::at(now_ms).expecting(expectation).deleting(key).deleting(Key::Node(node.key.clone()));
        Some(made)
    };
    due.into_iter().filter_map(forget).take(NODES_AT_ONCE).collect()
}

fn is_due(catalog: &Catalog, node: &NodeStatus, now_ms: u64) -> bool {
    let Some(silence) = &node.silence else { return false };
    let instance = catalog.stated.ecs.get(&node.key).and_then(|report| report.instance.as_ref());
    let is_terminated = instance.is_some_and(|instance| instance.status == InstanceStatus::Terminated);
    let kept_ms = if is_terminated { TERMINATED_KEPT_MS } else { KEPT_MS };
    now_ms.saturating_sub(silence.since_ms) >= kept_ms
}

/// Names of containers that nobody tells of any more.
fn names(catalog: &Catalog, now_ms: u64) -> Vec<Transaction> {
    let (names_max, transactions_max) = NAMES_AT_ONCE;
    let chunks = catalog.stale_names.iter().flat_map(|(node, ids)| ids.chunks(names_max).map(move |ids| (node, ids)));
    let forget = |(node, ids): (&NodeKey, &[String])| {
        let keys = ids.iter().map(|id| Key::Name(node.clone(), id.clone()));
        keys.fold(Transaction::at(now_ms), Transaction::deleting)
    };
    chunks.take(transactions_max).map(forget).collect()
}
