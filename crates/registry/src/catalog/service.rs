//! One service from all that claims its name: who may use it, what each witness says, where each endpoint stands, its
//! link, and what the store should hold of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::endpoint::{Endpoint, Protocol};
use portolan_core::evidence::{ContainerReport, LinkPlane};
use portolan_core::name::{Label, ServiceKey};
use portolan_core::naming::NameSource;
use portolan_core::refusal::Refusal;
use portolan_core::view::{Link, LinkMode, LinkPort};

use super::needs::{self, Claimants, Need, Records};
use super::stated::Stated;
use super::weigh::{NodeClaims, Weighed, weigh};
use super::{Explained, StoppedTask, stopped};
use crate::store::Target;
use crate::store::record::Owner;

/// What a service is built from.
pub(super) struct Inputs<'a> {
    pub(super) key: &'a ServiceKey,
    pub(super) records: &'a Records,
    pub(super) claims: Vec<NodeClaims<'a>>,
    /// Whether an operator declared it.
    pub(super) is_declared: bool,
    /// Its tasks that stopped.
    pub(super) stopped: Vec<StoppedTask>,
    pub(super) stated: &'a Stated,
    /// What was said before, for "since when".
    pub(super) before: Option<&'a Explained>,
    /// When it was said, Unix milliseconds; `None` when everything is loaded.
    pub(super) at_ms: Option<u64>,
}

/// What follows.
pub(super) struct Built {
    pub(super) explained: Explained,
    /// What may be answered, in the order of the keys.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) link: Option<Link>,
    pub(super) need: Option<Need>,
}

/// Builds the service.
pub(super) fn build(inputs: Inputs<'_>) -> Built {
    let (mut weighed, excess) = weigh(&inputs);
    let claimants = Claimants { weighed: &weighed, is_declared: inputs.is_declared };
    let need = needs::of(claimants, inputs.records);
    let stored = inputs.records.owner.as_ref().map(|owner| owner.value.clone());
    let foreign = match stored.clone().or_else(|| needs::earliest(claimants)) {
        Some(owner) => refuse_foreign(&mut weighed, &owner, &inputs),
        None => None,
    };
    let conflicting = refuse_same_ports(&mut weighed);
    let answered = |w: &&Weighed<'_>| w.may_be_answered();
    let endpoints: Vec<Endpoint> = weighed.iter().filter(answered).map(|w| endpoint(w, &conflicting)).collect();
    let wishes: Vec<_> = weighed.iter().filter(answered).map(|w| w.claim.container.link.ports.as_slice()).collect();
    let link = inputs.records.link.as_ref().and_then(|record| {
        let record = &record.value;
        let is_off = inputs.stated.orders.contains_key(&Target::Service(inputs.key.clone()));
        let mode = if is_off { LinkMode::Direct } else { record.mode };
        let (ports, plane) = (link_ports(&endpoints, &wishes), link_plane(&weighed));
        Some(Link { address: record.address?, mode, ports, plane })
    });
    let refusals = excess.into_iter().chain(foreign).chain(refusals_without_port(&inputs)).collect();
    let candidates = weighed.into_iter().map(|w| w.candidate).collect();
    let mut stopped = inputs.stopped;
    stopped::newest(&mut stopped);
    let explained = Explained {
        key: inputs.key.clone(),
        owner: stored,
        link: inputs.records.link.as_ref().map(|link| link.value.clone()),
        candidates,
        refusals,
        stopped,
    };
    Built { explained, endpoints, link, need }
}

/// Marks what may not use the name, because another owner has it. What is said of a declaration, found or not.
fn refuse_foreign(weighed: &mut [Weighed<'_>], owner: &Owner, inputs: &Inputs<'_>) -> Option<Refusal> {
    let field = format!("name `{}`", inputs.key.service);
    for w in weighed.iter_mut() {
        let claim = w.owner();
        if !needs::may_join(owner, &claim) {
            w.candidate.refusals.push(Refusal::new(&field, foreign(owner, &claim)));
            w.candidate.is_refused = true;
        }
    }
    let declared = needs::declared();
    let is_refused = inputs.is_declared && !needs::may_join(owner, &declared);
    is_refused.then(|| Refusal::new(&field, foreign(owner, &declared)))
}

fn foreign(owner: &Owner, claim: &Owner) -> String {
    let by = |owner: &Owner| match &owner.ecs_service {
        Some(service) => format!("{} `{service}`", owner.source.text()),
        None => owner.source.text().to_owned(),
    };
    let remedy = match (owner.source, claim.source) {
        (NameSource::External, _) | (_, NameSource::External) => "use another name",
        _ => "use another name, or set label `portolan.service` on both",
    };
    format!("the name comes from {} here, but belongs to another owner, by {}; {remedy}", by(claim), by(owner))
}

type ContainerPort = (u16, Protocol, Label);

/// Containers of one task that have the same port: the one labelled primary keeps it, else none does. What has lost it.
fn refuse_same_ports(weighed: &mut [Weighed<'_>]) -> BTreeSet<ContainerPort> {
    let mut tasks: BTreeMap<(u16, Protocol, String), BTreeMap<Label, bool>> = BTreeMap::new();
    for w in weighed.iter().filter(|w| w.may_be_answered()) {
        let Some(task) = w.candidate.task_id.clone() else { continue };
        let names = tasks.entry((w.port.container_port, w.port.protocol, task)).or_default();
        *names.entry(w.candidate.container.clone()).or_default() |= w.claim.container.is_primary;
    }
    let mut lost = BTreeSet::new();
    for ((port, protocol, _), names) in tasks.into_iter().filter(|(_, names)| names.len() > 1) {
        let is_decided = names.values().filter(|is_primary| **is_primary).count() == 1;
        let losers = names.into_iter().filter(|(_, is_primary)| !(is_decided && *is_primary));
        lost.extend(losers.map(|(name, _)| (port, protocol, name)));
    }
    for w in weighed.iter_mut() {
        if lost.contains(&(w.port.container_port, w.port.protocol, w.candidate.container.clone())) {
            let reason = "another container of the task has the same port; set label `portolan.primary=true` on the \
                          one that the service's own name should lead to";
            let field = format!("port {}/{}", w.port.container_port, w.port.protocol);
            w.candidate.refusals.push(Refusal::new(field, reason));
        }
    }
    lost
}

fn endpoint(w: &Weighed<'_>, lost: &BTreeSet<ContainerPort>) -> Endpoint {
    let container: &ContainerReport = &w.claim.container;
    let place = (w.port.container_port, w.port.protocol, container.name.clone());
    Endpoint {
        key: w.candidate.key.clone(),
        state: w.candidate.decision.state,
        addresses: w.claim.addresses.clone(),
        port: w.port.host_port,
        port_name: w.claim.port_name.clone(),
        container: container.name.clone(),
        task_id: container.task_id.clone(),
        az: w.claim.az.as_deref().map(str::to_owned),
        weight: container.weight,
        is_service_port: !lost.contains(&place),
        tags: container.tags.clone(),
        meta: container.meta.clone(),
    }
}

/// Every container port under its own number, and those that `portolan.link.port` names under that one.
fn link_ports(endpoints: &[Endpoint], wishes: &[&[(u16, u16)]]) -> Vec<LinkPort> {
    let mut ports: BTreeMap<(u16, Protocol), u16> = BTreeMap::new();
    for endpoint in endpoints.iter().filter(|e| e.is_service_port) {
        let place = (endpoint.key.container_port, endpoint.key.protocol);
        ports.insert(place, endpoint.key.container_port);
    }
    let own = ports.clone();
    for &(port, container_port) in wishes.iter().flat_map(|wishes| wishes.iter()) {
        for (_, protocol) in own.keys().filter(|(own, _)| *own == container_port) {
            ports.insert((port, *protocol), container_port);
        }
    }
    ports.into_iter().map(|((port, protocol), container_port)| LinkPort { port, container_port, protocol }).collect()
}

/// Containers that disagree: the youngest run is what its owner meant last.
fn link_plane(weighed: &[Weighed<'_>]) -> Option<LinkPlane> {
    let answered = weighed.iter().filter(|w| w.may_be_answered());
    let labelled = answered.filter_map(|w| Some((&w.candidate.key, w.claim.container.link.plane?)));
    labelled.max_by_key(|(key, _)| (key.run, *key)).map(|(_, plane)| plane)
}

fn refusals_without_port(inputs: &Inputs<'_>) -> Vec<Refusal> {
    let claims = inputs.claims.iter().flat_map(|node| node.claims).filter(|claim| claim.port.is_none());
    claims.flat_map(|claim| claim.container.refusals.iter().cloned()).collect()
}
