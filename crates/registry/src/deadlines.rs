//! Deadlines: commits what only the passing of time tells, as far as weak evidence may remove anything (DESIGN section 5).
//!
//! - [`silence`]: that a silence has lasted ten minutes; [`absence`]: that a task which listings lack may go.
//! - [`limits`]: how much of that may happen at once. What exceeds it is held back, stays as it is, and is looked at again
//!   every second. [`freeze`] tells people.
//! - [`alone`]: that no sidecar spoke on an instance within a minute, so that ECS alone counts there.
//!
//! Nothing is removed while the registry doubts itself, or before the witnesses have had the time to speak.

use std::sync::Arc;
use std::time::Duration;

use portolan_core::view::Readiness;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::metrics::Metrics;
use portolan_runtime::published::Reader;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::catalog::Catalog;
use crate::clock::{Clock, Now};
use crate::intake::Intake;
use crate::intake::statement::Statement;

mod absence;
mod alone;
mod freeze;
mod limits;
mod silence;

use freeze::Freeze;
use limits::{Cause, Look, Removals};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many statements are made at one look.
const STATEMENTS_MAX: usize = 1_024;

/// What the job works with.
#[derive(Debug)]
pub struct Deadlines {
    /// Where it states what it found.
    pub intake: Arc<Intake>,
    /// What it reads.
    pub catalog: Reader<Catalog>,
    /// The time.
    pub clock: Clock,
}

/// Starts the job.
pub fn start(jobs: &Jobs, deadlines: Deadlines, metrics: &Metrics) {
    let Deadlines { intake, catalog, clock } = deadlines;
    let mut freeze = metrics.register(Freeze::new);
    jobs.start("deadlines", async move {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut removals = Removals::default();
        loop {
            ticks.tick().await;
            let (now, catalog) = (clock.now(), catalog.load());
            freeze.see(catalog.frozen());
            look(&intake, &catalog, &mut removals, now).await;
        }
    });
}

async fn look(intake: &Intake, catalog: &Catalog, removals: &mut Removals, now: Now) {
    let is_sure = catalog.view.readiness == Readiness::Current && !intake.is_doubtful(now);
    let mut statements = absence::taken_back(catalog);
    statements.extend(alone::taken_back(catalog));
    if is_sure {
        statements.extend(alone::due(catalog, now.unix_ms));
    }
    state(intake, statements, now).await;
    if !is_sure {
        return;
    }
    let mut look = Look::new(catalog, removals, now.unix_ms);
    let (passages, absences) = (silence::due(&mut look), absence::due(&mut look));
    for silence::Passage { node, held } in passages {
        let count = held.len();
        match intake.pass(&node, held, now.unix_ms).await {
            Ok(()) => info!(node = %node, held = count, "node `{node}` has been silent for ten minutes"),
            Err(error) => {
                warn!(node = %node, "the deadline of node `{node}` cannot be written: {error}");
                removals.forget(|known, cause| *known == node && *cause == Cause::Silence);
            }
        }
    }
    let tasks: usize = absences.iter().map(|absence| absence.newly.len()).sum();
    if tasks > 0 {
        info!(tasks, "{tasks} tasks are gone that ECS lists no longer");
    }
    let statements = absences.iter().map(|a| Statement::Absence(a.node.clone(), Some(a.record.clone()))).collect();
    if !state(intake, statements, now).await {
        removals.forget(|_, cause| matches!(cause, Cause::Missing(_)));
    }
}

/// Whether the statements are kept. Those that are not are made again at the next look.
async fn state(intake: &Intake, mut statements: Vec<Statement>, now: Now) -> bool {
    statements.truncate(STATEMENTS_MAX);
    match intake.state(statements, now.unix_ms).await {
        Ok(_) => true,
        Err(error) => {
            warn!("what follows of absences cannot be written: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests;
