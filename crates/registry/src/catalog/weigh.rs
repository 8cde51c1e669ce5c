//! Each claim with what all witnesses say of it, since when, and what follows. Pure.

use std::collections::BTreeMap;

use portolan_core::endpoint::{EndpointKey, State};
use portolan_core::evidence::{Phase, PortReport};
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::refusal::Refusal;
use portolan_core::rules::{self, Deadline, Neighbours, Operator, Rule, Sidecar, Witnesses, Word};

use super::join::{self, Claimant, Said};
use super::naming::Claim;
use super::service::Inputs;
use super::{Candidate, Ending, Since};
use crate::store::record::{Owner, Presence};

/// How many ports of one service count: those that may be answered before those that are gone.
const PORTS_MAX: usize = 20_000;

/// What one node claims for the service.
pub(super) struct NodeClaims<'a> {
    pub(super) node: &'a NodeKey,
    pub(super) presence: Option<&'a Presence>,
    /// When its sidecar last said something else, Unix milliseconds; of declared endpoints, when they were declared.
    pub(super) sidecar_ms: u64,
    /// When ECS last said something else of it, Unix milliseconds.
    pub(super) ecs_ms: u64,
    pub(super) claims: &'a [Claim],
}

/// A claim with all that was found out about it.
pub(super) struct Weighed<'a> {
    pub(super) claim: &'a Claim,
    pub(super) port: &'a PortReport,
    pub(super) candidate: Candidate,
}

impl Weighed<'_> {
    /// Whether it keeps a name alive: it has not ended and nothing of its own is refused.
    pub(super) fn is_live(&self) -> bool {
        self.candidate.decision.state != State::Gone && !self.claim.container.is_refused && self.claim.refusal.is_none()
    }

    /// Whether a client may ever get it.
    pub(super) fn may_be_answered(&self) -> bool {
        !self.candidate.is_refused && self.candidate.decision.state != State::Gone
    }

    /// The owner that it would be.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            source: self.claim.source,
            family: self.claim.container.candidates.family.clone(),
            ecs_service: self.claim.ecs_service.as_deref().map(str::to_owned),
            since_ms: 0,
            empty_since_ms: None,
        }
    }
}

/// Everything that is claimed, in the order of the keys, and what is said of what exceeds [`PORTS_MAX`].
pub(super) fn weigh<'a>(inputs: &Inputs<'a>) -> (Vec<Weighed<'a>>, Option<Refusal>) {
    let before: BTreeMap<&EndpointKey, &Candidate> =
        inputs.before.iter().flat_map(|e| &e.candidates).map(|candidate| (&candidate.key, candidate)).collect();
    let mut weighed = Vec::new();
    for node in &inputs.claims {
        for claim in node.claims {
            if let Some(port) = claim.port() {
                let mut candidate = candidate(node, claim, port, inputs.key);
                put_since(&mut candidate, inputs, node, &before);
                weighed.push(Weighed { claim, port, candidate });
            }
        }
    }
    let refusal = cut(&mut weighed);
    weighed.sort_by(|a, b| a.candidate.key.cmp(&b.candidate.key));
    (weighed, refusal)
}

fn cut(weighed: &mut Vec<Weighed<'_>>) -> Option<Refusal> {
    let excess = weighed.len().checked_sub(PORTS_MAX).filter(|excess| *excess > 0)?;
    let is_gone = |w: &Weighed<'_>| w.candidate.decision.state == State::Gone;
    weighed.sort_by(|a, b| (is_gone(a), &a.candidate.key).cmp(&(is_gone(b), &b.candidate.key)));
    weighed.truncate(PORTS_MAX);
    let reason = format!("at most {PORTS_MAX} ports of a service count; {excess} were left out");
    Some(Refusal::new("service", reason))
}

fn candidate(node: &NodeClaims<'_>, claim: &Claim, port: &PortReport, service: &ServiceKey) -> Candidate {
    let container = &claim.container;
    let passage = node.presence.and_then(|presence| presence.silence.as_ref()).and_then(|s| s.passage.as_ref());
    let Said { ecs, neighbours, operator, may_go, .. } = claim.said;
    let witnesses = Witnesses {
        sidecar: sidecar(node, claim, port),
        ecs,
        neighbours,
        deadline: match (claim.said.claimant, neighbours) {
            // What is held is not removed. That it is vouched for no longer than ten minutes removes nothing.
            (Claimant::Sidecar, Neighbours::Connect) if passage.is_some() => Deadline::Passed,
            (Claimant::Sidecar, _) if passage.is_some_and(|passage| !passage.held.contains(service)) => {
                Deadline::Passed
            }
            (Claimant::Ecs, _) if may_go => Deadline::Passed,
            (Claimant::Sidecar | Claimant::Ecs | Claimant::Declared(_), _) => Deadline::Running,
        },
        operator,
    };
    let decision = rules::decide(&witnesses);
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
        since: Since::default(),
        since_ms: 0,
        decision,
        // A task that is missing may go at once, as far as limits allow; a silence only when its deadline passed.
        is_held: witnesses.deadline == Deadline::Running
            && match decision.rule {
                Rule::EcsMissing => decision.state != State::Unusable,
                Rule::SilentUnknown => passage.is_some(),
                _ => false,
            },
        ending,
        refusals: container.refusals.iter().chain(&claim.refusal).cloned().collect(),
        is_refused: container.is_refused || claim.refusal.is_some(),
    }
}

fn sidecar(node: &NodeClaims<'_>, claim: &Claim, port: &PortReport) -> Sidecar {
    let is_speaking = node.presence.is_some_and(|presence| presence.silence.is_none());
    match claim.said.claimant {
        Claimant::Sidecar if is_speaking => Sidecar::Speaks(Word::of(&claim.container, port)),
        Claimant::Sidecar => Sidecar::Silent(Word::of(&claim.container, port)),
        Claimant::Ecs => Sidecar::None,
        Claimant::Declared(declared) => Sidecar::External(declared),
    }
}

/// Since when each witness says what it says. What it said before as well it says since then.
fn put_since(
    candidate: &mut Candidate,
    inputs: &Inputs<'_>,
    node: &NodeClaims<'_>,
    before: &BTreeMap<&EndpointKey, &Candidate>,
) {
    let task = candidate.task_id.as_deref();
    let ordered = match candidate.witnesses.operator {
        Operator::Nothing => 0,
        Operator::Drained | Operator::Evicted => {
            let orders = join::orders(inputs.stated, node.node, task, &candidate.key.container_id);
            orders.map(|order| order.at_ms).max().unwrap_or_default()
        }
    };
    let first = Since {
        sidecar_ms: node.sidecar_ms,
        ecs_ms: if node.ecs_ms == 0 { node.sidecar_ms } else { node.ecs_ms },
        neighbours_ms: inputs.stated.probes.get(node.node).map_or(node.sidecar_ms, |probe| probe.at_ms),
        operator_ms: ordered,
    };
    let newest = [first.sidecar_ms, first.ecs_ms, first.operator_ms].into_iter().max().unwrap_or_default();
    (candidate.since, candidate.since_ms) = (first, newest);
    let Some(known) = before.get(&candidate.key) else { return };
    let now_ms = |first: u64| inputs.at_ms.unwrap_or(first);
    let kept = |is_same: bool, known: u64, first: u64| if is_same { known } else { now_ms(first) };
    let (was, is) = (&known.witnesses, &candidate.witnesses);
    candidate.since = Since {
        sidecar_ms: kept(was.sidecar == is.sidecar, known.since.sidecar_ms, first.sidecar_ms),
        ecs_ms: kept(was.ecs == is.ecs, known.since.ecs_ms, first.ecs_ms),
        neighbours_ms: kept(was.neighbours == is.neighbours, known.since.neighbours_ms, first.neighbours_ms),
        operator_ms: ordered,
    };
    candidate.since_ms = kept(known.decision.state == candidate.decision.state, known.since_ms, newest);
}
