//! The budget: how often AWS may be called, over all calls and within each family that AWS throttles together.
//!
//! Pure: time and randomness are arguments. The buckets of an account are shared with everything else that runs in it, so
//! calls are spaced evenly and no burst is saved up: no second sees more calls than the budget says. A throttled family
//! halves its pace at once and wins it back call by call; the others keep theirs.

use std::time::Duration;

use tokio::time::Instant;

use super::action::Family;

/// A throttled family keeps at least this part of its pace: it has to find out that it may call again.
const PACE_PART_MIN: f64 = 1.0 / 16.0;
/// What one answered call wins back, as a part of the full pace.
const RECOVERED_PART: f64 = 1.0 / 8.0;
/// The longest that is believed of a `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How often calls may be made.
#[derive(Debug)]
pub(super) struct Budget {
    full: f64,
    all: Pace,
    /// In the order of [`Family::ALL`].
    families: [Pace; Family::ALL.len()],
}

/// Calls, evenly spaced.
#[derive(Debug, Clone, Copy)]
struct Pace {
    per_second: f64,
    /// When the next call may go.
    next: Instant,
}

impl Pace {
    /// Whether a call may go now, which then counts as made; otherwise when one may.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        if now < self.next {
            return Err(self.next);
        }
        self.next = now + self.interval();
        Ok(())
    }

    fn reserve(&mut self, now: Instant) -> Instant {
        let at = self.next.max(now);
        self.next = at + self.interval();
        at
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.per_second.recip())
    }
}

impl Budget {
    /// `calls_per_second` is at least 1.
    pub(super) fn new(calls_per_second: u32, now: Instant) -> Budget {
        let full = f64::from(calls_per_second.max(1));
        let pace = Pace { per_second: full, next: now };
        Budget { full, all: pace, families: [pace; Family::ALL.len()] }
    }

    /// When the family's next call may ask for its place among all. First, so that a family that waits for long holds no
    /// place that another could use.
    pub(super) fn reserve_in_family(&mut self, family: Family, now: Instant) -> Instant {
        self.families[family.index()].reserve(now)
    }

    /// Takes the place of a call of any family that goes now.
    ///
    /// # Errors
    /// When the next one may go, to try again then. No place is given before its time: of several that wake up late, all would go
    /// at once.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        self.all.take(now)
    }

    /// A call of the family was answered.
    pub(super) fn answered(&mut self, family: Family) {
        let pace = &mut self.families[family.index()];
        pace.per_second = (pace.per_second + self.full * RECOVERED_PART).min(self.full);
    }

    /// A call of the family was throttled. `random` is from 0 to 1: full jitter, so that registries that were throttled
    /// together do not come back together.
    pub(super) fn throttled(&mut self, family: Family, retry_after: Option<Duration>, (now, random): (Instant, f64)) {
        let pace = &mut self.families[family.index()];
        pace.per_second = (pace.per_second / 2.0).max(self.full * PACE_PART_MIN);
        let told = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        pace.next = pace.next.max(now + told + pace.interval().mul_f64(random));
    }

    /// Calls a second that the family makes at most, for metrics.
    pub(super) fn pace(&self, family: Family) -> f64 {
        self.families[family.index()].per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: Family = Family::ClusterResourceRead;

    fn call(budget: &mut Budget, family: Family, now: Instant) -> Instant {
        let mut at = budget.reserve_in_family(family, now);
        while let Err(turn) = budget.take(at) {
            at = turn;
        }
        at
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_calls_than_it_says() {
        let start = Instant::now();
        let mut budget = Budget::new(2, start);
        // A pause saves nothing up.
        let later = start + Duration::from_secs(3600);
        let calls: Vec<_> = (0..10).map(|n| call(&mut budget, Family::ALL[n % 5], later) - later).collect();
        let expected: Vec<_> = (0..10).map(|n| Duration::from_millis(500 * n)).collect();
        assert_eq!(calls, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_family_slows_down_and_recovers_and_the_others_do_not_wait() {
        let now = Instant::now();
        let mut budget = Budget::new(2, now);
        for expected in [1.0, 0.5, 0.25, 0.125, 0.125] {
            budget.throttled(FAMILY, None, (now, 1.0));
            assert!((budget.pace(FAMILY) - expected).abs() < 1e-9);
        }
        assert_eq!(budget.reserve_in_family(FAMILY, now) - now, Duration::from_secs(8));
        assert_eq!(call(&mut budget, Family::ServiceRead, now), now);
        for _ in 0..8 {
            budget.answered(FAMILY);
        }
        assert!((budget.pace(FAMILY) - 2.0).abs() < 0.2);
    }

    #[tokio::test(start_paused = true)]
    async fn believes_retry_after_within_reason() {
        let now = Instant::now();
        for (told, expected) in [(7, 7), (100_000, 300)] {
            let mut budget = Budget::new(2, now);
            budget.throttled(FAMILY, Some(Duration::from_secs(told)), (now, 0.0));
            assert_eq!(budget.reserve_in_family(FAMILY, now) - now, Duration::from_secs(expected));
        }
    }
}
