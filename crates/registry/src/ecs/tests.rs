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

fn has_ports(held: &Held) -> bool {
    tasks(held).values().flat_map(|task| &task.containers).all(|own| !own.report.ports.is_empty())
}

/// The source over a cluster of 2 instances with 3 tasks each, once all of it is in the store.
async fn settled() -> Running {
    let aws = ScriptedAws::new();
    aws.populate(2, 3, 2);
    let running = start(aws).await;
    let is_there = |held: &Held| tasks(held).len() == 6 && held.clusters.len() == 1 && held.services.len() == 2;
    running.eventually(MINUTE, |held| is_there(held) && has_ports(held)).await;
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
    let mut running = start(aws.clone()).await;
    running.eventually(20 * MINUTE, |held| tasks(held).len() == 1_000 && has_ports(held)).await;
    running.listed().await;
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
        let count = instances * per_instance;
        running.status.wait_for(|status| status.clusters.values().any(|own| own.tasks == count)).await;
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

#[tokio::test(start_paused = true)]
async fn calls_that_wake_up_late_keep_their_distance() {
    let aws = ScriptedAws::new();
    aws.populate(20, 20, 20);
    let running = start(aws.clone()).await;
    // A machine that is busy elsewhere: time passes, and then everybody wakes up.
    for _ in 0..100 {
        tokio::time::advance(Duration::from_millis(1_700)).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let (in_a_second, all) = aws.calls_since(running.started);
    assert!(in_a_second <= 2 && all > 50, "{in_a_second} in a second, of {all}");
}

fn denied(action: &'static str) -> CallError {
    CallError::Denied { action, message: "User: arn:aws:sts::1:x is not authorized\u{1b}[2J".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn goes_on_without_what_is_denied_and_says_so_once() {
    let all = [
        "ecs:DescribeClusters",
        "ecs:ListContainerInstances",
        "ecs:ListServices",
        "ecs:DescribeServices",
        "ecs:DescribeTaskDefinition",
        "ec2:DescribeInstances",
        "sqs:ReceiveMessage",
    ];
    let aws = ScriptedAws::new();
    aws.populate(2, 3, 2);
    aws.with(|world| {
        world.add(task_on_fargate(50, "api"));
        world.fault = Some(Box::new(move |action| all.contains(&action).then(|| denied(action))));
    });
    let mut running = start(aws.clone()).await;
    let held = running.eventually(MINUTE, |held| tasks(held).len() == 7 && held.clusters.len() == 1).await;
    // The instances are not known: their tasks are, and add no endpoint.
    let nodes: Vec<_> = held.reports.keys().map(|node| node.node.as_str()).collect();
    assert_eq!(nodes, ["fargate-api-0", "unplaced-web0-0", "unplaced-web1-0"]);
    running.listed().await;
    sleep(10 * MINUTE).await;
    let status = running.status.load();
    // What is asked only after something that is denied was never tried.
    let expected =
        all.iter().filter(|action| **action != "ecs:DescribeServices" && **action != "ec2:DescribeInstances");
    let known: Vec<_> = status.denied.keys().chain([&"ecs:DescribeContainerInstances"]).collect();
    assert!(expected.clone().all(|action| known.contains(&action)), "{:?}", status.denied);
    assert_eq!(status.denied["ecs:ListServices"].message, "User: arn:aws:sts::1:x is not authorized\\u{1b}[2J");
    assert!(status.clusters[&label("prod")].error.is_none() && status.clusters[&label("prod")].listed_ms.is_some());
    // A denied action is asked again every half minute, not each time that it is wanted.
    let calls = aws.with(|world| world.calls.iter().filter(|(_, action)| *action == "ecs:ListServices").count());
    assert!((5..25).contains(&calls), "{calls} calls in ten minutes");

    aws.with(|world| world.fault = None);
    let healed_at = Instant::now();
    running.eventually(10 * MINUTE, |held| has_ports(held) && held.services.len() == 3).await;
    running.status.wait_for(|status| status.denied.is_empty()).await.unwrap();
    assert!(healed_at.elapsed() < 2 * MINUTE, "{:?}", healed_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_later_removes_nothing() {
    let running = settled().await;
    let before = running.reports().await;
    running.aws.with(|world| {
        world.tasks.clear();
        world.instances.clear();
        world.machines.clear();
        world.fault = Some(Box::new(|action| Some(denied(action))));
    });
    sleep(60 * MINUTE).await;
    assert_eq!(running.reports().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_not_there_is_shown_and_nothing_else() {
    let aws = ScriptedAws::new();
    aws.with(|world| {
        world.fault = Some(Box::new(|action| {
            let missing = CallError::NotFound { action, message: "Cluster not found.".to_owned() };
            (action == "ecs:ListTasks").then_some(missing)
        }));
    });
    let mut running = start(aws).await;
    let cluster = label("prod");
    let status = running.status.wait_for(|status| status.clusters[&cluster].error.is_some()).await.unwrap();
    assert_eq!(status.clusters[&cluster].error.as_ref().unwrap().1, "ecs:ListTasks: not found: Cluster not found.");
    let held = running.held().await;
    assert_eq!(held, Held { clusters: held.clusters.clone(), ..Held::default() });
}

#[tokio::test(start_paused = true)]
async fn is_a_witness_before_it_has_listed_anything() {
    let aws = ScriptedAws::new();
    aws.with(|world| world.fault = Some(Box::new(|action| Some(failed(action)))));
    let mut running = start(aws.clone()).await;
    let known_as = |held: &Held| held.clusters[&label("prod")].clone();
    let first = known_as(&running.held().await);
    assert_eq!((first.arn.as_str(), first.since_ms), ("prod", NOW_MS));
    sleep(MINUTE).await;
    aws.with(|world| world.fault = None);
    running.listed().await;
    let now = known_as(&running.held().await);
    assert_eq!((now.arn.as_str(), now.since_ms), (CLUSTER, NOW_MS));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_a_container_waits_for_is_asked_about_at_once() {
    let running = settled().await;
    running.aws.with(|world| {
        world.add(task_on(9, 0, "web0"));
        world.fault = Some(Box::new(|action| action.starts_with("ecs:List").then(|| failed(action))));
    });
    let (known, unknown) = (task_arn(9), "0123456789abcdef0123456789abcdef");
    let awaited = Instant::now();
    running.awaits(&[known.rsplit('/').next().unwrap(), unknown, "not an id"]);
    running.eventually(MINUTE, |held| tasks(held).contains_key(&known)).await;
    assert!(awaited.elapsed() <= Duration::from_secs(1), "{:?}", awaited.elapsed());
    // As long as they wait they are asked about again, and not more often than is of use.
    sleep(MINUTE).await;
    let asked = running.aws.with(|world| {
        world.calls.iter().filter(|(at, action)| *at >= awaited && *action == "ecs:DescribeTasks").count()
    });
    assert!((20..=31).contains(&asked), "{asked} calls");
}

#[tokio::test(start_paused = true)]
async fn goes_on_after_a_restart_from_what_the_store_holds() {
    let store = Arc::new(MemoryStore::new(NOW_MS));
    let aws = ScriptedAws::new();
    aws.populate(1, 2, 1);
    aws.with(|world| world.add(task_on_fargate(50, "api")));
    let before = {
        let running = Running::start(aws.clone(), store.clone()).await;
        let is_there = |held: &Held| tasks(held).len() == 3 && has_ports(held) && held.services.len() == 2;
        running.eventually(MINUTE, is_there).await
    };
    // AWS cannot be asked when it starts again: what was known stands.
    aws.with(|world| world.fault = Some(Box::new(|action| Some(failed(action)))));
    let running = Running::start(aws.clone(), store.clone()).await;
    sleep(60 * MINUTE).await;
    assert_eq!(running.held().await, before);
    // It can be again: nothing is news, and the store is left alone.
    let revision = crate::store::Store::load(store.as_ref()).await.unwrap().revision;
    aws.with(|world| world.fault = None);
    let mut running = running;
    running.listed().await;
    sleep(10 * MINUTE).await;
    assert_eq!(running.held().await, before);
    assert_eq!(crate::store::Store::load(store.as_ref()).await.unwrap().revision, revision);
}

#[tokio::test(start_paused = true)]
async fn what_an_event_lost_is_healed_within_a_minute() {
    let mut running = settled().await;
    // Events come, so listings are seldom.
    let event = serde_json::json!({"source": "aws.ecs", "detail-type": "ECS Deployment State Change",
        "time": "2023-11-14T22:13:21Z", "resources": ["arn:aws:ecs:eu-west-1:1:service/prod/web0"], "detail": {}});
    for number in 0..5 {
        running.aws.send(&format!("e{number}"), event.to_string());
        running.listed().await;
    }
    running.aws.with(|world| world.stop(&task_arn(2)));
    running.eventually(MINUTE, |held| tasks(held)[&task_arn(2)].status == TaskStatus::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_shown_as_soon_as_an_event_tells_of_it() {
    let running = settled().await;
    running.aws.with(|world| {
        world.fault = Some(Box::new(|action| action.starts_with("ecs:List").then(|| failed(action))));
        let arn = "arn:aws:ecs:eu-west-1:1:service/prod/web0";
        world.services.get_mut(arn).unwrap().desired_count = 9;
    });
    let event = serde_json::json!({"source": "aws.ecs", "detail-type": "ECS Deployment State Change",
        "resources": ["arn:aws:ecs:eu-west-1:1:service/prod/web0"], "detail": {}});
    running.aws.send("e", event.to_string());
    running.eventually(Duration::from_secs(5), |held| held.services.values().any(|record| record.desired == 9)).await;
}

#[tokio::test(start_paused = true)]
async fn stop_reasons_of_tasks_that_were_never_seen_are_found() {
    let aws = ScriptedAws::new();
    aws.populate(1, 1, 1);
    aws.with(|world| {
        world.add(task_on(9, 0, "web0"));
        world.stop(&task_arn(9));
        // One of an hour ago is of no interest.
        world.add(task_on(8, 0, "web0"));
        world.stop(&task_arn(8));
        world.tasks.get_mut(&task_arn(8)).unwrap().stopped_at_ms = Some(NOW_MS - 3_600_000);
    });
    let running = start(aws).await;
    let held = running.eventually(MINUTE, |held| tasks(held).len() == 2).await;
    let stop = tasks(&held)[&task_arn(9)].stop.clone().unwrap();
    assert_eq!(
        (stop.code.as_str(), stop.reason.as_str()),
        ("EssentialContainerExited", "Essential container in task exited")
    );
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_no_longer_set_is_taken_back() {
    let running = settled().await;
    let before = running.held().await;
    let clock = crate::clock::Clock::starting_at(NOW_MS);
    let set = |clusters: &[&str]| crate::settings::Aws {
        clusters: clusters.iter().map(|name| (*name).to_owned()).collect(),
        ..crate::settings::Aws::default()
    };
    super::take_back(&running.intake, &set(&["Prod", "other"]), clock).await.unwrap();
    assert_eq!(running.held().await, before);
    super::take_back(&running.intake, &set(&["other"]), clock).await.unwrap();
    assert_eq!(running.held().await, Held::default());
    let error = super::take_back(&running.intake, &set(&["prod", CLUSTER]), clock).await.unwrap_err();
    assert_eq!(error.to_string(), "setting `aws.clusters`: two clusters are called `prod`; run one registry for each");
}
