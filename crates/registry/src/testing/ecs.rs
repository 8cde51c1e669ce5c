//! What ECS says, in a few words.

use portolan_core::ecs::{Container, EcsReport, EcsServiceName, Instance, InstanceStatus, Stop, Task, TaskStatus};
use portolan_core::evidence::ContainerReport;

use super::{NOW_MS, container, label};
use crate::store::evidence::ClusterRecord;

/// The id of task `id`: 32 digits.
pub(crate) fn task_id(id: &str) -> String {
    format!("{id:0>32}")
}

/// A container as [`container`] makes it, of task `task`.
pub(crate) fn of_task(id: &str, family: &str, task: &str) -> ContainerReport {
    ContainerReport {
        task_arn: Some(format!("arn:aws:ecs:eu-west-1:1:task/prod/{}", task_id(task))),
        task_id: Some(task_id(task)),
        ..container(id, family)
    }
}

/// A running task with one container that has the task's id; of an ECS service, if one is named.
pub(crate) fn task(id: &str, family: &str, service: Option<&str>) -> Task {
    let report = of_task(id, family, id);
    Task {
        id: task_id(id),
        arn: report.task_arn.clone().unwrap_or_default(),
        version: 1,
        family: Some(label(family)),
        service: service.map(service_name),
        status: TaskStatus::Running,
        is_wanted: true,
        is_unhealthy: false,
        is_missing: false,
        az: None,
        containers: vec![Container { report, exit_code: None, reason: None }],
        stop: None,
    }
}

pub(crate) fn service_name(name: &str) -> EcsServiceName {
    EcsServiceName { name: name.to_owned(), label: portolan_core::name::Label::sanitise(name).unwrap() }
}

pub(crate) fn stopped(task: Task, at_ms: u64) -> Task {
    let stop = Stop { code: "EssentialContainerExited".into(), reason: "it ended".into(), at_ms };
    Task { status: TaskStatus::Stopped, is_wanted: false, stop: Some(stop), ..task }
}

/// What ECS says of instance `name`.
pub(crate) fn instance(name: &str, status: InstanceStatus, tasks: Vec<Task>) -> Box<EcsReport> {
    let instance = Instance {
        arn: format!("arn:{name}"),
        ec2_id: name.to_owned(),
        status,
        addresses: vec!["10.0.0.9".parse().unwrap()],
        az: Some("eu-west-1a".to_owned()),
        first_seen_ms: NOW_MS,
    };
    Box::new(EcsReport { instance: Some(instance), tasks })
}

/// What ECS says of tasks on Fargate.
pub(crate) fn fargate(tasks: Vec<Task>) -> Box<EcsReport> {
    Box::new(EcsReport { instance: None, tasks })
}

pub(crate) fn cluster() -> ClusterRecord {
    ClusterRecord { arn: "arn:aws:ecs:eu-west-1:1:cluster/prod".to_owned(), since_ms: NOW_MS }
}
