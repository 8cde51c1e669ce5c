//! What one inspection says of a container, as plain values. Reads Docker's answer; decides nothing.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use bollard::models::{ContainerInspectResponse, HealthStatusEnum, NetworkSettings, PortMap};
use portolan_core::endpoint::{Protocol, Run};
use portolan_core::labels::{self, Declaration};
use portolan_core::refusal::Refusal;

use super::signal;

/// More ports than this of one container are refused: a range published by mistake.
const BINDINGS_MAX: usize = 1024;

/// Whether the first process of a container was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It was: its death is known by pidfd and its sockets by /proc.
    Seen,
    /// There is no such process (any more), although Docker says that it runs.
    Gone,
    /// It cannot be seen from here.
    Hidden,
}

/// One run of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Docker's id.
    pub id: String,
    /// Which run: `StartedAt`.
    pub run: Run,
    /// Docker's name, without its slash.
    pub name: String,
    /// What labels and environment declare.
    pub declaration: Arc<Declaration>,
    /// What the orchestrator wrote.
    pub origin: Origin,
    /// Pid of its first process in the host's namespace.
    pub pid: Option<i32>,
    /// Whether that process was seen.
    pub sight: Sight,
    /// What it does.
    pub activity: Activity,
    /// What its HEALTHCHECK says.
    pub health: DockerHealth,
    /// Whose network it uses.
    pub network: Network,
    /// Its own addresses on Docker's networks.
    pub addresses: Vec<IpAddr>,
    /// Its published ports, as bound now.
    pub bindings: Vec<Binding>,
    /// Ports by EXPOSE, `--expose` or `-p`.
    pub exposed: BTreeSet<(u16, Protocol)>,
    /// Ports of which the operator chose the host port.
    pub fixed: BTreeSet<(u16, Protocol)>,
    /// Ports that cannot be registered.
    pub port_refusals: Vec<Refusal>,
    /// The signal that asks it to stop.
    pub stop_signal: u8,
}

/// Labels of ECS and Compose, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Name or ARN of the ECS cluster.
    pub cluster: Option<String>,
    /// ARN of the task.
    pub task_arn: Option<String>,
    /// Container name in the task definition.
    pub container: Option<String>,
    /// Task definition family.
    pub family: Option<String>,
    /// Compose's service.
    pub compose_service: Option<String>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// Runs.
    Running,
    /// Is frozen.
    Paused,
    /// Does not run (any more).
    Ended {
        /// Its exit code.
        exit_code: Option<i64>,
        /// Whether the kernel killed it for memory.
        is_out_of_memory: bool,
    },
}

/// The state of a Docker HEALTHCHECK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DockerHealth {
    /// It has none.
    Absent,
    /// Neither healthy nor unhealthy yet.
    Starting,
    /// Healthy.
    Healthy,
    /// Unhealthy.
    Unhealthy,
}

/// Whose network a container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Its own, on Docker's bridges or none.
    Own,
    /// The host's.
    Host,
    /// That of another container, by id.
    Joined(String),
}

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where the host listens.
    pub host_address: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

/// Reads an inspection. `None`: an answer without id or state, which no Docker gives.
pub fn read(inspected: ContainerInspectResponse) -> Option<Facts> {
    let state = inspected.state?;
    let config = inspected.config.unwrap_or_default();
    let host_config = inspected.host_config.unwrap_or_default();
    let settings = inspected.network_settings.unwrap_or_default();
    let label_map = config.labels.unwrap_or_default();
    let environment = config.env.unwrap_or_default();
    let declaration = labels::parse(
        label_map.iter().map(|(key, text)| (key.as_str(), text.as_str())),
        environment.iter().map(String::as_str),
    );
    let is_running = state.running == Some(true) && state.restarting != Some(true);
    let mut refusals = Vec::new();
    let bindings = read_bindings(settings.ports.as_ref(), &mut refusals);
    let exposed = config.exposed_ports.unwrap_or_default();
    Some(Facts {
        id: inspected.id?,
        run: read_run(state.started_at.as_deref()),
        name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        declaration: Arc::new(declaration),
        origin: read_origin(&label_map),
        pid: state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0),
        sight: Sight::Hidden,
        activity: match (is_running, state.paused) {
            (true, Some(true)) => Activity::Paused,
            (true, _) => Activity::Running,
            (false, _) => {
                Activity::Ended { exit_code: state.exit_code, is_out_of_memory: state.oom_killed == Some(true) }
            }
        },
        health: read_health(state.health.and_then(|health| health.status)),
        network: read_network(host_config.network_mode.as_deref()),
        addresses: read_addresses(&settings),
        bindings,
        exposed: exposed.iter().filter_map(|text| read_port(text).ok()).collect(),
        fixed: read_fixed(host_config.port_bindings.as_ref()),
        port_refusals: refusals,
        stop_signal: config.stop_signal.as_deref().and_then(signal::number).unwrap_or(signal::SIGTERM),
    })
}

/// Never started, or a time before 1970: run 0.
fn read_run(started_at: Option<&str>) -> Run {
    let started: Option<jiff::Timestamp> = started_at.and_then(|text| text.parse().ok());
    Run(started.and_then(|time| u64::try_from(time.as_nanosecond()).ok()).unwrap_or(0))
}

fn read_origin(labels: &HashMap<String, String>) -> Origin {
    let label = |key: &str| labels.get(key).filter(|text| !text.is_empty()).cloned();
    Origin {
        cluster: label("com.amazonaws.ecs.cluster"),
        task_arn: label("com.amazonaws.ecs.task-arn"),
        container: label("com.amazonaws.ecs.container-name"),
        family: label("com.amazonaws.ecs.task-definition-family"),
        compose_service: label("com.docker.compose.service"),
    }
}

fn read_health(status: Option<HealthStatusEnum>) -> DockerHealth {
    match status {
        None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) => DockerHealth::Absent,
        Some(HealthStatusEnum::STARTING) => DockerHealth::Starting,
        Some(HealthStatusEnum::HEALTHY) => DockerHealth::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => DockerHealth::Unhealthy,
    }
}

fn read_network(mode: Option<&str>) -> Network {
    match mode {
        Some("host") => Network::Host,
        Some(mode) => mode.strip_prefix("container:").map_or(Network::Own, |id| Network::Joined(id.to_owned())),
        None => Network::Own,
    }
}

/// In the order of the networks' names, IPv4 first, so that equal facts are equal.
fn read_addresses(settings: &NetworkSettings) -> Vec<IpAddr> {
    let mut networks: Vec<_> = settings.networks.iter().flatten().collect();
    networks.sort_by(|a, b| a.0.cmp(b.0));
    let texts = networks.iter().flat_map(|(_, endpoint)| [&endpoint.ip_address, &endpoint.global_ipv6_address]);
    let mut addresses: Vec<IpAddr> = texts.flatten().filter_map(|text| text.parse().ok()).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

fn read_bindings(ports: Option<&PortMap>, refusals: &mut Vec<Refusal>) -> Vec<Binding> {
    let mut bindings = Vec::new();
    let mut sorted: Vec<_> = ports.into_iter().flatten().collect();
    sorted.sort_by(|a, b| a.0.cmp(b.0));
    for (text, bound) in sorted {
        let Some(bound) = bound.as_ref().filter(|bound| !bound.is_empty()) else { continue };
        let (container_port, protocol) = match read_port(text) {
            Ok(port) => port,
            Err(reason) => {
                refusals.push(Refusal::new(format!("port {text}"), reason));
                continue;
            }
        };
        for binding in bound {
            let host_port = binding.host_port.as_deref().and_then(|port| port.parse().ok()).filter(|port| *port != 0);
            // Docker before 20.10.6 and some modes leave the address empty for "every IPv4 address".
            let address = binding.host_ip.as_deref().filter(|text| !text.is_empty()).unwrap_or("0.0.0.0");
            let (Some(host_port), Ok(host_address)) = (host_port, address.parse()) else {
                refusals.push(Refusal::new(format!("port {text}"), "Docker names no host port from 1 to 65535"));
                continue;
            };
            bindings.push(Binding { container_port, protocol, host_address, host_port });
        }
    }
    if bindings.len() > BINDINGS_MAX {
        refusals.push(Refusal::new("ports", format!("{} bindings; {BINDINGS_MAX} are read", bindings.len())));
        bindings.truncate(BINDINGS_MAX);
    }
    bindings.sort();
    bindings
}

/// `9200/tcp`.
fn read_port(text: &str) -> Result<(u16, Protocol), String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => return Err(format!("protocol `{other}` is not registered; tcp and udp are")),
    };
    match number.parse() {
        Ok(port) if port != 0 => Ok((port, protocol)),
        _ => Err("is not a port from 1 to 65535".to_owned()),
    }
}

/// Ports for which `-p` named one host port; for none or a range Docker chooses.
fn read_fixed(asked: Option<&PortMap>) -> BTreeSet<(u16, Protocol)> {
    let is_fixed =
        |port: &Option<String>| port.as_deref().and_then(|text| text.parse::<u16>().ok()).is_some_and(|port| port != 0);
    let asked = asked.into_iter().flatten();
    let fixed = asked.filter(|(_, bound)| bound.iter().flatten().any(|binding| is_fixed(&binding.host_port)));
    fixed.filter_map(|(text, _)| read_port(text).ok()).collect()
}

#[cfg(test)]
pub(crate) mod tests;
