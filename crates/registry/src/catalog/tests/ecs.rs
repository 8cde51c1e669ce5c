//! ECS beside the sidecars: the join, nodes without a sidecar, operators, neighbours.

use portolan_core::ecs::{InstanceStatus, Task, TaskStatus};
use portolan_core::rules::{Ecs, Neighbours, Sidecar};

use super::*;
use crate::store::Target;
use crate::store::evidence::{AbsenceRecord, AloneRecord, Order, OrderRecord, ProbeRecord, Verdict};
use crate::testing::Statement;
use crate::testing::ecs::{fargate, instance, of_task, stopped, task, task_id};
use crate::testing::{NOW_MS, port};

/// ECS service `web` with tasks on i-1, which a sidecar reports as well.
async fn joined(tasks: Vec<Task>) -> World {
    let mut world = World::new().await;
    let containers = tasks.iter().map(|task| of_task(&task.id[30..], "family", &task.id)).collect();
    world.with_ecs("i-1", instance("i-1", InstanceStatus::Active, tasks)).await;
    world.report(&report("i-1", containers)).await;
    world
}

fn words(world: &World, name: &str) -> Vec<(Ecs, String)> {
    let explained = world.catalog().explained.get(&service(name)).cloned().unwrap();
    explained.candidates.iter().map(|c| (c.witnesses.ecs, c.decision.state.to_string())).collect()
}

async fn say(world: &mut World, node_name: &str, status: InstanceStatus, tasks: Vec<Task>) {
    world.state(Statement::Ecs(node(node_name), Some(instance(node_name, status, tasks)))).await;
}

fn order(order: Order) -> Option<OrderRecord> {
    Some(OrderRecord { order, at_ms: NOW_MS + 7, reason: String::new() })
}

#[tokio::test]
async fn ecs_changes_what_a_sidecar_said() {
    let running = task("01", "family", Some("web"));
    let mut world = joined(vec![running.clone()]).await;
    assert_eq!(words(&world, "web"), [(Ecs::Running, "usable".to_owned())]);
    let unwanted = Task { is_wanted: false, version: 2, ..running.clone() };
    say(&mut world, "i-1", InstanceStatus::Active, vec![unwanted]).await;
    assert_eq!(words(&world, "web"), [(Ecs::Leaving, "draining".to_owned())]);
    say(&mut world, "i-1", InstanceStatus::Active, vec![running.clone()]).await;
    assert_eq!(words(&world, "web"), [(Ecs::Running, "usable".to_owned())]);
    say(&mut world, "i-1", InstanceStatus::Draining, vec![running.clone()]).await;
    assert_eq!(words(&world, "web"), [(Ecs::Drained, "draining".to_owned())]);
    // A container that passes stays, whatever a listing says of its task.
    say(&mut world, "i-1", InstanceStatus::Active, vec![stopped(running, NOW_MS)]).await;
    assert_eq!(words(&world, "web"), [(Ecs::Stopped, "draining".to_owned())]);
    say(&mut world, "i-1", InstanceStatus::Active, vec![]).await;
    assert_eq!(words(&world, "web"), [(Ecs::NotKnown, "usable".to_owned())]);
    world.state(Statement::Cluster(label("prod"), None)).await;
    assert_eq!(words(&world, "web"), [(Ecs::NotUsed, "usable".to_owned())]);
}

#[tokio::test]
async fn joins_a_task_that_another_record_holds() {
    let mut world = World::new().await;
    world.with_ecs("i-9", instance("i-9", InstanceStatus::Active, vec![task("01", "family", Some("web"))])).await;
    world.report(&report("named-by-hand", vec![of_task("a", "family", "01")])).await;
    assert_eq!(words(&world, "web"), [(Ecs::Running, "usable".to_owned())]);
    say(&mut world, "i-9", InstanceStatus::Terminated, vec![task("01", "family", Some("web"))]).await;
    assert_eq!(words(&world, "web"), [(Ecs::Stopped, "draining".to_owned())]);
    // It is told elsewhere now; for a moment by both.
    let newer = Task { version: 2, ..task("01", "family", Some("web")) };
    say(&mut world, "i-8", InstanceStatus::Active, vec![newer]).await;
    assert_eq!(words(&world, "web"), [(Ecs::Running, "usable".to_owned())]);
    // A container without a task is on the instance of its own node.
    let mut plain = container("b", "plain");
    plain.task_id = None;
    world.report(&report("i-9", vec![plain])).await;
    assert_eq!(words(&world, "plain"), [(Ecs::Stopped, "draining".to_owned())]);
}

#[tokio::test]
async fn touches_only_the_services_concerned() {
    let mut world = joined(vec![task("01", "a", Some("a")), task("02", "b", Some("b"))]).await;
    let before = world.catalog();
    let newer = Task { version: 2, ..task("01", "a", Some("a")) };
    say(&mut world, "i-1", InstanceStatus::Active, vec![newer, task("02", "b", Some("b"))]).await;
    assert_eq!(world.catalog().view, before.view, "a new version that says the same");
    let unwanted = Task { is_wanted: false, version: 3, ..task("01", "a", Some("a")) };
    say(&mut world, "i-1", InstanceStatus::Active, vec![unwanted, task("02", "b", Some("b"))]).await;
    let after = world.catalog();
    assert!(after.service_index(&service("a")) > before.service_index(&service("a")));
    assert_eq!(after.service_index(&service("b")), before.service_index(&service("b")));
    assert_eq!(after.events.len(), before.events.len() + 1);
}

#[tokio::test]
async fn takes_the_port_name_of_the_task_definition() {
    let mut running = task("01", "family", Some("web"));
    running.containers[0].report.ports[0].name = Some(label("http"));
    let mut two = of_task("a", "family", "01");
    two.ports.push(port(9300, 32_769));
    two.ports[1].name = Some(label("mine"));
    let mut world = World::new().await;
    world.with_ecs("i-1", instance("i-1", InstanceStatus::Active, vec![running])).await;
    world.report(&report("i-1", vec![two])).await;
    let endpoints = world.catalog().service(&service("web")).unwrap().known_endpoints().cloned().unwrap();
    let names: Vec<_> = endpoints.iter().map(|e| e.port_name.as_ref().map(ToString::to_string)).collect();
    assert_eq!(names, [Some("http".to_owned()), Some("mine".to_owned())]);
}

#[tokio::test]
async fn counts_ecs_alone_where_no_sidecar_spoke() {
    let mut world = World::new().await;
    world.with_ecs("i-1", instance("i-1", InstanceStatus::Active, vec![task("01", "family", Some("web"))])).await;
    assert_eq!(world.states("web"), None, "a sidecar may still come");
    assert!(!world.catalog().nodes.get(&node("i-1")).unwrap().has_sidecar);
    world.state(Statement::Alone(node("i-1"), Some(AloneRecord { since_ms: NOW_MS }))).await;
    assert_eq!(world.states("web").unwrap(), ["usable"]);
    let endpoints = world.catalog().service(&service("web")).unwrap().known_endpoints().cloned().unwrap();
    assert_eq!((endpoints[0].key.node.clone(), endpoints[0].az.as_deref()), (node("i-1"), Some("eu-west-1a")));
    let unhealthy = Task { is_unhealthy: true, ..task("01", "family", Some("web")) };
    say(&mut world, "i-1", InstanceStatus::Active, vec![unhealthy]).await;
    assert_eq!(world.states("web").unwrap(), ["unusable"]);
    let pending = Task { status: TaskStatus::Pending, ..task("02", "family", Some("web")) };
    say(&mut world, "i-1", InstanceStatus::Active, vec![task("01", "family", Some("web")), pending]).await;
    assert_eq!(world.states("web").unwrap(), ["usable"]);
    assert_eq!(words(&world, "web").len(), 2);
    // A sidecar that comes counts instead: what it does not report is not there.
    world.report(&report("i-1", vec![])).await;
    assert_eq!(world.states("web").unwrap(), [""; 0]);
    let events: Vec<_> = world.catalog().events.iter().map(|e| e.to.to_string()).collect();
    assert_eq!(events, ["usable", "unusable", "usable", "gone"], "a task that never ran is no change");
}

#[tokio::test]
async fn leaves_a_task_to_the_sidecar_that_reports_it() {
    let mut world = World::new().await;
    world.with_ecs("i-1", instance("i-1", InstanceStatus::Active, vec![task("01", "family", Some("web"))])).await;
    world.state(Statement::Alone(node("i-1"), Some(AloneRecord { since_ms: NOW_MS }))).await;
    world.report(&report("other", vec![of_task("a", "family", "01")])).await;
    let endpoints = world.catalog().service(&service("web")).unwrap().known_endpoints().cloned().unwrap();
    assert_eq!(endpoints.iter().map(|e| e.key.node.clone()).collect::<Vec<_>>(), [node("other")]);
    world.report(&report("other", vec![])).await;
    let endpoints = world.catalog().service(&service("web")).unwrap().known_endpoints().cloned().unwrap();
    assert_eq!(endpoints.iter().map(|e| e.key.node.clone()).collect::<Vec<_>>(), [node("i-1")]);
}

#[tokio::test]
async fn takes_fargate_tasks_at_once() {
    let mut world = World::new().await;
    let mut one = task("01", "family", Some("web"));
    one.az = Some("eu-west-1c".to_owned());
    one.containers[0].report.ports = vec![port(80, 80)];
    world.with_ecs("fargate-web-0", fargate(vec![one.clone(), task("02", "family", Some("web"))])).await;
    assert_eq!(world.states("web").unwrap(), ["usable", "usable"]);
    assert_eq!(world.catalog().nodes.len(), 0, "a part is no node");
    let explained = world.catalog().explained.get(&service("web")).cloned().unwrap();
    assert!(explained.candidates.iter().all(|c| c.witnesses.sidecar == Sidecar::None));
    world.state(Statement::Ecs(node("fargate-web-0"), Some(fargate(vec![stopped(one, NOW_MS + 5)])))).await;
    assert_eq!(world.states("web").unwrap(), [""; 0]);
    let explained = world.catalog().explained.get(&service("web")).cloned().unwrap();
    let told: Vec<_> = explained.stopped.iter().map(|t| (t.task_id.clone(), t.stop.at_ms)).collect();
    assert_eq!(told, [(task_id("01"), NOW_MS + 5)]);
}

#[tokio::test]
async fn keeps_a_missing_task_until_it_may_go() {
    let mut world = World::new().await;
    let missing = Task { is_missing: true, ..task("01", "family", Some("web")) };
    world.with_ecs("part", fargate(vec![missing, task("02", "family", Some("web"))])).await;
    assert_eq!(world.states("web").unwrap(), ["unverified", "usable"]);
    assert_eq!(world.catalog().frozen(), Frozen { endpoints: 1, nodes: 1, services: 1 });
    let passed = AbsenceRecord { passed: vec![task_id("01")] };
    world.state(Statement::Absence(node("part"), Some(passed))).await;
    assert_eq!(world.states("web").unwrap(), ["usable"]);
    assert_eq!(world.catalog().frozen(), Frozen::default());
}

#[tokio::test]
async fn shows_the_newest_stopped_tasks_of_a_service() {
    let mut world = World::new().await;
    let one = |i: u64| stopped(task(&format!("{i:02}"), "family", Some("web")), NOW_MS + i);
    // One that never ran has no port.
    let mut never_ran = one(25);
    never_ran.containers[0].report.ports.clear();
    never_ran.containers[0].reason = Some("CannotPullContainerError".to_owned());
    world.with_ecs("i-1", instance("i-1", InstanceStatus::Active, (0..12).map(one).collect())).await;
    let tasks = (12..25).map(one).chain([never_ran]).collect();
    say(&mut world, "i-2", InstanceStatus::Active, tasks).await;
    let stopped = world.catalog().explained.get(&service("web")).cloned().unwrap().stopped.clone();
    let times: Vec<_> = stopped.iter().map(|task| task.stop.at_ms - NOW_MS).collect();
    assert_eq!(times, (6..26).rev().collect::<Vec<_>>());
    assert_eq!(stopped[0].containers[0].2.as_deref(), Some("CannotPullContainerError"));
    say(&mut world, "i-1", InstanceStatus::Active, vec![]).await;
    say(&mut world, "i-2", InstanceStatus::Active, vec![]).await;
    assert!(world.catalog().explained.get(&service("web")).is_none());
}

#[tokio::test]
async fn follows_operators() {
    let mut world = World::new().await;
    world.report(&report("i-1", vec![of_task("a", "web", "01"), of_task("b", "web", "02")])).await;
    world.report(&report("i-2", vec![of_task("c", "web", "03")])).await;
    let container_id = format!("{:0>64}", "c");
    for (target, expected) in [
        (Target::Node(node("i-1")), ["draining", "draining", "usable"]),
        (Target::Task(task_id("02")), ["usable", "draining", "usable"]),
        (Target::Container(container_id), ["usable", "usable", "draining"]),
    ] {
        world.state(Statement::Order(target.clone(), order(Order::Drain))).await;
        assert_eq!(world.states("web").unwrap(), expected);
        world.state(Statement::Order(target, None)).await;
        assert_eq!(world.states("web").unwrap(), ["usable"; 3]);
    }
    world.state(Statement::Order(Target::Node(node("i-1")), order(Order::Drain))).await;
    world.state(Statement::Order(Target::Task(task_id("01")), order(Order::Evict))).await;
    assert_eq!(world.states("web").unwrap(), ["draining", "usable"]);
    let explained = world.catalog().explained.get(&service("web")).cloned().unwrap();
    assert_eq!(explained.candidates[0].since.operator_ms, NOW_MS + 7);
    assert_eq!(explained.candidates[2].since.operator_ms, 0);
    // What comes later to a drained node is drained as well.
    world.report(&report("i-1", vec![of_task("d", "web", "04")])).await;
    assert_eq!(world.states("web").unwrap(), ["draining", "usable"]);
}

#[tokio::test]
async fn asks_neighbours_about_silent_nodes_only() {
    let mut world = world_of(vec![container("a", "web"), container("b", "db")]).await;
    world.report(&report("i-2", vec![])).await;
    let probe = |at_ms: u64, words: &[(&str, Neighbours)]| {
        let verdict = |(place, word): &(&str, Neighbours)| Verdict { place: place.parse().unwrap(), word: *word };
        let verdicts = words.iter().map(verdict).collect();
        Some(ProbeRecord { at_ms, neighbours: vec!["i-2".into()], verdicts })
    };
    let refused = probe(NOW_MS, &[("10.0.0.1:32768", Neighbours::Refused)]);
    world.state(Statement::Probe(node("i-1"), refused.clone())).await;
    assert_eq!(world.states("web").unwrap(), ["usable"]);
    let said =
        |world: &World| world.catalog().explained.get(&service("web")).unwrap().candidates[0].witnesses.neighbours;
    assert_eq!(said(&world), Neighbours::NotKnown);
    world.pass(1_000).await;
    world.silence(&node("i-1"), None).await;
    assert_eq!(world.states("web").unwrap(), ["unverified"], "what was met before the silence says nothing of it");
    let now_ms = world.now_ms();
    for (words, expected, state) in [
        (vec![("10.0.0.1:32768", Neighbours::Connect)], Neighbours::Connect, vec!["unverified"]),
        (vec![("10.0.0.1:1", Neighbours::Refused)], Neighbours::NotKnown, vec!["unverified"]),
        (vec![("10.0.0.1:32768", Neighbours::Refused)], Neighbours::Refused, vec![]),
    ] {
        world.state(Statement::Probe(node("i-1"), probe(now_ms, &words))).await;
        assert_eq!(said(&world), expected);
        assert_eq!(world.states("web").unwrap(), state);
    }
    world.report(&report("i-1", vec![container("a", "web")])).await;
    assert_eq!(world.states("web").unwrap(), ["usable"]);
}

#[tokio::test]
async fn says_since_when_each_witness_says_it() {
    let mut world = joined(vec![task("01", "family", Some("web"))]).await;
    let since = |world: &World| {
        let explained = world.catalog().explained.get(&service("web")).cloned().unwrap();
        (explained.candidates[0].since, explained.candidates[0].since_ms)
    };
    let (first, _) = since(&world);
    assert_eq!((first.sidecar_ms, first.ecs_ms), (NOW_MS, NOW_MS));
    world.pass(10_000).await;
    let unwanted = Task { is_wanted: false, ..task("01", "family", Some("web")) };
    say(&mut world, "i-1", InstanceStatus::Active, vec![unwanted]).await;
    let (second, state_ms) = since(&world);
    assert_eq!((second.sidecar_ms, second.ecs_ms, state_ms), (NOW_MS, NOW_MS + 10_000, NOW_MS + 10_000));
    world.pass(10_000).await;
    world.silence(&node("i-1"), None).await;
    let (third, _) = since(&world);
    assert_eq!((third.sidecar_ms, third.ecs_ms), (NOW_MS + 20_000, NOW_MS + 10_000));
}
