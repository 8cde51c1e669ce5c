//! Randomness for waits, from one seed, so that a test that gives the seed sees the same waits again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Draws random parts of waits.
#[derive(Debug)]
pub(super) struct Jitter(Mutex<StdRng>);

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// From 0 to 1.
    pub(super) fn fraction(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.0..1.0)
    }

    /// The wait before attempt `number` (from 1) is repeated: anything up to `first`, doubled each time, at most `last`.
    pub(super) fn backoff(&self, number: u32, (first, last): (Duration, Duration)) -> Duration {
        let doubled = first.saturating_mul(1 << number.saturating_sub(1).min(20));
        doubled.min(last).mul_f64(self.fraction())
    }
}
