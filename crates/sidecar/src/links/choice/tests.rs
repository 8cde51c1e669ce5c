use std::collections::BTreeMap;

use portolan_core::endpoint::{EndpointKey, Run};
use portolan_core::labels::LinkOptions;
use portolan_core::name::{Label, NodeKey};
use proptest::prelude::*;

use super::ejection::{FIRST, RESETS_MAX};
use super::*;

/// A step of the race between endpoints.
const STEP: Duration = Duration::from_millis(300);

pub(in crate::links) fn experience_at(address: SocketAddr) -> Arc<Experience> {
    of(address, Instant::now())
}

pub(super) fn experience(port: u16, since: Instant) -> Arc<Experience> {
    of(SocketAddr::from(([10, 0, 0, 1], port)), since)
}

fn of(address: SocketAddr, since: Instant) -> Arc<Experience> {
    let key = EndpointKey {
        node: NodeKey { cluster: Label::fixed("test"), node: Label::fixed("n") },
        container_id: format!("{:064x}", address.port()),
        run: Run(1),
        container_port: 80,
        protocol: portolan_core::endpoint::Protocol::Tcp,
    };
    Arc::new(Experience::new(key, address, (LinkOptions::default(), since)))
}

fn target(port: u16, rank: Rank, nearness: Nearness) -> Target {
    Target { rank, nearness, weight: 1, endpoint: experience(port, Instant::now()) }
}

fn equals(count: u16) -> Vec<Target> {
    (1..=count).map(|port| target(port, Rank::Usable, Nearness::Far)).collect()
}

/// The order in which one connection tries them.
fn order(targets: &[Target], seed: u64) -> Vec<u16> {
    let (mut tried, mut draws) = (Vec::new(), Draws::new(seed));
    while let Some(target) = choose(targets, &tried, (&mut draws, Instant::now())) {
        tried.push(target.address());
    }
    tried.iter().map(SocketAddr::port).collect()
}

/// How often each is the first of so many connections, which end at once.
fn firsts(targets: &[Target], connections: u64) -> BTreeMap<u16, u64> {
    let mut firsts: BTreeMap<u16, u64> = targets.iter().map(|target| (target.address().port(), 0)).collect();
    for seed in 0..connections {
        let first = choose(targets, &[], (&mut Draws::new(seed), Instant::now())).unwrap();
        *firsts.get_mut(&first.address().port()).unwrap() += 1;
    }
    firsts
}

/// How many connections each has of so many that stay open.
fn opened(targets: &[Target], connections: u64) -> Vec<usize> {
    let mut draws = Draws::new(1);
    let in_use = |_| choose(targets, &[], (&mut draws, Instant::now())).unwrap().endpoint.begin();
    let open: Vec<InUse> = (0..connections).map(in_use).collect();
    let counts = targets.iter().map(|target| target.endpoint.open()).collect();
    drop(open);
    counts
}

#[tokio::test(start_paused = true)]
async fn better_ranks_come_first_and_what_is_ejected_last_of_all() {
    let targets = [
        target(1, Rank::Usable, Nearness::Node),
        target(2, Rank::Usable, Nearness::Far),
        target(3, Rank::Unverified, Nearness::Node),
        target(4, Rank::Draining, Nearness::Node),
        target(5, Rank::Unusable, Nearness::Node),
    ];
    assert_eq!(order(&targets, 1)[2..], [3, 4, 5]);
    targets[0].endpoint.connect_failed(Instant::now());
    assert_eq!(order(&targets, 1), [2, 3, 4, 5, 1]);
    tokio::time::advance(FIRST).await;
    assert_eq!(order(&targets, 1)[2..], [3, 4, 5], "its time is over");
    targets[0].endpoint.connect_failed(Instant::now());
    targets[0].endpoint.connected(STEP, Instant::now());
    assert_eq!(order(&targets, 1)[2..], [3, 4, 5], "a connect ends it");
}

#[tokio::test(start_paused = true)]
async fn weight_counts_and_0_is_for_when_nothing_else_is_left() {
    let mut targets = equals(3);
    (targets[0].weight, targets[1].weight) = (3, 0);
    let firsts = firsts(&targets, 4_000);
    assert_eq!(firsts[&2], 0, "{firsts:?}");
    assert!((2_850..3_150).contains(&firsts[&1]), "three times the weight: {firsts:?}");
    assert_eq!(order(&targets, 1)[2], 2);
    let open = opened(&targets, 400);
    assert_eq!(open[1], 0);
    assert!((297..=303).contains(&open[0]), "{open:?}");
}

#[tokio::test(start_paused = true)]
async fn open_connections_are_even() {
    let open = opened(&equals(10), 1_000);
    assert!(open.iter().all(|open| (95..=105).contains(open)), "{open:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_gets_less_until_it_is_forgotten() {
    let targets = equals(2);
    targets[0].endpoint.connected(Duration::from_millis(50), Instant::now());
    targets[1].endpoint.connected(Duration::from_millis(2), Instant::now());
    let open = opened(&targets, 110);
    assert!((8..=12).contains(&open[0]), "{open:?}");
    tokio::time::advance(Duration::from_secs(60)).await;
    let open = opened(&targets, 100);
    assert!((48..=52).contains(&open[0]), "{open:?}");
}

#[tokio::test(start_paused = true)]
async fn a_near_group_gets_its_bounded_share_and_the_rest_spills() {
    // Of three even zones ours, with one endpoint on this node.
    let mut targets = equals(9);
    targets[..3].iter_mut().for_each(|target| target.nearness = Nearness::Az);
    targets[0].nearness = Nearness::Node;
    let firsts = firsts(&targets, 9_000);
    let near: u64 = (1..=3).map(|port| firsts[&port]).sum();
    assert!((5_850..6_150).contains(&near), "twice its third: {firsts:?}");
    assert!((1_400..1_600).contains(&firsts[&1]), "one and a half times its ninth: {firsts:?}");
    // Those that are near keep their connections longer: new ones go elsewhere.
    let kept: Vec<InUse> = (0..90).map(|number| targets[number % 3].endpoint.begin()).collect();
    let firsts = self::firsts(&targets, 900);
    assert_eq!((1..=3).map(|port| firsts[&port]).sum::<u64>(), 0, "{firsts:?}");
    drop(kept);
    // With one zone, or only near ones, there is nowhere to spill to.
    let all = (1..=3).map(|port| self::firsts(&targets[..3], 900)[&port]).sum::<u64>();
    assert_eq!(all, 900);
}

#[tokio::test(start_paused = true)]
async fn at_most_half_are_out_and_never_the_only_one() {
    let targets = equals(5);
    for (number, target) in targets.iter().enumerate() {
        let out = ejection::Out::among(&targets, Instant::now());
        let count = targets.iter().filter(|target| out.is_out(target, Instant::now())).count();
        assert_eq!(count, number.min(2), "after {number} failures");
        target.endpoint.connect_failed(Instant::now());
    }
    assert_eq!(order(&targets, 1).len(), 5);
    let only = equals(1);
    only[0].endpoint.connect_failed(Instant::now());
    assert_eq!(order(&only, 1), [1]);
    let before = [only[0].clone(), target(9, Rank::Draining, Nearness::Node)];
    assert_eq!(order(&before, 1), [9, 1], "what cannot be connected to is no better");
}

#[tokio::test(start_paused = true)]
async fn a_bad_moment_of_all_usable_ones_sends_nobody_to_those_that_drain() {
    let mut targets = equals(2);
    targets.extend((3..=6).map(|port| target(port, Rank::Draining, Nearness::Node)));
    targets[..2].iter().for_each(|target| target.endpoint.connect_failed(Instant::now()));
    let firsts = firsts(&targets, 100);
    assert_eq!(firsts[&1] + firsts[&2], 100, "{firsts:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_back_in_has_its_share_again_at_once() {
    let targets = equals(3);
    targets[0].endpoint.connect_failed(Instant::now());
    assert_eq!(firsts(&targets, 300)[&1], 0);
    tokio::time::advance(FIRST).await;
    let firsts = firsts(&targets, 300);
    assert!(firsts[&1] > 70, "{firsts:?}");
}

#[tokio::test(start_paused = true)]
async fn the_time_doubles_up_to_a_bound_and_begins_anew_for_what_was_well() {
    let endpoint = experience(1, Instant::now());
    let fail = || {
        endpoint.connect_failed(Instant::now());
        endpoint.out_for(Instant::now()).map_or(0, |left| left.as_secs())
    };
    let mut times = Vec::new();
    for _ in 0..8 {
        times.push(fail());
        assert_eq!(fail(), times[times.len() - 1], "it is out already");
        tokio::time::advance(endpoint.out_for(Instant::now()).unwrap()).await;
    }
    assert_eq!(times, [5, 10, 20, 40, 80, 160, 160, 160]);
    tokio::time::advance(Duration::from_secs(160)).await;
    assert_eq!(fail(), 5);
}

#[tokio::test(start_paused = true)]
async fn resets_before_an_answer_eject_and_only_an_answer_makes_up_for_them() {
    let endpoint = experience(1, Instant::now());
    let is_out = || endpoint.out_for(Instant::now()).is_some();
    for number in 1..=RESETS_MAX {
        endpoint.connected(STEP, Instant::now());
        endpoint.reset_unanswered(Instant::now());
        assert_eq!(is_out(), number == RESETS_MAX);
    }
    endpoint.connected(STEP, Instant::now());
    assert!(is_out(), "who accepts and resets is no better for accepting");
    endpoint.answered(Instant::now());
    assert!(!is_out());
    endpoint.reset_unanswered(Instant::now());
    assert!(!is_out(), "in a row");
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_starts_slowly_unless_all_are_new() {
    let mut targets = equals(3);
    let even = firsts(&targets, 3_000);
    assert!(even.values().all(|count| (900..1_100).contains(count)), "{even:?}");
    tokio::time::advance(RAMP).await;
    targets.push(target(4, Rank::Usable, Nearness::Far));
    let mut shares = Vec::new();
    for _ in 0..3 {
        shares.push(firsts(&targets, 3_000)[&4]);
        tokio::time::advance(RAMP / 2).await;
    }
    // 0.1 of 3.1, 0.5 of 3.5, 1 of 4.
    for (share, expected) in shares.iter().zip([97, 429, 750]) {
        assert!(share.abs_diff(expected) < 80, "{shares:?}");
    }
}

#[test]
fn connections_are_counted_while_they_live() {
    let endpoint = experience(1, Instant::now());
    let (one, two) = (endpoint.begin(), endpoint.begin());
    assert_eq!(endpoint.open(), 2);
    drop(one);
    assert_eq!(endpoint.open(), 1);
    drop(two);
    assert_eq!(endpoint.open(), 0);
}

/// What an arbitrary endpoint is like: rank, nearness, weight, open connections, failures, age in seconds.
type Like = (usize, usize, u16, u8, u8, u8);

fn build(likes: &[Like], now: Instant) -> (Vec<Target>, Vec<InUse>) {
    let ranks = [Rank::Usable, Rank::Unverified, Rank::Draining, Rank::Unusable, Rank::DrainingUnusable];
    let nearnesses = [Nearness::Node, Nearness::Az, Nearness::Far];
    let mut open = Vec::new();
    let target = |(index, like): (usize, &Like)| {
        let (rank, nearness, weight, opened, failures, age) = *like;
        let since = now - Duration::from_secs(age.into());
        let endpoint = experience(index as u16 + 1, since);
        open.extend((0..opened).map(|_| endpoint.begin()));
        (0..failures).for_each(|_| endpoint.connect_failed(now));
        Target { rank: ranks[rank], nearness: nearnesses[nearness], weight, endpoint }
    };
    let targets = likes.iter().enumerate().map(target).collect();
    (targets, open)
}

proptest! {
    #[test]
    fn every_endpoint_is_tried_once_and_better_ones_first(
        likes in prop::collection::vec((0..5_usize, 0..3_usize, 0..4_u16, 0..20_u8, 0..3_u8, 0..30_u8), 0..12),
        seed: u64,
    ) {
        let now = Instant::now() + Duration::from_secs(60);
        let (targets, _open) = build(&likes, now);
        let (mut tried, mut draws) = (Vec::new(), Draws::new(seed));
        let mut classes = Vec::new();
        let out = ejection::Out::among(&targets, now);
        while let Some(target) = choose(&targets, &tried, (&mut draws, now)) {
            prop_assert!(!tried.contains(&target.address()));
            tried.push(target.address());
            classes.push((out.is_out(target, now), target.rank, target.weight == 0));
        }
        prop_assert_eq!(tried.len(), targets.len());
        prop_assert!(classes.is_sorted(), "{:?}", classes);
        let out_count = targets.iter().filter(|target| out.is_out(target, now)).count();
        prop_assert!(out_count <= targets.len() / 2);
    }

    #[test]
    fn no_group_gets_more_than_its_bound(weights in prop::collection::vec((0..3_usize, 1..5_u16), 2..10), seed: u64) {
        let now = Instant::now() + Duration::from_secs(60);
        let likes: Vec<Like> = weights.iter().map(|(nearness, weight)| (0, *nearness, *weight, 0, 0, 30)).collect();
        let (targets, _) = build(&likes, now);
        let mut draws = Draws::new(seed);
        let mut chosen = [0_f64; 3];
        for _ in 0..2_000 {
            let target = choose(&targets, &[], (&mut draws, now)).unwrap();
            chosen[target.nearness as usize] += 1.0 / 2_000.0;
        }
        let share = |within: Nearness| {
            let of = |target: &&Target| target.nearness <= within;
            let weight = |target: &Target| f64::from(target.weight);
            targets.iter().filter(of).map(weight).sum::<f64>() / targets.iter().map(weight).sum::<f64>()
        };
        let has_far = share(Nearness::Az) < 1.0;
        for (nearness, factor) in FACTOR.into_iter().filter(|_| has_far) {
            let (got, bound) = (chosen[..=nearness as usize].iter().sum::<f64>(), (factor * share(nearness)).min(1.0));
            prop_assert!(got <= bound + 0.05, "{:?}: {got} of {bound}", nearness);
            let has_own = targets.iter().any(|target| target.nearness == nearness);
            prop_assert!(!has_own || got >= bound - 0.05, "{:?}: {got} of {bound}", nearness);
        }
    }
}
