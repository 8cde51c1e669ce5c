//! Why a name answers what it answers: every candidate, every witness, the rule that decided.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EndpointId, Link};

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
    /// What was refused of its containers.
    pub refused: Vec<RefusedContainer>,
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
    /// The row of the rule table that decided.
    pub rule: String,
    /// That row in a sentence.
    pub rule_text: String,
    /// Which candidate name made it one of this service, such as `ECS service` or `Compose service`.
    pub named_by: Option<String>,
    /// What each witness says.
    pub witnesses: Vec<Testimony>,
}

/// What one witness says of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Testimony {
    /// `sidecar`, `ecs` or `neighbours`.
    pub witness: String,
    /// Its word.
    pub word: String,
    /// Since when it says so.
    pub since: Option<String>,
    /// How long that is, in seconds, by the registry's clock.
    pub age_seconds: Option<u64>,
}

/// A container of which something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedContainer {
    /// Its node.
    pub node: String,
    /// Its name.
    pub container: String,
    /// Docker's container id.
    pub container_id: String,
    /// Whether the whole container is kept out of every answer.
    pub is_refused: bool,
    /// What was refused.
    pub refused: Vec<RefusedInput>,
}

/// One refused input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedInput {
    /// The field that a person can change.
    pub field: String,
    /// What was wrong with it, and what would be accepted.
    pub reason: String,
}
