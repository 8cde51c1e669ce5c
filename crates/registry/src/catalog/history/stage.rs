//! The world of a history as it is, whoever knows of it, and what its witnesses state of it.
//!
//! A node that is silent tells nothing until it speaks again, and ECS says what it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use portolan_core::ecs::{Container, EcsReport, Instance, InstanceStatus, Stop, Task, TaskStatus};
use portolan_core::endpoint::{Protocol, Run};
use portolan_core::evidence::{ContainerReport, Ending, Health, Phase};
use portolan_core::name::Label;
use portolan_core::rules::Neighbours;

use super::cast::{Cast, FARGATE, NODES, SLOTS, TASKS, arn, node_key};
use super::steps::{About, Change, Happening, Statement, Step};
use crate::store::Target;
use crate::store::evidence::{
    CheckState, ExternalEndpoint, ExternalRecord, ProbeRecord, ResolvedPlace, ResolvedRecord, Verdict,
};
use crate::store::record::{Passage, Silence};
use crate::testing::{NOW_MS, report, service};

/// The world as it is, whoever knows.
#[derive(Debug)]
pub(super) struct Stage {
    cast: Cast,
    /// The runs of each slot that its sidecar would list, oldest first: at most one that ended, and one that lives.
    runs: [Vec<(u64, Phase, Health)>; SLOTS],
    starts: u64,
    speaks: [bool; NODES],
    silences: [Option<Silence>; NODES],
    has_spoken: [bool; NODES],
    is_ecs_used: bool,
    tasks: [Said; TASKS],
    instances: [Option<InstanceStatus>; NODES],
    families: BTreeMap<Label, BTreeSet<String>>,
    now_ms: u64,
}

/// What ECS says of a task.
#[derive(Debug, Clone, Copy)]
struct Said {
    status: TaskStatus,
    is_wanted: bool,
    is_unhealthy: bool,
    is_missing: bool,
    is_listed: bool,
    has_runtime_ids: bool,
    version: u64,
}

impl Stage {
    pub(super) fn of(cast: Cast) -> Stage {
        let said = Said {
            status: TaskStatus::Pending,
            is_wanted: true,
            is_unhealthy: false,
            is_missing: false,
            is_listed: false,
            has_runtime_ids: true,
            version: 0,
        };
        Stage {
            cast,
            runs: Default::default(),
            starts: 0,
            speaks: [true; NODES],
            silences: Default::default(),
            has_spoken: [false; NODES],
            is_ecs_used: false,
            tasks: [said; TASKS],
            instances: [None; NODES],
            families: BTreeMap::new(),
            now_ms: NOW_MS,
        }
    }

    /// Lets a step happen. Nothing is stated where nobody hears of it.
    pub(super) fn play(&mut self, step: &Step, now_ms: u64) -> Vec<Statement> {
        self.now_ms = now_ms;
        match step {
            Step::Containers(happenings) => self.containers(happenings),
            Step::FallsSilent(node) | Step::SilencePassed(node, _) | Step::Speaks(node) => self.stream(*node, step),
            Step::EcsUsed(is_used) => {
                self.is_ecs_used = *is_used;
                vec![Statement::Cluster(*is_used)]
            }
            Step::Task(task, change) => self.task(*task, *change),
            Step::Instance(node, status) => {
                self.instances[*node] = *status;
                vec![self.ecs(*node)]
            }
            Step::Alone(node) if self.has_spoken[*node] => Vec::new(),
            Step::Alone(node) => vec![Statement::Alone(node_key(*node))],
            Step::Absence(bits) => (0..=NODES).map(|node| self.absence(node, *bits)).collect(),
            Step::Probe(node, words) => vec![self.probe(*node, words)],
            Step::Order(about, order) => vec![Statement::Order(self.target(*about), *order)],
            Step::Declare(name, hosts, is_checked) => vec![declare(name, hosts, *is_checked)],
            Step::Found(name, places) => vec![found(name, places)],
            Step::Repeat | Step::Reload | Step::NamesWaited | Step::TenMinutes | Step::Tidies => Vec::new(),
        }
    }

    fn containers(&mut self, happenings: &[(usize, Happening)]) -> Vec<Statement> {
        let mut nodes = BTreeSet::new();
        for (slot, happening) in happenings {
            let node = self.cast.slots[*slot].node;
            // Nobody sees into Fargate.
            if node != FARGATE {
                self.happens(*slot, *happening);
                nodes.insert(node);
            }
        }
        nodes.retain(|node| self.speaks[*node]);
        nodes.into_iter().map(|node| self.report(node)).collect()
    }

    fn happens(&mut self, slot: usize, happening: Happening) {
        let died = |run: &mut (u64, Phase, Health)| {
            if !matches!(run.1, Phase::Died(_)) {
                run.1 = Phase::Died(Ending { exit_code: Some(1), is_out_of_memory: false, at_ms: NOW_MS });
            }
        };
        let runs = &mut self.runs[slot];
        if happening == Happening::Starts {
            runs.iter_mut().for_each(died);
            runs.drain(..runs.len().saturating_sub(1));
            self.starts += 1;
            runs.push((self.starts, Phase::Running, Health::Starting));
        }
        let Some(run) = runs.last_mut().filter(|run| !matches!(run.1, Phase::Died(_))) else {
            if happening == Happening::Vanishes {
                runs.clear();
            }
            return;
        };
        match happening {
            Happening::Starts => {}
            Happening::Checked(Health::Failing) if run.2 == Health::Starting => {}
            Happening::Checked(health) => run.2 = health,
            Happening::Pauses => run.1 = Phase::Paused,
            Happening::Resumes => run.1 = Phase::Running,
            Happening::StopSignal => run.1 = Phase::Stopping,
            Happening::Dies => died(run),
            Happening::Vanishes => runs.clear(),
        }
    }

    fn stream(&mut self, node: usize, step: &Step) -> Vec<Statement> {
        match step {
            Step::Speaks(_) => {
                self.speaks[node] = true;
                self.silences[node] = None;
                return vec![self.report(node)];
            }
            Step::FallsSilent(_) if self.speaks[node] && self.has_spoken[node] => {
                self.speaks[node] = false;
                self.silences[node] = Some(Silence { since_ms: self.now_ms, passage: None });
            }
            Step::SilencePassed(_, held) => {
                let Some(silence) = &mut self.silences[node] else { return Vec::new() };
                let held = held.iter().map(|name| service(name)).collect();
                silence.passage = Some(Passage { at_ms: self.now_ms, held });
            }
            _ => return Vec::new(),
        }
        let silence = self.silences[node].clone();
        silence.map(|silence| Statement::Silence(node_key(node), silence)).into_iter().collect()
    }

    fn report(&mut self, node: usize) -> Statement {
        self.has_spoken[node] = true;
        let slots = self.cast.slots.iter().zip(&self.runs).filter(|(slot, _)| slot.node == node);
        let containers = slots.flat_map(|(slot, runs)| runs.iter().map(|run| told(&slot.report, run))).collect();
        let mut report = report(node_key(node).node.as_str(), containers);
        report.generation = self.now_ms;
        report.addresses = vec![[10, 0, 0, node as u8 + 1].into()];
        Statement::Report(report)
    }

    fn task(&mut self, number: usize, change: Change) -> Vec<Statement> {
        let said = &mut self.tasks[number];
        said.version += 1;
        match change {
            Change::Status(status) => (said.status, said.is_listed) = (status, true),
            Change::Wanted(is) => said.is_wanted = is,
            Change::Unhealthy(is) => said.is_unhealthy = is,
            Change::Missing(is) => said.is_missing = is,
            Change::Listed(is) => said.is_listed = is,
            Change::RuntimeIds(has) => said.has_runtime_ids = has,
        }
        let role = &self.cast.tasks[number];
        let mut statements = vec![self.ecs(role.node)];
        if let Some(service) = role.service.as_ref().filter(|_| self.tasks[number].is_listed && self.is_ecs_used) {
            let services = self.families.entry(role.family.clone()).or_default();
            if services.insert(service.name.clone()) {
                statements.push(Statement::Family(role.family.clone(), services.iter().cloned().collect()));
            }
        }
        statements
    }

    /// What ECS says of one instance, or of its tasks on Fargate.
    fn ecs(&self, node: usize) -> Statement {
        let status = self.instances.get(node).copied().flatten();
        if node != FARGATE && status.is_none() {
            return Statement::Ecs(node_key(node), None);
        }
        let instance = status.map(|status| Instance {
            arn: format!("arn:aws:ecs:eu-west-1:123456789012:container-instance/prod/{node}"),
            ec2_id: node_key(node).node.to_string(),
            status,
            addresses: vec![[10, 0, 0, node as u8 + 1].into()],
            az: None,
            first_seen_ms: NOW_MS,
        });
        let tasks = (0..TASKS).filter(|task| self.cast.tasks[*task].node == node && self.tasks[*task].is_listed);
        let tasks = tasks.map(|task| self.told_by_ecs(task)).collect();
        Statement::Ecs(node_key(node), Some(EcsReport { instance, tasks }))
    }

    fn told_by_ecs(&self, number: usize) -> Task {
        let (role, said) = (&self.cast.tasks[number], &self.tasks[number]);
        let slots = self.cast.slots.iter().filter(|slot| slot.task == Some(number));
        let containers = slots.map(|slot| {
            let mut report = told(&slot.report, &(7, Phase::Running, Health::Starting));
            if !said.has_runtime_ids {
                report.id = format!("{}-{}", role.id, report.name);
            }
            Container { report, exit_code: None, reason: None }
        });
        let stop = Stop { code: "UserInitiated".to_owned(), reason: String::new(), at_ms: NOW_MS };
        Task {
            id: role.id.clone(),
            arn: arn(&role.id),
            version: said.version,
            family: Some(role.family.clone()),
            service: role.service.clone(),
            status: said.status,
            is_wanted: said.is_wanted,
            is_unhealthy: said.is_unhealthy,
            is_missing: said.is_missing,
            az: None,
            containers: containers.collect(),
            stop: (said.status == TaskStatus::Stopped).then_some(stop),
        }
    }

    fn probe(&self, node: usize, words: &[Neighbours; 3]) -> Statement {
        let slots = self.cast.slots.iter().filter(|slot| slot.node == node);
        let places: BTreeSet<SocketAddr> =
            slots.flat_map(|slot| &slot.report.ports).map(|port| (port.addresses[0], port.host_port).into()).collect();
        let verdicts = places.into_iter().zip(words.iter().cycle()).map(|(place, word)| Verdict { place, word: *word });
        let record = ProbeRecord { at_ms: self.now_ms, neighbours: Vec::new(), verdicts: verdicts.collect() };
        Statement::Probe(node_key(node), record)
    }

    fn absence(&self, node: usize, bits: u8) -> Statement {
        let tasks =
            self.cast.tasks.iter().enumerate().filter(|(number, task)| task.node == node && bits >> number & 1 == 1);
        Statement::Absence(node_key(node), tasks.map(|(_, task)| task.id.clone()).collect())
    }

    fn target(&self, about: About) -> Target {
        match about {
            About::Node(node) => Target::Node(node_key(node)),
            About::Task(task) => Target::Task(self.cast.tasks[task].id.clone()),
            About::Container(slot) => Target::Container(self.cast.slots[slot].report.id.clone()),
        }
    }
}

fn declare(name: &str, hosts: &[&str], is_checked: bool) -> Statement {
    let endpoint = |host: &&str| ExternalEndpoint {
        host: (*host).to_owned(),
        port: 5432,
        protocol: Protocol::Tcp,
        port_name: None,
        weight: 1,
        az: None,
    };
    let record = ExternalRecord {
        endpoints: hosts.iter().map(endpoint).collect(),
        check_every_ms: is_checked.then_some(1_000),
        tags: Vec::new(),
        meta: Vec::new(),
        since_ms: NOW_MS,
    };
    Statement::Declared(service(name), (!hosts.is_empty()).then_some(record))
}

fn found(name: &str, places: &[(&str, u8, Option<CheckState>)]) -> Statement {
    let place = |(host, last, check): &(&str, u8, Option<CheckState>)| ResolvedPlace {
        host: (*host).to_owned(),
        port: 5432,
        protocol: Protocol::Tcp,
        address: [10, 9, 0, *last].into(),
        check: *check,
    };
    let mut places: Vec<_> = places.iter().map(place).collect();
    places.sort();
    places.dedup_by_key(|place| (place.host.clone(), place.address));
    Statement::Found(service(name), ResolvedRecord { places, unresolved: Vec::new() })
}

/// A slot's container in one of its runs.
fn told(report: &ContainerReport, (run, phase, health): &(u64, Phase, Health)) -> ContainerReport {
    let mut report = report.clone();
    report.run = Run(*run);
    report.phase = phase.clone();
    report.ports.iter_mut().for_each(|port| port.health = *health);
    report
}
