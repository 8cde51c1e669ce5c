//! Nodes and what runs on them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RefusedInput;

/// Every known node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// The index at which the newest of them changed.
    pub index: u64,
    /// In the order of cluster and name.
    pub nodes: Vec<NodeSummary>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeSummary {
    /// Its cluster.
    pub cluster: String,
    /// Its name: EC2 or `mi-` id, setting `node`, or a hash of the machine id.
    pub node: String,
    /// Its full DNS name.
    pub dns_name: String,
    /// Host name.
    pub host_name: Option<String>,
    /// Addresses that other nodes can reach.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Availability zone.
    pub az: Option<String>,
    /// Whether its sidecar speaks: `speaking`, `silent`, or `none` where ECS alone tells what runs.
    pub sidecar: String,
    /// Since when.
    pub since: Option<String>,
    /// Version of its sidecar.
    pub version: Option<String>,
    /// When its newest report was kept.
    pub reported: String,
    /// How many containers its sidecar reports, or ECS where it has none.
    pub containers: u32,
    /// How many of them have no name yet, because ECS has not told their service.
    #[serde(default)]
    pub unnamed: u32,
    /// How much was refused of what it reports.
    pub refused: u32,
}

/// One node and its containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// The node.
    #[serde(flatten)]
    pub summary: NodeSummary,
    /// The endpoints on it.
    pub endpoints: Vec<NodeEndpoint>,
    /// What was refused of what it reports.
    pub refusals: Vec<RefusedInput>,
}

/// One endpoint on a node, and the service it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeEndpoint {
    /// The cluster of its service.
    pub cluster: String,
    /// Its service.
    pub service: String,
    /// The container's name.
    pub container: String,
    /// Docker's container id.
    pub container_id: String,
    /// The port inside the container, such as `9200/tcp`.
    pub container_port: String,
    /// The port to connect to.
    pub port: u16,
    /// Its state.
    pub state: String,
}
