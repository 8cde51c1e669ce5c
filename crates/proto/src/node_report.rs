//! A node's report as bytes. A container that cannot be read is left out and told, and the others count.

use std::net::IpAddr;

use portolan_core::endpoint::{Protocol, Run};
use portolan_core::evidence::{
    ContainerReport, Ending, Health, LinkPlane, LinkWish, NameCandidates, NodeReport, Phase, PortReport,
};
use portolan_core::name::{Label, NodeKey};
use portolan_core::refusal::Refusal;
use portolan_core::view::LinkMode;
use prost::Message;

use crate::{FieldError, wire, wrong};

/// Why bytes are not a node's report.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the message at all.
    #[error("decode a node's report")]
    Message(#[source] prost::DecodeError),
    /// The part that says whose report it is cannot be read.
    #[error("read whose report it is")]
    Node(#[source] FieldError),
}

/// A report, and what could not be read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// What could be read.
    pub report: NodeReport,
    /// One refusal for each container that was left out.
    pub left_out: Vec<Refusal>,
}

/// The bytes of `report`.
pub fn encode(report: &NodeReport) -> Vec<u8> {
    let message = wire::NodeReport {
        cluster: report.node.cluster.to_string(),
        node: report.node.node.to_string(),
        boot_id: report.boot_id.clone(),
        session: report.session,
        generation: report.generation,
        host_name: text(report.host_name.as_ref()),
        addresses: addresses_out(&report.addresses),
        az: report.az.clone().unwrap_or_default(),
        version: report.version.clone(),
        containers: report.containers.iter().map(container_out).collect(),
    };
    message.encode_to_vec()
}

/// Reads the bytes of a report.
///
/// # Errors
/// When nothing can be made of them; a single bad container is only left out.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let message = wire::NodeReport::decode(bytes).map_err(DecodeError::Message)?;
    let node = node_key(&message.cluster, &message.node).map_err(DecodeError::Node)?;
    let mut left_out = Vec::new();
    let mut containers = Vec::with_capacity(message.containers.len());
    for container in message.containers {
        let name = container.name.clone();
        match container_in(container) {
            Ok(container) => containers.push(container),
            Err(error) => left_out.push(Refusal::new(format!("container `{name}`"), error.to_string())),
        }
    }
    let report = NodeReport {
        node,
        boot_id: message.boot_id,
        session: message.session,
        generation: message.generation,
        host_name: Label::parse(&message.host_name).ok(),
        addresses: addresses_in("addresses", &message.addresses).map_err(DecodeError::Node)?,
        az: some_text(message.az),
        version: message.version,
        containers,
    };
    Ok(Decoded { report, left_out })
}

/// A node's key from the two texts that carry it.
///
/// # Errors
/// When one of them is not a label.
pub fn node_key(cluster: &str, node: &str) -> Result<NodeKey, FieldError> {
    Ok(NodeKey { cluster: label("cluster", cluster)?, node: label("node", node)? })
}

fn container_out(container: &ContainerReport) -> wire::ContainerReport {
    let (phase, ending) = match &container.phase {
        Phase::Running => (wire::Phase::Running, None),
        Phase::Paused => (wire::Phase::Paused, None),
        Phase::Stopping => (wire::Phase::Stopping, None),
        Phase::Died(ending) => (wire::Phase::Died, Some(ending)),
    };
    wire::ContainerReport {
        id: container.id.clone(),
        run: container.run.0,
        cluster: container.cluster.to_string(),
        name: container.name.to_string(),
        candidates: Some(candidates_out(&container.candidates)),
        task_arn: container.task_arn.clone().unwrap_or_default(),
        task_id: container.task_id.clone().unwrap_or_default(),
        phase: phase.into(),
        ending: ending.map(|e| wire::Ending {
            exit_code: e.exit_code,
            is_out_of_memory: e.is_out_of_memory,
            at_ms: e.at_ms,
        }),
        ports: container.ports.iter().map(port_out).collect(),
        link: Some(link_out(&container.link)),
        is_primary: container.is_primary,
        tags: container.tags.clone(),
        meta: meta_out(&container.meta),
        weight: container.weight.into(),
        refusals: container
            .refusals
            .iter()
            .map(|r| wire::Refusal { field: r.field.clone(), reason: r.reason.clone() })
            .collect(),
        is_refused: container.is_refused,
    }
}

fn container_in(container: wire::ContainerReport) -> Result<ContainerReport, FieldError> {
    let candidates = container.candidates.unwrap_or_default();
    let link = container.link.unwrap_or_default();
    Ok(ContainerReport {
        id: container.id,
        run: Run(container.run),
        cluster: label("containers.cluster", &container.cluster)?,
        candidates: NameCandidates {
            label: some_label("candidates.label", &candidates.label)?,
            registrator: some_label("candidates.registrator", &candidates.registrator)?,
            compose: some_label("candidates.compose", &candidates.compose)?,
            family: some_label("candidates.family", &candidates.family)?,
            container: some_label("candidates.container", &candidates.container)?,
        },
        name: label("containers.name", &container.name)?,
        task_arn: some_text(container.task_arn),
        task_id: some_text(container.task_id),
        phase: phase_in(container.phase, container.ending)?,
        ports: container.ports.into_iter().map(port_in).collect::<Result<_, _>>()?,
        link: link_in(link)?,
        is_primary: container.is_primary,
        tags: container.tags,
        meta: meta_in(container.meta),
        weight: port_number("containers.weight", container.weight)?,
        refusals: container.refusals.iter().map(|r| Refusal::new(&r.field, &r.reason)).collect(),
        is_refused: container.is_refused,
    })
}

fn candidates_out(candidates: &NameCandidates) -> wire::NameCandidates {
    wire::NameCandidates {
        label: text(candidates.label.as_ref()),
        registrator: text(candidates.registrator.as_ref()),
        compose: text(candidates.compose.as_ref()),
        family: text(candidates.family.as_ref()),
        container: text(candidates.container.as_ref()),
    }
}

fn phase_in(phase: i32, ending: Option<wire::Ending>) -> Result<Phase, FieldError> {
    match wire::Phase::try_from(phase).unwrap_or_default() {
        wire::Phase::Unspecified => Err(wrong("phase", "is not one that this version knows")),
        wire::Phase::Running => Ok(Phase::Running),
        wire::Phase::Paused => Ok(Phase::Paused),
        wire::Phase::Stopping => Ok(Phase::Stopping),
        wire::Phase::Died => {
            let e = ending.unwrap_or_default();
            Ok(Phase::Died(Ending { exit_code: e.exit_code, is_out_of_memory: e.is_out_of_memory, at_ms: e.at_ms }))
        }
    }
}

fn port_out(port: &PortReport) -> wire::PortReport {
    let health = match port.health {
        Health::Starting => wire::Health::Starting,
        Health::Passing => wire::Health::Passing,
        Health::Failing => wire::Health::Failing,
    };
    wire::PortReport {
        container_port: port.container_port.into(),
        protocol: protocol_out(port.protocol).into(),
        host_port: port.host_port.into(),
        addresses: addresses_out(&port.addresses),
        name: text(port.name.as_ref()),
        registrator_name: text(port.registrator_name.as_ref()),
        health: health.into(),
        is_dynamic: port.is_dynamic,
    }
}

fn port_in(port: wire::PortReport) -> Result<PortReport, FieldError> {
    let addresses = addresses_in("ports.addresses", &port.addresses)?;
    if addresses.is_empty() {
        return Err(wrong("ports.addresses", "is empty"));
    }
    Ok(PortReport {
        container_port: port_number("ports.container_port", port.container_port)?,
        protocol: protocol_in(port.protocol)?,
        host_port: port_number("ports.host_port", port.host_port)?,
        addresses,
        name: some_label("ports.name", &port.name)?,
        registrator_name: some_label("ports.registrator_name", &port.registrator_name)?,
        health: match wire::Health::try_from(port.health).unwrap_or_default() {
            wire::Health::Unspecified => return Err(wrong("ports.health", "is not one that this version knows")),
            wire::Health::Starting => Health::Starting,
            wire::Health::Passing => Health::Passing,
            wire::Health::Failing => Health::Failing,
        },
        is_dynamic: port.is_dynamic,
    })
}

fn link_out(link: &LinkWish) -> wire::LinkWish {
    wire::LinkWish {
        mode: link.mode.map_or(wire::LinkMode::Unspecified, mode_out).into(),
        ports: link
            .ports
            .iter()
            .map(|(port, to)| wire::LinkPortWish { port: (*port).into(), container_port: (*to).into() })
            .collect(),
        plane: plane_out(link.plane).into(),
    }
}

fn link_in(link: wire::LinkWish) -> Result<LinkWish, FieldError> {
    let port = |p: &wire::LinkPortWish| {
        Ok((port_number("link.ports.port", p.port)?, port_number("link.ports.container_port", p.container_port)?))
    };
    Ok(LinkWish {
        mode: mode_in(link.mode),
        ports: link.ports.iter().map(port).collect::<Result<_, _>>()?,
        plane: plane_in(link.plane),
    })
}

pub(crate) fn mode_out(mode: LinkMode) -> wire::LinkMode {
    match mode {
        LinkMode::Vip => wire::LinkMode::Vip,
        LinkMode::Direct => wire::LinkMode::Direct,
    }
}

pub(crate) fn mode_in(mode: i32) -> Option<LinkMode> {
    match wire::LinkMode::try_from(mode).unwrap_or_default() {
        wire::LinkMode::Unspecified => None,
        wire::LinkMode::Vip => Some(LinkMode::Vip),
        wire::LinkMode::Direct => Some(LinkMode::Direct),
    }
}

pub(crate) fn plane_out(plane: Option<LinkPlane>) -> wire::LinkPlane {
    match plane {
        None => wire::LinkPlane::Unspecified,
        Some(LinkPlane::Proxy) => wire::LinkPlane::Proxy,
        Some(LinkPlane::Ebpf) => wire::LinkPlane::Ebpf,
    }
}

/// A plane that this version does not know is none: each node's own setting then counts.
pub(crate) fn plane_in(plane: i32) -> Option<LinkPlane> {
    match wire::LinkPlane::try_from(plane).unwrap_or_default() {
        wire::LinkPlane::Unspecified => None,
        wire::LinkPlane::Proxy => Some(LinkPlane::Proxy),
        wire::LinkPlane::Ebpf => Some(LinkPlane::Ebpf),
    }
}

pub(crate) fn protocol_out(protocol: Protocol) -> wire::Protocol {
    match protocol {
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
    }
}

pub(crate) fn protocol_in(protocol: i32) -> Result<Protocol, FieldError> {
    match wire::Protocol::try_from(protocol).unwrap_or_default() {
        wire::Protocol::Unspecified => Err(wrong("protocol", "is not one that this version knows")),
        wire::Protocol::Tcp => Ok(Protocol::Tcp),
        wire::Protocol::Udp => Ok(Protocol::Udp),
    }
}

pub(crate) fn addresses_out(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(IpAddr::to_string).collect()
}

pub(crate) fn addresses_in(field: &'static str, addresses: &[String]) -> Result<Vec<IpAddr>, FieldError> {
    let read = |text: &String| text.parse().map_err(|_| wrong(field, format_args!("`{text}` is not an address")));
    addresses.iter().map(read).collect()
}

pub(crate) fn label(field: &'static str, text: &str) -> Result<Label, FieldError> {
    Label::parse(text).map_err(|error| wrong(field, error))
}

pub(crate) fn some_label(field: &'static str, text: &str) -> Result<Option<Label>, FieldError> {
    if text.is_empty() { Ok(None) } else { label(field, text).map(Some) }
}

pub(crate) fn text(label: Option<&Label>) -> String {
    label.map(Label::to_string).unwrap_or_default()
}

pub(crate) fn some_text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

pub(crate) fn port_number(field: &'static str, number: u32) -> Result<u16, FieldError> {
    u16::try_from(number).map_err(|_| wrong(field, format_args!("{number} is over 65535")))
}

pub(crate) fn meta_out(meta: &[(String, String)]) -> Vec<wire::KeyValue> {
    meta.iter().map(|(key, value)| wire::KeyValue { key: key.clone(), value: value.clone() }).collect()
}

pub(crate) fn meta_in(meta: Vec<wire::KeyValue>) -> Vec<(String, String)> {
    meta.into_iter().map(|pair| (pair.key, pair.value)).collect()
}

#[cfg(test)]
mod tests;
