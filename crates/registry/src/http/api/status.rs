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
    /// How it stands with AWS; absent where it is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsStatus>,
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

/// How it stands with AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AwsStatus {
    /// The clusters that it is asked about.
    pub clusters: Vec<AwsCluster>,
    /// Actions that this registry's role may not call.
    pub denied: Vec<AwsDenied>,
    /// Calls of ECS and EC2 within the last minute.
    pub calls_last_minute: u32,
    /// How many the budget allows in a minute.
    pub calls_per_minute_max: u32,
    /// The event queue; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<AwsQueue>,
}

/// How it stands with one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AwsCluster {
    /// Its name here.
    pub cluster: String,
    /// Its ARN, once it is known.
    pub arn: Option<String>,
    /// When the last complete listing ended.
    pub listed: Option<String>,
    /// How many calls that took.
    pub calls: u32,
    /// How many tasks are known that have not stopped.
    pub tasks: u32,
    /// How many of those two listings lack.
    pub missing: u32,
    /// How many container instances are known.
    pub instances: u32,
    /// What went wrong since the last complete listing.
    pub error: Option<AwsError>,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AwsError {
    /// When.
    pub at: String,
    /// What.
    pub message: String,
}

/// An action that may not be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AwsDenied {
    /// As a policy names it, such as `ecs:ListTasks`.
    pub action: String,
    /// Since when.
    pub since: String,
    /// What is lost.
    pub without: String,
    /// What AWS said.
    pub message: String,
}

/// How it stands with the event queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AwsQueue {
    /// When it last answered.
    pub answered: Option<String>,
    /// Messages applied since the start.
    pub applied: u64,
    /// What went wrong since it last answered.
    pub error: Option<AwsError>,
    /// Messages given up since the start.
    pub parked_total: u64,
    /// The newest of those, oldest first.
    pub parked: Vec<ParkedMessage>,
}

/// A message that could not be read or applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParkedMessage {
    /// Its id.
    pub message_id: String,
    /// When it was given up.
    pub at: String,
    /// Why.
    pub reason: String,
    /// How it begins.
    pub beginning: String,
}
