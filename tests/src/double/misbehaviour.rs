//! How AWS misbehaves: which faults strike, and when. By chance on a seed, or as the test says.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The call is answered with the error of a rate that is used up.
    Throttled,
    /// HTTP 500.
    ServerError,
    /// The credentials have expired.
    Expired,
    /// The connection is closed before the answer.
    Unreachable,
    /// No answer comes.
    Silent,
    /// The answer comes late: see [`Misbehaviour::slow_max`].
    Slow,
    /// The answer's body comes in small pieces, within [`Misbehaviour::slow_max`].
    Dribble,
    /// The answer's body ends before its end.
    Cut,
    /// A page after the first one is an HTTP 500.
    PageFails,
    /// A page comes once more.
    PageRepeats,
    /// From here on every page is this one, with the same token for ever.
    PageLoops,
    /// A page has nothing but a token.
    PageEmpty,
    /// One that is there is not in the listing.
    ListingOmits,
    /// A description is as it was before: see [`Misbehaviour::lag_max`]. Listings, too.
    Lag,
    /// One that is there is in `failures`, as MISSING.
    DescribeFails,
    /// One that is there is neither in the answer nor in `failures`.
    DescribeOmits,
    /// Answers and events have fields that nobody knows.
    UnknownFields,
    /// An event never comes.
    EventLost,
    /// An event comes twice.
    EventDoubled,
    /// An event comes late, and so out of order: see [`Misbehaviour::delay_max`].
    EventDelayed,
    /// Beside an event comes something that is none.
    EventPoison,
    /// An event is as large as SQS takes it.
    EventHuge,
    /// Beside an event comes one of an unknown kind.
    EventUnknown,
    /// Messages are received in any order.
    Shuffled,
    /// A message is not deleted although the answer says so.
    DeleteForgotten,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 25] = [
        Fault::Throttled,
        Fault::ServerError,
        Fault::Expired,
        Fault::Unreachable,
        Fault::Silent,
        Fault::Slow,
        Fault::Dribble,
        Fault::Cut,
        Fault::PageFails,
        Fault::PageRepeats,
        Fault::PageLoops,
        Fault::PageEmpty,
        Fault::ListingOmits,
        Fault::Lag,
        Fault::DescribeFails,
        Fault::DescribeOmits,
        Fault::UnknownFields,
        Fault::EventLost,
        Fault::EventDoubled,
        Fault::EventDelayed,
        Fault::EventPoison,
        Fault::EventHuge,
        Fault::EventUnknown,
        Fault::Shuffled,
        Fault::DeleteForgotten,
    ];

    /// Those that no run goes wild by: nothing can be learned while they last, or they are for a test of their own.
    const TAME: [Fault; 4] = [Fault::Silent, Fault::Expired, Fault::UnknownFields, Fault::DeleteForgotten];

    /// One by its name in this program's text: `PageFails`.
    pub fn by_name(name: &str) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name)
    }
}

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// Every time.
    Always,
    /// With this probability, each time.
    Chance(f64),
    /// The next so many times.
    Next(u32),
    /// Once: the first time is 1.
    Nth(u32),
    /// From the one time after the beginning until the other.
    Between(Duration, Duration),
}

/// All faults, and how far they go.
#[derive(Debug)]
pub struct Misbehaviour {
    /// How many are on a page, by chance. AWS gives 100 where there are as many.
    pub page_sizes: RangeInclusive<usize>,
    /// How far an older state is back at most.
    pub lag_max: Duration,
    /// How late an event is at most.
    pub delay_max: Duration,
    /// How late an answer is at most.
    pub slow_max: Duration,
    /// Actions that are denied, such as `ecs:ListTasks`.
    pub denied: BTreeSet<String>,
    rules: Vec<Rule>,
    began_ms: u64,
    random: StdRng,
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    action: Option<String>,
    when: When,
    met: u32,
}

impl Misbehaviour {
    /// None, until something is said.
    pub fn new(seed: u64, began_ms: u64) -> Self {
        Misbehaviour {
            page_sizes: 100..=100,
            lag_max: Duration::from_secs(5),
            delay_max: Duration::from_secs(60),
            slow_max: Duration::from_secs(5),
            denied: BTreeSet::new(),
            rules: Vec::new(),
            began_ms,
            // Another stream than the world's: faults change nothing of what is there.
            random: StdRng::seed_from_u64(seed ^ 0x6d69_7362_6568_6176),
        }
    }

    /// Adds a fault, of one action or of all that it fits.
    pub fn add(&mut self, action: Option<&str>, fault: Fault, when: When) {
        self.rules.push(Rule { fault, action: action.map(str::to_owned), when, met: 0 });
    }

    /// Ends a fault.
    pub fn remove(&mut self, fault: Fault) {
        self.rules.retain(|rule| rule.fault != fault);
    }

    /// Ends all of it.
    pub fn heal(&mut self) {
        self.rules.clear();
        self.denied.clear();
        self.page_sizes = 100..=100;
    }

    /// Some faults, each with some probability up to `chance_max`; which ones follows from the seed.
    pub fn go_wild(&mut self, chance_max: f64) {
        for fault in Fault::ALL.into_iter().filter(|fault| !Fault::TAME.contains(fault)) {
            if self.random.random_bool(0.4) {
                let chance = self.random.random_range(0.0..=chance_max);
                self.add(None, fault, When::Chance(chance));
            }
        }
        self.page_sizes = 1..=*self.pick(&[1, 2, 7, 100]);
        self.lag_max = Duration::from_secs(*self.pick(&[1, 10, 120]));
        self.delay_max = Duration::from_secs(*self.pick(&[1, 60, 3_600]));
        self.slow_max = Duration::from_secs(*self.pick(&[1, 5, 30]));
    }

    /// Whether a fault strikes now. Chance is asked only when there is a rule, so that a rule changes no other.
    pub fn strikes(&mut self, fault: Fault, action: &str, now_ms: u64) -> bool {
        let mut strikes = false;
        let since_begin = Duration::from_millis(now_ms.saturating_sub(self.began_ms));
        for rule in &mut self.rules {
            if rule.fault != fault || rule.action.as_ref().is_some_and(|of| of != action) {
                continue;
            }
            rule.met = rule.met.saturating_add(1);
            strikes |= match rule.when {
                When::Always => true,
                When::Chance(chance) => self.random.random_bool(chance),
                When::Next(times) => rule.met <= times,
                When::Nth(number) => rule.met == number,
                When::Between(from, until) => (from..until).contains(&since_begin),
            };
        }
        strikes
    }

    /// How many go on the next page.
    pub fn page_size(&mut self) -> usize {
        if self.page_sizes.start() == self.page_sizes.end() {
            return *self.page_sizes.start();
        }
        self.random.random_range(self.page_sizes.clone())
    }

    /// A number that was not there before, most likely.
    pub fn nonce(&mut self) -> u64 {
        self.random.random()
    }

    /// A time between nothing and `max`, in milliseconds.
    pub fn up_to_ms(&mut self, max: Duration) -> u64 {
        self.random.random_range(0..=u64::try_from(max.as_millis()).unwrap_or(u64::MAX))
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.random.random_range(0..from.len())]
    }

    /// Chance itself.
    pub fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(when: When) -> Vec<bool> {
        let mut misbehaviour = Misbehaviour::new(7, 1_000);
        misbehaviour.add(Some("ecs:ListTasks"), Fault::ServerError, when);
        assert!(!misbehaviour.strikes(Fault::ServerError, "ecs:DescribeTasks", 1_000), "another action");
        (0..5).map(|number| misbehaviour.strikes(Fault::ServerError, "ecs:ListTasks", 1_000 + number * 1_000)).collect()
    }

    #[test]
    fn each_schedule_strikes_as_it_says() {
        let from = |numbers: &[usize]| (0..5).map(|number| numbers.contains(&number)).collect::<Vec<_>>();
        assert_eq!(strikes(When::Always), from(&[0, 1, 2, 3, 4]));
        assert_eq!(strikes(When::Next(2)), from(&[0, 1]));
        assert_eq!(strikes(When::Nth(2)), from(&[1]));
        assert_eq!(strikes(When::Between(Duration::from_secs(1), Duration::from_secs(3))), from(&[1, 2]));
        assert_eq!(strikes(When::Chance(0.0)), from(&[]));
    }

    #[test]
    fn chance_follows_from_the_seed() {
        let wild = |seed| {
            let mut misbehaviour = Misbehaviour::new(seed, 0);
            misbehaviour.go_wild(0.5);
            (0..1_000).map(|_| misbehaviour.strikes(Fault::Lag, "ecs:ListTasks", 0)).collect::<Vec<_>>()
        };
        let runs: Vec<_> = (0..20).map(wild).collect();
        assert_eq!(runs, (0..20).map(wild).collect::<Vec<_>>());
        assert!(runs.iter().any(|run| run.contains(&true)) && runs.iter().any(|run| !run.contains(&true)));
    }
}
