//! What the catalog shows of silent nodes: which of their places neighbours should try, and which places of nodes that speak
//! prove that a neighbour can reach anybody at all. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portolan_core::endpoint::{Protocol, State};
use portolan_core::name::NodeKey;
use portolan_core::rules::{Neighbours, Sidecar, Witnesses, Word, decide};
use rand::{Rng, RngExt};

use crate::catalog::{Candidate, Catalog, NodeStatus};

/// How many places of one node are tried. Of more, nothing is known.
const PLACES_MAX: usize = 1_024;
/// From how many nodes controls are taken.
const CONTROL_NODES_MAX: usize = 64;

/// A silent node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Silent {
    /// Since when, Unix milliseconds.
    pub(super) since_ms: u64,
    /// The host's own addresses.
    pub(super) addresses: Vec<IpAddr>,
}

/// Silent nodes.
pub(super) fn silent(catalog: &Catalog) -> BTreeMap<NodeKey, Silent> {
    let silent = |(node, status): (&NodeKey, &Arc<NodeStatus>)| {
        let since_ms = status.silence.as_ref()?.since_ms;
        Some((node.clone(), Silent { since_ms, addresses: status.addresses.clone() }))
    };
    catalog.nodes.iter().filter_map(silent).collect()
}

/// Per silent node, the places that were usable at its last word.
pub(super) type Places = BTreeMap<NodeKey, BTreeMap<SocketAddr, Stake>>;

/// Everything that a look at the candidates gives.
#[derive(Debug, Default)]
pub(super) struct Sight {
    pub(super) places: Places,
    pub(super) controls: Controls,
}

/// What neighbours' words decide about a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stake {
    /// Whether it comes back: without a neighbour that connects it is gone.
    Return,
    /// Whether it goes: without them it stays.
    Removal,
}

/// Places of nodes that speak, one for each of some nodes.
#[derive(Debug, Default)]
pub(super) struct Controls {
    /// Their sidecars say that they pass.
    passing: BTreeMap<NodeKey, SocketAddr>,
    /// The others.
    other: BTreeMap<NodeKey, SocketAddr>,
}

/// Looks at every candidate. Controls are taken from a random service on.
pub(super) fn look(catalog: &Catalog, rng: &mut impl Rng) -> Sight {
    let mut sight = Sight::default();
    let first = rng.random_range(0..catalog.explained.len().max(1));
    let services = || catalog.explained.values();
    for explained in services().skip(first).chain(services().take(first)) {
        for candidate in explained.candidates.iter().filter(|c| c.key.protocol == Protocol::Tcp && !c.is_refused) {
            match candidate.witnesses.sidecar {
                Sidecar::Silent(Word::Passing) => sight.add_place(candidate),
                Sidecar::Speaks(word) => sight.controls.add(candidate, word),
                Sidecar::Silent(_) | Sidecar::None | Sidecar::External(_) => {}
            }
        }
    }
    sight
}

impl Sight {
    fn add_place(&mut self, candidate: &Candidate) {
        let Some(stake) = stake(candidate) else { return };
        let places = self.places.entry(candidate.key.node.clone()).or_default();
        for address in &candidate.addresses {
            if places.len() >= PLACES_MAX {
                return;
            }
            let place = places.entry(SocketAddr::new(*address, candidate.port)).or_insert(stake);
            *place = stake.max(*place);
        }
    }
}

/// What is at stake; `None`: whatever neighbours say, it is gone.
fn stake(candidate: &Candidate) -> Option<Stake> {
    let is_gone = |neighbours| decide(&Witnesses { neighbours, ..candidate.witnesses }).state == State::Gone;
    match (is_gone(Neighbours::Connect), is_gone(Neighbours::NotKnown)) {
        (true, _) => None,
        (false, true) => Some(Stake::Return),
        (false, false) => Some(Stake::Removal),
    }
}

impl Controls {
    fn add(&mut self, candidate: &Candidate, word: Word) {
        let places = match word {
            Word::Passing => &mut self.passing,
            Word::Stopping(_) | Word::Failing | Word::Starting => &mut self.other,
            // Nobody listens there, or nobody answers.
            Word::Died | Word::Paused => return,
        };
        let Some(address) = candidate.addresses.first() else { return };
        if places.len() < CONTROL_NODES_MAX && !places.contains_key(&candidate.key.node) {
            places.insert(candidate.key.node.clone(), SocketAddr::new(*address, candidate.port));
        }
    }

    /// At most `count` controls for a question to `asked`, on nodes of their own. None is on `asked` itself; where it is all
    /// the same, by an address that two nodes have, the sidecar leaves it out.
    pub(super) fn choose(&self, asked: &NodeKey, count: usize, rng: &mut impl Rng) -> Vec<SocketAddr> {
        let others = |places: &BTreeMap<NodeKey, SocketAddr>| -> Vec<SocketAddr> {
            places.iter().filter(|(node, _)| *node != asked).map(|(_, place)| *place).collect()
        };
        let mut places = others(&self.passing);
        if places.is_empty() {
            places = others(&self.other);
        }
        let first = rng.random_range(0..places.len().max(1));
        places.rotate_left(first);
        places.truncate(count);
        places
    }
}

#[cfg(test)]
mod tests;
