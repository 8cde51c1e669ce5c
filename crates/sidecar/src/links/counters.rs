//! Figures over all links, for `/metrics`, and what one open connection counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::choice::InUse;
use super::figures::LinkFigures;

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
    /// It was as old as it may become.
    aged,
}

/// How a UDP session ended, or why there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values as they are shown")]
pub(super) enum SessionEnd {
    /// Nothing came for a while.
    idle,
    /// Its endpoint may not be used any longer.
    moved,
    /// Its endpoint refused a datagram.
    refused,
    /// It made room for another one.
    evicted,
    /// Its link went away.
    closed,
    /// None: there was no room.
    limit,
    /// None: no endpoint could be sent to.
    unreachable,
    /// None: its endpoints did not become known in time.
    unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    result: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySessionEnd {
    result: SessionEnd,
}

/// Figures over all links.
#[derive(Debug, Default)]
pub(super) struct Counters {
    connections: Family<ByOutcome, Counter>,
    open: Gauge,
    bytes: Counter,
    connect_failures: Counter,
    accept_failures: Counter,
    sessions: Family<BySessionEnd, Counter>,
    sessions_open: Gauge,
}

impl Counters {
    /// Registers the figures under `link_`.
    pub(super) fn register(links: &mut Registry) -> Counters {
        let counters = Counters::default();
        links.register("connections", "Connections through links that ended, by how", counters.connections.clone());
        links.register("connections_open", "Connections through links that are open", counters.open.clone());
        links.register_with_unit("relayed", "Relayed, both ways", Unit::Bytes, counters.bytes.clone());
        links.register(
            "connect_failures",
            "Endpoints that refused or were too slow",
            counters.connect_failures.clone(),
        );
        links.register("accept_failures", "Connections that could not be accepted", counters.accept_failures.clone());
        links.register("sessions", "UDP sessions through links that ended, by how", counters.sessions.clone());
        links.register("sessions_open", "UDP sessions through links that are open", counters.sessions_open.clone());
        counters
    }

    pub(super) fn session_ended(&self, result: SessionEnd) {
        self.sessions.get_or_create(&BySessionEnd { result }).inc();
    }

    pub(super) fn ended(&self, result: Outcome) {
        self.connections.get_or_create(&ByOutcome { result }).inc();
    }

    pub(super) fn accept_failed(&self) {
        self.accept_failures.inc();
    }
}

/// A side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    pub(super) fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// How far a connection is: bytes both ways, and whether the last ones were the endpoint's.
pub(super) type Progress = (u64, bool);

/// One open connection or session: counted while it lives.
#[derive(Debug)]
pub(super) struct Open {
    counters: Arc<Counters>,
    gauge: Gauge,
    figures: Arc<LinkFigures>,
    endpoint: OnceLock<InUse>,
    is_answered: AtomicBool,
    bytes: AtomicU64,
    is_last_from_server: AtomicBool,
}

impl Open {
    /// Counts a connection, unless its service has `max` open ones.
    pub(super) fn begin(counters: &Arc<Counters>, figures: &Arc<LinkFigures>, max: usize) -> Option<Open> {
        Open::counted(counters, (figures, max), counters.open.clone())
    }

    /// Counts a UDP session, likewise.
    pub(super) fn begin_session(counters: &Arc<Counters>, figures: &Arc<LinkFigures>, max: usize) -> Option<Open> {
        Open::counted(counters, (figures, max), counters.sessions_open.clone())
    }

    fn counted(counters: &Arc<Counters>, (figures, max): (&Arc<LinkFigures>, usize), gauge: Gauge) -> Option<Open> {
        let before = figures.open.fetch_add(1, Ordering::Relaxed);
        gauge.inc();
        let open = Open {
            counters: counters.clone(),
            gauge,
            figures: figures.clone(),
            endpoint: OnceLock::new(),
            is_answered: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            is_last_from_server: AtomicBool::new(false),
        };
        figures.total.fetch_add(1, Ordering::Relaxed);
        (before < max).then_some(open)
    }

    /// It leads to that endpoint now.
    pub(super) fn reached(&self, endpoint: InUse) {
        // It is set once: a connection never moves.
        self.endpoint.set(endpoint).ok();
    }

    /// Where it leads, once it does.
    pub(super) fn endpoint(&self) -> Option<&InUse> {
        self.endpoint.get()
    }

    /// So much came from that side.
    pub(super) fn relayed(&self, from: Side, bytes: usize) {
        let bytes = bytes as u64;
        self.figures.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counters.bytes.inc_by(bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.is_last_from_server.store(from == Side::Server, Ordering::Relaxed);
        let Some(endpoint) = self.endpoint.get() else { return };
        endpoint.relayed(bytes);
        if from == Side::Server && !self.is_answered.load(Ordering::Relaxed) {
            self.is_answered.store(true, Ordering::Relaxed);
            endpoint.answered(Instant::now());
        }
    }

    pub(super) fn progress(&self) -> Progress {
        (self.bytes.load(Ordering::Relaxed), self.is_last_from_server.load(Ordering::Relaxed))
    }

    /// The endpoint reset the connection, or fell silent.
    pub(super) fn failed_by_endpoint(&self) {
        if !self.is_answered.load(Ordering::Relaxed) {
            self.endpoint.get().into_iter().for_each(|endpoint| endpoint.reset_unanswered(Instant::now()));
        }
    }

    pub(super) fn endpoints_failed(&self, count: u64) {
        self.figures.failures.fetch_add(count, Ordering::Relaxed);
        self.counters.connect_failures.inc_by(count);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.figures.open.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}
