//! What the registry told this node: the directory of everything, and the endpoint sets of what is followed.
//!
//! Pure: messages in, a view out. Invariants: a message that cannot be meant changes nothing but its own entry; while the
//! registry is not sure of itself (its store was just loaded), or speaks from another store than the view is of, nothing
//! is removed for its sake, so a registry that lost its memory empties no name. What never happens here: waiting, sending,
//! reading a clock.

mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use portolan_core::endpoint::Endpoint;
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::view::{EndpointSet, Readiness, Service, View};
use portolan_proto::{exchange, wire};

pub(crate) use stream::Subscriber;

/// How many services are followed at once; the one followed first goes when another comes.
const FOLLOWED_MAX: usize = 10_000;

/// Where a view comes from, and how old it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The epoch of the store that it is of; empty before the first.
    pub epoch: String,
    /// When it was last current, Unix milliseconds; 0: never.
    pub current_at_ms: u64,
}

/// The state of a subscription, over any number of connections.
#[derive(Debug, Default)]
pub struct Subscription {
    view: View,
    provenance: Provenance,
    followed: BTreeSet<ServiceKey>,
    followed_order: VecDeque<ServiceKey>,
    sets: BTreeMap<ServiceKey, Arc<Service>>,
    awaited: BTreeSet<ServiceKey>,
    complete: Option<Listing>,
    /// Everything up to this index of the registry that is connected has been taken in, and nothing older is kept; 0: not so far.
    applied: u64,
}

/// What a complete directory has named so far; the rest is removed when the registry is sure.
#[derive(Debug, Default)]
struct Listing {
    services: BTreeSet<ServiceKey>,
    nodes: BTreeSet<NodeKey>,
    word: Word,
    epoch: String,
}

/// What it means that a listing lacks something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Word {
    /// Nothing: the registry is not sure itself.
    #[default]
    Unsure,
    /// Nothing yet: the registry is sure, but of another store, which not every node may have reported to.
    Stranger,
    /// That it is gone.
    Sure,
}

impl Subscription {
    /// A subscription that begins with what a snapshot kept: stale, but complete.
    pub fn from_snapshot((view, provenance): (View, Provenance)) -> Self {
        let mut subscription = Subscription { view, provenance, ..Subscription::default() };
        let known = |service: &&Arc<Service>| service.known_endpoints().is_some();
        let sets: Vec<_> = subscription.view.services.values().filter(known).cloned().collect();
        for service in sets {
            subscription.follow(&service.key);
            subscription.sets.insert(service.key.clone(), service);
        }
        if subscription.view.readiness == Readiness::Current {
            subscription.view.readiness = Readiness::Stale;
        }
        subscription
    }

    /// The view so far.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Where the view comes from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The registry was heard at `now_ms`.
    pub fn heard(&mut self, now_ms: u64) {
        if self.view.readiness == Readiness::Current {
            self.provenance.current_at_ms = now_ms;
        }
    }

    /// Whether a registry speaks that is sure, of another store than the view is of.
    pub fn has_stranger(&self) -> bool {
        self.complete.as_ref().is_some_and(|listing| listing.word == Word::Stranger)
    }

    /// Nodes had the time to report to the stranger: its word counts from now on. It has to send everything again.
    pub fn believe_stranger(&mut self) {
        if let Some(listing) = self.complete.take() {
            self.provenance.epoch = listing.epoch;
        }
        self.connected();
    }

    /// Everything that is followed.
    pub fn followed(&self) -> impl Iterator<Item = &ServiceKey> {
        self.followed.iter()
    }

    /// Follows `key`. Returns whether the registry has to be told, and what must be unfollowed for it.
    pub fn follow(&mut self, key: &ServiceKey) -> (bool, Option<ServiceKey>) {
        if !self.followed.insert(key.clone()) {
            return (false, None);
        }
        self.followed_order.push_back(key.clone());
        if self.followed.len() <= FOLLOWED_MAX {
            return (true, None);
        }
        let oldest = self.followed_order.pop_front();
        if let Some(oldest) = &oldest {
            self.unfollow(oldest);
        }
        (true, oldest)
    }

    fn unfollow(&mut self, key: &ServiceKey) {
        self.followed.remove(key);
        self.awaited.remove(key);
        self.sets.remove(key);
        if let Some(service) = self.view.service(key) {
            let listed = Service { endpoints: EndpointSet::Unfollowed, ..Service::clone(service) };
            self.view.insert_service(Arc::new(listed));
        }
    }

    /// Up to which index of the connected registry the view is what that registry told.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// A connection begins: what is followed is awaited anew.
    pub fn connected(&mut self) {
        self.applied = 0;
        self.complete = None;
        self.awaited = self.followed.clone();
    }

    /// The connection ended: what is known stays, as stale. Returns whether it was current until now.
    pub fn lost(&mut self) -> bool {
        let was_current = self.view.readiness == Readiness::Current;
        if was_current {
            self.view.readiness = Readiness::Stale;
        }
        was_current
    }

    /// Takes the directory, or what changed in it.
    pub fn directory(&mut self, directory: wire::Directory) {
        if directory.is_complete {
            let word = self.word_of(&directory);
            self.complete = Some(Listing { word, epoch: directory.epoch, ..Listing::default() });
        }
        for listed in &directory.services {
            if let Ok(service) = exchange::directory_service_in(listed, directory.index) {
                self.list(service);
            }
        }
        for node in directory.nodes.into_iter().filter_map(|node| exchange::node_in(node).ok()) {
            if let Some(listing) = &mut self.complete {
                listing.nodes.insert(node.key.clone());
            }
            self.view.insert_node(Arc::new(node));
        }
        for name in directory.removed_services.iter().filter_map(|name| exchange::service_name_in(Some(name)).ok()) {
            self.view.remove_service(&name);
        }
        for name in directory.removed_nodes.iter().filter_map(|name| exchange::node_name_in(Some(name)).ok()) {
            self.view.remove_node(&name);
        }
    }

    fn word_of(&self, directory: &wire::Directory) -> Word {
        let has_something_to_lose = !self.view.services.is_empty() || !self.view.nodes.is_empty();
        let is_other_store = !self.provenance.epoch.is_empty() && self.provenance.epoch != directory.epoch;
        match directory.is_confirmed {
            false => Word::Unsure,
            true if is_other_store && has_something_to_lose => Word::Stranger,
            true => Word::Sure,
        }
    }

    fn list(&mut self, mut service: Service) {
        if let Some(listing) = &mut self.complete {
            listing.services.insert(service.key.clone());
        }
        if let Some(set) = self.sets.get(&service.key) {
            service.endpoints = set.endpoints.clone();
        }
        self.view.insert_service(Arc::new(service));
    }

    /// Takes the endpoints of one followed service.
    pub fn set(&mut self, set: &wire::ServiceSet) {
        let Ok((key, index, mut endpoints)) = exchange::service_set_in(set) else { return };
        if !self.followed.contains(&key) {
            return;
        }
        self.awaited.remove(&key);
        if !self.is_registry_sure() {
            endpoints = union(self.sets.get(&key), endpoints);
        }
        let link = self.view.service(&key).and_then(|service| service.link.clone());
        let service = Arc::new(Service { key: key.clone(), index, link, endpoints: EndpointSet::Known(endpoints) });
        self.sets.insert(key.clone(), service.clone());
        if self.view.service(&key).is_some() {
            self.view.insert_service(service);
        }
    }

    /// The registry says that it has sent everything up to now, with the digest of what this side should hold.
    /// Returns whether it holds just that.
    pub fn agrees_with(&self, digest: &wire::Digest) -> bool {
        let services = self.view.services.values().map(AsRef::as_ref);
        let nodes = self.view.nodes.values().map(AsRef::as_ref);
        let sets = exchange::sets_digest(self.sets.values().map(AsRef::as_ref));
        !self.is_registry_sure()
            || (exchange::directory_digest(services, nodes), sets) == (digest.directory, digest.sets)
    }

    /// A heartbeat with an index: everything up to it has arrived, and only now, as sets come one by one. Completes a full exchange: what a registry that is
    /// sure did not name is removed, and the view is current once every followed set is here.
    pub fn heartbeat(&mut self, index: u64) {
        self.view.index = index;
        if let Some(listing) = self.complete.take_if(|listing| listing.word == Word::Sure) {
            let Listing { services, nodes, epoch, .. } = listing;
            self.provenance.epoch = epoch;
            let unnamed: Vec<_> = self.view.services.keys().filter(|key| !services.contains(key)).cloned().collect();
            unnamed.iter().for_each(|key| self.view.remove_service(key));
            let unnamed: Vec<_> = self.view.nodes.keys().filter(|key| !nodes.contains(key)).cloned().collect();
            unnamed.iter().for_each(|key| self.view.remove_node(key));
            self.view.readiness = Readiness::Stale;
        }
        if !self.provenance.epoch.is_empty() && self.complete.is_none() && self.awaited.is_empty() {
            self.view.readiness = Readiness::Current;
        } else if self.complete.is_some() && self.view.readiness == Readiness::Loading {
            self.view.readiness = Readiness::Stale;
        }
        if self.is_registry_sure() && self.awaited.is_empty() {
            self.applied = index;
        }
    }

    /// Whether what the registry leaves out counts as gone.
    fn is_registry_sure(&self) -> bool {
        self.complete.as_ref().is_none_or(|listing| listing.word == Word::Sure)
    }
}

/// What came, and what was known before and did not come.
fn union(before: Option<&Arc<Service>>, now: Arc<[Endpoint]>) -> Arc<[Endpoint]> {
    let before = before.and_then(|service| service.known_endpoints());
    let mut merged: BTreeMap<_, _> =
        before.iter().flat_map(|set| set.iter()).map(|e| (e.key.clone(), e.clone())).collect();
    merged.extend(now.iter().map(|e| (e.key.clone(), e.clone())));
    merged.into_values().collect()
}

#[cfg(test)]
mod tests;
