use portolan_core::ecs::{InstanceStatus, Task};
use portolan_core::rules::Neighbours;

use super::limits::Removals;
use super::silence::SILENCE_MAX_MS;
use super::*;
use crate::store::evidence::{AbsenceRecord, ProbeRecord, Verdict};
use crate::store::record::Passage;
use crate::testing::ecs::{cluster, fargate, instance, task, task_id};
use crate::testing::{NOW_MS, World, container, label, node, report, service};

/// `nodes` nodes, each with one endpoint of `web`; the first `silent` of them are silent.
async fn world(nodes: usize, silent: usize) -> World {
    let mut world = World::new().await;
    for i in 0..nodes {
        world.report(&report(&format!("i-{i}"), vec![container(&i.to_string(), "web")])).await;
    }
    for i in 0..silent {
        world.silence(&node(&format!("i-{i}")), None).await;
    }
    world
}

fn silences(world: &World, removals: &mut Removals, now_ms: u64) -> Vec<silence::Passage> {
    silence::due(&mut Look::new(&world.catalog(), removals, now_ms))
}

fn absences(world: &World, removals: &mut Removals, now_ms: u64) -> Vec<absence::Absence> {
    absence::due(&mut Look::new(&world.catalog(), removals, now_ms))
}

/// The nodes whose silence passes, and whether service `web` is held there.
async fn passages(nodes: usize, silent: usize) -> Vec<(String, bool)> {
    let world = world(nodes, silent).await;
    let due = silences(&world, &mut Removals::default(), NOW_MS + SILENCE_MAX_MS);
    due.into_iter().map(|p| (p.node.node.to_string(), p.held == [service("web")])).collect()
}

async fn write(world: &mut World, passages: Vec<silence::Passage>) {
    for passage in passages {
        world.silence(&passage.node, Some(Passage { at_ms: NOW_MS, held: passage.held })).await;
    }
}

#[tokio::test]
async fn passes_nothing_early() {
    let world = world(7, 1).await;
    assert_eq!(silences(&world, &mut Removals::default(), NOW_MS + SILENCE_MAX_MS - 1), []);
}

#[tokio::test]
async fn removes_at_most_fifteen_percent_of_a_service_or_of_the_nodes() {
    let of = |name: &str, is_held| (name.to_owned(), is_held);
    assert_eq!(passages(7, 1).await, [of("i-0", false)], "one of seven is 14 %");
    assert_eq!(passages(6, 1).await, [of("i-0", true)], "one of six is 17 %: its service is held");
    assert_eq!(passages(1, 1).await, [of("i-0", true)], "the last one");
    let removed = |passages: Vec<(String, bool)>| passages.into_iter().filter(|(_, is_held)| !is_held).count();
    assert_eq!(removed(passages(7, 7).await), 1, "one node a minute; the others are held, and shown so");
    assert_eq!(removed(passages(14, 5).await), 2);
    assert_eq!(removed(passages(19, 9).await), 2, "three of nineteen are 16 %");
}

#[tokio::test]
async fn goes_on_a_minute_later_and_does_not_repeat_itself() {
    let mut world = world(14, 3).await;
    let mut removals = Removals::default();
    let at = NOW_MS + SILENCE_MAX_MS;
    let due = silences(&world, &mut removals, at);
    let again = silences(&world, &mut removals, at + 1);
    assert!(again.iter().all(|again| due.contains(again)), "the catalog does not show it yet: {again:?}");
    write(&mut world, due).await;
    assert_eq!(world.states("web").unwrap().len(), 12);
    assert_eq!(world.catalog().frozen(), crate::catalog::Frozen { endpoints: 1, nodes: 1, services: 1 });
    assert_eq!(silences(&world, &mut removals, at + 59_999), []);
    let later = silences(&world, &mut removals, at + 60_000);
    assert_eq!(later.len(), 1);
    assert_eq!((later[0].node.clone(), later[0].held.len()), (node("i-2"), 0));
}

#[tokio::test]
async fn weighs_what_was_vouched_for_when_nobody_does_any_more() {
    let mut world = world(7, 2).await;
    let probe = |word: Neighbours| {
        let verdicts = vec![Verdict { place: "10.0.0.1:32768".parse().unwrap(), word }];
        Some(ProbeRecord { at_ms: NOW_MS, neighbours: vec![], verdicts })
    };
    for name in ["i-0", "i-1"] {
        world.state(Statement::Probe(node(name), probe(Neighbours::Connect))).await;
    }
    let mut removals = Removals::default();
    let at = NOW_MS + SILENCE_MAX_MS;
    let due = silences(&world, &mut removals, at);
    assert!(due.iter().all(|passage| passage.held == [service("web")]), "{due:?}");
    write(&mut world, due).await;
    assert_eq!(world.catalog().frozen().endpoints, 0, "vouched for, not held back");
    assert_eq!(silences(&world, &mut removals, at), []);
    for name in ["i-0", "i-1"] {
        world.state(Statement::Probe(node(name), None)).await;
    }
    assert_eq!(world.states("web").unwrap().len(), 7);
    assert_eq!(world.catalog().frozen().endpoints, 2);
    let due = silences(&world, &mut removals, at);
    write(&mut world, due).await;
    assert_eq!(world.states("web").unwrap().len(), 6);
}

/// `tasks` Fargate tasks of `web`, of which those below `missing` are missing.
async fn parts(tasks: usize, missing: usize) -> World {
    let mut world = World::new().await;
    world.state(Statement::Cluster(label("prod"), Some(cluster()))).await;
    say(&mut world, tasks, missing).await;
    world
}

async fn say(world: &mut World, tasks: usize, missing: usize) {
    let one = |i: usize| Task { is_missing: i < missing, ..task(&format!("{i:03}"), "family", Some("web")) };
    world.state(Statement::Ecs(node("part"), Some(fargate((0..tasks).map(one).collect())))).await;
}

#[tokio::test]
async fn lets_missing_tasks_go_within_the_limits() {
    for (tasks, missing, expected) in [(7, 1, 1), (6, 1, 0), (1, 1, 0), (40, 40, 6), (20, 3, 3)] {
        let world = parts(tasks, missing).await;
        let due = absences(&world, &mut Removals::default(), NOW_MS);
        let gone: usize = due.iter().map(|absence| absence.newly.len()).sum();
        assert_eq!(gone, expected, "{missing} of {tasks}");
    }
}

#[tokio::test]
async fn lets_go_at_once_of_missing_tasks_that_were_in_no_answer() {
    let mut world = parts(2, 0).await;
    let unhealthy = |id: &str| Task { is_unhealthy: true, is_missing: true, ..task(id, "family", Some("web")) };
    let tasks = vec![unhealthy("000"), unhealthy("001"), task("002", "family", Some("web"))];
    world.state(Statement::Ecs(node("part"), Some(fargate(tasks)))).await;
    assert_eq!(world.states("web").unwrap(), ["unusable", "unusable", "usable"]);
    assert_eq!(world.catalog().frozen().endpoints, 0);
    let due = absences(&world, &mut Removals::default(), NOW_MS);
    assert_eq!(due[0].newly, [task_id("000"), task_id("001")]);
    world.state(Statement::Absence(node("part"), Some(due[0].record.clone()))).await;
    assert_eq!(world.states("web").unwrap(), ["usable"]);
    assert_eq!(absences(&world, &mut Removals::default(), NOW_MS), []);
}

#[tokio::test]
async fn takes_tasks_back_that_are_missing_no_longer() {
    let mut world = parts(20, 2).await;
    let mut removals = Removals::default();
    let due = absences(&world, &mut removals, NOW_MS);
    assert_eq!(absences(&world, &mut removals, NOW_MS), [], "the catalog does not show it yet");
    world.state(Statement::Absence(node("part"), Some(due[0].record.clone()))).await;
    assert_eq!(world.states("web").unwrap().len(), 18);
    assert_eq!(absence::taken_back(&world.catalog()), []);
    say(&mut world, 20, 1).await;
    let back = absence::taken_back(&world.catalog());
    let left = AbsenceRecord { passed: vec![task_id("000")] };
    assert_eq!(back, [Statement::Absence(node("part"), Some(left))]);
    for statement in back {
        world.state(statement).await;
    }
    assert_eq!(world.states("web").unwrap().len(), 19);
    world.state(Statement::Ecs(node("part"), None)).await;
    assert_eq!(absence::taken_back(&world.catalog()), [Statement::Absence(node("part"), None)]);
}

#[tokio::test]
async fn silences_and_missing_tasks_share_the_limits() {
    let mut world = world(13, 1).await;
    let one = |i: usize| Task { is_missing: i == 0, ..task(&format!("{i:03}"), "web", Some("web")) };
    world.state(Statement::Cluster(label("prod"), Some(cluster()))).await;
    world.state(Statement::Ecs(node("part"), Some(fargate((0..1).map(one).collect())))).await;
    let at = NOW_MS + SILENCE_MAX_MS;
    let catalog = world.catalog();
    let mut removals = Removals::default();
    let mut look = Look::new(&catalog, &mut removals, at);
    let answered: usize = world.states("web").unwrap().len();
    assert_eq!((silence::due(&mut look).len(), absence::due(&mut look).len(), answered), (1, 1, 14));
    // A third one would be too much of 14.
    world.silence(&node("i-1"), None).await;
    let held = silences(&world, &mut removals, at + 1).into_iter().find(|p| p.node == node("i-1"));
    assert_eq!(held.map(|passage| passage.held), Some(vec![service("web")]));
}

#[tokio::test]
async fn finds_instances_without_a_sidecar_after_a_minute() {
    let mut world = World::new().await;
    world.with_ecs("i-1", instance("i-1", InstanceStatus::Active, vec![])).await;
    world.with_ecs("i-2", instance("i-2", InstanceStatus::Terminated, vec![])).await;
    world.report(&report("i-3", vec![])).await;
    world.with_ecs("i-3", instance("i-3", InstanceStatus::Active, vec![])).await;
    let late = NOW_MS + alone::SIDECAR_WAIT_MS;
    assert_eq!(alone::due(&world.catalog(), late - 1), []);
    let due = alone::due(&world.catalog(), late);
    assert!(matches!(&due[..], [Statement::Alone(found, Some(_))] if *found == node("i-1")), "{due:?}");
    for statement in due {
        world.state(statement).await;
    }
    assert_eq!((alone::due(&world.catalog(), late), alone::taken_back(&world.catalog())), (vec![], vec![]));
    world.report(&report("i-1", vec![])).await;
    assert_eq!(alone::taken_back(&world.catalog()), [Statement::Alone(node("i-1"), None)]);
}

#[test]
fn tells_of_a_freeze_that_lasts() {
    let metrics = Metrics::new("test", "0");
    let mut freeze = metrics.register(Freeze::new);
    let frozen = crate::catalog::Frozen { endpoints: 3, nodes: 2, services: 1 };
    freeze.see(frozen);
    assert!(!freeze.is_told());
    freeze.see(frozen);
    assert!(freeze.is_told());
    let text = metrics.encode();
    for line in ["portolan_held_endpoints 3\n", "portolan_held_nodes 2\n", "portolan_held_services 1\n"] {
        assert!(text.contains(line), "{text}");
    }
    freeze.see(crate::catalog::Frozen::default());
    assert!(!freeze.is_told());
}
