//! What an operator may count of the guard.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::ports::{Changes, Opening};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Handles to the metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    ports: Gauge,
    closed: Counter,
    left_open: Counter,
    opened: Family<Reason, Counter>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            ports: Gauge::default(),
            closed: Counter::default(),
            left_open: Counter::default(),
            opened: Family::default(),
        };
        for by in [Opening::SameService, Opening::Released, Opening::Expired] {
            metrics.opened.get_or_create(&reason(by)).inc_by(0);
        }
        let registry = registry.sub_registry_with_prefix("guard");
        registry.register("ports", "Host ports that are closed to other hosts", metrics.ports.clone());
        registry.register("closed", "Host ports that were closed when a death freed them", metrics.closed.clone());
        registry.register("left_open", "Host ports freed while too many were closed", metrics.left_open.clone());
        registry.register("opened", "Host ports that were opened again, by reason", metrics.opened.clone());
        metrics
    }

    pub(super) fn count(&self, changes: &Changes, ports: usize) {
        self.ports.set(i64::try_from(ports).unwrap_or(i64::MAX));
        self.closed.inc_by(changes.closed.len() as u64);
        self.left_open.inc_by(changes.left_open as u64);
        for (_, by) in &changes.opened {
            self.opened.get_or_create(&reason(*by)).inc();
        }
    }
}

fn reason(by: Opening) -> Reason {
    let reason = match by {
        Opening::SameService => "same_service",
        Opening::Released => "released",
        Opening::Expired => "expired",
    };
    Reason { reason }
}
