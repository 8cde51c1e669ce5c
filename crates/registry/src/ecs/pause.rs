//! How long to wait between two sweeps of a cluster, so that sweeping leaves half of the budget to everything else.
//!
//! Pure. A small cluster is listed every ten seconds, as absence needs; a large one as often as its own calls allow; one
//! whose events come, more seldom: a listing then only heals what an event lost.

use std::time::Duration;

/// The least.
const SHORTEST: Duration = Duration::from_secs(10);
/// The least where events come: with what it takes to list, a lost event is healed within a minute.
const WITH_EVENTS: Duration = Duration::from_secs(30);
/// The most.
const LONGEST: Duration = Duration::from_secs(600);

/// What the wait depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    /// How many calls the last sweep took.
    pub(super) calls: u32,
    /// How many sweeps in a row were given up.
    pub(super) failures: u32,
    /// Whether the cluster's events come.
    pub(super) has_events: bool,
    /// How many clusters share the budget.
    pub(super) clusters: u32,
    pub(super) calls_per_second: u32,
}

impl Pause {
    /// `random` is from 0 to 1.
    pub(super) fn draw(self, random: f64) -> Duration {
        if self.failures > 0 {
            // The pace of calls is low already where AWS throttles.
            return SHORTEST.mul_f64(1.0 + random);
        }
        let least = if self.has_events { WITH_EVENTS } else { SHORTEST };
        let calls = f64::from(self.calls) * f64::from(self.clusters.max(1));
        let own = Duration::from_secs_f64(calls / f64::from(self.calls_per_second.max(1)));
        own.clamp(least, LONGEST).mul_f64(1.0 + random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_the_cluster_and_shrinks_for_none() {
        let small = Pause { calls: 8, failures: 0, has_events: false, clusters: 1, calls_per_second: 2 };
        let check = |pause: Pause, from: u64, to: u64| {
            assert_eq!((pause.draw(0.0).as_secs(), pause.draw(1.0).as_secs()), (from, to), "{pause:?}");
        };
        check(small, 10, 15);
        check(Pause { has_events: true, ..small }, 30, 45);
        check(Pause { calls: 216, ..small }, 108, 162);
        check(Pause { calls: 216, clusters: 3, ..small }, 324, 486);
        check(Pause { calls: 40_000, ..small }, 600, 900);
        check(Pause { failures: 7, ..small }, 10, 20);
    }
}
