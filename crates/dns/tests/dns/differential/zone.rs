//! One set of endpoints, as a view for Portolan and as a zone file for the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use portolan_core::endpoint::{Endpoint, Protocol, State};
use portolan_core::name::{Label, NodeKey};
use portolan_core::view::{Node, Readiness, View};

use crate::fixture;

/// The zone's name.
pub(super) const ZONE: &str = "ecs.internal.";
/// A type that nobody asks for: it makes a name exist in a zone file that has no other record.
const MARK: &str = "TYPE65280 \\# 1 00";

/// One port of one container.
struct Place {
    task: u32,
    container: &'static str,
    addresses: &'static [&'static str],
    port: u16,
    container_port: u16,
    port_name: Option<&'static str>,
    protocol: Protocol,
    is_service_port: bool,
}

const PLACE: Place = Place {
    task: 1,
    container: "app",
    addresses: &["10.0.3.7"],
    port: 32768,
    container_port: 80,
    port_name: None,
    protocol: Protocol::Tcp,
    is_service_port: true,
};

/// Services of cluster `prod`: the primary port, and their places.
fn services() -> Vec<(&'static str, u16, Vec<Place>)> {
    let search = [(1, "10.0.3.7", 32768), (2, "10.0.3.8", 32801), (3, "10.0.3.7", 32990)];
    let search = search.into_iter().flat_map(|(task, address, port)| {
        let addresses: &'static [&'static str] = if address == "10.0.3.7" { &["10.0.3.7"] } else { &["10.0.3.8"] };
        let http = Place { task, addresses, port, container_port: 9200, port_name: Some("http"), ..PLACE };
        let transport =
            Place { task, addresses, port: port + 1, container_port: 9300, port_name: Some("transport"), ..PLACE };
        [http, transport]
    });
    let six: &[&str] = &["10.0.3.9", "2001:db8::9"];
    let web = vec![
        Place { task: 4, addresses: six, port: 8080, container_port: 8080, ..PLACE },
        Place { task: 5, addresses: &["2001:db8::10"], port: 8080, container_port: 8080, ..PLACE },
        Place {
            task: 4,
            container: "log",
            addresses: six,
            port: 24224,
            container_port: 24224,
            is_service_port: false,
            ..PLACE
        },
    ];
    let names = vec![
        Place { task: 6, addresses: &["10.0.3.10"], port: 1053, container_port: 53, protocol: Protocol::Udp, ..PLACE },
        Place { task: 6, addresses: &["10.0.3.10"], port: 1054, container_port: 53, ..PLACE },
    ];
    let many = (0..60).map(|at| Place { task: 100 + at, addresses: many_address(at), port: 40_000, ..PLACE }).collect();
    vec![
        ("elasticsearch", 9200, search.collect()),
        ("web", 8080, web),
        ("names", 53, names),
        ("many", 80, many),
        ("empty", 0, Vec::new()),
    ]
}

/// `10.1.0.1` to `10.1.0.60`.
fn many_address(at: u32) -> &'static [&'static str] {
    Box::leak(Box::new([&*Box::leak(format!("10.1.0.{}", at + 1).into_boxed_str())]))
}

fn task_id(task: u32) -> String {
    format!("{:032x}", u128::from(task) << 96 | 0xabc)
}

/// Nodes: id, host name, address.
const NODES: [(&str, &str, &str); 2] = [("i-0aa", "ip-10-0-3-7", "10.0.3.7"), ("i-0bb", "ip-10-0-3-8", "10.0.3.8")];

/// As Portolan has it.
pub(super) fn view() -> View {
    let mut view = View { readiness: Readiness::Current, index: 7, ..View::default() };
    for (name, _, places) in services() {
        let endpoints = places.iter().map(endpoint).collect();
        fixture::insert(&mut view, name, None, Some(endpoints));
    }
    for (name, host, address) in NODES {
        let key = NodeKey { cluster: Label::fixed("prod"), node: Label::fixed(name) };
        let addresses = vec![address.parse().unwrap()];
        view.insert_node(Arc::new(Node { key, host_name: Some(Label::fixed(host)), addresses, az: None }));
    }
    view
}

fn endpoint(place: &Place) -> Endpoint {
    let mut endpoint = fixture::endpoint(place.task, place.addresses[0], place.port, place.container_port);
    endpoint.key.protocol = place.protocol;
    endpoint.key.container_id += place.container;
    endpoint.state = State::Usable;
    endpoint.addresses = place.addresses.iter().map(|text| text.parse().unwrap()).collect();
    endpoint.port_name = place.port_name.map(Label::fixed);
    endpoint.container = Label::fixed(place.container);
    endpoint.task_id = Some(task_id(place.task));
    endpoint.is_service_port = place.is_service_port;
    endpoint
}

/// The zone's records: name below the zone, type and data.
type Records = BTreeSet<(String, String)>;

/// As the others have it.
pub(super) fn text() -> String {
    let mut records = Records::new();
    for (service, primary, places) in services() {
        let name = format!("{service}.prod");
        mark(&mut records, &["", "direct.", "_tcp.", "_udp."].map(|under| format!("{under}{name}")));
        let own: Vec<&Place> = places.iter().filter(|place| place.is_service_port).collect();
        put_addresses(&mut records, &[name.clone(), format!("direct.{name}")], &own);
        put_services(&mut records, &name, own.iter().copied().filter(|place| is_primary(place, primary)));
        for place in &own {
            let number = place.container_port.to_string();
            for port in place.port_name.iter().copied().chain([&*number]) {
                put_services(&mut records, &format!("_{port}._{}.{name}", place.protocol), [*place]);
            }
        }
        put_parts(&mut records, &name, primary, &places);
    }
    for (id, host, address) in NODES {
        records.insert((format!("{id}.node.prod"), format!("A {address}")));
        records.insert((format!("{host}.node.prod"), format!("A {address}")));
    }
    let soa = "SOA ip-10-0-0-2.addr hostmaster 7 60 10 86400 1";
    let head = format!("$ORIGIN {ZONE}\n$TTL 1\n@ {soa}\n@ NS ip-10-0-0-2.addr\nip-10-0-0-2.addr A 10.0.0.2\n");
    records.iter().fold(head, |text, (name, data)| text + &format!("{name} {data}\n"))
}

/// Whether SRV of a bare service names the place: one port, TCP before UDP.
fn is_primary(place: &Place, primary: u16) -> bool {
    place.container_port == primary && place.protocol == Protocol::Tcp
}

/// Tasks by both forms of their ids, and containers.
fn put_parts(records: &mut Records, service: &str, primary: u16, places: &[Place]) {
    let mut parts: BTreeMap<String, Vec<&Place>> = BTreeMap::new();
    for place in places {
        let id = task_id(place.task);
        for part in [&id[..12], &id, place.container] {
            parts.entry(part.to_owned()).or_default().push(place);
        }
    }
    for (part, places) in parts {
        let name = format!("{part}.{service}");
        put_addresses(records, std::slice::from_ref(&name), &places);
        // The service's own port where the part has it, else the part's lowest.
        let has_own = places.iter().any(|place| is_primary(place, primary) && place.is_service_port);
        let lowest = places.iter().map(|place| place.container_port).min().unwrap();
        let port = if has_own { primary } else { lowest };
        put_services(records, &name, places.into_iter().filter(|place| is_primary(place, port)));
    }
}

fn mark(records: &mut Records, names: &[String]) {
    records.extend(names.iter().map(|name| (name.clone(), MARK.to_owned())));
}

fn put_addresses(records: &mut Records, names: &[String], places: &[&Place]) {
    for (name, address) in
        names.iter().flat_map(|name| places.iter().flat_map(move |p| p.addresses.iter().map(move |a| (name, a))))
    {
        records.insert((name.clone(), address_data(address.parse().unwrap())));
    }
}

/// One SRV record for each place, at its first address, whose name is the target.
fn put_services<'p>(records: &mut Records, name: &str, places: impl IntoIterator<Item = &'p Place>) {
    for place in places {
        let address: IpAddr = place.addresses[0].parse().unwrap();
        let target = match address {
            IpAddr::V4(four) => format!("ip-{}.addr", four.to_string().replace('.', "-")),
            IpAddr::V6(six) => format!("ip6-{:032x}.addr", u128::from(six)),
        };
        records.insert((name.to_owned(), format!("SRV 0 1 {} {target}", place.port)));
        records.insert((target, address_data(address)));
    }
}

fn address_data(address: IpAddr) -> String {
    format!("{} {address}", if address.is_ipv4() { "A" } else { "AAAA" })
}
