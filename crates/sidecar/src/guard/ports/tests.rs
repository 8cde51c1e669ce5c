//! Deaths, takers, releases and time, and random orders of them.

use std::slice::from_ref;

use portolan_core::endpoint::Protocol;
use portolan_core::evidence::{Ending, LinkWish, NameCandidates};
use portolan_core::name::Label;
use proptest::prelude::*;

use super::*;

const GUARD: Duration = Duration::from_secs(60);
const PORT: u16 = 31_001;

fn ports() -> Ports {
    let node = NodeKey { cluster: Label::fixed("prod"), node: Label::fixed("a") };
    Ports::new(GUARD, &View::default(), &node)
}

fn at(port: u16) -> HostPort {
    HostPort { protocol: Protocol::Tcp, port }
}

/// A running container of a service that its label names, passing.
fn container(id: u64, service: &str) -> ContainerReport {
    ContainerReport {
        id: format!("{id:064x}"),
        run: Run(id),
        cluster: Label::fixed("prod"),
        candidates: NameCandidates { label: Label::parse(service).ok(), ..NameCandidates::default() },
        name: Label::fixed("main"),
        task_arn: None,
        task_id: None,
        phase: Phase::Running,
        ports: vec![PortReport {
            container_port: 9200,
            protocol: Protocol::Tcp,
            host_port: PORT,
            addresses: vec!["10.0.0.7".parse().unwrap()],
            name: None,
            registrator_name: None,
            health: Health::Passing,
            is_dynamic: false,
        }],
        link: LinkWish::default(),
        is_primary: false,
        tags: Vec::new(),
        meta: Vec::new(),
        weight: 1,
        refusals: Vec::new(),
        is_refused: false,
    }
}

/// Of an ECS task: only the registry knows its service.
fn task(id: u64, family: &str) -> ContainerReport {
    let candidates = NameCandidates { family: Label::parse(family).ok(), ..NameCandidates::default() };
    ContainerReport { candidates, task_arn: Some("arn".to_owned()), ..container(id, "x") }
}

fn starting(mut report: ContainerReport) -> ContainerReport {
    report.ports[0].health = Health::Starting;
    report
}

fn dead(report: &ContainerReport) -> ContainerReport {
    ContainerReport { phase: Phase::Died(Ending::default()), ..report.clone() }
}

fn released(of: &ContainerReport, heir: Option<&ContainerReport>) -> Released {
    let (container_id, run) = (of.id.clone(), of.run);
    let heir = heir.map(|heir| Heir { container_id: heir.id.clone(), run: heir.run });
    Released { container_id, run, container_port: 9200, protocol: Protocol::Tcp, heir }
}

fn is_closed(ports: &Ports) -> bool {
    ports.closed().contains_key(&at(PORT))
}

/// What other nodes are told of the health of `report`, and how many refusals stand beside it.
fn told(ports: &Ports, report: &ContainerReport) -> (Health, usize) {
    let mut reports = [report.clone()];
    ports.hold(&mut reports);
    (reports[0].ports[0].health, reports[0].refusals.len())
}

#[test]
fn a_death_closes_the_port_until_the_time_is_over() {
    let (mut ports, now) = (ports(), Instant::now());
    let (red, blue) = (container(1, "red"), container(2, "blue"));
    assert_eq!(ports.look(from_ref(&red), now), Changes::default());
    let changes = ports.look(&[dead(&red)], now);
    assert_eq!((changes.closed, changes.opened.len()), (vec![at(PORT)], 0));
    assert_eq!(ports.look(&[dead(&red), blue.clone()], now), Changes::default(), "the next owner opens nothing");
    assert_eq!(told(&ports, &blue), (Health::Starting, 1));
    let mut held = [blue.clone()];
    ports.hold(&mut held);
    let expected = format!(
        "host port 31001 is closed to other hosts for the moment: it belonged to {}",
        ports.closed()[&at(PORT)].was.service
    );
    assert_eq!(held[0].refusals, [Refusal::new("port 9200/tcp", expected)]);
    assert_eq!(ports.deadline(), Some(now + GUARD));
    assert_eq!(ports.expire(now + GUARD - Duration::from_millis(1)), []);
    assert_eq!(ports.expire(now + GUARD), [(at(PORT), Opening::Expired)]);
    assert_eq!((told(&ports, &blue), ports.deadline()), ((Health::Passing, 0), None));
}

#[test]
fn the_same_service_has_it_at_once() {
    let (mut ports, now) = (ports(), Instant::now());
    let (old, new) = (container(1, "red"), container(2, "red"));
    ports.look(from_ref(&old), now);
    // Seen together: it never was closed.
    assert_eq!(ports.look(&[dead(&old), new.clone()], now), Changes::default());
    ports.look(&[dead(&new)], now);
    assert!(is_closed(&ports));
    let changes = ports.look(&[starting(container(3, "red"))], now);
    assert_eq!(changes.opened, [(at(PORT), Opening::SameService)]);
    assert!(!is_closed(&ports));
}

#[test]
fn a_service_that_only_the_registry_knows_waits_for_its_word() {
    let (mut ports, now) = (ports(), Instant::now());
    let (old, new) = (task(1, "web"), task(2, "web"));
    ports.look(from_ref(&old), now);
    let changes = ports.look(&[dead(&old), new.clone()], now);
    assert_eq!(changes.closed, [at(PORT)], "two services of one family are two services");
    ports.release(&[released(&new, Some(&new)), released(&container(9, "x"), Some(&new))], now);
    assert_eq!(ports.look(from_ref(&new), now), Changes::default(), "that is about others");
    ports.release(&[released(&old, Some(&new))], now);
    let other = task(3, "web");
    assert_eq!(ports.look(&[dead(&new), other], now), Changes::default(), "that one is not the heir");
    assert_eq!(ports.look(&[new], now).opened, [(at(PORT), Opening::SameService)]);
    assert_eq!(ports.deadline(), None);
}

#[test]
fn released_ports_wait_for_caches() {
    let (mut ports, now) = (ports(), Instant::now());
    let red = container(1, "red");
    ports.look(from_ref(&red), now);
    ports.look(&[], now);
    ports.release(&[released(&red, None)], now);
    assert_eq!(ports.expire(now), []);
    ports.release(&[released(&red, None)], now + LINGER / 2);
    assert_eq!(ports.expire(now + LINGER), [(at(PORT), Opening::Released)], "told twice is not told later");
    // Too late to shorten anything.
    ports.look(from_ref(&red), now);
    ports.look(&[], now);
    ports.release(&[released(&red, None)], now + GUARD - LINGER / 2);
    assert_eq!(ports.expire(now + GUARD), [(at(PORT), Opening::Expired)]);
}

#[test]
fn what_nobody_was_led_to_needs_no_guard() {
    let now = Instant::now();
    let mut refused = container(1, "red");
    refused.is_refused = true;
    let mut portless = container(1, "red");
    portless.ports[0].host_port = 0;
    for nobodys in [starting(container(1, "red")), refused, portless, dead(&container(1, "red"))] {
        let mut ports = ports();
        ports.look(from_ref(&nobodys), now);
        assert_eq!(ports.look(&[], now), Changes::default(), "{nobodys:?}");
    }
    // It had passed once, and lately did not.
    let mut ports = ports();
    ports.look(&[container(1, "red")], now);
    ports.look(&[starting(container(1, "red"))], now);
    assert_eq!(ports.look(&[], now).closed, [at(PORT)]);
}

#[test]
fn who_waited_for_a_port_and_died_changes_nothing() {
    let (mut ports, now) = (ports(), Instant::now());
    let (red, blue) = (container(1, "red"), container(2, "blue"));
    ports.look(from_ref(&red), now);
    ports.look(from_ref(&blue), now);
    assert_eq!(ports.look(&[], now + GUARD / 2), Changes::default());
    assert_eq!(ports.closed()[&at(PORT)].was.service.service, Label::fixed("red"));
    ports.look(from_ref(&blue), now + GUARD / 2);
    ports.expire(now + GUARD);
    ports.look(&[blue], now + GUARD);
    assert_eq!(ports.look(&[], now + GUARD).closed, [at(PORT)], "now it was announced");
}

#[test]
fn a_port_that_is_shared_is_nobodys_in_particular() {
    let (mut ports, now) = (ports(), Instant::now());
    let (red, blue) = (container(1, "red"), container(2, "blue"));
    ports.look(&[red.clone(), blue.clone()], now);
    assert_eq!(ports.look(&[blue], now), Changes::default());
    assert_eq!(ports.look(&[], now).closed, [at(PORT)]);
}

#[test]
fn a_port_that_moves_without_a_death_is_closed_too() {
    let (mut ports, now) = (ports(), Instant::now());
    let mut red = container(1, "red");
    ports.look(from_ref(&red), now);
    red.ports[0].host_port = 31_002;
    assert_eq!(ports.look(&[red], now).closed, [at(PORT)]);
}

#[test]
fn too_many_leave_the_oldest_closed() {
    let (mut ports, now) = (ports(), Instant::now());
    let many: Vec<_> = (0..CLOSED_MAX as u64 + 10)
        .map(|number| {
            let mut report = container(number + 1, "red");
            report.ports[0].host_port = 10_000 + number as u16;
            report
        })
        .collect();
    ports.look(&many, now);
    ports.look(&many[100..], now);
    let changes = ports.look(&[], now);
    assert_eq!((ports.closed().len(), changes.closed.len(), changes.left_open), (CLOSED_MAX, CLOSED_MAX - 100, 10));
    assert!((0..100).all(|number| ports.closed().contains_key(&at(10_000 + number))));
}

#[test]
fn an_earlier_run_is_gone_on_with() {
    let now = Instant::now();
    let red = container(1, "red");
    let mut before = ports();
    before.look(from_ref(&red), now);
    before.look(&[], now);
    let left = before.closed().iter().map(|(at, closed)| (*at, crate::guard::note::write(&closed.was), GUARD / 2));
    let mut ports = ports();
    let known = left.filter_map(|(at, note, left)| Some((at, crate::guard::note::read(&note)?, left)));
    ports.restore(known, now);
    assert_eq!(ports.look(&[container(2, "blue")], now), Changes::default());
    assert_eq!(told(&ports, &container(2, "blue")).0, Health::Starting);
    ports.release(&[released(&red, None)], now);
    assert_eq!(ports.expire(now + LINGER), [(at(PORT), Opening::Released)]);
}

#[test]
fn a_death_that_nobody_saw_closes_what_the_view_knew() {
    use portolan_core::endpoint::{Endpoint, EndpointKey};
    use portolan_core::view::{EndpointSet, Service};
    use std::sync::Arc;

    let node = NodeKey { cluster: Label::fixed("prod"), node: Label::fixed("a") };
    let endpoint = |number: u64, node: &NodeKey, state: State| Endpoint {
        key: EndpointKey {
            node: node.clone(),
            container_id: format!("{number:064x}"),
            run: Run(number),
            container_port: 9200,
            protocol: Protocol::Tcp,
        },
        state,
        addresses: Vec::new(),
        port: 31_000 + number as u16,
        port_name: None,
        container: Label::fixed("main"),
        task_id: None,
        az: None,
        weight: 1,
        is_service_port: true,
        tags: Vec::new(),
        meta: Vec::new(),
    };
    let other = NodeKey { cluster: Label::fixed("prod"), node: Label::fixed("b") };
    let endpoints = [
        endpoint(1, &node, State::Usable),
        endpoint(2, &node, State::Starting),
        endpoint(3, &node, State::Unusable),
        endpoint(4, &other, State::Usable),
    ];
    let key = ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed("red") };
    let mut view = View::default();
    view.insert_service(Arc::new(Service {
        key,
        index: 1,
        link: None,
        endpoints: EndpointSet::Known(endpoints.into()),
    }));
    let mut ports = Ports::new(GUARD, &view, &node);
    let changes = ports.look(&[container(1, "red")], Instant::now());
    assert_eq!(changes.closed, [at(31_003)], "the first lives, the second was never announced, the fourth is not here");
}

/// One step of a random history of one port.
#[derive(Debug, Clone)]
enum Step {
    /// A container of one of three services takes the port; whoever had it is dead.
    Take(usize),
    Die,
    Release,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![(0..3usize).prop_map(Step::Take), Just(Step::Die), Just(Step::Release), (0..40u64).prop_map(Step::Pass)]
}

proptest! {
    /// Whoever was announced last at the port: nobody of another service is announced there before it was released and the
    /// caches had their time, or the time was over.
    #[test]
    fn another_service_is_never_announced_too_early(steps in proptest::collection::vec(step(), 1..60)) {
        let names = ["red", "blue", "green"];
        let (mut ports, mut now, mut id) = (ports(), Instant::now(), 0);
        let mut here: Option<ContainerReport> = None;
        // The last that was announced, when it went, and when it was released.
        let mut last: Option<(ContainerReport, Option<Instant>, Option<Instant>)> = None;
        for step in steps {
            match step {
                Step::Take(service) => {
                    id += 1;
                    here = Some(container(id, names[service]));
                }
                Step::Die => here = None,
                Step::Release => if let Some((of, Some(_), known)) = &mut last {
                    ports.release(&[released(of, None)], now);
                    known.get_or_insert(now);
                },
                Step::Pass(seconds) => now += Duration::from_secs(seconds),
            }
            if let Some((of, gone @ None, _)) = &mut last
                && here.as_ref().is_none_or(|here| here.id != of.id)
            {
                *gone = Some(now);
            }
            ports.expire(now);
            ports.look(here.as_slice(), now);
            let Some(here) = &here else { continue };
            if told(&ports, here).0 != Health::Passing {
                prop_assert!(last.is_some(), "held for nobody's sake");
                continue;
            }
            if let Some((of, Some(gone), known)) = &last {
                let is_same = of.candidates == here.candidates;
                let is_over = now >= *gone + GUARD || known.is_some_and(|known| now >= known + LINGER);
                prop_assert!(is_same || is_over, "{here:?} after {of:?}");
            }
            if last.as_ref().is_none_or(|(of, ..)| of.id != here.id) {
                last = Some((here.clone(), None, None));
            }
        }
    }
}
