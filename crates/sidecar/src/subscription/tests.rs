//! The subscription against directories and sets as a registry sends them.

use super::*;
use portolan_core::endpoint::{EndpointKey, Protocol, Run, State};
use portolan_core::name::Label;

fn name(service: &str) -> wire::ServiceName {
    wire::ServiceName { cluster: "prod".into(), service: service.into() }
}

fn key(service: &'static str) -> ServiceKey {
    ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed(service) }
}

fn directory(services: &[&str], is_confirmed: bool) -> wire::Directory {
    let listed = |service: &&str| wire::DirectoryService { name: Some(name(service)), link: None };
    let services = services.iter().map(listed).collect();
    wire::Directory {
        is_complete: true,
        index: 7,
        services,
        is_confirmed,
        epoch: "e".into(),
        ..wire::Directory::default()
    }
}

fn set(service: &'static str, ports: &[u16]) -> wire::ServiceSet {
    let node = NodeKey { cluster: Label::fixed("prod"), node: Label::fixed("i-1") };
    let endpoint = |port: &u16| Endpoint {
        key: EndpointKey {
            node: node.clone(),
            container_id: format!("{port}"),
            run: Run(1),
            container_port: 80,
            protocol: Protocol::Tcp,
        },
        state: State::Usable,
        addresses: vec!["10.0.0.1".parse().unwrap()],
        port: *port,
        port_name: None,
        container: Label::fixed("c"),
        task_id: None,
        az: None,
        weight: 1,
        is_service_port: true,
        tags: Vec::new(),
        meta: Vec::new(),
    };
    let endpoints = EndpointSet::Known(ports.iter().map(endpoint).collect());
    exchange::service_set_out(&Service { key: key(service), index: 8, link: None, endpoints })
}

fn known(subscription: &Subscription, service: &'static str) -> Option<Vec<u16>> {
    let service = subscription.view().service(&key(service))?;
    Some(service.known_endpoints()?.iter().map(|e| e.port).collect())
}

fn started() -> Subscription {
    let mut subscription = Subscription::default();
    subscription.connected();
    subscription.directory(directory(&["a", "b"], true));
    subscription.heartbeat(7);
    subscription.follow(&key("a"));
    subscription.set(&set("a", &[1, 2]));
    subscription
}

#[test]
fn becomes_current_with_the_directory_and_every_followed_set() {
    let mut subscription = started();
    assert_eq!(subscription.view().readiness, Readiness::Current);
    assert_eq!((known(&subscription, "a"), known(&subscription, "b")), (Some(vec![1, 2]), None));
    subscription.lost();
    assert_eq!(subscription.view().readiness, Readiness::Stale);
    subscription.connected();
    subscription.directory(directory(&["a", "b"], true));
    subscription.heartbeat(7);
    assert_eq!(subscription.view().readiness, Readiness::Stale, "the set of `a` is still awaited");
    subscription.set(&set("a", &[2]));
    subscription.heartbeat(7);
    assert_eq!((subscription.view().readiness, known(&subscription, "a")), (Readiness::Current, Some(vec![2])));
}

#[test]
fn a_registry_that_is_not_sure_removes_nothing() {
    let mut subscription = started();
    subscription.lost();
    subscription.connected();
    subscription.directory(directory(&[], false));
    subscription.set(&set("a", &[3]));
    subscription.heartbeat(7);
    assert_eq!(known(&subscription, "a"), Some(vec![1, 2, 3]));
    assert!(subscription.view().service(&key("b")).is_some());
    assert_eq!(subscription.view().readiness, Readiness::Stale);

    subscription.directory(directory(&["a"], true));
    subscription.set(&set("a", &[3]));
    subscription.heartbeat(8);
    assert_eq!(known(&subscription, "a"), Some(vec![3]));
    assert!(subscription.view().service(&key("b")).is_none());
    assert_eq!(subscription.view().readiness, Readiness::Current);
}

#[test]
fn a_difference_shows_in_the_digest() {
    let mut subscription = started();
    let services: Vec<_> = subscription.view().services.values().cloned().collect();
    let digest = wire::Digest {
        index: 7,
        directory: exchange::directory_digest(services.iter().map(AsRef::as_ref), std::iter::empty()),
        sets: exchange::sets_digest(services.iter().filter(|s| s.key == key("a")).map(AsRef::as_ref)),
    };
    assert!(subscription.agrees_with(&digest));
    subscription.set(&set("a", &[1]));
    assert!(!subscription.agrees_with(&digest));
}

#[test]
fn what_cannot_be_read_costs_only_itself() {
    let mut subscription = started();
    let mut bad = directory(&["c"], true);
    bad.is_complete = false;
    bad.services.insert(0, wire::DirectoryService { name: Some(name("not a label!")), link: None });
    bad.removed_services = vec![name(""), name("b")];
    subscription.directory(bad);
    assert!(subscription.view().service(&key("c")).is_some() && subscription.view().service(&key("b")).is_none());
    subscription.set(&wire::ServiceSet::default());
    subscription.set(&set("b", &[9]));
    assert_eq!(known(&subscription, "b"), None, "a set that was not followed is not taken");
}

#[test]
fn a_registry_with_another_store_removes_nothing_before_nodes_could_report_to_it() {
    let mut subscription = started();
    subscription.lost();
    subscription.connected();
    subscription.directory(wire::Directory { epoch: "other".into(), ..directory(&["c"], true) });
    subscription.set(&set("a", &[]));
    subscription.heartbeat(7);
    assert!(subscription.has_stranger());
    assert_eq!(known(&subscription, "a"), Some(vec![1, 2]));
    assert!(subscription.view().service(&key("b")).is_some() && subscription.view().service(&key("c")).is_some());
    assert_eq!((subscription.view().readiness, subscription.provenance().epoch.as_str()), (Readiness::Stale, "e"));

    subscription.believe_stranger();
    subscription.directory(wire::Directory { epoch: "other".into(), ..directory(&["a", "c"], true) });
    subscription.set(&set("a", &[2]));
    subscription.heartbeat(8);
    assert_eq!(known(&subscription, "a"), Some(vec![2]));
    assert!(subscription.view().service(&key("b")).is_none());
    let provenance = subscription.provenance();
    assert_eq!((subscription.view().readiness, provenance.epoch.as_str()), (Readiness::Current, "other"));
}

#[test]
fn knows_until_when_it_was_current_also_after_a_restart() {
    let mut subscription = started();
    subscription.heard(5);
    subscription.lost();
    subscription.heard(6);
    assert_eq!(subscription.provenance().current_at_ms, 5);
    let view = subscription.view().clone();
    let mut restarted = Subscription::from_snapshot((view, subscription.provenance().clone()));
    restarted.connected();
    restarted.directory(wire::Directory { epoch: "other".into(), ..directory(&[], true) });
    restarted.heartbeat(7);
    assert_eq!(known(&restarted, "a"), Some(vec![1, 2]), "the store that a snapshot is of is known");
}

#[test]
fn what_is_followed_no_longer_is_not_awaited() {
    let mut subscription = started();
    subscription.lost();
    subscription.connected();
    subscription.directory(directory(&["a", "b"], true));
    subscription.unfollow(&key("a"));
    subscription.heartbeat(7);
    assert_eq!(subscription.view().readiness, Readiness::Current);
}
