//! From facts and health to what this node reports: a pure function, so that `inspect` shows exactly what is registered.
//!
//! Never looks at Docker, a socket or a clock.

use std::collections::HashMap;
use std::net::IpAddr;

use portolan_core::evidence::{ContainerReport, Phase};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::naming;
use portolan_core::refusal::Refusal;
use serde::Serialize;

use crate::docker::facts::{Activity, Facts, Sight};
use crate::docker::state::State;
use crate::health::{Checks, INTERVAL, Plan, PortKey};

mod identity;
mod ports;

use identity::Identity;
use ports::Port;

/// This node, as its settings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its key; containers without an ECS label belong to its cluster.
    pub key: NodeKey,
    /// Addresses that other nodes can reach, IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
}

/// Everything this node knows of its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LocalState {
    /// Whether every container was seen once: before that, what is missing here may well run.
    pub is_complete: bool,
    /// What is registered, in the order of id and run.
    pub reports: Vec<ContainerReport>,
    /// Containers that are not registered, because somebody wanted it so.
    pub left_out: Vec<LeftOut>,
    /// The cluster of each local container, by its addresses: for bare names.
    pub clients: HashMap<IpAddr, Label>,
    /// The service of each local container that has one, by its addresses: who connects through links.
    #[serde(skip)]
    pub callers: HashMap<IpAddr, ServiceKey>,
    /// How it stands with Docker.
    pub docker: DockerStatus,
}

/// A container that is left out on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Docker's id.
    pub id: String,
    /// Docker's name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// How it stands with Docker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DockerStatus {
    /// Whether it answers.
    pub connection: Connection,
    /// Since when, Unix milliseconds; 0 before the first attempt's end.
    pub since_ms: u64,
    /// What is lost here, in words for a person.
    pub notices: Vec<String>,
}

/// Whether Docker answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// The first attempt is under way.
    #[default]
    Connecting,
    /// It answers.
    Up {
        /// The API's version, such as `1.41`.
        api_version: String,
    },
    /// It does not: what is known stands.
    Down {
        /// Why.
        reason: String,
    },
}

/// A live container with all that follows from facts alone.
#[derive(Debug)]
pub struct Resolved<'a> {
    facts: &'a Facts,
    is_stopping: bool,
    left_out: Option<&'static str>,
    identity: Identity,
    ports: Vec<Port>,
    refusals: Vec<Refusal>,
}

/// Works out names and ports of every container that lives.
pub fn resolve<'a>(state: &'a State, node: &Node) -> Vec<Resolved<'a>> {
    let sharing = ports::Sharing::of(state);
    let resolve_one = |live: &'a crate::docker::state::Live| {
        let facts = &live.facts;
        let mut refusals = facts.declaration.refusals.clone();
        let identity = identity::identify(facts, &node.key.cluster, &mut refusals);
        let left_out = left_out(facts);
        let ports = if left_out.is_some() { Vec::new() } else { ports::of(facts, (&sharing, node), &mut refusals) };
        Resolved { facts, is_stopping: live.stopping_since.is_some(), left_out, identity, ports, refusals }
    };
    state.live().map(resolve_one).collect()
}

/// Why a container is not to be registered.
fn left_out(facts: &Facts) -> Option<&'static str> {
    if facts.declaration.is_ignored {
        Some("its label says so")
    } else if identity::is_pause(facts) {
        Some("it only holds the network of an ECS task")
    } else {
        None
    }
}

/// The service that a container is of by its own word, at each of its addresses. What ECS calls it the registry knows.
fn caller(container: &Resolved<'_>) -> Vec<(IpAddr, ServiceKey)> {
    let Some((_, service)) = naming::choose(&container.identity.candidates, None, None) else { return Vec::new() };
    let key = ServiceKey { cluster: container.identity.cluster.clone(), service: service.clone() };
    container.facts.addresses.iter().map(|address| (*address, key.clone())).collect()
}

/// What is to be checked of these containers.
pub fn plans(resolved: &[Resolved<'_>]) -> Vec<Plan> {
    let plans_of = |container: &Resolved<'_>| {
        let interval = container.facts.declaration.check_interval.unwrap_or(INTERVAL);
        let plan = |port: &Port| Plan { key: port_key(container.facts, port), method: port.method.clone(), interval };
        container.ports.iter().map(plan).collect::<Vec<_>>()
    };
    resolved.iter().flat_map(plans_of).collect()
}

/// What is lost on this node, in words for a person.
pub fn notices(resolved: &[Resolved<'_>]) -> Vec<String> {
    let hidden = resolved.iter().filter(|container| container.facts.sight == Sight::Hidden).count();
    if hidden == 0 {
        return Vec::new();
    }
    vec![format!(
        "the processes of {hidden} containers cannot be seen: their ports without a check count as ready when they \
         start, and deaths are noticed some 24 ms later; run the sidecar in the host's pid namespace, as root"
    )]
}

fn port_key(facts: &Facts, port: &Port) -> PortKey {
    let (container_port, protocol) = (port.container_port, port.protocol);
    PortKey { id: facts.id.clone(), run: facts.run, container_port, protocol }
}

/// Writes reports.
#[derive(Debug)]
pub struct Reporter<'a> {
    /// This node.
    pub node: &'a Node,
    /// The health of ports.
    pub checks: &'a Checks,
    /// What was published last: what an ended run was when it lived.
    pub previous: &'a LocalState,
}

impl Reporter<'_> {
    /// The whole state.
    pub fn local_state(
        &self,
        state: &State,
        resolved: &[Resolved<'_>],
        (docker, is_complete): (DockerStatus, bool),
    ) -> LocalState {
        let registered = resolved.iter().filter(|container| container.left_out.is_none());
        let mut reports: Vec<ContainerReport> = registered.map(|container| self.live_report(container)).collect();
        reports.extend(state.ended().filter_map(|ended| {
            let facts = &ended.facts;
            let last = self.previous.reports.iter().find(|last| last.id == facts.id && last.run == facts.run).cloned();
            let last = last.or_else(|| self.unseen_report(facts))?;
            Some(ContainerReport { phase: Phase::Died(ended.ending.clone()), ..last })
        }));
        reports.sort_by(|a, b| (&a.id, a.run).cmp(&(&b.id, b.run)));
        let left_out = resolved.iter().filter_map(|container| {
            let reason = container.left_out?.to_owned();
            Some(LeftOut { id: container.facts.id.clone(), name: container.facts.name.clone(), reason })
        });
        let addresses = |container: &Resolved<'_>| {
            let cluster = container.identity.cluster.clone();
            container.facts.addresses.iter().map(move |address| (*address, cluster.clone())).collect::<Vec<_>>()
        };
        LocalState {
            is_complete,
            callers: resolved.iter().flat_map(caller).collect(),
            reports,
            left_out: left_out.collect(),
            clients: resolved.iter().flat_map(addresses).collect(),
            docker,
        }
    }

    /// Of a run that ended before it was published: who it was. Nobody connects to it, so where it was matters no more.
    fn unseen_report(&self, facts: &Facts) -> Option<ContainerReport> {
        let mut refusals = facts.declaration.refusals.clone();
        let identity = identity::identify(facts, &self.node.key.cluster, &mut refusals);
        let left_out = left_out(facts);
        let ports = ports::of_unseen(facts, self.node);
        let unseen = Resolved { facts, is_stopping: false, left_out, identity, ports, refusals };
        left_out.is_none().then(|| self.live_report(&unseen))
    }

    fn live_report(&self, container: &Resolved<'_>) -> ContainerReport {
        let (facts, identity, declared) = (container.facts, &container.identity, &container.facts.declaration);
        let mut refusals = container.refusals.clone();
        let own: Vec<u16> = container.ports.iter().map(|port| port.container_port).collect();
        let (tags, meta) = declared.tags_and_meta(&own, &mut refusals);
        let ports = container.ports.iter().map(|port| port.report(self.checks.health(&port_key(facts, port))));
        ContainerReport {
            id: facts.id.clone(),
            run: facts.run,
            cluster: identity.cluster.clone(),
            candidates: identity.candidates.clone(),
            name: identity.name.clone(),
            task_arn: identity.task_arn.clone(),
            task_id: identity.task_id.clone(),
            phase: match (&facts.activity, container.is_stopping) {
                (_, true) => Phase::Stopping,
                (Activity::Paused, false) => Phase::Paused,
                (Activity::Running | Activity::Ended { .. }, false) => Phase::Running,
            },
            ports: ports.collect(),
            link: declared.link.clone(),
            is_primary: declared.is_primary,
            tags,
            meta,
            weight: declared.weight,
            refusals,
            is_refused: identity.is_refused,
        }
    }
}

#[cfg(test)]
mod tests;
