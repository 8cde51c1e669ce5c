//! What the store holds of the witnesses that are not sidecars, and of operators: one small value for each key.
//!
//! Written as [`record`](super::record) writes. What ECS says of instances and tasks is
//! [`EcsReport`](portolan_core::ecs::EcsReport), kept in the same way.

use std::net::{IpAddr, SocketAddr};

use portolan_core::endpoint::Protocol;
use portolan_core::name::Label;
use portolan_core::rules::Neighbours;
use serde::{Deserialize, Serialize};

use super::record::NameSource;

/// ECS is a witness for this cluster: it is asked about it, whether it answered already or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// The cluster's ARN; as long as that is not known, its name.
    pub arn: String,
    /// Since when it is asked, Unix milliseconds.
    pub since_ms: u64,
}

/// What ECS says of a service (AWS API: `Service`), for people and for `portolan wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Its name, as ECS has it.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// `desiredCount`.
    pub desired: u32,
    /// `runningCount`.
    pub running: u32,
    /// `pendingCount`.
    pub pending: u32,
    /// Its deployments, the primary one first.
    pub deployments: Vec<Deployment>,
}

/// A deployment of a service (AWS API: `Deployment`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// `id`.
    pub id: String,
    /// `status`: PRIMARY, ACTIVE, INACTIVE.
    pub status: String,
    /// `rolloutState`: IN_PROGRESS, COMPLETED, FAILED. Empty: ECS does not say.
    pub rollout_state: String,
    /// `rolloutStateReason`, made harmless to show.
    pub reason: String,
    /// `taskDefinition`: the family and revision, such as `web:7`.
    pub task_definition: String,
    /// `desiredCount`.
    pub desired: u32,
    /// `runningCount`.
    pub running: u32,
    /// `failedTasks`.
    pub failed: u32,
}

/// Which services tasks of a family were seen to belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyRecord {
    /// ECS services by their names, in their order. A task of a family with one takes its name at once.
    pub services: Vec<String>,
}

/// The name that a container was given when its labels alone did not say. It keeps it while it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// By what it was chosen.
    pub source: NameSource,
    /// The name.
    pub name: Label,
    /// The ECS service as ECS has it, when that gave the name.
    pub ecs_service: Option<String>,
}

/// No sidecar spoke on this container instance within a minute of its first appearance: ECS alone says what runs there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AloneRecord {
    /// When that was found, Unix milliseconds.
    pub since_ms: u64,
}

/// Tasks that two listings lack and that may go, as far as weak evidence may remove anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsenceRecord {
    /// Their ids, in their order.
    pub passed: Vec<String>,
}

/// What neighbours met when they tried to connect to a silent node's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// When they last tried, Unix milliseconds.
    pub at_ms: u64,
    /// Which nodes tried, for people.
    pub neighbours: Vec<String>,
    /// What follows for each place, in the order of the places.
    pub verdicts: Vec<Verdict>,
}

/// What the neighbours' answers come to for one address and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Where.
    pub place: SocketAddr,
    /// What they say together.
    pub word: Neighbours,
}

/// Endpoints that an operator declared, outside ECS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRecord {
    /// Where they are.
    pub endpoints: Vec<ExternalEndpoint>,
    /// Whether a TCP connection to each is tried, and how often, milliseconds.
    pub check_every_ms: Option<u64>,
    /// Tags.
    pub tags: Vec<String>,
    /// Metadata, in the order of its keys.
    pub meta: Vec<(String, String)>,
    /// When it was declared, Unix milliseconds.
    pub since_ms: u64,
}

/// One declared endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExternalEndpoint {
    /// An IP address, or a DNS name that is followed.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port's name.
    pub port_name: Option<Label>,
    /// SRV weight.
    pub weight: u16,
    /// Availability zone, if that is known.
    pub az: Option<String>,
}

/// Where declared endpoints are, and how their checks go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedRecord {
    /// In the order of host, port and address.
    pub places: Vec<ResolvedPlace>,
    /// Hosts that could not be resolved the last time; their former addresses stay.
    pub unresolved: Vec<String>,
}

/// One address of a declared endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResolvedPlace {
    /// The host as declared.
    pub host: String,
    /// The port as declared.
    pub port: u16,
    /// Its protocol as declared.
    pub protocol: Protocol,
    /// The address.
    pub address: IpAddr,
    /// How its check goes; `None`: there is none.
    pub check: Option<CheckState>,
}

/// How a check of a declared endpoint goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Not passed yet.
    Starting,
    /// It passes.
    Passing,
    /// It fails.
    Failing,
}

/// An operator's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// What is ordered.
    pub order: Order,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Why, as the operator says, made harmless to show. Empty: not said.
    pub reason: String,
}

/// What an operator can order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Out of answers while open links finish; undone by deleting it.
    Drain,
    /// Out for good.
    Evict,
    /// A service's name answers its endpoints' addresses, although it has a virtual one; undone by deleting it.
    Unlink,
}
