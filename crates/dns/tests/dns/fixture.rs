//! A view with one of everything that can be asked about.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_core::endpoint::{Endpoint, EndpointKey, Protocol, Run, Standing, State};
use portolan_core::lookup::Zone;
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::view::{EndpointSet, Link, LinkMode, LinkPort, Node, Readiness, Service, View};
use portolan_dns::authority::{Authority, Ttl};

/// The zone `ecs.internal`, TTL 1 s.
pub(crate) fn authority() -> Authority {
    let zone = Zone::parse("ecs.internal").expect("a valid zone");
    Authority::new(zone, Ttl::default(), "ip-10-0-0-2.addr.ecs.internal").expect("a valid name")
}

/// A service's name.
pub(crate) fn key(service: &str, cluster: &str) -> ServiceKey {
    let label = |text: &str| Label::parse(text).expect("a valid label");
    ServiceKey { cluster: label(cluster), service: label(service) }
}

/// An endpoint of task `id`, container `app`, TCP.
pub(crate) fn endpoint(id: u32, address: &str, port: u16, container_port: u16) -> Endpoint {
    Endpoint {
        key: EndpointKey {
            node: NodeKey { cluster: Label::fixed("prod"), node: Label::fixed("i-0aa") },
            container_id: format!("{id:064x}"),
            run: Run(1),
            container_port,
            protocol: Protocol::Tcp,
        },
        state: State::Usable,
        addresses: vec![address.parse::<IpAddr>().expect("a valid address")],
        port,
        port_name: None,
        container: Label::fixed("app"),
        task_id: Some(format!("{id:032x}")),
        az: None,
        weight: 1,
        is_service_port: true,
        tags: vec![],
        meta: vec![],
    }
}

/// Puts a service in.
pub(crate) fn insert(view: &mut View, name: &str, link: Option<Link>, endpoints: Option<Vec<Endpoint>>) {
    let endpoints = endpoints.map_or(EndpointSet::Unfollowed, |all| EndpointSet::Known(all.into()));
    view.insert_service(Arc::new(Service { key: key(name, "prod"), index: view.index, link, endpoints }));
}

/// A virtual address with port 9200.
pub(crate) fn link(last_octet: u8) -> Link {
    let ports = vec![LinkPort { port: 9200, container_port: 9200, protocol: Protocol::Tcp }];
    Link { address: [198, 18, 0, last_octet].into(), mode: LinkMode::Vip, ports, plane: None }
}

/// The view: cluster `prod` with services of every kind and two nodes.
pub(crate) fn view() -> View {
    let mut view = View { readiness: Readiness::Current, index: 7, ..View::default() };
    let named = |mut e: Endpoint, name| {
        e.port_name = Some(Label::fixed(name));
        e
    };
    let both = [(1, "10.0.3.7", 32768), (2, "10.0.3.8", 32801)];
    let http = both.map(|(id, address, port)| named(endpoint(id, address, port, 9200), "http"));
    let transport = both.map(|(id, address, port)| named(endpoint(id, address, port + 1, 9300), "transport"));
    insert(&mut view, "elasticsearch", Some(link(1)), Some([http, transport].concat()));

    let mut six = endpoint(3, "10.0.3.9", 8080, 8080);
    six.addresses.push("2001:db8::9".parse().expect("a valid address"));
    let only_six = endpoint(4, "2001:db8::10", 8080, 8080);
    let mut log = endpoint(3, "10.0.3.9", 24224, 24224);
    (log.container, log.is_service_port) = (Label::fixed("log"), false);
    insert(&mut view, "web", None, Some(vec![six, only_six, log]));

    let in_state = |id, state| Endpoint { state, ..endpoint(id, &format!("10.0.4.{id}"), 5432, 5432) };
    insert(&mut view, "empty", None, Some(vec![]));
    insert(&mut view, "idle", Some(link(2)), Some(vec![]));
    insert(&mut view, "starting", None, Some(vec![in_state(1, State::Starting)]));
    insert(&mut view, "failing", None, Some(vec![in_state(1, State::Unusable), in_state(2, State::Gone)]));
    let silent = vec![in_state(1, State::Unverified(Standing::Last)), in_state(2, State::Draining { passed: true })];
    insert(&mut view, "silent", None, Some(silent));
    insert(&mut view, "far", None, None);
    insert(&mut view, "farlinked", Some(link(3)), None);
    insert(&mut view, "many", None, Some((0..60).map(|id| endpoint(id, &format!("10.1.0.{id}"), 40000, 80)).collect()));

    for (name, host, address) in [("i-0aa", "ip-10-0-3-7", "10.0.3.7"), ("i-0bb", "ip-10-0-3-8", "10.0.3.8")] {
        let key = NodeKey { cluster: Label::fixed("prod"), node: Label::fixed(name) };
        let addresses = vec![address.parse().expect("a valid address")];
        let az = Some("eu-west-1a".to_owned());
        view.insert_node(Arc::new(Node { key, host_name: Some(Label::fixed(host)), addresses, az }));
    }
    view
}
