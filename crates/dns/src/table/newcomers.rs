//! Tells questions that were asked before from new ones, about: what is asked only once is not worth keeping, and random names,
//! of which there is no end, would drive out all others.

use std::hash::{BuildHasher, RandomState};

/// How many questions are remembered.
const MARKS: usize = 1024;

/// A mark of each of the last questions.
#[derive(Debug)]
pub(crate) struct Newcomers {
    hasher: RandomState,
    marks: Vec<u32>,
}

impl Newcomers {
    /// Nothing was asked.
    pub(crate) fn new() -> Self {
        Newcomers { hasher: RandomState::new(), marks: vec![0; MARKS] }
    }

    /// Whether that was not asked lately. It is remembered.
    pub(crate) fn is_new(&mut self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        let (place, mark) = (hash as usize % MARKS, (hash >> 32) as u32);
        std::mem::replace(&mut self.marks[place], mark) != mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
