//! Links: stable virtual addresses whose ports lead to whatever endpoints a service has right now (DESIGN section 4).
//!
//! ```text
//! view ──> table ──┬──> kernel   the set of addresses and ports that reach the relay; all others are refused there
//!                  ├──> relay    one listener; original destination -> link -> endpoint; bytes both ways
//!                  ├──> udp      a socket for each UDP link, a session for each of its clients; datagrams both ways
//!                  └──> ebpf     for services that ask for it: connect() goes to an endpoint without us
//! ```
//!
//! It never resolves a name, never connects to an address that no registration announced, and never touches a
//! connection that is open because its endpoint or its link went away.

use std::fmt;
use std::net::{IpAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::view::View;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::{Reader, published};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::follow::Follows;
use crate::netlink::{self, NetlinkError, Routes, Rules};
use crate::sockets::{Purpose, Sockets};

mod choice;
mod connect;
mod counters;
mod ebpf;
mod figures;
mod kernel;
mod options;
mod pipes;
mod pump;
mod relay;
mod series;
mod table;
mod udp;

pub use ebpf::{KernelSettings, PlaneStatus};
pub use figures::{ClientStatus, EndpointStatus, LinkStatus, PortStatus};

/// Tells who connects.
pub trait Callers: fmt::Debug + Send + Sync {
    /// The service of the container on this node that has that address.
    fn service_at(&self, address: IpAddr) -> Option<ServiceKey>;
}

/// What links need to know.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// Setting `link.range`: the addresses that are ours alone.
    pub range: Ipv4Net,
    /// Where the relay listens: the sidecar's DNS address and a fixed port below the ephemeral ones, so that rules which
    /// outlive the sidecar never lead to somebody else's socket.
    pub relay: SocketAddrV4,
    /// Bounds.
    pub limits: LinkLimits,
    /// The kernel path.
    pub kernel: KernelSettings,
    /// The node that we run on: its endpoints are preferred to others of the same rank.
    pub node: Option<NodeKey>,
    /// The availability zone that we run in: preferred after the node.
    pub az: Option<String>,
}

/// The bounds of the relay.
#[derive(Debug, Clone, Copy)]
pub struct LinkLimits {
    /// Connections and UDP sessions at once over all links; what the file limit allows if that is less.
    pub connections_max: usize,
    /// The same over the links of one service, so that its clients cannot starve the others.
    pub connections_per_service_max: usize,
    /// How long a UDP session lives that nobody uses.
    pub udp_timeout: Duration,
    /// How long one endpoint may take before the next is tried beside it.
    pub next_endpoint_after: Duration,
    /// How long a client waits for any endpoint at all.
    pub connect_deadline: Duration,
    /// How long a first connection waits for a service's endpoints to become known.
    pub follow_patience: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        LinkLimits {
            connections_max: 20_000,
            connections_per_service_max: 10_000,
            udp_timeout: Duration::from_secs(60),
            next_endpoint_after: Duration::from_millis(300),
            connect_deadline: Duration::from_secs(5),
            follow_patience: Duration::from_secs(2),
        }
    }
}

/// Why links could not be started.
#[derive(Debug, Error)]
pub enum LinkError {
    /// Rules or routes.
    #[error("set up the link range {range}")]
    Netlink {
        /// The range.
        range: Ipv4Net,
        /// What the kernel said.
        #[source]
        source: NetlinkError,
    },
    /// The relay's address.
    #[error("listen for links on {address}")]
    Listen {
        /// Where.
        address: SocketAddrV4,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The relay's address lies in the link range.
    #[error(
        "the relay's address {address} lies in the link range {range}; set `sidecar.dns` or `link.range` otherwise"
    )]
    Overlap {
        /// The relay's address.
        address: SocketAddrV4,
        /// The range.
        range: Ipv4Net,
    },
}

/// Links that run.
#[derive(Debug, Clone)]
pub struct Links {
    relay: SocketAddrV4,
    table: Reader<table::Table>,
    ebpf: Arc<ebpf::KernelPath>,
}

impl Links {
    /// Where the relay listens; differs from the setting when that had port 0.
    pub fn relay_address(&self) -> SocketAddrV4 {
        self.relay
    }

    /// The index of the view that connections are led by.
    pub fn used(&self) -> watch::Receiver<u64> {
        self.ebpf.used()
    }

    /// What `portolan links` shows: each link with its figures, in the order of their names.
    pub fn status(&self) -> Vec<LinkStatus> {
        let table = self.table.load();
        let planes = self.ebpf.status(&table);
        let mut status = table.status(Instant::now());
        status.iter_mut().for_each(|link| link.plane = planes.get(&link.address).cloned());
        status
    }
}

/// What runs for links, and the sockets that they share with others.
#[derive(Debug, Clone, Copy)]
pub struct Runs<'a> {
    /// What ends when this sidecar ends to serve.
    pub jobs: &'a Jobs,
    /// Its connections, which may go on after that.
    pub connections: &'a Jobs,
    /// What is listened on.
    pub sockets: &'a Sockets,
}

/// Starts links: routes, relay, rules, in this order, so that nothing is promised before it can be kept.
///
/// # Errors
/// Without the right to change the network, or when the relay's address cannot be listened on.
pub fn start(
    Runs { jobs, connections, sockets }: Runs<'_>,
    settings: LinkSettings,
    (view, follows, callers): (Reader<View>, Follows, Arc<dyn Callers>),
    metrics: &mut Registry,
) -> Result<Links, LinkError> {
    let range = settings.range;
    if range.contains(settings.relay.ip()) {
        return Err(LinkError::Overlap { address: settings.relay, range });
    }
    let refused = |source| LinkError::Netlink { range, source };
    let routes = Routes { dns: *settings.relay.ip(), range: Some(range) };
    routes.assert().map_err(refused)?;
    let left = sockets.take_listener(Purpose::Relay, settings.relay.into());
    let listener = match left {
        Some(left) => relay::listen_on(left, settings.relay),
        None => relay::listen(settings.relay),
    };
    let listener = listener.map_err(|source| LinkError::Listen { address: settings.relay, source })?;
    if let Err(error) = sockets.hold(&[(Purpose::Relay, listener.socket())]) {
        warn!("no other process can hold the relay's socket: {error}");
    }
    let relay_address = listener.address;
    let rules = Rules { range, relay: relay_address };
    let (first, _) = table::Table::default().next(&view.peek(), (&settings, Instant::now()));
    let (publisher, table) = published(first);
    let metrics = metrics.sub_registry_with_prefix("link");
    let counters = Arc::new(counters::Counters::register(metrics));
    metrics.register_collector(Box::new(series::Series(table.clone())));
    let ebpf = ebpf::KernelPath::new(settings.clone(), follows.clone());
    let from = (view.clone(), follows, callers);
    let relay = Arc::new(relay::Relay::new(settings.clone(), from, (table.clone(), counters)));
    let doors = udp::Doors::new(relay.clone(), jobs.clone(), *relay_address.ip());
    let kernel = kernel::Kernel::claim((rules, routes), &table.load(), doors).map_err(refused)?;
    jobs.start("links: ebpf", ebpf.clone().keep(table.clone()));
    jobs.start("links: kernel", kernel.keep(view, publisher, settings));
    jobs.start("links: relay", relay.accept(connections.clone(), listener));
    Ok(Links { relay: relay_address, table, ebpf })
}

/// Removes programs and maps of the kernel path, which are pinned in `pins`. What is not there is no error.
///
/// # Errors
/// Without the right.
pub fn cleanup_kernel_path(pins: &Path) -> std::io::Result<()> {
    ebpf::cleanup(pins)
}

/// Removes every trace of links and of the DNS address: our table, our routes. What is not there is no error.
///
/// # Errors
/// Without the right, or when the kernel refuses.
pub fn cleanup() -> Result<(), NetlinkError> {
    netlink::cleanup()
}
