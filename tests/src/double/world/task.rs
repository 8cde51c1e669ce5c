//! One task and the states it goes through.

use std::fmt;
use std::sync::Arc;

use portolan_registry::ecs::api;

use super::definition::Definition;

/// A task, as ECS knows it.
#[derive(Debug, Clone)]
pub struct Task {
    /// As AWS describes it.
    pub said: api::Task,
    /// `lastStatus`; `said` has it in words.
    pub status: Status,
    /// What it is made of.
    pub definition: Arc<Definition>,
    /// The service's ARN.
    pub service: Option<String>,
    /// `startedBy`: of a service's task, its deployment.
    pub started_by: Option<String>,
    /// `tags`.
    pub tags: Vec<(String, String)>,
    /// Whether something registers it first and takes it out before its end: a load balancer, several target groups.
    pub is_balanced: bool,
    /// The host ports that it holds.
    pub host_ports: Vec<u16>,
    /// When what happened, Unix milliseconds.
    pub times: Times,
}

/// Unix milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// `createdAt`.
    pub created: u64,
    /// `updatedAt`, in events.
    pub updated: u64,
    /// `connectivityAt`, `pullStartedAt`, `pullStoppedAt`.
    pub connected: Option<u64>,
    /// `stoppingAt`.
    pub stopping: Option<u64>,
}

/// `lastStatus`, in the order of a task's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Its interface is being made.
    Provisioning,
    /// Its place is known; the agent prepares it.
    Pending,
    /// It runs and is being registered elsewhere.
    Activating,
    /// It runs.
    Running,
    /// It runs and is being taken out elsewhere.
    Deactivating,
    /// Its containers are told to stop.
    Stopping,
    /// Its interface is being removed.
    Deprovisioning,
    /// It ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Provisioning => "PROVISIONING",
            Status::Pending => "PENDING",
            Status::Activating => "ACTIVATING",
            Status::Running => "RUNNING",
            Status::Deactivating => "DEACTIVATING",
            Status::Stopping => "STOPPING",
            Status::Deprovisioning => "DEPROVISIONING",
            Status::Stopped => "STOPPED",
        })
    }
}

/// Where tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaunchType {
    /// On EC2 instances of the cluster.
    Ec2,
    /// On machines of AWS's.
    Fargate,
    /// On machines elsewhere (ECS Anywhere).
    External,
}

impl LaunchType {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            LaunchType::Ec2 => "EC2",
            LaunchType::Fargate => "FARGATE",
            LaunchType::External => "EXTERNAL",
        }
    }
}

impl Task {
    /// Its first status.
    pub(super) fn first_status(definition: &Definition) -> Status {
        if definition.has_own_interface() { Status::Provisioning } else { Status::Pending }
    }

    /// Whether it is to run.
    pub fn is_wanted(&self) -> bool {
        self.said.desired_status == "RUNNING"
    }

    /// The status that comes next, if it is not where it is to be.
    pub fn next_status(&self) -> Option<Status> {
        let (is_wanted, has_interface) = (self.is_wanted(), self.definition.has_own_interface());
        let released = if has_interface { Status::Deprovisioning } else { Status::Stopped };
        match self.status {
            Status::Provisioning if is_wanted => Some(Status::Pending),
            Status::Pending if is_wanted && self.is_balanced => Some(Status::Activating),
            Status::Pending | Status::Activating if is_wanted => Some(Status::Running),
            Status::Running if is_wanted => None,
            Status::Running if self.is_balanced => Some(Status::Deactivating),
            Status::Activating | Status::Running | Status::Deactivating => Some(Status::Stopping),
            Status::Provisioning | Status::Pending | Status::Stopping => Some(released),
            Status::Deprovisioning => Some(Status::Stopped),
            Status::Stopped => None,
        }
    }

    /// Enters a status: what is said of the task and its containers follows.
    pub(super) fn enter(&mut self, status: Status, now_ms: u64) {
        (self.status, self.said.last_status) = (status, status.to_string());
        match status {
            Status::Pending => {
                self.times.connected = Some(now_ms);
                self.attach("ATTACHED");
            }
            Status::Running => {
                self.said.started_at_ms = Some(now_ms);
                self.set_health(if self.definition.is_checked { "HEALTHY" } else { "UNKNOWN" });
            }
            Status::Stopped => {
                self.said.stopped_at_ms = Some(now_ms);
                self.attach("DELETED");
            }
            Status::Provisioning
            | Status::Activating
            | Status::Deactivating
            | Status::Stopping
            | Status::Deprovisioning => {}
        }
        let container_status = match status {
            Status::Provisioning | Status::Pending => "PENDING",
            Status::Activating | Status::Running | Status::Deactivating | Status::Stopping => "RUNNING",
            Status::Deprovisioning | Status::Stopped => "STOPPED",
        };
        for container in self.said.containers.iter_mut().filter(|container| container.last_status != "STOPPED") {
            container_status.clone_into(&mut container.last_status);
            if container_status == "STOPPED" && container.runtime_id.is_some() {
                // SIGKILL after the stop timeout: most programs as process 1 ignore SIGTERM.
                container.exit_code.get_or_insert(137);
            }
        }
    }

    /// Says its health, and that of its containers.
    pub fn set_health(&mut self, health: &str) {
        health.clone_into(&mut self.said.health_status);
        self.said.containers.iter_mut().for_each(|container| health.clone_into(&mut container.health_status));
    }

    fn attach(&mut self, status: &str) {
        let interfaces = self.said.attachments.iter_mut().filter(|attachment| attachment.kind != "Service Connect");
        interfaces.for_each(|attachment| status.clone_into(&mut attachment.status));
    }
}
