//! How the agent has Docker run the containers of a task: names, labels, ports, and the pauses that hold a network.

use portolan_registry::ecs::api::{ContainerDefinition, PortMapping};

use crate::container::EcsTask;
use crate::double::world::definition::ports_of;
use crate::double::world::last_part;
use crate::double::world::task::Task;

/// The first host port of a range. The agent looks for free ones below the ephemeral ports.
const FIRST_RANGE_PORT: u16 = 20_000;

/// The agent's own container that holds a network (agent 1.105.1, `task.go`).
const PAUSE: &str = "~internal~ecs~pause";

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It holds a network for others; ECS is not told of it.
    Pause,
    /// It is in the task definition, or Service Connect's.
    Of,
}

/// A container that is to run.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) role: Role,
    /// The piece whose network it is in.
    pub(super) joins: Option<String>,
    /// What is published of it.
    pub(super) mappings: Vec<PortMapping>,
    /// For the stand-in.
    pub(super) args: Vec<String>,
    labels: Vec<String>,
    ports: Vec<String>,
    others: Vec<String>,
}

impl Piece {
    /// For `docker run`; `network` is the container whose network it joins.
    pub(super) fn options(&self, network: Option<&str>) -> Vec<String> {
        let publish = |port: &String| ["--publish".to_owned(), port.clone()];
        let mut options: Vec<String> = self.others.clone();
        options.extend(self.labels.iter().cloned());
        match network {
            Some(id) => options.push(format!("--network=container:{id}")),
            None => options.extend(self.ports.iter().flat_map(publish)),
        }
        options
    }
}

/// The containers of a task in the order of their starting.
pub(super) fn pieces(task: &Task, range_ports: &mut u16) -> Vec<Piece> {
    let definition = &task.definition;
    let is_connected = task.said.attachments.iter().any(|attachment| attachment.kind == "Service Connect");
    let is_bridge = definition.said.network_mode == "bridge";
    let mut pieces = Vec::new();
    if definition.has_own_interface() {
        pieces.push(pause(task, PAUSE.to_owned(), Vec::new()));
    }
    let of_definition = &definition.said.container_definitions;
    for container in &task.said.containers {
        let found = of_definition.iter().find(|found| found.name == container.name);
        let mappings = found.map(|found| found.port_mappings.clone()).unwrap_or_default();
        let ports: Vec<String> =
            mappings.iter().filter(|_| is_bridge).filter_map(|mapping| publish(mapping, range_ports)).collect();
        let has_pause = is_connected && is_bridge && found.is_some();
        let joins = match (definition.has_own_interface(), has_pause) {
            (true, _) => Some(PAUSE.to_owned()),
            (false, true) => Some(format!("{PAUSE}-{}", container.name)),
            (false, false) => None,
        };
        if has_pause {
            pieces.push(pause(task, joins.clone().unwrap_or_default(), ports.clone()));
        }
        let args = definition.plays.get(&container.name).cloned().unwrap_or_else(|| vec!["wait".to_owned()]);
        let others = found.map(|found| others(found, &definition.said.network_mode)).unwrap_or_default();
        let (name, labels) = (container.name.clone(), labels(task, &container.name));
        pieces.push(Piece { name, role: Role::Of, joins, mappings, args, labels, ports, others });
    }
    pieces
}

fn pause(task: &Task, name: String, ports: Vec<String>) -> Piece {
    let (labels, args) = (labels(task, &name), vec!["wait".to_owned()]);
    Piece { name, role: Role::Pause, joins: None, mappings: Vec::new(), args, labels, ports, others: Vec::new() }
}

/// Name and labels. They come after the definition's own labels, so that nobody takes them.
fn labels(task: &Task, container: &str) -> Vec<String> {
    let said = &task.definition.said;
    let labelled = EcsTask {
        cluster: last_part(&task.said.cluster_arn).to_owned(),
        family: said.family.clone(),
        version: u32::try_from(said.revision).unwrap_or(u32::MAX),
        container: container.to_owned(),
        task_id: last_part(&task.said.task_arn).to_owned(),
    };
    labelled.options()
}

fn others(container: &ContainerDefinition, network_mode: &str) -> Vec<String> {
    let labels = container.docker_labels.iter().map(|(name, value)| format!("--label={name}={value}"));
    let variables = container.environment.iter().map(|(name, value)| format!("--env={name}={value}"));
    let network = (network_mode == "host").then(|| "--network=host".to_owned());
    labels.chain(variables).chain(network).collect()
}

/// `0:80/tcp`, `8080:80/tcp`, `20000-20003:5000-5003/tcp`.
fn publish(mapping: &PortMapping, range_ports: &mut u16) -> Option<String> {
    let protocol = &mapping.protocol;
    if let Some(range) = &mapping.container_port_range {
        let (first, last) = ports_of(range)?;
        let host = FIRST_RANGE_PORT + *range_ports;
        let host_last = host + (last - first);
        *range_ports += last - first + 1;
        return Some(format!("{host}-{host_last}:{range}/{protocol}"));
    }
    Some(format!("{}:{}/{protocol}", mapping.host_port.unwrap_or(0), mapping.container_port?))
}
