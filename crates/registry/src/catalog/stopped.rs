//! Tasks that ECS says have stopped, by the services that their containers would be part of. For people.

use std::collections::BTreeMap;

use portolan_core::ecs::{EcsReport, Task, TaskStatus};
use portolan_core::evidence::ContainerReport;
use portolan_core::name::{Label, ServiceKey, cluster_label, service_label};
use portolan_core::naming::{by_label, by_origin};

use super::StoppedTask;
use super::join::Join;

/// How many are shown of a service.
pub(super) const SHOWN_MAX: usize = 20;

/// The stopped tasks of one record, newest first, at most [`SHOWN_MAX`] of each service.
pub(super) fn of(report: &EcsReport, join: &Join<'_>) -> BTreeMap<ServiceKey, Vec<StoppedTask>> {
    let mut stopped: BTreeMap<ServiceKey, Vec<StoppedTask>> = BTreeMap::new();
    for task in report.tasks.iter().filter(|task| task.status == TaskStatus::Stopped) {
        let Some(told) = told(task) else { continue };
        for key in services(task, join) {
            stopped.entry(key).or_default().push(told.clone());
        }
    }
    stopped.values_mut().for_each(newest);
    stopped
}

/// Puts the newest first and leaves out the rest.
pub(super) fn newest(tasks: &mut Vec<StoppedTask>) {
    tasks.sort_by(|a, b| b.stop.at_ms.cmp(&a.stop.at_ms).then_with(|| a.task_id.cmp(&b.task_id)));
    tasks.dedup_by(|a, b| a.task_id == b.task_id);
    tasks.truncate(SHOWN_MAX);
}

fn told(task: &Task) -> Option<StoppedTask> {
    let containers = task.containers.iter().map(|c| (c.report.name.clone(), c.exit_code, c.reason.clone())).collect();
    Some(StoppedTask { task_id: task.id.clone(), family: task.family.clone(), stop: task.stop.clone()?, containers })
}

/// The services that the task's containers were part of, or would have been: one that never ran has no ports yet.
fn services(task: &Task, join: &Join<'_>) -> Vec<ServiceKey> {
    let mut keys: Vec<_> = task.containers.iter().flat_map(|c| of_container(task, &c.report, join)).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn of_container(task: &Task, container: &ContainerReport, join: &Join<'_>) -> Vec<ServiceKey> {
    let kept = join.names.get(container.id.as_str()).map(|record| &record.name);
    let by_ecs = task.service.as_ref().map(|service| &service.label);
    let rest = || kept.or(by_ecs).or_else(|| by_origin(&container.candidates).map(|(_, name)| name)).cloned();
    let name = |own: Option<&Label>| by_label(&container.candidates, own).map(|(_, name)| name.clone()).or_else(rest);
    let own = container.ports.iter().map(|port| port.registrator_name.as_ref());
    let names = if container.ports.is_empty() { vec![name(None)] } else { own.map(name).collect() };
    let key = |name: Label| {
        cluster_label(container.cluster.as_str()).ok()?;
        Some(ServiceKey { cluster: container.cluster.clone(), service: service_label(name.as_str()).ok()? })
    };
    names.into_iter().flatten().filter_map(key).collect()
}
