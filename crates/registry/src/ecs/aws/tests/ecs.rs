//! What ECS answers, with all that is in it and this program does not know.

use serde_json::{Value, json};

use super::*;
use crate::ecs::api::{
    Attachment, Container, ContainerDefinition, NetworkBinding, NetworkInterface, PortMapping, ServiceDeployment,
};

const CLUSTER: &str = "arn:aws:ecs:eu-central-1:123456789012:cluster/prod";
const TASK: &str = "arn:aws:ecs:eu-central-1:123456789012:task/prod/0123456789abcdef0123456789abcdef";
const INSTANCE: &str = "arn:aws:ecs:eu-central-1:123456789012:container-instance/prod/fedcba9876543210";
const DEFINITION: &str = "arn:aws:ecs:eu-central-1:123456789012:task-definition/es:7";
const SERVICE: &str = "arn:aws:ecs:eu-central-1:123456789012:service/prod/es";

async fn answering(body: &Value) -> (Server, Sdk) {
    setup(vec![Reply::json(200, body)]).await
}

#[tokio::test]
async fn a_question_is_signed_and_says_what_it_wants() {
    let (server, sdk) = answering(&json!({"taskArns": [TASK], "nextToken": "n2"})).await;
    let page = sdk.list_tasks("prod".into(), Desired::Stopped, Some("n1".into())).await.unwrap();
    assert_eq!(page, Page { arns: strings(&[TASK]), next: Some("n2".into()) });
    let asked = &server.asked()[0];
    assert_eq!(asked.header("x-amz-target"), "amazonec2containerservicev20141113.listtasks");
    let expected = json!({"cluster": "prod", "desiredStatus": "STOPPED", "nextToken": "n1"});
    assert_eq!(serde_json::from_str::<Value>(&asked.body).unwrap(), expected);
    let authorization = asked.header("authorization");
    assert!(authorization.starts_with("aws4-hmac-sha256 credential=akiatest/"), "{authorization}");
    assert!(authorization.contains("/eu-central-1/ecs/aws4_request"), "{authorization}");
    assert!(asked.header("user-agent").contains("app/portolan"));
}

#[tokio::test]
async fn every_listing_reads_its_own_arns() {
    let body = json!({"containerInstanceArns": [INSTANCE], "serviceArns": [SERVICE], "nextToken": ""});
    let (server, sdk) = answering(&body).await;
    let page = |arn| Page { arns: strings(&[arn]), next: None };
    assert_eq!(sdk.list_container_instances("prod".into(), None).await, Ok(page(INSTANCE)));
    assert_eq!(sdk.list_services("prod".into(), None).await, Ok(page(SERVICE)));
    assert_eq!(serde_json::from_str::<Value>(&server.asked()[0].body).unwrap(), json!({"cluster": "prod"}));
}

#[tokio::test]
async fn a_bridge_task_keeps_its_bindings_and_loses_what_cannot_be() {
    let bindings = json!([
        {"bindIP": "0.0.0.0", "containerPort": 9200, "hostPort": 32768, "protocol": "tcp"},
        {"bindIP": "::", "containerPortRange": "5000-5003", "hostPortRange": "49153-49156", "protocol": "udp"},
        {"bindIP": "0.0.0.0", "containerPort": 9300, "hostPort": 70000, "protocol": "tcp"},
        {"bindIP": "0.0.0.0", "containerPort": -1, "hostPort": 1, "protocol": "tcp"},
        {"protocol": "sctp", "containerPort": null, "futureField": {"deep": [1, null]}},
    ]);
    let task = json!({
        "taskArn": TASK, "clusterArn": CLUSTER, "containerInstanceArn": INSTANCE, "taskDefinitionArn": DEFINITION,
        "group": "service:es", "lastStatus": "RUNNING", "desiredStatus": "RUNNING", "healthStatus": "HEALTHY",
        "launchType": "EC2", "version": 4, "availabilityZone": "eu-central-1a", "startedAt": 1_767_323_045.123,
        "stoppedAt": null, "attachments": [], "connectivity": "CONNECTED", "fromTheFuture": [{"a": 1}],
        "containers": [{
            "name": "es", "runtimeId": "abc", "lastStatus": "RUNNING", "healthStatus": "SOMETHING_NEW",
            "networkBindings": bindings, "networkInterfaces": [], "cpu": "0", "managedAgents": null,
        }],
    });
    let failures = json!([{"arn": "arn:gone", "reason": "MISSING"}, {"detail": "x"}]);
    let (_server, sdk) = answering(&json!({"tasks": [task, {"lastStatus": "RUNNING"}], "failures": failures})).await;
    let binding = |bind_ip: &str, protocol: &str| NetworkBinding {
        bind_ip: bind_ip.into(),
        protocol: protocol.into(),
        ..NetworkBinding::default()
    };
    let single = NetworkBinding { container_port: Some(9200), host_port: Some(32_768), ..binding("0.0.0.0", "tcp") };
    let range = NetworkBinding {
        container_port_range: Some("5000-5003".into()),
        host_port_range: Some("49153-49156".into()),
        ..binding("::", "udp")
    };
    let container = Container {
        name: "es".into(),
        runtime_id: Some("abc".into()),
        last_status: "RUNNING".into(),
        health_status: "SOMETHING_NEW".into(),
        network_bindings: vec![single, range, binding("", "sctp")],
        ..Container::default()
    };
    let task = Task {
        task_arn: TASK.into(),
        cluster_arn: CLUSTER.into(),
        container_instance_arn: Some(INSTANCE.into()),
        task_definition_arn: DEFINITION.into(),
        group: "service:es".into(),
        last_status: "RUNNING".into(),
        desired_status: "RUNNING".into(),
        health_status: "HEALTHY".into(),
        launch_type: "EC2".into(),
        version: 4,
        availability_zone: Some("eu-central-1a".into()),
        started_at_ms: Some(1_767_323_045_123),
        containers: vec![container],
        ..Task::default()
    };
    let failures = vec![("arn:gone".to_owned(), "MISSING".to_owned()), (String::new(), String::new())];
    let expected = Described { items: vec![task], failures };
    assert_eq!(sdk.describe_tasks("prod".into(), strings(&[TASK])).await, Ok(expected));
}

#[tokio::test]
async fn a_stopped_task_with_its_own_interface_keeps_addresses_and_causes() {
    let details = json!([
        {"name": "subnetId", "value": "subnet-1"}, {"name": "privateIPv4Address", "value": "10.0.1.9"}, {"value": "x"},
    ]);
    let task = json!({
        "taskArn": TASK, "launchType": "FARGATE", "version": -3, "lastStatus": "STOPPED", "stoppedAt": 1_767_323_045.5,
        "stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited",
        "attachments": [{"id": "a1", "type": "ElasticNetworkInterface", "status": "DELETED", "details": details}],
        "containers": [{
            "name": "es", "lastStatus": "STOPPED", "exitCode": 137, "reason": "OutOfMemoryError: killed",
            "networkInterfaces": [{"attachmentId": "a1", "privateIpv4Address": "10.0.1.9", "ipv6Address": "fd00::9"}],
        }],
    });
    let (_server, sdk) = answering(&json!({"tasks": [task]})).await;
    let found = sdk.describe_tasks("prod".into(), strings(&[TASK])).await.unwrap().items.remove(0);
    assert_eq!((found.version, found.stopped_at_ms, found.started_at_ms), (0, Some(1_767_323_045_500), None));
    assert_eq!(found.stop_code.as_deref(), Some("EssentialContainerExited"));
    assert_eq!(found.stopped_reason.as_deref(), Some("Essential container in task exited"));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let attachment = Attachment {
        id: "a1".into(),
        kind: "ElasticNetworkInterface".into(),
        status: "DELETED".into(),
        details: vec![pair("subnetId", "subnet-1"), pair("privateIPv4Address", "10.0.1.9")],
    };
    assert_eq!(found.attachments, [attachment]);
    let container = &found.containers[0];
    assert_eq!((container.exit_code, container.reason.as_deref()), (Some(137), Some("OutOfMemoryError: killed")));
    let interface =
        NetworkInterface { private_ipv4_address: Some("10.0.1.9".into()), ipv6_address: Some("fd00::9".into()) };
    assert_eq!(container.network_interfaces, [interface]);
}

#[tokio::test]
async fn clusters_instances_and_services_are_read() {
    let instance = json!({
        "containerInstanceArn": INSTANCE, "ec2InstanceId": "i-0abc", "status": "ACTIVE", "agentConnected": true,
        "version": 12, "runningTasksCount": 3, "remainingResources": [{"name": "CPU", "integerValue": 1}],
        "attributes": [{"name": "ecs.capability.task-eni"}, {"name": "ecs.availability-zone", "value": "eu-central-1a"}],
    });
    let deployment = json!({
        "id": "ecs-svc/1", "status": "PRIMARY", "rolloutState": "IN_PROGRESS", "rolloutStateReason": "r",
        "taskDefinition": DEFINITION, "desiredCount": 3, "runningCount": 2, "failedTasks": 1,
    });
    let service = json!({
        "serviceArn": SERVICE, "serviceName": "es", "status": "ACTIVE", "desiredCount": 3, "runningCount": 2,
        "pendingCount": 1, "taskDefinition": DEFINITION, "deployments": [deployment, {"id": "x", "failedTasks": -1}],
        "createdAt": 1_767_323_045.0,
    });
    let nonsense = json!({"serviceArn": SERVICE, "desiredCount": -1});
    let cluster = json!({"clusterArn": CLUSTER, "clusterName": "prod", "status": "ACTIVE"});
    let (_server, sdk) = answering(&json!({
        "clusters": [cluster], "containerInstances": [instance], "services": [service, nonsense], "failures": null,
    }))
    .await;

    let cluster = Cluster { cluster_arn: CLUSTER.into(), cluster_name: "prod".into(), status: "ACTIVE".into() };
    assert_eq!(sdk.describe_clusters(strings(&["prod"])).await.unwrap().items, [cluster]);

    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let instance = ContainerInstance {
        container_instance_arn: INSTANCE.into(),
        ec2_instance_id: "i-0abc".into(),
        status: "ACTIVE".into(),
        agent_connected: true,
        version: 12,
        attributes: vec![pair("ecs.capability.task-eni", ""), pair("ecs.availability-zone", "eu-central-1a")],
    };
    let arns = strings(&[INSTANCE]);
    assert_eq!(sdk.describe_container_instances("prod".into(), arns).await.unwrap().items, [instance]);

    let deployment = ServiceDeployment {
        id: "ecs-svc/1".into(),
        status: "PRIMARY".into(),
        rollout_state: "IN_PROGRESS".into(),
        rollout_state_reason: "r".into(),
        task_definition: DEFINITION.into(),
        desired_count: 3,
        running_count: 2,
        failed_tasks: 1,
    };
    let service = Service {
        service_arn: SERVICE.into(),
        service_name: "es".into(),
        status: "ACTIVE".into(),
        desired_count: 3,
        running_count: 2,
        pending_count: 1,
        task_definition: DEFINITION.into(),
        deployments: vec![deployment],
    };
    assert_eq!(sdk.describe_services("prod".into(), strings(&[SERVICE])).await.unwrap().items, [service]);
}

#[tokio::test]
async fn a_task_definition_keeps_labels_and_no_secrets() {
    let container = json!({
        "name": "es", "image": "es:8", "dockerLabels": {"portolan.service": "es", "a": ""},
        "environment": [
            {"name": "SERVICE_NAME", "value": "es"}, {"name": "PASSWORD", "value": "secret"}, {"name": "SERVICE_TAGS"},
        ],
        "portMappings": [
            {"name": "http", "appProtocol": "http2", "protocol": "tcp", "containerPort": 9200, "hostPort": 0},
            {"containerPort": 65536}, {"containerPortRange": "5000-5003"},
        ],
        "secrets": [{"name": "S", "valueFrom": "arn:..."}],
    });
    let definition = json!({
        "taskDefinitionArn": DEFINITION, "family": "es", "revision": 7, "networkMode": "bridge",
        "containerDefinitions": [container], "registeredAt": 1.0, "compatibilities": ["EC2"],
    });
    let (_server, sdk) = answering(&json!({"taskDefinition": definition, "tags": []})).await;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let http = PortMapping {
        name: Some("http".into()),
        app_protocol: Some("http2".into()),
        protocol: "tcp".into(),
        container_port: Some(9200),
        host_port: Some(0),
        container_port_range: None,
    };
    let range = PortMapping { container_port_range: Some("5000-5003".into()), ..PortMapping::default() };
    let container = ContainerDefinition {
        name: "es".into(),
        docker_labels: vec![pair("a", ""), pair("portolan.service", "es")],
        environment: vec![pair("SERVICE_NAME", "es"), pair("SERVICE_TAGS", "")],
        port_mappings: vec![http, range],
    };
    let expected = TaskDefinition {
        task_definition_arn: DEFINITION.into(),
        family: "es".into(),
        revision: 7,
        network_mode: "bridge".into(),
        container_definitions: vec![container],
    };
    assert_eq!(sdk.describe_task_definition(DEFINITION.into()).await, Ok(expected));
}

#[tokio::test]
async fn nothing_is_asked_about_nothing() {
    let (server, sdk) = answering(&json!({})).await;
    assert_eq!(sdk.describe_clusters(vec![]).await, Ok(answers::nothing()));
    assert_eq!(sdk.describe_tasks("prod".into(), vec![]).await, Ok(answers::nothing()));
    assert_eq!(sdk.describe_container_instances("prod".into(), vec![]).await, Ok(answers::nothing()));
    assert_eq!(sdk.describe_services("prod".into(), vec![]).await, Ok(answers::nothing()));
    assert_eq!(sdk.describe_instances(strings(&["", "*", "a&Action=b"])).await, Ok(vec![]));
    assert_eq!(sdk.delete_messages("q".into(), vec![]).await, Ok(()));
    assert_eq!(server.asked().len(), 0);
}
