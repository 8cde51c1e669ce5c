//! Which service each port that a node claims belongs to, what the witnesses say of it, and what cannot be taken.
//!
//! Pure. A container's labels never change while it lives, so neither does the name that they give it; [`given`] sees to
//! the others. Limits here keep one hostile node from sinking the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use portolan_core::evidence::{ContainerReport, Phase, PortReport};
use portolan_core::name::{Label, ServiceKey, cluster_label, service_label};
use portolan_core::naming::{NameSource, by_label};
use portolan_core::refusal::Refusal;

use super::announce::{self, announced};
use super::given::{self, Given};
use super::join::{Claimant, Join, Joined, Said};
use crate::store::evidence::NameRecord;

/// How many containers of one node count.
const CONTAINERS_MAX: usize = 2_000;
/// How many ports of one container count.
const PORTS_MAX: usize = 256;
/// How many services one node may be part of.
const SERVICES_MAX: usize = 1_000;

/// One container's wish to be part of a service, with one of its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) source: NameSource,
    /// The ECS service as ECS has it, when that gave the name.
    pub(super) ecs_service: Option<Arc<str>>,
    pub(super) container: Arc<ContainerReport>,
    /// Of [`ContainerReport::ports`]. `None`: a refused container without ports, told for its refusals only.
    pub(super) port: Option<usize>,
    /// The port's name, by label or as ECS has it.
    pub(super) port_name: Option<Label>,
    /// The port's addresses that may be announced.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) az: Option<Arc<str>>,
    /// What the witnesses say.
    pub(super) said: Said,
    /// What was refused of this port.
    pub(super) refusal: Option<Refusal>,
}

impl Claim {
    /// The port, unless the container has none.
    pub(super) fn port(&self) -> Option<&PortReport> {
        self.port.and_then(|port| self.container.ports.get(port))
    }
}

/// What one node claims, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) claims: BTreeMap<ServiceKey, Vec<Claim>>,
    pub(super) refusals: Vec<Refusal>,
    /// Names that should be stored, by container id.
    pub(super) to_keep: BTreeMap<String, NameRecord>,
    /// Names that are seen and not stored.
    pub(super) shown: BTreeMap<String, NameRecord>,
    /// Containers that ECS has not told of, and the names they take when that lasts too long.
    pub(super) waiting: BTreeMap<String, Option<NameRecord>>,
    /// Families, by cluster, on which a name depends.
    pub(super) families: BTreeSet<(Label, Label)>,
}

/// A container that somebody tells of.
#[derive(Debug, Clone)]
pub(super) struct Told<'a> {
    pub(super) container: Arc<ContainerReport>,
    pub(super) claimant: Claimant,
    pub(super) joined: Joined<'a>,
    pub(super) az: Option<Arc<str>>,
}

/// Takes apart what is told of the containers of one node; `before` is what was made of it the last time.
pub(super) fn name<'a>(told: impl Iterator<Item = Told<'a>>, before: &Named, join: &Join<'_>) -> Named {
    let mut namer = Namer { named: Named::default(), before, join };
    let mut seen = BTreeSet::new();
    let mut excess = 0;
    for told in told {
        if seen.len() >= CONTAINERS_MAX {
            excess += 1;
        } else if seen.insert((told.container.id.clone(), told.container.run)) {
            namer.take(&told);
        }
    }
    let mut named = namer.named;
    if excess > 0 {
        let reason = format!("at most {CONTAINERS_MAX} containers of a node count; {excess} were left out");
        named.refusals.insert(0, Refusal::new("containers", reason));
    }
    named
}

struct Namer<'a, 'j> {
    named: Named,
    before: &'a Named,
    join: &'a Join<'j>,
}

/// One port of a container, or, for one that is told for its refusals only, none.
struct Port {
    at: Option<usize>,
    name: Option<Label>,
    refusal: Option<Refusal>,
    addresses: Vec<IpAddr>,
    said: Said,
}

impl Namer<'_, '_> {
    fn take(&mut self, told: &Told<'_>) {
        let container = &told.container;
        let about = |r: &Refusal| Refusal::new(format!("container `{}`: {}", container.name, r.field), &r.reason);
        self.named.refusals.extend(container.refusals.iter().map(about));
        if let Err(error) = cluster_label(container.cluster.as_str()) {
            let field = format!("container `{}`: cluster", container.name);
            self.named.refusals.push(Refusal::new(field, error.to_string()));
            return;
        }
        let said = self.join.said(container, told.joined, told.claimant);
        if container.is_refused && container.ports.is_empty() {
            self.add(told, Port { at: None, name: None, refusal: None, addresses: Vec::new(), said });
        }
        let mut seen = BTreeSet::new();
        for (at, port) in container.ports.iter().enumerate().take(PORTS_MAX) {
            if !seen.insert((port.container_port, port.protocol)) {
                continue;
            }
            let addresses = announced(&port.addresses, self.join.range);
            let field = || format!("port {}/{}", port.container_port, port.protocol);
            let refusal = addresses.is_empty().then(|| announce::refusal(field()));
            let said = Said { neighbours: self.join.neighbours(&addresses, port.host_port), ..said };
            let name = port.name.clone().or_else(|| ecs_port_name(port, told.joined));
            self.add(told, Port { at: Some(at), name, refusal, addresses, said });
        }
    }

    fn add(&mut self, told: &Told<'_>, port: Port) {
        let container = &told.container;
        let own_name = port.at.and_then(|at| container.ports.get(at)).and_then(|port| port.registrator_name.as_ref());
        let (source, label, ecs_service) = match by_label(&container.candidates, own_name) {
            Some((source, label)) => (source, label.clone(), None),
            None => match self.give(told) {
                Some(record) => (record.source, record.name, record.ecs_service.map(Arc::from)),
                None => return,
            },
        };
        let Some(key) = self.key(container, source, &label) else { return };
        let Port { at, name, refusal, addresses, said } = port;
        let claim = Claim {
            source,
            ecs_service,
            container: container.clone(),
            port: at,
            port_name: name,
            addresses,
            az: told.az.clone(),
            said,
            refusal,
        };
        // Most services have one claim of a node, and a list that grows has room for four at once.
        self.named.claims.entry(key).or_insert_with(|| Vec::with_capacity(1)).push(claim);
    }

    /// The name that is given to a container without labels, if it has one by now; notes what follows of it.
    fn give(&mut self, told: &Told<'_>) -> Option<NameRecord> {
        let container = &told.container;
        if given::depends_on_family(container, told.joined, self.join)
            && let Some(family) = &container.candidates.family
        {
            self.named.families.insert((container.cluster.clone(), family.clone()));
        }
        let refused = match given::give(told, self.before.shown.get(&container.id), self.join) {
            Given::Shown(record) => {
                // A sidecar that comes there must not take it away until its name is stored.
                if told.claimant == Claimant::Ecs {
                    self.named.shown.insert(container.id.clone(), record.clone());
                }
                return Some(record);
            }
            Given::ShownToKeep(record) => {
                self.keep(container, record.clone());
                self.named.shown.insert(container.id.clone(), record.clone());
                return Some(record);
            }
            Given::Decided(record) => {
                if self.key(container, record.source, &record.name).is_some() {
                    self.keep(container, record);
                }
                return None;
            }
            Given::Waits(fallback) => {
                let has_ended = matches!(container.phase, Phase::Died(_));
                if has_ended || self.named.waiting.insert(container.id.clone(), fallback).is_some() {
                    return None;
                }
                "waits for ECS to tell which service its task belongs to; if it does not within 5 s, its family's name is \
                 taken"
            }
            Given::Nameless => "has no name that can be used; set label `portolan.service`",
            Given::Unkeepable => "has an id of characters that no container's id has, so no name can be kept for it",
        };
        self.named.refusals.push(Refusal::new(field(container), refused));
        None
    }

    /// The service of that name, if it can be one.
    fn key(&mut self, container: &ContainerReport, source: NameSource, label: &Label) -> Option<ServiceKey> {
        let service = match service_label(label.as_str()) {
            Ok(service) => service,
            Err(error) => {
                self.named.refusals.push(Refusal::new(field(container), format!("{} {error}", source.text())));
                return None;
            }
        };
        let key = ServiceKey { cluster: container.cluster.clone(), service };
        if self.named.claims.len() >= SERVICES_MAX && !self.named.claims.contains_key(&key) {
            let reason = format!("a node may be part of at most {SERVICES_MAX} services");
            self.named.refusals.push(Refusal::new(field(container), reason));
            return None;
        }
        Some(key)
    }

    /// A reserved name is refused rather than kept.
    fn keep(&mut self, container: &ContainerReport, record: NameRecord) {
        if service_label(record.name.as_str()).is_ok() {
            self.named.to_keep.insert(container.id.clone(), record);
        }
    }
}

fn field(container: &ContainerReport) -> String {
    format!("container `{}`: name", container.name)
}

/// The name of the same port in the task definition.
fn ecs_port_name(port: &PortReport, joined: Joined<'_>) -> Option<Label> {
    let ports = joined.container.map(|container| container.report.ports.as_slice()).unwrap_or_default();
    let same = ports.iter().find(|p| (p.container_port, p.protocol) == (port.container_port, port.protocol));
    same.and_then(|port| port.name.clone())
}
