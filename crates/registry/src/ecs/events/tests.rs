use portolan_core::ecs::TaskStatus;
use serde_json::json;

use super::*;
use crate::ecs::facts::Registration;
use crate::ecs::testing::{CLUSTER, instance_arn, task_arn};

const AT_MS: u64 = 1_481_042_466_991;

fn envelope(source: &str, kind: &str, resources: &[&str], detail: Value) -> String {
    json!({
        "version": "0", "id": "a", "account": "1", "region": "eu-west-1", "time": "2016-12-06T16:41:06.991Z",
        "source": source, "detail-type": kind, "resources": resources, "detail": detail, "new": {"field": [1]},
    })
    .to_string()
}

fn read_own(body: &str) -> Result<Event, EventError> {
    read(body, AT_MS, |arn| arn == CLUSTER)
}

fn told(source: &str, kind: &str, detail: Value) -> Told {
    read_own(&envelope(source, kind, &[], detail)).unwrap().told
}

fn task_detail() -> Value {
    json!({
        "attachments": [{"id": "1", "type": "eni", "status": "ATTACHED", "details": [
            {"name": "privateIPv4Address", "value": "10.9.0.4"}, {"name": "macAddress", "value": null}]}],
        "clusterArn": CLUSTER, "taskArn": task_arn(1), "containerInstanceArn": instance_arn(2),
        "containers": [{
            "containerArn": "x", "lastStatus": "RUNNING", "name": "app", "taskArn": task_arn(1), "runtimeId": "abc",
            "networkBindings": [{"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32768, "protocol": "tcp"}],
            "networkInterfaces": [], "cpu": "10", "unknown": {"a": null}
        }],
        "createdAt": "2016-12-06T16:41:05.702Z", "startedAt": "2016-12-06T16:41:06.8Z", "stoppedAt": null,
        "desiredStatus": "RUNNING", "group": "service:web", "lastStatus": "RUNNING", "launchType": "EC2",
        "overrides": {}, "taskDefinitionArn": "arn:aws:ecs:eu-west-1:1:task-definition/web:7", "version": 4,
        "healthStatus": "UNKNOWN",
    })
}

#[test]
fn reads_a_tasks_change() {
    let event = read_own(&envelope("aws.ecs", "ECS Task State Change", &[], task_detail())).unwrap();
    let Told::Task(cluster, facts) = event.told else { panic!("{event:?}") };
    assert_eq!((event.at_ms, cluster.as_str(), facts.version), (AT_MS, CLUSTER, 4));
    assert_eq!((facts.status, facts.is_wanted, facts.started_at_ms), (TaskStatus::Running, true, 1_481_042_466_800));
    assert_eq!(facts.service.unwrap().name, "web");
    assert_eq!(facts.addresses, ["10.9.0.4".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(facts.containers[0].bindings[0].host_port, 32_768);
}

#[test]
fn reads_an_instances_change() {
    let detail = json!({"agentConnected": false, "attributes": [{"name": "ecs.availability-zone", "value": "eu-west-1b"},
        {"name": "com.amazonaws.ecs.capability.privileged-container"}], "clusterArn": CLUSTER, "ec2InstanceId": "i-07",
        "containerInstanceArn": instance_arn(7), "status": "DRAINING", "version": 14802, "versionInfo": {}});
    let Told::Instance(_, facts) = told("aws.ecs", "ECS Container Instance State Change", detail) else { panic!() };
    assert_eq!(
        (facts.registration, facts.version, facts.az.as_deref()),
        (Registration::Draining, 14_802, Some("eu-west-1b"))
    );
}

#[test]
fn reads_what_happens_to_machines() {
    let machine = |state: &str| {
        told("aws.ec2", "EC2 Instance State-change Notification", json!({"instance-id": "i-01", "state": state}))
    };
    let id = ec2_id("i-01").unwrap();
    assert_eq!(machine("terminated"), Told::Machine(id.clone(), Power::Ended));
    assert_eq!(machine("shutting-down"), Told::Machine(id.clone(), Power::Ended));
    assert_eq!(machine("stopped"), Told::Machine(id.clone(), Power::Stopped));
    assert_eq!(machine("hibernating"), Told::Other);
    let spot = json!({"instance-id": "i-01", "instance-action": "terminate"});
    assert_eq!(told("aws.ec2", "EC2 Spot Instance Interruption Warning", spot), Told::Warning(id.clone()));
    let hook = json!({"LifecycleActionToken": "t", "AutoScalingGroupName": "g", "EC2InstanceId": "i-01"});
    assert_eq!(told("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action", hook), Told::Warning(id));
}

#[test]
fn services_are_known_by_the_events_resource() {
    let new = "arn:aws:ecs:eu-west-1:1:service/prod/web";
    let old = "arn:aws:ecs:eu-west-1:1:service/web";
    let read = |resource: &str, detail: Value| {
        read_own(&envelope("aws.ecs", "ECS Deployment State Change", &[resource], detail)).unwrap().told
    };
    assert_eq!(
        read(new, json!({"eventName": "SERVICE_DEPLOYMENT_FAILED"})),
        Told::Service(CLUSTER.to_owned(), new.to_owned())
    );
    assert_eq!(read(old, json!({"clusterArn": CLUSTER})), Told::Service(CLUSTER.to_owned(), old.to_owned()));
    assert_eq!(read(old, json!({})), Told::Other);
}

#[test]
fn what_nobody_knows_passes_and_other_clusters_are_not_looked_into() {
    assert_eq!(told("aws.ecs", "ECS Dream State Change", json!({"a": 1})), Told::Other);
    assert_eq!(told("aws.s3", "Object Created", json!(null)), Told::Other);
    let mut foreign = task_detail();
    foreign["clusterArn"] = json!("arn:aws:ecs:eu-west-1:1:cluster/other");
    foreign["lastStatus"] = json!("DREAMING");
    assert_eq!(told("aws.ecs", "ECS Task State Change", foreign), Told::Other);
}

#[test]
fn says_why_a_message_cannot_be_used() {
    let check = |body: &str, expected: &str| {
        let error = read_own(body).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check("", "it is no event: EOF");
    check("{\"detail-type\": 5}", "it is no event: invalid type");
    check(&" ".repeat(2 << 20), "it has 2097152 bytes; at most 1048576 are read");
    check(&"[".repeat(10_000), "it is no event: ");
    let mut lacking = task_detail();
    lacking["version"] = json!("four");
    check(&envelope("aws.ecs", "ECS Task State Change", &[], lacking), "its detail cannot be read: invalid type");
    let mut dreaming = task_detail();
    dreaming["lastStatus"] = json!("DREAMING");
    check(&envelope("aws.ecs", "ECS Task State Change", &[], dreaming), "status `DREAMING` is not known");
    let detail = json!({"instance-id": "../etc", "state": "terminated"});
    check(&envelope("aws.ec2", "EC2 Instance State-change Notification", &[], detail), "`../etc` is no instance id");
}
