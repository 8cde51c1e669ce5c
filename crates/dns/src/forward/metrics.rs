//! Counts of what is forwarded.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counts of forwarded questions; clones count together.
#[derive(Debug, Clone, Default)]
pub struct ForwardMetrics {
    pub(super) hits: Counter,
    pub(super) sent: Counter,
    pub(super) stale: Counter,
    pub(super) failed: Counter,
    pub(super) ignored: Counter,
    pub(super) looped: Counter,
}

impl ForwardMetrics {
    /// Counters that `registry` shows as `dns_forward_*_total`.
    pub fn new(registry: &mut Registry) -> ForwardMetrics {
        let metrics = ForwardMetrics::default();
        let mut show = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        show("dns_forward_hits", "forwarded questions answered from the cache", &metrics.hits);
        show("dns_forward_sent", "questions sent to an upstream resolver, with retries", &metrics.sent);
        show("dns_forward_stale", "forwarded questions answered with stale records", &metrics.stale);
        show("dns_forward_failed", "forwarded questions that failed", &metrics.failed);
        show("dns_forward_ignored", "packets to the forwarder that were no answer to its question", &metrics.ignored);
        show("dns_forward_looped", "questions of our own that an upstream resolver asked us", &metrics.looped);
        metrics
    }
}
