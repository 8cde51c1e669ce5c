//! Followers that come, go, stall and tell, and endpoints that leave meanwhile.

use portolan_core::endpoint::{Protocol, Run};
use proptest::prelude::*;

use super::*;
use crate::testing::{node, service};

const MOST: usize = 1_000;

fn peer(name: &str) -> Peer {
    Peer::Node(node(name))
}

fn departed(number: u64, name: &str, index: u64) -> Departed {
    let key = EndpointKey {
        node: node("owner"),
        container_id: format!("{number:064x}"),
        run: Run(number),
        container_port: 9200,
        protocol: Protocol::Tcp,
    };
    Departed { key, service: service(name), port: 31_001, index }
}

/// A follower of `red` that has everything up to `applied` in use.
fn follower(state: &mut State, name: &str, connection: u64, applied: u64) {
    state.join(peer(name), connection);
    state.follows(&peer(name), connection, OrdSet::unit(service("red")));
    state.applied(&peer(name), connection, applied);
}

/// The runs that are released to the owner and were not told before, each with whether there is an heir.
fn released(state: &mut State) -> Vec<(u64, bool)> {
    let released = state.take_released(&node("owner"), MOST);
    released.into_iter().map(|released| (released.run.0, released.heir.is_some())).collect()
}

#[test]
fn an_endpoint_is_released_when_all_its_followers_told_so() {
    let (mut state, now) = (State::default(), Instant::now());
    follower(&mut state, "a", 1, 5);
    follower(&mut state, "b", 2, 5);
    state.join(peer("c"), 3);
    state.follows(&peer("c"), 3, OrdSet::unit(service("blue")));
    state.depart(departed(1, "red", 6), now);
    assert_eq!(released(&mut state), []);
    assert_eq!(state.applied(&peer("a"), 1, 6), BTreeSet::new());
    assert_eq!(state.applied(&peer("b"), 2, 5), BTreeSet::new(), "that is before it left");
    assert_eq!(released(&mut state), []);
    assert_eq!(state.applied(&peer("b"), 2, 7), BTreeSet::from([node("owner")]), "who follows others is not asked");
    assert_eq!(released(&mut state), [(1, false)]);
    assert_eq!(released(&mut state), [], "once is enough");
    state.tell_again(&node("owner"));
    assert_eq!(released(&mut state), [(1, false)]);
}

#[test]
fn what_nobody_follows_or_all_know_already_is_free_at_once() {
    let (mut state, now) = (State::default(), Instant::now());
    state.depart(departed(1, "red", 6), now);
    follower(&mut state, "a", 1, 8);
    state.depart(departed(2, "red", 8), now);
    assert_eq!(released(&mut state), [(1, false), (2, false)]);
}

#[test]
fn a_follower_that_left_counts_until_its_lease_is_over() {
    let (mut state, now) = (State::default(), Instant::now());
    follower(&mut state, "a", 1, 5);
    state.leave(&peer("a"), 1, now);
    state.depart(departed(1, "red", 6), now);
    assert_eq!(state.expire(now + LEASE - Duration::from_millis(1)), BTreeSet::new());
    assert_eq!(released(&mut state), []);
    assert_eq!(state.expire(now + LEASE), BTreeSet::from([node("owner")]));
    assert_eq!(released(&mut state), [(1, false)]);
}

#[test]
fn a_follower_that_came_back_counts_as_one_until_it_told_something() {
    let (mut state, now) = (State::default(), Instant::now());
    follower(&mut state, "a", 1, 5);
    state.leave(&peer("a"), 1, now);
    state.join(peer("a"), 2);
    // It has not said yet what it follows, and may still lead by what it was told before.
    state.depart(departed(1, "red", 6), now);
    state.leave(&peer("a"), 1, now);
    assert_eq!(state.applied(&peer("a"), 1, 9), BTreeSet::new(), "of an old connection nothing counts");
    assert_eq!((state.expire(now + 2 * LEASE), released(&mut state)), (BTreeSet::new(), vec![]));
    assert_eq!(state.applied(&peer("a"), 2, 6), BTreeSet::from([node("owner")]));
    // Now it follows nothing: what else leaves is none of its business.
    state.depart(departed(2, "red", 7), now);
    assert_eq!(released(&mut state), [(1, false), (2, false)]);
}

#[test]
fn one_that_never_tells_is_waited_for() {
    let (mut state, now) = (State::default(), Instant::now());
    follower(&mut state, "old", 1, 0);
    state.depart(departed(1, "red", 6), now);
    assert_eq!((state.expire(now + 2 * LEASE), released(&mut state)), (BTreeSet::new(), vec![]));
    state.expire(now + KEPT);
    state.tell_again(&node("owner"));
    assert_eq!((released(&mut state), state.by_node.len(), state.departures.len()), (vec![], 0, 0));
}

#[test]
fn an_heir_of_the_same_service_is_named_until_all_is_free() {
    let (mut state, now) = (State::default(), Instant::now());
    follower(&mut state, "a", 1, 5);
    state.depart(departed(1, "red", 6), now);
    let heir = departed(2, "red", 6).key;
    let mut elsewhere = heir.clone();
    elsewhere.node = node("other");
    let mut other_protocol = heir.clone();
    other_protocol.protocol = Protocol::Udp;
    for (name, key, port) in [
        ("blue", &heir, 31_001),
        ("red", &heir, 31_002),
        ("red", &heir, 0),
        ("red", &elsewhere, 31_001),
        ("red", &other_protocol, 31_001),
        ("red", &departed(1, "red", 6).key, 31_001),
    ] {
        state.came(&service(name), key, port);
        assert_eq!(released(&mut state), [], "{name} {key:?} {port}");
    }
    state.came(&service("red"), &heir, 31_001);
    assert_eq!(released(&mut state), [(1, true)]);
    state.came(&service("red"), &heir, 31_001);
    assert_eq!(released(&mut state), []);
    state.applied(&peer("a"), 1, 6);
    assert_eq!(released(&mut state), [(1, false)], "more than before");
}

#[test]
fn peers_without_a_name_leave_nothing_behind() {
    let (mut state, now) = (State::default(), Instant::now());
    state.join(Peer::Nameless(1), 1);
    state.leave(&Peer::Nameless(1), 1, now);
    assert_eq!(state.followers.len(), 0);
}

#[test]
fn too_many_departures_forget_the_oldest() {
    let (mut state, now) = (State::default(), Instant::now());
    for number in 0..DEPARTURES_MAX as u64 + 3 {
        state.depart(departed(number, "red", number), now);
    }
    assert_eq!(state.departures.len(), DEPARTURES_MAX);
    assert_eq!(state.take_released(&node("owner"), 1)[0].run, Run(3));
}

/// What happens to one of three followers, or to an endpoint.
#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Follow(usize),
    /// It takes in everything up to now.
    Apply(usize),
    Tell(usize),
    Leave(usize),
    Depart,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..3usize;
    prop_oneof![
        who().prop_map(Step::Join),
        who().prop_map(Step::Follow),
        who().prop_map(Step::Apply),
        who().prop_map(Step::Tell),
        who().prop_map(Step::Leave),
        Just(Step::Depart),
        (0..20u64).prop_map(Step::Pass),
    ]
}

/// A follower as it really is.
#[derive(Debug, Clone, Default)]
struct Real {
    connection: Option<u64>,
    /// The index of the set that it leads by, if it has one.
    set: Option<u64>,
    /// What it took in over this connection.
    applied: u64,
    /// Whether what it has was current over this connection: a connection alone renews no lease.
    is_current: bool,
    current_at: Option<Instant>,
}

impl Real {
    fn disconnect(&mut self, now: Instant) {
        if self.connection.take().is_some() && std::mem::take(&mut self.is_current) {
            self.current_at = Some(now);
        }
    }

    fn may_rely(&self, now: Instant) -> bool {
        self.is_current || self.current_at.is_some_and(|at| now < at + LEASE)
    }
}

proptest! {
    /// Whatever happens, nothing is released while a follower that may rely on what it has still leads there.
    #[test]
    fn nothing_is_released_that_somebody_leads_to(steps in proptest::collection::vec(step(), 1..80)) {
        let (mut state, mut now, mut index, mut connection) = (State::default(), Instant::now(), 10, 0);
        let mut real: [Real; 3] = Default::default();
        let names = ["a", "b", "c"];
        let mut left: Vec<u64> = Vec::new();
        for step in steps {
            match step {
                Step::Join(who) => {
                    connection += 1;
                    real[who].disconnect(now);
                    state.join(peer(names[who]), connection);
                    // What it knew it knows, and it says at once what it follows.
                    let followed = real[who].set.map(|_| OrdSet::unit(service("red"))).unwrap_or_default();
                    (real[who].connection, real[who].applied) = (Some(connection), 0);
                    state.follows(&peer(names[who]), connection, followed);
                }
                Step::Follow(who) => if let Some(connection) = real[who].connection {
                    state.follows(&peer(names[who]), connection, OrdSet::unit(service("red")));
                    if real[who].set.is_none() {
                        (real[who].set, real[who].is_current) = (Some(index), true);
                    }
                },
                Step::Apply(who) => if real[who].connection.is_some() {
                    real[who].applied = index;
                    real[who].is_current = true;
                    if let Some(set) = &mut real[who].set {
                        *set = index;
                    }
                },
                Step::Tell(who) => if let Some(connection) = real[who].connection {
                    state.applied(&peer(names[who]), connection, real[who].applied);
                },
                Step::Leave(who) => if let Some(connection) = real[who].connection {
                    real[who].disconnect(now);
                    state.leave(&peer(names[who]), connection, now);
                },
                Step::Depart => {
                    index += 1;
                    left.push(index);
                    state.depart(departed(index, "red", index), now);
                }
                Step::Pass(seconds) => now += Duration::from_secs(seconds),
            }
            state.expire(now);
            for (run, has_heir) in released(&mut state) {
                prop_assert!(!has_heir);
                for follower in &real {
                    let leads_there = follower.set.is_some_and(|set| set < run);
                    prop_assert!(!(follower.may_rely(now) && leads_there), "{run} was released, and {follower:?} leads there");
                }
            }
        }
    }
}
