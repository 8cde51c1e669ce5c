//! The ledger: what is known of every cluster, shared by the jobs that hear, and brought to the intake by one that states.
//!
//! Whoever heard something may wait until it is durable, before it lets go of what told it. A statement that the store does
//! not take is made again; what is heard meanwhile joins it, so there is no queue.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use portolan_core::name::Label;
use portolan_runtime::published::Reader;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::caller::Caller;
use super::definition::Definitions;
use super::knowledge::{Knowledge, Plan};
use crate::catalog::Catalog;
use crate::clock::Now;
use crate::intake::Intake;

/// How often time itself is looked at: warnings that end, tasks to forget.
const PASS_EVERY: Duration = Duration::from_secs(5);
/// The waits while the store fails.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What is known. Shared.
#[derive(Debug)]
pub(super) struct Ledger {
    inner: Mutex<Inner>,
    changed: Notify,
    wanted: Notify,
    /// The newest change that is durable.
    durable: watch::Sender<u64>,
}

/// What is known of all clusters.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) clusters: BTreeMap<Label, Knowledge>,
    pub(super) definitions: Definitions,
    /// Counts changes.
    changes: u64,
}

impl Inner {
    /// A cluster, with the task definitions that all share.
    pub(super) fn cluster(&mut self, cluster: &Label) -> Option<(&mut Knowledge, &mut Definitions)> {
        Some((self.clusters.get_mut(cluster)?, &mut self.definitions))
    }
}

impl Ledger {
    pub(super) fn new(clusters: BTreeMap<Label, Knowledge>) -> Ledger {
        let inner = Inner { clusters, definitions: Definitions::default(), changes: 0 };
        Ledger {
            inner: Mutex::new(inner),
            changed: Notify::new(),
            wanted: Notify::new(),
            durable: watch::Sender::new(0),
        }
    }

    /// Changes what is known. With the number of the change, for [`Ledger::is_durable`].
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> (T, u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut inner);
        inner.changes += 1;
        self.changed.notify_one();
        self.wanted.notify_one();
        (result, inner.changes)
    }

    /// Looks at what is known.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until what followed from a change is in the store. Cancel-safe.
    pub(super) async fn is_durable(&self, change: u64) {
        // The sender lives as long as this ledger.
        self.durable.subscribe().wait_for(|durable| *durable >= change).await.ok();
    }

    /// Waits until something may be wanted of AWS. Cancel-safe.
    pub(super) async fn is_wanted(&self) {
        self.wanted.notified().await;
    }

    /// The job that states.
    pub(super) async fn state(&self, caller: &Caller, intake: &Intake, catalog: Reader<Catalog>) {
        let mut next_pass = Instant::now() + PASS_EVERY;
        loop {
            let wait = self.gathers_for(caller.clock.now()).min(next_pass.saturating_duration_since(Instant::now()));
            // Cancel-safe: a change that is not seen here leaves its permit.
            timeout(wait, self.changed.notified()).await.ok();
            let now = caller.clock.now();
            if now.instant >= next_pass {
                next_pass = now.instant + PASS_EVERY;
                let catalog = catalog.load();
                self.look(|inner| inner.clusters.values_mut().for_each(|known| known.pass(&catalog, now.unix_ms)));
                caller.show_use();
            }
            self.state_all(caller, intake).await;
        }
    }

    /// States until nothing is left to state.
    async fn state_all(&self, caller: &Caller, intake: &Intake) {
        let mut failures = 0;
        loop {
            let (plans, changes) = self.plan(caller.clock.now().unix_ms);
            let count: usize = plans.iter().map(|(_, plan)| plan.statements.len()).sum();
            let statements = plans.iter().flat_map(|(_, plan)| plan.statements.iter().cloned()).collect();
            let result = intake.state(statements, caller.clock.now().unix_ms).await;
            let has_failed = result.is_err();
            self.look(|inner| {
                for (cluster, plan) in plans {
                    let Some(known) = inner.clusters.get_mut(&cluster) else { continue };
                    if has_failed { known.restore(plan) } else { known.settle(plan) }
                }
            });
            match result {
                Ok(_) => {
                    debug!(statements = count, "stated {count} changes of ECS");
                    self.durable.send_replace(changes);
                    self.show_counts(caller);
                    return;
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        warn!("what ECS says cannot be kept, and is stated again until it is: {error}");
                    }
                    sleep(caller.jitter.backoff(failures, BACKOFF)).await;
                }
            }
        }
    }

    /// How long what can wait gathers from now on.
    fn gathers_for(&self, now: Now) -> Duration {
        let due_ms = self.look(|inner| inner.clusters.values().filter_map(Knowledge::due_ms).min());
        due_ms.map_or(Duration::MAX, |due_ms| Duration::from_millis(due_ms.saturating_sub(now.unix_ms)))
    }

    fn plan(&self, now_ms: u64) -> (Vec<(Label, Plan)>, u64) {
        self.look(|inner| {
            let plans = inner.clusters.iter_mut().map(|(cluster, known)| (cluster.clone(), known.plan(now_ms)));
            (plans.collect(), inner.changes)
        })
    }

    fn show_counts(&self, caller: &Caller) {
        let counts: Vec<_> =
            self.look(|inner| inner.clusters.iter().map(|(label, known)| (label.clone(), known.counts())).collect());
        caller.board.change(|status| {
            for (label, counts) in counts {
                let shown = status.clusters.entry(label).or_default();
                (shown.tasks, shown.missing, shown.instances) = (counts.tasks, counts.missing, counts.instances);
            }
        });
    }
}
