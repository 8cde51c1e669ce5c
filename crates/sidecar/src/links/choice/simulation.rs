//! Three zones with uneven load: what share of connections stays in its zone, and how much the busiest endpoint has.
//!
//! Deterministic: one seed, no clock. `cargo test --workspace --lib -- three_zones --nocapture` prints the figures that
//! docs/benchmarks.md holds.

use super::tests::experience;
use super::*;

/// Clients are nodes; each chooses by what it knows itself, and nothing else.
const NODES_PER_ZONE: usize = 10;
const ENDPOINTS_PER_ZONE: usize = 10;
const ZONES: usize = 3;
/// Connections that are open at once, over all nodes.
const OPEN: usize = 6_000;
/// Connections, each of which replaces one that is open.
const CONNECTIONS: usize = 30_000;

/// A way to share connections out.
type Way = (&'static str, fn(&[Target], &mut Draws, Instant) -> usize);

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Result {
    /// Of new connections, how many stayed in the client's zone.
    kept: f64,
    /// The most open connections of an endpoint, to the mean.
    worst: f64,
}

/// How the load is spread over the zones, in tenths.
const LOADS: [(&str, [usize; ZONES]); 4] =
    [("even", [10, 10, 10]), ("60 20 20", [18, 6, 6]), ("80 10 10", [24, 3, 3]), ("all in one", [30, 0, 0])];

const WAYS: [Way; 4] = [
    ("at random", |targets, draws, _| (draws.fraction() * targets.len() as f64) as usize),
    ("zone only", |targets, draws, _| {
        let near: Vec<usize> = (0..targets.len()).filter(|at| targets[*at].nearness < Nearness::Far).collect();
        near[(draws.fraction() * near.len() as f64) as usize]
    }),
    ("two choices alone", |targets, draws, now| {
        let blind: Vec<Target> =
            targets.iter().map(|target| Target { nearness: Nearness::Far, ..target.clone() }).collect();
        index(targets, choose(&blind, &[], (draws, now)).unwrap())
    }),
    ("Portolan", |targets, draws, now| index(targets, choose(targets, &[], (draws, now)).unwrap())),
];

fn index(targets: &[Target], chosen: &Target) -> usize {
    targets.iter().position(|target| target.address() == chosen.address()).unwrap()
}

/// One node: its zone, and what it met with each endpoint.
struct Node {
    zone: usize,
    targets: Vec<Target>,
}

fn nodes(since: Instant) -> Vec<Node> {
    let node = |number: usize| {
        let zone = number / NODES_PER_ZONE;
        let nearness = |endpoint: usize| match endpoint {
            // Each node runs one endpoint.
            own if own == number => Nearness::Node,
            other if other / ENDPOINTS_PER_ZONE == zone => Nearness::Az,
            _ => Nearness::Far,
        };
        let target = |endpoint: usize| Target {
            rank: Rank::Usable,
            nearness: nearness(endpoint),
            weight: 1,
            endpoint: experience(endpoint as u16 + 1, since),
        };
        Node { zone, targets: (0..ZONES * ENDPOINTS_PER_ZONE).map(target).collect() }
    };
    (0..ZONES * NODES_PER_ZONE).map(node).collect()
}

fn simulate(load: [usize; ZONES], way: &Way) -> Result {
    let began = Instant::now();
    let nodes = nodes(began);
    let now = began + 2 * RAMP;
    let (mut draws, mut kept) = (Draws::new(7), 0);
    let mut open: std::collections::VecDeque<InUse> = std::collections::VecDeque::new();
    let mut totals = vec![0_usize; ZONES * ENDPOINTS_PER_ZONE];
    for number in 0..CONNECTIONS {
        let mut at = (draws.fraction() * 30.0) as usize;
        let zone = load.iter().position(|part| match at.checked_sub(*part) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        });
        let node = &nodes[zone.unwrap() * NODES_PER_ZONE + (draws.fraction() * NODES_PER_ZONE as f64) as usize];
        let chosen = way.1(&node.targets, &mut draws, now);
        kept += usize::from(chosen / ENDPOINTS_PER_ZONE == node.zone);
        open.push_back(node.targets[chosen].endpoint.begin());
        if number >= OPEN {
            // Any of those that are open ends.
            let last = (draws.fraction() * open.len() as f64) as usize;
            open.swap_remove_back(last);
        }
    }
    for connection in &open {
        totals[usize::from(connection.address.port()) - 1] += 1;
    }
    let worst = *totals.iter().max().unwrap() as f64 * totals.len() as f64 / open.len() as f64;
    Result { kept: kept as f64 / CONNECTIONS as f64, worst }
}

#[test]
fn three_zones_keep_two_thirds_and_no_endpoint_has_more_than_its_bound() {
    for (name, load) in LOADS {
        for way in &WAYS {
            let Result { kept, worst } = simulate(load, way);
            println!(
                "load {name:10}  {:17}  {:3.0} % kept in the zone, busiest endpoint {worst:.2} of the mean",
                way.0,
                kept * 100.0
            );
            if way.0 == "Portolan" {
                assert!(kept > 0.63, "{name}: {kept}");
                // The bound, and what chance adds to a mean of 200.
                assert!(worst < 2.0 * 1.2, "{name}: {worst}");
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    assert_eq!(simulate(LOADS[1].1, &WAYS[3]), simulate(LOADS[1].1, &WAYS[3]));
}
