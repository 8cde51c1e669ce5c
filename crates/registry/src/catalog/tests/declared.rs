//! Endpoints that operators declare.

use portolan_core::endpoint::Protocol;
use portolan_core::rules::{Declared, Sidecar};

use super::*;
use crate::store::Target;
use crate::store::evidence::{
    CheckState, ExternalEndpoint, ExternalRecord, Order, OrderRecord, ResolvedPlace, ResolvedRecord,
};
use crate::testing::NOW_MS;
use crate::testing::Statement;

fn endpoint(host: &str) -> ExternalEndpoint {
    ExternalEndpoint {
        host: host.to_owned(),
        port: 5_432,
        protocol: Protocol::Tcp,
        port_name: Some(label("sql")),
        weight: 3,
        az: Some("eu-west-1a".to_owned()),
    }
}

fn record(hosts: &[&str]) -> ExternalRecord {
    ExternalRecord {
        endpoints: hosts.iter().map(|host| endpoint(host)).collect(),
        check_every_ms: None,
        tags: vec!["primary".to_owned()],
        meta: Vec::new(),
        since_ms: NOW_MS,
    }
}

fn place(host: &str, address: &str, check: Option<CheckState>) -> ResolvedPlace {
    let address = address.parse().unwrap();
    ResolvedPlace { host: host.to_owned(), port: 5_432, protocol: Protocol::Tcp, address, check }
}

async fn declare(world: &mut World, record: Option<ExternalRecord>) {
    world.state(Statement::External(service("db"), record)).await;
}

async fn resolve(world: &mut World, places: Vec<ResolvedPlace>) {
    let found = ResolvedRecord { places, unresolved: Vec::new() };
    world.state(Statement::Resolved(service("db"), Some(found))).await;
}

#[tokio::test]
async fn answers_where_a_declared_host_is_and_as_its_check_says() {
    let mut world = World::new().await;
    let checked = ExternalRecord { check_every_ms: Some(5_000), ..record(&["db.example.com"]) };
    declare(&mut world, Some(checked)).await;
    assert_eq!(world.states("db").unwrap(), [""; 0], "known, and nowhere yet");
    let places = vec![
        place("db.example.com", "10.1.0.1", None),
        place("db.example.com", "10.1.0.2", Some(CheckState::Failing)),
        place("db.example.com", "10.1.0.3", Some(CheckState::Starting)),
        place("db.example.com", "10.1.0.4", Some(CheckState::Passing)),
        place("another.example.com", "10.1.0.5", None),
    ];
    resolve(&mut world, places).await;
    assert_eq!(world.states("db").unwrap(), ["usable", "unusable", "starting", "usable"]);
    let endpoints = world.catalog().service(&service("db")).unwrap().known_endpoints().cloned().unwrap();
    let first = &endpoints[0];
    assert_eq!(
        (first.key.node.clone(), first.key.container_id.as_str()),
        (node("external"), "db-example-com-10-1-0-1")
    );
    assert_eq!((first.port, first.key.container_port, first.weight), (5_432, 5_432, 3));
    assert_eq!((first.port_name.clone(), first.az.as_deref()), (Some(label("sql")), Some("eu-west-1a")));
    assert_eq!(first.tags, ["primary"]);
    declare(&mut world, Some(record(&["db.example.com"]))).await;
    assert_eq!(world.states("db").unwrap(), ["usable"; 4], "the check is no longer declared");
    declare(&mut world, None).await;
    assert_eq!(world.states("db").unwrap(), [""; 0]);
}

#[tokio::test]
async fn an_address_is_its_own_host() {
    let mut world = World::new().await;
    declare(&mut world, Some(record(&["10.1.0.1"]))).await;
    assert_eq!(world.states("db").unwrap(), ["usable"]);
    let checked = ExternalRecord { check_every_ms: Some(5_000), ..record(&["10.1.0.1", "10.1.0.1"]) };
    declare(&mut world, Some(checked)).await;
    assert_eq!(world.states("db").unwrap(), ["starting"]);
    resolve(&mut world, vec![place("10.1.0.1", "10.1.0.1", Some(CheckState::Passing))]).await;
    assert_eq!(world.states("db").unwrap(), ["usable"]);
    let explained = world.catalog().explained.get(&service("db")).cloned().unwrap();
    assert_eq!(explained.candidates[0].witnesses.sidecar, Sidecar::External(Declared::Passing));
}

#[tokio::test]
async fn refuses_addresses_that_may_not_be_announced() {
    let mut world = World::new().await;
    declare(&mut world, Some(record(&["169.254.169.254", "10.1.0.1"]))).await;
    assert_eq!(world.states("db").unwrap(), ["usable"]);
    let explained = world.catalog().explained.get(&service("db")).cloned().unwrap();
    assert_eq!(explained.candidates.iter().filter(|c| c.is_refused).count(), 1);
}

#[tokio::test]
async fn leaves_a_name_with_whoever_had_it_first() {
    let mut world = World::new().await;
    world.report(&report("i-1", vec![container("a", "db")])).await;
    declare(&mut world, Some(record(&["10.1.0.1"]))).await;
    let endpoints = world.catalog().service(&service("db")).unwrap().known_endpoints().cloned().unwrap();
    assert_eq!(endpoints.iter().map(|e| e.key.node.clone()).collect::<Vec<_>>(), [node("i-1")]);
    let explained = world.catalog().explained.get(&service("db")).cloned().unwrap();
    assert!(explained.refusals[0].reason.contains("an operator's declaration"), "{:?}", explained.refusals);

    let mut world = World::new().await;
    declare(&mut world, Some(record(&["not.found.yet"]))).await;
    world.report(&report("i-1", vec![container("a", "db")])).await;
    assert_eq!(world.states("db").unwrap(), [""; 0]);
    let explained = world.catalog().explained.get(&service("db")).cloned().unwrap();
    assert_eq!((explained.refusals.len(), explained.candidates[0].is_refused), (0, true));
    // Taken back, the name is the container's once it has waited.
    declare(&mut world, None).await;
    world.pass_the_time_that_names_are_held().await;
    assert_eq!(world.states("db").unwrap(), ["usable"]);
}

#[tokio::test]
async fn an_operator_takes_one_out() {
    let mut world = World::new().await;
    declare(&mut world, Some(record(&["10.1.0.1", "10.1.0.2"]))).await;
    let order = OrderRecord { order: Order::Evict, at_ms: NOW_MS, reason: String::new() };
    world.state(Statement::Order(Target::Container("10-1-0-2".to_owned()), Some(order))).await;
    assert_eq!(world.states("db").unwrap(), ["usable"]);
    let before = world.catalog();
    world.catalog.reload(world.store.as_ref()).await;
    assert_eq!(world.catalog().view, before.view);
}
