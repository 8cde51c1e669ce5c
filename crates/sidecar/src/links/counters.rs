//! Figures of links: by link for `portolan links`, over all links for `/metrics`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use portolan_core::name::ServiceKey;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde::{Deserialize, Serialize};

use super::ebpf::PlaneStatus;

/// Figures of one service's links since the sidecar started. Written by every connection, read by whoever looks.
#[derive(Debug, Default)]
pub(super) struct LinkFigures {
    pub(super) open: AtomicUsize,
    pub(super) total: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// One service's links, as `portolan links` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Whose.
    pub service: ServiceKey,
    /// Its virtual address.
    pub address: Ipv4Addr,
    /// How it is carried; `None` while none of its ports is open.
    pub plane: Option<PlaneStatus>,
    /// Its ports, in their order.
    pub ports: Vec<PortStatus>,
    /// Connections that are open.
    pub open: usize,
    /// Connections that were accepted.
    pub total: u64,
    /// Attempts on endpoints that failed or were too slow; the client need not have noticed.
    pub failures: u64,
    /// Bytes relayed, both ways.
    pub bytes: u64,
}

/// One port of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// What clients connect to.
    pub port: u16,
    /// What it is in the container.
    pub container_port: u16,
    /// Where it leads, best first; `None` while the service is not followed.
    pub endpoints: Option<Vec<SocketAddr>>,
}

impl LinkStatus {
    pub(super) fn new(
        service: &ServiceKey,
        address: Ipv4Addr,
        (ports, figures): (Vec<PortStatus>, &LinkFigures),
    ) -> LinkStatus {
        LinkStatus {
            service: service.clone(),
            address,
            plane: None,
            ports,
            open: figures.open.load(Ordering::Relaxed),
            total: figures.total.load(Ordering::Relaxed),
            failures: figures.failures.load(Ordering::Relaxed),
            bytes: figures.bytes.load(Ordering::Relaxed),
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values as they are shown")]
pub(super) enum Outcome {
    /// Both sides closed.
    closed,
    /// One side reset or vanished; the other was reset too.
    reset,
    /// No endpoint answered.
    unreachable,
    /// Its endpoints did not become known in time.
    unknown,
    /// Too many connections.
    limit,
    /// Not to a link.
    stray,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    result: Outcome,
}

/// Figures over all links.
#[derive(Debug, Default)]
pub(super) struct Counters {
    connections: Family<ByOutcome, Counter>,
    open: Gauge,
    bytes: Counter,
    connect_failures: Counter,
    accept_failures: Counter,
}

impl Counters {
    /// Registers the figures under `link_`.
    pub(super) fn register(registry: &mut Registry) -> Counters {
        let counters = Counters::default();
        let links = registry.sub_registry_with_prefix("link");
        links.register("connections", "Connections through links that ended, by how", counters.connections.clone());
        links.register("connections_open", "Connections through links that are open", counters.open.clone());
        links.register_with_unit("relayed", "Relayed, both ways", Unit::Bytes, counters.bytes.clone());
        links.register(
            "connect_failures",
            "Endpoints that refused or were too slow",
            counters.connect_failures.clone(),
        );
        links.register("accept_failures", "Connections that could not be accepted", counters.accept_failures.clone());
        counters
    }

    pub(super) fn ended(&self, result: Outcome) {
        self.connections.get_or_create(&ByOutcome { result }).inc();
    }

    pub(super) fn accept_failed(&self) {
        self.accept_failures.inc();
    }
}

/// One open connection: counted while it lives.
#[derive(Debug)]
pub(super) struct Open {
    counters: Arc<Counters>,
    figures: Arc<LinkFigures>,
}

impl Open {
    /// Counts a connection, unless its link has `max` open ones.
    pub(super) fn begin(counters: &Arc<Counters>, figures: &Arc<LinkFigures>, max: usize) -> Option<Open> {
        let before = figures.open.fetch_add(1, Ordering::Relaxed);
        counters.open.inc();
        let open = Open { counters: counters.clone(), figures: figures.clone() };
        figures.total.fetch_add(1, Ordering::Relaxed);
        (before < max).then_some(open)
    }

    pub(super) fn relayed(&self, bytes: usize) {
        self.figures.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.counters.bytes.inc_by(bytes as u64);
    }

    pub(super) fn endpoints_failed(&self, count: u64) {
        self.figures.failures.fetch_add(count, Ordering::Relaxed);
        self.counters.connect_failures.inc_by(count);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.figures.open.fetch_sub(1, Ordering::Relaxed);
        self.counters.open.dec();
    }
}
