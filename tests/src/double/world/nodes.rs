//! Instances come and go.

use portolan_registry::ecs::api;
use rand::RngExt;

use super::agenda::Step;
use super::instance::{Instance, attributes};
use super::lifecycle::Launch;
use super::network::{HostPorts, fixed_ports};
use super::task::{LaunchType, Status, Task};
use super::{World, arn, last_part};

impl World {
    /// Registers an EC2 instance with a cluster; `addresses` begin with its private one. Gives the container instance's ARN.
    pub fn register_instance(&mut self, cluster: &str, az: &str, addresses: &[&str]) -> String {
        let id = format!("i-0{}", self.hex(16));
        let machine = api::Ec2Instance {
            instance_id: id.clone(),
            state: "running".to_owned(),
            addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
            availability_zone: Some(az.to_owned()),
        };
        self.machines.put(self.now_ms, &id, machine);
        self.tell_machine(&id);
        self.put_instance(cluster, id, Some(az))
    }

    /// Registers a machine elsewhere: its id begins with `mi-`, and EC2 does not know it.
    pub fn register_external(&mut self, cluster: &str) -> String {
        let id = format!("mi-0{}", self.hex(16));
        self.put_instance(cluster, id, None)
    }

    fn put_instance(&mut self, cluster: &str, id: String, az: Option<&str>) -> String {
        let hex = self.hex(32);
        let instance_arn = arn("container-instance", &[last_part(cluster), &hex]);
        let said = api::ContainerInstance {
            container_instance_arn: instance_arn.clone(),
            ec2_instance_id: id,
            status: "ACTIVE".to_owned(),
            agent_connected: true,
            version: 1,
            attributes: attributes(az),
        };
        let instance = Instance {
            said,
            cluster: cluster.to_owned(),
            takes: if az.is_some() { LaunchType::Ec2 } else { LaunchType::External },
            ports: HostPorts::default(),
            tasks: 0,
            registered_ms: self.now_ms,
            updated_ms: self.now_ms,
        };
        self.instances.put(self.now_ms, &instance_arn, instance);
        self.tell_instance(&instance_arn);
        self.offer_place(cluster);
        instance_arn
    }

    /// A service may have waited for a place.
    fn offer_place(&mut self, cluster: &str) {
        let waiting = self.services.iter().filter(|(_, service)| service.cluster == cluster);
        self.unsettled.extend(waiting.map(|(arn, _)| arn.clone()));
    }

    /// The instance with the fewest tasks that takes this one.
    pub(super) fn place(&mut self, launch: &Launch) -> Option<String> {
        let fixed = fixed_ports(&launch.definition);
        let instances = self.instances.iter().filter(|(_, instance)| {
            instance.cluster == launch.cluster
                && instance.takes == launch.launch_type
                && instance.takes_tasks()
                && instance.ports.fit(&fixed)
        });
        let best = instances.min_by_key(|(_, instance)| (instance.tasks, instance.registered_ms));
        best.map(|(arn, _)| arn.clone())
    }

    /// Changes an instance: its version rises, and an event says so.
    pub fn change_instance(&mut self, arn: &str, change: impl FnOnce(&mut Instance)) {
        let Some(mut instance) = self.instances.get(arn).map(|instance| (**instance).clone()) else { return };
        let took_tasks = instance.takes_tasks();
        change(&mut instance);
        instance.said.version += 1;
        instance.updated_ms = self.now_ms;
        let (cluster, takes_tasks) = (instance.cluster.clone(), instance.takes_tasks());
        self.instances.put(self.now_ms, arn, instance);
        self.tell_instance(arn);
        if takes_tasks && !took_tasks {
            self.offer_place(&cluster);
        }
    }

    /// Changes which ports are taken, which an event about the instance says.
    pub(super) fn change_ports(&mut self, arn: &str, change: impl FnOnce(&mut HostPorts)) {
        self.change_instance(arn, |instance| change(&mut instance.ports));
    }

    /// ACTIVE or DRAINING. Services move their tasks away from draining ones; standalone tasks stay.
    pub fn set_instance_status(&mut self, arn: &str, status: &str) {
        self.change_instance(arn, |instance| status.clone_into(&mut instance.said.status));
        let on_it = self.tasks_on(arn);
        let services = on_it.iter().filter_map(|task| self.tasks.get(task)?.service.clone());
        let services: Vec<String> = services.collect();
        self.unsettled.extend(services);
    }

    /// Sets `agentConnected`.
    pub fn connect_agent(&mut self, arn: &str, is_connected: bool) {
        self.change_instance(arn, |instance| instance.said.agent_connected = is_connected);
        let connectivity_changed = self.tasks_on(arn);
        // Tasks say it, too: `connectivity`.
        connectivity_changed.iter().for_each(|task| self.change_task(task, |_| ()));
    }

    /// The agent loses its connection about every `every_ms`, and has it again; for the first time after that time.
    pub fn flap(&mut self, arn: &str, every_ms: u64) {
        let wait_ms = self.random.random_range(1..=every_ms.max(1) * 2);
        self.agenda.add(self.now_ms + wait_ms, Step::Flap { instance: arn.to_owned(), every_ms });
    }

    pub(super) fn flap_now(&mut self, arn: &str, every_ms: u64) {
        self.change_instance(arn, |instance| instance.said.agent_connected = !instance.said.agent_connected);
        self.flap(arn, every_ms);
    }

    /// The machine's state in EC2: `running`, `stopping`, `stopped`, `shutting-down`, `terminated`.
    pub fn set_machine_state(&mut self, id: &str, state: &str) {
        let Some(mut machine) = self.machines.get(id).map(|machine| (**machine).clone()) else { return };
        state.clone_into(&mut machine.state);
        if state == "terminated" {
            // EC2 shows a terminated instance for about an hour, without its addresses.
            machine.addresses.clear();
        }
        self.machines.put(self.now_ms, id, machine);
        self.tell_machine(id);
    }

    /// The machine is terminated: EC2 says so, then the agent is gone, then ECS takes the instance and its tasks away.
    pub fn terminate_instance(&mut self, arn: &str) {
        let Some(id) = self.instances.get(arn).map(|instance| instance.said.ec2_instance_id.clone()) else { return };
        self.set_machine_state(&id, "shutting-down");
        self.change_instance(arn, |instance| instance.said.agent_connected = false);
        self.set_machine_state(&id, "terminated");
        let reason = format!("Host EC2 (instance {id}) terminated.");
        self.deregister_instance(arn, &reason);
    }

    /// ECS forgets an instance; its tasks are STOPPED at once, because nobody can be told to stop them.
    pub fn deregister_instance(&mut self, arn: &str, reason: &str) {
        for task in self.tasks_on(arn) {
            self.stop_task(&task, "TerminationNotice", reason);
            self.enter(&task, Status::Stopped);
        }
        self.change_instance(arn, |instance| {
            "INACTIVE".clone_into(&mut instance.said.status);
            instance.said.agent_connected = false;
        });
    }

    /// The tasks on an instance that have not ended.
    pub fn tasks_on(&self, instance: &str) -> Vec<String> {
        self.tasks_that(|task| task.said.container_instance_arn.as_deref() == Some(instance))
    }

    /// The tasks of a cluster that have not ended.
    pub fn tasks_of(&self, cluster: &str) -> Vec<String> {
        self.tasks_that(|task| task.said.cluster_arn == cluster)
    }

    fn tasks_that(&self, is_meant: impl Fn(&Task) -> bool) -> Vec<String> {
        let live = self.tasks.iter().filter(|(_, task)| task.status != Status::Stopped && is_meant(task));
        live.map(|(arn, _)| arn.clone()).collect()
    }
}
