use std::time::Duration;

use portolan_core::ecs::{InstanceStatus, TaskStatus};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::*;
use crate::ecs::testing::*;
use crate::intake::statement::Held;
use crate::store::memory::MemoryStore;
use crate::testing::{NOW_MS, label, node};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// One instance with three tasks, settled, whose listings fail from now on: what changes came by an event.
async fn deaf() -> Running {
    let aws = ScriptedAws::new();
    aws.populate(1, 3, 1);
    let mut running = Running::start(aws.clone(), Arc::new(MemoryStore::new(NOW_MS))).await;
    running.listed().await;
    running.eventually(MINUTE, |held| held.services.len() == 1 && tasks(held).len() == 3).await;
    aws.with(|world| world.fault = Some(Box::new(listing_fails)));
    running
}

fn listing_fails(action: &'static str) -> Option<CallError> {
    let fails = action.starts_with("ecs:List") || action == "ecs:DescribeTasks";
    fails.then(|| CallError::Failed { action, message: "no route".to_owned() })
}

fn tasks(held: &Held) -> Vec<portolan_core::ecs::Task> {
    held.reports.values().flat_map(|report| report.tasks.clone()).collect()
}

/// An event of a task of the cluster, at the test's time.
fn event(number: usize, version: u64, (last, desired): (&str, &str)) -> String {
    json!({
        "source": "aws.ecs", "detail-type": "ECS Task State Change", "time": "2023-11-14T22:13:21Z",
        "detail": {
            "taskArn": task_arn(number), "clusterArn": CLUSTER, "containerInstanceArn": instance_arn(0),
            "taskDefinitionArn": "arn:aws:ecs:eu-west-1:1:task-definition/web0:7", "group": "service:web0",
            "lastStatus": last, "desiredStatus": desired, "launchType": "EC2", "version": version,
            "containers": [{"name": "app", "runtimeId": format!("{number:064x}"), "networkBindings": [
                {"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 40000, "protocol": "tcp"}]}],
        },
    })
    .to_string()
}

fn machine(state: &str) -> String {
    let id = instance(0).ec2_instance_id;
    json!({"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification",
        "time": "2023-11-14T22:13:21Z", "detail": {"instance-id": id, "state": state}})
    .to_string()
}

#[tokio::test(start_paused = true)]
async fn an_event_is_stated_at_once_and_its_message_deleted_then() {
    let running = deaf().await;
    let sent = Instant::now();
    running.aws.send("a", event(1, 4, ("RUNNING", "STOPPED")));
    running.aws.send("b", event(7, 1, ("RUNNING", "RUNNING")));
    let held = running.eventually(SECOND, |held| tasks(held).iter().any(|task| !task.is_wanted)).await;
    assert!(sent.elapsed() < Duration::from_millis(10), "{:?}", sent.elapsed());
    let new = tasks(&held).into_iter().find(|task| task.arn == task_arn(7)).unwrap();
    assert_eq!(new.containers[0].report.ports[0].host_port, 40_000);
    sleep(SECOND).await;
    assert!(running.aws.with(|world| world.received.is_empty()));
    assert_eq!(running.status.load().queue.as_ref().unwrap().applied, 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_between_two_polls_does_not_wait() {
    let running = deaf().await;
    let polls = || running.aws.with(|world| world.calls.iter().filter(|(_, a)| *a == "sqs:ReceiveMessage").count());
    for version in 4..24 {
        let before = polls();
        while polls() == before {
            sleep(Duration::from_millis(1)).await;
        }
        let sent = Instant::now();
        running.aws.send(&format!("m{version}"), event(1, version, ("RUNNING", "RUNNING")));
        running.eventually(2 * SECOND, |held| tasks(held).iter().any(|task| task.version == version)).await;
        assert!(sent.elapsed() < Duration::from_millis(10), "version {version} took {:?}", sent.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_used_is_parked_at_the_third_time() {
    let running = deaf().await;
    let poison = "{\"detail-type\": 5}";
    for time in 1..=3 {
        running.aws.send("bad", poison.to_owned());
        running.aws.send(&format!("good{time}"), event(1, 3 + time, ("RUNNING", "RUNNING")));
        sleep(SECOND).await;
        let held = running.held().await;
        assert!(tasks(&held).iter().any(|task| task.version == 3 + time), "others go on");
        let is_left = running.aws.with(|world| world.received.contains_key("r-bad"));
        assert_eq!(is_left, time < 3, "time {time}");
    }
    let status = running.status.load();
    let queue = status.queue.as_ref().unwrap();
    assert_eq!((queue.parked_total, queue.applied), (1, 3));
    assert_eq!((queue.parked[0].message_id.as_str(), queue.parked[0].beginning.as_str()), ("bad", poison));
    assert!(queue.parked[0].reason.starts_with("it is no event"), "{}", queue.parked[0].reason);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_parked_messages_are_kept() {
    let running = deaf().await;
    for number in 0..130 {
        for _ in 0..3 {
            running.aws.send(&format!("bad{number}"), "nonsense".to_owned());
        }
    }
    sleep(MINUTE).await;
    let status = running.status.load();
    let queue = status.queue.as_ref().unwrap();
    assert_eq!((queue.parked_total, queue.parked.len()), (130, PARKED_MAX));
    assert_eq!(queue.parked.last().unwrap().message_id, "bad129");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_ends_or_is_about_to_is_stated_so() {
    let running = deaf().await;
    let status =
        |held: &Held| held.reports[&node("i-00000000000000000")].instance.as_ref().map(|instance| instance.status);
    let id = instance(0).ec2_instance_id;
    let warning = json!({"source": "aws.ec2", "detail-type": "EC2 Spot Instance Interruption Warning",
        "time": "2023-11-14T22:13:21Z", "detail": {"instance-id": id, "instance-action": "terminate"}});
    running.aws.send("w", warning.to_string());
    running.eventually(SECOND, |held| status(held) == Some(InstanceStatus::Draining)).await;
    // It does not come true.
    running.eventually(16 * MINUTE, |held| status(held) == Some(InstanceStatus::Active)).await;
    running.aws.send("t", machine("terminated"));
    running.eventually(SECOND, |held| status(held) == Some(InstanceStatus::Terminated)).await;
    running.aws.send("r", machine("running"));
    sleep(MINUTE).await;
    assert_eq!(status(&running.held().await), Some(InstanceStatus::Terminated));
}

#[tokio::test(start_paused = true)]
async fn an_old_event_of_an_unknown_task_and_one_of_another_cluster_change_nothing() {
    let running = deaf().await;
    let before = tasks(&running.held().await);
    let old = event(8, 9, ("RUNNING", "RUNNING")).replace("2023-11-14T22:13:21Z", "2023-11-14T21:13:21Z");
    running.aws.send("old", old);
    running.aws.send("other", event(9, 9, ("RUNNING", "RUNNING")).replace("cluster/prod", "cluster/other"));
    running.aws.send("again", event(1, 3, ("STOPPED", "STOPPED")));
    sleep(MINUTE).await;
    assert_eq!(tasks(&running.held().await), before);
    assert!(running.aws.with(|world| world.received.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_cannot_be_read_is_asked_with_backoff() {
    let running = deaf().await;
    running.aws.with(|world| {
        world.calls.clear();
        world.fault = Some(Box::new(|action| {
            let error = CallError::Failed { action, message: "no route".to_owned() };
            (action == "sqs:ReceiveMessage").then_some(error).or_else(|| listing_fails(action))
        }));
    });
    // The double waits 20 s for messages before it fails.
    running.aws.send("a", machine("running"));
    sleep(60 * MINUTE).await;
    let polls =
        running.aws.with(|world| world.calls.iter().filter(|(_, action)| *action == "sqs:ReceiveMessage").count());
    assert!((30..400).contains(&polls), "{polls} polls in an hour");
    let error = running.status.load().queue.as_ref().unwrap().error.clone().unwrap().1;
    assert_eq!(error, "sqs:ReceiveMessage failed: no route");
    assert_eq!(running.status.load().clusters[&label("prod")].tasks, 3);
    assert!(tasks(&running.held().await).iter().all(|task| task.status == TaskStatus::Running));
}
