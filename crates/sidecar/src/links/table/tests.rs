use std::net::SocketAddrV4;

use portolan_core::endpoint::{EndpointKey, Run, State};
use portolan_core::name::{Label, NodeKey};
use portolan_core::view::{Link as ServiceLink, LinkMode};

use super::super::{KernelSettings, LinkLimits};
use super::*;

fn settings() -> LinkSettings {
    LinkSettings {
        range: "198.18.0.0/16".parse().unwrap(),
        relay: SocketAddrV4::new(Ipv4Addr::new(169, 254, 53, 53), 0),
        limits: LinkLimits::default(),
        kernel: KernelSettings::default(),
        node: None,
        az: None,
    }
}

fn service(name: &'static str, address: [u8; 4], endpoints: EndpointSet) -> Arc<Service> {
    let port = |port, protocol| LinkPort { port, container_port: 8080, protocol };
    let ports = vec![port(80, Protocol::Tcp), port(80, Protocol::Udp), port(82, Protocol::Tcp)];
    let link = ServiceLink { address: address.into(), mode: LinkMode::Vip, ports, plane: None };
    let key = ServiceKey { cluster: Label::fixed("test"), service: Label::fixed(name) };
    Arc::new(Service { key, index: 1, link: Some(link), endpoints })
}

/// Each port speaks both.
fn known(states: &[(u16, State)]) -> EndpointSet {
    let both = |state: &(u16, State)| [(*state, Protocol::Tcp), (*state, Protocol::Udp)];
    let endpoint = |((port, state), protocol): ((u16, State), Protocol)| Endpoint {
        key: EndpointKey {
            node: NodeKey { cluster: Label::fixed("test"), node: Label::fixed("n") },
            container_id: format!("{port:064x}"),
            run: Run(1),
            container_port: 8080,
            protocol,
        },
        state,
        addresses: vec![[10, 0, 0, 1].into()],
        port,
        port_name: None,
        container: Label::fixed("c"),
        task_id: None,
        az: None,
        weight: 1,
        is_service_port: true,
        tags: Vec::new(),
        meta: Vec::new(),
    };
    EndpointSet::Known(states.iter().flat_map(both).map(endpoint).collect())
}

fn open(table: &Table) -> Vec<String> {
    let open = |protocol| table.open(protocol).into_iter().map(move |address| (address, protocol));
    sorted(open(Protocol::Tcp).chain(open(Protocol::Udp)))
}

fn view(services: &[Arc<Service>]) -> View {
    let mut view = View::default();
    services.iter().for_each(|service| view.insert_service(service.clone()));
    view
}

fn sorted(places: impl IntoIterator<Item = Place>) -> Vec<String> {
    let text = |((ip, port), protocol): Place| format!("{ip}:{port}/{}", protocol.as_str());
    let mut texts: Vec<String> = places.into_iter().map(text).collect();
    texts.sort();
    texts.dedup();
    texts
}

#[test]
fn a_link_is_open_while_its_endpoints_are_unknown_or_one_may_be_chosen() {
    let check = |endpoints: EndpointSet, expected: bool| {
        let (table, _) = Table::default()
            .next(&view(&[service("a", [198, 18, 0, 1], endpoints.clone())]), (&settings(), Instant::now()));
        let open = open(&table);
        assert_eq!(open == ["198.18.0.1:80/tcp", "198.18.0.1:80/udp", "198.18.0.1:82/tcp"], expected, "{endpoints:?}");
        assert_eq!(open.is_empty(), !expected, "{endpoints:?}");
    };
    check(EndpointSet::Unfollowed, true);
    check(known(&[]), false);
    for state in [State::Usable, State::Unusable, State::Draining { passed: true }, State::Draining { passed: false }] {
        check(known(&[(9000, state)]), true);
    }
    for state in [State::Starting, State::Gone] {
        check(known(&[(9000, state)]), false);
    }
    check(known(&[(0, State::Usable)]), false);
}

#[test]
fn only_what_changed_is_touched() {
    let (a, b) = (service("a", [198, 18, 0, 1], known(&[])), service("b", [198, 18, 0, 2], known(&[])));
    let (first, touched) = Table::default().next(&view(&[a.clone(), b.clone()]), (&settings(), Instant::now()));
    assert_eq!(touched.len(), 6);
    let (same, touched) = first.next(&view(&[a.clone(), b.clone()]), (&settings(), Instant::now()));
    assert!(touched.is_empty(), "{touched:?}");
    let moved = service("a", [198, 18, 0, 9], known(&[(9000, State::Usable)]));
    let (next, touched) = same.next(&view(&[moved, b]), (&settings(), Instant::now()));
    let both = |address: &str| ["80/tcp", "80/udp", "82/tcp"].map(|port| format!("{address}:{port}"));
    assert_eq!(sorted(touched), [both("198.18.0.1"), both("198.18.0.9")].concat());
    assert_eq!(open(&next), both("198.18.0.9"));
    let (empty, touched) = next.next(&view(&[]), (&settings(), Instant::now()));
    assert_eq!(touched.len(), 6);
    assert!(empty.ports.is_empty() && empty.services.is_empty());
}

#[test]
fn one_address_is_never_two_services() {
    let a = service("a", [198, 18, 0, 1], known(&[(9000, State::Usable)]));
    let b = service("b", [198, 18, 0, 1], known(&[(9001, State::Usable)]));
    let (table, _) = Table::default().next(&view(std::slice::from_ref(&a)), (&settings(), Instant::now()));
    let (table, _) = table.next(&view(&[a.clone(), b.clone()]), (&settings(), Instant::now()));
    let at = ((Ipv4Addr::new(198, 18, 0, 1), 80), Protocol::Tcp);
    assert_eq!(table.link(at).unwrap().key, a.key);
    let (table, touched) = table.next(&view(std::slice::from_ref(&b)), (&settings(), Instant::now()));
    assert_eq!(table.link(at).unwrap().key, b.key, "the other has it once it is free");
    assert!(touched.contains(&at));
}

#[test]
fn addresses_that_change_hands_in_one_step_lead_to_their_new_services() {
    let of = |name, last| service(name, [198, 18, 0, last], known(&[(9000, State::Usable)]));
    let (before, _) =
        Table::default().next(&view(&[of("a", 1), of("b", 2), of("z", 3)]), (&settings(), Instant::now()));
    let (after, _) = before.next(&view(&[of("a", 2), of("b", 1), of("new", 3)]), (&settings(), Instant::now()));
    for (last, name) in [(1, "b"), (2, "a"), (3, "new")] {
        let link = after.link(((Ipv4Addr::new(198, 18, 0, last), 80), Protocol::Tcp));
        assert_eq!(link.map(|link| link.key.service.as_str()), Some(name));
    }
}

#[test]
fn an_address_outside_the_range_is_no_link() {
    let (table, _) =
        Table::default().next(&view(&[service("a", [10, 0, 0, 1], known(&[]))]), (&settings(), Instant::now()));
    assert!(table.ports.is_empty());
}

fn experience(table: &Table, address: [u8; 4], port: u16) -> Arc<Experience> {
    experience_of(table, address, (port, Protocol::Tcp))
}

fn experience_of(table: &Table, address: [u8; 4], (port, protocol): (u16, Protocol)) -> Arc<Experience> {
    match &table.link(((address.into(), port), protocol)).unwrap().targets {
        Targets::Known(targets) => targets[0].endpoint.clone(),
        Targets::Unknown => panic!("its endpoints are known"),
    }
}

#[test]
fn what_was_met_with_an_endpoint_outlives_views_and_is_one_for_all_ports() {
    let at = [198, 18, 0, 1];
    let next = |table: &Table, service: Arc<Service>| table.next(&view(&[service]), (&settings(), Instant::now())).0;
    let first = next(&Table::default(), service("a", at, known(&[(9000, State::Usable)])));
    let met = experience(&first, at, 80);
    assert!(Arc::ptr_eq(&met, &experience(&first, at, 82)), "two ports, one endpoint");
    let second = next(&first, service("a", at, known(&[(9000, State::Unusable), (9001, State::Starting)])));
    assert!(Arc::ptr_eq(&met, &experience(&second, at, 80)), "another state, the same endpoint");
    let udp = [&first, &second].map(|table| experience_of(table, at, (80, Protocol::Udp)));
    assert!(Arc::ptr_eq(&udp[0], &udp[1]) && !Arc::ptr_eq(&udp[0], &met), "UDP and TCP at one address are two");
    let EndpointSet::Known(mut restarted) = known(&[(9000, State::Usable)]) else { panic!("known") };
    Arc::get_mut(&mut restarted).unwrap().iter_mut().for_each(|endpoint| endpoint.key.run = Run(2));
    let third = next(&second, service("a", at, EndpointSet::Known(restarted)));
    assert!(!Arc::ptr_eq(&met, &experience(&third, at, 80)), "another run at the same address");
    let shown = &third.status(Instant::now())[0].endpoints;
    assert_eq!(shown.iter().map(|e| e.protocol).collect::<Vec<_>>(), [Protocol::Tcp, Protocol::Udp], "each once");
}
