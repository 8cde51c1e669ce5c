//! Container instances as AWS tells them.

use portolan_core::name::Label;
use portolan_core::refusal::shown;

use super::super::api;
use super::{FactsError, id_of, read_az};

/// What a container instance says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ecs) struct InstanceFacts {
    pub(in crate::ecs) arn: String,
    /// The node's name: `i-...` or `mi-...`.
    pub(in crate::ecs) ec2_id: Label,
    pub(in crate::ecs) registration: Registration,
    pub(in crate::ecs) is_connected: bool,
    pub(in crate::ecs) version: u64,
    pub(in crate::ecs) az: Option<String>,
}

/// How a container instance stands with ECS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ecs) enum Registration {
    /// REGISTERING, ACTIVE, and REGISTRATION_FAILED: what runs there runs on.
    Active,
    /// DRAINING, DEREGISTERING.
    Draining,
    /// INACTIVE: ECS has given it up.
    Inactive,
}

impl InstanceFacts {
    /// Reads a container instance.
    ///
    /// # Errors
    /// When it has no usable ARN or EC2 id, or a status that nobody knows.
    pub(in crate::ecs) fn read(instance: &api::ContainerInstance) -> Result<InstanceFacts, FactsError> {
        let arn = &instance.container_instance_arn;
        id_of(arn, ":container-instance/").ok_or_else(|| FactsError::Arn(shown(arn, 80)))?;
        let registration = match instance.status.as_str() {
            "ACTIVE" | "REGISTERING" | "REGISTRATION_FAILED" => Registration::Active,
            "DRAINING" | "DEREGISTERING" => Registration::Draining,
            "INACTIVE" => Registration::Inactive,
            other => return Err(FactsError::Status(shown(other, 40))),
        };
        let az = instance.attributes.iter().find(|(name, _)| name == "ecs.availability-zone");
        Ok(InstanceFacts {
            arn: arn.clone(),
            ec2_id: ec2_id(&instance.ec2_instance_id)?,
            registration,
            is_connected: instance.agent_connected,
            version: instance.version,
            az: read_az(az.map(|(_, value)| value.as_str())),
        })
    }
}

/// `i-...`, or `mi-...` of Systems Manager (ECS Anywhere).
pub(in crate::ecs) fn ec2_id(text: &str) -> Result<Label, FactsError> {
    let is_id = text.starts_with("i-") || text.starts_with("mi-");
    let label = Label::parse(text).ok().filter(|_| is_id);
    label.ok_or_else(|| FactsError::InstanceId(shown(text, 80)))
}
