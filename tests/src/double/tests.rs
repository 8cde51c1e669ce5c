use std::collections::{BTreeMap, BTreeSet};

use portolan_registry::ecs::api::{Aws, CallError, Desired, Page};
use serde_json::Value;
use tokio::time::{Instant, advance};

use super::*;

const URL: &str = "http://localhost/123456789012/events";

async fn pages(aws: &Double, desired: Desired) -> Result<Vec<Page>, CallError> {
    let (mut pages, mut token) = (Vec::new(), None);
    // A loop ends nowhere.
    for _ in 0..1_000 {
        let page = aws.list_tasks("prod".into(), desired, token).await?;
        token = page.next.clone();
        pages.push(page);
        if token.is_none() {
            break;
        }
    }
    Ok(pages)
}

async fn listed(aws: &Double) -> Vec<String> {
    pages(aws, Desired::Running).await.unwrap().into_iter().flat_map(|page| page.arns).collect()
}

fn events(queue: &Events) -> Vec<Value> {
    queue.drain().iter().filter_map(|message| serde_json::from_str(&message.body).ok()).collect()
}

fn web(aws: &Double) -> Arc<Definition> {
    aws.define(Definition::bridge("web").port(80).named("http"))
}

/// A cluster of two instances with `count` tasks of `web`.
fn prod(seed: u64, count: u32) -> (Double, Cluster, Service) {
    let aws = Double::new(seed);
    let cluster = aws.cluster("prod");
    cluster.instance("10.0.3.7");
    cluster.instance("10.0.3.8");
    let service = cluster.service("web", &web(&aws), count);
    (aws, cluster, service)
}

#[test]
fn a_service_has_its_tasks_on_its_instances_each_with_a_host_port_of_its_own() {
    let (_, _, service) = prod(1, 4);
    let tasks: Vec<_> = service.tasks().iter().map(Task::now).collect();
    let mut places = BTreeMap::<_, BTreeSet<u16>>::new();
    for task in &tasks {
        assert_eq!((task.last_status.as_str(), task.group.as_str()), ("RUNNING", "service:web"));
        assert_eq!(task.containers[0].runtime_id.as_ref().map(String::len), Some(64));
        let bindings = &task.containers[0].network_bindings;
        assert_eq!(bindings.iter().map(|binding| binding.bind_ip.as_str()).collect::<Vec<_>>(), ["0.0.0.0", "::"]);
        places.entry(task.container_instance_arn.clone()).or_default().extend(bindings[0].host_port);
    }
    assert!(places.values().all(|ports| ports.len() == 2) && places.len() == 2, "{places:?}");
    let said = service.now().said.clone();
    assert_eq!((said.running_count, said.pending_count, said.deployments.len()), (4, 0, 1));
    assert_eq!(said.deployments[0].rollout_state, "COMPLETED");
}

#[tokio::test(start_paused = true)]
async fn each_change_of_a_task_is_an_event_with_the_next_version() {
    let aws = Double::new(2);
    let queue = aws.queue("events");
    let cluster = aws.cluster("prod");
    cluster.instance("10.0.3.7");
    let task = cluster.run(&web(&aws));
    task.stop("by hand");
    let told = events(&queue);
    let of_task: Vec<(&str, &str, u64)> = told
        .iter()
        .filter(|event| event["detail-type"] == "ECS Task State Change")
        .map(|event| {
            let detail = &event["detail"];
            let text = |name: &str| detail[name].as_str().unwrap();
            (text("lastStatus"), text("desiredStatus"), detail["version"].as_u64().unwrap())
        })
        .collect();
    let expected = [
        ("PENDING", "RUNNING", 1),
        ("RUNNING", "RUNNING", 2),
        ("RUNNING", "STOPPED", 3),
        ("STOPPING", "STOPPED", 4),
        ("STOPPED", "STOPPED", 5),
    ];
    assert_eq!(of_task, expected);
    let ended = &told.iter().rfind(|event| event["detail-type"] == "ECS Task State Change").unwrap()["detail"];
    assert_eq!((&ended["stopCode"], &ended["containers"][0]["exitCode"]), (&"UserInitiated".into(), &137.into()));
    assert_eq!(ended["stoppedAt"], "2026-01-01T00:00:00.000Z");
    assert_eq!(told[0]["time"], "2026-01-01T00:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn an_interface_is_named_differently_in_events_and_there_are_no_tags_in_them() {
    let aws = Double::new(3);
    let queue = aws.queue("events");
    let definition = aws.define(Definition::awsvpc("api").port(8080));
    let service = aws.cluster("prod").fargate("api", &definition, 1);
    let task = service.tasks().remove(0);
    task.change(|task| task.tags.push(("team".into(), "search".into())));
    let told = events(&queue).pop().unwrap()["detail"].clone();
    let said = shapes::task(&task.look().unwrap(), shapes::Shape::Api);
    assert_eq!((&told["attachments"][0]["type"], told.get("tags")), (&"eni".into(), None));
    assert_eq!(said["attachments"][0]["type"], "ElasticNetworkInterface");
    assert_eq!(said["tags"][0]["key"], "team");
    assert_eq!(said["startedAt"], 1_767_225_600.0);
    let interface = &said["containers"][0]["networkInterfaces"][0];
    assert_eq!(
        (&interface["privateIpv4Address"], &told["containers"][0]["networkBindings"]),
        (&"10.1.0.11".into(), &Value::Array(vec![]))
    );
    assert_eq!(said.get("containerInstanceArn"), None);
    assert!(task.now().containers[0].runtime_id.as_ref().unwrap().starts_with(task.id()));
}

#[test]
fn a_task_of_a_balanced_service_goes_through_every_status() {
    let aws = Double::new(4);
    aws.pace(Pace::ByHand);
    let definition = aws.define(Definition::awsvpc("api").port(8080));
    let wish = ServiceWish { launch_type: LaunchType::Fargate, is_balanced: true, ..ServiceWish::default() };
    let task = aws.cluster("prod").service_as("api", (&definition, 1), wish).tasks().remove(0);
    let mut seen = vec![task.now().last_status];
    for _ in 0..3 {
        task.step();
        seen.push(task.now().last_status);
    }
    task.stop("by hand");
    for _ in 0..4 {
        task.step();
        seen.push(task.now().last_status);
    }
    let expected = "PROVISIONING PENDING ACTIVATING RUNNING DEACTIVATING STOPPING DEPROVISIONING STOPPED";
    assert_eq!(seen.join(" "), expected);
    task.step();
    assert_eq!(task.now().version, 9);
}

#[test]
fn a_deployment_replaces_all_tasks_and_keeps_enough_running() {
    let (aws, _, service) = prod(5, 3);
    aws.pace(Pace::ByHand);
    let old: Vec<Task> = service.tasks();
    service.deploy(&web(&aws));
    let fresh: Vec<Task> =
        service.tasks().into_iter().filter(|task| !old.iter().any(|old| old.arn == task.arn)).collect();
    assert_eq!((fresh.len(), service.now().said.deployments.len()), (3, 2));
    for (started, task) in fresh.iter().enumerate() {
        assert_eq!(old.iter().filter(|task| task.now().desired_status == "STOPPED").count(), started);
        (0..2).for_each(|_| task.step());
    }
    for task in &old {
        assert_eq!(task.now().stop_code.as_deref(), Some("ServiceSchedulerInitiated"));
        (0..2).for_each(|_| task.step());
    }
    let said = service.now().said.clone();
    assert_eq!(
        (said.deployments.len(), said.running_count, fresh[0].now().task_definition_arn.ends_with("web:2")),
        (1, 3, true)
    );
}

#[test]
fn draining_moves_services_away_and_leaves_standalone_tasks() {
    let (aws, cluster, service) = prod(6, 2);
    let on_its_own = cluster.run(&web(&aws));
    let instance = on_its_own.now().container_instance_arn.unwrap();
    Node { aws: aws.clone(), arn: instance.clone() }.drain();
    let elsewhere = |task: &Task| task.now().container_instance_arn.is_some_and(|arn| arn != instance);
    assert!(service.tasks().len() == 2 && service.tasks().iter().all(elsewhere));
    assert_eq!(on_its_own.now().last_status, "RUNNING");
}

#[test]
fn a_terminated_instance_takes_its_tasks_with_it_and_a_dead_one_does_not() {
    let aws = Double::new(7);
    let queue = aws.queue("events");
    let cluster = aws.cluster("prod");
    let (dead, terminated) = (cluster.instance("10.0.3.7"), cluster.instance("10.0.3.8"));
    let tasks = [cluster.run(&web(&aws)), cluster.run(&web(&aws))];
    assert_eq!(tasks[0].now().container_instance_arn, Some(dead.arn.clone()));
    dead.die_unnoticed();
    terminated.spot_warning();
    terminated.terminate();
    let status: Vec<String> = tasks.iter().map(|task| task.now().last_status).collect();
    assert_eq!(status, ["RUNNING", "STOPPED"]);
    assert_eq!((dead.now().said.agent_connected, terminated.now().said.status.as_str()), (false, "INACTIVE"));
    let kinds: Vec<String> = events(&queue).iter().map(|event| event["detail-type"].to_string()).collect();
    assert!(kinds.iter().any(|kind| kind.contains("Spot Instance Interruption Warning")), "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| kind.contains("EC2 Instance State-change")).count(), 4);
}

#[test]
fn a_service_without_a_place_waits_for_an_instance() {
    let aws = Double::new(8);
    let cluster = aws.cluster("prod");
    let fixed = aws.define(Definition::host("agent").port(8125).udp());
    let service = cluster.service("agent", &fixed, 2);
    assert_eq!(service.tasks().len(), 0);
    cluster.instance("10.0.3.7");
    assert_eq!(service.tasks().len(), 1, "the host port is taken");
    cluster.instance("10.0.3.8");
    assert_eq!(service.tasks().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn every_page_size_lists_the_same() {
    let (aws, _, _) = prod(9, 250);
    let whole = pages(&aws, Desired::Running).await.unwrap();
    assert_eq!(whole.iter().map(|page| page.arns.len()).collect::<Vec<_>>(), [100, 100, 50]);
    let all = listed(&aws).await;
    for sizes in [1..=100, 7..=7, 99..=99] {
        aws.pages_of(sizes);
        aws.limit(Bucket::ClusterResourceRead, 1000.0, 20.0);
        assert_eq!(listed(&aws).await, all);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_fail_repeat_go_in_circles_and_are_empty() {
    let (aws, _, _) = prod(10, 5);
    aws.limit(Bucket::ClusterResourceRead, 10_000.0, 20.0);
    aws.pages_of(2..=2);
    let all = listed(&aws).await;
    aws.fault(Fault::PageRepeats, When::Nth(2));
    let repeated = listed(&aws).await;
    assert_eq!((repeated.len(), repeated[2..4].to_vec()), (7, repeated[4..6].to_vec()));
    assert_eq!(repeated.into_iter().collect::<BTreeSet<_>>().len(), all.len());
    aws.heal();
    aws.pages_of(2..=2);
    aws.fault(Fault::PageEmpty, When::Next(2));
    let empty = pages(&aws, Desired::Running).await.unwrap();
    assert_eq!(empty.iter().map(|page| page.arns.len()).collect::<Vec<_>>(), [0, 0, 2, 2, 1]);
    assert_ne!(empty[0].next, empty[1].next);
    aws.end_fault(Fault::PageEmpty);
    aws.fault(Fault::PageLoops, When::Nth(2));
    let circle = pages(&aws, Desired::Running).await.unwrap();
    assert_eq!((circle.len(), &circle[1].next), (1_000, &circle[999].next));
    aws.end_fault(Fault::PageLoops);
    aws.fault(Fault::PageFails, When::Always);
    assert!(matches!(pages(&aws, Desired::Running).await, Err(CallError::Failed { .. })));
    assert!(aws.list_tasks("prod".into(), Desired::Running, None).await.is_ok(), "the first page");
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_or_denied_or_too_much_is_said_so() {
    let (aws, _, service) = prod(11, 2);
    let (here, gone) = (service.tasks()[0].arn.clone(), world::arn("task", &["prod", &"0".repeat(32)]));
    let described = aws.describe_tasks("prod".into(), vec![here.clone(), gone.clone()]).await.unwrap();
    assert_eq!(described.items.iter().map(|task| &task.task_arn).collect::<Vec<_>>(), [&here]);
    assert_eq!(described.failures, [(gone, "MISSING".to_owned())]);
    let many = vec![here.clone(); 101];
    assert!(matches!(aws.describe_tasks("prod".into(), many).await, Err(CallError::Failed { .. })));
    assert!(matches!(aws.list_tasks("other".into(), Desired::Running, None).await, Err(CallError::NotFound { .. })));
    aws.deny("ecs:ListServices");
    let denied = aws.list_services("prod".into(), None).await;
    assert!(matches!(&denied, Err(CallError::Denied { message, .. }) if message.contains("ecs:ListServices")));
    aws.fault(Fault::DescribeFails, When::Next(1));
    assert_eq!(aws.describe_tasks("prod".into(), vec![here.clone()]).await.unwrap().failures.len(), 1);
    aws.fault(Fault::DescribeOmits, When::Next(1));
    let omitted = aws.describe_tasks("prod".into(), vec![here]).await.unwrap();
    assert_eq!((omitted.items.len(), omitted.failures.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_the_account_s_and_comes_back() {
    let (aws, _, _) = prod(12, 1);
    aws.limit(Bucket::ClusterResourceRead, 2.0, 1.0);
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        outcomes.push(aws.list_tasks("prod".into(), Desired::Running, None).await.is_ok());
    }
    advance(Duration::from_secs(1)).await;
    outcomes.push(aws.list_container_instances("prod".into(), None).await.is_ok());
    assert_eq!(outcomes, [true, true, false, true]);
    assert_eq!((aws.count("ecs:ListTasks"), aws.busiest(Duration::from_secs(1)), aws.calls().len()), (3, 3, 4));
    assert_eq!(aws.calls()[2].outcome, Outcome::Throttled);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_late_is_none() {
    let (aws, _, _) = prod(21, 1);
    let began = Instant::now();
    aws.fault(Fault::Silent, When::Next(1));
    let silent = aws.list_tasks("prod".into(), Desired::Running, None).await;
    assert!(matches!(silent, Err(CallError::Failed { .. })) && began.elapsed().as_secs() == 10);
    aws.misbehave(|misbehaviour| misbehaviour.slow_max = Duration::from_secs(9));
    aws.fault(Fault::Slow, When::Always);
    assert_eq!(listed(&aws).await.len(), 1);
    assert!(began.elapsed() > Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn stopped_tasks_are_known_for_an_hour() {
    let (aws, _, service) = prod(13, 1);
    service.delete();
    assert_eq!(service.now().said.status, "INACTIVE");
    assert_eq!(listed(&aws).await, Vec::<String>::new());
    let stopped = pages(&aws, Desired::Stopped).await.unwrap().remove(0).arns;
    assert_eq!(stopped.len(), 1);
    advance(Duration::from_secs(3_601)).await;
    let described = aws.describe_tasks("prod".into(), stopped).await.unwrap();
    assert_eq!((described.items.len(), described.failures.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_older_state_is_shown_while_aws_lags() {
    let (aws, cluster, service) = prod(14, 1);
    advance(Duration::from_secs(600)).await;
    let old = service.tasks().remove(0);
    old.stop("by hand");
    cluster.run(&web(&aws));
    aws.misbehave(|misbehaviour| misbehaviour.lag_max = Duration::from_secs(300));
    aws.fault_of("ecs:DescribeTasks", Fault::Lag, When::Always);
    let seen = aws.describe_tasks("prod".into(), vec![old.arn.clone()]).await.unwrap();
    assert_eq!((seen.items[0].last_status.as_str(), seen.items[0].version), ("RUNNING", 2));
    aws.fault_of("ecs:ListTasks", Fault::Lag, When::Always);
    assert_eq!(listed(&aws).await, [old.arn], "the new ones are not there yet");
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_with_the_first_message_or_after_its_time() {
    let (aws, cluster, _) = prod(15, 1);
    let queue = aws.queue("events");
    let began = Instant::now();
    assert_eq!(aws.receive_messages(URL.into()).await.unwrap().len(), 0);
    assert_eq!(began.elapsed().as_secs(), 20);
    let (messages, ()) = tokio::join!(aws.receive_messages(URL.into()), async {
        advance(Duration::from_secs(3)).await;
        cluster.run(&web(&aws));
    });
    let messages = messages.unwrap();
    assert!(began.elapsed().as_secs() == 23 && !messages.is_empty());
    let receipts = messages.iter().map(|message| message.receipt_handle.clone()).collect();
    aws.delete_messages(URL.into(), receipts).await.unwrap();
    assert_eq!(queue.counts().hidden, 0);
    assert_eq!(aws.count("sqs:ReceiveMessage"), 2);
    assert!(matches!(aws.receive_messages("http://x/other".into()).await, Err(CallError::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn events_are_lost_doubled_late_and_followed_by_nonsense() {
    let aws = Double::new(16);
    let queue = aws.queue("events");
    let cluster = aws.cluster("prod");
    cluster.instance("10.0.3.7");
    queue.drain();
    let task = cluster.run(&web(&aws));
    queue.drain();
    let bodies = |fault, when| {
        aws.fault(fault, when);
        task.set_health("UNHEALTHY");
        aws.end_fault(fault);
        queue.drain().into_iter().map(|message| message.body).collect::<Vec<_>>()
    };
    assert_eq!(bodies(Fault::EventLost, When::Always).len(), 0);
    let doubled = bodies(Fault::EventDoubled, When::Always);
    assert!(doubled.len() == 2 && doubled[0] == doubled[1]);
    assert_eq!(bodies(Fault::EventPoison, When::Always).len(), 2);
    let huge = bodies(Fault::EventHuge, When::Always);
    assert!((200_000..=262_144).contains(&huge[0].len()), "{}", huge[0].len());
    assert!(bodies(Fault::EventUnknown, When::Always)[0].contains("ECS Something New"));
    assert!(bodies(Fault::UnknownFields, When::Always)[0].contains("UNHEARD_OF"));
    assert_eq!(bodies(Fault::EventDelayed, When::Always).len(), 0);
    advance(Duration::from_secs(61)).await;
    assert_eq!(queue.drain().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lifelike_service_takes_its_time() {
    let aws = Double::new(17);
    let cluster = aws.cluster("prod");
    let node = cluster.instance("10.0.3.7");
    node.connect_agent(false);
    aws.pace(Pace::Lifelike);
    let service = cluster.service("web", &web(&aws), 3);
    assert_eq!(service.tasks().len(), 0, "no agent takes them");
    node.flap(Duration::from_secs(600));
    advance(Duration::from_secs(1_300)).await;
    let status: BTreeSet<String> = service.tasks().iter().map(|task| task.now().last_status).collect();
    assert_eq!((service.tasks().len(), status.len()), (3, 1), "{status:?}");
    assert_eq!(service.now().said.running_count, 3);
    assert!(node.now().said.version > 3);
}

#[tokio::test(start_paused = true)]
async fn a_stirred_cluster_tells_every_version_once_and_comes_to_rest() {
    for seed in 20..24 {
        let (aws, cluster, _) = prod(seed, 6);
        let queue = aws.queue("events");
        let api = aws.define(Definition::awsvpc("api").port(8080).checked());
        let wish = ServiceWish { is_balanced: true, launch_type: LaunchType::Fargate, ..ServiceWish::default() };
        let api = cluster.service_as("api", (&api, 3), wish);
        aws.pace(Pace::Lifelike);
        for _ in 0..100 {
            cluster.stir();
            advance(Duration::from_secs(7)).await;
        }
        aws.pace(Pace::AtOnce);
        api.redeploy();
        let mut versions = BTreeMap::<String, Vec<u64>>::new();
        for event in events(&queue) {
            let detail = &event["detail"];
            if let (Some(arn), Some(version)) = (event["resources"][0].as_str(), detail["version"].as_u64()) {
                versions.entry(arn.to_owned()).or_default().push(version);
            }
        }
        assert!(versions.len() > 20);
        for (arn, told) in versions {
            assert!(told.windows(2).all(|pair| pair[1] == pair[0] + 1), "seed {seed}: {arn}: {told:?}");
        }
        let said = api.now().said.clone();
        assert_eq!((said.running_count, said.deployments.len()), (said.desired_count, 1), "seed {seed}");
    }
}

/// Everything that a run of an hour with every fault shows.
async fn transcript(seed: u64) -> Vec<String> {
    let (aws, cluster, _) = prod(seed, 20);
    aws.queue("events");
    aws.pace(Pace::Lifelike);
    aws.go_wild(0.3);
    let mut lines = Vec::new();
    for round in 0..60 {
        advance(Duration::from_secs(60)).await;
        cluster.stir_times(round % 3);
        let listed = aws.list_tasks("prod".into(), Desired::Running, None).await;
        if let Ok(page) = &listed {
            lines.push(format!("{:?}", aws.describe_tasks("prod".into(), page.arns.clone()).await));
        }
        lines.push(format!("{listed:?}"));
        lines.push(format!("{:?}", aws.receive_messages(URL.into()).await));
    }
    lines
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_story() {
    let (first, again, other) = (transcript(18).await, transcript(18).await, transcript(19).await);
    assert!(first == again, "two runs of one seed differ");
    assert!(first != other, "two seeds do not");
}
