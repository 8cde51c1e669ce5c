//! Which endpoint a connection goes to, and which next: ranks in order, the nearest of a rank first, at random among
//! equals, those that just failed last.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portolan_core::endpoint::Endpoint;
use portolan_core::selection::Rank;
use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::LinkSettings;

/// How long an endpoint that failed stands behind the others: longer than a crashed container needs to vanish from the
/// view, short enough that one lost packet does not unbalance a service.
const FAILURE_MEMORY: Duration = Duration::from_secs(5);
/// Failures kept in mind. When it is full the oldest knowledge counts: new failures are not noted until old ones end.
const FAILURES_MAX: usize = 1024;

/// Where an endpoint runs, seen from here; lower is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nearness {
    /// On this node, or in this availability zone.
    Near,
    Far,
}

/// An endpoint to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) rank: Rank,
    pub(super) nearness: Nearness,
    pub(super) address: SocketAddr,
}

impl Nearness {
    /// The same zone counts as near, and so does the same node where zones are not known. A node alone would draw all
    /// of its clients to one endpoint.
    pub(super) fn of(endpoint: &Endpoint, settings: &LinkSettings) -> Nearness {
        let is_near = match (&settings.az, &endpoint.az) {
            (Some(ours), Some(its)) => ours == its,
            (Some(_), None) => settings.node.as_ref() == Some(&endpoint.key.node),
            (None, _) => true,
        };
        if is_near { Nearness::Near } else { Nearness::Far }
    }
}

/// The addresses to try, in order.
pub(super) fn order(targets: &[Target], failures: &Failures, now: Instant) -> Vec<SocketAddr> {
    let mut ordered = targets.to_vec();
    // Sorted already; shuffle first, then a stable sort by what is not random.
    ordered.shuffle(&mut rand::rng());
    let standing = |target: &Target| (failures.has(target.address, now), target.rank, target.nearness);
    ordered.sort_by_cached_key(standing);
    ordered.into_iter().map(|target| target.address).collect()
}

/// Addresses that lately could not be connected to.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: AtomicUsize,
    until: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Failures {
    pub(super) fn note(&self, address: SocketAddr, now: Instant) {
        let mut until = self.lock();
        if until.len() >= FAILURES_MAX {
            until.retain(|_, end| *end > now);
        }
        if until.len() < FAILURES_MAX {
            until.insert(address, now + FAILURE_MEMORY);
        }
        self.count.store(until.len(), Ordering::Relaxed);
    }

    pub(super) fn forget(&self, address: SocketAddr) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut until = self.lock();
            until.remove(&address);
            self.count.store(until.len(), Ordering::Relaxed);
        }
    }

    /// Takes no lock while nothing fails.
    fn has(&self, address: SocketAddr, now: Instant) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.lock().get(&address).is_some_and(|end| *end > now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        self.until.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
