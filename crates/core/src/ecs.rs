//! What the ECS API said, as evidence: one value for each container instance, replaced whole.
//!
//! Tasks that run without a container instance (Fargate) are reported in parts that have no instance. A task's containers
//! are told in the words of a sidecar's report, made from its task definition, so that a node without a sidecar is named and
//! answered by the same code. Their phase and health mean nothing: what counts is what ECS says of the task.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::evidence::{ContainerReport, exact};
use crate::name::Label;
use crate::rules::Ecs;

/// What ECS says of one container instance and its tasks, or of one part of the tasks that have none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcsReport {
    /// `None`: tasks on Fargate.
    pub instance: Option<Instance>,
    /// In the order of their ids. Those that ended lately stay for some minutes, for their stop reasons.
    pub tasks: Vec<Task>,
}

/// A container instance (AWS API: `ContainerInstance`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// `containerInstanceArn`.
    pub arn: String,
    /// `i-...`, or `mi-...` on ECS Anywhere and managed instances.
    pub ec2_id: String,
    /// Whether it takes tasks.
    pub status: InstanceStatus,
    /// Its private addresses, as EC2 says. Empty: not known, as on ECS Anywhere.
    pub addresses: Vec<IpAddr>,
    /// Availability zone.
    pub az: Option<String>,
    /// When this registry first heard of it, Unix milliseconds.
    pub first_seen_ms: u64,
}

/// Whether a container instance takes tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceStatus {
    /// ACTIVE, or any state in which its tasks run on.
    Active,
    /// DRAINING, about to be interrupted (spot), or leaving its Auto Scaling group.
    Draining,
    /// Its EC2 instance is stopped or terminated: nothing runs there.
    Terminated,
}

/// A task (AWS API: `Task`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The last part of its ARN.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// `version`: orders what was said of it.
    pub version: u64,
    /// Its task definition's family.
    pub family: Option<Label>,
    /// The ECS service that started it (`group` is `service:NAME`).
    pub service: Option<EcsServiceName>,
    /// `lastStatus`.
    pub status: TaskStatus,
    /// Whether `desiredStatus` is RUNNING.
    pub is_wanted: bool,
    /// Whether `healthStatus` is UNHEALTHY.
    pub is_unhealthy: bool,
    /// Two complete listings lack it, and nobody said that it stopped.
    pub is_missing: bool,
    /// Availability zone.
    pub az: Option<String>,
    /// Its containers.
    #[serde(deserialize_with = "exact")]
    pub containers: Vec<Container>,
    /// Why it stopped, once it did.
    pub stop: Option<Stop>,
}

/// An ECS service's name, as ECS has it and as a label: two names may have the same label, and are not the same owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EcsServiceName {
    /// As ECS has it.
    pub name: String,
    /// As a label.
    pub label: Label,
}

/// Where a task is in its life (AWS documentation: task lifecycle).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// PROVISIONING, PENDING, ACTIVATING.
    Pending,
    /// RUNNING.
    Running,
    /// DEACTIVATING, STOPPING, DEPROVISIONING.
    Leaving,
    /// STOPPED, DELETED.
    Stopped,
}

/// Why a task stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// `stopCode`, such as `EssentialContainerExited`.
    pub code: String,
    /// `stoppedReason`, made harmless to show.
    pub reason: String,
    /// `stoppedAt`, Unix milliseconds; when it was heard, if ECS does not say.
    pub at_ms: u64,
}

/// A container of a task (AWS API: `Container`, with its task definition's `ContainerDefinition`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// As a sidecar would report it. The id is `runtimeId`, or the task's id and the container's name where there is none.
    pub report: ContainerReport,
    /// `exitCode`.
    pub exit_code: Option<i64>,
    /// `reason`, made harmless to show.
    pub reason: Option<String>,
}

impl Task {
    /// What ECS says of the task, by itself.
    pub fn word(&self) -> Ecs {
        match self.status {
            TaskStatus::Stopped => Ecs::Stopped,
            // What ECS said of its end outlives its absence from listings, which takes nothing back.
            TaskStatus::Leaving => Ecs::Leaving,
            _ if !self.is_wanted => Ecs::Leaving,
            // What never ran is in no answer, and its absence puts it in none.
            TaskStatus::Pending => Ecs::Pending,
            TaskStatus::Running if self.is_missing && self.is_unhealthy => Ecs::MissingUnhealthy,
            TaskStatus::Running if self.is_missing => Ecs::Missing,
            TaskStatus::Running if self.is_unhealthy => Ecs::RunningUnhealthy,
            TaskStatus::Running => Ecs::Running,
        }
    }
}

impl InstanceStatus {
    /// What ECS says of something on an instance of this status, of which by itself it says `word`.
    pub fn over(self, word: Ecs) -> Ecs {
        match (self, word) {
            (InstanceStatus::Terminated, _) => Ecs::Stopped,
            (InstanceStatus::Draining, Ecs::Stopped) | (InstanceStatus::Active, _) => word,
            (InstanceStatus::Draining, Ecs::Running) => Ecs::Drained,
            (InstanceStatus::Draining, _) => Ecs::Leaving,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(status: TaskStatus) -> Task {
        Task {
            id: "0123".to_owned(),
            arn: "arn".to_owned(),
            version: 1,
            family: None,
            service: None,
            status,
            is_wanted: true,
            is_unhealthy: false,
            is_missing: false,
            az: None,
            containers: Vec::new(),
            stop: None,
        }
    }

    #[test]
    fn a_task_says_what_the_table_asks_for() {
        assert_eq!(task(TaskStatus::Pending).word(), Ecs::Pending);
        assert_eq!(task(TaskStatus::Running).word(), Ecs::Running);
        assert_eq!(Task { is_unhealthy: true, ..task(TaskStatus::Running) }.word(), Ecs::RunningUnhealthy);
        assert_eq!(Task { is_wanted: false, ..task(TaskStatus::Running) }.word(), Ecs::Leaving);
        assert_eq!(Task { is_wanted: false, ..task(TaskStatus::Pending) }.word(), Ecs::Leaving);
        assert_eq!(task(TaskStatus::Leaving).word(), Ecs::Leaving);
        assert_eq!(Task { is_missing: true, ..task(TaskStatus::Running) }.word(), Ecs::Missing);
        let missing_unhealthy = Task { is_missing: true, is_unhealthy: true, ..task(TaskStatus::Running) };
        assert_eq!(missing_unhealthy.word(), Ecs::MissingUnhealthy);
        assert_eq!(Task { is_missing: true, ..task(TaskStatus::Pending) }.word(), Ecs::Pending);
        assert_eq!(Task { is_missing: true, ..task(TaskStatus::Stopped) }.word(), Ecs::Stopped);
        assert_eq!(Task { is_missing: true, ..task(TaskStatus::Leaving) }.word(), Ecs::Leaving);
        assert_eq!(Task { is_missing: true, is_wanted: false, ..task(TaskStatus::Running) }.word(), Ecs::Leaving);
    }

    #[test]
    fn an_instance_counts_for_all_that_runs_on_it() {
        assert_eq!(InstanceStatus::Terminated.over(Ecs::Running), Ecs::Stopped);
        assert_eq!(InstanceStatus::Draining.over(Ecs::Running), Ecs::Drained);
        assert_eq!(InstanceStatus::Draining.over(Ecs::RunningUnhealthy), Ecs::Leaving);
        assert_eq!(InstanceStatus::Draining.over(Ecs::NotKnown), Ecs::Leaving);
        assert_eq!(InstanceStatus::Draining.over(Ecs::Stopped), Ecs::Stopped);
        assert_eq!(InstanceStatus::Active.over(Ecs::Missing), Ecs::Missing);
    }
}
