//! AWS as it is: clusters, instances, services and tasks, and what happens to them. Pure: time and chance come from outside.
//!
//! What happens later stands in the agenda and is done when the time is told to be past it, so nothing runs beside the
//! test. It knows nothing of calls, pages or faults: those are lies about this world, told by [`super::actions`].

mod agenda;
pub mod definition;
pub mod events;
pub mod instance;
mod lifecycle;
pub mod network;
mod nodes;
pub mod recorded;
mod scheduler;
pub mod service;
pub mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use portolan_registry::ecs::api;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub use agenda::Pace;
use agenda::{Agenda, Step};
use definition::Definition;
use events::Event;
use instance::Instance;
pub use lifecycle::{Exit, Launch, Ran, image_of};
use recorded::Objects;
use service::Service;
use task::Task;

/// The region of everything.
pub const REGION: &str = "eu-central-1";
/// The account of everything.
pub const ACCOUNT: &str = "123456789012";
/// How long ECS remembers a task that stopped.
pub const STOPPED_TASKS_KEPT_MS: u64 = 3_600_000;
/// More steps than any test means: a world that goes round in circles.
const STEPS_MAX: usize = 10_000_000;

/// Everything that is there.
#[derive(Debug)]
pub struct World {
    /// By name.
    pub clusters: BTreeMap<String, api::Cluster>,
    /// By ARN. They never change and never go away.
    pub definitions: BTreeMap<String, Arc<Definition>>,
    /// Container instances.
    pub instances: Objects<Instance>,
    /// EC2 instances, by id.
    pub machines: Objects<api::Ec2Instance>,
    /// Services.
    pub services: Objects<Service>,
    /// Tasks, those that ended for another hour.
    pub tasks: Objects<Task>,
    /// What happened and was not yet told. Nothing is put there while nobody listens.
    pub outbox: Vec<Event>,
    /// Whether somebody listens to events.
    pub is_heard: bool,
    now_ms: u64,
    random: StdRng,
    pace: Pace,
    agenda: Agenda,
    /// The tasks of a service that have not ended.
    members: BTreeMap<String, BTreeSet<String>>,
    /// Services whose tasks changed.
    unsettled: BTreeSet<String>,
    addresses_given: u32,
    numbers_given: u64,
}

impl World {
    /// An empty one, at `now_ms` (Unix). Everything that is by chance follows from the seed.
    pub fn new(seed: u64, now_ms: u64) -> Self {
        World {
            clusters: BTreeMap::new(),
            definitions: BTreeMap::new(),
            instances: Objects::default(),
            machines: Objects::default(),
            services: Objects::default(),
            tasks: Objects::default(),
            outbox: Vec::new(),
            is_heard: false,
            now_ms,
            random: StdRng::seed_from_u64(seed),
            pace: Pace::AtOnce,
            agenda: Agenda::default(),
            members: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            addresses_given: 0,
            numbers_given: 0,
        }
    }

    /// The time up to which everything has happened.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// When something happens next by itself.
    pub fn next_ms(&self) -> Option<u64> {
        self.agenda.next_ms()
    }

    /// Lets everything happen that is due by `now_ms`.
    ///
    /// # Panics
    /// When it does not come to an end.
    pub fn advance(&mut self, now_ms: u64) {
        for _ in 0..STEPS_MAX {
            let due_ms = self.agenda.next_ms().filter(|due_ms| *due_ms <= now_ms);
            if due_ms.is_none_or(|due_ms| due_ms > self.now_ms)
                && let Some(service) = self.unsettled.pop_first()
            {
                self.reconcile(&service);
                continue;
            }
            let Some(due_ms) = due_ms else {
                self.now_ms = self.now_ms.max(now_ms);
                return;
            };
            self.now_ms = self.now_ms.max(due_ms);
            if let Some(step) = self.agenda.pop() {
                self.perform(step);
            }
        }
        assert!(self.agenda.next_ms().is_none_or(|due_ms| due_ms > now_ms), "the world does not come to rest");
    }

    /// Lets everything happen that follows at once.
    pub fn settle(&mut self) {
        self.advance(self.now_ms);
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Task { arn, from } => {
                if self.tasks.get(&arn).is_some_and(|task| task.status == from) {
                    self.step_task(&arn);
                }
            }
            Step::Forget(arn) => self.tasks.remove(&arn),
            Step::Flap { instance, every_ms } => self.flap_now(&instance, every_ms),
        }
    }

    /// A cluster, made if it is not there.
    pub fn cluster(&mut self, name: &str) -> api::Cluster {
        let make = || api::Cluster {
            cluster_arn: arn("cluster", &[name]),
            cluster_name: name.to_owned(),
            status: "ACTIVE".to_owned(),
        };
        self.clusters.entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// A cluster by its name or ARN.
    pub fn find_cluster(&self, name_or_arn: &str) -> Option<&api::Cluster> {
        self.clusters.get(name_or_arn.rsplit('/').next().unwrap_or(name_or_arn))
    }

    /// Registers a task definition as the next revision of its family.
    pub fn define(&mut self, definition: Definition) -> Arc<Definition> {
        let family = definition.said.family.clone();
        let same = self.definitions.values().filter(|known| known.said.family == family);
        let revision = same.count() as u64 + 1;
        let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{family}:{revision}");
        let definition = Arc::new(definition.registered(arn.clone(), revision));
        self.definitions.insert(arn, definition.clone());
        definition
    }

    /// A task definition by its ARN, `family:revision`, or `family` for the latest.
    pub fn find_definition(&self, name: &str) -> Option<&Arc<Definition>> {
        let name = name.rsplit('/').next().unwrap_or(name);
        let mut known = self.definitions.values();
        match name.split_once(':') {
            Some((family, revision)) => {
                known.find(|known| known.said.family == family && revision.parse() == Ok(known.said.revision))
            }
            None => known.filter(|known| known.said.family == name).max_by_key(|known| known.said.revision),
        }
    }

    /// A stream of chance of its own, which follows from the seed, too.
    pub fn chance(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.random.random())
    }

    /// An address for another machine.
    pub fn next_host_address(&mut self) -> Ipv4Addr {
        self.addresses_given += 1;
        network::host_address(self.addresses_given)
    }

    /// Hexadecimal digits by chance.
    fn hex(&mut self, digits: usize) -> String {
        let mut hex: String =
            (0..digits.div_ceil(16)).map(|_| format!("{:016x}", self.random.random::<u64>())).collect();
        hex.truncate(digits);
        hex
    }

    /// An id as EventBridge and others write it.
    pub fn uuid(&mut self) -> String {
        let hex = self.hex(32);
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// An ECS ARN in the long form.
pub fn arn(kind: &str, parts: &[&str]) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:{kind}/{}", parts.join("/"))
}

/// The last part of an ARN.
pub fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
