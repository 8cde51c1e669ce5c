//! An AWS of a few words, for tests of the source: what runs is data, every call is written down, and any may fail.

mod shapes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use portolan_core::ecs::EcsReport;
use portolan_core::name::NodeKey;
use portolan_core::view::Readiness;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::{Publisher, Reader, published};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::api::*;
use super::status::Status;
use super::{Metrics, Source};
use crate::catalog::Catalog;
use crate::catalog::needs::NameNeeds;
use crate::clock::Clock;
use crate::intake::Intake;
use crate::intake::statement::Held;
use crate::settings;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::testing::{NOW_MS, label, node};

pub(crate) use shapes::{bridge_definition, instance, instance_arn, task_arn, task_on, task_on_fargate};

pub(crate) const CLUSTER: &str = "arn:aws:ecs:eu-west-1:1:cluster/prod";
/// Where the ARNs of its tasks begin.
pub(crate) const TASKS: &str = "arn:aws:ecs:eu-west-1:1:task/prod";

type Fault = Box<dyn FnMut(&'static str) -> Option<CallError> + Send>;

/// What runs, and how AWS behaves.
pub(crate) struct World {
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) instances: BTreeMap<String, ContainerInstance>,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) definitions: BTreeMap<String, TaskDefinition>,
    pub(crate) machines: BTreeMap<String, Ec2Instance>,
    pub(crate) queue: VecDeque<Message>,
    pub(crate) received: BTreeMap<String, Message>,
    /// ARNs that listings lack although they are there.
    pub(crate) unlisted: BTreeSet<String>,
    pub(crate) page: usize,
    /// Whether the second page's token comes again.
    pub(crate) goes_in_circles: bool,
    pub(crate) calls: Vec<(Instant, &'static str)>,
    pub(crate) fault: Option<Fault>,
}

pub(crate) struct ScriptedAws {
    world: Mutex<World>,
    arrived: Notify,
}

impl fmt::Debug for ScriptedAws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedAws")
    }
}

impl ScriptedAws {
    pub(crate) fn new() -> Arc<ScriptedAws> {
        let world = World {
            tasks: BTreeMap::new(),
            instances: BTreeMap::new(),
            services: BTreeMap::new(),
            definitions: BTreeMap::new(),
            machines: BTreeMap::new(),
            queue: VecDeque::new(),
            received: BTreeMap::new(),
            unlisted: BTreeSet::new(),
            page: 100,
            goes_in_circles: false,
            calls: Vec::new(),
            fault: None,
        };
        Arc::new(ScriptedAws { world: Mutex::new(world), arrived: Notify::new() })
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.world.lock().unwrap())
    }

    /// `count` instances with `per_instance` tasks of `services` services each.
    pub(crate) fn populate(&self, count: usize, per_instance: usize, services: usize) {
        self.with(|world| {
            for number in 0..count {
                world.add_instance(number);
                for task in 0..per_instance {
                    let service = format!("web{}", (number + task) % services);
                    world.add(task_on(number * per_instance + task, number, &service));
                }
            }
        });
    }

    pub(crate) fn send(&self, id: &str, body: String) {
        self.with(|world| {
            let message =
                Message { message_id: id.to_owned(), receipt_handle: format!("r-{id}"), body, receive_count: 0 };
            world.queue.push_back(message);
        });
        self.arrived.notify_one();
    }

    /// The most calls of ECS and EC2 that any second saw since `since`, and all of them.
    pub(crate) fn calls_since(&self, since: Instant) -> (usize, usize) {
        let calls = self.with(|world| world.calls.clone());
        let calls = calls.into_iter().filter(|(at, action)| *at >= since && !action.starts_with("sqs:"));
        let times: Vec<Instant> = calls.map(|(at, _)| at).collect();
        let within =
            |first: Instant| times.iter().filter(|at| (first..first + Duration::from_secs(1)).contains(at)).count();
        (times.iter().map(|first| within(*first)).max().unwrap_or(0), times.len())
    }

    fn answer<T>(
        &self,
        action: &'static str,
        answer: impl FnOnce(&mut World) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        self.with(|world| {
            world.calls.push((Instant::now(), action));
            match world.fault.as_mut().and_then(|fault| fault(action)) {
                Some(error) => Err(error),
                None => answer(world),
            }
        })
    }
}

impl World {
    pub(crate) fn add(&mut self, task: Task) {
        let arn = task.task_definition_arn.clone();
        let mode = if task.launch_type == "FARGATE" { "awsvpc" } else { "bridge" };
        let definition = TaskDefinition { network_mode: mode.to_owned(), ..bridge_definition(&arn) };
        self.definitions.entry(arn).or_insert(definition);
        let name = task.group.trim_start_matches("service:").to_owned();
        let arn = format!("arn:aws:ecs:eu-west-1:1:service/prod/{name}");
        self.services.entry(arn.clone()).or_insert_with(|| Service {
            service_arn: arn,
            service_name: name,
            status: "ACTIVE".to_owned(),
            ..Service::default()
        });
        self.tasks.insert(task.task_arn.clone(), task);
    }

    pub(crate) fn add_instance(&mut self, number: usize) {
        let instance = instance(number);
        let machine = Ec2Instance {
            instance_id: instance.ec2_instance_id.clone(),
            state: "running".to_owned(),
            addresses: vec![format!("10.0.{}.{}", number / 250, number % 250 + 1)],
            availability_zone: Some("eu-west-1a".to_owned()),
        };
        self.machines.insert(machine.instance_id.clone(), machine);
        self.instances.insert(instance.container_instance_arn.clone(), instance);
    }

    /// Lets a task end.
    pub(crate) fn stop(&mut self, arn: &str) {
        let task = self.tasks.get_mut(arn).unwrap();
        (task.last_status, task.desired_status) = ("STOPPED".to_owned(), "STOPPED".to_owned());
        task.version += 1;
        task.stop_code = Some("EssentialContainerExited".to_owned());
        task.stopped_reason = Some("Essential container in task exited".to_owned());
    }

    fn pages<'a>(&self, arns: impl Iterator<Item = &'a String>, token: Option<String>) -> Page {
        let arns: Vec<String> = arns.filter(|arn| !self.unlisted.contains(*arn)).cloned().collect();
        let number: usize = token.map_or(0, |token| token.parse().unwrap());
        let pages: Vec<_> = arns.chunks(self.page).collect();
        let has_next = number + 1 < pages.len();
        let next = if self.goes_in_circles && number >= 1 { 1 } else { number + 1 };
        Page {
            arns: pages.get(number).map(|page| page.to_vec()).unwrap_or_default(),
            next: (has_next || self.goes_in_circles).then(|| next.to_string()),
        }
    }
}

fn described<T: Clone>(all: &BTreeMap<String, T>, arns: &[String]) -> Described<T> {
    let items = arns.iter().filter_map(|arn| all.get(arn).cloned()).collect();
    let lacking = arns.iter().filter(|arn| !all.contains_key(*arn));
    Described { items, failures: lacking.map(|arn| (arn.clone(), "MISSING".to_owned())).collect() }
}

impl Aws for ScriptedAws {
    fn describe_clusters(&self, _: Vec<String>) -> Answer<'_, Described<Cluster>> {
        let prod = || Cluster {
            cluster_arn: CLUSTER.to_owned(),
            cluster_name: "prod".to_owned(),
            status: "ACTIVE".to_owned(),
        };
        let result =
            self.answer("ecs:DescribeClusters", |_| Ok(Described { items: vec![prod()], failures: Vec::new() }));
        async move { result }.boxed()
    }

    fn list_tasks(&self, _: String, desired: Desired, token: Option<String>) -> Answer<'_, Page> {
        let wanted = if desired == Desired::Running { "RUNNING" } else { "STOPPED" };
        let result = self.answer("ecs:ListTasks", |world| {
            let of_kind = world.tasks.iter().filter(|(_, task)| task.desired_status == wanted);
            Ok(world.pages(of_kind.map(|(arn, _)| arn), token))
        });
        async move { result }.boxed()
    }

    fn describe_tasks(&self, _: String, arns: Vec<String>) -> Answer<'_, Described<Task>> {
        assert!(arns.len() <= DESCRIBE_MAX);
        // AWS takes ids as well.
        let arn = |name: String| if name.starts_with("arn:") { name } else { format!("{TASKS}/{name}") };
        let arns: Vec<String> = arns.into_iter().map(arn).collect();
        let result = self.answer("ecs:DescribeTasks", |world| Ok(described(&world.tasks, &arns)));
        async move { result }.boxed()
    }

    fn list_container_instances(&self, _: String, token: Option<String>) -> Answer<'_, Page> {
        let result = self.answer("ecs:ListContainerInstances", |world| {
            let listed = world.instances.iter().filter(|(_, instance)| instance.status != "INACTIVE");
            Ok(world.pages(listed.map(|(arn, _)| arn), token))
        });
        async move { result }.boxed()
    }

    fn describe_container_instances(&self, _: String, arns: Vec<String>) -> Answer<'_, Described<ContainerInstance>> {
        assert!(arns.len() <= DESCRIBE_MAX);
        let result = self.answer("ecs:DescribeContainerInstances", |world| Ok(described(&world.instances, &arns)));
        async move { result }.boxed()
    }

    fn list_services(&self, _: String, token: Option<String>) -> Answer<'_, Page> {
        let result = self.answer("ecs:ListServices", |world| Ok(world.pages(world.services.keys(), token)));
        async move { result }.boxed()
    }

    fn describe_services(&self, _: String, arns: Vec<String>) -> Answer<'_, Described<Service>> {
        assert!(arns.len() <= DESCRIBE_SERVICES_MAX);
        let result = self.answer("ecs:DescribeServices", |world| Ok(described(&world.services, &arns)));
        async move { result }.boxed()
    }

    fn describe_task_definition(&self, arn: String) -> Answer<'_, TaskDefinition> {
        let action = "ecs:DescribeTaskDefinition";
        let result = self.answer(action, |world| {
            let found = world.definitions.get(&arn).cloned();
            found.ok_or(CallError::NotFound { action, message: arn })
        });
        async move { result }.boxed()
    }

    fn describe_instances(&self, ids: Vec<String>) -> Answer<'_, Vec<Ec2Instance>> {
        assert!(ids.len() <= DESCRIBE_MAX);
        let result = self.answer("ec2:DescribeInstances", |world| {
            Ok(ids.iter().filter_map(|id| world.machines.get(id).cloned()).collect())
        });
        async move { result }.boxed()
    }

    fn receive_messages(&self, _: String) -> Answer<'_, Vec<Message>> {
        async move {
            timeout(Duration::from_secs(20), async {
                while self.with(|world| world.queue.is_empty()) {
                    self.arrived.notified().await;
                }
            })
            .await
            .ok();
            self.answer("sqs:ReceiveMessage", |world| {
                let count = world.queue.len().min(MESSAGES_MAX);
                let mut messages: Vec<Message> = world.queue.drain(..count).collect();
                for message in &mut messages {
                    message.receive_count += 1;
                    world.received.insert(message.receipt_handle.clone(), message.clone());
                }
                Ok(messages)
            })
        }
        .boxed()
    }

    fn delete_messages(&self, _: String, receipts: Vec<String>) -> Answer<'_, ()> {
        let result = self.answer("sqs:DeleteMessage", |world| {
            receipts.iter().for_each(|receipt| drop(world.received.remove(receipt)));
            Ok(())
        });
        async move { result }.boxed()
    }
}

/// The source with a store, both running, until dropped.
pub(crate) struct Running {
    pub(crate) aws: Arc<ScriptedAws>,
    pub(crate) intake: Arc<Intake>,
    catalog: Publisher<Catalog>,
    pub(crate) status: Reader<Status>,
    pub(crate) started: Instant,
    store: Arc<MemoryStore>,
    jobs: Jobs,
}

impl Running {
    pub(crate) async fn start(aws: Arc<ScriptedAws>, store: Arc<MemoryStore>) -> Running {
        let clock = Clock::starting_at(NOW_MS);
        let intake = Arc::new(Intake::open(store.clone(), clock.now()).await.unwrap());
        let mut catalog = Catalog::default();
        catalog.view.readiness = Readiness::Current;
        let (catalog, reader) = published(catalog);
        let settings = settings::Aws {
            clusters: vec!["prod".to_owned()],
            queue: Some("https://sqs/queue".to_owned()),
            calls_per_second: 2,
            ..settings::Aws::default()
        };
        let jobs = Jobs::new();
        let started = Instant::now();
        let source = Source {
            aws: aws.clone(),
            intake: intake.clone(),
            catalog: reader,
            clock,
            settings,
            metrics: Metrics::default(),
            seed: 7,
        };
        let status = super::start(&jobs, source).await.unwrap();
        Running { aws, intake, catalog, status, started, store, jobs }
    }

    /// From now on containers wait for ECS to tell of these tasks.
    pub(crate) fn awaits(&self, tasks: &[&str]) {
        let tasks = tasks.iter().map(|id| (label("prod"), (*id).to_owned())).collect();
        let mut catalog = Catalog::clone(&self.catalog.load());
        catalog.name_needs.insert(node("i-0"), Arc::new(NameNeeds { tasks, ..NameNeeds::default() }));
        self.catalog.publish(Arc::new(catalog));
    }

    /// What the store holds.
    pub(crate) async fn held(&self) -> Held {
        self.intake.held_of_ecs().await.unwrap()
    }

    /// The reports of all nodes and parts.
    pub(crate) async fn reports(&self) -> BTreeMap<NodeKey, EcsReport> {
        self.held().await.reports
    }

    /// Waits until the store holds what satisfies `holds`, at most for this (paused) time.
    pub(crate) async fn eventually(&self, within: Duration, holds: impl Fn(&Held) -> bool) -> Held {
        let wait = async {
            let mut watch = self.store.watch(0);
            loop {
                let held = self.held().await;
                if holds(&held) {
                    return held;
                }
                watch.next().await;
            }
        };
        match timeout(within, wait).await {
            Ok(held) => held,
            Err(_) => panic!("not within {within:?}: {:#?}\n{:#?}", self.held().await, self.status.load()),
        }
    }

    /// Waits until a listing that began after now is complete.
    pub(crate) async fn listed(&mut self) {
        let complete = |status: &Status| status.clusters.values().next().and_then(|cluster| cluster.listed_ms);
        let before = complete(&self.status.load());
        let first = self.status.wait_for(|status| complete(status) > before).await.unwrap();
        let between = complete(&first);
        self.status.wait_for(|status| complete(status) > between).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.jobs.shut_down();
    }
}
