//! A model: DESIGN sections 3 and 5 as literally as they can be written down, over the words of the witnesses themselves.
//!
//! It is written from the contract alone and shares no line with the code that decides: no rule, no join, no naming of the
//! core is called here. It is slow and plain on purpose. Where the contract says nothing, the comment says what was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use portolan_core::ecs::{EcsReport, InstanceStatus, Task, TaskStatus};
use portolan_core::endpoint::{EndpointKey, Standing, State};
use portolan_core::evidence::{ContainerReport, Health, NodeReport, Phase, PortReport};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::rules::Neighbours;

use super::steps::Statement;
use crate::store::Target;
use crate::store::evidence::{CheckState, ExternalRecord, Order, ProbeRecord, ResolvedRecord};
use crate::store::record::Silence;

/// What every witness said last.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// When each node's newest report came.
    pub(super) reported_ms: BTreeMap<NodeKey, u64>,
    pub(super) reports: BTreeMap<NodeKey, NodeReport>,
    pub(super) silences: BTreeMap<NodeKey, Silence>,
    pub(super) is_ecs_used: bool,
    pub(super) ecs: BTreeMap<NodeKey, EcsReport>,
    pub(super) families: BTreeMap<Label, Vec<String>>,
    pub(super) alone: BTreeSet<NodeKey>,
    pub(super) absent: BTreeMap<NodeKey, BTreeSet<String>>,
    pub(super) probes: BTreeMap<NodeKey, ProbeRecord>,
    pub(super) orders: BTreeMap<Target, Order>,
    pub(super) declared: BTreeMap<ServiceKey, ExternalRecord>,
    pub(super) found: BTreeMap<ServiceKey, ResolvedRecord>,
}

/// One port of one run that somebody speaks of.
pub(super) struct Spoken<'a> {
    pub(super) key: EndpointKey,
    pub(super) container: &'a ContainerReport,
    pub(super) port: &'a PortReport,
    /// The task that ECS says it belongs to.
    pub(super) task: Option<&'a Task>,
    /// Whether its node's sidecar spoke of it; otherwise ECS alone does.
    pub(super) is_by_sidecar: bool,
}

/// A container that somebody speaks of.
struct Told<'a> {
    node: &'a NodeKey,
    container: &'a ContainerReport,
    task: Option<&'a Task>,
    is_by_sidecar: bool,
}

impl<'a> Told<'a> {
    fn ports(self) -> impl Iterator<Item = Spoken<'a>> {
        let Told { node, container, task, is_by_sidecar } = self;
        container.ports.iter().map(move |port| {
            let key = EndpointKey {
                node: node.clone(),
                container_id: container.id.clone(),
                run: container.run,
                container_port: port.container_port,
                protocol: port.protocol,
            };
            Spoken { key, container, port, task, is_by_sidecar }
        })
    }
}

/// What ECS says, as the columns of the table tell it apart.
#[derive(Clone, Copy, PartialEq)]
enum Word {
    Stopped,
    Leaving,
    Running,
    Unhealthy,
    Other,
}

impl Model {
    pub(super) fn hear(&mut self, statement: &Statement, now_ms: u64) {
        match statement.clone() {
            Statement::Report(report) => {
                self.silences.remove(&report.node);
                self.reported_ms.insert(report.node.clone(), now_ms);
                self.reports.insert(report.node.clone(), report);
            }
            Statement::Silence(node, silence) => drop(self.silences.insert(node, silence)),
            Statement::Cluster(is_used) => self.is_ecs_used = is_used,
            Statement::Ecs(node, Some(report)) => drop(self.ecs.insert(node, report)),
            Statement::Ecs(node, None) => drop(self.ecs.remove(&node)),
            Statement::Family(family, services) => drop(self.families.insert(family, services)),
            Statement::Alone(node) => drop(self.alone.insert(node)),
            Statement::Absence(node, tasks) => drop(self.absent.insert(node, tasks)),
            Statement::Probe(node, record) => drop(self.probes.insert(node, record)),
            Statement::Order(target, Some(order)) => drop(self.orders.insert(target, order)),
            Statement::Order(target, None) => drop(self.orders.remove(&target)),
            Statement::Declared(service, Some(record)) => drop(self.declared.insert(service, record)),
            Statement::Declared(service, None) => drop(self.declared.remove(&service)),
            Statement::Found(service, record) => drop(self.found.insert(service, record)),
        }
    }

    /// Every endpoint that a witness speaks of.
    pub(super) fn spoken(&self) -> Vec<Spoken<'_>> {
        let mut spoken = Vec::new();
        for (node, report) in &self.reports {
            for container in &report.containers {
                let task = self.task_of(node, container);
                spoken.extend(Told { node, container, task, is_by_sidecar: true }.ports());
            }
        }
        // Where a sidecar spoke, ECS adds nothing.
        for (node, report) in self.ecs.iter().filter(|(node, _)| self.is_alone(node)) {
            for task in &report.tasks {
                let told = task.containers.iter().map(|container| &container.report);
                let told = told.map(|container| Told { node, container, task: Some(task), is_by_sidecar: false });
                spoken.extend(told.flat_map(Told::ports));
            }
        }
        spoken
    }

    /// What is declared of a service, by host and address: usable, or as its check says. An address needs nobody to find it.
    pub(super) fn external(&self, service: &ServiceKey) -> BTreeMap<(String, IpAddr), State> {
        let mut places = BTreeMap::new();
        let Some(record) = self.declared.get(service) else { return places };
        for host in record.endpoints.iter().map(|endpoint| &endpoint.host) {
            let unchecked = if record.check_every_ms.is_some() { State::Starting } else { State::Usable };
            if let Ok(address) = host.parse() {
                places.insert((host.clone(), address), unchecked);
            }
            let found = self.found.get(service).into_iter().flat_map(|found| &found.places);
            for place in found.filter(|place| place.host == *host) {
                // A place found before a check was declared stays as it is until that check speaks.
                let state = match place.check.filter(|_| record.check_every_ms.is_some()) {
                    None => State::Usable,
                    Some(CheckState::Passing) => State::Usable,
                    Some(CheckState::Failing) => State::Unusable,
                    Some(CheckState::Starting) => State::Starting,
                };
                places.insert((host.clone(), place.address), state);
            }
        }
        places
    }

    /// "No sidecar" is said of the node, when none spoke within a minute; on Fargate there is never one.
    fn is_alone(&self, node: &NodeKey) -> bool {
        let is_fargate = self.ecs.get(node).is_some_and(|report| report.instance.is_none());
        self.is_ecs_used && !self.reports.contains_key(node) && (is_fargate || self.alone.contains(node))
    }

    /// By runtime id, else by task and container name.
    fn task_of(&self, node: &NodeKey, container: &ContainerReport) -> Option<&Task> {
        let tasks = &self.ecs.get(node).filter(|_| self.is_ecs_used)?.tasks;
        let by_id = tasks.iter().find(|task| task.containers.iter().any(|c| c.report.id == container.id));
        by_id.or_else(|| {
            let named = |task: &&Task| task.containers.iter().any(|c| c.report.name == container.name);
            tasks.iter().filter(|task| Some(&task.id) == container.task_id.as_ref()).find(named)
        })
    }

    /// The state that the table gives; `None`: in no answer.
    pub(super) fn state(&self, spoken: &Spoken<'_>, service: &ServiceKey) -> Option<State> {
        let order = self.order(spoken);
        if order == Some(Order::Evict) {
            return Some(State::Gone);
        }
        let is_drained = order == Some(Order::Drain);
        match self.silences.get(&spoken.key.node) {
            _ if !spoken.is_by_sidecar => self.without_sidecar(spoken, is_drained),
            None => Some(self.speaking(spoken, is_drained)),
            Some(silence) => Some(self.silent(spoken, is_drained, (silence, service))),
        }
    }

    fn speaking(&self, spoken: &Spoken<'_>, is_drained: bool) -> State {
        let passed = last_passed(spoken);
        match (&spoken.container.phase, spoken.port.health) {
            (Phase::Died(_), _) => State::Gone,
            (Phase::Stopping, _) => State::Draining { passed },
            // Never answered, says the contract: so an operator's drain cannot bring it there.
            (Phase::Running, Health::Starting) => State::Starting,
            _ if is_drained => State::Draining { passed },
            (Phase::Paused, _) | (_, Health::Failing) => State::Unusable,
            (Phase::Running, Health::Passing) => match self.word(spoken) {
                Word::Leaving | Word::Stopped => State::Draining { passed },
                Word::Running | Word::Unhealthy | Word::Other => State::Usable,
            },
        }
    }

    fn silent(&self, spoken: &Spoken<'_>, is_drained: bool, (silence, service): (&Silence, &ServiceKey)) -> State {
        let passed = last_passed(spoken);
        let was_usable = spoken.container.phase == Phase::Running && passed;
        let word = self.word(spoken);
        let neighbours = self.neighbours(spoken, silence);
        // A death stays one; so it does whatever an operator says.
        if matches!(spoken.container.phase, Phase::Died(_)) || word == Word::Stopped {
            return State::Gone;
        }
        if !was_usable {
            return match spoken.container.phase {
                Phase::Running if spoken.port.health == Health::Starting => State::Starting,
                _ if is_drained => State::Draining { passed },
                Phase::Stopping => State::Draining { passed },
                _ => State::Unusable,
            };
        }
        let is_over = silence.passage.is_some();
        let is_held = silence.passage.as_ref().is_some_and(|passage| passage.held.contains(service));
        let is_running = matches!(word, Word::Running | Word::Unhealthy);
        match neighbours {
            Neighbours::Refused => State::Gone,
            Neighbours::NotKnown if !is_running && is_over && !is_held => State::Gone,
            // The contract puts the drained before the silent, who are still answered by their standing otherwise.
            _ if is_drained => State::Draining { passed },
            Neighbours::Connect if is_running || !is_over => State::Unverified(Standing::Vouched),
            Neighbours::Connect | Neighbours::NotKnown => State::Unverified(Standing::Last),
        }
    }

    fn without_sidecar(&self, spoken: &Spoken<'_>, is_drained: bool) -> Option<State> {
        let task = spoken.task?;
        let is_terminated = self.instance(&spoken.key.node) == Some(InstanceStatus::Terminated);
        let is_absent =
            task.is_missing && self.absent.get(&spoken.key.node).is_some_and(|absent| absent.contains(&task.id));
        if task.status != TaskStatus::Running || !task.is_wanted || is_terminated || is_absent {
            return None;
        }
        // The contract's rows do not name the instance here: what runs well on one that drains is the last resort.
        if self.instance(&spoken.key.node) == Some(InstanceStatus::Draining) {
            let runs_well = !task.is_unhealthy && !task.is_missing;
            return runs_well.then_some(State::Draining { passed: true });
        }
        Some(match (is_drained, task.is_unhealthy) {
            (true, is_unhealthy) => State::Draining { passed: !is_unhealthy },
            (false, true) => State::Unusable,
            // Kept and marked, says the contract of absence that may not act yet.
            (false, false) if task.is_missing => State::Unverified(Standing::Last),
            (false, false) => State::Usable,
        })
    }

    fn word(&self, spoken: &Spoken<'_>) -> Word {
        let instance = self.instance(&spoken.key.node);
        match (instance, spoken.task) {
            (Some(InstanceStatus::Terminated), _) => Word::Stopped,
            (_, Some(Task { status: TaskStatus::Stopped, .. })) => Word::Stopped,
            (Some(InstanceStatus::Draining), _) => Word::Leaving,
            (_, Some(Task { status: TaskStatus::Leaving, .. } | Task { is_wanted: false, .. })) => Word::Leaving,
            (_, Some(Task { is_missing: true, .. })) => Word::Other,
            (_, Some(Task { status: TaskStatus::Running, is_unhealthy: true, .. })) => Word::Unhealthy,
            (_, Some(Task { status: TaskStatus::Running, .. })) => Word::Running,
            (_, Some(Task { status: TaskStatus::Pending, .. }) | None) => Word::Other,
        }
    }

    fn instance(&self, node: &NodeKey) -> Option<InstanceStatus> {
        let report = self.ecs.get(node).filter(|_| self.is_ecs_used)?;
        report.instance.as_ref().map(|instance| instance.status)
    }

    /// What they met during this silence; what they met in one before says nothing.
    fn neighbours(&self, spoken: &Spoken<'_>, silence: &Silence) -> Neighbours {
        let place = SocketAddr::new(spoken.port.addresses[0], spoken.port.host_port);
        let record = self.probes.get(&spoken.key.node).filter(|record| record.at_ms >= silence.since_ms);
        let verdict = record.and_then(|record| record.verdicts.iter().find(|verdict| verdict.place == place));
        verdict.map_or(Neighbours::NotKnown, |verdict| verdict.word)
    }

    /// The strictest order that is about it.
    fn order(&self, spoken: &Spoken<'_>) -> Option<Order> {
        let container = Target::Container(spoken.container.id.clone());
        let task = spoken.container.task_id.clone().or_else(|| spoken.task.map(|task| task.id.clone()));
        let targets = [Some(Target::Node(spoken.key.node.clone())), task.map(Target::Task), Some(container)];
        let orders: Vec<_> = targets.into_iter().flatten().filter_map(|target| self.orders.get(&target)).collect();
        let is = |order| orders.contains(&&order).then_some(order);
        is(Order::Evict).or(is(Order::Drain))
    }
}

/// Whether the last check passed. Of what is paused the contract does not say; nobody is there to answer.
fn last_passed(spoken: &Spoken<'_>) -> bool {
    spoken.port.health == Health::Passing && spoken.container.phase != Phase::Paused
}
