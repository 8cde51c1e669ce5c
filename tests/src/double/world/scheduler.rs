//! Services: the scheduler keeps as many tasks as are wanted, and replaces them deployment by deployment.

use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_registry::ecs::api;
use rand::RngExt;

use super::definition::Definition;
use super::lifecycle::Launch;
use super::service::{NewService, Service};
use super::task::{Status, Task};
use super::{World, arn, last_part};

/// What a service's tasks are, as the scheduler counts them.
#[derive(Debug, Default)]
struct Census {
    /// Of the primary deployment, on an instance that stays, wanted; the oldest first.
    fresh: Vec<String>,
    /// Others that are wanted.
    old: Vec<String>,
    /// Of both, those that run.
    running: BTreeSet<String>,
    /// Told to stop, but still there.
    leaving: usize,
    /// Of the primary deployment, those that run.
    fresh_running: usize,
}

impl World {
    /// Makes a service with its tasks; gives its ARN.
    pub fn create_service(&mut self, new: NewService<'_>) -> String {
        let NewService { cluster, name, definition, desired_count, wish } = new;
        let service_arn = arn("service", &[last_part(cluster), name]);
        let said = api::Service {
            service_arn: service_arn.clone(),
            service_name: name.to_owned(),
            status: "ACTIVE".to_owned(),
            desired_count,
            task_definition: definition.said.task_definition_arn.clone(),
            ..api::Service::default()
        };
        let (now_ms, definition) = (self.now_ms, definition.clone());
        let cluster = cluster.to_owned();
        let service = Service { said, cluster, definition, wish, created_ms: now_ms, deployed_ms: now_ms };
        self.services.put(now_ms, &service_arn, service);
        self.deploy(&service_arn, None);
        service_arn
    }

    /// Begins a deployment, with another definition or to replace all tasks with the same one.
    pub fn deploy(&mut self, arn: &str, definition: Option<&Arc<Definition>>) {
        let id = format!("ecs-svc/{:019}", self.random.random_range(1..u64::MAX / 2));
        let now_ms = self.now_ms;
        self.change_service(arn, |service| {
            if let Some(definition) = definition {
                service.definition = definition.clone();
                service.said.task_definition.clone_from(&definition.said.task_definition_arn);
            }
            for deployment in &mut service.said.deployments {
                "ACTIVE".clone_into(&mut deployment.status);
            }
            service.deployed_ms = now_ms;
            let primary = api::ServiceDeployment {
                id: id.clone(),
                status: "PRIMARY".to_owned(),
                rollout_state: "IN_PROGRESS".to_owned(),
                rollout_state_reason: format!("ECS deployment {id} in progress."),
                task_definition: service.said.task_definition.clone(),
                desired_count: service.said.desired_count,
                ..api::ServiceDeployment::default()
            };
            service.said.deployments.insert(0, primary);
        });
        self.tell_deployment(arn, "SERVICE_DEPLOYMENT_IN_PROGRESS");
    }

    /// Changes how many tasks are wanted.
    pub fn scale(&mut self, arn: &str, desired_count: u32) {
        self.change_service(arn, |service| {
            service.said.desired_count = desired_count;
            if let Some(primary) = service.said.deployments.first_mut() {
                primary.desired_count = desired_count;
            }
        });
    }

    /// Deletes a service: it drains, and is INACTIVE once its last task has ended.
    pub fn delete_service(&mut self, arn: &str) {
        self.scale(arn, 0);
        self.change_service(arn, |service| "DRAINING".clone_into(&mut service.said.status));
    }

    /// The deployment circuit breaker gives up.
    pub fn fail_deployment(&mut self, arn: &str) {
        self.change_service(arn, |service| {
            if let Some(primary) = service.said.deployments.first_mut() {
                "FAILED".clone_into(&mut primary.rollout_state);
                primary.rollout_state_reason =
                    format!("ECS deployment circuit breaker: tasks failed to start: {}", primary.id);
            }
        });
        self.tell_deployment(arn, "SERVICE_DEPLOYMENT_FAILED");
    }

    fn change_service(&mut self, arn: &str, change: impl FnOnce(&mut Service)) {
        let Some(mut service) = self.services.get(arn).map(|service| (**service).clone()) else { return };
        change(&mut service);
        self.services.put(self.now_ms, arn, service);
        self.unsettled.insert(arn.to_owned());
    }

    /// A task of the primary deployment failed.
    pub(super) fn count_failure(&mut self, service: &str, task: &str) {
        let of = self.tasks.get(task).and_then(|task| task.started_by.clone());
        self.change_service(service, |service| {
            let mut deployments = service.said.deployments.iter_mut();
            if let Some(deployment) = deployments.find(|deployment| Some(&deployment.id) == of.as_ref()) {
                deployment.failed_tasks += 1;
            }
        });
    }

    /// One look of the scheduler at a service: starts what is missing, stops what is too much, counts.
    pub(super) fn reconcile(&mut self, arn: &str) {
        let Some(service) = self.services.get(arn).cloned() else { return };
        let census = self.census(&service);
        let (at_least, at_most) = service.limits();
        let present = census.fresh.len() + census.old.len();
        let missing = service.wanted().saturating_sub(census.fresh.len());
        let room = at_most.saturating_sub(present);
        let started = (0..missing.min(room)).take_while(|_| self.launch(launch(&service)).is_some()).count();
        let reason = format!("Scaling activity initiated by (deployment {})", service.primary());
        // The newest go first.
        let surplus = census.fresh.len().saturating_sub(service.wanted());
        let surplus = &census.fresh[census.fresh.len() - surplus..];
        let mut running = census.running.len() - surplus.iter().filter(|task| census.running.contains(*task)).count();
        let mut stopping = surplus.to_vec();
        for task in &census.old {
            let runs = census.running.contains(task);
            if !runs || running > at_least {
                running -= usize::from(runs);
                stopping.push(task.clone());
            }
        }
        stopping.iter().for_each(|task| self.stop_task(task, "ServiceSchedulerInitiated", &reason));
        if started == 0 {
            self.count(arn);
        }
    }

    fn census(&self, service: &Service) -> Census {
        let mut census = Census::default();
        let arns = self.members.get(&service.said.service_arn).into_iter().flatten();
        let mut tasks: Vec<&Arc<Task>> = arns.filter_map(|arn| self.tasks.get(arn)).collect();
        tasks.sort_by_key(|task| task.times.created);
        for task in tasks {
            let (arn, runs) = (task.said.task_arn.clone(), task.status == Status::Running);
            let is_fresh = task.started_by.as_deref() == Some(service.primary()) && self.stays(task);
            match (task.is_wanted(), is_fresh) {
                (false, _) => census.leaving += 1,
                (true, true) => census.fresh.push(arn.clone()),
                (true, false) => census.old.push(arn.clone()),
            }
            if task.is_wanted() && runs {
                census.running.insert(arn);
                census.fresh_running += usize::from(is_fresh);
            }
        }
        census
    }

    /// Whether the task's instance takes tasks, or there is none.
    fn stays(&self, task: &Task) -> bool {
        let instance = task.said.container_instance_arn.as_ref().and_then(|arn| self.instances.get(arn));
        instance.is_none_or(|instance| instance.said.status == "ACTIVE")
    }

    /// Says how many there are, and when a service has come to rest.
    fn count(&mut self, arn: &str) {
        let Some(before) = self.services.get(arn).cloned() else { return };
        let census = self.census(&before);
        let is_steady = census.fresh_running == before.wanted()
            && census.fresh.len() == before.wanted()
            && census.old.len() + census.leaving == 0;
        let mut service = (*before).clone();
        let present = census.fresh.len() + census.old.len();
        service.said.running_count = census.running.len() as u32;
        service.said.pending_count = (present - census.running.len()) as u32;
        for (index, deployment) in service.said.deployments.iter_mut().enumerate() {
            let running = if index == 0 { census.fresh_running } else { census.running.len() - census.fresh_running };
            deployment.running_count = running as u32;
        }
        if is_steady {
            service.said.deployments.truncate(1);
        }
        let completed =
            service.said.deployments.first_mut().filter(|primary| {
                is_steady && primary.rollout_state == "IN_PROGRESS" && before.said.status == "ACTIVE"
            });
        let completes = completed.is_some();
        if let Some(primary) = completed {
            "COMPLETED".clone_into(&mut primary.rollout_state);
            primary.rollout_state_reason = format!("ECS deployment {} completed.", primary.id);
        }
        if service.said.status == "DRAINING" && present + census.leaving == 0 {
            "INACTIVE".clone_into(&mut service.said.status);
        }
        let changed = service.said != before.said;
        if changed {
            self.services.put(self.now_ms, arn, service);
        }
        if completes {
            self.tell_deployment(arn, "SERVICE_DEPLOYMENT_COMPLETED");
        }
        if is_steady && changed {
            self.tell_service(arn, "SERVICE_STEADY_STATE");
        }
    }
}

fn launch(service: &Service) -> Launch {
    Launch {
        cluster: service.cluster.clone(),
        definition: service.definition.clone(),
        launch_type: service.wish.launch_type,
        group: format!("service:{}", service.said.service_name),
        service: Some(service.said.service_arn.clone()),
        started_by: Some(service.primary().to_owned()),
        is_balanced: service.wish.is_balanced,
        is_connected: service.wish.is_connected,
    }
}
