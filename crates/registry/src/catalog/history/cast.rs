//! Who plays in a history: three nodes, a part of Fargate, five tasks, eight containers, and names that often collide.

use std::fmt;

use portolan_core::ecs::EcsServiceName;
use portolan_core::evidence::{ContainerReport, PortReport};
use portolan_core::name::{Label, NodeKey, service_label};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::testing::{container, label, node, port};

pub(super) const NODES: usize = 3;
pub(super) const TASKS: usize = 5;
pub(super) const SLOTS: usize = 8;
/// Where the tasks are that run without a container instance.
pub(super) const FARGATE: usize = NODES;

/// What never changes in a history.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) tasks: Vec<TaskRole>,
    pub(super) slots: Vec<Slot>,
}

/// What never changes of a task.
#[derive(Debug)]
pub(super) struct TaskRole {
    /// One of the [`NODES`], or [`FARGATE`].
    pub(super) node: usize,
    pub(super) id: String,
    pub(super) family: Label,
    pub(super) service: Option<EcsServiceName>,
}

/// What never changes of a container.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) node: usize,
    pub(super) task: Option<usize>,
    pub(super) report: ContainerReport,
}

impl Cast {
    pub(super) fn of(seed: u64) -> Cast {
        let mut dice = StdRng::seed_from_u64(!seed);
        let tasks = (0..TASKS).map(|number| task(&mut dice, number)).collect::<Vec<_>>();
        let slots = (0..SLOTS).map(|number| slot(&mut dice, &tasks, number)).collect();
        Cast { tasks, slots }
    }
}

impl fmt::Display for Cast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, task) in self.tasks.iter().enumerate() {
            let service = task.service.as_ref().map_or("none", |service| &service.name);
            writeln!(f, "task {number}: node {}, family {}, service {service}", task.node, task.family)?;
        }
        for (number, slot) in self.slots.iter().enumerate() {
            let (candidates, ports) = (&slot.report.candidates, &slot.report.ports);
            let ports: Vec<_> = ports.iter().map(|p| (p.container_port, p.host_port, &p.registrator_name)).collect();
            writeln!(f, "slot {number}: node {}, task {:?}, {ports:?}, {candidates:?}", slot.node, slot.task)?;
        }
        Ok(())
    }
}

pub(super) fn node_key(number: usize) -> NodeKey {
    node(["i-0", "i-1", "i-2", "fargate-0"][number])
}

fn one_of<T: Copy>(dice: &mut StdRng, choices: &[T]) -> T {
    choices[dice.random_range(0..choices.len())]
}

fn task(dice: &mut StdRng, number: usize) -> TaskRole {
    let name = one_of(dice, &[None, Some("f0"), Some("s0"), Some("s0"), Some("S0"), Some("s1")]);
    let service = name.map(|name| EcsServiceName { name: name.to_owned(), label: service_label(name).unwrap() });
    TaskRole {
        node: one_of(dice, &[0, 0, 1, 1, 2, FARGATE]),
        id: format!("{number:0>32}"),
        family: label(one_of(dice, &["f0", "f0", "f1"])),
        service,
    }
}

fn slot(dice: &mut StdRng, tasks: &[TaskRole], number: usize) -> Slot {
    let task = dice.random_bool(0.8).then(|| dice.random_range(0..tasks.len()));
    let node = task.map_or_else(|| dice.random_range(0..NODES), |task| tasks[task].node);
    let mut report = container(&number.to_string(), "none");
    report.candidates.family = task.map(|task| tasks[task].family.clone());
    report.task_id = task.map(|task| tasks[task].id.clone());
    report.task_arn = task.map(|task| arn(&tasks[task].id));
    report.name = label(&format!("c{number}"));
    match dice.random_range(0..8) {
        0 => report.candidates.label = Some(label(one_of(dice, &["l0", "f0", "s0"]))),
        1 => report.candidates.registrator = Some(label("r0")),
        _ => {}
    }
    if task.is_none() {
        report.candidates.compose = dice.random_bool(0.7).then(|| label(one_of(dice, &["f0", "s0", "d0"])));
        report.candidates.container = Some(label("d0"));
    }
    report.ports = ports(dice, node, number);
    Slot { node, task, report }
}

/// One port or two. Host ports are few, so that two containers have the same one now and then.
fn ports(dice: &mut StdRng, node: usize, number: usize) -> Vec<PortReport> {
    let mut ports = vec![port(9200, 32_768 + number as u16 % 4)];
    if dice.random_bool(0.2) {
        ports.push(port(9300, 32_800 + number as u16 % 4));
        ports[1].registrator_name = dice.random_bool(0.3).then(|| label("r1"));
    }
    ports.iter_mut().for_each(|port| port.addresses = vec![[10, 0, 0, node as u8 + 1].into()]);
    ports
}

pub(super) fn arn(id: &str) -> String {
    format!("arn:aws:ecs:eu-west-1:123456789012:task/prod/{id}")
}
