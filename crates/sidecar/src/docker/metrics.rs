//! What an operator may count of the Docker witness.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the metrics; clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    pub(super) is_up: Gauge,
    pub(super) containers: Gauge,
    pub(super) events: Counter,
    pub(super) inspections: Counter,
    pub(super) inspection_failures: Counter,
    pub(super) published: Counter,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        let registry = registry.sub_registry_with_prefix("docker");
        registry.register("up", "1 while Docker answers", metrics.is_up.clone());
        registry.register("containers", "Running containers known", metrics.containers.clone());
        registry.register("events", "Events received", metrics.events.clone());
        registry.register("inspections", "Containers inspected", metrics.inspections.clone());
        registry.register("inspection_failures", "Inspections that failed", metrics.inspection_failures.clone());
        registry.register("published", "Changes of the local state", metrics.published.clone());
        metrics
    }
}
