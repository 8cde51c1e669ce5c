//! Containers of a task as AWS tells them: ids, ports that the host publishes, addresses.

use std::net::IpAddr;

use portolan_core::endpoint::Protocol;
use portolan_core::hash;
use portolan_core::name::{Label, container_label};
use portolan_core::refusal::{Refusal, shown};

use super::super::api;
use super::{NAME_CHARACTERS_MAX, REASON_CHARACTERS_MAX, read_addresses};

/// Ports of one container: a range published by mistake ends here.
pub(in crate::ecs) const PORTS_MAX: usize = 256;
/// Docker's ids have 64 characters.
const RUNTIME_ID_OCTETS_MAX: usize = 128;
/// Enough to find the mistake.
const REFUSALS_MAX: usize = 8;

/// A container of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ecs) struct ContainerFacts {
    pub(in crate::ecs) id: String,
    /// As the task definition has it.
    pub(in crate::ecs) definition_name: String,
    pub(in crate::ecs) name: Label,
    pub(in crate::ecs) exit_code: Option<i64>,
    pub(in crate::ecs) reason: Option<String>,
    pub(in crate::ecs) bindings: Vec<Binding>,
    pub(in crate::ecs) addresses: Vec<IpAddr>,
    pub(in crate::ecs) refusals: Vec<Refusal>,
}

/// One port of a container that the host publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::ecs) struct Binding {
    pub(in crate::ecs) container_port: u16,
    pub(in crate::ecs) protocol: Protocol,
    pub(in crate::ecs) host_port: u16,
    pub(in crate::ecs) host_address: IpAddr,
}

/// Containers that ECS itself puts into tasks: they hold a network, or are Service Connect's proxy.
pub(super) fn is_of_ecs(name: &str) -> bool {
    name.starts_with("~internal~ecs~") || name.starts_with("ecs-service-connect-")
}

pub(super) fn read(task_id: &str, container: &api::Container) -> ContainerFacts {
    let mut refusals = Vec::new();
    let mut bindings = Vec::new();
    for binding in &container.network_bindings {
        match read_binding(binding) {
            Ok(found) => bindings.extend(found),
            Err(reason) => refusals.push(Refusal::new("network binding", reason)),
        }
    }
    bindings.sort_unstable();
    bindings.dedup();
    let excess = bindings.len().saturating_sub(2 * PORTS_MAX);
    if excess > 0 {
        refusals.push(Refusal::new("ports", format!("{excess} bindings more than are read")));
        bindings.truncate(2 * PORTS_MAX);
    }
    refusals.truncate(REFUSALS_MAX);
    let interfaces = container.network_interfaces.iter();
    let texts = interfaces.flat_map(|own| [own.private_ipv4_address.as_deref(), own.ipv6_address.as_deref()]);
    ContainerFacts {
        id: container_id(task_id, container),
        definition_name: shown(&container.name, NAME_CHARACTERS_MAX),
        name: container_label(&container.name).unwrap_or(Label::fixed("container")),
        exit_code: container.exit_code,
        reason: container.reason.as_deref().map(|reason| shown(reason, REASON_CHARACTERS_MAX)),
        bindings,
        addresses: read_addresses(texts.flatten()),
        refusals,
    }
}

/// `runtimeId`; where there is none yet, the task's id and the container's name.
fn container_id(task_id: &str, container: &api::Container) -> String {
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let runtime_id = container.runtime_id.as_deref().filter(|id| (1..=RUNTIME_ID_OCTETS_MAX).contains(&id.len()));
    match runtime_id {
        Some(id) if is_plain(id) => id.to_owned(),
        Some(_) | None if is_plain(&container.name) && container.name.len() <= 64 => {
            format!("{task_id}-{}", container.name)
        }
        // Two names that differ only in such characters are two containers.
        Some(_) | None => format!("{task_id}-{:016x}", hash::stable(&[container.name.as_bytes()])),
    }
}

fn read_binding(binding: &api::NetworkBinding) -> Result<Vec<Binding>, String> {
    let protocol = read_protocol(&binding.protocol)?;
    let container = ports(binding.container_port, binding.container_port_range.as_deref())?;
    let host = ports(binding.host_port, binding.host_port_range.as_deref())?;
    if container.len() != host.len() {
        return Err(format!("{} container ports on {} host ports", container.len(), host.len()));
    }
    // Some agents leave it empty for every IPv4 address.
    let address = if binding.bind_ip.is_empty() { "0.0.0.0" } else { &binding.bind_ip };
    let host_address: IpAddr = address.parse().map_err(|_| format!("`{address}` is no address"))?;
    let bound = |(container_port, host_port)| Binding { container_port, protocol, host_port, host_address };
    Ok(container.into_iter().zip(host).map(bound).collect())
}

/// `tcp`, `udp`; empty is tcp.
pub(in crate::ecs) fn read_protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "tcp" | "" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        other => Err(format!("protocol `{other}` is not registered; tcp and udp are")),
    }
}

/// One port, or those of a range such as `5000-5003`, at most [`PORTS_MAX`].
pub(in crate::ecs) fn ports(single: Option<u16>, range: Option<&str>) -> Result<Vec<u16>, String> {
    let Some(range) = range else {
        return Ok(single.filter(|port| *port != 0).into_iter().collect());
    };
    let ends =
        range.split_once('-').and_then(|(first, last)| Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?)));
    match ends {
        Some((first, last)) if first != 0 && first <= last && usize::from(last - first) < PORTS_MAX => {
            Ok((first..=last).collect())
        }
        Some(_) | None => Err(format!("`{range}` is no range of at most {PORTS_MAX} ports, such as `5000-5003`")),
    }
}
