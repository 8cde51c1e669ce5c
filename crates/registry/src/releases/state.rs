//! Which followers may still lead to endpoints that are gone. Pure: time comes as an argument.
//!
//! An endpoint that left the view at an index is *released* once every follower of its service has that index in use. A follower that
//! is no longer connected counts for as long as it may rely on what it was told; one that cannot tell what it uses, always.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use imbl::OrdSet;
use portolan_core::endpoint::EndpointKey;
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_proto::release::{Heir, Released};
use tokio::time::Instant;

/// How long a follower may rely on what it was told, without a word of the registry: the lease of DESIGN section 4.
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// How long a departure is remembered: longer than any sensible `guard`.
pub(super) const KEPT: Duration = Duration::from_secs(300);
/// How many are remembered; the oldest go first, and the ports of those open by time.
const DEPARTURES_MAX: usize = 65_536;

/// Who follows: a node, or a peer that does not say which it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    Node(NodeKey),
    Nameless(u64),
}

/// A follower over its connections.
#[derive(Debug)]
struct Follower {
    /// The newest connection.
    connection: u64,
    followed: OrdSet<ServiceKey>,
    /// What it followed before this connection, until it has something of this one in use.
    before: OrdSet<ServiceKey>,
    applied: u64,
    left_at: Option<Instant>,
}

/// An endpoint that is gone: where it was, and who may not know.
#[derive(Debug)]
struct Departure {
    key: EndpointKey,
    service: ServiceKey,
    /// 0: not known.
    port: u16,
    waiting: HashSet<Peer>,
    heir: Option<Heir>,
    is_told: bool,
    at: Instant,
}

/// An endpoint that left the view.
#[derive(Debug, Clone)]
pub(super) struct Departed {
    pub(super) key: EndpointKey,
    pub(super) service: ServiceKey,
    /// Its host port; 0: not known.
    pub(super) port: u16,
    /// The index without it.
    pub(super) index: u64,
}

/// Followers and departures.
#[derive(Debug, Default)]
pub(super) struct State {
    followers: HashMap<Peer, Follower>,
    departures: BTreeMap<(u64, u64), Departure>,
    by_node: HashMap<NodeKey, BTreeSet<(u64, u64)>>,
    /// The number of the newest departure.
    number: u64,
}

impl State {
    /// A connection of `peer` begins. An older one of the same peer no longer counts.
    pub(super) fn join(&mut self, peer: Peer, connection: u64) {
        let known = self.followers.remove(&peer);
        let before = known.map(|known| known.before.union(known.followed)).unwrap_or_default();
        let follower = Follower { connection, followed: OrdSet::new(), before, applied: 0, left_at: None };
        self.followers.insert(peer, follower);
    }

    /// What the peer follows from now on. Must be said before it is told of what it follows.
    pub(super) fn follows(&mut self, peer: &Peer, connection: u64, followed: OrdSet<ServiceKey>) {
        if let Some(follower) = self.of(peer, connection) {
            follower.followed = followed;
        }
    }

    /// The peer has everything up to `index` in use. Returns the nodes with something released by that.
    pub(super) fn applied(&mut self, peer: &Peer, connection: u64, index: u64) -> BTreeSet<NodeKey> {
        let Some(follower) = self.of(peer, connection).filter(|follower| follower.applied < index) else {
            return BTreeSet::new();
        };
        let from = std::mem::replace(&mut follower.applied, index).saturating_add(1);
        follower.before = OrdSet::new();
        let mut nodes = BTreeSet::new();
        for departure in self.departures.range_mut((from, 0)..=(index, u64::MAX)).map(|(_, departure)| departure) {
            if departure.waiting.remove(peer) && departure.waiting.is_empty() {
                departure.is_told = false;
                nodes.insert(departure.key.node.clone());
            }
        }
        nodes
    }

    /// A connection ended.
    pub(super) fn leave(&mut self, peer: &Peer, connection: u64, now: Instant) {
        let Some(follower) = self.of(peer, connection) else { return };
        follower.left_at = Some(now);
        if follower.followed.is_empty() && follower.before.is_empty() {
            self.followers.remove(peer);
        }
    }

    fn of(&mut self, peer: &Peer, connection: u64) -> Option<&mut Follower> {
        self.followers.get_mut(peer).filter(|follower| follower.connection == connection)
    }

    /// An endpoint left the view.
    pub(super) fn depart(&mut self, departed: Departed, now: Instant) {
        let may_lead = |follower: &Follower| {
            let follows = follower.followed.contains(&departed.service) || follower.before.contains(&departed.service);
            follows && follower.applied < departed.index
        };
        let waiting = self.followers.iter().filter(|(_, follower)| may_lead(follower)).map(|(peer, _)| peer.clone());
        let waiting = waiting.collect();
        let Departed { key, service, port, index } = departed;
        self.number += 1;
        let id = (index, self.number);
        self.by_node.entry(key.node.clone()).or_default().insert(id);
        let departure = Departure { key, service, port, waiting, heir: None, is_told: false, at: now };
        self.departures.insert(id, departure);
        while self.departures.len() > DEPARTURES_MAX {
            let oldest = self.departures.keys().next().copied();
            oldest.into_iter().for_each(|id| self.forget(id));
        }
    }

    /// An endpoint of `service` came at a host port: if that was one of the same service, whoever still leads there is right.
    pub(super) fn came(&mut self, service: &ServiceKey, key: &EndpointKey, port: u16) {
        for id in self.by_node.get(&key.node).into_iter().flatten() {
            let Some(departure) = self.departures.get_mut(id) else { continue };
            let is_there = departure.port == port && departure.key.protocol == key.protocol && departure.key != *key;
            let heir = Some(Heir { container_id: key.container_id.clone(), run: key.run });
            if port != 0 && is_there && departure.service == *service && departure.heir != heir {
                (departure.heir, departure.is_told) = (heir, false);
            }
        }
    }

    /// What is to be told to `node`, at most `most`; it counts as told.
    pub(super) fn take_released(&mut self, node: &NodeKey, most: usize) -> Vec<Released> {
        let mut released = Vec::new();
        for id in self.by_node.get(node).into_iter().flatten() {
            let Some(departure) = self.departures.get_mut(id) else { continue };
            let is_free = departure.waiting.is_empty();
            if !departure.is_told && (is_free || departure.heir.is_some()) && released.len() < most {
                departure.is_told = true;
                released.push(Released::of(&departure.key, departure.heir.clone().filter(|_| !is_free)));
            }
        }
        released
    }

    /// The node may not have heard what it was told: all is to be said again.
    pub(super) fn tell_again(&mut self, node: &NodeKey) {
        for id in self.by_node.get(node).into_iter().flatten() {
            self.departures.entry(*id).and_modify(|departure| departure.is_told = false);
        }
    }

    /// Forgets followers that may rely on nothing any more, and departures whose time is over. Returns the nodes with something
    /// released by that.
    pub(super) fn expire(&mut self, now: Instant) -> BTreeSet<NodeKey> {
        let is_over = |follower: &Follower| follower.left_at.is_some_and(|at| now >= at + LEASE);
        let gone: Vec<Peer> =
            self.followers.iter().filter(|(_, follower)| is_over(follower)).map(|(peer, _)| peer.clone()).collect();
        let old: Vec<_> = self.departures.iter().filter(|(_, d)| now >= d.at + KEPT).map(|(id, _)| *id).collect();
        old.into_iter().for_each(|id| self.forget(id));
        let mut nodes = BTreeSet::new();
        for peer in gone {
            self.followers.remove(&peer);
            for departure in self.departures.values_mut() {
                if departure.waiting.remove(&peer) && departure.waiting.is_empty() {
                    departure.is_told = false;
                    nodes.insert(departure.key.node.clone());
                }
            }
        }
        nodes
    }

    fn forget(&mut self, id: (u64, u64)) {
        let Some(departure) = self.departures.remove(&id) else { return };
        if let Some(ids) = self.by_node.get_mut(&departure.key.node) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_node.remove(&departure.key.node);
            }
        }
    }
}

#[cfg(test)]
mod tests;
