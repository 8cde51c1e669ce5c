//! What AWS said, checked at the door: from here on names are names, addresses are addresses, and texts are short.
//!
//! Pure. Lists have bounds, and an order of their own, so that what is said twice in another order is the same. A status
//! that this version does not know is refused rather than guessed: what was known before stands.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portolan_core::ecs::{EcsServiceName, Stop, TaskStatus};
use portolan_core::name::{Label, service_label};
use portolan_core::refusal::{Refusal, shown};

use super::api;

mod container;
mod instance;

pub(super) use container::{Binding, ContainerFacts, PORTS_MAX, ports, read_protocol};
pub(super) use instance::{InstanceFacts, Registration, ec2_id};

/// An ARN is far shorter.
const ARN_OCTETS_MAX: usize = 512;
/// ECS allows 10 for each task definition by default, and adds a few of its own.
const CONTAINERS_MAX: usize = 64;
/// Addresses of one task or instance: as many as an instance type can have, and more than a task has.
const ADDRESSES_MAX: usize = 64;
const NAME_CHARACTERS_MAX: usize = 255;
const AZ_CHARACTERS_MAX: usize = 40;
const REASON_CHARACTERS_MAX: usize = 400;

/// Why something that AWS said cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FactsError {
    #[error("`{0}` is not an ARN of the kind that belongs here")]
    Arn(String),
    #[error("`{0}` is no instance id")]
    InstanceId(String),
    #[error("status `{0}` is not known")]
    Status(String),
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskFacts {
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) version: u64,
    pub(super) definition_arn: String,
    pub(super) family: Option<Label>,
    pub(super) service: Option<EcsServiceName>,
    pub(super) instance_arn: Option<String>,
    pub(super) is_fargate: bool,
    pub(super) status: TaskStatus,
    pub(super) is_wanted: bool,
    pub(super) is_unhealthy: bool,
    pub(super) az: Option<String>,
    pub(super) started_at_ms: u64,
    pub(super) stop: Option<Stop>,
    /// The task's own, from its network interface.
    pub(super) addresses: Vec<IpAddr>,
    /// In the order of their names.
    pub(super) containers: Vec<ContainerFacts>,
    /// What its group or family cannot be.
    pub(super) refusals: Vec<Refusal>,
}

impl TaskFacts {
    /// The field of the refusal of a service's name.
    pub(super) const SERVICE: &str = "ECS service";

    /// Reads a task; `heard_ms` stands for the time of its end where ECS does not say.
    ///
    /// # Errors
    /// When it has no usable ARN, or a status that nobody knows.
    pub(super) fn read(task: &api::Task, heard_ms: u64) -> Result<TaskFacts, FactsError> {
        let id = id_of(&task.task_arn, ":task/").ok_or_else(|| FactsError::Arn(shown(&task.task_arn, 80)))?;
        let status = read_status(&task.last_status)?;
        let mut refusals = Vec::new();
        let stop = (status == TaskStatus::Stopped).then(|| Stop {
            code: shown(task.stop_code.as_deref().unwrap_or_default(), 80),
            reason: shown(task.stopped_reason.as_deref().unwrap_or_default(), REASON_CHARACTERS_MAX),
            at_ms: task.stopped_at_ms.unwrap_or(heard_ms),
        });
        let own = task.containers.iter().filter(|own| !container::is_of_ecs(&own.name)).take(CONTAINERS_MAX);
        let mut containers: Vec<_> = own.map(|own| container::read(&id, own)).collect();
        containers.sort_by(|a, b| (&a.definition_name, &a.id).cmp(&(&b.definition_name, &b.id)));
        Ok(TaskFacts {
            arn: task.task_arn.clone(),
            version: task.version,
            family: read_family(&task.task_definition_arn, &mut refusals),
            definition_arn: shown(&task.task_definition_arn, ARN_OCTETS_MAX),
            service: read_service(&task.group, &mut refusals),
            instance_arn: task
                .container_instance_arn
                .clone()
                .filter(|arn| id_of(arn, ":container-instance/").is_some()),
            is_fargate: task.launch_type == "FARGATE",
            status,
            is_wanted: task.desired_status == "RUNNING",
            is_unhealthy: task.health_status == "UNHEALTHY",
            az: read_az(task.availability_zone.as_deref()),
            started_at_ms: task.started_at_ms.unwrap_or(0),
            stop,
            addresses: interface_addresses(&task.attachments),
            containers,
            refusals,
            id,
        })
    }
}

/// The last part of an ARN of this kind; `None`: it is none, or no id that can be kept.
pub(super) fn id_of(arn: &str, kind: &str) -> Option<String> {
    let is_arn = arn.len() <= ARN_OCTETS_MAX && arn.starts_with("arn:") && arn.bytes().all(|b| b.is_ascii_graphic());
    let (_, path) = arn.split_once(kind)?;
    let id = path.rsplit('/').next()?;
    let is_id = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (is_arn && is_id).then(|| id.to_owned())
}

/// The zone, short enough to keep.
pub(super) fn read_az(az: Option<&str>) -> Option<String> {
    az.filter(|az| !az.is_empty()).map(|az| shown(az, AZ_CHARACTERS_MAX))
}

/// Addresses, those that are none left out, IPv4 before IPv6, each once, in their own order otherwise.
pub(super) fn read_addresses<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    let parsed = texts.into_iter().filter_map(|text| text.parse::<IpAddr>().ok());
    let mut addresses: Vec<_> = parsed.filter(|address| seen.insert(*address)).take(ADDRESSES_MAX).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

fn read_status(text: &str) -> Result<TaskStatus, FactsError> {
    match text {
        "PROVISIONING" | "PENDING" | "ACTIVATING" => Ok(TaskStatus::Pending),
        "RUNNING" => Ok(TaskStatus::Running),
        "DEACTIVATING" | "STOPPING" | "DEPROVISIONING" => Ok(TaskStatus::Leaving),
        "STOPPED" | "DELETED" => Ok(TaskStatus::Stopped),
        other => Err(FactsError::Status(shown(other, 40))),
    }
}

/// `task-definition/FAMILY:REVISION`.
fn read_family(definition_arn: &str, refusals: &mut Vec<Refusal>) -> Option<Label> {
    let (_, name) = definition_arn.split_once(":task-definition/")?;
    let family = name.split(':').next()?;
    service_label(family).map_err(|error| refusals.push(Refusal::new("task definition family", error.to_string()))).ok()
}

fn read_service(group: &str, refusals: &mut Vec<Refusal>) -> Option<EcsServiceName> {
    let name = group.strip_prefix("service:")?;
    match service_label(name) {
        Ok(label) => Some(EcsServiceName { name: shown(name, NAME_CHARACTERS_MAX), label }),
        Err(error) => {
            refusals.push(Refusal::new(TaskFacts::SERVICE, error.to_string()));
            None
        }
    }
}

/// The addresses of the task's own interface; `ElasticNetworkInterface` in the API, `eni` in events.
fn interface_addresses(attachments: &[api::Attachment]) -> Vec<IpAddr> {
    let own = attachments.iter().filter(|attachment| {
        matches!(attachment.kind.as_str(), "ElasticNetworkInterface" | "eni")
            && !matches!(attachment.status.as_str(), "DETACHED" | "DELETED" | "FAILED")
    });
    let details = own.flat_map(|attachment| &attachment.details);
    let values = details.filter(|(name, _)| matches!(name.as_str(), "privateIPv4Address" | "ipv6Address"));
    read_addresses(values.map(|(_, value)| value.as_str()))
}

#[cfg(test)]
mod tests;
