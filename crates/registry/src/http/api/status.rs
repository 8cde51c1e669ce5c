//! The registry about itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::StateCounts;

/// The registry about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// `registry`.
    pub program: String,
    /// Its version.
    pub version: String,
    /// This life of its store; another one means that indexes begin anew.
    pub epoch: String,
    /// The zone it answers for.
    pub zone: String,
    /// Since when it runs.
    pub started: String,
    /// `loading`, `stale` (nobody confirmed it since the start) or `current`.
    pub readiness: String,
    /// The index of the newest change.
    pub index: u64,
    /// How many clusters have or had a service or a node.
    pub clusters: u32,
    /// How many services.
    pub services: u32,
    /// How many nodes.
    pub nodes: u32,
    /// How many of them are silent.
    pub silent_nodes: u32,
    /// How many endpoints stand where.
    pub endpoints: StateCounts,
    /// What is kept only because too much would be removed at once by weak evidence.
    #[serde(default)]
    pub held: HeldCounts,
}

/// How much limits hold back. All zero: nothing is frozen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldCounts {
    /// How many endpoints.
    pub endpoints: u32,
    /// On how many nodes.
    pub nodes: u32,
    /// Of how many services.
    pub services: u32,
}
