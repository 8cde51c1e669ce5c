//! The one place where the registry reads a clock: everything behind it gets the time as an argument.
//!
//! Timers use the monotonic part; the Unix part is for people and for what outlives the program, and it is taken from
//! the monotonic one, so that a step of the wall clock moves no deadline.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A moment, as timers and as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For timers.
    pub instant: Instant,
    /// Unix milliseconds.
    pub unix_ms: u64,
}

/// Tells the time. Copies tell the same.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Now,
}

impl Clock {
    /// A clock that is right now.
    pub fn system() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock::starting_at(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX))
    }

    /// A clock that says `unix_ms` now.
    pub fn starting_at(unix_ms: u64) -> Self {
        Clock { started: Now { instant: Instant::now(), unix_ms } }
    }

    /// Now.
    pub fn now(&self) -> Now {
        let instant = Instant::now();
        let elapsed_ms = u64::try_from((instant - self.started.instant).as_millis()).unwrap_or(u64::MAX);
        Now { instant, unix_ms: self.started.unix_ms.saturating_add(elapsed_ms) }
    }
}
