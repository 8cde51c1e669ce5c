//! The evidence that the catalog holds, decoded, and which services each piece of it touches.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use portolan_core::evidence::NodeReport;
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::refusal::Refusal;
use portolan_core::view::Node;
use portolan_proto::node_report;

use super::Explained;
use super::NodeStatus;
use super::naming::{self, Named};
use super::needs::{Recorded, RecordedAddress, Records};
use super::service::{Inputs, NodeClaims};
use super::stated::Stated;
use crate::store::record::{self, Presence};
use crate::store::{Commit, Key, Write};

/// Everything decoded.
#[derive(Debug)]
pub(super) struct Held {
    range: Ipv4Net,
    nodes: HashMap<NodeKey, HeldNode>,
    records: HashMap<ServiceKey, Records>,
    pub(super) stated: Stated,
    pub(super) addresses: imbl::OrdMap<Ipv4Addr, RecordedAddress>,
    claimants: HashMap<ServiceKey, BTreeSet<NodeKey>>,
}

/// What is held of one node.
#[derive(Debug, Default)]
struct HeldNode {
    report: Option<NodeReport>,
    presence: Option<Presence>,
    named: Named,
    /// When its report was kept, Unix milliseconds.
    reported_at_ms: u64,
    /// When anything of it changed, Unix milliseconds.
    changed_at_ms: u64,
}

/// What has to be built anew.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) services: BTreeSet<ServiceKey>,
    pub(super) nodes: BTreeSet<NodeKey>,
}

impl Held {
    /// Nothing yet; `range` is that of the virtual addresses.
    pub(super) fn new(range: Ipv4Net) -> Self {
        Held {
            range,
            nodes: HashMap::new(),
            records: HashMap::new(),
            stated: Stated::default(),
            addresses: imbl::OrdMap::new(),
            claimants: HashMap::new(),
        }
    }

    /// Every service that anything is held of.
    pub(super) fn services(&self) -> BTreeSet<ServiceKey> {
        self.records.keys().chain(self.claimants.keys()).cloned().collect()
    }

    /// Every node that anything is held of.
    pub(super) fn nodes(&self) -> BTreeSet<NodeKey> {
        self.nodes.keys().cloned().collect()
    }

    /// Takes one write in.
    pub(super) fn apply(&mut self, commit: &Commit, write: &Write) -> Touched {
        let (key, value) = match write {
            Write::Put(key, value) => (key, Some(value.as_ref())),
            Write::Delete(key) => (key, None),
        };
        match key {
            Key::Node(node) => self.take_report(node, value, commit.at_ms),
            Key::Presence(node) => self.take_presence(node, value, commit.at_ms),
            Key::Owner(service) => {
                let recorded = recorded(commit.revision, value);
                self.with_records(service, |records| records.owner = recorded)
            }
            Key::Link(service) => {
                let recorded = recorded(commit.revision, value);
                self.with_records(service, |records| records.link = recorded)
            }
            Key::Address(address) => {
                match recorded(commit.revision, value) {
                    Some(recorded) => drop(self.addresses.insert(*address, recorded)),
                    None => drop(self.addresses.remove(address)),
                }
                Touched::default()
            }
            // Not joined to endpoints yet.
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
            | Key::Order(_) => {
                self.stated.apply(key, value);
                Touched::default()
            }
            Key::Session | Key::Other(_) => Touched::default(),
        }
    }

    /// What the service is built from.
    pub(super) fn inputs<'a>(&'a self, key: &'a ServiceKey, before: Option<&'a Explained>) -> Inputs<'a> {
        static NONE: Records = Records { owner: None, link: None };
        let claimants = self.claimants.get(key).into_iter().flatten();
        let claims = claimants.filter_map(|name| {
            let node = self.nodes.get(name)?;
            Some(NodeClaims {
                node: name,
                az: node.report.as_ref().and_then(|report| report.az.as_deref()),
                presence: node.presence.as_ref(),
                changed_at_ms: node.changed_at_ms,
                claims: node.named.claims.get(key)?,
            })
        });
        Inputs { key, records: self.records.get(key).unwrap_or(&NONE), claims: claims.collect(), before }
    }

    /// What is shown and answered of a node; `None` when nothing is held of it.
    pub(super) fn node(&self, key: &NodeKey) -> Option<(NodeStatus, Node)> {
        let held = self.nodes.get(key)?;
        let report = held.report.as_ref()?;
        let presence = held.presence.as_ref();
        let node = Node {
            key: key.clone(),
            host_name: report.host_name.clone(),
            addresses: report.addresses.clone(),
            az: report.az.clone(),
        };
        let status = NodeStatus {
            key: key.clone(),
            host_name: report.host_name.clone(),
            addresses: report.addresses.clone(),
            az: report.az.clone(),
            version: report.version.clone(),
            boot_id: report.boot_id.clone(),
            session: report.session,
            generation: report.generation,
            speaking_since_ms: presence.map_or(0, |presence| presence.since_ms),
            silence: presence.and_then(|presence| presence.silence.clone()),
            reported_at_ms: held.reported_at_ms,
            containers: report.containers.len(),
            refusals: held.named.refusals.clone(),
        };
        Some((status, node))
    }

    fn with_records(&mut self, service: &ServiceKey, change: impl FnOnce(&mut Records)) -> Touched {
        let records = self.records.entry(service.clone()).or_default();
        change(records);
        if *records == Records::default() {
            self.records.remove(service);
        }
        Touched { services: [service.clone()].into(), nodes: BTreeSet::new() }
    }

    /// A presence touches every service of its node.
    fn take_presence(&mut self, key: &NodeKey, value: Option<&[u8]>, at_ms: u64) -> Touched {
        let node = self.nodes.entry(key.clone()).or_default();
        node.presence = value.and_then(record::decode);
        node.changed_at_ms = at_ms;
        Touched { services: node.named.claims.keys().cloned().collect(), nodes: [key.clone()].into() }
    }

    /// A report touches the services of which it says something else than before.
    fn take_report(&mut self, key: &NodeKey, value: Option<&[u8]>, at_ms: u64) -> Touched {
        let (report, named) = read(key, value, self.range);
        let node = self.nodes.entry(key.clone()).or_default();
        let az_before = node.report.as_ref().and_then(|report| report.az.clone());
        let is_moved = az_before != report.as_ref().and_then(|report| report.az.clone());
        let before = std::mem::replace(&mut node.named, named);
        node.report = report;
        (node.reported_at_ms, node.changed_at_ms) = (at_ms, at_ms);
        let now = &node.named.claims;
        let names: BTreeSet<_> = before.claims.keys().chain(now.keys()).cloned().collect();
        let is_touched = |name: &ServiceKey| is_moved || before.claims.get(name) != now.get(name);
        let services: BTreeSet<_> = names.into_iter().filter(is_touched).collect();
        for name in &services {
            if now.contains_key(name) {
                self.claimants.entry(name.clone()).or_default().insert(key.clone());
            } else if let Some(claimants) = self.claimants.get_mut(name) {
                claimants.remove(key);
                if claimants.is_empty() {
                    self.claimants.remove(name);
                }
            }
        }
        Touched { services, nodes: [key.clone()].into() }
    }
}

fn recorded<T: serde::de::DeserializeOwned>(revision: u64, value: Option<&[u8]>) -> Option<Recorded<T>> {
    Some(Recorded { revision, value: record::decode(value?)? })
}

/// A report that cannot be read counts as one that says nothing, and is shown.
fn read(key: &NodeKey, value: Option<&[u8]>, range: Ipv4Net) -> (Option<NodeReport>, Named) {
    let Some(bytes) = value else { return (None, Named::default()) };
    match node_report::decode(bytes) {
        Ok(decoded) => {
            let named = naming::name(&decoded.report, &decoded.left_out, range);
            (Some(decoded.report), named)
        }
        Err(error) => {
            tracing::warn!(node = %key, "the report that is kept of node `{key}` cannot be read: {error}");
            let refusals = vec![Refusal::new("report", error.to_string())];
            (None, Named { refusals, ..Named::default() })
        }
    }
}

/// So that tests and the builder share one way to hand a snapshot in.
pub(super) fn as_commit(entry: crate::store::Entry) -> Commit {
    Commit { revision: entry.revision, at_ms: entry.at_ms, writes: vec![Write::Put(entry.key, entry.value)] }
}

/// Kept for readers: an `Arc` per value that is shared between catalogs.
pub(super) fn shared<T: PartialEq>(before: Option<&Arc<T>>, now: T) -> (Arc<T>, Changed) {
    match before {
        Some(before) if **before == now => (before.clone(), Changed::No),
        _ => (Arc::new(now), Changed::Yes),
    }
}

/// Whether a value is another one than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    Yes,
    No,
}
