use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use portolan_core::ecs::InstanceStatus;

use super::*;
use crate::store::record::Passage;
use crate::testing::ecs::instance;
use crate::testing::{NOW_MS, World, container, node, report, service};

fn small() -> Ipv4Net {
    "198.18.0.0/29".parse().unwrap()
}

/// A catalog in which `services` wait for their virtual addresses.
async fn waiting(services: usize) -> Catalog {
    let store = crate::store::memory::MemoryStore::new(NOW_MS);
    let containers = (0..services).map(|i| container(&i.to_string(), &format!("s{i}"))).collect();
    let bytes = portolan_proto::node_report::encode(&report("i-1", containers));
    let key = Key::Node(crate::testing::node("i-1"));
    store.commit(Transaction::at(NOW_MS).putting(key, bytes)).await.unwrap();
    crate::catalog::testing::Stepper::load(&store).await.catalog()
}

fn links(transactions: &[Transaction]) -> Vec<LinkRecord> {
    let puts = transactions.iter().flat_map(|t| &t.writes);
    let links = puts.filter_map(|write| match write {
        crate::store::Write::Put(Key::Link(_), value) => record::decode(value),
        _ => None,
    });
    links.collect()
}

#[tokio::test]
async fn gives_each_service_its_own_address_and_says_when_none_is_left() {
    let catalog = waiting(8).await;
    let links = links(&plan(&catalog, small(), NOW_MS));
    let given: BTreeSet<_> = links.iter().filter_map(|link| link.address).collect();
    assert_eq!((links.len(), given.len()), (8, 6));
    let without: Vec<_> = links.iter().filter(|link| link.address.is_none()).collect();
    assert!(without.iter().all(|l| (l.mode, l.decided_by) == (LinkMode::Direct, LinkDecision::Exhausted)));
}

#[tokio::test]
async fn gives_a_freed_address_to_another_last_and_after_thirty_days() {
    let mut catalog = waiting(6).await;
    let former: Ipv4Addr = "198.18.0.3".parse().unwrap();
    let freed = AddressRecord { service: service("other"), freed_at_ms: Some(NOW_MS) };
    catalog.addresses.insert(former, Recorded { revision: 1, value: freed });
    let early = links(&plan(&catalog, small(), NOW_MS + KEPT_MS - 1));
    assert!(early.iter().all(|link| link.address != Some(former)));
    let late = plan(&catalog, small(), NOW_MS + KEPT_MS);
    let last = late.last().unwrap();
    assert!(last.expectations.contains(&Expectation::AtRevision(Key::Address(former), 1)), "{last:?}");
    assert_eq!(links(&late).last().unwrap().address, Some(former));
}

#[tokio::test]
async fn two_stewards_cannot_give_one_address_twice() {
    let mut world = World::new().await;
    world.report(&report("i-1", vec![])).await;
    let catalog = waiting(1).await;
    let planned = plan(&catalog, small(), NOW_MS);
    let store = crate::store::memory::MemoryStore::new(NOW_MS);
    store.commit(planned[0].clone()).await.unwrap();
    assert!(matches!(store.commit(planned[0].clone()).await, Err(CommitError::Conflict(_))));
}

/// A node with one container, silent since now, whose instance has this status.
async fn silent(status: InstanceStatus) -> World {
    let mut world = World::new().await;
    world.with_ecs("i-1", instance("i-1", status, vec![])).await;
    world.report(&report("i-1", vec![container("a", "web")])).await;
    world.report(&report("i-2", vec![])).await;
    world.silence(&node("i-1"), Some(Passage { at_ms: NOW_MS, held: vec![] })).await;
    world
}

#[tokio::test]
async fn forgets_nodes_that_are_long_silent() {
    for (status, kept_ms) in
        [(InstanceStatus::Terminated, super::expire::TERMINATED_KEPT_MS), (InstanceStatus::Active, KEPT_MS)]
    {
        let mut world = silent(status).await;
        world.pass(kept_ms - 1).await;
        world.expire().await;
        assert_eq!(world.catalog().nodes.get(&node("i-1")).map(|n| n.has_sidecar), Some(true), "{status:?}");
        world.pass(1).await;
        world.expire().await;
        assert!(world.catalog().nodes.get(&node("i-1")).is_none_or(|n| !n.has_sidecar), "{status:?}");
        assert!(world.catalog().nodes.get(&node("i-2")).is_some_and(|n| n.has_sidecar), "it speaks");
    }
}

#[tokio::test]
async fn forgets_no_node_of_which_something_is_answered_or_that_came_back() {
    let mut world = silent(InstanceStatus::Active).await;
    world.silence(&node("i-1"), Some(Passage { at_ms: NOW_MS, held: vec![service("web")] })).await;
    world.pass(KEPT_MS).await;
    assert_eq!(world.states("web").unwrap(), ["unverified"]);
    let is_about =
        |made: &Transaction| made.writes.iter().any(|w| matches!(w, crate::store::Write::Delete(Key::Node(_))));
    assert!(!expire(&world.catalog(), NOW_MS + KEPT_MS).iter().any(is_about));
    world.silence(&node("i-1"), Some(Passage { at_ms: NOW_MS, held: vec![] })).await;
    let planned = expire(&world.catalog(), NOW_MS + 2 * KEPT_MS).into_iter().find(is_about).unwrap();
    world.report(&report("i-1", vec![])).await;
    assert!(matches!(world.store.commit(planned).await, Err(CommitError::Conflict(_))));
}
