//! The freeze, for people: how much the limits hold back, as gauges, and a line in the log when it begins and ends.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{info, warn};

use crate::catalog::Frozen;

/// What was seen of it.
#[derive(Debug)]
pub(super) struct Freeze {
    endpoints: Gauge,
    nodes: Gauge,
    services: Gauge,
    before: Frozen,
    is_told: bool,
}

impl Freeze {
    /// With gauges that `registry` shows as `held_endpoints`, `held_nodes` and `held_services` below its own prefix.
    pub(super) fn new(registry: &mut Registry) -> Freeze {
        let gauge = |registry: &mut Registry, name: &str, what: &str| {
            let gauge = Gauge::default();
            let help = format!("{what} that would be gone by weak evidence, were that not too much at once");
            registry.register(name, help, gauge.clone());
            gauge
        };
        Freeze {
            endpoints: gauge(registry, "held_endpoints", "Endpoints"),
            nodes: gauge(registry, "held_nodes", "Nodes with endpoints"),
            services: gauge(registry, "held_services", "Services with endpoints"),
            before: Frozen::default(),
            is_told: false,
        }
    }

    /// Takes in how much is held back now. Something is found missing a moment before it may go: it takes two looks to
    /// be held back.
    pub(super) fn see(&mut self, now: Frozen) {
        for (gauge, count) in
            [(&self.endpoints, now.endpoints), (&self.nodes, now.nodes), (&self.services, now.services)]
        {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let Frozen { endpoints, nodes, services } = now;
        if endpoints > 0 && self.before.endpoints > 0 && !self.is_told {
            self.is_told = true;
            warn!(
                endpoints,
                nodes,
                services,
                "{endpoints} endpoints of {services} services on {nodes} nodes are kept although nobody speaks for them: too \
                 much would be gone at once"
            );
        } else if endpoints == 0 && self.is_told {
            self.is_told = false;
            info!("nothing is kept any more that nobody speaks for");
        }
        self.before = now;
    }
}

#[cfg(test)]
impl Freeze {
    /// Whether people were told that it lasts.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }
}
