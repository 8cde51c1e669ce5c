//! Evidence: what a node's sidecar reports of its containers, as one value that is replaced whole.
//!
//! Invariants: every [`Label`] is valid; every address was chosen by the node itself; texts from labels are bounded by
//! the parser in [`crate::labels`]. A container that was refused stays in the report with its refusals, so that a
//! person finds the reason; it never becomes an endpoint.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::endpoint::{Protocol, Run};
use crate::name::{Label, NodeKey};
use crate::refusal::Refusal;

/// The newest report of one node. (session, generation) orders the reports of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Whose report it is.
    pub node: NodeKey,
    /// The kernel's boot id: tells a node's sidecar restarted from another machine that claims the same key.
    pub boot_id: String,
    /// Given by the registry at connect; rises.
    pub session: u64,
    /// Counted by the sidecar; rises within a session.
    pub generation: u64,
    /// Host name, as a label.
    pub host_name: Option<Label>,
    /// Addresses that other nodes can reach, IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
    /// Availability zone.
    pub az: Option<String>,
    /// Version of the sidecar.
    pub version: String,
    /// Its containers, in the order of id and run; those that ended lately stay for a minute as `Died`.
    pub containers: Vec<ContainerReport>,
}

/// What a sidecar says of one run of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerReport {
    /// Docker's container id, 64 hexadecimal digits.
    pub id: String,
    /// Which run.
    pub run: Run,
    /// The cluster that its ECS label names, else the node's.
    pub cluster: Label,
    /// What the service may be called; the registry chooses.
    pub candidates: NameCandidates,
    /// The container's name within its task, else Compose's service or Docker's container name.
    pub name: Label,
    /// ECS task ARN.
    pub task_arn: Option<String>,
    /// The task's id: the last part of the ARN, 32 hexadecimal digits.
    pub task_id: Option<String>,
    /// Its life as Docker tells it.
    pub phase: Phase,
    /// Its ports.
    #[serde(deserialize_with = "exact")]
    pub ports: Vec<PortReport>,
    /// What its labels ask of links.
    pub link: LinkWish,
    /// `portolan.primary=true`.
    pub is_primary: bool,
    /// Tags.
    pub tags: Vec<String>,
    /// Metadata, in the order of its keys.
    pub meta: Vec<(String, String)>,
    /// SRV weight.
    pub weight: u16,
    /// What was refused of this container's labels and ports.
    pub refusals: Vec<Refusal>,
    /// Whether a refusal keeps the whole container out of every answer.
    pub is_refused: bool,
}

/// Names a container offers, strongest first (DESIGN section 3). The ECS service comes from the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCandidates {
    /// Label `portolan.service`.
    pub label: Option<Label>,
    /// Registrator's `SERVICE_NAME`; a port's own `SERVICE_<port>_NAME` is in [`PortReport::registrator_name`].
    pub registrator: Option<Label>,
    /// Compose's service label.
    pub compose: Option<Label>,
    /// ECS task definition family.
    pub family: Option<Label>,
    /// Docker's container name.
    pub container: Option<Label>,
}

/// A container's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Running.
    Running,
    /// Frozen by `docker pause`.
    Paused,
    /// Its stop signal was sent; it still runs.
    Stopping,
    /// Ended.
    Died(Ending),
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Exit code, once Docker has told it.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for memory.
    pub is_out_of_memory: bool,
    /// When, Unix milliseconds, for people.
    pub at_ms: u64,
}

/// What a sidecar says of one port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortReport {
    /// The port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port to connect to from other nodes.
    pub host_port: u16,
    /// The addresses to connect to. Never empty.
    pub addresses: Vec<IpAddr>,
    /// Label `portolan.port.<container port>`, or ECS's port mapping name.
    pub name: Option<Label>,
    /// Registrator's `SERVICE_<port>_NAME`: this port is a service of its own.
    pub registrator_name: Option<Label>,
    /// Its health.
    pub health: Health,
    /// Whether Docker chose the host port.
    pub is_dynamic: bool,
}

/// The health of a port by its own check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Not yet passed once in this run.
    Starting,
    /// Passes.
    Passing,
    /// Passed before, and fails now.
    Failing,
}

/// What labels ask of links.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkWish {
    /// `portolan.link`; `None` is `auto`.
    pub mode: Option<crate::view::LinkMode>,
    /// `portolan.link.port.80=9200`: (80, 9200).
    pub ports: Vec<(u16, u16)>,
    /// `portolan.link.plane`.
    pub plane: Option<LinkPlane>,
}

/// How a link is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkPlane {
    /// A userspace relay.
    Proxy,
    /// The kernel points connect() at the endpoint.
    Ebpf,
}

/// Reads a list that takes no more memory than its values. One that grows has room for four at once, and nearly every task has
/// one container with one port.
pub(crate) fn exact<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let mut list = Vec::deserialize(from)?;
    list.shrink_to_fit();
    Ok(list)
}
