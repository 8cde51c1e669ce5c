use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portolan_core::ecs::{InstanceStatus, Task, TaskStatus};
use tokio::time::{Instant, sleep};

use super::api::CallError;
use super::testing::*;
use crate::intake::statement::Held;
use crate::store::memory::MemoryStore;
use crate::testing::{NOW_MS, label, node};

const MINUTE: Duration = Duration::from_secs(60);

fn throttled(action: &'static str) -> CallError {
    CallError::Throttled { action, retry_after: None }
}

fn failed(action: &'static str) -> CallError {
    CallError::Failed { action, message: "connection reset".to_owned() }
}

fn tasks(held: &Held) -> BTreeMap<String, Task> {
    held.reports.values().flat_map(|report| &report.tasks).map(|task| (task.arn.clone(), task.clone())).collect()
}

async fn start(aws: Arc<ScriptedAws>) -> Running {
    Running::start(aws, Arc::new(MemoryStore::new(NOW_MS))).await
}

/// The source over a cluster of 2 instances with 3 tasks each, once all of it is in the store.
async fn settled() -> Running {
    let aws = ScriptedAws::new();
    aws.populate(2, 3, 2);
    let running = start(aws).await;
    let has_ports = |held: &Held| {
        let tasks = tasks(held);
        tasks.len() == 6 && tasks.values().all(|task| task.containers.iter().all(|c| !c.report.ports.is_empty()))
    };
    running.eventually(MINUTE, |held| has_ports(held) && held.clusters.len() == 1 && held.services.len() == 2).await;
    running
}

#[tokio::test(start_paused = true)]
async fn states_what_runs_where() {
    let running = settled().await;
    let held = running.held().await;
    assert_eq!(held.clusters[&label("prod")].arn, CLUSTER);
    let report = &held.reports[&node("i-00000000000000001")];
    let instance = report.instance.as_ref().unwrap();
    assert_eq!((instance.status, instance.az.as_deref()), (InstanceStatus::Active, Some("eu-west-1a")));
    assert_eq!(instance.addresses, ["10.0.0.2".parse::<std::net::IpAddr>().unwrap()]);
    let port = &report.tasks[0].containers[0].report.ports[0];
    assert_eq!((port.container_port, port.host_port, port.is_dynamic), (80, 32_771, true));
    assert_eq!(port.name, Some(label("http")));
    assert_eq!(held.families[&(label("prod"), label("web0"))].services, ["web0"]);
    let status = running.status.load();
    let cluster = &status.clusters[&label("prod")];
    assert_eq!((cluster.tasks, cluster.missing, cluster.instances, &cluster.error), (6, 0, 2, &None));
}

#[tokio::test(start_paused = true)]
async fn a_partial_listing_removes_nothing() {
    let mut running = settled().await;
    let before = tasks(&running.held().await);
    // AWS lacks most tasks by now; and of its pages of tasks only the first one ever comes.
    running.aws.with(|world| {
        world.page = 1;
        let gone: Vec<String> = world.tasks.keys().skip(2).cloned().collect();
        gone.iter().for_each(|arn| drop(world.tasks.remove(arn)));
        let mut pages = 0;
        world.fault = Some(Box::new(move |action| {
            if action == "ecs:ListContainerInstances" {
                pages = 0;
            }
            pages += u32::from(action == "ecs:ListTasks");
            (action == "ecs:ListTasks" && pages > 1).then(|| failed(action))
        }));
    });
    sleep(30 * MINUTE).await;
    assert_eq!(tasks(&running.held().await), before);
    let status = running.status.load();
    let error = status.clusters[&label("prod")].error.clone().unwrap().1;
    assert_eq!(error, "ecs:ListTasks failed: connection reset");
    running.aws.with(|world| world.fault = None);
    running.listed().await;
    running.listed().await;
    let missing = |held: &Held| tasks(held).values().filter(|task| task.is_missing).count();
    running.eventually(MINUTE, |held| missing(held) == 4).await;
    assert_eq!(running.status.load().clusters[&label("prod")].missing, 4);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_comes_again_ends_the_sweep() {
    let running = settled().await;
    let before = tasks(&running.held().await);
    running.aws.with(|world| {
        (world.page, world.goes_in_circles) = (2, true);
        world.tasks.pop_last();
    });
    sleep(10 * MINUTE).await;
    assert_eq!(tasks(&running.held().await), before);
    let error = running.status.load().clusters[&label("prod")].error.clone().unwrap().1;
    assert_eq!(error, "ecs:ListTasks: a page's token came twice: the pages go in a circle");
}

#[tokio::test(start_paused = true)]
async fn a_task_is_missing_after_two_listings_that_lack_it_ten_seconds_apart() {
    let mut running = settled().await;
    running.listed().await;
    let gone = task_arn(1);
    let task = running.aws.with(|world| world.tasks.remove(&gone)).unwrap();
    let removed = Instant::now();
    running.eventually(MINUTE, |held| tasks(held)[&gone].is_missing).await;
    assert!(removed.elapsed() >= Duration::from_secs(10), "{:?}", removed.elapsed());
    // Listings that lack it again go on saying so; it stays stated, and comes back when AWS has it again.
    sleep(10 * MINUTE).await;
    assert!(tasks(&running.held().await)[&gone].is_missing);
    running.aws.with(|world| world.tasks.insert(gone.clone(), task));
    running.eventually(MINUTE, |held| !tasks(held)[&gone].is_missing).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_listings_lack_but_that_can_be_described_is_not_missing() {
    let mut running = settled().await;
    let before = tasks(&running.held().await);
    running.aws.with(|world| world.unlisted = world.tasks.keys().cloned().collect());
    for _ in 0..3 {
        running.listed().await;
    }
    assert_eq!(tasks(&running.held().await), before);
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_throttling_removes_nothing_and_is_over_within_a_minute() {
    let aws = ScriptedAws::new();
    aws.populate(50, 20, 10);
    let running = start(aws.clone()).await;
    let count = |held: &Held| tasks(held).len();
    running.eventually(20 * MINUTE, |held| count(held) == 1_000 && held.services.len() == 10).await;
    let before = running.reports().await;
    aws.with(|world| {
        world.fault = Some(Box::new(|action| Some(throttled(action))));
        for number in 0..10 {
            world.stop(&task_arn(number));
        }
    });
    let throttled_at = Instant::now();
    sleep(60 * MINUTE).await;
    assert_eq!(running.reports().await, before);
    let (in_a_second, calls) = aws.calls_since(throttled_at);
    assert!(in_a_second <= 2 && (10..2_000).contains(&calls), "{in_a_second} in a second, {calls} in the hour");

    let healed_at = Instant::now();
    aws.with(|world| world.fault = None);
    let stopped = |held: &Held| tasks(held).values().filter(|task| task.status == TaskStatus::Stopped).count();
    running.eventually(MINUTE, |held| stopped(held) == 10).await;
    let (in_a_second, _) = aws.calls_since(healed_at);
    assert!(in_a_second <= 2, "{in_a_second} in a second");
}

#[tokio::test(start_paused = true)]
async fn the_budget_holds_for_clusters_of_every_size() {
    // Instances, tasks, and how many calls a listing takes at most.
    for (instances, per_instance, calls_max) in [(2, 5, 8), (50, 20, 32), (400, 25, 220)] {
        let aws = ScriptedAws::new();
        aws.populate(instances, per_instance, 20);
        let mut running = start(aws.clone()).await;
        running.status.wait_for(|status| status.clusters.values().any(|own| own.listed_ms.is_some())).await;
        let count = instances * per_instance;
        running.eventually(10 * MINUTE, |held| tasks(held).len() == count).await;
        running.listed().await;
        let calls = running.status.load().clusters[&label("prod")].calls;
        assert!(calls <= calls_max, "{count} tasks took {calls} calls");
        let (in_a_second, all) = aws.calls_since(running.started);
        let seconds = running.started.elapsed().as_secs() as usize;
        assert!(in_a_second <= 2 && all <= 2 * seconds, "{count} tasks: {all} calls in {seconds} s");
        // Half of the budget is left to lookups, once those of the start are done.
        let from = Instant::now();
        running.listed().await;
        running.listed().await;
        let (_, all) = aws.calls_since(from);
        let used = all as f64 / from.elapsed().as_secs_f64();
        assert!(used <= 1.5, "{count} tasks: {used} calls a second");
    }
}
