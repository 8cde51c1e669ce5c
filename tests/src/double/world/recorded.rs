//! Objects of one kind by ARN, each with what it was before: an API that lags shows an older state of one of them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// How many states of one object are kept. Nothing lags behind more changes than that.
const STATES_MAX: usize = 16;

/// Objects of one kind.
#[derive(Debug)]
pub struct Objects<T> {
    by_arn: BTreeMap<String, VecDeque<(u64, Arc<T>)>>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Objects { by_arn: BTreeMap::new() }
    }
}

impl<T> Objects<T> {
    /// Puts an object in its place; from `now_ms` on it is like that.
    pub fn put(&mut self, now_ms: u64, arn: &str, object: T) {
        let states = self.by_arn.entry(arn.to_owned()).or_default();
        if states.len() == STATES_MAX {
            states.pop_front();
        }
        states.push_back((now_ms, Arc::new(object)));
    }

    /// Forgets one, with all that it was.
    pub fn remove(&mut self, arn: &str) {
        self.by_arn.remove(arn);
    }

    /// One as it is.
    pub fn get(&self, arn: &str) -> Option<&Arc<T>> {
        self.by_arn.get(arn)?.back().map(|(_, object)| object)
    }

    /// One as it was at `at_ms`; `None` when it was not there yet.
    pub fn get_at(&self, arn: &str, at_ms: u64) -> Option<&Arc<T>> {
        let states = self.by_arn.get(arn)?;
        // More changes than are kept: the oldest that is known, rather than none.
        let oldest = (states.len() == STATES_MAX).then(|| &states[0]);
        let state = states.iter().rev().find(|(since_ms, _)| *since_ms <= at_ms).or(oldest)?;
        Some(&state.1)
    }

    /// All as they are, in the order of their ARNs.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Arc<T>)> {
        self.by_arn.iter().filter_map(|(arn, states)| Some((arn, &states.back()?.1)))
    }

    /// The ARNs after one, in their order.
    pub fn arns_after<'a>(&'a self, arn: Option<&str>) -> impl Iterator<Item = &'a String> + use<'a, T> {
        let from = arn.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_arn.range::<str, _>((from, Bound::Unbounded)).map(|(arn, _)| arn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_seen_as_it_was() {
        let mut objects = Objects::default();
        objects.put(10, "a", "new");
        objects.put(20, "a", "changed");
        let seen = |at_ms| objects.get_at("a", at_ms).map(|object| **object);
        assert_eq!([seen(9), seen(10), seen(19), seen(20)], [None, Some("new"), Some("new"), Some("changed")]);
        assert_eq!(objects.get("a").map(|object| **object), Some("changed"));
    }

    #[test]
    fn older_states_than_are_kept_do_not_make_an_object_absent() {
        let mut objects = Objects::default();
        (0..100_u64).for_each(|at_ms| objects.put(at_ms, "a", at_ms));
        assert_eq!(objects.get_at("a", 0).map(|object| **object), Some(84));
    }
}
