use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::*;
use crate::testing::{NOW_MS, World, container, report, service};

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
