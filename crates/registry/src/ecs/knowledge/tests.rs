use std::collections::BTreeMap;

use portolan_core::ecs::{EcsReport, InstanceStatus, Task, TaskStatus};
use portolan_core::name::{Label, NodeKey};
use portolan_core::view::Readiness;
use proptest::prelude::*;

use super::*;
use crate::catalog::{Catalog, NodeStatus};
use crate::ecs::api;
use crate::ecs::definition::Definitions;
use crate::ecs::facts::{InstanceFacts, TaskFacts};
use crate::ecs::machine::Power;
use crate::ecs::testing::{bridge_definition, instance, instance_arn, task_arn, task_on, task_on_fargate};
use crate::intake::statement::{Held, Statement};
use crate::store::evidence::AbsenceRecord;
use crate::store::record::Silence;
use crate::testing::{NOW_MS, label, node};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// A cluster with its definitions at hand, and a clock that is moved by hand.
struct World {
    known: Knowledge,
    definitions: Definitions,
    now_ms: u64,
}

impl World {
    fn new() -> World {
        World::with(&Held::default())
    }

    fn with(held: &Held) -> World {
        let mut definitions = Definitions::default();
        for service in ["web", "es"] {
            let arn = format!("arn:aws:ecs:eu-west-1:1:task-definition/{service}:7");
            definitions.learn(&arn, &bridge_definition(&arn));
        }
        World { known: Knowledge::new(&label("prod"), held, NOW_MS), definitions, now_ms: NOW_MS }
    }

    fn task(&mut self, task: &api::Task, voice: Voice) {
        let facts = TaskFacts::read(task, self.now_ms).unwrap();
        self.known.hear_task(facts, voice, (&mut self.definitions, self.now_ms));
    }

    fn instance(&mut self, instance: &api::ContainerInstance, voice: Voice) {
        self.known.hear_instance(InstanceFacts::read(instance).unwrap(), voice, self.now_ms);
    }

    /// A complete listing that names these tasks; then some time passes.
    fn listing(&mut self, named: &[&str], then_ms: u64) {
        let named = named.iter().map(|arn| (*arn).to_owned()).collect();
        let listing = Listing { began_ms: self.now_ms - 1, ended_ms: self.now_ms, named };
        self.known.complete_tasks(&listing);
        self.known.complete_instances(&listing, self.now_ms);
        self.now_ms += then_ms;
    }

    fn pass(&mut self, catalog: &Catalog, time_ms: u64) {
        self.now_ms += time_ms;
        self.known.pass(catalog, self.now_ms);
    }

    fn plan(&mut self) -> Plan {
        self.known.plan(self.now_ms)
    }

    fn tasks(&self) -> BTreeMap<String, Task> {
        let reports = self.known.reports().into_values();
        reports.flat_map(|report| report.tasks).map(|task| (task.arn.clone(), task)).collect()
    }

    fn one(&self) -> Task {
        self.tasks().remove(&task_arn(1)).unwrap()
    }

    fn status(&self) -> Option<InstanceStatus> {
        Some(self.known.reports().get(&machine())?.instance.as_ref()?.status)
    }
}

fn machine() -> NodeKey {
    node("i-00000000000000001")
}

fn id() -> Label {
    machine().node
}

fn stopped(task: api::Task) -> api::Task {
    let (last_status, desired_status) = ("STOPPED".to_owned(), "STOPPED".to_owned());
    let stopped_at_ms = Some(NOW_MS);
    api::Task { version: task.version + 1, last_status, desired_status, stopped_at_ms, ..task }
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.view.readiness = Readiness::Current;
    catalog
}

/// A catalog in which the sidecar of the machine has been silent.
fn silent_catalog() -> Catalog {
    let status = NodeStatus {
        key: machine(),
        host_name: None,
        addresses: Vec::new(),
        az: None,
        version: "0.1.0".to_owned(),
        has_sidecar: true,
        boot_id: "b".to_owned(),
        session: 1,
        generation: 1,
        speaking_since_ms: NOW_MS,
        silence: Some(Silence { since_ms: NOW_MS, passage: None }),
        presence_revision: None,
        reported_at_ms: NOW_MS,
        containers: 1,
        unnamed: 0,
        refusals: Vec::new(),
    };
    let mut catalog = catalog();
    catalog.nodes.insert(machine(), std::sync::Arc::new(status));
    catalog
}

#[test]
fn an_older_or_equal_version_changes_nothing() {
    let mut world = World::new();
    let now = Voice::Event(NOW_MS);
    world.task(&task_on(1, 1, "web"), Voice::Answer);
    world.task(&api::Task { desired_status: "STOPPED".to_owned(), version: 4, ..task_on(1, 1, "web") }, now);
    assert!(!world.one().is_wanted);
    for version in [3, 4] {
        for voice in [Voice::Answer, now] {
            world.task(&api::Task { version, ..task_on(1, 1, "web") }, voice);
            assert!(!world.one().is_wanted, "{version} {voice:?}");
        }
    }
    world.task(&stopped(api::Task { version: 4, ..task_on(1, 1, "web") }), Voice::Answer);
    assert_eq!(world.one().status, TaskStatus::Stopped);
}

#[test]
fn a_task_moves_to_its_instance_once_that_is_known() {
    let mut world = World::new();
    world.task(&task_on(1, 1, "web"), Voice::Answer);
    let nodes = |world: &World| world.known.reports().keys().cloned().collect::<Vec<_>>();
    assert_eq!(nodes(&world), [node("unplaced-web-0")]);
    assert!(world.one().containers[0].report.ports.is_empty());
    assert_eq!(world.known.wanted_instances(10), [instance_arn(1)]);
    world.instance(&instance(1), Voice::Answer);
    world.known.hear_machine(&id(), NOW_MS, |machine| {
        machine.answered(Some((Power::Running, vec!["10.0.0.7".parse().unwrap()], None)), NOW_MS);
    });
    assert_eq!(nodes(&world), [machine()]);
    assert_eq!(world.one().containers[0].report.ports[0].addresses, ["10.0.0.7".parse::<std::net::IpAddr>().unwrap()]);
    // What was stated of the part is taken back, after the node has it.
    let statements = world.plan().statements;
    let last = statements.iter().rfind(|statement| matches!(statement, Statement::Ecs(..))).unwrap();
    assert!(matches!(last, Statement::Ecs(key, Some(_)) if *key == machine()), "{statements:?}");
}

#[test]
fn parts_have_at_most_200_tasks_and_keep_them() {
    let mut world = World::new();
    for number in 0..450 {
        world.task(&task_on_fargate(number, "web"), Voice::Answer);
    }
    world.task(&task_on_fargate(999, "es"), Voice::Answer);
    let sizes = |world: &World| -> Vec<(String, usize)> {
        let reports = world.known.reports();
        reports.iter().map(|(node, report)| (node.node.to_string(), report.tasks.len())).collect()
    };
    let part = |name: &str, count| (name.to_owned(), count);
    let expected =
        [part("fargate-es-0", 1), part("fargate-web-0", 200), part("fargate-web-1", 200), part("fargate-web-2", 50)];
    assert_eq!(sizes(&world), expected);
    let plan = world.plan();
    world.known.settle(plan);
    // One task changes: one part is stated. One goes: the others stay where they are, and a new one takes its place.
    world.task(&api::Task { version: 4, ..task_on_fargate(300, "web") }, Voice::Answer);
    let plan = world.plan();
    assert_eq!(plan.statements.len(), 1);
    world.known.settle(plan);
    world.task(&stopped(task_on_fargate(10, "web")), Voice::Answer);
    world.pass(&catalog(), 11 * MINUTE_MS);
    assert_eq!(sizes(&world)[1..], [part("fargate-web-0", 199), part("fargate-web-1", 200), part("fargate-web-2", 50)]);
    world.task(&task_on_fargate(500, "web"), Voice::Answer);
    assert_eq!(sizes(&world)[1], part("fargate-web-0", 200));
}

#[test]
fn only_what_ran_and_was_to_run_on_counts_as_missing() {
    let mut world = World::new();
    let pending = api::Task { last_status: "PENDING".to_owned(), ..task_on(2, 1, "web") };
    let leaving = api::Task { desired_status: "STOPPED".to_owned(), ..task_on(3, 1, "web") };
    for task in [&task_on(1, 1, "web"), &pending, &leaving, &task_on(4, 1, "web")] {
        world.task(task, Voice::Answer);
    }
    world.now_ms += 5_000;
    let fourth = task_arn(4);
    world.listing(&[&fourth], 10_000);
    assert!(world.tasks().values().all(|task| !task.is_missing));
    // A listing that began before something was heard says nothing of it.
    world.task(&task_on(5, 1, "web"), Voice::Event(world.now_ms));
    world.listing(&[&fourth], 10_000);
    let missing: Vec<_> = world.tasks().into_values().filter(|task| task.is_missing).map(|task| task.arn).collect();
    assert_eq!(missing, [task_arn(1)]);
    // An event of the past is no sign of life; an answer is.
    world.task(&task_on(1, 1, "web"), Voice::Event(world.now_ms));
    assert!(world.one().is_missing);
    world.task(&task_on(1, 1, "web"), Voice::Answer);
    assert!(!world.one().is_missing);
}

#[test]
fn a_missing_task_stays_until_the_catalog_let_it_pass_or_a_day_went_by() {
    let missing = || {
        let mut world = World::new();
        world.instance(&instance(1), Voice::Answer);
        world.task(&task_on(1, 1, "web"), Voice::Answer);
        world.now_ms += 5_000;
        let instance = instance_arn(1);
        world.listing(&[&instance], 10_000);
        world.listing(&[&instance], 10_000);
        assert!(world.one().is_missing);
        world
    };
    let mut world = missing();
    world.pass(&catalog(), DAY_MS - 20_000);
    assert_eq!(world.tasks().len(), 1);
    world.pass(&catalog(), 20_000);
    assert_eq!(world.tasks().len(), 0);

    let mut world = missing();
    let mut passed = catalog();
    let record = AbsenceRecord { passed: vec![world.one().id] };
    passed.stated.absences.insert(machine(), std::sync::Arc::new(record));
    world.pass(&passed, 1_000);
    assert_eq!(world.tasks().len(), 0);
    assert!(world.status().is_some(), "the instance is there all the same");
}

#[test]
fn a_stopped_task_stays_ten_minutes_and_for_as_long_as_the_catalog_goes_by_it() {
    let world = || {
        let mut world = World::new();
        world.instance(&instance(1), Voice::Answer);
        world.task(&stopped(task_on(1, 1, "web")), Voice::Answer);
        world
    };
    let mut speaking = world();
    speaking.pass(&catalog(), 10 * MINUTE_MS - 1);
    assert_eq!(speaking.one().stop.unwrap().at_ms, NOW_MS);
    speaking.pass(&catalog(), 1);
    assert_eq!(speaking.tasks().len(), 0);
    let mut loading = world();
    loading.pass(&Catalog::default(), 2 * DAY_MS);
    assert_eq!(loading.tasks().len(), 1);
    let mut silent = world();
    silent.pass(&silent_catalog(), DAY_MS - 1);
    assert_eq!(silent.tasks().len(), 1);
    silent.pass(&silent_catalog(), 1);
    assert_eq!(silent.tasks().len(), 0);
}

#[test]
fn a_node_keeps_fifty_stopped_tasks_the_newest() {
    let mut world = World::new();
    world.instance(&instance(1), Voice::Answer);
    for number in 0..80 {
        let task = stopped(task_on(number, 1, "web"));
        world.task(&api::Task { stopped_at_ms: Some(NOW_MS + number as u64), ..task }, Voice::Answer);
    }
    world.pass(&catalog(), 1_000);
    let tasks = world.tasks();
    assert_eq!((tasks.len(), tasks.contains_key(&task_arn(29)), tasks.contains_key(&task_arn(30))), (50, false, true));
}

#[test]
fn absence_alone_makes_an_instance_missing_and_ec2_says_whether_it_ended() {
    let mut world = World::new();
    world.instance(&instance(1), Voice::Answer);
    world.task(&task_on(1, 1, "web"), Voice::Answer);
    let ask = |world: &mut World, answer: Option<Power>| {
        assert_eq!(world.known.due_machines(9, world.now_ms), [id()]);
        let now_ms = world.now_ms;
        world.known.hear_machine(&id(), now_ms, |machine| {
            machine.answered(answer.map(|power| (power, Vec::new(), None)), now_ms);
        });
    };
    ask(&mut world, Some(Power::Running));
    world.now_ms += 5_000;
    world.listing(&[], 10_000);
    world.listing(&[], 10_000);
    assert_eq!((world.status(), world.one().is_missing), (Some(InstanceStatus::Active), true));
    ask(&mut world, Some(Power::Ended));
    assert_eq!(world.status(), Some(InstanceStatus::Terminated));
    // It is forgotten with its tasks after ten minutes.
    world.pass(&catalog(), 10 * MINUTE_MS);
    assert_eq!(world.known.reports(), BTreeMap::new());
    let plan = world.plan();
    assert!(plan.statements.iter().all(|statement| !matches!(statement, Statement::Ecs(_, Some(_)))));
}

#[test]
fn an_instance_that_registers_again_is_the_same_machine() {
    let mut world = World::new();
    world.instance(&instance(1), Voice::Answer);
    let again = api::ContainerInstance { container_instance_arn: instance_arn(9), version: 1, ..instance(1) };
    world.now_ms += 1;
    world.instance(&again, Voice::Answer);
    world.instance(&api::ContainerInstance { status: "INACTIVE".to_owned(), version: 6, ..instance(1) }, Voice::Answer);
    assert_eq!(world.status(), Some(InstanceStatus::Active));
    assert_eq!(world.known.reports()[&machine()].instance.as_ref().unwrap().arn, instance_arn(9));
}

#[test]
fn a_stopped_machine_that_ecs_still_lists_is_not_forgotten() {
    let mut world = World::new();
    world.instance(&instance(1), Voice::Answer);
    world.known.hear_machine(&id(), NOW_MS, |machine| machine.hear(Power::Stopped, NOW_MS));
    world.pass(&catalog(), 60 * MINUTE_MS);
    assert_eq!(world.status(), Some(InstanceStatus::Terminated));
    let now_ms = world.now_ms;
    world.known.hear_machine(&id(), now_ms, |machine| machine.hear(Power::Running, now_ms));
    assert_eq!(world.status(), Some(InstanceStatus::Active));
}

#[test]
fn begins_where_it_was_stopped() {
    let mut before = World::new();
    before.instance(&instance(1), Voice::Answer);
    before.task(&task_on(1, 1, "web"), Voice::Answer);
    for number in 10..215 {
        before.task(&task_on_fargate(number, "es"), Voice::Answer);
    }
    before.known.confirm("arn", NOW_MS);
    let held = held(before.plan().statements);
    let mut after = World::with(&held);
    assert_eq!(after.known.reports(), before.known.reports());
    assert!(after.plan().statements.is_empty());
    // The same again is no news; a newer version is, and goes where the task was.
    after.task(&task_on(1, 1, "web"), Voice::Answer);
    for number in 10..215 {
        after.task(&task_on_fargate(number, "es"), Voice::Answer);
    }
    after.known.confirm("arn", NOW_MS + 1);
    let plan = after.plan();
    // Its ports are told anew, with no address until EC2 was asked again: it was never asked before either.
    assert!(plan.statements.is_empty(), "{:#?}", plan.statements);
    after.task(&stopped(task_on_fargate(214, "es")), Voice::Answer);
    let statements = after.plan().statements;
    assert!(
        matches!(&statements[..], [Statement::Ecs(key, Some(_))] if *key == node("fargate-es-1")),
        "{statements:?}"
    );
}

/// What a store would hold after these statements.
fn held(statements: Vec<Statement>) -> Held {
    let mut held = Held::default();
    for statement in statements {
        match statement {
            Statement::Cluster(cluster, Some(record)) => drop(held.clusters.insert(cluster, record)),
            Statement::Ecs(node, Some(report)) => drop(held.reports.insert(node, *report)),
            Statement::Ecs(node, None) => drop(held.reports.remove(&node)),
            Statement::Family(cluster, family, Some(record)) => drop(held.families.insert((cluster, family), record)),
            Statement::Service(key, Some(record)) => drop(held.services.insert(key, record)),
            other => panic!("{other:?}"),
        }
    }
    held
}

#[test]
fn a_statement_that_was_not_kept_is_made_again() {
    let mut world = World::new();
    world.instance(&instance(1), Voice::Answer);
    world.task(&task_on(1, 1, "web"), Voice::Answer);
    world.known.confirm("arn", NOW_MS);
    world.known.hear_service(&service("web"), NOW_MS);
    let first = world.plan();
    let statements = first.statements.clone();
    assert_eq!(statements.len(), 4);
    world.known.restore(first);
    let again = world.plan();
    assert_eq!(again.statements, statements);
    world.known.settle(again);
    assert!(world.plan().statements.is_empty());
}

#[test]
fn what_can_wait_gathers_after_its_node_was_stated() {
    let mut world = World::new();
    world.instance(&instance(1), Voice::Answer);
    let stated = |world: &mut World, then_ms: u64| {
        let plan = world.plan();
        let is_ecs = |statement: &&Statement| matches!(statement, Statement::Ecs(..));
        let count = plan.statements.iter().filter(is_ecs).count();
        world.known.settle(plan);
        let due_ms = world.known.due_ms().map(|due_ms| due_ms - world.now_ms);
        world.now_ms += then_ms;
        (count, due_ms)
    };
    let unknown = "arn:aws:ecs:eu-west-1:1:task-definition/new:1";
    let task = |number| api::Task { task_definition_arn: unknown.to_owned(), ..task_on(number, 1, "web") };
    world.task(&task(1), Voice::Answer);
    assert_eq!(stated(&mut world, 1_000), (1, None), "the first is stated at once");
    // The next page of the listing, and a definition.
    world.task(&task(2), Voice::Answer);
    world.definitions.learn(unknown, &bridge_definition(unknown));
    world.known.learn_definition(unknown, &mut world.definitions, world.now_ms);
    assert_eq!(stated(&mut world, 3_999), (0, Some(4_000)));
    assert_eq!(stated(&mut world, 1), (0, Some(1)));
    assert_eq!(stated(&mut world, 1_000), (1, None));
    // News of what is known do not wait, and take along what does.
    world.task(&task(3), Voice::Answer);
    assert_eq!(stated(&mut world, 0), (0, Some(4_000)));
    world.task(&stopped(task(1)), Voice::Answer);
    assert_eq!(stated(&mut world, 0), (1, None));
    // Nor does what an event told, at first or again.
    world.task(&task(4), Voice::Event(world.now_ms));
    assert_eq!(stated(&mut world, 0), (1, None));
    world.task(&task(5), Voice::Answer);
    assert_eq!(stated(&mut world, 0), (0, Some(5_000)));
    world.task(&task(5), Voice::Event(world.now_ms));
    assert_eq!(stated(&mut world, 0), (1, None));
    // Nor what becomes known around such a task: its definition brings its ports.
    let later = "arn:aws:ecs:eu-west-1:1:task-definition/new:2";
    let task = api::Task { task_definition_arn: later.to_owned(), ..task_on(6, 1, "web") };
    world.task(&task, Voice::Event(world.now_ms));
    assert_eq!(stated(&mut world, 500), (1, None));
    world.definitions.learn(later, &bridge_definition(later));
    world.known.learn_definition(later, &mut world.definitions, world.now_ms);
    assert_eq!(stated(&mut world, 0), (1, None));
}

fn service(name: &str) -> api::Service {
    api::Service {
        service_arn: format!("arn:aws:ecs:eu-west-1:1:service/prod/{name}"),
        service_name: name.to_owned(),
        status: "ACTIVE".to_owned(),
        ..api::Service::default()
    }
}

#[test]
fn services_come_change_and_go() {
    let mut world = World::new();
    let mut step = |change: &mut dyn FnMut(&mut Knowledge)| {
        change(&mut world.known);
        let plan = world.plan();
        let statements = plan.statements.clone();
        world.known.settle(plan);
        statements
    };
    let record = |statements: &[Statement]| match statements {
        [Statement::Service(_, Some(record))] => (record.name.clone(), record.desired),
        other => panic!("{other:?}"),
    };
    assert_eq!(record(&step(&mut |known| known.hear_service(&service("a_b"), 1))), ("a_b".to_owned(), 0));
    // Another one with the same label: the first stays.
    assert_eq!(step(&mut |known| known.hear_service(&service("a-b"), 1)), []);
    let scaled = api::Service { desired_count: 3, ..service("a_b") };
    assert_eq!(record(&step(&mut |known| known.hear_service(&scaled, 1))), ("a_b".to_owned(), 3));
    let over = api::Service { status: "INACTIVE".to_owned(), ..service("a_b") };
    assert_eq!(record(&step(&mut |known| known.hear_service(&over, 1))), ("a-b".to_owned(), 0));
    let listing = |ended_ms| Listing { began_ms: ended_ms - 1, ended_ms, named: BTreeSet::new() };
    assert_eq!(step(&mut |known| known.complete_services(&listing(10_000))), []);
    let gone = step(&mut |known| known.complete_services(&listing(20_000)));
    assert!(matches!(&gone[..], [Statement::Service(_, None)]), "{gone:?}");
}

#[test]
fn a_family_grows_to_twenty_services() {
    let mut world = World::new();
    for number in 0..30 {
        let mut task = task_on(number, 1, "web");
        task.group = format!("service:web{number:02}");
        world.task(&task, Voice::Answer);
    }
    let services = world.known.families[&label("web")].clone();
    assert_eq!((services.len(), services.contains("web19"), services.contains("web20")), (20, true, false));
}

#[test]
fn a_report_longer_than_the_store_takes_is_cut() {
    let mut world = World::new();
    let arn = "arn:aws:ecs:eu-west-1:1:task-definition/web:8";
    let mut definition = bridge_definition(arn);
    let labels = (0..60).map(|number| (format!("portolan.meta.k{number}"), "x".repeat(500)));
    definition.container_definitions[0].docker_labels = labels.collect();
    world.definitions.learn(arn, &definition);
    world.instance(&instance(1), Voice::Answer);
    for number in 0..150 {
        let task = task_on(number, 1, "web");
        world.task(&api::Task { task_definition_arn: arn.to_owned(), ..task }, Voice::Answer);
    }
    let statements = world.plan().statements;
    let Some(Statement::Ecs(_, Some(report))) = statements.iter().find(|s| matches!(s, Statement::Ecs(..))) else {
        panic!("{statements:?}")
    };
    assert!(crate::store::record::encode(&**report).len() < 1 << 20);
    assert_eq!(report.tasks.len(), 150);
    let report = &report.tasks[0].containers[0].report;
    assert_eq!((report.meta.len(), report.refusals.len()), (0, 1));
}

/// Something that AWS may say.
#[derive(Debug, Clone)]
enum Said {
    Task(Box<api::Task>),
    Instance(api::ContainerInstance),
    Machine(Power, u64),
    Warning(u64),
}

/// The lives of some tasks and of their instance: each version once.
fn story() -> Vec<Said> {
    let mut said = Vec::new();
    for number in 1..=3 {
        let on = |version: u64, last: &str, desired: &str| api::Task {
            version,
            last_status: last.to_owned(),
            desired_status: desired.to_owned(),
            stopped_at_ms: (last == "STOPPED").then_some(NOW_MS),
            stop_code: (last == "STOPPED").then(|| "UserInitiated".to_owned()),
            ..if number == 3 { task_on_fargate(number, "es") } else { task_on(number, 1, "web") }
        };
        let mut unplaced = on(1, "PROVISIONING", "RUNNING");
        unplaced.container_instance_arn = None;
        said.push(Said::Task(Box::new(unplaced)));
        said.push(Said::Task(Box::new(on(2, "PENDING", "RUNNING"))));
        said.push(Said::Task(Box::new(on(3, "RUNNING", "RUNNING"))));
        if number != 2 {
            said.push(Said::Task(Box::new(on(4, "DEACTIVATING", "STOPPED"))));
            said.push(Said::Task(Box::new(on(5, "STOPPED", "STOPPED"))));
        }
    }
    for (version, status) in [(5, "ACTIVE"), (6, "DRAINING"), (7, "ACTIVE"), (8, "INACTIVE")] {
        said.push(Said::Instance(api::ContainerInstance { version, status: status.to_owned(), ..instance(1) }));
    }
    said.push(Said::Warning(NOW_MS));
    for (power, at_ms) in [(Power::Running, 1), (Power::Stopping, 2), (Power::Stopped, 2), (Power::Running, 3)] {
        said.push(Said::Machine(power, NOW_MS + at_ms));
    }
    said.push(Said::Machine(Power::Ended, NOW_MS + 4));
    said
}

fn tell(world: &mut World, said: &Said, voice: Voice) {
    match said {
        Said::Task(task) => world.task(task, voice),
        Said::Instance(instance) => world.instance(instance, voice),
        Said::Machine(power, at_ms) => world.known.hear_machine(&id(), NOW_MS, |machine| machine.hear(*power, *at_ms)),
        Said::Warning(at_ms) => world.known.hear_machine(&id(), NOW_MS, |machine| machine.warn(*at_ms)),
    }
}

/// What is stated in the end. What EC2 says of a machine that is not known yet is nobody's, so the first listing came before.
fn end(order: impl IntoIterator<Item = (Said, Voice)>) -> BTreeMap<NodeKey, EcsReport> {
    let mut world = World::new();
    world.instance(&api::ContainerInstance { version: 4, ..instance(1) }, Voice::Answer);
    for (said, voice) in order {
        tell(&mut world, &said, voice);
    }
    let statements = world.plan().statements;
    let reports = world.known.reports();
    assert_eq!(held(statements).reports, reports, "what is stated is what is known");
    reports
}

proptest! {
    /// Duplicates, reorderings, and listings in between that are older than events: the end is the same.
    #[test]
    fn any_order_and_any_repetition_end_in_the_same(
        order in Just(story().into_iter().chain(story()).collect::<Vec<_>>()).prop_shuffle(),
        voices in prop::collection::vec(any::<bool>(), 60),
    ) {
        let voice = |is_event: bool| if is_event { Voice::Event(NOW_MS) } else { Voice::Answer };
        let told = order.into_iter().zip(voices.into_iter().map(voice));
        let in_order = story().into_iter().map(|said| (said, Voice::Event(NOW_MS)));
        prop_assert_eq!(end(told), end(in_order));
    }

    /// Whatever is lost of the events, one listing of how things stand in the end heals it.
    #[test]
    fn a_listing_heals_what_events_lost(kept in prop::sample::subsequence(story(), 0..=22)) {
        let last = |said: &Said| match said {
            Said::Task(task) => task.version == if task.task_arn == task_arn(2) { 3 } else { 5 },
            Said::Instance(instance) => instance.version == 8,
            Said::Machine(power, _) => *power == Power::Ended,
            Said::Warning(_) => false,
        };
        let kept = kept.into_iter().map(|said| (said, Voice::Event(NOW_MS)));
        let listing = story().into_iter().filter(last).map(|said| (said, Voice::Answer));
        let in_order = story().into_iter().map(|said| (said, Voice::Event(NOW_MS)));
        prop_assert_eq!(end(kept.chain(listing)), end(in_order));
    }
}
