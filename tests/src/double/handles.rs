//! What a test holds: a cluster, a node, a service, a task. Each is an ARN and the account it is in.

use std::sync::Arc;
use std::time::Duration;

use portolan_registry::ecs::api::{self, Message};

use super::queue::{Counts, Queue, Receive};
use super::world::definition::Definition;
use super::world::instance::Instance;
use super::world::service::NewService;
use super::world::task::Status;
use super::world::{Exit, Launch, Ran, World, arn, last_part, service, task};
use super::{Double, LaunchType, ServiceWish};

/// A cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(super) aws: Double,
    /// Its ARN.
    pub arn: String,
}

impl Cluster {
    /// An EC2 container instance at this private address, in zone `a`.
    pub fn instance(&self, address: &str) -> Node {
        self.instance_in("eu-central-1a", &[address])
    }

    /// An EC2 container instance in a zone, with several addresses, the private IPv4 address first.
    pub fn instance_in(&self, az: &str, addresses: &[&str]) -> Node {
        let arn = self.world(|world| world.register_instance(&self.arn, az, addresses));
        Node { aws: self.aws.clone(), arn }
    }

    /// A machine elsewhere (ECS Anywhere): `mi-...`, which EC2 does not know.
    pub fn external_instance(&self) -> Node {
        let arn = self.world(|world| world.register_external(&self.arn));
        Node { aws: self.aws.clone(), arn }
    }

    /// A service on the cluster's EC2 instances.
    pub fn service(&self, name: &str, definition: &Arc<Definition>, desired_count: u32) -> Service {
        self.service_as(name, (definition, desired_count), ServiceWish::default())
    }

    /// A service on Fargate.
    pub fn fargate(&self, name: &str, definition: &Arc<Definition>, desired_count: u32) -> Service {
        let wish = ServiceWish { launch_type: LaunchType::Fargate, ..ServiceWish::default() };
        self.service_as(name, (definition, desired_count), wish)
    }

    /// A service as the test wishes.
    pub fn service_as(
        &self,
        name: &str,
        (definition, desired_count): (&Arc<Definition>, u32),
        wish: ServiceWish,
    ) -> Service {
        let new = NewService { cluster: &self.arn, name, definition, desired_count, wish };
        let arn = self.world(|world| world.create_service(new));
        Service { aws: self.aws.clone(), arn }
    }

    /// A task outside any service, as RunTask starts it.
    ///
    /// # Panics
    /// When no instance takes it.
    pub fn run(&self, definition: &Arc<Definition>) -> Task {
        self.run_on(LaunchType::Ec2, definition)
    }

    /// As [`Cluster::run`], elsewhere than on EC2.
    ///
    /// # Panics
    /// When no instance takes it.
    pub fn run_on(&self, launch_type: LaunchType, definition: &Arc<Definition>) -> Task {
        let launch = Launch {
            cluster: self.arn.clone(),
            definition: definition.clone(),
            launch_type,
            group: format!("family:{}", definition.said.family),
            service: None,
            started_by: None,
            is_balanced: false,
            is_connected: false,
        };
        let arn = self.world(|world| world.launch(launch)).expect("an instance takes the task");
        self.aws.task(&arn)
    }

    /// Every task that has not ended: the truth, whatever listings say.
    pub fn tasks(&self) -> Vec<Task> {
        let arns = self.world(|world| world.tasks_of(&self.arn));
        arns.iter().map(|arn| self.aws.task(arn)).collect()
    }

    fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        self.aws.with(|state| act(&mut state.world))
    }
}

/// A container instance.
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) aws: Double,
    /// The container instance's ARN.
    pub arn: String,
}

impl Node {
    /// As ECS knows it.
    ///
    /// # Panics
    /// Never: instances are not forgotten.
    pub fn now(&self) -> Arc<Instance> {
        self.world(|world| world.instances.get(&self.arn).cloned()).expect("instances are not forgotten")
    }

    /// `i-...` or `mi-...`.
    pub fn id(&self) -> String {
        self.now().said.ec2_instance_id.clone()
    }

    /// The tasks on it that have not ended.
    pub fn tasks(&self) -> Vec<Task> {
        let arns = self.world(|world| world.tasks_on(&self.arn));
        arns.iter().map(|arn| self.aws.task(arn)).collect()
    }

    /// DRAINING: services move their tasks away.
    pub fn drain(&self) {
        self.world(|world| world.set_instance_status(&self.arn, "DRAINING"));
    }

    /// ACTIVE again.
    pub fn activate(&self) {
        self.world(|world| world.set_instance_status(&self.arn, "ACTIVE"));
    }

    /// Sets `agentConnected`.
    pub fn connect_agent(&self, is_connected: bool) {
        self.world(|world| world.connect_agent(&self.arn, is_connected));
    }

    /// From now on its agent loses the connection about this often, and has it again.
    pub fn flap(&self, every: Duration) {
        let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        self.world(|world| world.flap(&self.arn, every_ms));
    }

    /// The machine dies, and nobody tells ECS: its tasks stay RUNNING.
    pub fn die_unnoticed(&self) {
        self.connect_agent(false);
    }

    /// The machine is terminated.
    pub fn terminate(&self) {
        self.world(|world| world.terminate_instance(&self.arn));
    }

    /// The machine's state in EC2, such as `stopping`; ECS is not told.
    pub fn set_machine_state(&self, state: &str) {
        let id = self.id();
        self.world(|world| world.set_machine_state(&id, state));
    }

    /// Somebody deregisters it by force; the machine lives on.
    pub fn deregister(&self) {
        self.world(|world| world.deregister_instance(&self.arn, "Container instance deregistered."));
    }

    /// The warning two minutes before a spot instance goes.
    pub fn spot_warning(&self) {
        let id = self.id();
        self.world(|world| world.tell_spot_warning(&id));
    }

    /// The Auto Scaling group is about to terminate it.
    pub fn scaling_in(&self) {
        let id = self.id();
        self.world(|world| world.tell_termination(&id));
    }

    fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        self.aws.with(|state| act(&mut state.world))
    }
}

/// A service.
#[derive(Debug, Clone)]
pub struct Service {
    pub(super) aws: Double,
    /// Its ARN.
    pub arn: String,
}

impl Service {
    /// As ECS knows it.
    ///
    /// # Panics
    /// Never: services are not forgotten.
    pub fn now(&self) -> Arc<service::Service> {
        self.world(|world| world.services.get(&self.arn).cloned()).expect("services are not forgotten")
    }

    /// Its tasks that are to run, the oldest first.
    pub fn tasks(&self) -> Vec<Task> {
        let is_mine = |task: &task::Task| task.service.as_ref() == Some(&self.arn) && task.is_wanted();
        let mut found: Vec<(u64, String)> = self.world(|world| {
            let mine = world.tasks.iter().filter(|(_, task)| is_mine(task));
            mine.map(|(arn, task)| (task.times.created, arn.clone())).collect()
        });
        found.sort();
        found.iter().map(|(_, arn)| self.aws.task(arn)).collect()
    }

    /// Another number of tasks.
    pub fn scale(&self, desired_count: u32) {
        self.world(|world| world.scale(&self.arn, desired_count));
    }

    /// Replaces its tasks with those of another definition.
    pub fn deploy(&self, definition: &Arc<Definition>) {
        self.world(|world| world.deploy(&self.arn, Some(definition)));
    }

    /// Replaces its tasks with others of the same definition.
    pub fn redeploy(&self) {
        self.world(|world| world.deploy(&self.arn, None));
    }

    /// Its deployment is given up.
    pub fn fail_deployment(&self) {
        self.world(|world| world.fail_deployment(&self.arn));
    }

    /// Deletes it.
    pub fn delete(&self) {
        self.world(|world| world.delete_service(&self.arn));
    }

    fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        self.aws.with(|state| act(&mut state.world))
    }
}

/// A task.
#[derive(Debug, Clone)]
pub struct Task {
    pub(super) aws: Double,
    /// Its ARN.
    pub arn: String,
}

impl Task {
    /// As ECS knows it; `None` an hour after its end.
    pub fn look(&self) -> Option<Arc<task::Task>> {
        self.world(|world| world.tasks.get(&self.arn).cloned())
    }

    /// As ECS describes it.
    ///
    /// # Panics
    /// An hour after its end.
    pub fn now(&self) -> api::Task {
        self.look().expect("ECS still knows the task").said.clone()
    }

    /// 32 hexadecimal digits.
    pub fn id(&self) -> &str {
        last_part(&self.arn)
    }

    /// Goes on to its next status, if there is one: for [`super::Pace::ByHand`].
    pub fn step(&self) {
        self.world(|world| world.step_task(&self.arn));
    }

    /// Enters a status, whichever was before.
    pub fn enter(&self, status: Status) {
        self.world(|world| world.enter(&self.arn, status));
    }

    /// Its containers run, as Docker says.
    pub fn runs(&self, ran: &[Ran]) {
        self.world(|world| world.task_runs(&self.arn, ran));
    }

    /// Somebody stops it. The service starts another one.
    pub fn stop(&self, reason: &str) {
        self.world(|world| world.stop_task(&self.arn, "UserInitiated", reason));
    }

    /// Its first container ends by itself with this exit code.
    pub fn crash(&self, exit_code: i64) {
        self.world(|world| world.container_exits(&self.arn, None, exit_code));
    }

    /// A container ends by itself with this exit code.
    pub fn container_exits(&self, container: &str, exit_code: i64) {
        self.world(|world| world.container_exits(&self.arn, Some(container), exit_code));
    }

    /// How its containers ended, as Docker says; ECS tells it with the next change.
    pub fn exited(&self, exits: &[Exit]) {
        self.world(|world| world.containers_exited(&self.arn, exits));
    }

    /// HEALTHY, UNHEALTHY or UNKNOWN, and its containers likewise.
    pub fn set_health(&self, health: &str) {
        self.change(|task| task.set_health(health));
    }

    /// Changes whatever ECS knows of it; its version rises.
    pub fn change(&self, change: impl FnOnce(&mut task::Task)) {
        self.world(|world| world.change_task(&self.arn, change));
    }

    fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        self.aws.with(|state| act(&mut state.world))
    }
}

/// A queue of events.
#[derive(Debug, Clone)]
pub struct Events {
    pub(super) aws: Double,
    pub(super) name: String,
}

impl Events {
    /// Its URL in AWS. The double knows a queue by the last part.
    pub fn url(&self) -> String {
        let parts = arn("x", &[]);
        let mut parts = parts.split(':').skip(3);
        let (region, account) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        format!("https://sqs.{region}.amazonaws.com/{account}/{}", self.name)
    }

    /// How much is in it.
    pub fn counts(&self) -> Counts {
        self.aws.with(|state| {
            let now_ms = state.world.now_ms();
            let counts = state.queues.get(&self.name).map(|queue| queue.counts(now_ms));
            counts.unwrap_or(Counts { visible: 0, hidden: 0, delayed: 0 })
        })
    }

    /// Takes out everything that can be received.
    pub fn drain(&self) -> Vec<Message> {
        self.change(|queue, now_ms| {
            let all = Receive { messages_max: usize::MAX, visibility_ms: None, is_shuffled: false };
            let messages = queue.receive_in_order(now_ms, all);
            let deleted = messages.iter().filter(|message| queue.delete(&message.receipt_handle)).count();
            assert_eq!(deleted, messages.len(), "every receipt of its own is one");
            messages
        })
    }

    /// Puts any message in.
    pub fn send(&self, body: &str) {
        self.change(|queue, now_ms| queue.send(now_ms, now_ms, body.to_owned()));
        self.aws.shared.changed.notify_waiters();
    }

    /// Changes it, such as `visibility_ms` and `receives_max`.
    pub fn change<T: Default>(&self, change: impl FnOnce(&mut Queue, u64) -> T) -> T {
        self.aws.with(|state| {
            let now_ms = state.world.now_ms();
            state.queues.get_mut(&self.name).map(|queue| change(queue, now_ms)).unwrap_or_default()
        })
    }
}
