//! The `detail` of each event, as JSON has it: a task as the API tells it, but for times as texts and another word for its
//! network interface. Everything may be absent or null.

use serde::Deserialize;

use super::super::api;
use super::time_ms;

/// AWS API: `Task`, as an event tells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Task {
    task_arn: String,
    cluster_arn: String,
    container_instance_arn: Option<String>,
    task_definition_arn: Option<String>,
    group: Option<String>,
    last_status: String,
    desired_status: String,
    health_status: Option<String>,
    launch_type: Option<String>,
    version: u64,
    availability_zone: Option<String>,
    started_at: Option<String>,
    stopped_at: Option<String>,
    stop_code: Option<String>,
    stopped_reason: Option<String>,
    attachments: Option<Vec<Attachment>>,
    containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attachment {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    status: Option<String>,
    details: Option<Vec<Pair>>,
}

#[derive(Deserialize)]
struct Pair {
    name: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: Option<String>,
    runtime_id: Option<String>,
    last_status: Option<String>,
    health_status: Option<String>,
    exit_code: Option<i64>,
    reason: Option<String>,
    network_bindings: Option<Vec<Binding>>,
    network_interfaces: Option<Vec<Interface>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    #[serde(rename = "bindIP")]
    bind_ip: Option<String>,
    protocol: Option<String>,
    container_port: Option<u16>,
    host_port: Option<u16>,
    container_port_range: Option<String>,
    host_port_range: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    private_ipv4_address: Option<String>,
    ipv6_address: Option<String>,
}

/// AWS API: `ContainerInstance`, as an event tells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instance {
    container_instance_arn: String,
    cluster_arn: String,
    ec2_instance_id: Option<String>,
    status: String,
    agent_connected: Option<bool>,
    version: u64,
    attributes: Option<Vec<Pair>>,
}

/// Of services; the rest is asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Service {
    pub(super) cluster_arn: Option<String>,
}

/// Of EC2.
#[derive(Deserialize)]
pub(super) struct Machine {
    #[serde(rename = "instance-id")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) state: String,
}

/// Of Auto Scaling.
#[derive(Deserialize)]
pub(super) struct Lifecycle {
    #[serde(rename = "EC2InstanceId")]
    pub(super) id: String,
}

impl Task {
    pub(super) fn into_api(self) -> api::Task {
        api::Task {
            task_arn: self.task_arn,
            cluster_arn: self.cluster_arn,
            container_instance_arn: self.container_instance_arn,
            task_definition_arn: self.task_definition_arn.unwrap_or_default(),
            group: self.group.unwrap_or_default(),
            last_status: self.last_status,
            desired_status: self.desired_status,
            health_status: self.health_status.unwrap_or_default(),
            launch_type: self.launch_type.unwrap_or_default(),
            version: self.version,
            availability_zone: self.availability_zone,
            started_at_ms: self.started_at.as_deref().and_then(time_ms),
            stopped_at_ms: self.stopped_at.as_deref().and_then(time_ms),
            stop_code: self.stop_code,
            stopped_reason: self.stopped_reason,
            attachments: self.attachments.into_iter().flatten().map(Attachment::into_api).collect(),
            containers: self.containers.into_iter().flatten().map(Container::into_api).collect(),
        }
    }
}

impl Attachment {
    fn into_api(self) -> api::Attachment {
        api::Attachment {
            id: self.id.unwrap_or_default(),
            kind: self.kind.unwrap_or_default(),
            status: self.status.unwrap_or_default(),
            details: pairs(self.details),
        }
    }
}

impl Container {
    fn into_api(self) -> api::Container {
        let binding = |own: Binding| api::NetworkBinding {
            bind_ip: own.bind_ip.unwrap_or_default(),
            protocol: own.protocol.unwrap_or_default(),
            container_port: own.container_port,
            host_port: own.host_port,
            container_port_range: own.container_port_range,
            host_port_range: own.host_port_range,
        };
        let interface = |own: Interface| api::NetworkInterface {
            private_ipv4_address: own.private_ipv4_address,
            ipv6_address: own.ipv6_address,
        };
        api::Container {
            name: self.name.unwrap_or_default(),
            runtime_id: self.runtime_id,
            last_status: self.last_status.unwrap_or_default(),
            health_status: self.health_status.unwrap_or_default(),
            exit_code: self.exit_code,
            reason: self.reason,
            network_bindings: self.network_bindings.into_iter().flatten().map(binding).collect(),
            network_interfaces: self.network_interfaces.into_iter().flatten().map(interface).collect(),
        }
    }
}

impl Instance {
    /// The cluster's ARN, and the instance.
    pub(super) fn into_api(self) -> (String, api::ContainerInstance) {
        let instance = api::ContainerInstance {
            container_instance_arn: self.container_instance_arn,
            ec2_instance_id: self.ec2_instance_id.unwrap_or_default(),
            status: self.status,
            agent_connected: self.agent_connected.unwrap_or(false),
            version: self.version,
            attributes: pairs(self.attributes),
        };
        (self.cluster_arn, instance)
    }
}

fn pairs(pairs: Option<Vec<Pair>>) -> Vec<(String, String)> {
    let named = pairs.into_iter().flatten().filter_map(|pair| Some((pair.name?, pair.value.unwrap_or_default())));
    named.collect()
}
