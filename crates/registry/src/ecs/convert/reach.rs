//! Where the ports of a container are reached, by the network mode of its task.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portolan_core::endpoint::Protocol;
use portolan_core::refusal::Refusal;

use super::super::definition::{DefinedContainer, Mode};
use super::super::facts::{Binding, ContainerFacts, PORTS_MAX, TaskFacts};
use super::{Host, field};

/// A port and where it is reached.
pub(super) struct Reached {
    pub(super) container_port: u16,
    pub(super) protocol: Protocol,
    pub(super) host_port: u16,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) is_dynamic: bool,
}

/// The ports of a container, in the order of port and protocol, at most [`PORTS_MAX`].
pub(super) fn of(
    (task, facts, defined): (&TaskFacts, &ContainerFacts, &DefinedContainer),
    (mode, host): (Mode, Host<'_>),
    refusals: &mut Vec<Refusal>,
) -> Vec<Reached> {
    let on_host = match host {
        Host::Instance(addresses) => addresses,
        Host::Fargate | Host::NotKnown => &[],
    };
    let mut ports = match mode {
        Mode::None => Vec::new(),
        Mode::Bridge => published(facts, defined, on_host, refusals),
        Mode::Host => own_ports(facts, defined, primary(on_host).as_slice(), refusals),
        Mode::Awsvpc => {
            let own = if facts.addresses.is_empty() { &task.addresses } else { &facts.addresses };
            own_ports(facts, defined, own, refusals)
        }
    };
    ports.truncate(PORTS_MAX);
    ports
}

/// The address that leads to the host: its first, of IPv4 if it has one. Further ones may be of interfaces that tasks own.
fn primary(addresses: &[IpAddr]) -> Option<IpAddr> {
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied()
}

/// Ports with their own numbers, of the host or of the task's interface: those that mappings, bindings or labels speak of.
fn own_ports(
    facts: &ContainerFacts,
    defined: &DefinedContainer,
    addresses: &[IpAddr],
    refusals: &mut Vec<Refusal>,
) -> Vec<Reached> {
    let bound = facts.bindings.iter().map(|binding| (binding.container_port, binding.protocol));
    let mut ports: BTreeSet<(u16, Protocol)> = defined.mappings.keys().copied().chain(bound).collect();
    for port in defined.declaration.ports.keys() {
        if !ports.contains(&(*port, Protocol::Udp)) {
            ports.insert((*port, Protocol::Tcp));
        }
    }
    if addresses.is_empty() {
        if !ports.is_empty() {
            refusals.push(no_address());
        }
        return Vec::new();
    }
    let reached = |(port, protocol)| Reached {
        container_port: port,
        protocol,
        host_port: port,
        addresses: addresses.to_vec(),
        is_dynamic: false,
    };
    ports.into_iter().map(reached).collect()
}

/// Ports that the host publishes. The bindings of one port to both families are one port.
fn published(
    facts: &ContainerFacts,
    defined: &DefinedContainer,
    on_host: &[IpAddr],
    refusals: &mut Vec<Refusal>,
) -> Vec<Reached> {
    let mut by_port: BTreeMap<(u16, Protocol), Vec<Binding>> = BTreeMap::new();
    for binding in &facts.bindings {
        by_port.entry((binding.container_port, binding.protocol)).or_default().push(*binding);
    }
    let mut found = Vec::new();
    for ((container_port, protocol), bindings) in by_port {
        let mapping = defined.mappings.get(&(container_port, protocol));
        match reach(&bindings, on_host) {
            Some((host_port, address)) => {
                let is_dynamic = mapping.map_or(host_port != container_port, |mapping| mapping.host_port.is_none());
                found.push(Reached { container_port, protocol, host_port, addresses: vec![address], is_dynamic });
            }
            None if on_host.is_empty() => {
                refusals.push(no_address());
                return Vec::new();
            }
            None => {
                let reason = "its instance has no address of the family that it is published on";
                refusals.push(Refusal::new(field(container_port, protocol), reason));
            }
        }
    }
    found
}

/// One host port for all bindings of a port: IPv4's, where the families differ, and the lowest where it is published
/// several times.
fn reach(bindings: &[Binding], on_host: &[IpAddr]) -> Option<(u16, IpAddr)> {
    let mut ordered: Vec<_> = bindings.iter().collect();
    ordered.sort_by_key(|binding| (binding.host_address.is_ipv6(), binding.host_port));
    ordered.into_iter().find_map(|binding| {
        let bound = binding.host_address;
        let of_family = on_host.iter().copied().find(|address| address.is_ipv6() == bound.is_ipv6());
        let address = if bound.is_unspecified() { of_family } else { Some(bound) };
        Some((binding.host_port, address?))
    })
}

fn no_address() -> Refusal {
    Refusal::new("ports", "the address of its instance is not known; a sidecar there would know it")
}
