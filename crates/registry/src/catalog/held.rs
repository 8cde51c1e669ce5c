//! The evidence that the catalog holds, decoded, and what each piece of it touches.
//!
//! A write is taken in and marks the sites that it concerns; [`Held::settle`] works out what follows of those, once for all
//! writes of a commit, and tells which services have to be built anew: those of which now something else is said.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use portolan_core::ecs::{EcsReport, Task};
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::view::Node;

use super::declared::{self, Declared};
use super::index::Index;
use super::join::Join;
use super::needs::{NameNeeds, Recorded, RecordedAddress, Records};
use super::service::Inputs;
use super::site::{Report, Site};
use super::stated::Stated;
use super::weigh::NodeClaims;
use super::{Explained, NodeStatus};
use crate::store::record::{self, Presence};
use crate::store::{Commit, Key, Target, Write};

/// Everything decoded.
#[derive(Debug)]
pub(super) struct Held {
    range: Ipv4Net,
    sites: HashMap<NodeKey, Site>,
    index: Index,
    records: HashMap<ServiceKey, Records>,
    declared: HashMap<ServiceKey, Declared>,
    pub(super) stated: Stated,
    pub(super) addresses: imbl::OrdMap<Ipv4Addr, RecordedAddress>,
    /// Which sites have anything to say of a service.
    claimants: HashMap<ServiceKey, BTreeSet<NodeKey>>,
    marked: Marked,
}

/// What has to be worked out anew.
#[derive(Debug, Default)]
struct Marked {
    is_all: bool,
    sites: BTreeSet<NodeKey>,
    services: BTreeSet<ServiceKey>,
}

/// What has to be built anew.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) services: BTreeSet<ServiceKey>,
    pub(super) sites: BTreeSet<NodeKey>,
}

/// What is shown of a site, and what the store should hold of it.
#[derive(Debug, Default)]
pub(super) struct SiteShown {
    pub(super) node: Option<(NodeStatus, Node)>,
    pub(super) name_needs: Option<NameNeeds>,
    pub(super) stale_names: Vec<String>,
}

impl Held {
    /// Nothing yet, and so everything has to be worked out; `range` is that of the virtual addresses.
    pub(super) fn new(range: Ipv4Net) -> Self {
        Held {
            range,
            sites: HashMap::new(),
            index: Index::default(),
            records: HashMap::new(),
            declared: HashMap::new(),
            stated: Stated::default(),
            addresses: imbl::OrdMap::new(),
            claimants: HashMap::new(),
            marked: Marked { is_all: true, ..Marked::default() },
        }
    }

    /// Every service that anything is held of.
    pub(super) fn services(&self) -> BTreeSet<ServiceKey> {
        self.records.keys().chain(self.claimants.keys()).chain(self.declared.keys()).cloned().collect()
    }

    /// Every site that anything is held of.
    pub(super) fn sites(&self) -> BTreeSet<NodeKey> {
        self.sites.keys().cloned().collect()
    }

    /// Takes one write in.
    pub(super) fn apply(&mut self, commit: &Commit, write: &Write) {
        let (key, value) = match write {
            Write::Put(key, value) => (key, Some(value.as_ref())),
            Write::Delete(key) => (key, None),
        };
        match key {
            Key::Node(node) => self.take_report(node, value, commit.at_ms),
            Key::Presence(node) => self.take_presence(node, recorded(commit.revision, value), commit.at_ms),
            Key::Owner(service) => self.records(service).owner = recorded(commit.revision, value),
            Key::Link(service) => self.records(service).link = recorded(commit.revision, value),
            Key::Address(address) => match recorded(commit.revision, value) {
                Some(recorded) => drop(self.addresses.insert(*address, recorded)),
                None => drop(self.addresses.remove(address)),
            },
            Key::Cluster(_)
            | Key::Ecs(_)
            | Key::Service(_)
            | Key::Family(..)
            | Key::Name(..)
            | Key::Alone(_)
            | Key::Absence(_)
            | Key::Probe(_)
            | Key::External(_)
            | Key::Resolved(_)
            | Key::Order(_) => self.take_statement(key, value, commit.at_ms),
            Key::Session | Key::Other(_) => {}
        }
    }

    fn records(&mut self, service: &ServiceKey) -> &mut Records {
        self.marked.services.insert(service.clone());
        self.records.entry(service.clone()).or_default()
    }

    fn take_report(&mut self, key: &NodeKey, value: Option<&[u8]>, at_ms: u64) {
        let site = self.sites.entry(key.clone()).or_default();
        let report = value.map(|bytes| Report::read(key, bytes));
        let before = std::mem::replace(&mut site.report, report);
        (site.reported_at_ms, site.changed_at_ms) = (at_ms, at_ms);
        let tasks_before = before.as_ref().map(Report::tasks).unwrap_or_default();
        let tasks = site.report.as_ref().map(Report::tasks).unwrap_or_default();
        if tasks_before != tasks {
            self.index.report(key, &tasks_before, &tasks);
            for task in tasks_before.symmetric_difference(&tasks) {
                self.marked.sites.extend(self.index.records(task).iter().cloned());
            }
        }
        self.marked.sites.insert(key.clone());
    }

    fn take_presence(&mut self, key: &NodeKey, presence: Option<Recorded<Presence>>, at_ms: u64) {
        let site = self.sites.entry(key.clone()).or_default();
        site.presence = presence;
        site.changed_at_ms = at_ms;
        // Every claim of the site is weighed with it.
        self.marked.services.extend(site.derived.services().cloned());
        self.marked.sites.insert(key.clone());
    }

    /// What others than sidecars stated. An equal statement concerns nobody.
    fn take_statement(&mut self, key: &Key, value: Option<&[u8]>, at_ms: u64) {
        let before = match key {
            Key::Ecs(node) => self.stated.ecs.get(node).cloned(),
            _ => None,
        };
        if !self.stated.apply(key, value) {
            return;
        }
        match key {
            Key::Ecs(node) => {
                self.take_tasks(node, before.as_deref());
                self.sites.entry(node.clone()).or_default().ecs_at_ms = at_ms;
                self.marked.sites.insert(node.clone());
            }
            Key::Name(node, _) | Key::Alone(node) | Key::Absence(node) | Key::Probe(node) => {
                self.sites.entry(node.clone()).or_default();
                self.marked.sites.insert(node.clone());
            }
            _ if self.marked.is_all => {}
            Key::Cluster(_) => self.marked.is_all = true,
            Key::Family(cluster, family) => {
                let family = (cluster.clone(), family.clone());
                let waits = |(node, site): (&NodeKey, &Site)| {
                    site.derived.named.families.contains(&family).then(|| node.clone())
                };
                self.marked.sites.extend(self.sites.iter().filter_map(waits));
            }
            Key::External(service) | Key::Resolved(service) => self.declare(service),
            Key::Order(target) => self.take_order(target),
            _ => {}
        }
    }

    /// Marks who else tells of the tasks that are told differently now. An instance counts for all that runs on it.
    fn take_tasks(&mut self, node: &NodeKey, before: Option<&EcsReport>) {
        let nothing = EcsReport::default();
        let (before, now) = (before.unwrap_or(&nothing), self.stated.ecs.get(node).map_or(&nothing, AsRef::as_ref));
        let (ids_before, ids_now) = (ids(before), ids(now));
        self.index.hold(node, &ids_before, &ids_now);
        let known: HashMap<&str, &Task> = before.tasks.iter().map(|task| (task.id.as_str(), task)).collect();
        let is_moved = before.instance != now.instance;
        let is_other = |task: &&Task| is_moved || known.get(task.id.as_str()) != Some(task);
        let changed = now.tasks.iter().filter(is_other).map(|task| task.id.as_str());
        for task in changed.chain(ids_before.difference(&ids_now).copied()) {
            self.marked.sites.extend(self.index.reporters(task).iter().cloned());
        }
    }

    fn take_order(&mut self, target: &Target) {
        match target {
            Target::Node(node) => drop(self.marked.sites.insert(node.clone())),
            Target::Service(service) => drop(self.marked.services.insert(service.clone())),
            Target::Task(task) => {
                let tellers = self.index.records(task).iter().chain(self.index.reporters(task));
                self.marked.sites.extend(tellers.cloned());
            }
            // Orders are rare: a look at every container is cheaper than an index of them all.
            Target::Container(id) => {
                let in_ecs = |report: &&std::sync::Arc<EcsReport>| {
                    report.tasks.iter().flat_map(|task| &task.containers).any(|container| &container.report.id == id)
                };
                let has = |(node, site): (&NodeKey, &Site)| {
                    let is_here = site.report.as_ref().is_some_and(|report| report.has(id))
                        || self.stated.ecs.get(node).filter(in_ecs).is_some();
                    is_here.then(|| node.clone())
                };
                self.marked.sites.extend(self.sites.iter().filter_map(has));
            }
        }
        let is_meant = |declared: &Declared| match target {
            Target::Node(node) => declared.node == *node,
            Target::Task(_) | Target::Service(_) => false,
            Target::Container(id) => declared.claims.iter().any(|claim| &claim.container.id == id),
        };
        let meant = self.declared.iter().filter(|(_, declared)| is_meant(declared));
        let meant: Vec<_> = meant.map(|(service, _)| service.clone()).collect();
        meant.iter().for_each(|service| self.declare(service));
    }

    /// Works out anew what is declared of a service.
    fn declare(&mut self, service: &ServiceKey) {
        let declared = declared::of(service, &self.stated, self.range);
        if self.declared.get(service) != declared.as_ref() {
            self.marked.services.insert(service.clone());
        }
        match declared {
            Some(declared) => drop(self.declared.insert(service.clone(), declared)),
            None => drop(self.declared.remove(service)),
        }
    }

    /// Works out what follows of everything that was taken in since the last time.
    pub(super) fn settle(&mut self) -> Touched {
        let Marked { is_all, sites, services } = std::mem::take(&mut self.marked);
        let mut touched = Touched { services, sites };
        if is_all {
            touched.sites.extend(self.sites.keys().cloned());
            let declared: Vec<_> = self.stated.externals.keys().cloned().collect();
            declared.iter().for_each(|service| self.declare(service));
            touched.services.extend(std::mem::take(&mut self.marked.services));
        }
        for key in &touched.sites {
            let Some(site) = self.sites.get_mut(key) else { continue };
            let presence = site.presence.as_ref().map(|presence| &presence.value);
            let join = Join::new(key, presence, (&self.stated, &self.index), self.range);
            let derived = site.derive(&self.stated, &join);
            let before = site.replace(derived);
            let is_concerned = |service: &&ServiceKey| site.derived.differs(&before, service);
            let concerned: BTreeSet<_> =
                before.services().chain(site.derived.services()).filter(is_concerned).cloned().collect();
            for service in concerned {
                claim(&mut self.claimants, &service, key, site.derived.is_about(&service));
                touched.services.insert(service);
            }
            if site.is_empty() && !self.stated.ecs.contains_key(key) {
                self.sites.remove(key);
            }
        }
        for service in &touched.services {
            if self.records.get(service) == Some(&Records::default()) {
                self.records.remove(service);
            }
        }
        touched
    }

    /// What the service is built from.
    pub(super) fn inputs<'a>(
        &'a self,
        key: &'a ServiceKey,
        before: Option<&'a Explained>,
        at_ms: Option<u64>,
    ) -> Inputs<'a> {
        static NONE: Records = Records { owner: None, link: None };
        let claimants = self.claimants.get(key).into_iter().flatten();
        let sites: Vec<_> = claimants.filter_map(|node| Some((node, self.sites.get(node)?))).collect();
        let claims = sites.iter().filter_map(|(node, site)| {
            Some(NodeClaims {
                node,
                presence: site.presence.as_ref().map(|presence| &presence.value),
                sidecar_ms: match self.stated.alone.get(*node) {
                    _ if site.report.is_some() => site.changed_at_ms,
                    Some(alone) => alone.since_ms,
                    None => site.ecs_at_ms,
                },
                ecs_ms: site.ecs_at_ms,
                claims: site.derived.named.claims.get(key)?,
            })
        });
        let declared = self.declared.get(key);
        let external = declared.map(|declared| NodeClaims {
            node: &declared.node,
            presence: None,
            sidecar_ms: declared.since_ms,
            ecs_ms: 0,
            claims: &declared.claims,
        });
        Inputs {
            key,
            records: self.records.get(key).unwrap_or(&NONE),
            claims: claims.chain(external).collect(),
            is_declared: declared.is_some(),
            stopped: sites.iter().filter_map(|(_, site)| site.derived.stopped.get(key)).flatten().cloned().collect(),
            stated: &self.stated,
            before,
            at_ms,
        }
    }

    /// What is shown of a site.
    pub(super) fn shown(&self, key: &NodeKey) -> SiteShown {
        let Some(site) = self.sites.get(key) else { return SiteShown::default() };
        SiteShown {
            node: site.node(key, &self.stated, self.range),
            name_needs: site.name_needs(),
            stale_names: site.derived.stale_names.clone(),
        }
    }
}

/// From now on `site` has something to say of `service`, or has not.
fn claim(claimants: &mut HashMap<ServiceKey, BTreeSet<NodeKey>>, service: &ServiceKey, site: &NodeKey, is_about: bool) {
    if is_about {
        claimants.entry(service.clone()).or_default().insert(site.clone());
    } else if let Some(sites) = claimants.get_mut(service) {
        sites.remove(site);
        if sites.is_empty() {
            claimants.remove(service);
        }
    }
}

fn ids(report: &EcsReport) -> BTreeSet<&str> {
    report.tasks.iter().map(|task| task.id.as_str()).collect()
}

fn recorded<T: serde::de::DeserializeOwned>(revision: u64, value: Option<&[u8]>) -> Option<Recorded<T>> {
    Some(Recorded { revision, value: record::decode(value?)? })
}

/// So that tests and the builder share one way to hand a snapshot in.
pub(super) fn as_commit(entry: crate::store::Entry) -> Commit {
    Commit { revision: entry.revision, at_ms: entry.at_ms, writes: vec![Write::Put(entry.key, entry.value)] }
}
