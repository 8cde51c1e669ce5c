//! A registry that goes and comes back, and owners that say yes, no or nothing meanwhile.

use std::net::IpAddr;

use portolan_core::endpoint::{Protocol, Run};
use portolan_core::name::{Label, ServiceKey};
use portolan_core::view::Node;

use super::*;

const JUST_NOW: Duration = Duration::ZERO;

fn node(name: &'static str) -> NodeKey {
    NodeKey { cluster: Label::fixed("prod"), node: Label::fixed(name) }
}

fn endpoint(number: u64, node: NodeKey, state: State) -> Endpoint {
    Endpoint {
        key: EndpointKey {
            node,
            container_id: format!("{number:064x}"),
            run: Run(number),
            container_port: 9200,
            protocol: Protocol::Tcp,
        },
        state,
        addresses: vec![IpAddr::from([10, 0, 0, 7])],
        port: 31_000,
        port_name: None,
        container: Label::fixed("main"),
        task_id: None,
        az: None,
        weight: 1,
        is_service_port: true,
        tags: Vec::new(),
        meta: Vec::new(),
    }
}

/// Endpoint 1 is here, 2 and 3 on `b`, 4 drains there, 5 is on a node that nobody knows, 6 starts on `b`.
fn view(readiness: Readiness) -> Arc<View> {
    let mut view = View { readiness, ..View::default() };
    for name in ["a", "b"] {
        view.insert_node(Arc::new(Node { key: node(name), host_name: None, addresses: Vec::new(), az: None }));
    }
    let endpoints = [
        endpoint(1, node("a"), State::Usable),
        endpoint(2, node("b"), State::Usable),
        endpoint(3, node("b"), State::Unverified(Standing::Vouched)),
        endpoint(4, node("b"), State::Draining { passed: true }),
        endpoint(5, node("external"), State::Usable),
        endpoint(6, node("b"), State::Starting),
    ];
    let key = ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed("db") };
    view.insert_service(Arc::new(Service {
        key,
        index: 1,
        link: None,
        endpoints: EndpointSet::Known(endpoints.into()),
    }));
    Arc::new(view)
}

fn states(view: &View) -> Vec<(u64, State)> {
    let endpoints = view.services.values().filter_map(|service| service.known_endpoints()).flat_map(|e| e.iter());
    endpoints.map(|endpoint| (endpoint.key.run.0, endpoint.state)).collect()
}

/// What became of endpoint 2.
fn second(ledger: &Ledger, now: Instant) -> Option<State> {
    let states = states(&ledger.apply(&view(Readiness::Stale), now));
    states.into_iter().find(|(number, _)| *number == 2).map(|(_, state)| state)
}

fn alone(now: Instant) -> Ledger {
    let mut ledger = Ledger::new(node("a"), 7);
    ledger.look(&view(Readiness::Stale), JUST_NOW, now);
    ledger
}

#[test]
fn with_a_registry_nothing_is_asked_and_nothing_changed() {
    let (mut ledger, view, now) = (Ledger::new(node("a"), 7), view(Readiness::Current), Instant::now());
    for seconds in [0, 60, 3_600] {
        let now = now + Duration::from_secs(seconds);
        ledger.look(&view, JUST_NOW, now);
        assert_eq!(ledger.due(&view, now), []);
        assert!(Arc::ptr_eq(&ledger.apply(&view, now), &view));
        assert_eq!(ledger.deadline(now), None);
    }
}

#[test]
fn a_lease_that_nobody_renews_ends_and_marks_what_it_was_of() {
    let now = Instant::now();
    let ledger = alone(now);
    let view = view(Readiness::Stale);
    assert!(Arc::ptr_eq(&ledger.apply(&view, now + LEASE - Duration::from_millis(1)), &view));
    assert_eq!(ledger.deadline(now), Some(now + LEASE));
    let last = State::Unverified(Standing::Last);
    let expected = [
        (1, State::Usable),
        (2, last),
        (3, last),
        (4, State::Draining { passed: true }),
        (5, State::Usable),
        (6, State::Starting),
    ];
    assert_eq!(states(&ledger.apply(&view, now + LEASE)), expected);
    assert_eq!(ledger.deadline(now + LEASE), None);
}

#[test]
fn owners_are_asked_when_the_registry_stays_away_and_again_before_a_lease_ends() {
    let (now, view) = (Instant::now(), view(Readiness::Stale));
    let mut ledger = alone(now);
    assert_eq!(ledger.due(&view, now + PATIENCE - Duration::from_millis(1)), []);
    let questions = ledger.due(&view, now + PATIENCE);
    let asked: Vec<_> = questions.iter().map(|q| (q.node.clone(), q.endpoints.len())).collect();
    assert_eq!(asked, [(node("b"), 3)], "one question to a node, about what leads there");
    assert_eq!(ledger.due(&view, now + PATIENCE + ASK_EVERY - Duration::from_millis(1)), []);
    let latest = now + PATIENCE + ASK_EVERY + Duration::from_millis(ASK_LATER_MS);
    assert_eq!(ledger.due(&view, latest).len(), 1);
}

#[test]
fn a_yes_renews_and_a_no_removes() {
    let (now, view) = (Instant::now(), view(Readiness::Stale));
    let mut ledger = alone(now);
    let asked_at = now + Duration::from_secs(20);
    let question = ledger.due(&view, asked_at).remove(0);
    ledger.answered(&question, Some(&[true, false, true]), asked_at);
    let at = |seconds: u64| now + Duration::from_secs(seconds);
    let numbers = |now| states(&ledger.apply(&view, now)).into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(numbers(at(20)), [1, 2, 4, 5, 6]);
    assert_eq!(second(&ledger, at(49)), Some(State::Usable), "a lease from when it was asked");
    assert_eq!(ledger.deadline(at(30)), Some(at(50)));
    assert_eq!(second(&ledger, at(50)), Some(State::Unverified(Standing::Last)));
    assert_eq!(numbers(at(50)), [1, 2, 4, 5, 6], "a no is for good");
    let again = ledger.due(&view, at(50)).remove(0);
    assert_eq!(again.endpoints.len(), 2, "it is not asked about again");
    // Nothing was said: nothing changes.
    ledger.answered(&again, None, at(50));
    assert_eq!(second(&ledger, at(50)), Some(State::Unverified(Standing::Last)));
}

#[test]
fn when_the_registry_is_back_its_word_counts_again() {
    let (now, stale) = (Instant::now(), view(Readiness::Stale));
    let mut ledger = alone(now);
    let asked_at = now + PATIENCE;
    let question = ledger.due(&stale, asked_at).remove(0);
    ledger.answered(&question, Some(&[false, false, false]), asked_at);
    assert_eq!(second(&ledger, asked_at), None);
    let current = view(Readiness::Current);
    ledger.look(&current, JUST_NOW, asked_at);
    assert!(Arc::ptr_eq(&ledger.apply(&current, asked_at), &current));
    // An answer that comes late is about a time that is over.
    ledger.answered(&question, Some(&[false, false, false]), asked_at);
    ledger.look(&stale, JUST_NOW, asked_at + PATIENCE);
    ledger.answered(&question, Some(&[false, false, false]), asked_at);
    assert_eq!(second(&ledger, asked_at + PATIENCE), Some(State::Usable));
}

#[test]
fn a_start_from_an_old_snapshot_begins_without_leases() {
    let (now, stale) = (Instant::now(), view(Readiness::Stale));
    for (age, expected) in
        [(10, State::Usable), (30, State::Unverified(Standing::Last)), (u64::MAX, State::Unverified(Standing::Last))]
    {
        let mut ledger = Ledger::new(node("a"), 7);
        ledger.look(&stale, Duration::from_secs(age), now);
        assert_eq!(second(&ledger, now), Some(expected), "{age} s");
    }
}

#[test]
fn a_question_is_about_a_thousand_endpoints_at_most() {
    let now = Instant::now();
    let mut many = View::clone(&view(Readiness::Stale));
    let key = ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed("many") };
    let endpoints = (0..PORTS_MAX as u64 + 50).map(|number| endpoint(number + 10, node("b"), State::Usable)).collect();
    many.insert_service(Arc::new(Service { key, index: 1, link: None, endpoints: EndpointSet::Known(endpoints) }));
    let mut ledger = alone(now);
    assert_eq!(ledger.due(&many, now + PATIENCE)[0].endpoints.len(), PORTS_MAX);
}
