//! The Docker witness: what runs on this node, said at once, and never unsaid because a socket was lost.
//!
//! ```text
//! connection ──inputs──> witness ──> state (pure) ──> registration ──> health ──> published LocalState
//!  events, lists            │ inspections, pidfds, check results come back as inputs
//! ```
//!
//! Events only make it quick: each leads to an inspection, and every ten seconds a list is compared. A death seen by
//! pidfd or by `die` is final for that run. While Docker is out of reach nothing is removed but what pidfds show dead.

use std::net::IpAddr;
use std::path::PathBuf;

use portolan_core::name::NodeKey;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::{Reader, published};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::registration::{LocalState, Node};

mod connection;
pub mod facts;
mod inspections;
mod metrics;
pub(crate) mod refusals;
mod sight;
mod signal;
pub mod state;
mod witness;

/// Inputs that may wait for the witness. When it is full the senders wait; dockerd drops a reader that lags for long,
/// and the next list heals that.
const INPUTS_MAX: usize = 1024;

/// What the Docker witness needs to know.
#[derive(Debug, Clone)]
pub struct DockerSettings {
    /// Path of Docker's Unix socket.
    pub socket: PathBuf,
    /// This node's key; its cluster is that of containers without an ECS label.
    pub node: NodeKey,
    /// Addresses of this node that other nodes can reach, IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
}

/// Starts watching Docker. The state is worth registering once [`LocalState::is_complete`].
pub fn start(jobs: &Jobs, settings: DockerSettings, metrics: &mut Registry) -> Reader<LocalState> {
    let (inputs, received) = mpsc::channel(INPUTS_MAX);
    let (publisher, reader) = published(LocalState::default());
    let metrics = metrics::Metrics::register(metrics);
    let node = Node { key: settings.node, addresses: settings.addresses };
    jobs.start("docker connection", connection::run(settings.socket, inputs.clone(), metrics.clone()));
    let witness = witness::Witness::new(witness::Parts { jobs: jobs.clone(), node, inputs, publisher, metrics });
    jobs.start("docker witness", witness.run(received));
    reader
}
