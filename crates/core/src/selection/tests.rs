//! Ranks, orders, and what each part of a name stands for.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::endpoint::{EndpointKey, Run};
use crate::name::{Label, NodeKey};

fn endpoint(id: usize, state: State) -> Endpoint {
    Endpoint {
        key: EndpointKey {
            node: NodeKey { cluster: Label::fixed("prod"), node: Label::fixed("i-1") },
            container_id: format!("{id:064x}"),
            run: Run(1),
            container_port: 9200,
            protocol: Protocol::Tcp,
        },
        state,
        addresses: vec!["10.0.3.7".parse().unwrap()],
        port: 32768,
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

fn on_port(id: usize, port: u16, name: Option<&'static str>) -> Endpoint {
    let mut made = endpoint(id, State::Usable);
    made.key.container_port = port;
    made.port_name = name.map(Label::fixed);
    made
}

const WORST_FIRST: [State; 8] = [
    State::Gone,
    State::Starting,
    State::Draining { passed: false },
    State::Unusable,
    State::Draining { passed: true },
    State::Unverified(Standing::Last),
    State::Unverified(Standing::Vouched),
    State::Usable,
];

#[test]
fn answers_only_the_best_rank() {
    let all: Vec<Endpoint> = WORST_FIRST.iter().enumerate().map(|(id, state)| endpoint(id, *state)).collect();
    let check = |count: usize, expected: &[usize], rank: Option<Rank>| {
        let selection = select(&all[..count], Preference::default());
        let mut ids: Vec<_> = selection.endpoints.iter().map(|e| e.key.container_id.clone()).collect();
        ids.sort();
        assert_eq!(ids, expected.iter().map(|id| format!("{id:064x}")).collect::<Vec<_>>(), "{count}");
        assert_eq!(selection.rank, rank);
    };
    check(2, &[], None);
    check(3, &[2], Some(Rank::DrainingUnusable));
    check(4, &[3], Some(Rank::Unusable));
    check(5, &[4], Some(Rank::Draining));
    check(6, &[5], Some(Rank::Unverified));
    check(7, &[6], Some(Rank::Usable));
    check(8, &[6, 7], Some(Rank::Usable));
}

#[test]
fn orders_by_az_and_then_by_chance() {
    let mut all: Vec<Endpoint> = (0..6).map(|id| endpoint(id, State::Usable)).collect();
    for (id, endpoint) in all.iter_mut().enumerate() {
        endpoint.az = (id % 2 == 0).then(|| "eu-west-1a".to_owned());
    }
    let mut orders = BTreeSet::new();
    for seed in 0..200 {
        let selection = select(&all, Preference { seed, az: Some("eu-west-1a") });
        assert!(selection.endpoints[..3].iter().all(|e| e.az.is_some()), "seed {seed}");
        orders.insert(selection.endpoints.iter().map(|e| e.key.clone()).collect::<Vec<_>>());
    }
    assert_eq!(orders.len(), 36, "all of 3! x 3! orders come up");
}

#[test]
fn says_how_many_are_alike() {
    let mut all: Vec<Endpoint> = (0..7).map(|id| endpoint(id, State::Usable)).collect();
    all[..3].iter_mut().for_each(|endpoint| endpoint.az = Some("eu-west-1a".to_owned()));
    for (az, alike) in [(Some("eu-west-1a"), 3), (Some("eu-west-1b"), 7), (None, 7)] {
        assert_eq!(select(&all, Preference { seed: 1, az }).alike, alike, "{az:?}");
    }
}

#[test]
fn finds_what_each_part_stands_for() {
    let mut sidecar = on_port(3, 9200, None);
    (sidecar.is_service_port, sidecar.container) = (false, Label::fixed("log"));
    let all = [on_port(1, 9200, Some("http")), on_port(1, 9300, None), on_port(2, 80, Some("9300")), sidecar];
    let check = |part: Part, expected: Option<&[u16]>| {
        let ports = behind(&part, &all).map(|found| found.iter().map(|e| e.key.container_port).collect::<Vec<_>>());
        assert_eq!(ports.as_deref(), expected, "{part:?}");
    };
    let port = |name: &'static str, protocol| Part::Port(Label::fixed(name), protocol);
    check(Part::Whole, Some(&[9200, 9300, 80]));
    check(Part::Direct, Some(&[9200, 9300, 80]));
    check(port("http", Protocol::Tcp), Some(&[9200]));
    check(port("9200", Protocol::Tcp), Some(&[9200]));
    check(port("9300", Protocol::Tcp), Some(&[80]));
    check(port("9200", Protocol::Udp), None);
    check(port("99999", Protocol::Tcp), None);
    check(Part::ProtocolBranch(Protocol::Udp), Some(&[]));
    check(Part::Named(Label::fixed("log")), Some(&[9200]));
    check(Part::Named(Label::fixed("app")), Some(&[9200, 9300, 80]));
    check(Part::Named(Label::fixed("00000000000000000000000000000001")), Some(&[9200, 9300]));
    check(Part::Named(Label::fixed("0000000000000000")), None);
    check(Part::Named(Label::fixed("other")), None);
    assert_eq!(behind(&port("1", Protocol::Tcp), &[]), Some(vec![]), "nobody knows the ports of an empty service");
}

#[test]
fn a_task_goes_before_a_container_of_that_name() {
    let mut other = endpoint(2, State::Usable);
    other.container = Label::fixed("abcdefabcdef");
    let mut task = endpoint(1, State::Usable);
    task.task_id = Some("abcdefabcdef0000abcdefabcdef0000".to_owned());
    let all = [other, task];
    let found = behind(&Part::Named(Label::fixed("abcdefabcdef")), &all).unwrap();
    assert_eq!(found, vec![&all[1]]);
}

#[test]
fn srv_without_a_port_name_has_one_port() {
    let check = |all: &[Endpoint], expected: &[u16]| {
        let chosen = primary(&all.iter().collect::<Vec<_>>());
        assert_eq!(chosen.iter().map(|e| e.key.container_port).collect::<Vec<_>>(), expected);
    };
    check(&[on_port(1, 9300, None), on_port(1, 9200, None), on_port(2, 9200, None)], &[9200, 9200]);
    check(&[on_port(1, 9300, Some("primary")), on_port(1, 9200, None)], &[9300]);
    let mut dns = on_port(1, 53, None);
    dns.key.protocol = Protocol::Udp;
    check(&[dns.clone(), on_port(1, 9200, None)], &[9200]);
    check(&[dns], &[53]);
    let mut not_own = on_port(1, 80, None);
    not_own.is_service_port = false;
    check(&[not_own.clone(), on_port(1, 9200, None)], &[9200]);
    check(&[not_own], &[80]);
    check(&[], &[]);
}

proptest! {
    #[test]
    fn answers_something_exactly_when_something_may_be_answered(
        picks in prop::collection::vec(0..WORST_FIRST.len(), 0..30), seed: u64,
    ) {
        let all: Vec<Endpoint> = picks.iter().enumerate().map(|(id, pick)| endpoint(id, WORST_FIRST[*pick])).collect();
        let best = all.iter().filter_map(|e| Rank::of(e.state)).min();
        let selection = select(&all, Preference { seed, ..Preference::default() });
        prop_assert_eq!(selection.rank, best);
        let expected = all.iter().filter(|e| best.is_some() && Rank::of(e.state) == best).count();
        let distinct: BTreeSet<_> = selection.endpoints.iter().map(|e| &e.key).collect();
        prop_assert_eq!((distinct.len(), selection.endpoints.len()), (expected, expected));
    }
}
