//! How long things took: kept by who was asked, shown, and held against what is promised.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use portolan_tests::report;

/// What is promised of every one.
const WITHIN: Duration = Duration::from_secs(1);

/// How long it took until each of those who were asked said so.
#[derive(Debug, Default)]
pub(crate) struct Delays(BTreeMap<&'static str, Vec<Duration>>);

impl Delays {
    /// Adds what took from `since` until each one's moment. What was so before took no time.
    pub(crate) fn add(&mut self, since: Instant, moments: Vec<(&'static str, Instant)>) {
        for (who, at) in moments {
            self.0.entry(who).or_default().push(at.saturating_duration_since(since));
        }
    }

    /// Shows them. Everybody was asked `count` times, and each time was within a second.
    pub(crate) fn check(mut self, what: &str, count: usize) {
        for (who, all) in &mut self.0 {
            all.sort();
            let (least, middle, most) = (all[0], all[all.len() / 2], all[all.len() - 1]);
            report::say(&format!(
                "{what}, {who}: {least:.0?} {middle:.0?} {most:.0?} (min, median, max of {})",
                all.len()
            ));
        }
        for (who, all) in &self.0 {
            assert_eq!(all.len(), count, "{what}, {who}");
            assert!(all.iter().all(|took| *took <= WITHIN), "{what}, {who}: {all:?}");
        }
        assert!(!self.0.is_empty(), "{what}: nobody was asked");
    }
}
