//! What changed, when, and why.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EndpointId;

/// The changes that are still remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    /// The index of the newest.
    pub index: u64,
    /// Everything after this index is here; what is older was forgotten.
    pub complete_after: u64,
    /// The oldest first.
    pub events: Vec<Change>,
}

/// One change of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The index at which it happened. Several changes may share one.
    pub index: u64,
    /// When.
    pub at: String,
    /// The cluster of the service.
    pub cluster: String,
    /// The service.
    pub service: String,
    /// The endpoint.
    #[serde(flatten)]
    pub id: EndpointId,
    /// Where it is.
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The port to connect to.
    pub port: Option<u16>,
    /// The state before; none: it was not there.
    pub from: Option<String>,
    /// The state after.
    pub to: String,
    /// Why, for people: the rule, with exit code where there is one.
    pub reason: String,
}

/// Sent in the place of changes that are no longer remembered: read everything again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reset {
    /// The index from which changes follow.
    pub index: u64,
    /// Why.
    pub reason: String,
}
