//! Tasks, instances and definitions as AWS describes them, in a few words.

use super::super::api::*;
use super::CLUSTER;
use crate::testing::NOW_MS;

/// A task of an ECS service in bridge mode, running on an instance, its port 80 on a random host port.
pub(crate) fn task_on(number: usize, instance_number: usize, service: &str) -> Task {
    Task {
        task_arn: task_arn(number),
        cluster_arn: CLUSTER.to_owned(),
        container_instance_arn: Some(instance_arn(instance_number)),
        task_definition_arn: format!("arn:aws:ecs:eu-west-1:1:task-definition/{service}:7"),
        group: format!("service:{service}"),
        last_status: "RUNNING".to_owned(),
        desired_status: "RUNNING".to_owned(),
        health_status: "UNKNOWN".to_owned(),
        launch_type: "EC2".to_owned(),
        version: 3,
        started_at_ms: Some(NOW_MS),
        containers: vec![Container {
            name: "app".to_owned(),
            runtime_id: Some(format!("{number:064x}")),
            last_status: "RUNNING".to_owned(),
            network_bindings: vec![NetworkBinding {
                bind_ip: "0.0.0.0".to_owned(),
                protocol: "tcp".to_owned(),
                container_port: Some(80),
                host_port: Some(32_768 + (number % 1_000) as u16),
                ..NetworkBinding::default()
            }],
            ..Container::default()
        }],
        ..Task::default()
    }
}

/// A task of a service on Fargate, at its own address.
pub(crate) fn task_on_fargate(number: usize, service: &str) -> Task {
    let address = format!("10.9.{}.{}", number / 250, number % 250 + 1);
    let mut task = task_on(number, 0, service);
    task.container_instance_arn = None;
    task.launch_type = "FARGATE".to_owned();
    task.containers[0].network_bindings.clear();
    task.containers[0].network_interfaces =
        vec![NetworkInterface { private_ipv4_address: Some(address), ipv6_address: None }];
    task
}

pub(crate) fn task_arn(number: usize) -> String {
    format!("arn:aws:ecs:eu-west-1:1:task/prod/{number:032x}")
}

pub(crate) fn instance_arn(number: usize) -> String {
    format!("arn:aws:ecs:eu-west-1:1:container-instance/prod/{number:032x}")
}

pub(crate) fn instance(number: usize) -> ContainerInstance {
    ContainerInstance {
        container_instance_arn: instance_arn(number),
        ec2_instance_id: format!("i-{number:017x}"),
        status: "ACTIVE".to_owned(),
        agent_connected: true,
        version: 5,
        attributes: vec![("ecs.availability-zone".to_owned(), "eu-west-1a".to_owned())],
    }
}

pub(crate) fn bridge_definition(arn: &str) -> TaskDefinition {
    let family = arn.rsplit('/').next().unwrap().split(':').next().unwrap();
    TaskDefinition {
        task_definition_arn: arn.to_owned(),
        family: family.to_owned(),
        revision: 7,
        network_mode: "bridge".to_owned(),
        container_definitions: vec![ContainerDefinition {
            name: "app".to_owned(),
            port_mappings: vec![PortMapping {
                name: Some("http".to_owned()),
                protocol: "tcp".to_owned(),
                container_port: Some(80),
                ..PortMapping::default()
            }],
            ..ContainerDefinition::default()
        }],
    }
}
