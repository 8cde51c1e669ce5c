//! Which ports a container registers, where they are reached, and how their health is found.
//!
//! Ports are found on the container whose network is used. IPv4 and IPv6 bindings of one port are one endpoint.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use portolan_core::endpoint::Protocol;
use portolan_core::evidence::{Health, PortReport};
use portolan_core::labels::Check;
use portolan_core::name::Label;
use portolan_core::refusal::Refusal;

use super::Node;
use crate::docker::facts::{Binding, DockerHealth, Facts, Network, Sight};
use crate::docker::state::State;
use crate::health::Method;

/// A container that joins one that joins one: more is a loop, which Docker refuses too.
const JOINS_MAX: usize = 4;

/// One port to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) container_port: u16,
    pub(super) protocol: Protocol,
    pub(super) method: Method,
    host_port: u16,
    addresses: Vec<IpAddr>,
    name: Option<Label>,
    registrator_name: Option<Label>,
    is_dynamic: bool,
}

impl Port {
    pub(super) fn report(&self, health: Health) -> PortReport {
        PortReport {
            container_port: self.container_port,
            protocol: self.protocol,
            host_port: self.host_port,
            addresses: self.addresses.clone(),
            name: self.name.clone(),
            registrator_name: self.registrator_name.clone(),
            health,
            is_dynamic: self.is_dynamic,
        }
    }
}

/// Which containers share which network.
#[derive(Debug)]
pub(super) struct Sharing<'a> {
    owners: HashMap<&'a str, &'a Facts>,
    members: HashMap<&'a str, Vec<&'a Facts>>,
}

impl<'a> Sharing<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let mut sharing = Sharing { owners: HashMap::new(), members: HashMap::new() };
        for live in state.live().filter(|live| matches!(live.facts.network, Network::Joined(_))) {
            if let Some(owner) = owner(&live.facts, state) {
                sharing.owners.insert(&live.facts.id, owner);
                sharing.members.entry(&owner.id).or_default().push(&live.facts);
            }
        }
        sharing
    }

    /// Whose network `facts` uses. `None`: a container that is not there (yet).
    fn owner(&self, facts: &'a Facts) -> Option<&'a Facts> {
        match facts.network {
            Network::Own | Network::Host => Some(facts),
            Network::Joined(_) => self.owners.get(facts.id.as_str()).copied(),
        }
    }

    /// The containers to which a published port of `owner` belongs: those that speak of it, else those that want to be
    /// registered by a name, else the owner, unless that is there for its network alone.
    fn claimants(&self, owner: &'a Facts, port: (u16, Protocol)) -> Vec<&'a Facts> {
        let Some(members) = self.members.get(owner.id.as_str()) else { return vec![owner] };
        let members = || members.iter().copied().filter(|member| !member.declaration.is_ignored);
        let speaking: Vec<_> = members().filter(|member| speaks_of(member, port)).collect();
        if !speaking.is_empty() {
            return speaking;
        }
        let is_named = |facts: &&Facts| facts.declaration.service.is_some() || facts.declaration.registrator.is_some();
        let named: Vec<_> = members().filter(is_named).collect();
        if !named.is_empty() {
            return named;
        }
        if super::left_out(owner).is_none() { vec![owner] } else { members().collect() }
    }
}

fn owner<'a>(facts: &'a Facts, state: &'a State) -> Option<&'a Facts> {
    let mut at = facts;
    for _ in 0..JOINS_MAX {
        match &at.network {
            Network::Joined(id) => at = &state.live_of(id)?.facts,
            Network::Own | Network::Host => return Some(at),
        }
    }
    None
}

fn speaks_of(facts: &Facts, port: (u16, Protocol)) -> bool {
    facts.exposed.contains(&port) || facts.declaration.ports.contains_key(&port.0)
}

/// The ports of `facts`, and into `refusals` what cannot be registered.
pub(super) fn of(facts: &Facts, (sharing, node): (&Sharing<'_>, &Node), refusals: &mut Vec<Refusal>) -> Vec<Port> {
    let Some(owner) = sharing.owner(facts) else {
        refusals.push(Refusal::new("ports", "the container whose network it joins does not run"));
        return Vec::new();
    };
    refusals.extend(owner.port_refusals.iter().cloned());
    let found = match owner.network {
        Network::Host => host_ports(facts, node, refusals),
        Network::Own | Network::Joined(_) => published(owner, node, refusals),
    };
    let mut ports = Vec::new();
    let mut names: BTreeMap<(Label, Protocol), u16> = BTreeMap::new();
    for reached in found {
        let claimants = sharing.claimants(owner, (reached.container_port, reached.protocol));
        if owner.network != Network::Host && !is_claimed(facts, &claimants, &reached, refusals) {
            continue;
        }
        if let Some(mut port) = declare(facts, reached, (owner, node), refusals) {
            if let Some(name) = port.name.take() {
                let first = *names.entry((name.clone(), port.protocol)).or_insert(port.container_port);
                if first == port.container_port {
                    port.name = Some(name);
                } else {
                    let reason = format!("its name `{name}` is that of port {first} already");
                    refusals.push(Refusal::new(field(port.container_port, port.protocol), reason));
                }
            }
            ports.push(port);
        }
    }
    ports
}

/// The ports of a run that is over and was never seen: Docker keeps their numbers inside the container, and forgets those
/// of the host.
pub(super) fn of_unseen(facts: &Facts, node: &Node) -> Vec<Port> {
    let mut unsaid = Vec::new();
    let reached = host_ports(facts, node, &mut unsaid);
    reached.into_iter().filter_map(|reached| declare(facts, reached, (facts, node), &mut unsaid)).collect()
}

fn is_claimed(facts: &Facts, claimants: &[&Facts], reached: &Reached, refusals: &mut Vec<Refusal>) -> bool {
    let is_claimed = claimants.iter().any(|claimant| claimant.id == facts.id);
    if is_claimed && claimants.len() == 1 {
        return true;
    }
    let field = field(reached.container_port, reached.protocol);
    if is_claimed {
        let reason = format!(
            "{} containers of one network claim it; give it to one with the label `portolan.port.{}`",
            claimants.len(),
            reached.container_port
        );
        refusals.push(Refusal::new(field, reason));
    } else if let (Network::Joined(_), Some(other)) = (&facts.network, claimants.first()) {
        let reason = format!("it is registered for container `{}`, whose network this one shares", other.name);
        refusals.push(Refusal::new(field, reason));
    }
    false
}

/// A port and where it is reached.
struct Reached {
    container_port: u16,
    protocol: Protocol,
    host_port: u16,
    addresses: Vec<IpAddr>,
    is_dynamic: bool,
}

/// Host mode: the ports that the image or a label speaks of, with their own numbers.
fn host_ports(facts: &Facts, node: &Node, refusals: &mut Vec<Refusal>) -> Vec<Reached> {
    let mut ports = facts.exposed.clone();
    for port in facts.declaration.ports.keys() {
        if !ports.contains(&(*port, Protocol::Udp)) {
            ports.insert((*port, Protocol::Tcp));
        }
    }
    if node.addresses.is_empty() && !ports.is_empty() {
        refusals.push(Refusal::new("ports", "this node has no address that other nodes can reach"));
        return Vec::new();
    }
    let reached = |(port, protocol): (u16, Protocol)| Reached {
        container_port: port,
        protocol,
        host_port: port,
        addresses: node.addresses.clone(),
        is_dynamic: false,
    };
    ports.into_iter().map(reached).collect()
}

fn published(owner: &Facts, node: &Node, refusals: &mut Vec<Refusal>) -> Vec<Reached> {
    let mut by_port: BTreeMap<(u16, Protocol), Vec<Binding>> = BTreeMap::new();
    for binding in &owner.bindings {
        by_port.entry((binding.container_port, binding.protocol)).or_default().push(*binding);
    }
    let mut found = Vec::new();
    for ((container_port, protocol), bindings) in by_port {
        match reach(&bindings, node) {
            Ok((host_port, addresses)) => {
                let is_dynamic = !owner.fixed.contains(&(container_port, protocol));
                found.push(Reached { container_port, protocol, host_port, addresses, is_dynamic });
            }
            Err(reason) => refusals.push(Refusal::new(field(container_port, protocol), reason)),
        }
    }
    found
}

/// One host port for all bindings of a port: IPv4's, where the families differ (moby/libnetwork#2639), and the lowest
/// where it is published several times; with every address that leads there.
fn reach(bindings: &[Binding], node: &Node) -> Result<(u16, Vec<IpAddr>), String> {
    let reachable = || bindings.iter().filter(|binding| is_reachable(binding.host_address));
    let Some(chosen) = reachable().min_by_key(|binding| (binding.host_address.is_ipv6(), binding.host_port)) else {
        let only = bindings.first().map(|binding| binding.host_address.to_string()).unwrap_or_default();
        return Err(format!("it is published on {only} only, which other nodes cannot reach"));
    };
    let mut addresses = Vec::new();
    for binding in reachable().filter(|binding| binding.host_port == chosen.host_port) {
        if binding.host_address.is_unspecified() {
            let is_ipv6 = binding.host_address.is_ipv6();
            addresses.extend(node.addresses.iter().filter(|address| address.is_ipv6() == is_ipv6));
        } else {
            addresses.push(binding.host_address);
        }
    }
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() {
        return Err("this node has no address of its family that other nodes can reach".to_owned());
    }
    Ok((chosen.host_port, addresses))
}

/// Loopback, link-local and multicast addresses are never announced (DESIGN section 4).
fn is_reachable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_multicast() && !is_link_local
}

/// Joins what is reached with what labels say. `None`: labels leave the port out.
fn declare(
    facts: &Facts,
    reached: Reached,
    (owner, node): (&Facts, &Node),
    refusals: &mut Vec<Refusal>,
) -> Option<Port> {
    let declared = facts.declaration.ports.get(&reached.container_port);
    if declared.is_some_and(|declared| declared.is_ignored) {
        return None;
    }
    let of_protocol = declared.filter(|declared| declared.registrator_protocol.is_none_or(|p| p == reached.protocol));
    Some(Port {
        container_port: reached.container_port,
        protocol: reached.protocol,
        method: method(facts, &reached, (owner, node), refusals),
        host_port: reached.host_port,
        addresses: reached.addresses,
        name: declared.and_then(|declared| declared.name.clone()),
        registrator_name: of_protocol.and_then(|declared| declared.registrator_name.clone()),
        is_dynamic: reached.is_dynamic,
    })
}

/// How the health of a port is found: its own check, the container's, the HEALTHCHECK, else whether it listens.
fn method(facts: &Facts, reached: &Reached, (owner, node): (&Facts, &Node), refusals: &mut Vec<Refusal>) -> Method {
    let declared = facts.declaration.ports.get(&reached.container_port).and_then(|declared| declared.check.as_ref());
    let check = declared.or(facts.declaration.check.as_ref());
    let addresses = if owner.network == Network::Host { &node.addresses } else { &owner.addresses };
    let address = addresses.first().map(|address| SocketAddr::new(*address, reached.container_port));
    let mut refuse = |reason: &str| {
        refusals.push(Refusal::new(format!("check of {}", field(reached.container_port, reached.protocol)), reason));
        default_method(facts, reached.protocol)
    };
    match (check, address) {
        (None, _) => default_method(facts, reached.protocol),
        (Some(Check::None), _) => Method::Always,
        (Some(Check::Docker), _) if facts.health == DockerHealth::Absent => {
            refuse("`docker` needs a HEALTHCHECK, and the container has none")
        }
        (Some(Check::Docker), _) => Method::Docker(facts.health),
        (Some(Check::Tcp | Check::Http { .. } | Check::Grpc), _)
            if reached.protocol == Protocol::Udp && declared.is_none() =>
        {
            default_method(facts, reached.protocol)
        }
        (Some(Check::Tcp | Check::Http { .. } | Check::Grpc), _) if reached.protocol == Protocol::Udp => {
            refuse("a UDP port cannot be checked over TCP; `docker` and `none` can")
        }
        (Some(Check::Tcp | Check::Http { .. } | Check::Grpc), None) => {
            refuse("the container has no address to be checked at")
        }
        (Some(Check::Tcp), Some(address)) => Method::Tcp(address),
        (Some(Check::Grpc), Some(address)) => Method::Grpc(address),
        (Some(Check::Http { path }), Some(address)) => Method::Http { address, path: path.clone() },
    }
}

fn default_method(facts: &Facts, protocol: Protocol) -> Method {
    match (facts.health, protocol, facts.pid) {
        // Of a process that is gone nothing will listen: what dies at once is never ready.
        (DockerHealth::Absent, Protocol::Tcp, Some(pid)) if facts.sight != Sight::Hidden => Method::Listening { pid },
        (DockerHealth::Absent, _, _) => Method::Always,
        (health, _, _) => Method::Docker(health),
    }
}

fn field(port: u16, protocol: Protocol) -> String {
    format!("port {port}/{protocol}")
}
