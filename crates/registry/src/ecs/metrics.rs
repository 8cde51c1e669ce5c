//! Counts of what AWS was asked and of what its events brought, with labels that have few values.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Series;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::action::{Action, Family};

/// The series; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    calls: Series<CallLabels, Counter>,
    budget_used: Gauge<f64, AtomicU64>,
    pace: Series<FamilyLabels, Gauge<f64, AtomicU64>>,
    events: Series<EventLabels, Counter>,
    sweeps: Series<SweepLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    action: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FamilyLabels {
    family: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SweepLabels {
    outcome: &'static str,
}

impl Metrics {
    /// Series that `registry` shows below its own prefix.
    pub fn new(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        registry.register("aws_calls", "Calls of AWS, by action and outcome", metrics.calls.clone());
        let help = "Calls of ECS and EC2 in the last minute, as a part of what the budget allows";
        registry.register("aws_budget_used_ratio", help, metrics.budget_used.clone());
        let help = "Calls a second that each family of AWS actions makes at most; throttling lowers it";
        registry.register("aws_pace", help, metrics.pace.clone());
        registry.register("ecs_events", "Messages of the event queue, by what became of them", metrics.events.clone());
        registry.register("ecs_sweeps", "Listings of clusters, by whether they were complete", metrics.sweeps.clone());
        metrics
    }

    pub(super) fn called(&self, action: Action, outcome: &'static str) {
        self.calls.get_or_create(&CallLabels { action: action.name(), outcome }).inc();
    }

    pub(super) fn set_pace(&self, family: Family, per_second: f64) {
        self.pace.get_or_create(&FamilyLabels { family: family.as_str() }).set(per_second);
    }

    pub(super) fn set_budget_used(&self, ratio: f64) {
        self.budget_used.set(ratio);
    }

    pub(super) fn event(&self, outcome: &'static str, count: usize) {
        self.events.get_or_create(&EventLabels { outcome }).inc_by(count as u64);
    }

    pub(super) fn swept(&self, outcome: &'static str) {
        self.sweeps.get_or_create(&SweepLabels { outcome }).inc();
    }
}
