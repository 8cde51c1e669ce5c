//! Tells questions that were asked before from new ones, about: what is asked only once is not worth keeping, and random names,
//! of which there is no end, would drive out all others.

use std::hash::{BuildHasher, RandomState};

/// Where questions are remembered, by their hash: in each place the last few, so that two that are asked in turn do not always
/// drive each other out.
const PLACES: usize = 512;
const MARKS: usize = 4;

/// A mark of each of the last questions.
#[derive(Debug)]
pub(crate) struct Newcomers {
    hasher: RandomState,
    places: Vec<[u32; MARKS]>,
}

impl Newcomers {
    /// Nothing was asked.
    pub(crate) fn new() -> Self {
        Newcomers { hasher: RandomState::new(), places: vec![[0; MARKS]; PLACES] }
    }

    /// Whether that was not asked lately. It is remembered.
    pub(crate) fn is_new(&mut self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        let (marks, mark) = (&mut self.places[hash as usize % PLACES], (hash >> 32) as u32);
        let is_new = !marks.contains(&mark);
        if is_new {
            marks.rotate_right(1);
            marks[0] = mark;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_nearly_all_of_some_that_are_asked_in_turn() {
        let mut newcomers = Newcomers::new();
        let mut new = || (0..64u32).filter(|n| newcomers.is_new(&n.to_be_bytes())).count();
        assert_eq!(new(), 64);
        assert!(new() <= 2 * (MARKS + 1), "more than two places have too many");
    }

    #[test]
    fn knows_what_was_asked_a_moment_ago() {
        let mut newcomers = Newcomers::new();
        assert!(newcomers.is_new(b"one"));
        assert!(!newcomers.is_new(b"one"));
        let again = (0..100_000).filter(|n: &u32| !newcomers.is_new(&n.to_be_bytes())).count();
        assert!(again < 10, "{again} of what was never asked");
        assert!(newcomers.is_new(b"one"), "it is long ago");
    }
}
