//! Presence: finds nodes whose streams stall or never came back, and has the intake write their silence.
//!
//! A stream that ends is told at once by whoever holds it ([`Intake::end_session`]). Nothing is silent before it has had
//! the time to connect after a start.

use std::sync::Arc;
use std::time::Duration;

use portolan_runtime::jobs::Jobs;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::intake::Intake;

/// How often is looked; also how late a silence may be found.
const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// Starts the job.
pub fn start(jobs: &Jobs, intake: Arc<Intake>, clock: Clock) {
    jobs.start("presence", async move {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            sweep(&intake, &clock).await;
        }
    });
}

async fn sweep(intake: &Intake, clock: &Clock) {
    for node in intake.sweep(clock.now()) {
        match intake.silence(&node, clock.now().unix_ms).await {
            Ok(()) => info!(node = %node, "node `{node}` is silent"),
            // It stays on the list of the next sweep.
            Err(error) => warn!(node = %node, "the silence of node `{node}` cannot be written: {error}"),
        }
    }
}
