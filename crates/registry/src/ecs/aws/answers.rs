//! The SDK's answers in the words of [`api`](crate::ecs::api).
//!
//! What cannot be (a port above 65535, a count below zero, an item without its ARN) is left out, alone: the rest of the
//! page stands. Environment variables are kept only where they name a service, so that no secret stays in memory.

use std::collections::HashMap;

use aws_sdk_ecs::primitives::DateTime;
use aws_sdk_ecs::types as said;
use aws_sdk_sqs::types::{Message as SaidMessage, MessageSystemAttributeName};

use crate::ecs::api::{
    Attachment, Cluster, Container, ContainerDefinition, ContainerInstance, Described, Message, NetworkBinding,
    NetworkInterface, Page, PortMapping, Service, ServiceDeployment, Task, TaskDefinition,
};

/// How the environment variables that are used begin.
const SERVICE_PREFIX: &str = "SERVICE_";

/// The answer to no question.
pub(super) fn nothing<T>() -> Described<T> {
    Described { items: Vec::new(), failures: Vec::new() }
}

/// What a describe call brought, by `convert`.
pub(super) fn described<S, T>(
    items: Vec<S>,
    convert: impl Fn(S) -> Option<T>,
    failures: Option<Vec<said::Failure>>,
) -> Described<T> {
    let failure = |failure: said::Failure| (failure.arn.unwrap_or_default(), failure.reason.unwrap_or_default());
    Described { items: items.into_iter().filter_map(convert).collect(), failures: each(failures, failure) }
}

/// One page. An empty token is none.
pub(super) fn page(arns: Vec<String>, token: Option<String>) -> Page {
    Page { arns, next: token.filter(|token| !token.is_empty()) }
}

pub(super) fn cluster(said: said::Cluster) -> Option<Cluster> {
    Some(Cluster {
        cluster_arn: said.cluster_arn?,
        cluster_name: said.cluster_name.unwrap_or_default(),
        status: said.status.unwrap_or_default(),
    })
}

pub(super) fn task(said: said::Task) -> Option<Task> {
    Some(Task {
        task_arn: said.task_arn?,
        cluster_arn: said.cluster_arn.unwrap_or_default(),
        container_instance_arn: said.container_instance_arn,
        task_definition_arn: said.task_definition_arn.unwrap_or_default(),
        group: said.group.unwrap_or_default(),
        last_status: said.last_status.unwrap_or_default(),
        desired_status: said.desired_status.unwrap_or_default(),
        health_status: word(said.health_status),
        launch_type: word(said.launch_type),
        version: u64::try_from(said.version).unwrap_or_default(),
        availability_zone: said.availability_zone,
        started_at_ms: said.started_at.and_then(unix_ms),
        stopped_at_ms: said.stopped_at.and_then(unix_ms),
        stop_code: said.stop_code.map(|code| code.as_str().to_owned()),
        stopped_reason: said.stopped_reason,
        attachments: each(said.attachments, attachment),
        containers: each(said.containers, container),
    })
}

fn attachment(said: said::Attachment) -> Attachment {
    Attachment {
        id: said.id.unwrap_or_default(),
        kind: said.r#type.unwrap_or_default(),
        status: said.status.unwrap_or_default(),
        details: some(said.details, pair),
    }
}

fn container(said: said::Container) -> Container {
    Container {
        name: said.name.unwrap_or_default(),
        runtime_id: said.runtime_id,
        last_status: said.last_status.unwrap_or_default(),
        health_status: word(said.health_status),
        exit_code: said.exit_code.map(i64::from),
        reason: said.reason,
        network_bindings: some(said.network_bindings, network_binding),
        network_interfaces: each(said.network_interfaces, |it| NetworkInterface {
            private_ipv4_address: it.private_ipv4_address,
            ipv6_address: it.ipv6_address,
        }),
    }
}

fn network_binding(said: said::NetworkBinding) -> Option<NetworkBinding> {
    Some(NetworkBinding {
        bind_ip: said.bind_ip.unwrap_or_default(),
        protocol: word(said.protocol),
        container_port: port(said.container_port)?,
        host_port: port(said.host_port)?,
        container_port_range: said.container_port_range,
        host_port_range: said.host_port_range,
    })
}

pub(super) fn container_instance(said: said::ContainerInstance) -> Option<ContainerInstance> {
    Some(ContainerInstance {
        container_instance_arn: said.container_instance_arn?,
        ec2_instance_id: said.ec2_instance_id.unwrap_or_default(),
        status: said.status.unwrap_or_default(),
        agent_connected: said.agent_connected,
        version: u64::try_from(said.version).unwrap_or_default(),
        attributes: each(said.attributes, |it| (it.name, it.value.unwrap_or_default())),
    })
}

pub(super) fn service(said: said::Service) -> Option<Service> {
    Some(Service {
        service_arn: said.service_arn?,
        service_name: said.service_name.unwrap_or_default(),
        status: said.status.unwrap_or_default(),
        desired_count: count(said.desired_count)?,
        running_count: count(said.running_count)?,
        pending_count: count(said.pending_count)?,
        task_definition: said.task_definition.unwrap_or_default(),
        deployments: some(said.deployments, deployment),
    })
}

fn deployment(said: said::Deployment) -> Option<ServiceDeployment> {
    Some(ServiceDeployment {
        id: said.id.unwrap_or_default(),
        status: said.status.unwrap_or_default(),
        rollout_state: word(said.rollout_state),
        rollout_state_reason: said.rollout_state_reason.unwrap_or_default(),
        task_definition: said.task_definition.unwrap_or_default(),
        desired_count: count(said.desired_count)?,
        running_count: count(said.running_count)?,
        failed_tasks: count(said.failed_tasks)?,
    })
}

pub(super) fn task_definition(said: said::TaskDefinition) -> Option<TaskDefinition> {
    Some(TaskDefinition {
        task_definition_arn: said.task_definition_arn?,
        family: said.family.unwrap_or_default(),
        revision: u64::try_from(said.revision).ok()?,
        network_mode: word(said.network_mode),
        container_definitions: each(said.container_definitions, container_definition),
    })
}

fn container_definition(said: said::ContainerDefinition) -> ContainerDefinition {
    ContainerDefinition {
        name: said.name.unwrap_or_default(),
        docker_labels: sorted(said.docker_labels.unwrap_or_default()),
        environment: some(said.environment, |it| pair(it).filter(|(name, _)| name.starts_with(SERVICE_PREFIX))),
        port_mappings: some(said.port_mappings, port_mapping),
    }
}

fn port_mapping(said: said::PortMapping) -> Option<PortMapping> {
    Some(PortMapping {
        name: said.name,
        app_protocol: said.app_protocol.map(|protocol| protocol.as_str().to_owned()),
        protocol: word(said.protocol),
        container_port: port(said.container_port)?,
        host_port: port(said.host_port)?,
        container_port_range: said.container_port_range,
    })
}

/// A message that cannot be deleted is of no use: it would come for ever.
pub(super) fn message(said: SaidMessage) -> Option<Message> {
    let attributes = said.attributes.unwrap_or_default();
    let received = attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount);
    Some(Message {
        message_id: said.message_id.unwrap_or_default(),
        receipt_handle: said.receipt_handle?,
        body: said.body.unwrap_or_default(),
        receive_count: received.and_then(|count| count.parse().ok()).unwrap_or_default(),
    })
}

fn each<S, T>(said: Option<Vec<S>>, convert: impl Fn(S) -> T) -> Vec<T> {
    said.unwrap_or_default().into_iter().map(convert).collect()
}

fn some<S, T>(said: Option<Vec<S>>, convert: impl Fn(S) -> Option<T>) -> Vec<T> {
    said.unwrap_or_default().into_iter().filter_map(convert).collect()
}

/// A value of one of AWS's own enumerations, as AWS spells it; those that the SDK does not know too.
fn word(said: Option<impl AsRef<str>>) -> String {
    said.map(|word| word.as_ref().to_owned()).unwrap_or_default()
}

fn pair(said: said::KeyValuePair) -> Option<(String, String)> {
    Some((said.name?, said.value.unwrap_or_default()))
}

fn sorted(said: HashMap<String, String>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = said.into_iter().collect();
    pairs.sort();
    pairs
}

/// `None` when it is no port; `Some(None)` when none was said.
fn port(said: Option<i32>) -> Option<Option<u16>> {
    said.map(u16::try_from).transpose().ok()
}

fn count(said: i32) -> Option<u32> {
    u32::try_from(said).ok()
}

/// Rounded: AWS sends seconds with three decimals, which are a little less as a binary fraction.
fn unix_ms(said: DateTime) -> Option<u64> {
    u64::try_from((said.as_nanos() + 500_000).div_euclid(1_000_000)).ok()
}
