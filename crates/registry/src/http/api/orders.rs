//! What operators ordered.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every order that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderList {
    /// The index at which the newest of them changed.
    pub index: u64,
    /// Nodes first, then tasks, containers, and services, each in the order of their names.
    pub orders: Vec<Order>,
}

/// One order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// `node`, `task`, `container` or `service`.
    pub kind: String,
    /// What it is about: NODE.CLUSTER, SERVICE.CLUSTER, or the whole id of a task or a container.
    pub target: String,
    /// `drain`: out of answers while open links finish. `evict`: out for good. `unlink`: a name answers addresses, not its link.
    pub order: String,
    /// Since when.
    pub since: String,
    /// Why, as the operator said; empty: not said.
    pub reason: String,
    /// How many endpoints it is about now.
    pub endpoints: u32,
}

/// What an order may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderReason {
    /// Why. An eviction must say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
