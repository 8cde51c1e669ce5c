//! Closes host ports that a death has freed to other hosts, until nobody there can take the next owner for the last one.
//!
//! ```text
//! docker ──LocalState──> guard ──what other nodes may know──> register
//!                          │ ^─────────released────────────── register
//!                          └──> kernel: table `inet portolan-guard`
//! ```
//!
//! This node's own containers and processes are not kept from any port: here a death is known at once. What fails here
//! costs the guard, and nothing else.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portolan_core::name::NodeKey;
use portolan_core::view::View;
use portolan_proto::release::Released;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::{Publisher, Reader, published};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{info, warn};

use crate::netlink::guard::HostPort;
use crate::registration::LocalState;

mod kernel;
mod metrics;
mod note;
mod ports;

use kernel::Kernel;
use metrics::Metrics;
use ports::{Changes, Opening, Ports};

/// How often the kernel's table is compared although no change was heard of.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Messages of the registry that may wait; each is of at most a thousand endpoints. Of more, the rest waits for the time.
const RELEASED_QUEUED: usize = 64;

/// What the guard needs to know.
#[derive(Debug, Clone)]
pub struct GuardSettings {
    /// Setting `guard`: how long a port stays closed at most; zero: no port is ever closed.
    pub guard: Duration,
    /// This node.
    pub node: NodeKey,
    /// Addresses of this node that other nodes can reach.
    pub addresses: Vec<IpAddr>,
}

/// How it stands with the guard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GuardStatus {
    /// Why no port is closed, or less well than it should be.
    pub problem: Option<String>,
    /// What is closed now.
    pub ports: Vec<GuardedPort>,
}

/// A host port that is closed to other hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuardedPort {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Its number.
    pub port: u16,
    /// Whose it was, as far as this node knows.
    pub service: String,
}

/// A guard that runs.
#[derive(Debug)]
pub struct Guard {
    /// What other nodes may know of this one, and where the registry's word about former endpoints goes.
    pub up: (Reader<LocalState>, mpsc::Sender<Vec<Released>>),
    /// For people.
    pub status: Reader<GuardStatus>,
}

/// Starts it. `view` is what was known of this node before anything was seen.
pub fn start(
    jobs: &Jobs,
    settings: GuardSettings,
    (local, view): (Reader<LocalState>, &View),
    registry: &mut Registry,
) -> Guard {
    let (publisher, announced) = published(LocalState::default());
    let (status_to, status) = published(GuardStatus::default());
    let (released, received) = mpsc::channel(RELEASED_QUEUED);
    let ports = Ports::new(settings.guard, view, &settings.node);
    let kernel = Kernel::new(settings.addresses);
    let metrics = Metrics::register(registry);
    let mut keeper = Keeper { ports, kernel, metrics, local, publisher, status: status_to };
    if settings.guard.is_zero() {
        keeper.kernel.switch_off();
    } else {
        keeper.begin();
    }
    jobs.start("guard", keeper.run(received));
    Guard { up: (announced, released), status }
}

#[derive(Debug)]
struct Keeper {
    ports: Ports,
    kernel: Kernel,
    metrics: Metrics,
    local: Reader<LocalState>,
    publisher: Publisher<LocalState>,
    status: Publisher<GuardStatus>,
}

impl Keeper {
    /// Goes on with what an earlier sidecar left in the kernel.
    fn begin(&mut self) {
        let now = Instant::now();
        let left = self.kernel.left().into_iter();
        let known = left.filter_map(|element| Some((element.at, note::read(&element.note)?, element.left)));
        self.ports.restore(known, now);
        if !self.ports.closed().is_empty() {
            info!("{} host ports are still closed to other hosts", self.ports.closed().len());
        }
        self.kernel.write_anew(self.ports.closed(), now);
        if let Some(problem) = self.kernel.problem() {
            warn!("the guard of freed host ports: {problem}");
        }
    }

    async fn run(mut self, mut released: mpsc::Receiver<Vec<Released>>) {
        let mut tick = interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_local_alive, mut is_registrar_alive, mut is_check_due) = (true, true, false);
        loop {
            self.step();
            if std::mem::take(&mut is_check_due) {
                self.kernel.compare(self.ports.closed(), Instant::now());
            }
            let deadline = self.ports.deadline();
            // Each branch only waits.
            tokio::select! {
                is_alive = self.local.changed(), if is_local_alive => is_local_alive = is_alive,
                word = released.recv(), if is_registrar_alive => match word {
                    Some(word) => self.ports.release(&word, Instant::now()),
                    None => is_registrar_alive = false,
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
                () = self.kernel.changed() => is_check_due = true,
                _ = tick.tick() => is_check_due = true,
            }
        }
    }

    /// Brings ports, kernel and what is announced to what this node's containers are, in this order: nothing is announced at a
    /// port that is not closed yet.
    fn step(&mut self) {
        let (local, now) = (self.local.load(), Instant::now());
        if local.is_complete && self.kernel.is_usable() {
            let opened = self.ports.expire(now);
            let mut changes = self.ports.look(&local.reports, now);
            changes.opened.splice(0..0, opened);
            self.apply(&changes, now);
        }
        self.announce(&local);
    }

    fn apply(&mut self, changes: &Changes, now: Instant) {
        if *changes == Changes::default() {
            return;
        }
        let opened: Vec<HostPort> = changes.opened.iter().map(|(at, _)| *at).collect();
        self.kernel.update(self.ports.closed(), (&changes.closed, &opened), now);
        for (at, closed) in changes.closed.iter().filter_map(|at| Some((at, self.ports.closed().get(at)?))) {
            let service = &closed.was.service;
            info!(service.name = %service, "host port {}/{} is closed to other hosts: {service} had it", at.port, at.protocol);
        }
        for (at, by) in &changes.opened {
            let why = match by {
                Opening::SameService => "the same service has it",
                Opening::Released => "nobody is led to its former owner any more",
                Opening::Expired => "its time is over",
            };
            info!("host port {}/{} is open again: {why}", at.port, at.protocol);
        }
        if changes.left_open > 0 {
            warn!("{} host ports were freed and are not closed: {} are already", changes.left_open, ports::CLOSED_MAX);
        }
        self.metrics.count(changes, self.ports.closed().len());
    }

    fn announce(&mut self, local: &Arc<LocalState>) {
        let ports = self.ports.closed().iter().map(|(at, closed)| GuardedPort {
            protocol: at.protocol.as_str(),
            port: at.port,
            service: closed.was.service.to_string(),
        });
        let status = GuardStatus { problem: self.kernel.problem().map(str::to_owned), ports: ports.collect() };
        if *self.status.load() != status {
            self.status.publish(Arc::new(status));
        }
        let mut announced = local.clone();
        if !self.ports.closed().is_empty() {
            self.ports.hold(&mut Arc::make_mut(&mut announced).reports);
        }
        let before = self.publisher.load();
        if !Arc::ptr_eq(&before, &announced) && *before != *announced {
            self.publisher.publish(announced);
        }
    }
}
