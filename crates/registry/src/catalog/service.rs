//! One service from all that claims its name: who may use it, what each witness says, where each endpoint stands, its
//! link, and what the store should hold of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::endpoint::{Endpoint, EndpointKey, Protocol, State};
use portolan_core::evidence::{ContainerReport, Phase, PortReport};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::refusal::Refusal;
use portolan_core::rules::{self, Deadline, Ecs, Neighbours, Operator, Sidecar, Witnesses, Word};
use portolan_core::view::{Link, LinkPort};

use super::naming::Claim;
use super::needs::{self, Need, Records};
use super::{Candidate, Ending, Explained};
use crate::store::record::{Owner, Presence};

/// What a service is built from.
pub(super) struct Inputs<'a> {
    pub(super) key: &'a ServiceKey,
    pub(super) records: &'a Records,
    pub(super) claims: Vec<NodeClaims<'a>>,
    /// What was said before, for "since when".
    pub(super) before: Option<&'a Explained>,
}

/// What one node claims for the service.
pub(super) struct NodeClaims<'a> {
    pub(super) node: &'a NodeKey,
    pub(super) az: Option<&'a str>,
    pub(super) presence: Option<&'a Presence>,
    /// When anything of the node last changed, Unix milliseconds.
    pub(super) changed_at_ms: u64,
    pub(super) claims: &'a [Claim],
}

/// What follows.
pub(super) struct Built {
    pub(super) explained: Explained,
    /// What may be answered, in the order of the keys.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) link: Option<Link>,
    pub(super) need: Option<Need>,
}

/// A claim with all that was found out about it.
pub(super) struct Weighed<'a> {
    pub(super) claim: &'a Claim,
    port: &'a PortReport,
    az: Option<&'a str>,
    pub(super) candidate: Candidate,
}

impl Weighed<'_> {
    /// Whether it keeps a name alive: it has not ended and nothing of its own is refused.
    pub(super) fn is_live(&self) -> bool {
        self.candidate.decision.state != State::Gone && !self.claim.container.is_refused && self.claim.refusal.is_none()
    }

    /// The owner that it would be.
    pub(super) fn owner(&self) -> Owner {
        let family = self.claim.container.candidates.family.clone();
        Owner { source: self.claim.source, family, since_ms: 0, empty_since_ms: None }
    }
}

/// Builds the service.
pub(super) fn build(inputs: &Inputs<'_>) -> Built {
    let mut weighed = weigh(inputs);
    let need = needs::of(&weighed, inputs.records);
    refuse_foreign(&mut weighed, inputs);
    let conflicting = refuse_same_ports(&mut weighed);
    let answered = |w: &&Weighed<'_>| !w.candidate.is_refused && w.candidate.decision.state != State::Gone;
    let endpoints: Vec<Endpoint> = weighed.iter().filter(answered).map(|w| endpoint(w, &conflicting)).collect();
    let wishes: Vec<_> = weighed.iter().filter(answered).map(|w| w.claim.container.link.ports.as_slice()).collect();
    let link = inputs.records.link.as_ref().and_then(|record| {
        let record = &record.value;
        Some(Link { address: record.address?, mode: record.mode, ports: link_ports(&endpoints, &wishes) })
    });
    let candidates = weighed.into_iter().map(|w| w.candidate).collect();
    let explained = Explained {
        key: inputs.key.clone(),
        owner: inputs.records.owner.as_ref().map(|owner| owner.value.clone()),
        link: inputs.records.link.as_ref().map(|link| link.value.clone()),
        candidates,
        refusals: refusals_without_port(inputs),
        stopped: Vec::new(),
    };
    Built { explained, endpoints, link, need }
}

fn weigh<'a>(inputs: &Inputs<'a>) -> Vec<Weighed<'a>> {
    let before: BTreeMap<&EndpointKey, &Candidate> =
        inputs.before.iter().flat_map(|e| &e.candidates).map(|candidate| (&candidate.key, candidate)).collect();
    let mut weighed = Vec::new();
    for node in &inputs.claims {
        for claim in node.claims {
            if let Some(port) = claim.port() {
                let candidate = candidate(node, claim, port, deadline(node.presence, inputs.key));
                weighed.push(Weighed { claim, port, az: node.az, candidate });
            }
        }
    }
    for w in &mut weighed {
        let same = before.get(&w.candidate.key).filter(|before| before.witnesses == w.candidate.witnesses);
        w.candidate.since_ms = same.map_or(w.candidate.since_ms, |before| before.since_ms);
    }
    weighed.sort_by(|a, b| a.candidate.key.cmp(&b.candidate.key));
    weighed
}

fn candidate(node: &NodeClaims<'_>, claim: &Claim, port: &PortReport, deadline: Deadline) -> Candidate {
    let container = &claim.container;
    let is_speaking = node.presence.is_some_and(|presence| presence.silence.is_none());
    let word = Word::of(container, port);
    let sidecar = if is_speaking { Sidecar::Speaks(word) } else { Sidecar::Silent(word) };
    let witnesses = Witnesses {
        sidecar,
        ecs: Ecs::NotUsed,
        neighbours: Neighbours::NotKnown,
        deadline,
        operator: Operator::Nothing,
    };
    let ending = match &container.phase {
        Phase::Died(e) => Some(Ending { exit_code: e.exit_code, is_out_of_memory: e.is_out_of_memory, at_ms: e.at_ms }),
        Phase::Running | Phase::Paused | Phase::Stopping => None,
    };
    Candidate {
        key: EndpointKey {
            node: node.node.clone(),
            container_id: container.id.clone(),
            run: container.run,
            container_port: port.container_port,
            protocol: port.protocol,
        },
        container: container.name.clone(),
        source: claim.source,
        task_id: container.task_id.clone(),
        addresses: claim.addresses.clone(),
        port: port.host_port,
        witnesses,
        since_ms: node.changed_at_ms,
        decision: rules::decide(&witnesses),
        ending,
        refusals: container.refusals.iter().chain(&claim.refusal).cloned().collect(),
        is_refused: container.is_refused || claim.refusal.is_some(),
    }
}

/// Whether the deadline of the node's silence passed for this service.
fn deadline(presence: Option<&Presence>, service: &ServiceKey) -> Deadline {
    let passage = presence.and_then(|presence| presence.silence.as_ref()).and_then(|s| s.passage.as_ref());
    if passage.is_some_and(|passage| !passage.held.contains(service)) { Deadline::Passed } else { Deadline::Running }
}

/// Marks what may not use the name, because another owner has it.
fn refuse_foreign(weighed: &mut [Weighed<'_>], inputs: &Inputs<'_>) {
    let stored = inputs.records.owner.as_ref().map(|owner| owner.value.clone());
    let Some(owner) = stored.or_else(|| needs::earliest(weighed)) else { return };
    for w in weighed.iter_mut().filter(|w| !needs::may_join(&owner, &w.owner())) {
        let reason = format!(
            "the name comes from {} here, but belongs to another owner, by {}; use another name, or set label \
             `portolan.service` on both",
            w.claim.source.text(),
            owner.source.text()
        );
        w.candidate.refusals.push(Refusal::new(format!("name `{}`", inputs.key.service), reason));
        w.candidate.is_refused = true;
    }
}

type ContainerPort = (u16, Protocol, Label);

/// Containers of one task that have the same port: the one labelled primary keeps it, else none does. What has lost it.
fn refuse_same_ports(weighed: &mut [Weighed<'_>]) -> BTreeSet<ContainerPort> {
    let mut tasks: BTreeMap<(u16, Protocol, String), BTreeMap<Label, bool>> = BTreeMap::new();
    for w in weighed.iter().filter(|w| !w.candidate.is_refused && w.candidate.decision.state != State::Gone) {
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
        port_name: w.port.name.clone(),
        container: container.name.clone(),
        task_id: container.task_id.clone(),
        az: w.az.map(str::to_owned),
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

fn refusals_without_port(inputs: &Inputs<'_>) -> Vec<Refusal> {
    let claims = inputs.claims.iter().flat_map(|node| node.claims).filter(|claim| claim.port.is_none());
    claims.flat_map(|claim| claim.container.refusals.iter().cloned()).collect()
}
