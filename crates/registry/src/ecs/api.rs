//! What this registry asks of AWS, in the fewest words: the seam between the source and the SDK, or a double in tests.
//!
//! Fields are named as AWS names them and hold what it said, unchecked; only those that are used. A call is one request:
//! no paging, no retry, no waiting here. That is the source's, which counts its calls.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

/// The most that one describe call takes (AWS API: DescribeTasks, DescribeContainerInstances).
pub const DESCRIBE_MAX: usize = 100;
/// The most that one DescribeServices call takes.
pub const DESCRIBE_SERVICES_MAX: usize = 10;
/// The most messages that one ReceiveMessage call brings.
pub const MESSAGES_MAX: usize = 10;

/// Every call that the source makes.
pub trait Aws: fmt::Debug + Send + Sync {
    /// DescribeClusters: names or ARNs to ARNs.
    fn describe_clusters(&self, clusters: Vec<String>) -> Answer<'_, Described<Cluster>>;
    /// ListTasks. `desired` is `desiredStatus`; tasks that are PENDING are among the RUNNING ones.
    fn list_tasks(&self, cluster: String, desired: Desired, token: Option<String>) -> Answer<'_, Page>;
    /// DescribeTasks, at most [`DESCRIBE_MAX`].
    fn describe_tasks(&self, cluster: String, arns: Vec<String>) -> Answer<'_, Described<Task>>;
    /// ListContainerInstances. Without a status it lists every one but INACTIVE.
    fn list_container_instances(&self, cluster: String, token: Option<String>) -> Answer<'_, Page>;
    /// DescribeContainerInstances, at most [`DESCRIBE_MAX`].
    fn describe_container_instances(
        &self,
        cluster: String,
        arns: Vec<String>,
    ) -> Answer<'_, Described<ContainerInstance>>;
    /// ListServices.
    fn list_services(&self, cluster: String, token: Option<String>) -> Answer<'_, Page>;
    /// DescribeServices, at most [`DESCRIBE_SERVICES_MAX`].
    fn describe_services(&self, cluster: String, arns: Vec<String>) -> Answer<'_, Described<Service>>;
    /// DescribeTaskDefinition.
    fn describe_task_definition(&self, arn: String) -> Answer<'_, TaskDefinition>;
    /// EC2 DescribeInstances, by ids, at most [`DESCRIBE_MAX`]. Ids that EC2 does not know are left out of the answer.
    fn describe_instances(&self, ids: Vec<String>) -> Answer<'_, Vec<Ec2Instance>>;
    /// SQS ReceiveMessage: waits up to 20 s for at most [`MESSAGES_MAX`].
    fn receive_messages(&self, queue_url: String) -> Answer<'_, Vec<Message>>;
    /// SQS DeleteMessageBatch, by receipt handles.
    fn delete_messages(&self, queue_url: String, receipts: Vec<String>) -> Answer<'_, ()>;
}

/// An answer that is under way.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, CallError>>;

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The account's rate is used up.
    #[error("{action} is throttled")]
    Throttled {
        /// Such as `ecs:ListTasks`.
        action: &'static str,
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
    },
    /// The right for it is missing, or there are no credentials that count.
    #[error("{action} is denied: {message}")]
    Denied {
        /// The IAM action that is missing.
        action: &'static str,
        /// What AWS said, made harmless to show.
        message: String,
    },
    /// What was asked about does not exist (a cluster, a task definition, a queue).
    #[error("{action}: not found: {message}")]
    NotFound {
        /// Such as `ecs:ListTasks`.
        action: &'static str,
        /// What AWS said, made harmless to show.
        message: String,
    },
    /// Anything else: the network, a server's error, an answer that cannot be read.
    #[error("{action} failed: {message}")]
    Failed {
        /// Such as `ecs:ListTasks`.
        action: &'static str,
        /// What happened, made harmless to show.
        message: String,
    },
}

/// `desiredStatus`, as ListTasks filters by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Desired {
    /// RUNNING.
    Running,
    /// STOPPED: those that ended within the last hour, or are about to.
    Stopped,
}

/// One page of ARNs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// ARNs.
    pub arns: Vec<String>,
    /// `nextToken`; `None` on the last page.
    pub next: Option<String>,
}

/// What a describe call brought, and what it said of the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described<T> {
    /// What was found.
    pub items: Vec<T>,
    /// `failures`: ARN and reason, such as `MISSING`.
    pub failures: Vec<(String, String)>,
}

/// AWS API: ECS `Cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// `clusterArn`.
    pub cluster_arn: String,
    /// `clusterName`.
    pub cluster_name: String,
    /// `status`: ACTIVE, INACTIVE, ...
    pub status: String,
}

/// AWS API: ECS `Task`; the `detail` of a "ECS Task State Change" event has the same shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Task {
    /// `taskArn`.
    pub task_arn: String,
    /// `clusterArn`.
    pub cluster_arn: String,
    /// `containerInstanceArn`; `None` on Fargate, and before it is placed.
    pub container_instance_arn: Option<String>,
    /// `taskDefinitionArn`.
    pub task_definition_arn: String,
    /// `group`: `service:NAME`, `family:NAME`, or any text.
    pub group: String,
    /// `lastStatus`.
    pub last_status: String,
    /// `desiredStatus`.
    pub desired_status: String,
    /// `healthStatus`.
    pub health_status: String,
    /// `launchType`: EC2, FARGATE, EXTERNAL, MANAGED_INSTANCES.
    pub launch_type: String,
    /// `version`; 0 when it was not said.
    pub version: u64,
    /// `availabilityZone`.
    pub availability_zone: Option<String>,
    /// `startedAt`, Unix milliseconds.
    pub started_at_ms: Option<u64>,
    /// `stoppedAt`, Unix milliseconds.
    pub stopped_at_ms: Option<u64>,
    /// `stopCode`.
    pub stop_code: Option<String>,
    /// `stoppedReason`.
    pub stopped_reason: Option<String>,
    /// `attachments`.
    pub attachments: Vec<Attachment>,
    /// `containers`.
    pub containers: Vec<Container>,
}

/// AWS API: ECS `Attachment`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// `id`.
    pub id: String,
    /// `type`: `ElasticNetworkInterface` in the API, `eni` in events, `Service Connect`, ...
    pub kind: String,
    /// `status`.
    pub status: String,
    /// `details`: names and values, such as `privateIPv4Address`.
    pub details: Vec<(String, String)>,
}

/// AWS API: ECS `Container`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// `name`.
    pub name: String,
    /// `runtimeId`: Docker's container id.
    pub runtime_id: Option<String>,
    /// `lastStatus`.
    pub last_status: String,
    /// `healthStatus`.
    pub health_status: String,
    /// `exitCode`.
    pub exit_code: Option<i64>,
    /// `reason`.
    pub reason: Option<String>,
    /// `networkBindings`.
    pub network_bindings: Vec<NetworkBinding>,
    /// `networkInterfaces`: IPv4 and IPv6 addresses of the task's own interface.
    pub network_interfaces: Vec<NetworkInterface>,
}

/// AWS API: ECS `NetworkBinding`. A single port or a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkBinding {
    /// `bindIP`.
    pub bind_ip: String,
    /// `protocol`: `tcp`, `udp`.
    pub protocol: String,
    /// `containerPort`.
    pub container_port: Option<u16>,
    /// `hostPort`.
    pub host_port: Option<u16>,
    /// `containerPortRange`, such as `5000-5003`.
    pub container_port_range: Option<String>,
    /// `hostPortRange`.
    pub host_port_range: Option<String>,
}

/// AWS API: ECS `NetworkInterface`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkInterface {
    /// `privateIpv4Address`.
    pub private_ipv4_address: Option<String>,
    /// `ipv6Address`.
    pub ipv6_address: Option<String>,
}

/// AWS API: ECS `ContainerInstance`; the `detail` of a "ECS Container Instance State Change" event has the same shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerInstance {
    /// `containerInstanceArn`.
    pub container_instance_arn: String,
    /// `ec2InstanceId`.
    pub ec2_instance_id: String,
    /// `status`: ACTIVE, DRAINING, ...
    pub status: String,
    /// `agentConnected`. It flaps in normal operation and decides nothing.
    pub agent_connected: bool,
    /// `version`.
    pub version: u64,
    /// `attributes`: names and values, such as `ecs.availability-zone`.
    pub attributes: Vec<(String, String)>,
}

/// AWS API: ECS `Service`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// `serviceArn`.
    pub service_arn: String,
    /// `serviceName`.
    pub service_name: String,
    /// `status`: ACTIVE, DRAINING, INACTIVE.
    pub status: String,
    /// `desiredCount`.
    pub desired_count: u32,
    /// `runningCount`.
    pub running_count: u32,
    /// `pendingCount`.
    pub pending_count: u32,
    /// `taskDefinition`.
    pub task_definition: String,
    /// `deployments`.
    pub deployments: Vec<ServiceDeployment>,
}

/// AWS API: ECS `Deployment`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceDeployment {
    /// `id`.
    pub id: String,
    /// `status`.
    pub status: String,
    /// `rolloutState`.
    pub rollout_state: String,
    /// `rolloutStateReason`.
    pub rollout_state_reason: String,
    /// `taskDefinition`.
    pub task_definition: String,
    /// `desiredCount`.
    pub desired_count: u32,
    /// `runningCount`.
    pub running_count: u32,
    /// `failedTasks`.
    pub failed_tasks: u32,
}

/// AWS API: ECS `TaskDefinition`. A revision never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskDefinition {
    /// `taskDefinitionArn`.
    pub task_definition_arn: String,
    /// `family`.
    pub family: String,
    /// `revision`.
    pub revision: u64,
    /// `networkMode`: bridge, host, awsvpc, none; empty is bridge.
    pub network_mode: String,
    /// `containerDefinitions`.
    pub container_definitions: Vec<ContainerDefinition>,
}

/// AWS API: ECS `ContainerDefinition`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerDefinition {
    /// `name`.
    pub name: String,
    /// `dockerLabels`.
    pub docker_labels: Vec<(String, String)>,
    /// `environment`: only names that begin with `SERVICE_` are used.
    pub environment: Vec<(String, String)>,
    /// `portMappings`.
    pub port_mappings: Vec<PortMapping>,
}

/// AWS API: ECS `PortMapping`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortMapping {
    /// `name`.
    pub name: Option<String>,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
    /// `protocol`; empty is tcp.
    pub protocol: String,
    /// `containerPort`.
    pub container_port: Option<u16>,
    /// `hostPort`; 0 or none is dynamic in bridge mode.
    pub host_port: Option<u16>,
    /// `containerPortRange`.
    pub container_port_range: Option<String>,
}

/// AWS API: EC2 `Instance`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ec2Instance {
    /// `instanceId`.
    pub instance_id: String,
    /// `instanceState.name`: running, shutting-down, terminated, stopped, ...
    pub state: String,
    /// `privateIpAddress`, then the addresses of further interfaces, then IPv6 ones.
    pub addresses: Vec<String>,
    /// `placement.availabilityZone`.
    pub availability_zone: Option<String>,
}

/// AWS API: SQS `Message`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// `MessageId`.
    pub message_id: String,
    /// `ReceiptHandle`.
    pub receipt_handle: String,
    /// `Body`: an EventBridge event.
    pub body: String,
    /// Attribute `ApproximateReceiveCount`.
    pub receive_count: u32,
}
