//! The ECS source against the double, in paused time: whatever goes wrong, nothing that runs is said to have ended; and once
//! nothing goes wrong any more, two listings say how things stand. `SEEDS=1000` runs more histories, `SEED=7` one.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use portolan_core::ecs::{EcsReport, InstanceStatus, Task, TaskStatus};
use portolan_core::view::Readiness;
use portolan_registry::catalog::Catalog;
use portolan_registry::clock::Clock;
use portolan_registry::ecs::status::Status;
use portolan_registry::ecs::{self, Source};
use portolan_registry::intake::Intake;
use portolan_registry::settings;
use portolan_registry::store::log::Log;
use portolan_registry::store::record::decode;
use portolan_registry::store::{
    Commit, CommitError, Entry, Identity, Key, Snapshot, Store, StoreError, Transaction, Watch, Write,
};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::{Publisher, Reader, published};
use portolan_tests::double::{BEGINNING_MS, Cluster, Definition, Double, Node, Service, world};

/// How many histories are run when nobody says.
const SEEDS: u64 = 20;
/// How often something happens in one.
const ROUNDS: usize = 30;
/// In how long, of a small cluster that is listed without trouble, two listings are made and events have come.
const HEALED_WITHIN: Duration = Duration::from_secs(180);

/// An answer that is under way.
type Answer<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// A store in memory that checks each commit against what is true: there is no thread beside the test, so time may pause.
#[derive(Debug)]
struct Memory {
    identity: Identity,
    log: Log,
    held: Mutex<Snapshot>,
    aws: Double,
    wrongs: Mutex<Vec<String>>,
}

impl Memory {
    fn new(aws: &Double) -> Self {
        Memory {
            identity: Identity::new(BEGINNING_MS, 1),
            log: Log::new(0),
            held: Mutex::default(),
            aws: aws.clone(),
            wrongs: Mutex::default(),
        }
    }

    fn reports(&self) -> BTreeMap<String, EcsReport> {
        let held = self.held.lock().expect("nobody panics while holding it");
        let of_ecs = held.entries.iter().filter_map(|entry| match &entry.key {
            Key::Ecs(node) => Some((node.node.to_string(), decode(&entry.value).expect("the source wrote it"))),
            _ => None,
        });
        of_ecs.collect()
    }

    fn tasks(&self) -> BTreeMap<String, Task> {
        let tasks = self.reports().into_values().flat_map(|report| report.tasks);
        tasks.map(|task| (task.arn.clone(), task)).collect()
    }

    fn apply(&self, transaction: Transaction) -> u64 {
        let before = self.tasks();
        let revision = {
            let mut held = self.held.lock().expect("nobody panics while holding it");
            held.revision += 1;
            let revision = held.revision;
            for write in &transaction.writes {
                let (Write::Put(key, _) | Write::Delete(key)) = write;
                held.entries.retain(|entry| entry.key != *key);
                if let Write::Put(key, value) = write {
                    let (key, value) = (key.clone(), value.clone());
                    held.entries.push(Entry { key, value, revision, at_ms: transaction.at_ms });
                }
            }
            held.entries.sort_by(|a, b| a.key.cmp(&b.key));
            revision
        };
        self.log.append(vec![Commit { revision, at_ms: transaction.at_ms, writes: transaction.writes }]);
        self.check(&before);
        revision
    }

    /// Whether anything is said to have ended, or is no longer said, that is there.
    fn check(&self, before: &BTreeMap<String, Task>) {
        let now = self.tasks();
        let mut wrongs = Vec::new();
        let live = |arn: &str| self.aws.task(arn).look().filter(|task| task.said.last_status != "STOPPED");
        for (arn, task) in &now {
            let Some(truth) = live(arn) else { continue };
            if task.status == TaskStatus::Stopped || (!task.is_wanted && truth.said.desired_status == "RUNNING") {
                wrongs.push(format!("{arn} is {} and said to be {:?}", truth.said.last_status, task.status));
            }
        }
        // One that was said to be on its way is in no answer yet: the source may let go of it when listings lack it.
        let ran = before.iter().filter(|(_, task)| task.status != TaskStatus::Pending).map(|(arn, _)| arn);
        let lost = ran.filter(|arn| !now.contains_key(*arn) && live(arn).is_some());
        wrongs.extend(lost.map(|arn| format!("{arn} runs and is no longer said")));
        for report in self.reports().into_values() {
            let Some(instance) = report.instance.filter(|own| own.status == InstanceStatus::Terminated) else {
                continue;
            };
            let state = self.aws.with(|state| state.world.machines.get(&instance.ec2_id).map(|own| own.state.clone()));
            if state.as_deref() == Some("running") {
                wrongs.push(format!("{} runs and is said to have ended", instance.ec2_id));
            }
        }
        self.wrongs.lock().expect("nobody panics while holding it").extend(wrongs);
    }
}

impl Store for Memory {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn load(&self) -> Answer<'_, Snapshot, StoreError> {
        let held = self.held.lock().expect("nobody panics while holding it").clone();
        Box::pin(async { Ok(held) })
    }

    fn watch(&self, revision: u64) -> Watch {
        self.log.watch(revision)
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, u64, CommitError> {
        let revision = self.apply(transaction);
        Box::pin(async move { Ok(revision) })
    }
}

/// AWS, and the source that is asked to tell of it.
struct Scene {
    aws: Double,
    cluster: Cluster,
    nodes: Vec<Node>,
    services: Vec<Service>,
    definitions: Vec<Arc<Definition>>,
    store: Arc<Memory>,
    status: Reader<Status>,
    _catalog: Publisher<Catalog>,
    jobs: Jobs,
    random: StdRng,
}

impl Scene {
    async fn start(seed: u64) -> anyhow::Result<Self> {
        let aws = Double::new(seed);
        let queue = aws.queue("events");
        aws.pace(world::Pace::Lifelike);
        let cluster = aws.cluster("prod");
        let nodes = (1..=3).map(|n| cluster.instance(&format!("10.0.0.{n}"))).collect();
        let bridge = |name: &str| aws.define(Definition::bridge(name).port(80).named("http"));
        let definitions = vec![bridge("web"), bridge("api"), aws.define(Definition::awsvpc("jobs").port(8080))];
        let services = vec![
            cluster.service("web", &definitions[0], 4),
            cluster.service("api", &definitions[1], 3),
            cluster.fargate("jobs", &definitions[2], 3),
        ];
        let store = Arc::new(Memory::new(&aws));
        let clock = Clock::starting_at(BEGINNING_MS);
        let intake = Arc::new(Intake::open(store.clone(), clock.now()).await?);
        let mut catalog = Catalog::default();
        catalog.view.readiness = Readiness::Current;
        let (catalog, reader) = published(catalog);
        let settings = settings::Aws {
            clusters: vec!["prod".to_owned()],
            queue: Some(queue.url()),
            calls_per_second: 2,
            ..settings::Aws::default()
        };
        let jobs = Jobs::new();
        let metrics = ecs::Metrics::default();
        let source = Source { aws: Arc::new(aws.clone()), intake, catalog: reader, clock, settings, metrics, seed };
        let status = ecs::start(&jobs, source).await?;
        let random = StdRng::seed_from_u64(seed);
        Ok(Scene { aws, cluster, nodes, services, definitions, store, status, _catalog: catalog, jobs, random })
    }

    /// Something happens in AWS.
    fn happen(&mut self) {
        let service = self.random.random_range(0..self.services.len());
        let node = self.random.random_range(0..self.nodes.len());
        let tasks = self.services[service].tasks();
        let task = (!tasks.is_empty()).then(|| &tasks[self.random.random_range(0..tasks.len())]);
        match self.random.random_range(0..12) {
            0 | 1 => self.services[service].scale(self.random.random_range(0..8)),
            2 => self.services[service].redeploy(),
            3 => task.into_iter().for_each(|task| task.stop("by chance")),
            4 => task.into_iter().for_each(|task| task.crash(1)),
            5 => self.nodes[node].drain(),
            6 => self.nodes[node].activate(),
            7 => self.nodes[node].terminate(),
            8 => {
                let address = format!("10.0.1.{}", self.nodes.len());
                self.nodes.push(self.cluster.instance(&address));
            }
            9 => drop(self.cluster.run_on(world::task::LaunchType::Fargate, &self.definitions[2])),
            10 => self.nodes[node].flap(Duration::from_secs(90)),
            _ => {}
        }
    }

    /// Lets much happen while much goes wrong.
    async fn live(&mut self) {
        for round in 0..ROUNDS {
            if round % 6 == 0 {
                self.aws.heal();
                let chance_max = [0.05, 0.3, 0.9][self.random.random_range(0..3)];
                self.aws.go_wild(chance_max);
            }
            self.happen();
            sleep(Duration::from_millis(self.random.random_range(100..45_000))).await;
        }
    }

    /// Two listings without trouble.
    async fn heal(&mut self) -> anyhow::Result<Duration> {
        self.aws.heal();
        let healed = Instant::now();
        let listed = |status: &Status| status.clusters.values().next().and_then(|own| own.listed_ms);
        for _ in 0..3 {
            let before = listed(&self.status.load());
            let wait = self.status.wait_for(|status| listed(status) > before);
            let within = tokio::time::timeout(HEALED_WITHIN, wait).await;
            within.with_context(|| format!("no listing: {:#?}", self.status.load()))?;
        }
        // What it takes to look up what the last one brought.
        sleep(Duration::from_secs(20)).await;
        Ok(healed.elapsed())
    }

    /// What is said and is not so, now that nothing goes wrong.
    fn differences(&self) -> Vec<String> {
        let said = self.store.tasks();
        let truth: BTreeMap<String, _> = self.aws.with(|state| {
            let all = state.world.tasks.iter();
            all.map(|(arn, task)| (arn.clone(), task.said.clone())).collect()
        });
        let live: BTreeSet<&String> =
            truth.iter().filter(|(_, task)| task.last_status != "STOPPED").map(|(arn, _)| arn).collect();
        let mut differences = Vec::new();
        for arn in &live {
            match said.get(*arn) {
                // It may have changed since; what is said may be behind by what goes on this very moment.
                Some(task) if !task.is_missing => {
                    if !task.is_wanted && truth[*arn].desired_status == "RUNNING" {
                        differences.push(format!("{arn} is wanted: {task:#?}"));
                    }
                }
                other => differences.push(format!("{arn} is {}, and this is said: {other:?}", truth[*arn].last_status)),
            }
        }
        for (arn, task) in said.iter().filter(|(arn, _)| !live.contains(arn)) {
            if task.status == TaskStatus::Running && task.is_wanted && !task.is_missing {
                differences.push(format!("{arn} does not run, and is said to"));
            }
        }
        let running = said.values().filter(|task| task.status == TaskStatus::Running && task.is_wanted);
        let portless = running.filter(|task| task.containers.iter().any(|own| own.report.ports.is_empty()));
        // ECS goes on to tell of tasks on a machine that ended, for a while; EC2 tells its addresses no more.
        let portless = portless.filter(|task| self.machine_state_of(&task.arn).is_none_or(|state| state == "running"));
        differences.extend(portless.map(|task| format!("{} has no ports: {task:#?}", task.arn)));
        differences
    }

    /// What EC2 says of the machine under a task; `None`: there is none.
    fn machine_state_of(&self, task_arn: &str) -> Option<String> {
        self.aws.with(|state| {
            let instance_arn = state.world.tasks.get(task_arn)?.said.container_instance_arn.clone()?;
            let instance = state.world.instances.get(&instance_arn)?;
            state.world.machines.get(&instance.said.ec2_instance_id).map(|machine| machine.state.clone())
        })
    }

    fn wrongs(&self) -> Vec<String> {
        self.store.wrongs.lock().expect("nobody panics while holding it").clone()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.jobs.shut_down();
    }
}

fn seeds() -> anyhow::Result<Vec<u64>> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse()).transpose();
    match (number("SEED")?, number("SEEDS")?) {
        (Some(seed), _) => Ok(vec![seed]),
        (None, count) => Ok((0..count.unwrap_or(SEEDS)).collect()),
    }
}

#[test]
fn whatever_goes_wrong_nothing_that_runs_is_said_to_have_ended() -> anyhow::Result<()> {
    for seed in seeds()? {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        runtime.block_on(async {
            let mut scene = Scene::start(seed).await?;
            scene.live().await;
            let healed = scene.heal().await?;
            let (wrongs, differences) = (scene.wrongs(), scene.differences());
            anyhow::ensure!(wrongs.is_empty(), "seed {seed}: {wrongs:#?}");
            anyhow::ensure!(differences.is_empty(), "seed {seed}, healed for {healed:?}: {differences:#?}");
            let busiest = scene.aws.busiest(Duration::from_secs(1));
            anyhow::ensure!(busiest <= 2, "seed {seed}: {busiest} calls in a second");
            Ok(())
        })?;
    }
    Ok(())
}
