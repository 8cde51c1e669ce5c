//! What may happen in a history, drawn at random, and what witnesses state of it.
//!
//! A step is about the world: a container dies, whoever hears of it; [`Stage`](super::stage::Stage) makes the statements that follow.
//! Any step may be left out of a history; what follows then does less or nothing, so that a failing history can be made
//! shorter.

use std::collections::BTreeSet;

use portolan_core::ecs::{EcsReport, InstanceStatus, TaskStatus};
use portolan_core::evidence::{Health, NodeReport};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::rules::Neighbours;
use portolan_proto::node_report;
use rand::RngExt;
use rand::rngs::StdRng;

use super::cast::{FARGATE, NODES, SLOTS, TASKS};
use crate::store::evidence::{
    AbsenceRecord, AloneRecord, CheckState, ClusterRecord, ExternalRecord, FamilyRecord, Order, OrderRecord,
    ProbeRecord, ResolvedRecord,
};
use crate::store::record::{Presence, Silence, encode};
use crate::store::{Key, Target, Transaction};
use crate::testing::{NOW_MS, label};

/// What operators declare: addresses, and names that have one or more of those.
pub(super) const HOSTS: [&str; 3] = ["10.9.0.1", "10.9.0.2", "db.example"];

/// What happens.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// To containers, at once: their slots.
    Containers(Vec<(usize, Happening)>),
    /// A node's stream ends.
    FallsSilent(usize),
    /// The deadline of its silence passed, but for these services.
    SilencePassed(usize, Vec<&'static str>),
    /// It is back.
    Speaks(usize),
    /// ECS is asked about the cluster, or no longer.
    EcsUsed(bool),
    /// ECS says this of a task.
    Task(usize, Change),
    /// ECS says this of a container instance; `None`: it has none such.
    Instance(usize, Option<InstanceStatus>),
    /// No sidecar spoke there in time.
    Alone(usize),
    /// These tasks, by a bit each, are missing for good.
    Absence(u8),
    /// Neighbours try every place of a node and meet these, in turn.
    Probe(usize, [Neighbours; 3]),
    /// An operator's order, or its undoing.
    Order(About, Option<Order>),
    /// An operator declares these endpoints, checked or not; none: takes back what was declared.
    Declare(&'static str, Vec<&'static str>, bool),
    /// These places were found for what is declared.
    Found(&'static str, Vec<(&'static str, u8, Option<CheckState>)>),
    /// Everything stated in the step before is stated again.
    Repeat,
    /// The catalog loads everything anew.
    Reload,
    /// Names have waited long enough for ECS.
    NamesWaited,
    /// And for their owners.
    TenMinutes,
    /// What is no longer needed is forgotten.
    Tidies,
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Happening {
    Starts,
    Checked(Health),
    Pauses,
    Resumes,
    StopSignal,
    Dies,
    Vanishes,
}

/// What ECS says anew of a task.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Status(TaskStatus),
    Wanted(bool),
    Unhealthy(bool),
    Missing(bool),
    Listed(bool),
    RuntimeIds(bool),
}

/// What an order is about, by its number.
#[derive(Debug, Clone, Copy)]
pub(super) enum About {
    Node(usize),
    Task(usize),
    Container(usize),
}

/// What a witness states, or an operator.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    /// A sidecar's report; its node speaks.
    Report(NodeReport),
    Silence(NodeKey, Silence),
    Cluster(bool),
    Ecs(NodeKey, Option<EcsReport>),
    Family(Label, Vec<String>),
    Alone(NodeKey),
    Absence(NodeKey, BTreeSet<String>),
    Probe(NodeKey, ProbeRecord),
    Order(Target, Option<Order>),
    Declared(ServiceKey, Option<ExternalRecord>),
    Found(ServiceKey, ResolvedRecord),
}

impl Statement {
    /// As a source would write it.
    pub(super) fn write(&self, transaction: Transaction) -> Transaction {
        let presence = |silence: Option<Silence>| Presence { boot_id: "boot".to_owned(), since_ms: NOW_MS, silence };
        let put_or_delete = |key, value: Option<bytes::Bytes>| match value {
            Some(value) => transaction.clone().putting(key, value),
            None => transaction.clone().deleting(key),
        };
        match self {
            Statement::Report(report) => transaction
                .clone()
                .putting(Key::Node(report.node.clone()), node_report::encode(report))
                .putting(Key::Presence(report.node.clone()), encode(&presence(None))),
            Statement::Silence(node, silence) => {
                transaction.putting(Key::Presence(node.clone()), encode(&presence(Some(silence.clone()))))
            }
            Statement::Cluster(is_used) => {
                let record = ClusterRecord { arn: "arn".to_owned(), since_ms: NOW_MS };
                put_or_delete(Key::Cluster(label("prod")), is_used.then(|| encode(&record)))
            }
            Statement::Ecs(node, report) => put_or_delete(Key::Ecs(node.clone()), report.as_ref().map(encode)),
            Statement::Family(family, services) => {
                let record = FamilyRecord { services: services.clone() };
                transaction.putting(Key::Family(label("prod"), family.clone()), encode(&record))
            }
            Statement::Alone(node) => {
                transaction.putting(Key::Alone(node.clone()), encode(&AloneRecord { since_ms: NOW_MS }))
            }
            Statement::Absence(node, passed) => {
                let record = AbsenceRecord { passed: passed.iter().cloned().collect() };
                transaction.putting(Key::Absence(node.clone()), encode(&record))
            }
            Statement::Probe(node, record) => transaction.putting(Key::Probe(node.clone()), encode(record)),
            Statement::Order(target, order) => {
                let record = order.map(|order| OrderRecord { order, at_ms: NOW_MS, reason: String::new() });
                put_or_delete(Key::Order(target.clone()), record.as_ref().map(encode))
            }
            Statement::Declared(service, record) => {
                put_or_delete(Key::External(service.clone()), record.as_ref().map(encode))
            }
            Statement::Found(service, record) => transaction.putting(Key::Resolved(service.clone()), encode(record)),
        }
    }
}

/// How a history begins: most containers run, and most is known of them.
pub(super) fn opening(dice: &mut StdRng) -> Vec<Step> {
    let mut started = Vec::new();
    for slot in 0..SLOTS {
        for happening in [Happening::Starts, Happening::Checked(Health::Passing)] {
            if dice.random_bool(0.85) {
                started.push((slot, happening));
            }
        }
    }
    let mut steps = vec![Step::Containers(started)];
    if dice.random_bool(0.8) {
        let instances = (0..NODES).map(|node| Step::Instance(node, Some(InstanceStatus::Active)));
        let tasks = (0..TASKS).map(|task| Step::Task(task, Change::Status(TaskStatus::Running)));
        let mut told: Vec<Step> = instances.chain(tasks).filter(|_| dice.random_bool(0.8)).collect();
        told.insert(dice.random_range(0..=told.len()), Step::EcsUsed(true));
        let before = dice.random_bool(0.5);
        steps.splice(if before { 0..0 } else { 1..1 }, told);
    }
    steps
}

/// What happens next.
pub(super) fn step(dice: &mut StdRng) -> Step {
    let node = dice.random_range(0..NODES);
    match dice.random_range(0..100) {
        0..30 => {
            let count = dice.random_range(1..4);
            Step::Containers((0..count).map(|_| (dice.random_range(0..SLOTS), happening(dice))).collect())
        }
        30..38 => Step::FallsSilent(node),
        38..43 => Step::SilencePassed(node, held(dice)),
        43..50 => Step::Speaks(node),
        50..52 => Step::EcsUsed(dice.random_bool(0.6)),
        52..66 => Step::Task(dice.random_range(0..TASKS), change(dice)),
        66..72 => Step::Instance(node, instance(dice)),
        72..74 => Step::Alone(node),
        74..76 => Step::Absence(dice.random()),
        76..82 => Step::Probe(node, [neighbours(dice), neighbours(dice), neighbours(dice)]),
        82..88 => Step::Order(about(dice), [None, Some(Order::Drain), Some(Order::Evict)][dice.random_range(0..3)]),
        88 => {
            Step::Declare(declared(dice), HOSTS.into_iter().filter(|_| dice.random_bool(0.5)).collect(), dice.random())
        }
        89..91 => Step::Found(declared(dice), places(dice)),
        91..93 => Step::Repeat,
        93..95 => Step::Reload,
        95..97 => Step::NamesWaited,
        97 => Step::Tidies,
        _ => Step::TenMinutes,
    }
}

fn happening(dice: &mut StdRng) -> Happening {
    match dice.random_range(0..20) {
        0..5 => Happening::Starts,
        5..11 => Happening::Checked(Health::Passing),
        11..14 => Happening::Checked(Health::Failing),
        14 => Happening::Pauses,
        15 => Happening::Resumes,
        16 => Happening::StopSignal,
        17..19 => Happening::Dies,
        _ => Happening::Vanishes,
    }
}

fn held(dice: &mut StdRng) -> Vec<&'static str> {
    ["f0", "f1", "s0", "l0"].into_iter().filter(|_| dice.random_bool(0.3)).collect()
}

fn change(dice: &mut StdRng) -> Change {
    let statuses =
        [TaskStatus::Pending, TaskStatus::Running, TaskStatus::Running, TaskStatus::Leaving, TaskStatus::Stopped];
    match dice.random_range(0..12) {
        0..5 => Change::Status(statuses[dice.random_range(0..statuses.len())]),
        5..7 => Change::Wanted(dice.random_bool(0.5)),
        7 => Change::Unhealthy(dice.random_bool(0.5)),
        8..10 => Change::Missing(dice.random_bool(0.7)),
        10 => Change::Listed(dice.random_bool(0.5)),
        _ => Change::RuntimeIds(dice.random_bool(0.5)),
    }
}

fn instance(dice: &mut StdRng) -> Option<InstanceStatus> {
    let statuses = [InstanceStatus::Active, InstanceStatus::Draining, InstanceStatus::Terminated];
    statuses.get(dice.random_range(0..4)).copied()
}

fn neighbours(dice: &mut StdRng) -> Neighbours {
    [Neighbours::NotKnown, Neighbours::Connect, Neighbours::Refused][dice.random_range(0..3)]
}

fn declared(dice: &mut StdRng) -> &'static str {
    ["e0", "e0", "f0", "s0"][dice.random_range(0..4)]
}

fn places(dice: &mut StdRng) -> Vec<(&'static str, u8, Option<CheckState>)> {
    let checks = [None, Some(CheckState::Starting), Some(CheckState::Passing), Some(CheckState::Failing)];
    let mut place = || {
        let host = HOSTS[dice.random_range(0..HOSTS.len())];
        let last = host.rsplit('.').next().and_then(|last| last.parse().ok());
        (host, last.unwrap_or(dice.random_range(1..4)), checks[dice.random_range(0..4)])
    };
    (0..3).map(|_| place()).collect()
}

fn about(dice: &mut StdRng) -> About {
    match dice.random_range(0..3) {
        0 => About::Node(dice.random_range(0..=FARGATE)),
        1 => About::Task(dice.random_range(0..TASKS)),
        _ => About::Container(dice.random_range(0..SLOTS)),
    }
}
