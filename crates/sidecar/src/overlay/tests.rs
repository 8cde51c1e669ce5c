//! What a node makes of the registry's view, by what it sees itself.

use super::*;
use portolan_core::endpoint::{Protocol, Run};
use portolan_core::evidence::{Ending, Health, LinkWish, NameCandidates, Phase};
use portolan_core::name::Label;

fn node(name: &'static str) -> NodeKey {
    NodeKey { cluster: Label::fixed("prod"), node: Label::fixed(name) }
}

fn container(id: &str, phase: Phase, health: Health) -> ContainerReport {
    let port = PortReport {
        container_port: 9200,
        protocol: Protocol::Tcp,
        host_port: 32768,
        addresses: vec!["10.0.0.1".parse().unwrap()],
        name: None,
        registrator_name: None,
        health,
        is_dynamic: true,
    };
    ContainerReport {
        id: id.into(),
        run: Run(1),
        cluster: Label::fixed("prod"),
        candidates: NameCandidates { label: Some(Label::fixed("es")), ..NameCandidates::default() },
        name: Label::fixed("es"),
        task_arn: None,
        task_id: None,
        phase,
        ports: vec![port],
        link: LinkWish::default(),
        is_primary: false,
        tags: Vec::new(),
        meta: Vec::new(),
        weight: 1,
        refusals: Vec::new(),
        is_refused: false,
    }
}

/// A view in which service `es` has these containers, by node, each usable.
fn view(readiness: Readiness, containers: &[(&'static str, &str, State)]) -> View {
    let told = |(on, id, state): &(&'static str, &str, State)| {
        let container = container(id, Phase::Running, Health::Passing);
        endpoint(key_of(&node(on), &container, &container.ports[0]), *state, (&container, &container.ports[0]), None)
    };
    let key = ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed("es") };
    let endpoints = EndpointSet::Known(containers.iter().map(told).collect());
    let mut view = View { readiness, ..View::default() };
    view.insert_service(Arc::new(Service { key, index: 1, link: None, endpoints }));
    view
}

/// What service `es` has after the overlay: (node, container, state).
fn laid(view: &View, reports: &[ContainerReport]) -> Vec<(String, String, State)> {
    laid_since(view, reports, 0)
}

/// The same, with a view that was last current at `current_at_ms`.
fn laid_since(view: &View, reports: &[ContainerReport], current_at_ms: u64) -> Vec<(String, String, State)> {
    let out = overlay(view, Local { node: &node("here"), az: None, reports, current_at_ms });
    let Some(service) = out.services.values().next() else { return Vec::new() };
    let set = service.known_endpoints().expect("its set is known");
    set.iter().map(|e| (e.key.node.node.to_string(), e.key.container_id.clone(), e.state)).collect()
}

fn row(on: &str, id: &str, state: State) -> (String, String, State) {
    (on.to_owned(), id.to_owned(), state)
}

#[test]
fn own_deaths_and_failures_count_at_once_and_others_are_left_alone() {
    let told = view(
        Readiness::Current,
        &[("here", "a", State::Usable), ("here", "b", State::Usable), ("there", "c", State::Usable)],
    );
    let reports = [
        container("a", Phase::Died(Ending::default()), Health::Passing),
        container("b", Phase::Running, Health::Failing),
    ];
    assert_eq!(laid(&told, &reports), [row("here", "b", State::Unusable), row("there", "c", State::Usable)]);
    assert_eq!(laid(&told, &[]), [row("there", "c", State::Usable)], "what Docker no longer shows is gone");
}

#[test]
fn the_registry_may_drain_what_this_node_finds_well_and_no_more() {
    let draining = State::Draining { passed: true };
    let reports = [container("a", Phase::Running, Health::Passing)];
    for (told, expected) in [(draining, draining), (State::Starting, State::Usable), (State::Unusable, State::Usable)] {
        assert_eq!(laid(&view(Readiness::Current, &[("here", "a", told)]), &reports), [row("here", "a", expected)]);
    }
}

#[test]
fn new_containers_are_added_only_while_no_registry_is_in_reach() {
    let reports = [container("new", Phase::Running, Health::Passing)];
    let others = [("there", "c", State::Usable)];
    assert_eq!(laid(&view(Readiness::Current, &others), &reports), [row("there", "c", State::Usable)]);
    let expected = [row("here", "new", State::Usable), row("there", "c", State::Usable)];
    assert_eq!(laid(&view(Readiness::Stale, &others), &reports), expected);
}

#[test]
fn what_the_registry_left_out_while_it_spoke_is_not_added_when_it_is_gone() {
    // The name belongs to another owner, so the registry refused this one; only it knows.
    let foreign = container("foreign", Phase::Running, Health::Passing);
    let new = ContainerReport { run: Run(9_000_000_000), ..container("new", Phase::Running, Health::Passing) };
    let told = view(Readiness::Stale, &[("there", "c", State::Usable)]);
    let expected = [row("here", "new", State::Usable), row("there", "c", State::Usable)];
    assert_eq!(laid_since(&told, &[foreign.clone(), new], 10_000), expected);
    assert_eq!(laid_since(&View { readiness: Readiness::Stale, ..View::default() }, &[foreign], 10_000), []);
}

#[test]
fn refused_containers_are_never_added() {
    let refused = ContainerReport { is_refused: true, ..container("bad", Phase::Running, Health::Passing) };
    assert_eq!(laid(&view(Readiness::Stale, &[]), &[refused]), []);
}

#[test]
fn an_untouched_view_shares_its_services() {
    let told = view(Readiness::Current, &[("there", "c", State::Usable)]);
    let out = overlay(&told, Local { node: &node("here"), az: None, reports: &[], current_at_ms: 0 });
    assert!(Arc::ptr_eq(out.services.values().next().unwrap(), told.services.values().next().unwrap()));
}
