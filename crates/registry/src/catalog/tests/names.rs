//! Names below the labels: from ECS, from the family, kept for life.

use std::collections::BTreeMap;

use portolan_core::ecs::{InstanceStatus, Task, TaskStatus};
use portolan_core::endpoint::EndpointKey;
use portolan_core::rules::{Sidecar, Word};

use super::*;
use crate::store::Store;
use crate::store::evidence::{FamilyRecord, NameRecord};
use crate::testing::Statement;
use crate::testing::ecs::{instance, of_task, stopped, task};

async fn used() -> World {
    let mut world = World::new().await;
    world.with_ecs("i-9", instance("i-9", InstanceStatus::Active, vec![])).await;
    world
}

async fn say(world: &mut World, tasks: Vec<Task>) {
    world.state(Statement::Ecs(node("i-1"), Some(instance("i-1", InstanceStatus::Active, tasks)))).await;
}

async fn family(world: &mut World, name: &str, services: &[&str]) {
    let services = services.iter().map(|service| (*service).to_owned()).collect();
    world.state(Statement::Family(label("prod"), label(name), Some(FamilyRecord { services }))).await;
}

fn known(world: &World) -> Vec<String> {
    let catalog = world.catalog();
    let answered = |service: &&std::sync::Arc<portolan_core::view::Service>| {
        service.known_endpoints().is_some_and(|endpoints| !endpoints.is_empty())
    };
    catalog.view.services.values().filter(answered).map(|service| service.key.service.to_string()).collect()
}

fn kept(world: &World) -> Vec<(String, NameSource)> {
    world.catalog().stated.names.values().map(|record| (record.name.to_string(), record.source)).collect()
}

#[tokio::test]
async fn names_a_container_by_its_ecs_service_and_keeps_that() {
    let mut world = used().await;
    say(&mut world, vec![task("01", "family", Some("web"))]).await;
    world.report(&report("i-1", vec![of_task("a", "family", "01")])).await;
    assert_eq!(known(&world), ["web"]);
    assert_eq!(kept(&world), [("web".to_owned(), NameSource::EcsService)]);
    // Whatever ECS says later, and whether it is asked at all.
    say(&mut world, vec![task("01", "family", Some("other"))]).await;
    assert_eq!(known(&world), ["web"]);
    say(&mut world, vec![]).await;
    world.state(Statement::Cluster(label("prod"), None)).await;
    assert_eq!(known(&world), ["web"]);
    // Its labels would have counted more, and need no record.
    world.report(&report("i-1", vec![labelled(of_task("b", "family", "02"), "mine")])).await;
    assert_eq!(known(&world), ["mine"]);
    world.expire().await;
    assert_eq!(kept(&world), [], "nobody bears the name any more");
}

#[tokio::test]
async fn names_a_new_task_by_what_is_known_of_its_family() {
    let mut world = used().await;
    family(&mut world, "family", &["web_app"]).await;
    world.report(&report("i-1", vec![of_task("a", "family", "01")])).await;
    assert_eq!(known(&world), ["web-app"]);
    assert_eq!(kept(&world), [("web-app".to_owned(), NameSource::EcsService)]);
    // ECS knows that a task has no service: it is no new one of the family's service.
    say(&mut world, vec![task("02", "family", None)]).await;
    world.report(&report("i-1", vec![of_task("a", "family", "01"), of_task("b", "family", "02")])).await;
    assert_eq!(known(&world), ["family", "web-app"]);
}

#[tokio::test]
async fn waits_for_ecs_and_then_takes_the_family() {
    for services in [&[][..], &["one", "two"][..]] {
        let mut world = used().await;
        family(&mut world, "family", services).await;
        world.report(&report("i-1", vec![of_task("a", "family", "01"), of_task("b", "family", "02")])).await;
        assert_eq!(known(&world), [""; 0]);
        let status = world.catalog().nodes.get(&node("i-1")).cloned().unwrap();
        assert_eq!((status.unnamed, status.refusals.len()), (2, 2), "{:?}", status.refusals);
        world.pass(4_000).await;
        say(&mut world, vec![task("02", "family", Some("two"))]).await;
        assert_eq!(known(&world), ["two"]);
        world.pass(999).await;
        assert_eq!(known(&world), ["two"]);
        world.pass(1).await;
        assert_eq!(known(&world), ["family", "two"]);
        assert_eq!(world.catalog().nodes.get(&node("i-1")).unwrap().unnamed, 0);
        // Too late.
        say(&mut world, vec![task("01", "family", Some("one")), task("02", "family", Some("two"))]).await;
        assert_eq!(known(&world), ["family", "two"]);
    }
}

#[tokio::test]
async fn whoever_waits_is_named_when_its_family_becomes_known() {
    let mut world = used().await;
    world.report(&report("i-1", vec![of_task("a", "family", "01")])).await;
    family(&mut world, "family", &["web"]).await;
    assert_eq!(known(&world), ["web"]);
    family(&mut world, "family", &["web", "other"]).await;
    assert_eq!(known(&world), ["web"]);
}

#[tokio::test]
async fn switching_ecs_on_renames_nobody() {
    let mut world = World::new().await;
    world.report(&report("i-1", vec![of_task("a", "family", "01"), container("b", "plain")])).await;
    assert_eq!(known(&world), ["family", "plain"]);
    assert_eq!(kept(&world), [("family".to_owned(), NameSource::Family)], "only what is of a task");
    world.with_ecs("i-1", instance("i-1", InstanceStatus::Active, vec![task("01", "family", Some("web"))])).await;
    assert_eq!(known(&world), ["family", "plain"]);
}

#[tokio::test]
async fn shows_a_name_that_may_change_only_once_it_is_stored() {
    let mut world = World::new().await;
    world.is_steward_idle = true;
    world.report(&report("i-1", vec![of_task("a", "family", "01")])).await;
    let shown = |world: &World| world.catalog().explained.keys().map(|key| key.service.to_string()).collect::<Vec<_>>();
    assert_eq!(shown(&world), ["family"], "nothing to wait for");
    say(&mut world, vec![task("01", "family", Some("web")), task("02", "family", Some("web"))]).await;
    world.state(Statement::Cluster(label("prod"), Some(crate::testing::ecs::cluster()))).await;
    world.report(&report("i-1", vec![of_task("a", "family", "01"), of_task("b", "family", "02")])).await;
    assert_eq!(shown(&world), ["family"], "it was seen under that name; the other one waits");
    world.is_steward_idle = false;
    world.pass(0).await;
    assert_eq!(shown(&world), ["family", "web"]);
}

#[tokio::test]
async fn a_sidecar_that_comes_late_takes_nothing_away_for_a_moment() {
    let mut world = used().await;
    say(&mut world, vec![task("a", "family", Some("web"))]).await;
    let alone = crate::store::evidence::AloneRecord { since_ms: 0 };
    world.state(Statement::Alone(node("i-1"), Some(alone))).await;
    world.is_steward_idle = true;
    assert_eq!(known(&world), ["web"]);
    world.report(&report("i-1", vec![of_task("a", "family", "a")])).await;
    assert_eq!(known(&world), ["web"]);
    let explained = world.catalog().explained.get(&service("web")).cloned().unwrap();
    assert_eq!(explained.candidates[0].witnesses.sidecar, Sidecar::Speaks(Word::Passing));
}

#[tokio::test]
async fn tells_two_services_of_one_label_apart() {
    let mut world = used().await;
    say(&mut world, vec![task("01", "shared", Some("web_app")), task("02", "shared", Some("web-app"))]).await;
    world.report(&report("i-1", vec![of_task("a", "shared", "01"), of_task("b", "shared", "02")])).await;
    let explained = world.catalog().explained.get(&service("web-app")).cloned().unwrap();
    assert_eq!(explained.owner.as_ref().unwrap().ecs_service.as_deref(), Some("web_app"));
    let refused: Vec<_> = explained.candidates.iter().map(|c| c.is_refused).collect();
    assert_eq!(refused, [false, true]);
    let reason = &explained.candidates[1].refusals[0].reason;
    assert!(reason.contains("`web-app`") && reason.contains("`web_app`"), "{reason}");
    // The same service with another family is no stranger.
    say(&mut world, vec![task("03", "renewed", Some("web_app"))]).await;
    world.report(&report("i-1", vec![of_task("c", "renewed", "03")])).await;
    assert_eq!(world.states("web-app").unwrap(), ["usable"]);
}

#[tokio::test]
async fn joins_a_service_whose_first_container_was_named_by_its_family() {
    let mut world = used().await;
    world.report(&report("i-1", vec![of_task("a", "web", "01")])).await;
    world.pass(5_000).await;
    assert_eq!(
        world.catalog().explained.get(&service("web")).unwrap().owner.as_ref().unwrap().source,
        NameSource::Family
    );
    say(&mut world, vec![task("02", "web", Some("web"))]).await;
    world.report(&report("i-1", vec![of_task("a", "web", "01"), of_task("b", "web", "02")])).await;
    assert_eq!(world.states("web").unwrap(), ["usable", "usable"]);
}

#[tokio::test]
async fn refuses_a_reserved_service_and_an_id_that_is_none() {
    let mut world = used().await;
    say(&mut world, vec![task("01", "family", Some("node")), task("02", "family", Some("web"))]).await;
    let mut odd = of_task("b", "family", "02");
    odd.id = "a/b".to_owned();
    world.report(&report("i-1", vec![of_task("a", "family", "01"), odd])).await;
    assert_eq!(known(&world), [""; 0]);
    let refusals = world.catalog().nodes.get(&node("i-1")).unwrap().refusals.clone();
    assert_eq!(refusals.len(), 2, "{refusals:?}");
    assert_eq!(kept(&world), []);
}

#[tokio::test]
async fn keeps_names_while_a_report_cannot_be_read() {
    let mut world = used().await;
    world.report(&report("i-1", vec![of_task("a", "family", "01")])).await;
    world.pass(5_000).await;
    world.commit(Transaction::at(1).putting(Key::Node(node("i-1")), "\u{0}garbage")).await;
    world.expire().await;
    assert_eq!(kept(&world).len(), 1);
}

#[tokio::test]
async fn explains_an_ended_container_without_storing_its_name() {
    let mut world = used().await;
    say(&mut world, vec![stopped(task("01", "family", Some("web")), 1)]).await;
    world.report(&report("i-1", vec![died(of_task("a", "family", "01"), Some(1))])).await;
    assert_eq!(kept(&world), []);
    assert_eq!(world.catalog().explained.get(&service("web")).unwrap().candidates.len(), 1);
}

/// What may happen to names: three tasks of two families on one node.
#[derive(Debug, Clone)]
enum Step {
    Report(Vec<usize>),
    Ecs(Vec<(usize, usize)>),
    Family(usize, Vec<usize>),
    Cluster(bool),
    Steward(bool),
    Pass(u64),
    Expire,
}

const SERVICES: [Option<&str>; 3] = [None, Some("blue"), Some("green")];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0..3usize, 0..4).prop_map(Step::Report),
        4 => prop::collection::vec((0..3usize, 0..3usize), 0..3).prop_map(Step::Ecs),
        2 => (0..2usize, prop::collection::vec(1..3usize, 0..3)).prop_map(|(f, s)| Step::Family(f, s)),
        3 => any::<bool>().prop_map(Step::Cluster),
        3 => prop::bool::weighted(0.7).prop_map(Step::Steward),
        2 => (0..6_000u64).prop_map(Step::Pass),
        1 => Just(Step::Expire),
    ]
}

async fn take(world: &mut World, step: Step) {
    let family_of = |task: usize| ["even", "odd"][task % 2];
    match step {
        Step::Report(tasks) => {
            let one = |task: &usize| of_task(&task.to_string(), family_of(*task), &task.to_string());
            world.report(&report("i-1", tasks.iter().map(one).collect())).await;
        }
        Step::Ecs(tasks) => {
            let tasks: BTreeMap<_, _> = tasks.into_iter().collect();
            let one = |(id, service): (&usize, &usize)| Task {
                status: TaskStatus::Running,
                ..task(&id.to_string(), family_of(*id), SERVICES[*service])
            };
            say(world, tasks.iter().map(one).collect()).await;
        }
        Step::Family(name, services) => {
            let services: Vec<_> = services.iter().filter_map(|service| SERVICES[*service]).collect();
            family(world, family_of(name), &services).await;
        }
        Step::Cluster(is_used) => {
            let record = is_used.then(crate::testing::ecs::cluster);
            world.state(Statement::Cluster(label("prod"), record)).await;
        }
        Step::Steward(is_idle) => world.is_steward_idle = is_idle,
        Step::Pass(passed_ms) => world.pass(passed_ms).await,
        Step::Expire => world.expire().await,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever ECS says and whenever the steward comes to store it: a container that was seen under a name has that name
    /// as long as it is reported.
    #[test]
    fn renames_nothing_that_was_seen(steps in prop::collection::vec(step(), 5..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            let mut seen: BTreeMap<EndpointKey, ServiceKey> = BTreeMap::new();
            for step in steps {
                let reported = match &step {
                    Step::Report(tasks) => Some(tasks.clone()),
                    _ => None,
                };
                take(&mut world, step).await;
                if let Some(tasks) = reported {
                    seen.retain(|key, _| tasks.iter().any(|task| key.container_id == format!("{task:0>64}")));
                }
                for (service, explained) in &world.catalog().explained {
                    for candidate in &explained.candidates {
                        let first = seen.entry(candidate.key.clone()).or_insert_with(|| service.clone());
                        assert_eq!(first, service, "{} was renamed", candidate.key.container_id);
                    }
                }
            }
            world.is_steward_idle = false;
            world.pass(0).await;
            let names: Vec<NameRecord> = world.catalog().stated.names.values().map(|r| (**r).clone()).collect();
            let rebuilt = crate::catalog::testing::Stepper::load(world.store.as_ref() as &dyn Store).await.catalog();
            assert_eq!(rebuilt.stated.names.len(), names.len());
            assert_eq!(without_indexes(&rebuilt), without_indexes(&world.catalog()));
        });
    }
}
