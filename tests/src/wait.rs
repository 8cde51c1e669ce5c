//! Waiting for states: poll often, give up late, report the last state. The only place of the harness that sleeps.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long to wait for what should come soon. Late, because a loaded machine is slow and a failure is rare.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A moment to measure from.
#[expect(clippy::disallowed_methods, reason = "real programs live in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Lets `duration` pass: for the rate of a load and between two looks, never to let something happen.
#[expect(clippy::disallowed_methods, reason = "the one place of the harness that sleeps")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Calls `look` until it returns `Ok`; gives that value.
///
/// # Errors
/// The last `Err` that `look` returned, when `timeout` is over.
pub fn eventually<T, E: Debug>(timeout: Duration, mut look: impl FnMut() -> Result<T, E>) -> anyhow::Result<T> {
    let began = now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(state) if began.elapsed() >= timeout => anyhow::bail!("after {timeout:?} still: {state:?}"),
            Err(_) => pause(LOOK_EVERY),
        }
    }
}

/// Waits until `look` gives exactly `expected`.
///
/// # Errors
/// What it gave last, when `timeout` is over.
pub fn eventually_equal<T: PartialEq + Debug>(
    timeout: Duration,
    expected: &T,
    mut look: impl FnMut() -> T,
) -> anyhow::Result<()> {
    eventually(timeout, || {
        let state = look();
        if state == *expected { Ok(()) } else { Err(format!("{state:?}, expected {expected:?}")) }
    })
}

/// Looks for as long as `duration`, and fails at once when `look` does: for "nothing changes".
///
/// # Errors
/// The first error of `look`.
pub fn throughout(duration: Duration, mut look: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let began = now();
    while began.elapsed() < duration {
        look()?;
        pause(LOOK_EVERY);
    }
    Ok(())
}
