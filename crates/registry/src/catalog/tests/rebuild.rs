//! Whatever is written: what was built piece by piece is what is built of the whole.

use std::collections::BTreeMap;

use portolan_core::ecs::{EcsReport, InstanceStatus, Task, TaskStatus};
use portolan_core::rules::Neighbours;

use super::*;
use crate::store::Target;
use crate::store::evidence::{
    AbsenceRecord, AloneRecord, ExternalEndpoint, ExternalRecord, FamilyRecord, Order, OrderRecord, ProbeRecord,
    ResolvedPlace, ResolvedRecord, Verdict,
};
use crate::testing::NOW_MS;
use crate::testing::Statement;
use crate::testing::ecs::{fargate, instance, of_task, stopped, task, task_id};

/// Anything that may be written: of three sites, five tasks of two families and three services, one declared service.
#[derive(Debug, Clone)]
enum Step {
    Report { site: usize, tasks: Vec<(usize, usize)> },
    Forget { site: usize },
    Silence { site: usize, is_passed: bool },
    Ecs { site: usize, status: usize, tasks: Vec<(usize, usize, usize)> },
    Cluster(bool),
    Alone(usize, bool),
    Absence(usize, Vec<usize>),
    Probe(usize, usize),
    Order(usize, usize, usize),
    Family(usize, Vec<usize>),
    Declare(usize),
    Resolve(usize),
    Pass(u64),
    Expire,
    Reload,
}

const SERVICES: [Option<&str>; 4] = [None, Some("blue"), Some("gr_een"), Some("gr-een")];

fn step() -> impl Strategy<Value = Step> {
    let site = 0..3usize;
    let tasks = prop::collection::vec((0..5usize, 0..4usize), 0..4);
    let told = prop::collection::vec((0..5usize, 0..4usize, 0..6usize), 0..5);
    let some = prop::collection::vec(0..5usize, 0..3);
    prop_oneof![
        6 => (site.clone(), tasks).prop_map(|(site, tasks)| Step::Report { site, tasks }),
        1 => site.clone().prop_map(|site| Step::Forget { site }),
        2 => (site.clone(), any::<bool>()).prop_map(|(site, is_passed)| Step::Silence { site, is_passed }),
        6 => (site.clone(), 0..4usize, told).prop_map(|(site, status, tasks)| Step::Ecs { site, status, tasks }),
        2 => prop::bool::weighted(0.8).prop_map(Step::Cluster),
        2 => (site.clone(), prop::bool::weighted(0.8)).prop_map(|(site, is)| Step::Alone(site, is)),
        1 => (site.clone(), some.clone()).prop_map(|(site, tasks)| Step::Absence(site, tasks)),
        2 => (site, 0..4usize).prop_map(|(site, word)| Step::Probe(site, word)),
        3 => (0..3usize, 0..5usize, 0..3usize).prop_map(|(kind, which, order)| Step::Order(kind, which, order)),
        2 => (0..2usize, prop::collection::vec(1..4usize, 0..3)).prop_map(|(f, s)| Step::Family(f, s)),
        1 => (0..4usize).prop_map(Step::Declare),
        1 => (0..3usize).prop_map(Step::Resolve),
        2 => (0..6_000u64).prop_map(Step::Pass),
        1 => Just(Step::Expire),
        1 => Just(Step::Reload),
    ]
}

fn site(number: usize) -> String {
    format!("i-{number}")
}

fn family_of(task: usize) -> &'static str {
    ["even", "odd"][task % 2]
}

fn reported(task: usize, kind: usize) -> ContainerReport {
    let mut one = of_task(&task.to_string(), family_of(task), &task.to_string());
    match kind {
        0 => one.phase = Phase::Stopping,
        1 => one = died(one, None),
        2 => one.candidates.label = Some(label("blue")),
        _ => {}
    }
    one
}

fn told(number: usize, service: usize, kind: usize) -> Task {
    let running = task(&number.to_string(), family_of(number), SERVICES[service]);
    match kind {
        0 => Task { status: TaskStatus::Pending, ..running },
        1 => Task { is_missing: true, ..running },
        2 => Task { is_wanted: false, ..running },
        3 => stopped(running, NOW_MS + number as u64),
        4 => Task { is_unhealthy: true, ..running },
        _ => running,
    }
}

fn ecs(site: &str, status: usize, tasks: &[(usize, usize, usize)]) -> Option<Box<EcsReport>> {
    let tasks: BTreeMap<_, _> = tasks.iter().map(|(number, service, kind)| (*number, (*service, *kind))).collect();
    let tasks = tasks.into_iter().map(|(number, (service, kind))| told(number, service, kind)).collect();
    let statuses = [InstanceStatus::Active, InstanceStatus::Draining, InstanceStatus::Terminated];
    match statuses.get(status) {
        Some(status) => Some(instance(site, *status, tasks)),
        None if site == "i-2" => Some(fargate(tasks)),
        None => None,
    }
}

fn declared(hosts: usize) -> Option<ExternalRecord> {
    let endpoint = |host: &&str| ExternalEndpoint {
        host: (*host).to_owned(),
        port: 80,
        protocol: portolan_core::endpoint::Protocol::Tcp,
        port_name: None,
        weight: 1,
        az: None,
    };
    let endpoints: Vec<_> = ["10.0.9.1", "named", "127.0.0.1"][..hosts].iter().map(endpoint).collect();
    (hosts > 0).then(|| ExternalRecord {
        endpoints,
        check_every_ms: None,
        tags: vec![],
        meta: vec![],
        since_ms: NOW_MS,
    })
}

fn statement(step: &Step, now_ms: u64) -> Option<Statement> {
    let key = |number: &usize| node(&site(*number));
    Some(match step {
        Step::Ecs { site: at, status, tasks } => Statement::Ecs(key(at), ecs(&site(*at), *status, tasks)),
        Step::Cluster(is) => Statement::Cluster(label("prod"), is.then(crate::testing::ecs::cluster)),
        Step::Alone(at, is) => Statement::Alone(key(at), is.then_some(AloneRecord { since_ms: NOW_MS })),
        Step::Absence(at, tasks) => {
            let passed = tasks.iter().map(|task| task_id(&task.to_string())).collect();
            Statement::Absence(key(at), Some(AbsenceRecord { passed }))
        }
        Step::Probe(at, word) => {
            let words = [Neighbours::NotKnown, Neighbours::Connect, Neighbours::Refused];
            let verdict = |word: &Neighbours| Verdict { place: "10.0.0.1:32768".parse().unwrap(), word: *word };
            let probe = |word| ProbeRecord { at_ms: now_ms, neighbours: vec![], verdicts: vec![verdict(word)] };
            Statement::Probe(key(at), words.get(*word).map(probe))
        }
        Step::Order(kind, which, order) => {
            let target = match kind {
                0 => Target::Node(key(which)),
                1 => Target::Task(task_id(&which.to_string())),
                _ => Target::Container(format!("{which:0>64}")),
            };
            let orders = [Order::Drain, Order::Evict];
            let order = orders.get(*order).map(|order| OrderRecord { order: *order, at_ms: 1, reason: String::new() });
            Statement::Order(target, order)
        }
        Step::Family(name, services) => {
            let services = services.iter().filter_map(|service| SERVICES[*service]).map(str::to_owned).collect();
            Statement::Family(label("prod"), label(family_of(*name)), Some(FamilyRecord { services }))
        }
        Step::Declare(hosts) => Statement::External(service("blue"), declared(*hosts)),
        Step::Resolve(addresses) => {
            let place = |last: usize| ResolvedPlace {
                host: "named".to_owned(),
                port: 80,
                protocol: portolan_core::endpoint::Protocol::Tcp,
                address: format!("10.0.8.{last}").parse().unwrap(),
                check: None,
            };
            let places = (0..*addresses).map(place).collect();
            Statement::Resolved(service("blue"), Some(ResolvedRecord { places, unresolved: vec![] }))
        }
        Step::Report { .. } | Step::Forget { .. } | Step::Silence { .. } => return None,
        Step::Pass(_) | Step::Expire | Step::Reload => return None,
    })
}

async fn take(world: &mut World, step: Step) {
    if let Some(statement) = statement(&step, world.now_ms()) {
        return world.state(statement).await;
    }
    match step {
        Step::Report { site: at, tasks } => {
            let containers = tasks.iter().map(|(task, kind)| reported(*task, *kind)).collect();
            world.report(&report(&site(at), containers)).await;
        }
        Step::Forget { site: at } => {
            let key = node(&site(at));
            world.commit(Transaction::at(1).deleting(Key::Presence(key.clone())).deleting(Key::Node(key))).await;
        }
        Step::Silence { site: at, is_passed } => {
            let passage = is_passed.then(|| Passage { at_ms: 1, held: vec![service("blue")] });
            world.silence(&node(&site(at)), passage).await;
        }
        Step::Pass(passed_ms) => world.pass(passed_ms).await,
        Step::Expire => world.expire().await,
        Step::Reload => world.catalog.reload(world.store.as_ref()).await,
        _ => unreachable!("stated above"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn builds_by_pieces_what_it_builds_of_the_whole(steps in prop::collection::vec(step(), 5..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            let mut index = 0;
            for step in steps {
                take(&mut world, step).await;
                let now = world.catalog();
                assert!(now.view.index >= index, "an index went back");
                index = now.view.index;
                let rebuilt = crate::catalog::testing::Stepper::load(world.store.as_ref()).await.catalog();
                assert_eq!(without_indexes(&now), without_indexes(&rebuilt));
            }
        });
    }
}
