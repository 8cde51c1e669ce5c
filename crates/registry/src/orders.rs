//! Orders end by themselves: one about a task or a container is taken back an hour after nothing matched it any more.
//!
//! A node's drain stays until somebody undoes it: the node may be away for a long repair. So does a link that is off. After a start of the registry
//! the hour begins anew. While the catalog is not current nothing is missed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_core::view::Readiness;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::intake::Intake;
use crate::intake::statement::{Statement, Target};

/// How long an order stays that nothing matches: a container that an agent starts again has another id, a node that was
/// away may bring its own back.
const KEPT: Duration = Duration::from_secs(3_600);
/// How often is looked; also how late an order may end.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Starts the job.
pub fn start(jobs: &Jobs, intake: Arc<Intake>, catalog: Reader<Catalog>, clock: Clock) {
    jobs.start("orders", async move {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = Missed::default();
        loop {
            ticks.tick().await;
            let now = clock.now();
            let due = missed.due(&catalog.load(), now.instant);
            let count = due.len();
            let statements = due.into_iter().map(|target| Statement::Order(target, None)).collect();
            match intake.state(statements, now.unix_ms).await {
                Ok(None) => {}
                Ok(Some(_)) => info!(count, "{count} orders ended: nothing matched them for an hour"),
                // They stay due.
                Err(error) => warn!("orders that ended cannot be deleted: {:#}", anyhow::Error::from(error)),
            }
        }
    });
}

/// Since when nothing matches an order; as many as there are orders.
#[derive(Debug, Default)]
struct Missed {
    since: BTreeMap<Target, Instant>,
}

impl Missed {
    /// The orders that end now.
    fn due(&mut self, catalog: &Catalog, now: Instant) -> Vec<Target> {
        if catalog.view.readiness != Readiness::Current {
            return Vec::new();
        }
        let missed = missed(catalog);
        self.since.retain(|target, _| missed.contains(target));
        for target in missed {
            self.since.entry(target.clone()).or_insert(now);
        }
        let is_due = |since: &Instant| now.duration_since(*since) >= KEPT;
        self.since.iter().filter(|(_, since)| is_due(since)).map(|(target, _)| target.clone()).collect()
    }
}

/// The orders about tasks and containers that nothing in the catalog matches.
fn missed(catalog: &Catalog) -> BTreeSet<&Target> {
    let mut missed = BTreeSet::new();
    let mut ids = HashSet::new();
    for target in catalog.stated.orders.keys() {
        match target {
            Target::Node(_) | Target::Service(_) => {}
            Target::Task(id) | Target::Container(id) => {
                missed.insert(target);
                ids.insert(id.as_str());
            }
        }
    }
    if missed.is_empty() {
        return missed;
    }
    let candidates = catalog.explained.values().flat_map(|explained| &explained.candidates);
    let runs = candidates.flat_map(|c| c.task_id.as_deref().into_iter().chain([c.key.container_id.as_str()]));
    let tasks = catalog.stated.ecs.values().flat_map(|report| &report.tasks).map(|task| task.id.as_str());
    let matched: HashSet<&str> = runs.chain(tasks).filter(|id| ids.contains(id)).collect();
    missed.retain(|target| match target {
        Target::Node(_) | Target::Service(_) => false,
        Target::Task(id) | Target::Container(id) => !matched.contains(id.as_str()),
    });
    missed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::statement::{Order, OrderRecord};
    use crate::store::record::encode;
    use crate::store::{Key, Transaction};
    use crate::testing::{NOW_MS, World, container, node, report};

    async fn ordered(world: &mut World, targets: &[Target]) {
        let record = OrderRecord { order: Order::Drain, at_ms: NOW_MS, reason: String::new() };
        let put = |made: Transaction, target: &Target| made.putting(Key::Order(target.clone()), encode(&record));
        world.commit(targets.iter().fold(Transaction::at(NOW_MS), put)).await;
    }

    #[tokio::test]
    async fn orders_that_nothing_matches_end_after_an_hour_and_nodes_stay_drained() {
        let mut world = World::new().await;
        let mut with_task = container("aa", "web");
        with_task.task_id = Some("t1".to_owned());
        world.report(&report("n1", vec![with_task])).await;
        let here = Target::Container(format!("{:0>64}", "aa"));
        let (task, gone) = (Target::Task("t1".to_owned()), Target::Task("t2".to_owned()));
        ordered(&mut world, &[here.clone(), task, gone.clone(), Target::Node(node("away"))]).await;
        let began = Instant::now();
        let mut missed = Missed::default();
        assert_eq!(missed.due(&world.catalog(), began), []);
        assert_eq!(missed.due(&world.catalog(), began + KEPT), vec![gone.clone()]);
        world.report(&report("n1", Vec::new())).await;
        assert_eq!(missed.due(&world.catalog(), began + KEPT), vec![gone.clone()], "their hour begins");
        let mut back = container("bb", "web");
        back.task_id = Some("t1".to_owned());
        world.report(&report("n1", vec![back])).await;
        let due = missed.due(&world.catalog(), began + 2 * KEPT);
        assert_eq!(due, [gone.clone(), here.clone()], "a task that is back counts anew");
        world.report(&report("n1", Vec::new())).await;
        assert_eq!(missed.due(&world.catalog(), began + 2 * KEPT), [gone, here]);
    }

    #[tokio::test]
    async fn a_catalog_that_nobody_confirmed_misses_nothing() {
        let mut world = World::new().await;
        ordered(&mut world, &[Target::Task("t2".to_owned())]).await;
        let (mut missed, began) = (Missed::default(), Instant::now());
        let mut catalog = world.catalog();
        catalog.view.readiness = Readiness::Stale;
        assert_eq!(missed.due(&catalog, began), []);
        assert_eq!(missed.due(&catalog, began + KEPT), []);
        assert_eq!(missed.due(&world.catalog(), began + KEPT), []);
        assert_eq!(missed.due(&world.catalog(), began + 2 * KEPT).len(), 1);
    }
}
