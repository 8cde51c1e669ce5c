//! Turns evidence into catalogs, one commit at a time, or all of it anew after a load. No IO.

use std::sync::Arc;

use ipnet::Ipv4Net;
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::view::{EndpointSet, Readiness, Service};

use super::held::{self, Held, SiteShown, Touched};
use super::service::{self, Built};
use super::{Catalog, Doubted, EVENTS_MAX, Explained, events};
use crate::store::{Commit, Identity, Snapshot};

/// How many names that went away are remembered with their index.
const REMOVED_MAX: usize = 100_000;

/// The writer of catalogs.
#[derive(Debug)]
pub(super) struct Builder {
    identity: Identity,
    range: Ipv4Net,
    held: Held,
    catalog: Catalog,
}

/// When what is built was committed.
#[derive(Clone, Copy)]
struct Moment {
    index: u64,
    at_ms: u64,
    /// Whether all of it was loaded, and nobody knows in which order it was said.
    is_load: bool,
}

impl Builder {
    /// A builder that has loaded nothing.
    pub(super) fn new(identity: Identity, range: Ipv4Net) -> Self {
        let catalog = Catalog { epoch: identity.epoch.as_str().into(), ..Catalog::default() };
        Builder { identity, range, held: Held::new(range), catalog }
    }

    /// The newest catalog.
    pub(super) fn catalog(&self) -> Catalog {
        self.catalog.clone()
    }

    /// Replaces everything by `snapshot`. What is equal keeps its index.
    pub(super) fn load(&mut self, snapshot: Snapshot, readiness: Readiness) {
        let index = self.identity.index(snapshot.revision);
        let at_ms = snapshot.entries.iter().map(|entry| entry.at_ms).max().unwrap_or_default();
        let before = std::mem::replace(&mut self.held, Held::new(self.range));
        for commit in snapshot.entries.into_iter().map(held::as_commit) {
            commit.writes.iter().for_each(|write| self.held.apply(&commit, write));
        }
        let mut touched = self.held.settle();
        touched.services.extend(before.services().into_iter().chain(self.held.services()));
        touched.sites.extend(before.sites());
        let is_first = self.catalog.view.readiness == Readiness::Loading;
        self.rebuild(touched, Moment { index, at_ms, is_load: true });
        if is_first {
            // What was there before the start is no change that happened now.
            self.catalog.events.clear();
            self.catalog.first_index = index;
            self.catalog.view.index = index;
        }
        if self.catalog.view.readiness != Readiness::Current {
            self.catalog.view.readiness = readiness;
        }
        self.catalog.revision = snapshot.revision;
    }

    /// Takes one commit in.
    pub(super) fn apply(&mut self, commit: &Commit) {
        commit.writes.iter().for_each(|write| self.held.apply(commit, write));
        let touched = self.held.settle();
        let index = self.identity.index(commit.revision);
        self.rebuild(touched, Moment { index, at_ms: commit.at_ms, is_load: false });
        self.catalog.revision = commit.revision;
    }

    /// The witnesses have had time to speak. Whether that is news.
    pub(super) fn confirm(&mut self) -> bool {
        let is_news = self.catalog.view.readiness == Readiness::Stale;
        if is_news {
            self.catalog.view.readiness = Readiness::Current;
        }
        is_news
    }

    fn rebuild(&mut self, touched: Touched, moment: Moment) {
        for site in &touched.sites {
            self.rebuild_site(site, moment);
        }
        for key in &touched.services {
            let before = self.catalog.explained.get(key).cloned();
            let at_ms = (!moment.is_load).then_some(moment.at_ms);
            let built = service::build(self.held.inputs(key, before.as_deref(), at_ms));
            self.put_service(before.as_ref(), built, moment);
        }
        self.catalog.addresses = self.held.addresses.clone();
        self.catalog.stated = self.held.stated.clone();
    }

    fn rebuild_site(&mut self, key: &NodeKey, moment: Moment) {
        let SiteShown { node, name_needs, stale_names } = self.held.shown(key);
        keep(&mut self.catalog.name_needs, key, name_needs);
        keep(&mut self.catalog.stale_names, key, Some(stale_names).filter(|names| !names.is_empty()));
        let Some((status, node)) = node else {
            if self.catalog.nodes.remove(key).is_some() {
                self.catalog.view.remove_node(key);
                self.catalog.view.index = moment.index;
            }
            return;
        };
        keep(&mut self.catalog.nodes, key, Some(status));
        if self.catalog.view.nodes.get(key).is_none_or(|known| **known != node) {
            self.catalog.view.insert_node(Arc::new(node));
            self.catalog.view.index = moment.index;
        }
    }

    fn put_service(&mut self, before: Option<&Arc<Explained>>, built: Built, moment: Moment) {
        let Built { explained, endpoints, link, need } = built;
        let key = &explained.key.clone();
        let said = events::Said { index: moment.index, at_ms: moment.at_ms, stated: &self.held.stated };
        for event in events::between(before.map(Arc::as_ref), &explained, said) {
            self.catalog.events.push_back(Arc::new(event));
        }
        while self.catalog.events.len() > EVENTS_MAX {
            self.catalog.events.pop_front();
        }
        keep(&mut self.catalog.needs, key, need);
        keep(&mut self.catalog.doubted, key, Doubted::of(&explained));
        if explained.owner.is_some() {
            let index = self.catalog.view.service(key).map_or(moment.index, |service| service.index);
            let endpoints = EndpointSet::Known(endpoints.into());
            self.put_in_view(Service { key: key.clone(), index, link, endpoints }, moment);
        } else if self.catalog.view.service(key).is_some() {
            self.take_from_view(key, moment);
        }
        let says_nothing =
            explained.candidates.is_empty() && explained.refusals.is_empty() && explained.stopped.is_empty();
        let is_known = explained.owner.is_some() || explained.link.is_some();
        keep(&mut self.catalog.explained, key, (is_known || !says_nothing).then_some(explained));
    }

    fn put_in_view(&mut self, service: Service, moment: Moment) {
        let view = &mut self.catalog.view;
        let before = view.service(&service.key);
        if before.is_some_and(|before| **before == service) {
            return;
        }
        view.insert_service(Arc::new(Service { index: moment.index, ..service }));
        view.index = moment.index;
    }

    fn take_from_view(&mut self, key: &ServiceKey, moment: Moment) {
        self.catalog.view.remove_service(key);
        self.catalog.view.index = moment.index;
        if self.catalog.removed.len() >= REMOVED_MAX {
            // Never lower than what was said before: every absent name counts as changed now.
            self.catalog.removed.clear();
            self.catalog.first_index = moment.index;
        }
        self.catalog.removed.insert(key.clone(), moment.index);
    }
}

/// Keeps what readers share: a value that is equal stays the one that it was.
fn keep<K: Ord + Clone, V: PartialEq>(kept: &mut imbl::OrdMap<K, Arc<V>>, key: &K, value: Option<V>) {
    match value {
        None => drop(kept.remove(key)),
        Some(value) if kept.get(key).is_some_and(|known| **known == value) => {}
        Some(value) => drop(kept.insert(key.clone(), Arc::new(value))),
    }
}
