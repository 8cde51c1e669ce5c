//! Tasks come and go.

use std::sync::Arc;

use portolan_registry::ecs::api;
use rand::RngExt;

use super::agenda::{Pace, Step};
use super::definition::Definition;
use super::network::{fixed_ports, host_ports, interface, task_address};
use super::task::{LaunchType, Status, Task, Times};
use super::{ACCOUNT, REGION, STOPPED_TASKS_KEPT_MS, World, arn, last_part};

/// What a task is launched from.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The cluster's ARN.
    pub cluster: String,
    /// What it is made of.
    pub definition: Arc<Definition>,
    /// Where it runs.
    pub launch_type: LaunchType,
    /// `group`.
    pub group: String,
    /// The service's ARN.
    pub service: Option<String>,
    /// `startedBy`.
    pub started_by: Option<String>,
    /// Whether it is activated and deactivated.
    pub is_balanced: bool,
    /// Whether it has Service Connect's container.
    pub is_connected: bool,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its name in the task definition.
    pub container: String,
    /// Its exit code.
    pub code: i64,
    /// As the agent words it.
    pub reason: Option<String>,
}

/// What became of one container when it was really run.
#[derive(Debug, Clone, Default)]
pub struct Ran {
    /// Its name in the task definition.
    pub container: String,
    /// Docker's id.
    pub runtime_id: String,
    /// What Docker bound.
    pub network_bindings: Vec<api::NetworkBinding>,
    /// The address of its interface, in network mode `awsvpc`.
    pub address: Option<String>,
}

impl World {
    /// Launches a task; gives its ARN, or `None` when no instance takes it.
    pub fn launch(&mut self, launch: Launch) -> Option<String> {
        let instance = match launch.launch_type {
            LaunchType::Fargate => None,
            LaunchType::Ec2 | LaunchType::External => Some(self.place(&launch)?),
        };
        let id = self.hex(32);
        let task_arn = arn("task", &[last_part(&launch.cluster), &id]);
        let az = match &instance {
            Some(instance) => self.instances.get(instance).and_then(|instance| instance.az()),
            None => Some(format!("{REGION}{}", ['a', 'b', 'c'][self.random.random_range(0..3)])),
        };
        let status = Task::first_status(&launch.definition);
        let fixed_ports = fixed_ports(&launch.definition);
        let mut said = api::Task {
            task_arn: task_arn.clone(),
            cluster_arn: launch.cluster,
            container_instance_arn: instance.clone(),
            task_definition_arn: launch.definition.said.task_definition_arn.clone(),
            group: launch.group,
            desired_status: "RUNNING".to_owned(),
            health_status: "UNKNOWN".to_owned(),
            launch_type: launch.launch_type.as_str().to_owned(),
            version: 0,
            availability_zone: az,
            containers: launch.definition.said.container_definitions.iter().map(container).collect(),
            ..api::Task::default()
        };
        self.attach(&mut said, &launch.definition, launch.is_connected);
        let times = Times { created: self.now_ms, updated: self.now_ms, ..Times::default() };
        let mut task = Task {
            said,
            status,
            definition: launch.definition,
            service: launch.service.clone(),
            started_by: launch.started_by,
            tags: Vec::new(),
            is_balanced: launch.is_balanced,
            host_ports: fixed_ports,
            times,
        };
        task.enter(status, self.now_ms);
        if let Some(service) = launch.service {
            self.members.entry(service).or_default().insert(task_arn.clone());
        }
        if let Some(instance) = instance {
            self.change_instance(&instance, |instance| {
                instance.tasks += 1;
                instance.ports.reserve(&task.host_ports);
            });
        }
        self.put_task(task);
        Some(task_arn)
    }

    fn attach(&mut self, said: &mut api::Task, definition: &Definition, is_connected: bool) {
        if is_connected {
            let name = format!("ecs-service-connect-{}", self.hex(5));
            let attachment = api::Attachment {
                id: self.uuid(),
                kind: "Service Connect".to_owned(),
                status: "ATTACHED".to_owned(),
                details: vec![("ContainerName".to_owned(), name.clone())],
            };
            said.attachments.push(attachment);
            said.containers.push(container_named(&name));
        }
        if definition.has_own_interface() {
            self.addresses_given += 1;
            let (id, address) = (self.uuid(), task_address(self.addresses_given));
            said.attachments.push(interface(&id, address));
            let shown = api::NetworkInterface { private_ipv4_address: Some(address.to_string()), ipv6_address: None };
            said.containers.iter_mut().for_each(|container| container.network_interfaces = vec![shown.clone()]);
        }
    }

    /// Goes on to the next status, if there is one.
    pub fn step_task(&mut self, arn: &str) {
        let Some(status) = self.tasks.get(arn).and_then(|task| task.next_status()) else { return };
        if status > Status::Pending && status <= Status::Running {
            self.run_containers(arn);
        }
        self.enter(arn, status);
    }

    /// As the agent says once the containers really run.
    pub fn task_runs(&mut self, arn: &str, ran: &[Ran]) {
        let Some(task) = self.tasks.get(arn).cloned() else { return };
        let mut said = task.said.containers.clone();
        for ran in ran {
            let Some(container) = said.iter_mut().find(|container| container.name == ran.container) else { continue };
            container.runtime_id = Some(ran.runtime_id.clone());
            container.network_bindings.clone_from(&ran.network_bindings);
            for interface in &mut container.network_interfaces {
                interface.private_ipv4_address.clone_from(&ran.address);
            }
        }
        let address = ran.iter().find_map(|ran| ran.address.clone());
        self.change_silently(arn, |task| {
            task.said.containers = said;
            let details = task.said.attachments.iter_mut().flat_map(|attachment| &mut attachment.details);
            let shown = details.filter(|(name, _)| name == "privateIPv4Address");
            shown.for_each(|(_, value)| *value = address.clone().unwrap_or_default());
        });
        while self.tasks.get(arn).is_some_and(|task| task.is_wanted() && task.status < Status::Running) {
            self.step_task(arn);
        }
    }

    /// Makes up ids and bindings for the containers that have none.
    fn run_containers(&mut self, arn: &str) {
        let Some(task) = self.tasks.get(arn).cloned() else { return };
        let mut containers = task.said.containers.clone();
        let id = last_part(arn);
        for container in containers.iter_mut().filter(|container| container.runtime_id.is_none()) {
            self.numbers_given += 1;
            container.runtime_id = Some(match task.said.container_instance_arn {
                Some(_) => self.hex(64),
                None => format!("{id}-{:010}", 527_074_092 + self.numbers_given),
            });
            let definitions = &task.definition.said.container_definitions;
            let definition = definitions.iter().find(|definition| definition.name == container.name);
            if let (Some(definition), Some(instance)) = (definition, &task.said.container_instance_arn) {
                let mode = &task.definition.said.network_mode;
                self.change_ports(instance, |ports| container.network_bindings = ports.bind(mode, definition));
            }
        }
        self.change_silently(arn, |task| {
            let bindings = containers.iter().flat_map(|container| host_ports(&container.network_bindings));
            task.host_ports = bindings.collect();
            task.said.containers = containers;
        });
    }

    /// Enters a status, whichever was before.
    pub fn enter(&mut self, arn: &str, status: Status) {
        let now_ms = self.now_ms;
        self.change_task(arn, |task| task.enter(status, now_ms));
        if status == Status::Stopped {
            self.leave(arn);
        }
    }

    /// Gives back what a task held, once it ended.
    fn leave(&mut self, arn: &str) {
        let Some(task) = self.tasks.get(arn).cloned() else { return };
        if let Some(instance) = &task.said.container_instance_arn {
            self.change_ports(instance, |ports| ports.free(&task.host_ports));
            self.change_instance(instance, |instance| instance.tasks = instance.tasks.saturating_sub(1));
        }
        if let Some(members) = task.service.as_ref().and_then(|service| self.members.get_mut(service)) {
            members.remove(arn);
        }
        self.agenda.add(self.now_ms + STOPPED_TASKS_KEPT_MS, Step::Forget(arn.to_owned()));
    }

    /// Orders a task to stop: `desiredStatus` is STOPPED from now on, and the rest follows.
    pub fn stop_task(&mut self, arn: &str, code: &str, reason: &str) {
        let now_ms = self.now_ms;
        if self.tasks.get(arn).is_none_or(|task| !task.is_wanted()) {
            return;
        }
        self.change_task(arn, |task| {
            "STOPPED".clone_into(&mut task.said.desired_status);
            task.said.stop_code = Some(code.to_owned());
            task.said.stopped_reason = Some(reason.to_owned());
            task.times.stopping = Some(now_ms);
        });
    }

    /// A container ended by itself. The agent reports that, and because it is essential the task is stopped.
    pub fn container_exits(&mut self, arn: &str, container: Option<&str>, exit_code: i64) {
        self.change_task(arn, |task| {
            let mut all = task.said.containers.iter_mut();
            if let Some(ended) = all.find(|found| container.is_none_or(|name| found.name == name)) {
                "STOPPED".clone_into(&mut ended.last_status);
                ended.exit_code = Some(exit_code);
            }
        });
        if let Some(service) = self.tasks.get(arn).and_then(|task| task.service.clone()) {
            self.count_failure(&service, arn);
        }
        self.stop_task(arn, "EssentialContainerExited", "Essential container in task exited");
    }

    /// How containers ended, which the next event will say.
    pub fn containers_exited(&mut self, arn: &str, exits: &[Exit]) {
        self.change_silently(arn, |task| {
            for container in &mut task.said.containers {
                let Some(exit) = exits.iter().find(|exit| exit.container == container.name) else { continue };
                container.exit_code = container.exit_code.or(Some(exit.code));
                container.reason = container.reason.take().or_else(|| exit.reason.clone());
            }
        });
    }

    /// Changes a task: its version rises, and an event says so.
    pub fn change_task(&mut self, arn: &str, change: impl FnOnce(&mut Task)) {
        let Some(mut task) = self.tasks.get(arn).map(|task| (**task).clone()) else { return };
        change(&mut task);
        self.put_task(task);
    }

    /// Changes what the next event will say.
    fn change_silently(&mut self, arn: &str, change: impl FnOnce(&mut Task)) {
        let Some(mut task) = self.tasks.get(arn).map(|task| (**task).clone()) else { return };
        change(&mut task);
        self.tasks.put(self.now_ms, arn, task);
    }

    fn put_task(&mut self, mut task: Task) {
        task.said.version += 1;
        task.times.updated = self.now_ms;
        self.unsettled.extend(task.service.clone());
        let arn = task.said.task_arn.clone();
        self.tasks.put(self.now_ms, &arn, task);
        self.tell_task(&arn);
        self.plan(&arn);
    }

    /// How tasks go on from now, those that wait for it, too.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
        let arns: Vec<String> = self.tasks.iter().map(|(arn, _)| arn.clone()).collect();
        arns.iter().for_each(|arn| self.plan(arn));
    }

    /// Plans a task's next step, where it takes one by itself.
    fn plan(&mut self, arn: &str) {
        let Some(task) = self.tasks.get(arn).filter(|task| task.next_status().is_some()) else { return };
        let from = task.status;
        let stay_ms = match self.pace {
            Pace::AtOnce => 0,
            Pace::Lifelike => self.random.random_range(Pace::stay_ms(from)),
            Pace::ByHand => return,
        };
        self.agenda.add(self.now_ms + stay_ms, Step::Task { arn: arn.to_owned(), from });
    }
}

fn container(definition: &api::ContainerDefinition) -> api::Container {
    container_named(&definition.name)
}

fn container_named(name: &str) -> api::Container {
    api::Container {
        name: name.to_owned(),
        last_status: "PENDING".to_owned(),
        health_status: "UNKNOWN".to_owned(),
        ..api::Container::default()
    }
}

/// The image of a container.
pub fn image_of(container: &str) -> String {
    format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{container}:latest")
}
