//! What AWS knows, in JSON as AWS writes it: the API and events differ in their times, attachments and tags.

use jiff::Timestamp;
use portolan_registry::ecs::api;
use serde_json::{Map, Value, json};

use super::world::definition::Definition;
use super::world::instance::Instance;
use super::world::service::Service;
use super::world::task::Task;
use super::world::{ACCOUNT, REGION, last_part};

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The answer of an API call: times are seconds since 1970, with a fraction.
    Api,
    /// The detail of an event: times are ISO 8601, an interface is an `eni`, there are no tags.
    Event,
}

impl Shape {
    fn time(self, unix_ms: Option<u64>) -> Value {
        let Some(unix_ms) = unix_ms else { return Value::Null };
        match self {
            Shape::Api => json!(unix_ms as f64 / 1000.0),
            Shape::Event => json!(iso(unix_ms, 3)),
        }
    }
}

/// ISO 8601 with so many digits of a second's fraction.
pub fn iso(unix_ms: u64, digits: usize) -> String {
    let time = Timestamp::from_millisecond(unix_ms.cast_signed()).unwrap_or_default();
    format!("{time:.digits$}")
}

/// An object without what is null: AWS leaves that out.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let present = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(present.collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn named(names_and_values: &[(String, String)]) -> Value {
    names_and_values.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// ECS `Task`.
pub fn task(task: &Task, shape: Shape) -> Value {
    let said = &task.said;
    let containers: Value = said.containers.iter().map(|found| container(task, found)).collect();
    let attachments: Value = said.attachments.iter().map(|found| attachment(found, shape)).collect();
    let overrides: Value = said.containers.iter().map(|container| json!({"name": container.name})).collect();
    let is_fargate = said.launch_type == "FARGATE";
    let tags = task.tags.iter().map(|(key, value)| json!({"key": key, "value": value}));
    let tags = (shape == Shape::Api).then(|| tags.collect::<Value>());
    without_null(json!({
        "attachments": attachments,
        "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
        "availabilityZone": said.availability_zone,
        "clusterArn": said.cluster_arn,
        "connectivity": task.times.connected.map(|_| "CONNECTED"),
        "connectivityAt": shape.time(task.times.connected),
        "containerInstanceArn": said.container_instance_arn,
        "containers": containers,
        "cpu": "256",
        "createdAt": shape.time(Some(task.times.created)),
        "desiredStatus": said.desired_status,
        "enableExecuteCommand": false,
        "executionStoppedAt": shape.time(said.stopped_at_ms),
        "group": said.group,
        "healthStatus": said.health_status,
        "lastStatus": said.last_status,
        "launchType": said.launch_type,
        "memory": "512",
        "overrides": {"containerOverrides": overrides, "inferenceAcceleratorOverrides": []},
        "platformVersion": is_fargate.then_some("1.4.0"),
        "platformFamily": is_fargate.then_some("Linux"),
        "pullStartedAt": shape.time(task.times.connected),
        "pullStoppedAt": shape.time(said.started_at_ms),
        "startedAt": shape.time(said.started_at_ms),
        "startedBy": task.started_by,
        "stopCode": said.stop_code,
        "stoppedAt": shape.time(said.stopped_at_ms),
        "stoppedReason": said.stopped_reason,
        "stoppingAt": shape.time(task.times.stopping),
        "tags": tags,
        "taskArn": said.task_arn,
        "taskDefinitionArn": said.task_definition_arn,
        "updatedAt": if shape == Shape::Event { shape.time(Some(task.times.updated)) } else { Value::Null },
        "version": said.version,
    }))
}

fn attachment(attachment: &api::Attachment, shape: Shape) -> Value {
    let kind = match (attachment.kind.as_str(), shape) {
        ("ElasticNetworkInterface", Shape::Event) => "eni",
        (kind, _) => kind,
    };
    let details = named(&attachment.details);
    json!({"id": attachment.id, "type": kind, "status": attachment.status, "details": details})
}

fn container(task: &Task, container: &api::Container) -> Value {
    let task_arn = &task.said.task_arn;
    let interface_id = task.said.attachments.iter().find(|attachment| attachment.kind != "Service Connect");
    let interfaces = container.network_interfaces.iter().map(|interface| {
        without_null(json!({
            "attachmentId": interface_id.map(|attachment| &attachment.id),
            "privateIpv4Address": interface.private_ipv4_address,
            "ipv6Address": interface.ipv6_address,
        }))
    });
    let container_id = super::hash_hex(&(task_arn, &container.name));
    let digest = super::hash_hex(&container.name).repeat(2);
    without_null(json!({
        "containerArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:container/{}/{container_id}",
            task_arn.split_once("task/").map(|(_, path)| path).unwrap_or_default()),
        "taskArn": task_arn,
        "name": container.name,
        "image": super::world::image_of(&container.name),
        "imageDigest": container.runtime_id.as_ref().map(|_| format!("sha256:{digest}")),
        "runtimeId": container.runtime_id,
        "lastStatus": container.last_status,
        "exitCode": container.exit_code,
        "reason": container.reason,
        "networkBindings": container.network_bindings.iter().map(binding).collect::<Value>(),
        "networkInterfaces": interfaces.collect::<Value>(),
        "healthStatus": container.health_status,
        "cpu": "0",
    }))
}

fn binding(binding: &api::NetworkBinding) -> Value {
    without_null(json!({
        "bindIP": binding.bind_ip,
        "containerPort": binding.container_port,
        "hostPort": binding.host_port,
        "protocol": binding.protocol,
        "containerPortRange": binding.container_port_range,
        "hostPortRange": binding.host_port_range,
    }))
}

/// ECS `ContainerInstance`.
pub fn instance(instance: &Instance, shape: Shape) -> Value {
    let said = &instance.said;
    let attributes = said.attributes.iter().map(|(name, value)| {
        let value = (!value.is_empty()).then_some(value);
        without_null(json!({"name": name, "value": value}))
    });
    let registered = HostResources { cpu: 2048, memory: 7_680, ports: [22, 2375, 2376, 51678, 51679].into() };
    let used = instance.tasks as i64;
    let remaining =
        HostResources { cpu: 2048 - 256 * used, memory: 7_680 - 512 * used, ports: instance.ports.taken().collect() };
    let is_api = shape == Shape::Api;
    without_null(json!({
        "agentConnected": said.agent_connected,
        "attachments": is_api.then(|| json!([])),
        "attributes": attributes.collect::<Value>(),
        "clusterArn": (!is_api).then_some(&instance.cluster),
        "containerInstanceArn": said.container_instance_arn,
        "ec2InstanceId": said.ec2_instance_id,
        "pendingTasksCount": is_api.then_some(0),
        "registeredAt": shape.time(Some(instance.registered_ms)),
        "registeredResources": registered.json(),
        "remainingResources": remaining.json(),
        "runningTasksCount": is_api.then_some(instance.tasks),
        "status": said.status,
        "updatedAt": if is_api { Value::Null } else { shape.time(Some(instance.updated_ms)) },
        "version": said.version,
        "versionInfo":
            {"agentHash": "3b1f4bd7", "agentVersion": "1.105.1", "dockerVersion": "DockerVersion: 25.0.14"},
    }))
}

struct HostResources {
    cpu: i64,
    memory: i64,
    ports: Vec<u16>,
}

impl HostResources {
    fn json(&self) -> Value {
        let number = |name: &str, value: i64| json!({"name": name, "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": value});
        let texts = |name: &str, values: Vec<String>| {
            json!({"name": name, "type": "STRINGSET", "doubleValue": 0.0, "longValue": 0, "integerValue": 0,
                "stringSetValue": values})
        };
        let ports = self.ports.iter().map(u16::to_string).collect();
        json!([
            number("CPU", self.cpu),
            number("MEMORY", self.memory),
            texts("PORTS", ports),
            texts("PORTS_UDP", vec![])
        ])
    }
}

/// ECS `Service`.
pub fn service(service: &Service) -> Value {
    let (said, wish) = (&service.said, &service.wish);
    let time = |unix_ms| Shape::Api.time(Some(unix_ms));
    let deployments = said.deployments.iter().map(|deployment| {
        json!({
            "id": deployment.id,
            "status": deployment.status,
            "taskDefinition": deployment.task_definition,
            "desiredCount": deployment.desired_count,
            "pendingCount": deployment.desired_count.saturating_sub(deployment.running_count),
            "runningCount": deployment.running_count,
            "failedTasks": deployment.failed_tasks,
            "createdAt": time(service.deployed_ms),
            "updatedAt": time(service.deployed_ms),
            "launchType": wish.launch_type.as_str(),
            "rolloutState": deployment.rollout_state,
            "rolloutStateReason": deployment.rollout_state_reason,
        })
    });
    json!({
        "serviceArn": said.service_arn,
        "serviceName": said.service_name,
        "clusterArn": service.cluster,
        "loadBalancers": [],
        "serviceRegistries": [],
        "status": said.status,
        "desiredCount": said.desired_count,
        "runningCount": said.running_count,
        "pendingCount": said.pending_count,
        "launchType": wish.launch_type.as_str(),
        "taskDefinition": said.task_definition,
        "deploymentConfiguration": {
            "deploymentCircuitBreaker": {"enable": false, "rollback": false},
            "maximumPercent": wish.percent_max,
            "minimumHealthyPercent": wish.healthy_percent_min,
        },
        "deployments": deployments.collect::<Value>(),
        "events": [],
        "createdAt": time(service.created_ms),
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "createdBy": format!("arn:aws:iam::{ACCOUNT}:role/deployer"),
        "enableECSManagedTags": false,
        "propagateTags": "NONE",
        "enableExecuteCommand": false,
    })
}

/// ECS `TaskDefinition`.
pub fn definition(definition: &Definition) -> Value {
    let said = &definition.said;
    let containers = said.container_definitions.iter().map(|container| {
        let labels: Map<String, Value> =
            container.docker_labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        without_null(json!({
            "name": container.name,
            "image": super::world::image_of(&container.name),
            "cpu": 0,
            "memory": 256,
            "essential": true,
            "environment": named(&container.environment),
            "mountPoints": [],
            "volumesFrom": [],
            "dockerLabels": (!labels.is_empty()).then_some(labels),
            "portMappings": container.port_mappings.iter().map(mapping).collect::<Value>(),
            "healthCheck": definition.is_checked.then(|| json!({
                "command": ["CMD-SHELL", "exit 0"], "interval": 30, "timeout": 5, "retries": 3})),
        }))
    });
    json!({
        "taskDefinitionArn": said.task_definition_arn,
        "containerDefinitions": containers.collect::<Value>(),
        "family": said.family,
        "networkMode": said.network_mode,
        "revision": said.revision,
        "volumes": [],
        "status": "ACTIVE",
        "placementConstraints": [],
        "compatibilities": ["EXTERNAL", "EC2"],
        "requiresCompatibilities": ["EC2"],
    })
}

fn mapping(mapping: &api::PortMapping) -> Value {
    without_null(json!({
        "containerPort": mapping.container_port,
        "hostPort": mapping.host_port,
        "protocol": mapping.protocol,
        "name": mapping.name,
        "appProtocol": mapping.app_protocol,
        "containerPortRange": mapping.container_port_range,
    }))
}

/// ECS `Cluster`.
pub fn cluster(cluster: &api::Cluster) -> Value {
    json!({
        "clusterArn": cluster.cluster_arn,
        "clusterName": last_part(&cluster.cluster_arn),
        "status": cluster.status,
        "registeredContainerInstancesCount": 0,
        "runningTasksCount": 0,
        "pendingTasksCount": 0,
        "activeServicesCount": 0,
        "statistics": [],
        "tags": [],
        "settings": [],
        "capacityProviders": [],
        "defaultCapacityProviderStrategy": [],
    })
}
