//! Events: EventBridge's envelopes, read out of queue messages.
//!
//! Pure. Types and fields that nobody here knows pass; what is too long, or no envelope, is refused with its reason. An
//! event says what is so at its time; versions and times order it, not its arrival.

use jiff::Timestamp;
use portolan_core::name::Label;
use portolan_core::refusal::shown;
use serde::Deserialize;
use serde_json::Value;

use super::facts::{FactsError, InstanceFacts, TaskFacts, ec2_id};
use super::machine::Power;

mod detail;

/// The longest message that SQS carries.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// When it happened, Unix milliseconds; 0: it does not say.
    pub(super) at_ms: u64,
    pub(super) told: Told,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// A task of the cluster with this ARN changed.
    Task(String, Box<TaskFacts>),
    /// A container instance of it changed.
    Instance(String, InstanceFacts),
    /// Something happened to the service with this ARN, of the cluster with that one.
    Service(String, String),
    /// A machine started, stops or stopped.
    Machine(Label, Power),
    /// A machine will end soon.
    Warning(Label),
    /// Nothing that anybody here goes by.
    Other,
}

/// Why a message cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EventError {
    #[error("it has {0} bytes; at most {BODY_BYTES_MAX} are read")]
    TooLong(usize),
    #[error("it is no event: {0}")]
    NoEvent(String),
    #[error("its detail cannot be read: {0}")]
    Detail(String),
    #[error(transparent)]
    Facts(#[from] FactsError),
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "detail-type")]
    kind: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    detail: Value,
}

/// Reads a message that came at `now_ms`. What is told of a cluster that is not `ours`, by its ARN, is not looked into.
pub(super) fn read(body: &str, now_ms: u64, is_ours: impl Fn(&str) -> bool) -> Result<Event, EventError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(EventError::TooLong(body.len()));
    }
    let envelope: Envelope = serde_json::from_str(body).map_err(|error| EventError::NoEvent(reason(&error)))?;
    let at_ms = envelope.time.as_deref().and_then(time_ms).unwrap_or(0);
    let told = match (envelope.source.as_str(), envelope.kind.as_str()) {
        ("aws.ecs", "ECS Task State Change") => {
            let task = parse::<detail::Task>(envelope.detail)?.into_api();
            match is_ours(&task.cluster_arn) {
                true => Told::Task(task.cluster_arn.clone(), Box::new(TaskFacts::read(&task, now_ms)?)),
                false => Told::Other,
            }
        }
        ("aws.ecs", "ECS Container Instance State Change") => {
            let detail = parse::<detail::Instance>(envelope.detail)?;
            let (cluster, instance) = detail.into_api();
            match is_ours(&cluster) {
                true => Told::Instance(cluster, InstanceFacts::read(&instance)?),
                false => Told::Other,
            }
        }
        ("aws.ecs", "ECS Service Action" | "ECS Deployment State Change") => {
            service(parse::<detail::Service>(envelope.detail)?, &envelope.resources)
        }
        ("aws.ec2", "EC2 Instance State-change Notification") => {
            let detail = parse::<detail::Machine>(envelope.detail)?;
            // A state that this version does not know says nothing.
            Power::read(&detail.state)
                .map_or(Ok(Told::Other), |power| ec2_id(&detail.id).map(|id| Told::Machine(id, power)))?
        }
        ("aws.ec2", "EC2 Spot Instance Interruption Warning") => {
            Told::Warning(ec2_id(&parse::<detail::Machine>(envelope.detail)?.id)?)
        }
        ("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action") => {
            Told::Warning(ec2_id(&parse::<detail::Lifecycle>(envelope.detail)?.id)?)
        }
        _ => Told::Other,
    };
    Ok(Event { at_ms, told })
}

/// The service is the event's resource; older events name it without its cluster, which the detail then has.
fn service(detail: detail::Service, resources: &[String]) -> Told {
    let Some(arn) = resources.iter().find(|arn| arn.contains(":service/")) else { return Told::Other };
    let named = arn.split_once(":service/").and_then(|(account, path)| {
        let (cluster, _) = path.split_once('/')?;
        Some(format!("{account}:cluster/{cluster}"))
    });
    match detail.cluster_arn.or(named) {
        Some(cluster) => Told::Service(cluster, arn.clone()),
        None => Told::Other,
    }
}

fn parse<T: for<'a> Deserialize<'a>>(detail: Value) -> Result<T, EventError> {
    serde_json::from_value(detail).map_err(|error| EventError::Detail(reason(&error)))
}

fn reason(error: &serde_json::Error) -> String {
    shown(&error.to_string(), 200)
}

/// RFC 3339 to Unix milliseconds.
fn time_ms(text: &str) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

#[cfg(test)]
mod tests;
