//! The ECS double: AWS as far as Portolan asks it, with everything that can go wrong there.
//!
//! ```text
//! handles (Cluster, Node, Service, Task) ──> world ──events──> queue
//!                                              │                 │
//!                            misbehaviour ──> actions <──────────┘
//!                                              ├──> in process: `impl Aws for Double`
//!                                              └──> Server: the real wire
//! Docker: real containers ──> world
//! ```
//!
//! ```no_run
//! # use portolan_tests::double::{Definition, Double, Fault, When};
//! let aws = Double::new(7);
//! let cluster = aws.cluster("prod");
//! let node = cluster.instance("10.0.3.7");
//! let web = aws.define(Definition::bridge("web").port(80).named("http"));
//! let service = cluster.service("web", &web, 3);
//! aws.fault(Fault::PageFails, When::Chance(0.2));
//! service.tasks()[0].stop("by hand");
//! ```
//!
//! Time is tokio's, so a test with paused time runs hours in no time; chance is the seed's. It is written from AWS's
//! documentation and its API models: that it speaks as AWS does is checked with the AWS CLI and boto3, that it behaves as
//! AWS does is checked by nobody.

pub mod actions;
pub mod calls;
mod churn;
pub mod docker;
pub mod handles;
mod in_process;
pub mod limits;
pub mod misbehaviour;
pub mod queue;
pub mod server;
pub mod shapes;
#[cfg(test)]
mod tests;
pub mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portolan_registry::clock::Clock;
use tokio::sync::Notify;

pub use calls::{Call, Outcome};
pub use docker::Docker;
pub use handles::{Cluster, Events, Node, Service, Task};
pub use limits::Bucket;
pub use misbehaviour::{Fault, When};
pub use server::Server;
pub use world::definition::Definition;
pub use world::service::ServiceWish;
pub use world::task::{LaunchType, Status};
pub use world::{Exit, Pace, Ran, World};

use calls::Calls;
use limits::Limits;
use misbehaviour::Misbehaviour;
use queue::Queue;

/// When the world of [`Double::new`] begins: 2026-01-01, the same in every run.
pub const BEGINNING_MS: u64 = 1_767_225_600_000;

/// AWS. Clones are the same one.
#[derive(Clone)]
pub struct Double {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    state: Mutex<State>,
    /// Something came into a queue, or a fault changed.
    changed: Notify,
}

/// Everything behind the lock.
#[derive(Debug)]
pub struct State {
    /// What is there.
    pub world: World,
    /// What goes wrong.
    pub misbehaviour: Misbehaviour,
    /// The account's rates.
    pub limits: Limits,
    /// What was called.
    pub calls: Calls,
    /// Queues by name. Every event goes to each.
    pub queues: BTreeMap<String, Queue>,
}

impl Double {
    /// An empty account at [`BEGINNING_MS`], without faults.
    pub fn new(seed: u64) -> Self {
        Self::with_clock(seed, Clock::starting_at(BEGINNING_MS))
    }

    /// As [`Double::new`], at the clock's time: what is compared with other clocks needs theirs.
    pub fn with_clock(seed: u64, clock: Clock) -> Self {
        let now_ms = clock.now().unix_ms;
        let state = State {
            world: World::new(seed, now_ms),
            misbehaviour: Misbehaviour::new(seed, now_ms),
            limits: Limits::default(),
            calls: Calls::default(),
            queues: BTreeMap::new(),
        };
        Double { shared: Arc::new(Shared { clock, state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// Looks at everything, or changes it, as it is now. What follows at once has followed when this returns.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let now_ms = self.shared.clock.now().unix_ms;
        let mut state = self.lock();
        state.world.advance(now_ms);
        let answer = act(&mut state);
        state.world.settle();
        if state.deliver() {
            self.shared.changed.notify_waiters();
        }
        answer
    }

    /// A cluster, made if it is not there.
    pub fn cluster(&self, name: &str) -> Cluster {
        let arn = self.with(|state| state.world.cluster(name)).cluster_arn;
        Cluster { aws: self.clone(), arn }
    }

    /// Registers a task definition.
    pub fn define(&self, definition: Definition) -> Arc<Definition> {
        self.with(|state| state.world.define(definition))
    }

    /// A queue that gets every event from now on.
    pub fn queue(&self, name: &str) -> Events {
        self.with(|state| {
            state.world.is_heard = true;
            state.queues.entry(name.to_owned()).or_insert_with(|| Queue::new(name));
        });
        Events { aws: self.clone(), name: name.to_owned() }
    }

    /// How tasks go on from now.
    pub fn pace(&self, pace: Pace) {
        self.with(|state| state.world.set_pace(pace));
    }

    /// A task by its ARN.
    pub fn task(&self, arn: &str) -> Task {
        Task { aws: self.clone(), arn: arn.to_owned() }
    }

    /// Adds a fault, of every action that it fits.
    pub fn fault(&self, fault: Fault, when: When) {
        self.misbehave(|misbehaviour| misbehaviour.add(None, fault, when));
    }

    /// Adds a fault of one action: `ecs:ListTasks`.
    pub fn fault_of(&self, action: &str, fault: Fault, when: When) {
        self.misbehave(|misbehaviour| misbehaviour.add(Some(action), fault, when));
    }

    /// Ends a fault.
    pub fn end_fault(&self, fault: Fault) {
        self.misbehave(|misbehaviour| misbehaviour.remove(fault));
    }

    /// Ends every fault and every denial, and pages are whole again. Limits stay.
    pub fn heal(&self) {
        self.misbehave(Misbehaviour::heal);
    }

    /// Faults by chance, each with a probability up to `chance_max`; which follows from the seed.
    pub fn go_wild(&self, chance_max: f64) {
        self.misbehave(|misbehaviour| misbehaviour.go_wild(chance_max));
    }

    /// Pages have so many, by chance.
    pub fn pages_of(&self, sizes: RangeInclusive<usize>) {
        self.misbehave(|misbehaviour| misbehaviour.page_sizes = sizes);
    }

    /// An action is denied: `ecs:ListTasks`.
    pub fn deny(&self, action: &str) {
        self.misbehave(|misbehaviour| misbehaviour.denied.extend([action.to_owned()]));
    }

    /// Changes faults and how far they go.
    pub fn misbehave(&self, change: impl FnOnce(&mut Misbehaviour)) {
        self.with(|state| change(&mut state.misbehaviour));
    }

    /// Another rate for the actions of a bucket.
    pub fn limit(&self, bucket: Bucket, burst: f64, per_second: f64) {
        self.with(|state| state.limits.set(bucket, burst, per_second));
    }

    /// How often an action was called.
    pub fn count(&self, action: &str) -> u64 {
        self.with(|state| state.calls.count(action))
    }

    /// Every call, in their order.
    pub fn calls(&self) -> Vec<Call> {
        self.with(|state| state.calls.recent().copied().collect())
    }

    /// The most calls within any time as long as `window`; long polls of queues are left out.
    pub fn busiest(&self, window: Duration) -> usize {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        self.with(|state| state.calls.busiest(window_ms, |call| !call.action.starts_with("sqs:")))
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.with(|state| state.calls.clear());
    }

    /// Its time, Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.shared.clock.now().unix_ms
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere has left a whole state: nothing in here panics half way.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Double").finish_non_exhaustive()
    }
}

/// 32 hexadecimal digits that look like an id and are always the same for one thing.
fn hash_hex(of: &impl Hash) -> String {
    let digits = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, of).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    digits(0) + &digits(1)
}
