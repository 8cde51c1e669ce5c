//! The health of each port: which checks run, and what they have shown so far.
//!
//! A port begins as Starting, passes with its first pass, fails after three failures in a row, and recovers with one
//! pass. Checks reach only containers of this node, by their own address and port: docker-proxy accepts connections
//! before the application does, so it is never asked. Each check belongs to one run and ends with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portolan_core::endpoint::{Protocol, Run};
use portolan_core::evidence::Health;
use portolan_runtime::jobs::Jobs;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::docker::facts::DockerHealth;
use crate::docker::state::Input;

mod grpc;
mod job;
mod listening;
mod machine;
mod probe;

/// Time between two checks where no label says otherwise.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Connections that checks may have open at once.
const AT_ONCE_MAX: usize = 64;

/// A port of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// Docker's id.
    pub id: String,
    /// Which run.
    pub run: Run,
    /// The port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// How a port's health is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// It passes as long as its container runs.
    Always,
    /// What the HEALTHCHECK says.
    Docker(DockerHealth),
    /// It passes once a socket listens on it in the container's network namespace, seen through this process.
    Listening {
        /// A process of the container, by the host's number.
        pid: i32,
    },
    /// A connection is accepted.
    Tcp(SocketAddr),
    /// The gRPC health protocol answers SERVING for the whole server.
    Grpc(SocketAddr),
    /// `GET` is answered with 200 to 399.
    Http {
        /// Where.
        address: SocketAddr,
        /// What.
        path: String,
    },
}

/// What is to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which port.
    pub key: PortKey,
    /// How.
    pub method: Method,
    /// Time between two checks.
    pub interval: Duration,
}

/// A change that a check found, or its first outcome.
#[derive(Debug)]
pub struct Checked {
    key: PortKey,
    /// Tells a check from its predecessor on the same port.
    serial: u64,
    health: Health,
}

/// All checks of this node. Dropping it ends them.
#[derive(Debug)]
pub struct Checks {
    jobs: Jobs,
    inputs: mpsc::Sender<Input>,
    ports: BTreeMap<PortKey, Port>,
    permits: Arc<Semaphore>,
    serial: u64,
}

#[derive(Debug)]
struct Port {
    plan: Plan,
    health: Health,
    is_observed: bool,
    serial: u64,
    /// Ends the job, where there is one.
    _stop: Option<DropGuard>,
}

impl Checks {
    /// No checks; outcomes go to `inputs`.
    pub fn new(jobs: Jobs, inputs: mpsc::Sender<Input>) -> Self {
        Checks { jobs, inputs, ports: BTreeMap::new(), permits: Arc::new(Semaphore::new(AT_ONCE_MAX)), serial: 0 }
    }

    /// Makes the running checks those of `plans`: a port that stays keeps its health.
    pub fn keep(&mut self, plans: Vec<Plan>) {
        let mut earlier = std::mem::take(&mut self.ports);
        for plan in plans {
            let port = match earlier.remove(&plan.key) {
                Some(port) if port.plan == plan => port,
                earlier => self.begin(plan, earlier),
            };
            self.ports.insert(port.plan.key.clone(), port);
        }
    }

    fn begin(&mut self, plan: Plan, earlier: Option<Port>) -> Port {
        self.serial += 1;
        let before = earlier.map_or(Health::Starting, |port| port.health);
        let (health, is_observed) = match &plan.method {
            Method::Always => (Health::Passing, true),
            Method::Docker(said) => (from_docker(*said), true),
            Method::Listening { .. } | Method::Tcp(_) | Method::Grpc(_) | Method::Http { .. } => (before, false),
        };
        let stop = (!is_observed).then(|| {
            let stop = CancellationToken::new();
            let check = job::Job {
                plan: plan.clone(),
                serial: self.serial,
                health,
                inputs: self.inputs.clone(),
                permits: self.permits.clone(),
            };
            self.jobs.start_work("health check", check.run(stop.clone()));
            stop.drop_guard()
        });
        Port { plan, health, is_observed, serial: self.serial, _stop: stop }
    }

    /// Takes what a check found, unless the check is no longer wanted.
    pub fn take(&mut self, checked: Checked) {
        if let Some(port) = self.ports.get_mut(&checked.key).filter(|port| port.serial == checked.serial) {
            port.health = checked.health;
            port.is_observed = true;
        }
    }

    /// The health of a port; Starting where nothing is known.
    pub fn health(&self, key: &PortKey) -> Health {
        self.ports.get(key).map_or(Health::Starting, |port| port.health)
    }

    /// Whether each check has had an outcome.
    pub fn are_all_observed(&self) -> bool {
        self.ports.values().all(|port| port.is_observed)
    }
}

fn from_docker(said: DockerHealth) -> Health {
    match said {
        DockerHealth::Starting => Health::Starting,
        DockerHealth::Healthy | DockerHealth::Absent => Health::Passing,
        DockerHealth::Unhealthy => Health::Failing,
    }
}

#[cfg(test)]
mod tests;
