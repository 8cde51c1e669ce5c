//! Why a name answers what it answers: every candidate, every witness, the rule that decided.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EcsService, EndpointId, Link};

/// Why a name answers what it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The full name.
    pub name: String,
    /// The cluster of the service behind it.
    pub cluster: String,
    /// The service behind it.
    pub service: String,
    /// The index at which the service last changed.
    pub index: u64,
    /// `loading`, `stale` (nobody confirmed it since the start) or `current`.
    pub readiness: String,
    /// Its link, once one was decided.
    pub link: Option<Link>,
    /// Every port that could be answered under this name, in whatever state.
    pub candidates: Vec<Candidate>,
    /// What was refused of the service as a whole.
    pub refused: Vec<RefusedInput>,
    /// Its tasks that ECS says have stopped, newest first.
    #[serde(default)]
    pub stopped: Vec<StoppedTask>,
    /// Whether ECS is a witness for the cluster.
    #[serde(default)]
    pub has_ecs: bool,
    /// What ECS says of the ECS service of that name.
    #[serde(default)]
    pub ecs: Option<EcsService>,
}

/// One port that could be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// Which one it is.
    #[serde(flatten)]
    pub id: EndpointId,
    /// Where it is.
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The port to connect to.
    pub port: u16,
    /// Its state by the rules.
    pub state: String,
    /// Whether a client gets it now.
    pub is_answered: bool,
    /// Whether only a limit on how much weak evidence may remove at once keeps it.
    #[serde(default)]
    pub is_held: bool,
    /// The row of the rule table that decided.
    pub rule: String,
    /// That row in a sentence.
    pub rule_text: String,
    /// By what its service's name was chosen, such as the Compose service.
    pub named_by: String,
    /// What each witness says.
    pub witnesses: Vec<Testimony>,
    /// How its run ended.
    pub ended: Option<Ended>,
    /// Whether a refusal keeps it out of every answer, whatever its state.
    pub is_refused: bool,
    /// What was refused of it.
    pub refused: Vec<RefusedInput>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    /// When.
    pub at: String,
    /// Exit code, once Docker has told it.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for memory.
    pub is_out_of_memory: bool,
}

/// What one witness says of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Testimony {
    /// `sidecar`, `ecs`, `neighbours` or `operator`.
    pub witness: String,
    /// Its word.
    pub word: String,
    /// Since when it says so.
    pub since: Option<String>,
    /// How long that is, in seconds, by the registry's clock.
    pub age_seconds: Option<u64>,
}

/// A task that stopped, as ECS tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoppedTask {
    /// Its id.
    pub task_id: String,
    /// Its task definition's family.
    pub family: Option<String>,
    /// When.
    pub at: String,
    /// ECS's code, such as `EssentialContainerExited`.
    pub code: String,
    /// Why, as ECS says.
    pub reason: String,
    /// Its containers.
    pub containers: Vec<StoppedContainer>,
}

/// A container of a task that stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoppedContainer {
    /// Its name.
    pub name: String,
    /// Its exit code, if ECS says.
    pub exit_code: Option<i64>,
    /// Why it ended, if ECS says.
    pub reason: Option<String>,
}

/// One refused input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedInput {
    /// The field that a person can change.
    pub field: String,
    /// What was wrong with it, and what would be accepted.
    pub reason: String,
}
