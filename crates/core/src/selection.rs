//! Which endpoints a client gets, and in which order (DESIGN section 3).
//!
//! Usable ones are answered; only when there is none, the next best: names never go empty while something may work.
//! Starting and gone endpoints are never answered. The order is random by the caller's seed, nearest az first: of
//! those that are as near as the first any may come first.

use std::cmp::Reverse;

use crate::endpoint::{Endpoint, Protocol, Standing, State};
use crate::lookup::Part;

/// How good an endpoint is. Only the best rank present is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Usable, or vouched for by a neighbour while its node is silent.
    Usable,
    /// Its node is silent and nobody knows.
    Unverified,
    /// Stopping, and passed its last check.
    Draining,
    /// Failing: answered because nothing better is left (fail open).
    Unusable,
    /// Stopping and failing: still better than no answer.
    DrainingUnusable,
}

impl Rank {
    /// The rank of an endpoint in `state`; `None` is never answered.
    pub fn of(state: State) -> Option<Rank> {
        match state {
            State::Usable | State::Unverified(Standing::Vouched) => Some(Rank::Usable),
            State::Unverified(Standing::Last) => Some(Rank::Unverified),
            State::Draining { passed: true } => Some(Rank::Draining),
            State::Unusable => Some(Rank::Unusable),
            State::Draining { passed: false } => Some(Rank::DrainingUnusable),
            State::Starting | State::Gone => None,
        }
    }
}

/// What the asker prefers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Preference<'a> {
    /// Drawn anew for each answer.
    pub seed: u64,
    /// The asker's availability zone: endpoints there come first.
    pub az: Option<&'a str>,
}

/// The endpoints to answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection<'a> {
    /// Best first.
    pub endpoints: Vec<&'a Endpoint>,
    /// How many of the first are as near as each other, so that their order has no meaning.
    pub alike: usize,
    /// The rank of all of them; `None` when there is none.
    pub rank: Option<Rank>,
}

/// The endpoints of `candidates` that a client gets, in its order.
pub fn select<'a>(candidates: impl IntoIterator<Item = &'a Endpoint>, preference: Preference<'_>) -> Selection<'a> {
    let mut selection = Selection::default();
    for endpoint in candidates {
        let Some(rank) = Rank::of(endpoint.state) else { continue };
        if selection.rank.is_none_or(|best| rank < best) {
            selection.rank = Some(rank);
            selection.endpoints.clear();
        }
        if selection.rank == Some(rank) {
            selection.endpoints.push(endpoint);
        }
    }
    selection.alike = arrange(&mut selection.endpoints, preference);
    selection
}

/// Puts them in order; how many of the first are alike.
fn arrange(endpoints: &mut [&Endpoint], Preference { seed, az }: Preference<'_>) -> usize {
    shuffle(endpoints, seed);
    let is_near = |endpoint: &Endpoint| az.is_some() && endpoint.az.as_deref() == az;
    endpoints.sort_by_key(|endpoint| Reverse(is_near(endpoint)));
    match endpoints.iter().take_while(|endpoint| is_near(endpoint)).count() {
        0 => endpoints.len(),
        near => near,
    }
}

/// The endpoints that a part of a service's name stands for, in whatever state; `None` when nothing has that name.
///
/// A service without any endpoint has every port, for nobody knows which it had: known, and empty.
pub fn behind<'a>(part: &Part, endpoints: &'a [Endpoint]) -> Option<Vec<&'a Endpoint>> {
    let own = || endpoints.iter().filter(|e| e.is_service_port);
    let found: Vec<&Endpoint> = match part {
        Part::Whole | Part::Direct => return Some(own().collect()),
        Part::ProtocolBranch(_) => return Some(Vec::new()),
        Part::Port(port, protocol) => {
            let with_protocol = || own().filter(|e| e.key.protocol == *protocol);
            let named: Vec<_> = with_protocol().filter(|e| e.port_name.as_ref() == Some(port)).collect();
            if named.is_empty() {
                let number = port.as_str().parse::<u16>().ok();
                with_protocol().filter(|e| Some(e.key.container_port) == number).collect()
            } else {
                named
            }
        }
        Part::Named(name) => {
            let of_task: Vec<_> = endpoints.iter().filter(|e| is_task(e, name.as_str())).collect();
            if of_task.is_empty() { endpoints.iter().filter(|e| &e.container == name).collect() } else { of_task }
        }
    };
    let is_port_of_empty = matches!(part, Part::Port(..)) && endpoints.is_empty();
    (!found.is_empty() || is_port_of_empty).then_some(found)
}

/// Of `endpoints`, those of the one port that SRV answers where the name does not say which: a client of SRV takes any
/// record, so two ports must never stand in one answer. The only port, the one named `primary`, or the lowest; the
/// service's own ports before others, TCP before UDP.
pub fn primary<'a>(endpoints: &[&'a Endpoint]) -> Vec<&'a Endpoint> {
    let port = |e: &Endpoint| (e.key.protocol, e.key.container_port);
    let rank = |e: &Endpoint| {
        let is_named = e.port_name.as_ref().is_some_and(|name| name.as_str() == "primary");
        (Reverse(e.is_service_port), Reverse(is_named), port(e))
    };
    let chosen: Option<(Protocol, u16)> = endpoints.iter().min_by_key(|e| rank(e)).map(|e| port(e));
    endpoints.iter().copied().filter(|e| Some(port(e)) == chosen).collect()
}

/// Whether `text` is the first 12 or all 32 characters of the endpoint's task id.
fn is_task(endpoint: &Endpoint, text: &str) -> bool {
    let is_id = |id: &String| id.eq_ignore_ascii_case(text) || (text.len() == 12 && starts_with(id, text));
    endpoint.task_id.as_ref().is_some_and(is_id)
}

fn starts_with(id: &str, start: &str) -> bool {
    id.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// Fisher and Yates, with SplitMix64 from the seed: the same seed gives the same order everywhere.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    for last in (1..items.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        items.swap(last, (mixed % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests;
