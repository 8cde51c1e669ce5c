//! The kernel path of links (plane `ebpf`): connect() itself goes to an endpoint, and no byte passes through this process.
//!
//! ```text
//! table ──> shares ──> maps (pinned) <── bpf/links.bpf.c at the root of the cgroups
//! ```
//!
//! It only ever adds a shorter way: what the kernel is not told, or told too long ago, reaches the relay by the rules. So
//! nothing fails for want of it; where it cannot be had the reason is shown, and tried again. Programs and maps outlive this
//! process, but not the leases in them. It never tells the kernel of an endpoint that the relay would not go to.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::EbpfError;
use aya::maps::MapError;
use portolan_core::evidence::LinkPlane;
use portolan_core::view::{Readiness, Service};
use portolan_runtime::published::Reader;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::LinkSettings;
use super::table::Table;
use crate::follow::Follows;
use crate::netlink::table::LinkAddress;
use encoding::Leased;

mod encoding;
mod place;
mod programs;
mod shares;

/// How often leases are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often what could not be had is tried again.
const AGAIN_EVERY: Duration = Duration::from_secs(30);
/// A verifier's log has thousands of lines.
const REASON_CHARACTERS_MAX: usize = 400;

/// Where the kernel path hangs, and who takes it.
#[derive(Debug, Clone)]
pub struct KernelSettings {
    /// Setting `link.plane`: of services whose labels say nothing.
    pub plane: LinkPlane,
    /// Setting `link.cgroup`: the cgroup whose processes are led; `None`: the root of all.
    pub cgroup: Option<PathBuf>,
    /// Setting `link.pins`: a folder of a BPF file system.
    pub pins: PathBuf,
    /// How long the kernel leads by a view that nobody renews.
    pub lease: Duration,
}

impl Default for KernelSettings {
    fn default() -> Self {
        let pins = PathBuf::from("/sys/fs/bpf/portolan");
        KernelSettings { plane: LinkPlane::Proxy, cgroup: None, pins, lease: shares::LEASE }
    }
}

/// How one service is carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaneStatus {
    /// How its connections go.
    pub plane: LinkPlane,
    /// Why that is not what was asked for.
    pub why_not: Option<String>,
    /// Endpoints that the kernel leads to.
    pub endpoints: usize,
    /// Connections that the kernel led, since the pins were made.
    pub connections: u64,
    /// Of its attempts, those that failed.
    pub failures: u64,
}

impl PlaneStatus {
    /// Of a link that leads nowhere.
    pub const NONE: PlaneStatus =
        PlaneStatus { plane: LinkPlane::Proxy, why_not: None, endpoints: 0, connections: 0, failures: 0 };
}

/// Why there is no kernel path.
#[derive(Debug, Error)]
pub(super) enum PlaneError {
    #[error("this sidecar was built without clang, so the programs for the kernel are not in it")]
    Unbuilt,
    #[error("no cgroup hierarchy of version 2 is mounted here; setting `link.cgroup` names one")]
    NoCgroup,
    #[error(
        "`{path}` is the root of this container's cgroups, not of the machine's: run with the host's cgroup namespace, or name the host's root in setting `link.cgroup`"
    )]
    OwnCgroup { path: PathBuf },
    #[error("no BPF file system at `{path}` (setting `link.pins` is a folder in one)")]
    NoBpfFs {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("pin at `{path}`")]
    Pin {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("load the programs into the kernel (Linux 5.8 or later, capabilities CAP_BPF and CAP_NET_ADMIN)")]
    Load {
        #[source]
        source: Box<EbpfError>,
    },
    #[error("attach `{name}` (Linux 5.8 or later, capabilities CAP_BPF and CAP_NET_ADMIN)")]
    Attach {
        name: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{action} the kernel's map")]
    Map {
        action: &'static str,
        #[source]
        source: MapError,
    },
}

/// The kernel path of this node. Written by its job, read by whoever looks.
#[derive(Debug)]
pub(super) struct KernelPath {
    settings: LinkSettings,
    follows: Follows,
    state: Mutex<State>,
    /// The index of the view that links lead by.
    used: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    maps: Option<programs::Maps>,
    problem: Option<String>,
    /// What the kernel was told.
    held: HashMap<LinkAddress, Vec<Leased>>,
    again_at: Option<Instant>,
}

impl KernelPath {
    pub(super) fn new(settings: LinkSettings, follows: Follows) -> Arc<KernelPath> {
        Arc::new(KernelPath { settings, follows, state: Mutex::default(), used: watch::Sender::new(0) })
    }

    /// Keeps the kernel in step with the table, for ever. A service that nobody wants led so costs nothing.
    pub(super) async fn keep(self: Arc<Self>, mut table: Reader<Table>) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_table_alive = true;
        loop {
            let newest = table.load();
            self.follow(&newest);
            // The relay reads the table itself: now both lead by it.
            self.used.send_if_modified(|used| std::mem::replace(used, newest.index) != newest.index);
            // Each branch only waits.
            tokio::select! {
                is_alive = table.changed(), if is_table_alive => is_table_alive = is_alive,
                _ = tick.tick() => {}
            }
        }
    }

    /// The index of the view that links lead by.
    pub(super) fn used(&self) -> watch::Receiver<u64> {
        self.used.subscribe()
    }

    fn follow(&self, table: &Table) {
        // Before anything is known, nothing is known to be gone: what an earlier run told the kernel ends by itself.
        if table.readiness == Readiness::Loading {
            return;
        }
        let is_led = |service: &Service| self.wanted(service) == LinkPlane::Ebpf;
        let wanted: Vec<_> = table.linked().filter(|(_, _, service)| is_led(service)).collect();
        let mut state = self.lock();
        if !wanted.is_empty() || programs::has_pins(&self.settings.kernel) {
            state.open(&self.settings.kernel);
        }
        if state.maps.is_none() {
            return;
        }
        let now_ns = boot_ns();
        let lease = shares::lease_until(table.readiness, now_ns, self.settings.kernel.lease);
        let mut gone: HashSet<LinkAddress> = state.held.keys().copied().collect();
        for (address, link, service) in wanted {
            // Led by an earlier run, and this one has not learnt its endpoints: connections that are led would never make it.
            if service.known_endpoints().is_none() && state.is_leased(address, now_ns) {
                gone.remove(&address);
                self.follows.ask(&service.key);
                continue;
            }
            let shares = shares::shares(service, link.port, &self.settings);
            if !shares.is_empty() {
                gone.remove(&address);
                state.tell(address, &shares, (lease, self.settings.kernel.lease));
            }
        }
        gone.into_iter().for_each(|address| state.withdraw(address));
    }

    /// What labels ask for, else the setting.
    fn wanted(&self, service: &Service) -> LinkPlane {
        let label = service.link.as_ref().and_then(|link| link.plane);
        label.unwrap_or(self.settings.kernel.plane)
    }

    /// How the services of `table` are carried, in no order.
    pub(super) fn status(&self, table: &Table) -> HashMap<Ipv4Addr, PlaneStatus> {
        let state = self.lock();
        let mut figures: HashMap<SocketAddrV4, [u64; 2]> = HashMap::new();
        for (link, [connections, failures]) in state.maps.iter().flat_map(programs::Maps::figures) {
            let sum = figures.entry(link).or_default();
            *sum = [sum[0] + connections, sum[1] + failures];
        }
        let mut by_address = HashMap::new();
        for ((address, port), _, service) in table.linked() {
            let status = by_address.entry(address).or_insert_with(|| state.plane(self.wanted(service)));
            let [connections, failures] = figures.get(&SocketAddrV4::new(address, port)).copied().unwrap_or_default();
            let held = state.held.get(&(address, port)).map_or(&[][..], |held| held);
            let endpoints = held.iter().filter(|held| held.share.to.is_some()).count();
            status.endpoints = status.endpoints.max(endpoints);
            status.connections += connections;
            status.failures += failures;
        }
        by_address
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes sure that programs and maps are there, unless that failed a moment ago.
    fn open(&mut self, settings: &KernelSettings) {
        let now = Instant::now();
        if self.maps.is_some() || self.again_at.is_some_and(|at| now < at) {
            return;
        }
        match programs::open(settings) {
            Ok(maps) => {
                self.held = maps.held().into_iter().collect();
                (self.maps, self.again_at) = (Some(maps), None);
                self.problem = None;
                info!("links of plane `ebpf` are led by the kernel; {} were led before", self.held.len());
            }
            Err(error) => {
                self.again_at = Some(now + AGAIN_EVERY);
                self.note(&error);
            }
        }
    }

    fn tell(&mut self, address: LinkAddress, shares: &[encoding::Share], (until_ns, lease): (Option<u64>, Duration)) {
        let held = self.held.get(&address).map_or(&[][..], |held| held);
        let next = shares::leased(shares, held, until_ns);
        let renew_below = until_ns.unwrap_or_default().saturating_sub(shares::nanoseconds(lease) / 3);
        let Some(maps) = self.maps.as_mut().filter(|_| shares::is_news(held, &next, renew_below)) else { return };
        match maps.write(address, &next) {
            Ok(()) => {
                self.held.insert(address, next);
            }
            // Two thirds of what it had is left; after that the relay has all.
            Err(error) => self.note(&error),
        }
    }

    /// Whether the kernel still leads anywhere there.
    fn is_leased(&self, address: LinkAddress, now_ns: u64) -> bool {
        let is_led = |held: &Leased| held.share.to.is_some() && held.until_ns > now_ns;
        self.held.get(&address).is_some_and(|held| held.iter().any(is_led))
    }

    fn withdraw(&mut self, address: LinkAddress) {
        let Some(maps) = &mut self.maps else { return };
        match maps.remove(address) {
            Ok(()) => {
                self.held.remove(&address);
            }
            Err(error) => self.note(&error),
        }
    }

    /// A problem is logged when it is another one than before.
    fn note(&mut self, error: &PlaneError) {
        let reason = reason(error);
        if self.problem.as_ref() != Some(&reason) {
            warn!("links of plane `ebpf` go through the relay: {reason}");
            self.problem = Some(reason);
        }
    }

    fn plane(&self, wanted: LinkPlane) -> PlaneStatus {
        let has_kernel = self.maps.is_some();
        let plane = if has_kernel { wanted } else { LinkPlane::Proxy };
        let why_not = self.problem.clone().filter(|_| wanted == LinkPlane::Ebpf);
        PlaneStatus { plane, why_not, endpoints: 0, connections: 0, failures: 0 }
    }
}

/// The error with its causes, on one line.
fn reason(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let text: Vec<String> = chain.map(ToString::to_string).collect();
    let text = text.join(": ").split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(REASON_CHARACTERS_MAX).collect()
}

/// Removes programs and maps from the kernel.
///
/// # Errors
/// Without the right.
pub(super) fn cleanup(pins: &Path) -> io::Result<()> {
    programs::remove(pins)
}

/// The clock of `bpf_ktime_get_boot_ns`: it goes on while the machine sleeps, so that a lease does not outlast a sleep.
fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or_default())
}
