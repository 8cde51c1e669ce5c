//! Container instances and the machines below them.

use portolan_registry::ecs::api;

use super::network::HostPorts;
use super::task::LaunchType;

/// A container instance, as ECS knows it.
#[derive(Debug, Clone)]
pub struct Instance {
    /// As AWS describes it.
    pub said: api::ContainerInstance,
    /// The cluster's ARN.
    pub cluster: String,
    /// Which tasks it takes.
    pub takes: LaunchType,
    /// Its host ports.
    pub ports: HostPorts,
    /// How many tasks are on it.
    pub tasks: usize,
    /// `registeredAt`, Unix milliseconds.
    pub registered_ms: u64,
    /// `updatedAt` in events, Unix milliseconds.
    pub updated_ms: u64,
}

impl Instance {
    /// `ecs.availability-zone`, which machines elsewhere do not have.
    pub fn az(&self) -> Option<String> {
        let mut attributes = self.said.attributes.iter();
        attributes.find(|(name, _)| name == "ecs.availability-zone").map(|(_, value)| value.clone())
    }

    /// Whether the scheduler places tasks on it.
    pub fn takes_tasks(&self) -> bool {
        self.said.status == "ACTIVE" && self.said.agent_connected
    }
}

/// What an instance says of itself. `az` is `None` elsewhere than in AWS.
pub(super) fn attributes(az: Option<&str>) -> Vec<(String, String)> {
    let everywhere = [
        ("ecs.os-type", "linux"),
        ("ecs.os-family", "LINUX"),
        ("ecs.cpu-architecture", "x86_64"),
        ("com.amazonaws.ecs.capability.docker-remote-api.1.41", ""),
    ];
    let in_aws = az.into_iter().flat_map(|az| {
        [
            ("ecs.availability-zone", az),
            ("ecs.instance-type", "m5.large"),
            ("ecs.ami-id", "ami-0123456789abcdef0"),
            ("ecs.subnet-id", "subnet-0123456789abcdef0"),
            ("ecs.vpc-id", "vpc-0123456789abcdef0"),
        ]
    });
    let elsewhere = az.is_none().then_some(("ecs.capability.external", ""));
    let all = everywhere.into_iter().chain(in_aws).chain(elsewhere);
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
