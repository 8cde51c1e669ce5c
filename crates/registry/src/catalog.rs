//! The catalog: what follows from the evidence in the store, as one immutable value that every surface reads.
//!
//! ```text
//! store's watch ──> `held` (decoded) ──> `site` (`join`, `naming`) ──> `service` (`weigh`: rules) ──> Catalog
//!                                                                                                       │
//!                                                   steward (intake) <── `needs`: names, links to store ┘
//! ```
//!
//! A *site* is what is held of one node key; each write concerns some, and what follows of those is compared with what
//! followed before, so that only services of which something else is said now are built anew.
//!
//! One job, one writer. It is built only from the store's watch, so it is the same on every replica and may be thrown
//! away at any moment. It never writes to the store, never reads a clock (times are those of commits), and an equal
//! piece of evidence changes nothing: no index moves. A reader never waits for it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use portolan_core::ecs::Stop;
use portolan_core::endpoint::{EndpointKey, State};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::refusal::Refusal;
use portolan_core::rules::{Decision, Rule, Witnesses};
use portolan_core::view::{Service, View};
use serde::{Deserialize, Serialize};

// What the store says that surfaces show as it is; they know no store.
pub use crate::store::evidence::{Deployment, ServiceRecord};
pub use crate::store::record::{LinkRecord, NameSource, Owner, Silence};

mod announce;
mod builder;
mod declared;
mod events;
mod given;
mod held;
#[cfg(test)]
mod history;
mod index;
mod job;
mod join;
mod naming;
pub(crate) mod needs;
mod service;
mod site;
mod stated;
mod stopped;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod weigh;

pub use job::{Settings, start};
pub use stated::Stated;

/// How many events are kept.
pub const EVENTS_MAX: usize = 10_000;

/// Everything that a surface can be asked about. Cloning shares what did not change.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// What clients are answered from. Its index is that of the newest change.
    pub view: View,
    /// Which store this is; told to clients so that they see when it was replaced.
    pub epoch: Arc<str>,
    /// The store revision up to which everything is taken in. Rises also when nothing changed.
    pub revision: u64,
    /// The index at which this catalog was first complete.
    pub first_index: u64,
    /// Per service, every candidate and why it stands where it stands. Also names that are in no view, because
    /// everything that asked for them was refused.
    pub explained: imbl::OrdMap<ServiceKey, Arc<Explained>>,
    /// Every node that registered, and every container instance without a sidecar.
    pub nodes: imbl::OrdMap<NodeKey, Arc<NodeStatus>>,
    /// What ECS, neighbours and operators stated.
    pub stated: Stated,
    /// Services of which something is unverified.
    pub doubted: imbl::OrdMap<ServiceKey, Arc<Doubted>>,
    /// The newest [`EVENTS_MAX`] changes, oldest first.
    pub events: imbl::Vector<Arc<Event>>,
    /// When services that are no longer known went away.
    pub(crate) removed: imbl::OrdMap<ServiceKey, u64>,
    /// Virtual addresses as the store has them.
    pub(crate) addresses: imbl::OrdMap<Ipv4Addr, needs::RecordedAddress>,
    /// What the store should hold of names and links.
    pub(crate) needs: imbl::OrdMap<ServiceKey, Arc<needs::Need>>,
    /// What it should hold of the names of containers, by node.
    pub(crate) name_needs: imbl::OrdMap<NodeKey, Arc<needs::NameNeeds>>,
    /// Containers, by node, of which it holds a name and nobody tells any more.
    pub(crate) stale_names: imbl::OrdMap<NodeKey, Arc<Vec<String>>>,
}

impl Catalog {
    /// The index at which `key` last changed: when it is known, of its last change; when it was, of its going; when it
    /// never was, of the first complete catalog.
    pub fn service_index(&self, key: &ServiceKey) -> u64 {
        let known = self.view.service(key).map(|service| service.index);
        known.or_else(|| self.removed.get(key).copied()).unwrap_or(self.first_index)
    }

    /// How much limits hold back, all in all.
    pub fn frozen(&self) -> Frozen {
        let held = || self.doubted.values().filter(|doubted| doubted.held > 0);
        let nodes: BTreeSet<&NodeKey> = held().flat_map(|doubted| &doubted.held_on).collect();
        Frozen { endpoints: held().map(|doubted| doubted.held).sum(), nodes: nodes.len(), services: held().count() }
    }

    /// The service of that name, if it is known.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.view.service(key)
    }
}

/// Why a service is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its name.
    pub key: ServiceKey,
    /// Who may use the name; `None` until the store holds it.
    pub owner: Option<Owner>,
    /// What was decided of its link.
    pub link: Option<LinkRecord>,
    /// Everything that was considered, in the order of the keys: also what is gone, for a minute, and what was refused.
    pub candidates: Vec<Candidate>,
    /// What was refused of the service as a whole.
    pub refusals: Vec<Refusal>,
    /// Tasks of the service that ECS says have stopped, newest first.
    pub stopped: Vec<StoppedTask>,
}

impl Explained {
    /// Of a service that nobody claims.
    pub(crate) fn nothing(key: ServiceKey) -> Explained {
        let (candidates, refusals, stopped) = (Vec::new(), Vec::new(), Vec::new());
        Explained { key, owner: None, link: None, candidates, refusals, stopped }
    }
}

/// A task that stopped, as ECS tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoppedTask {
    /// Its id.
    pub task_id: String,
    /// Its task definition's family.
    pub family: Option<Label>,
    /// Why, as ECS says.
    pub stop: Stop,
    /// Its containers: name, exit code, reason.
    pub containers: Vec<(Label, Option<i64>, Option<String>)>,
}

/// One port of one run of a container, considered for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its identity.
    pub key: EndpointKey,
    /// The container's name within its task.
    pub container: Label,
    /// By what the service's name was chosen.
    pub source: NameSource,
    /// ECS task id.
    pub task_id: Option<String>,
    /// Where it can be reached.
    pub addresses: Vec<IpAddr>,
    /// The port to connect to.
    pub port: u16,
    /// What each witness says.
    pub witnesses: Witnesses,
    /// Since when each of them says so; after a start of the registry, the time of the newest that it said.
    pub since: Since,
    /// Since when its state is what it is, Unix milliseconds; after a start as above.
    pub since_ms: u64,
    /// What follows.
    pub decision: Decision,
    /// Whether only a limit on how much weak evidence may remove at once keeps it from being gone.
    pub is_held: bool,
    /// How its run ended.
    pub ending: Option<Ending>,
    /// What was refused of it.
    pub refusals: Vec<Refusal>,
    /// Whether a refusal keeps it out of every answer, whatever its state.
    pub is_refused: bool,
}

/// Since when each witness says what it says of a candidate, Unix milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Since {
    /// The sidecar; of a declared endpoint, its declaration or check.
    pub sidecar_ms: u64,
    /// The ECS API.
    pub ecs_ms: u64,
    /// Neighbours.
    pub neighbours_ms: u64,
    /// When an operator ordered it; 0 without an order.
    pub operator_ms: u64,
}

/// How much limits hold back, all in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Frozen {
    /// How many endpoints.
    pub endpoints: usize,
    /// On how many nodes.
    pub nodes: usize,
    /// Of how many services.
    pub services: usize,
}

/// That something of a service is doubted: its node is silent, or its task is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Doubted {
    /// Of how many of its endpoints only limits keep it from being gone.
    pub held: usize,
    /// On which nodes those are.
    pub held_on: BTreeSet<NodeKey>,
}

impl Doubted {
    /// What is doubted of a service, if anything is.
    pub(crate) fn of(explained: &Explained) -> Option<Doubted> {
        let mut doubted = None;
        let is_doubtful = |c: &&Candidate| match c.decision.state {
            State::Unverified(_) => !c.is_refused,
            state => state != State::Gone && c.decision.rule == Rule::EcsMissing,
        };
        for candidate in explained.candidates.iter().filter(is_doubtful) {
            let doubted: &mut Doubted = doubted.get_or_insert_default();
            if candidate.is_held {
                doubted.held += 1;
                doubted.held_on.insert(candidate.key.node.clone());
            }
        }
        doubted
    }
}

/// How a run ended, as people read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// Exit code, once Docker has told it.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for memory.
    pub is_out_of_memory: bool,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub key: NodeKey,
    /// Host name.
    pub host_name: Option<Label>,
    /// Addresses that other nodes can reach.
    pub addresses: Vec<IpAddr>,
    /// Availability zone.
    pub az: Option<String>,
    /// Whether it has a sidecar, or ever had one that it did not lose for good. Without one, what concerns the sidecar below is
    /// empty or zero.
    pub has_sidecar: bool,
    /// Version of its sidecar.
    pub version: String,
    /// The boot id that holds its key.
    pub boot_id: String,
    /// The session of its newest report.
    pub session: u64,
    /// The generation of its newest report that was kept.
    pub generation: u64,
    /// Since when it speaks or spoke, Unix milliseconds.
    pub speaking_since_ms: u64,
    /// Its silence, if it is silent.
    pub silence: Option<Silence>,
    /// The store revision that says so.
    pub(crate) presence_revision: Option<u64>,
    /// When its newest report was kept, or ECS first told of one without a sidecar, Unix milliseconds.
    pub reported_at_ms: u64,
    /// How many containers it reports, with those that ended lately.
    pub containers: usize,
    /// How many of them wait for ECS to tell their service.
    pub unnamed: usize,
    /// What was refused of its report, container by container.
    pub refusals: Vec<Refusal>,
}

/// One change of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The index of the change.
    pub index: u64,
    /// When the evidence was kept, Unix milliseconds.
    pub at_ms: u64,
    /// Of which service.
    pub service: ServiceKey,
    /// Which endpoint.
    pub endpoint: EndpointKey,
    /// The container's name within its task.
    pub container: Label,
    /// Where it was; `None`: nowhere.
    pub from: Option<State>,
    /// Where it is now.
    pub to: State,
    /// The row of the table that moved it; `None`: it is no longer reported.
    pub rule: Option<Rule>,
    /// Why an operator ordered it, when that is the row and the operator said why.
    pub order_reason: Option<String>,
    /// Exit code of its run, when it ended and Docker has told it.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for memory.
    pub is_out_of_memory: bool,
}
