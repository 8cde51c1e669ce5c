//! Services and their endpoints.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every known service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceList {
    /// The index at which the newest of them changed.
    pub index: u64,
    /// In the order of cluster and name.
    pub services: Vec<ServiceSummary>,
}

/// One service, without its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceSummary {
    /// Its cluster.
    pub cluster: String,
    /// Its name within the cluster.
    pub service: String,
    /// Its full DNS name.
    pub dns_name: String,
    /// The index at which it last changed.
    pub index: u64,
    /// The address that its name answers on a node with links.
    #[schema(value_type = Option<String>)]
    pub virtual_address: Option<Ipv4Addr>,
    /// Its ports, such as `9200/tcp`, by container port.
    pub ports: Vec<String>,
    /// How many endpoints stand where.
    pub endpoints: StateCounts,
}

/// How many endpoints are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateCounts {
    /// Answered.
    pub usable: u32,
    /// Their node is silent.
    pub unverified: u32,
    /// Stopping.
    pub draining: u32,
    /// Paused or failing.
    pub unusable: u32,
    /// Not yet passed their first check.
    pub starting: u32,
}

/// One service and its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Its cluster.
    pub cluster: String,
    /// Its name within the cluster.
    pub service: String,
    /// Its full DNS name.
    pub dns_name: String,
    /// The index at which it last changed.
    pub index: u64,
    /// Its link, once one was decided.
    pub link: Option<Link>,
    /// Its endpoints, in the order of their keys.
    pub endpoints: Vec<Endpoint>,
    /// What ECS says of the ECS service of that name. News of it alone do not move the index.
    #[serde(default)]
    pub ecs: Option<EcsService>,
}

/// What ECS says of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EcsService {
    /// Its name, as ECS has it.
    pub name: String,
    /// How many tasks it should have.
    pub desired: u32,
    /// How many run.
    pub running: u32,
    /// How many are being started.
    pub pending: u32,
    /// Its deployments, the primary one first.
    pub deployments: Vec<EcsDeployment>,
}

/// A deployment of an ECS service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EcsDeployment {
    /// Its id.
    pub id: String,
    /// `PRIMARY`, `ACTIVE` or `INACTIVE`.
    pub status: String,
    /// `IN_PROGRESS`, `COMPLETED` or `FAILED`; empty where ECS does not say.
    pub rollout_state: String,
    /// Why that is so.
    pub reason: String,
    /// Family and revision, such as `web:7`.
    pub task_definition: String,
    /// How many tasks it should have.
    pub desired: u32,
    /// How many run.
    pub running: u32,
    /// How many failed to start.
    pub failed: u32,
}

/// The stable address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// From the link range; the name's for ever.
    #[schema(value_type = String)]
    pub address: Ipv4Addr,
    /// `vip`: the name answers this address on a node. `direct`: it answers the endpoints' own.
    pub mode: String,
    /// What each port leads to.
    pub ports: Vec<LinkPort>,
}

/// One port of a virtual address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkPort {
    /// The port that clients connect to.
    pub port: u16,
    /// The port inside the containers that it leads to.
    pub container_port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// One port of one run of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// Which one it is.
    #[serde(flatten)]
    pub id: EndpointId,
    /// `usable`, `unverified`, `draining`, `unusable`, `starting` or `gone`.
    pub state: String,
    /// Since when it is in this state.
    pub since: Option<String>,
    /// The first of its addresses.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// All addresses that other nodes can reach, IPv4 first.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// The port to connect to.
    pub port: u16,
    /// The port's name.
    pub port_name: Option<String>,
    /// SRV weight.
    pub weight: u16,
    /// Availability zone.
    pub az: Option<String>,
    /// Whether the service's own names answer it: not where two containers of the service have the same port.
    pub is_service_port: bool,
    /// Tags.
    pub tags: Vec<String>,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
}

/// What makes two endpoints the same one, and what a person calls it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointId {
    /// Its node.
    pub node: String,
    /// The cluster of its node.
    pub node_cluster: String,
    /// The container's name within its task.
    pub container: String,
    /// Docker's container id.
    pub container_id: String,
    /// Which run of the container: Docker's `StartedAt`.
    pub started_at: String,
    /// ECS task id.
    pub task_id: Option<String>,
    /// The port inside the container.
    pub container_port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}
