//! Services outside ECS and Docker, as operators declare them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every declared service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExternalList {
    /// The index at which the newest of them changed.
    pub index: u64,
    /// In the order of cluster and name.
    pub services: Vec<ExternalSummary>,
}

/// One declared service, without its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExternalSummary {
    /// Its cluster.
    pub cluster: String,
    /// Its name within the cluster.
    pub service: String,
    /// How many endpoints were declared.
    pub endpoints: u32,
    /// How many addresses they have now.
    pub places: u32,
    /// How many of these fail their check.
    pub failing: u32,
    /// Hosts that could not be resolved the last time; their former addresses stay.
    pub unresolved: Vec<String>,
    /// When it was first declared.
    pub since: String,
}

/// One declared service, and where its endpoints are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct External {
    /// Its cluster.
    pub cluster: String,
    /// Its name within the cluster.
    pub service: String,
    /// As it was declared.
    #[serde(flatten)]
    pub declaration: ExternalDeclaration,
    /// When it was first declared.
    pub since: String,
    /// Where its endpoints are.
    pub places: Vec<ExternalPlace>,
    /// Hosts that could not be resolved the last time; their former addresses stay.
    pub unresolved: Vec<String>,
}

/// What is declared. It replaces what was declared before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExternalDeclaration {
    /// 1 to 100 endpoints.
    pub endpoints: Vec<ExternalEndpoint>,
    /// How they are checked; none: they are usable as declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<ExternalCheck>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Metadata.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExternalEndpoint {
    /// An IP address, or a DNS name outside the zone, which is followed.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `tcp` (the default) or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The port's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_name: Option<String>,
    /// SRV weight; 1 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub az: Option<String>,
}

/// A check: whether a TCP connection opens within 2 s. One pass is enough; three failures in a row make it fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExternalCheck {
    /// `true`: by TCP. There is no other check.
    pub tcp: bool,
    /// How often: 1s to 10m; 10s where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
}

/// One address of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExternalPlace {
    /// The host as declared.
    pub host: String,
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `starting` (not passed yet), `passing` or `failing`; none: it is not checked.
    pub check: Option<String>,
}
