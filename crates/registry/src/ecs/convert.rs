//! From what AWS said of a task to what is stated of it: its containers in the words of a sidecar's report.
//!
//! Pure. A port is told only where its address is known, so that a task on an instance that is not known adds nothing; and
//! only once the task definition was read, because its labels may call the service otherwise.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use portolan_core::ecs::{Container, Task};
use portolan_core::endpoint::{Protocol, Run};
use portolan_core::evidence::{ContainerReport, Health, NameCandidates, Phase, PortReport};
use portolan_core::labels::Declaration;
use portolan_core::name::Label;
use portolan_core::refusal::Refusal;

use super::definition::{DefinedContainer, Known, Mapping, Mode};
use super::facts::{ContainerFacts, TaskFacts};

mod reach;

use reach::Reached;

/// Enough to find the mistake.
const REFUSALS_MAX: usize = 32;

/// What is known around a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) cluster: &'a Label,
    pub(super) definition: &'a Known,
    pub(super) host: Host<'a>,
}

/// Where a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host<'a> {
    /// On Fargate: the task has its own address.
    Fargate,
    /// On an instance with these addresses.
    Instance(&'a [IpAddr]),
    /// On an instance that is not known, or nowhere yet.
    NotKnown,
}

/// A container of which the task definition says nothing: something put it into the task.
static UNDEFINED: LazyLock<DefinedContainer> = LazyLock::new(|| DefinedContainer {
    declaration: Declaration::default(),
    mappings: BTreeMap::new(),
    refusals: Vec::new(),
});

/// The task as it is stated. Whether it is missing is for who lists.
pub(super) fn task(facts: &TaskFacts, around: Surroundings<'_>) -> Task {
    let mut containers: Vec<_> = facts.containers.iter().filter_map(|own| container(facts, own, around)).collect();
    // Most have one, and a list that grows has room for four at once.
    containers.shrink_to_fit();
    Task {
        id: facts.id.clone(),
        arn: facts.arn.clone(),
        version: facts.version,
        family: facts.family.clone(),
        service: facts.service.clone(),
        status: facts.status,
        is_wanted: facts.is_wanted,
        is_unhealthy: facts.is_unhealthy,
        is_missing: false,
        az: facts.az.clone(),
        containers,
        stop: facts.stop.clone(),
    }
}

/// `None`: its labels leave it out.
fn container(task: &TaskFacts, facts: &ContainerFacts, around: Surroundings<'_>) -> Option<Container> {
    let (defined, mode) = match around.definition {
        Known::Read(definition) => {
            (definition.containers.get(&facts.definition_name).unwrap_or(&UNDEFINED), Some(definition.mode))
        }
        Known::NotYet | Known::Refused => (&*UNDEFINED, None),
    };
    let declared = &defined.declaration;
    if declared.is_ignored {
        return None;
    }
    let mut refusals =
        [&task.refusals, &facts.refusals, &defined.refusals, &declared.refusals].map(Vec::clone).concat();
    let reached = match (around.definition, around.host) {
        (Known::NotYet, _) | (_, Host::NotKnown) => Vec::new(),
        (Known::Read(_) | Known::Refused, Host::Fargate | Host::Instance(_)) => {
            let mode = mode.unwrap_or_else(|| guess(facts, around.host, &mut refusals));
            reach::of((task, facts, defined), (mode, around.host), &mut refusals)
        }
    };
    let ports = declare(reached, defined, &mut refusals);
    let own: Vec<u16> = ports.iter().map(|port| port.container_port).collect();
    let (tags, meta) = declared.tags_and_meta(&own, &mut refusals);
    refusals.truncate(REFUSALS_MAX);
    let is_named = declared.service.is_some() || declared.registrator.is_some();
    // Another name than the service's own would surprise its owner.
    let is_service_refused = task.refusals.iter().any(|refusal| refusal.field == TaskFacts::SERVICE);
    let report = ContainerReport {
        id: facts.id.clone(),
        run: Run(task.started_at_ms.saturating_mul(1_000_000)),
        cluster: around.cluster.clone(),
        candidates: NameCandidates {
            label: declared.service.clone(),
            registrator: declared.registrator.clone(),
            family: task.family.clone(),
            ..NameCandidates::default()
        },
        name: facts.name.clone(),
        task_arn: Some(task.arn.clone()),
        task_id: Some(task.id.clone()),
        phase: Phase::Running,
        ports,
        link: declared.link.clone(),
        is_primary: declared.is_primary,
        tags,
        meta,
        weight: declared.weight,
        refusals,
        is_refused: declared.is_refused || (is_service_refused && !is_named),
    };
    Some(Container { report, exit_code: facts.exit_code, reason: facts.reason.clone() })
}

/// The network mode of a task whose definition cannot be had.
fn guess(facts: &ContainerFacts, host: Host<'_>, refusals: &mut Vec<Refusal>) -> Mode {
    let reason = "the task definition cannot be read, so labels and port names are not known";
    refusals.push(Refusal::new("task definition", reason));
    if host == Host::Fargate || !facts.addresses.is_empty() { Mode::Awsvpc } else { Mode::Bridge }
}

/// Joins where ports are reached with what labels and mappings say of them.
fn declare(reached: Vec<Reached>, defined: &DefinedContainer, refusals: &mut Vec<Refusal>) -> Vec<PortReport> {
    let mut names: BTreeMap<(Label, Protocol), u16> = BTreeMap::new();
    let mut ports = Vec::with_capacity(reached.len());
    for port in reached {
        let Reached { container_port, protocol, host_port, addresses, is_dynamic } = port;
        let declared = defined.declaration.ports.get(&container_port);
        if declared.is_some_and(|declared| declared.is_ignored) {
            continue;
        }
        let mapping: Option<&Mapping> = defined.mappings.get(&(container_port, protocol));
        let name = declared.and_then(|declared| declared.name.clone());
        let name = name.or_else(|| mapping.and_then(|mapping| mapping.name.clone())).filter(|name| {
            let first = *names.entry((name.clone(), protocol)).or_insert(container_port);
            if first != container_port {
                let reason = format!("its name `{name}` is that of port {first} already");
                refusals.push(Refusal::new(field(container_port, protocol), reason));
            }
            first == container_port
        });
        let of_protocol = declared.filter(|declared| declared.registrator_protocol.is_none_or(|own| own == protocol));
        ports.push(PortReport {
            container_port,
            protocol,
            host_port,
            addresses,
            name,
            registrator_name: of_protocol.and_then(|declared| declared.registrator_name.clone()),
            health: Health::Passing,
            is_dynamic,
        });
    }
    ports
}

fn field(port: u16, protocol: Protocol) -> String {
    format!("port {port}/{protocol}")
}

#[cfg(test)]
mod tests;
