//! What failed a moment ago is not asked again (RFC 9520): at first for a second, then for twice as long each time, at
//! most half a minute, so that an outage that ends is over for everybody soon.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::asked::Asked;

/// RFC 9520 section 3.2: one second at the least.
const HOLD_MIN: Duration = Duration::from_secs(1);
/// And five minutes at the most. This is RFC 8767's time before a stale answer is checked again (section 5).
const HOLD_MAX: Duration = Duration::from_secs(30);
/// Beyond it, a failure is not remembered: the budget and the number of flights hold as well.
const ENTRIES_MAX: usize = 1024;

/// Failures, by question.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<Asked, Failure>);

#[derive(Debug)]
struct Failure {
    failed_at: Instant,
    hold: Duration,
    cause: Cause,
}

/// A failure, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) cause: Cause,
    pub(super) fallback: Fallback,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nobody answered.
    Silence,
    /// All who answered said that they cannot.
    Refusal,
}

/// What else is known of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// A stale answer is given meanwhile: nobody waits for the next attempt.
    Stale,
    Nothing,
}

impl Failures {
    /// Why `asked` is not to be asked now.
    pub(super) fn find(&self, asked: &Asked, now: Instant) -> Option<Cause> {
        let failure = self.0.get(asked)?;
        (now < failure.failed_at + failure.hold).then_some(failure.cause)
    }

    pub(super) fn remember(&mut self, asked: &Asked, failed: Failed, now: Instant) {
        if self.0.len() >= ENTRIES_MAX && !self.0.contains_key(asked) {
            self.0.retain(|_, failure| now < failure.failed_at + failure.hold);
            if self.0.len() >= ENTRIES_MAX {
                return;
            }
        }
        // As long as it has been quiet for, it is remembered how often it failed in a row.
        let earlier = self.0.get(asked).filter(|failure| now < failure.failed_at + 3 * failure.hold);
        let hold = match failed.fallback {
            Fallback::Stale => HOLD_MAX,
            Fallback::Nothing => earlier.map_or(HOLD_MIN, |failure| (2 * failure.hold).min(HOLD_MAX)),
        };
        self.0.insert(asked.clone(), Failure { failed_at: now, hold, cause: failed.cause });
    }

    pub(super) fn forget(&mut self, asked: &Asked) {
        self.0.remove(asked);
    }

    /// Somebody answers again who had not: what failed by silence may be asked again.
    pub(super) fn end_silence(&mut self) {
        for failure in self.0.values_mut().filter(|failure| failure.cause == Cause::Silence) {
            failure.hold = HOLD_MIN;
        }
    }

    /// Others are asked from now on.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{DNSClass, Name, RecordType};

    use super::*;
    use crate::wire::Question;

    fn asked(name: &str) -> Asked {
        let name = Name::from_ascii(name).unwrap();
        Asked::plain(&Question { name, record_type: RecordType::A, class: DNSClass::IN })
    }

    /// For how many seconds `name` is held.
    fn held(failures: &Failures, name: &str, now: Instant) -> u64 {
        let is_held = |seconds| failures.find(&asked(name), now + Duration::from_secs(seconds)).is_some();
        (0..).find(|seconds| !is_held(*seconds)).unwrap()
    }

    fn failed(cause: Cause, fallback: Fallback) -> Failed {
        Failed { cause, fallback }
    }

    #[test]
    fn holds_twice_as_long_each_time_up_to_half_a_minute() {
        let (mut failures, mut now) = (Failures::default(), Instant::now());
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            failures.remember(&asked("a."), failed(Cause::Refusal, Fallback::Nothing), now);
            assert_eq!(held(&failures, "a.", now), expected);
            now += Duration::from_secs(expected);
        }
        now += Duration::from_secs(90);
        failures.remember(&asked("a."), failed(Cause::Refusal, Fallback::Nothing), now);
        assert_eq!(held(&failures, "a.", now), 1, "long ago");
        failures.remember(&asked("b."), failed(Cause::Refusal, Fallback::Stale), now);
        assert_eq!(held(&failures, "b.", now), 30, "RFC 8767 section 5");
        failures.forget(&asked("b."));
        assert_eq!(held(&failures, "b.", now), 0);
    }

    #[test]
    fn the_end_of_a_silence_is_the_end_of_what_failed_by_it() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        failures.remember(&asked("silent."), failed(Cause::Silence, Fallback::Stale), now);
        failures.remember(&asked("refused."), failed(Cause::Refusal, Fallback::Stale), now);
        failures.end_silence();
        assert_eq!((held(&failures, "silent.", now), held(&failures, "refused.", now)), (1, 30));
    }

    #[test]
    fn no_more_than_a_bounded_number_is_remembered() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for number in 0..2 * ENTRIES_MAX {
            failures.remember(&asked(&format!("n{number}.")), failed(Cause::Silence, Fallback::Nothing), now);
        }
        assert_eq!(failures.0.len(), ENTRIES_MAX);
        failures.remember(&asked("later."), failed(Cause::Silence, Fallback::Nothing), now + HOLD_MIN);
        assert_eq!(failures.0.len(), 1);
    }
}
