use std::net::Ipv4Addr;
use std::sync::Arc;

use portolan_core::endpoint::{EndpointKey, Protocol, Run, Standing};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::view::EndpointSet;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::links::{KernelSettings, LinkLimits};

const PORT: LinkPort = LinkPort { port: 80, container_port: 8080, protocol: Protocol::Tcp };

fn settings(az: Option<&str>) -> LinkSettings {
    LinkSettings {
        range: "198.18.0.0/16".parse().unwrap(),
        relay: "169.254.53.53:8509".parse().unwrap(),
        limits: LinkLimits::default(),
        kernel: KernelSettings::default(),
        node: Some(node("here")),
        az: az.map(str::to_owned),
    }
}

fn node(name: &'static str) -> NodeKey {
    NodeKey { cluster: Label::fixed("test"), node: Label::fixed(name) }
}

/// Usable, on another node, at 10.0.0.NUMBER:8000.
fn endpoint(number: u8) -> Endpoint {
    Endpoint {
        key: EndpointKey {
            node: node("there"),
            container_id: format!("{number:064x}"),
            run: Run(1),
            container_port: 8080,
            protocol: Protocol::Tcp,
        },
        state: State::Usable,
        addresses: vec![[10, 0, 0, number].into()],
        port: 8000,
        port_name: None,
        container: Label::fixed("c"),
        task_id: None,
        az: None,
        weight: 1,
        is_service_port: true,
        tags: Vec::new(),
        meta: Vec::new(),
    }
}

fn with(number: u8, change: impl FnOnce(&mut Endpoint)) -> Endpoint {
    let mut endpoint = endpoint(number);
    change(&mut endpoint);
    endpoint
}

fn shares_in(az: Option<&str>, endpoints: Vec<Endpoint>) -> Vec<Share> {
    let key = ServiceKey { cluster: Label::fixed("test"), service: Label::fixed("web") };
    let service = Service { key, index: 1, link: None, endpoints: EndpointSet::Known(Arc::from(endpoints)) };
    shares(&service, PORT, &settings(az))
}

fn to(number: u8, weight: u16) -> Share {
    Share { to: Some(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, number), 8000)), weight }
}

const RELAY: Share = Share { to: None, weight: 1 };

#[test]
fn leads_to_what_is_usable_on_other_nodes() {
    let rows = [
        (vec![endpoint(1), endpoint(2)], vec![to(1, 1), to(2, 1)], "both"),
        (vec![endpoint(1), with(2, |e| e.state = State::Draining { passed: true })], vec![to(1, 1)], "draining"),
        (
            vec![with(1, |e| e.state = State::Draining { passed: true })],
            vec![],
            "none is usable: fail open, by the relay",
        ),
        (vec![endpoint(1), with(2, |e| e.key.node = node("here"))], vec![RELAY, to(1, 1)], "its share is the relay's"),
        (vec![with(1, |e| e.key.node = node("here"))], vec![RELAY], "on this node alone"),
        (
            vec![endpoint(1), with(2, |e| e.state = State::Unverified(Standing::Vouched))],
            vec![RELAY, to(1, 1)],
            "its node is silent",
        ),
        (vec![with(1, |e| e.addresses = vec!["2001:db8::1".parse().unwrap()])], vec![RELAY], "IPv6"),
        (vec![with(1, |e| e.addresses = vec!["127.0.0.1".parse().unwrap()])], vec![], "what the relay refuses"),
        (vec![with(1, |e| e.key.container_port = 1)], vec![], "another port"),
        (vec![with(1, |e| e.key.protocol = Protocol::Udp)], vec![], "UDP"),
        (vec![with(1, |e| e.is_service_port = false)], vec![], "not the service's port"),
        (vec![endpoint(1), with(2, |e| e.addresses = vec![[10, 0, 0, 1].into()])], vec![to(1, 1)], "one address twice"),
        (vec![with(1, |e| e.weight = 7), with(2, |e| e.weight = 0)], vec![to(1, 7), to(2, 0)], "weights"),
        (vec![with(1, |e| e.weight = 0), with(2, |e| e.weight = 0)], vec![to(1, 1), to(2, 1)], "all weigh nothing"),
    ];
    for (endpoints, expected, case) in rows {
        assert_eq!(shares_in(None, endpoints), expected, "{case}");
    }
}

#[test]
fn the_nearest_come_first_even_where_only_the_relay_may_go() {
    let far = with(1, |e| e.az = Some("b".into()));
    let near = with(2, |e| e.az = Some("a".into()));
    let own = with(3, |e| (e.az, e.key.node) = (Some("a".into()), node("here")));
    assert_eq!(shares_in(Some("a"), vec![far.clone(), near.clone(), own.clone()]), [RELAY, to(2, 1)]);
    assert_eq!(shares_in(Some("a"), vec![far.clone(), own]), [RELAY]);
    assert_eq!(shares_in(Some("a"), vec![far]), [to(1, 1)]);
}

#[test]
fn a_lease_is_renewed_only_while_the_view_is_current() {
    let lease = Duration::from_secs(30);
    let current = lease_until(Readiness::Current, 5, lease);
    assert_eq!(current, Some(30_000_000_005));
    assert_eq!(lease_until(Readiness::Stale, 5, lease), None);
    let held = leased(&[RELAY, to(1, 1), to(2, 1)], &[], current);
    let ends: Vec<u64> = held.iter().map(|held| held.until_ns).collect();
    assert_eq!(ends, [u64::MAX, 30_000_000_005, 30_000_000_005]);
    let stale = leased(&[RELAY, to(2, 1), to(3, 1)], &held, None);
    assert_eq!(stale, [held[0], held[2]], "what was leased keeps its end, what is new waits");
}

#[test]
fn the_kernel_is_told_of_changes_and_in_time() {
    let at = |until_ns| leased(&[to(1, 1)], &[], Some(until_ns));
    assert!(is_news(&[], &at(1), 0));
    assert!(is_news(&at(1), &[], 0));
    assert!(!is_news(&at(100), &at(101), 90), "time enough");
    assert!(is_news(&at(89), &at(101), 90), "due");
    assert!(!is_news(&at(89), &at(89), 90), "nothing is gained");
    assert!(is_news(&at(100), &leased(&[to(1, 2)], &[], Some(100)), 0), "another weight");
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let states = [State::Usable, State::Unusable, State::Unverified(Standing::Vouched), State::Gone, State::Starting];
    let (state, name) =
        (prop::sample::select(states.to_vec()), prop::sample::select(vec!["here", "there", "elsewhere"]));
    let az = prop::option::of(prop::sample::select(vec!["a", "b"]));
    (1..200_u8, state, name, az, 0..3_u16).prop_map(|(number, state, name, az, weight)| {
        with(number, |e| (e.state, e.key.node, e.az, e.weight) = (state, node(name), az.map(str::to_owned), weight))
    })
}

proptest! {
    #[test]
    fn only_usable_endpoints_of_other_nodes_are_led_to(endpoints in vec(any_endpoint(), 0..150)) {
        let shares = shares_in(Some("a"), endpoints.clone());
        prop_assert!(shares.len() <= ENDPOINTS_MAX);
        let may = |e: &Endpoint| e.state == State::Usable && e.key.node != node("here");
        for to in shares.iter().filter_map(|share| share.to) {
            let is_of = |e: &&Endpoint| e.addresses == [std::net::IpAddr::V4(*to.ip())];
            prop_assert!(endpoints.iter().filter(is_of).any(may), "{to}");
        }
        let is_best = |e: &Endpoint| Rank::of(e.state) == Some(Rank::Usable);
        prop_assert_eq!(shares.is_empty(), !endpoints.iter().any(is_best));
    }
}
