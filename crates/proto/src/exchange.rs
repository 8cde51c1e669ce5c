//! Directories, service sets and their digests: what a subscription carries.

use std::sync::Arc;

use portolan_core::endpoint::{Endpoint, EndpointKey, Run, Standing, State};
use portolan_core::hash;
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::view::{EndpointSet, Link, LinkPort, Node, Service};
use prost::Message;

use crate::node_report::{
    addresses_in, addresses_out, label, meta_in, meta_out, mode_in, mode_out, node_key, plane_in, plane_out,
    port_number, protocol_in, protocol_out, some_label, some_text, text,
};
use crate::{FieldError, wire, wrong};

/// The name of a service, to the wire.
pub fn service_name_out(key: &ServiceKey) -> wire::ServiceName {
    wire::ServiceName { cluster: key.cluster.to_string(), service: key.service.to_string() }
}

/// The name of a service, from the wire.
///
/// # Errors
/// When it is missing or not made of labels.
pub fn service_name_in(name: Option<&wire::ServiceName>) -> Result<ServiceKey, FieldError> {
    let name = name.ok_or_else(|| wrong("name", "is missing"))?;
    Ok(ServiceKey { cluster: label("name.cluster", &name.cluster)?, service: label("name.service", &name.service)? })
}

/// The name of a node, to the wire.
pub fn node_name_out(key: &NodeKey) -> wire::NodeName {
    wire::NodeName { cluster: key.cluster.to_string(), node: key.node.to_string() }
}

/// The name of a node, from the wire.
///
/// # Errors
/// When it is missing or not made of labels.
pub fn node_name_in(name: Option<&wire::NodeName>) -> Result<NodeKey, FieldError> {
    let name = name.ok_or_else(|| wrong("node", "is missing"))?;
    node_key(&name.cluster, &name.node)
}

/// What the directory says of a service.
pub fn directory_service_out(key: &ServiceKey, link: Option<&Link>) -> wire::DirectoryService {
    wire::DirectoryService { name: Some(service_name_out(key)), link: link.map(link_out) }
}

/// A service as the directory tells it: its endpoints are not known yet.
///
/// # Errors
/// The field that cannot be meant.
pub fn directory_service_in(service: &wire::DirectoryService, index: u64) -> Result<Service, FieldError> {
    let key = service_name_in(service.name.as_ref())?;
    let link = service.link.as_ref().map(link_in).transpose()?;
    Ok(Service { key, index, link, endpoints: EndpointSet::Unfollowed })
}

fn link_out(link: &Link) -> wire::Link {
    let port = |p: &LinkPort| wire::LinkPort {
        port: p.port.into(),
        container_port: p.container_port.into(),
        protocol: protocol_out(p.protocol).into(),
    };
    wire::Link {
        address: link.address.into(),
        mode: mode_out(link.mode).into(),
        ports: link.ports.iter().map(port).collect(),
        plane: plane_out(link.plane).into(),
    }
}

fn link_in(link: &wire::Link) -> Result<Link, FieldError> {
    let port = |p: &wire::LinkPort| {
        Ok(LinkPort {
            port: port_number("link.ports.port", p.port)?,
            container_port: port_number("link.ports.container_port", p.container_port)?,
            protocol: protocol_in(p.protocol)?,
        })
    };
    Ok(Link {
        address: link.address.into(),
        mode: mode_in(link.mode).ok_or_else(|| wrong("link.mode", "is not one that this version knows"))?,
        ports: link.ports.iter().map(port).collect::<Result<_, _>>()?,
        plane: plane_in(link.plane),
    })
}

/// A node, to the wire.
pub fn node_out(node: &Node) -> wire::DirectoryNode {
    wire::DirectoryNode {
        name: Some(node_name_out(&node.key)),
        host_name: text(node.host_name.as_ref()),
        addresses: addresses_out(&node.addresses),
        az: node.az.clone().unwrap_or_default(),
    }
}

/// A node, from the wire.
///
/// # Errors
/// The field that cannot be meant.
pub fn node_in(node: wire::DirectoryNode) -> Result<Node, FieldError> {
    Ok(Node {
        key: node_name_in(node.name.as_ref())?,
        host_name: some_label("host_name", &node.host_name)?,
        addresses: addresses_in("addresses", &node.addresses)?,
        az: some_text(node.az),
    })
}

/// The endpoints of a service, to the wire. A set that is not known here is sent as empty.
pub fn service_set_out(service: &Service) -> wire::ServiceSet {
    let endpoints = service.known_endpoints().map(|endpoints| endpoints.iter().map(endpoint_out).collect());
    wire::ServiceSet {
        name: Some(service_name_out(&service.key)),
        index: service.index,
        endpoints: endpoints.unwrap_or_default(),
    }
}

/// A service set from the wire: whose it is, its index, and its endpoints; one that cannot be read is left out.
///
/// # Errors
/// When it cannot be told whose set it is.
pub fn service_set_in(set: &wire::ServiceSet) -> Result<(ServiceKey, u64, Arc<[Endpoint]>), FieldError> {
    let key = service_name_in(set.name.as_ref())?;
    Ok((key, set.index, set.endpoints.iter().filter_map(|endpoint| endpoint_in(endpoint).ok()).collect()))
}

fn endpoint_out(endpoint: &Endpoint) -> wire::Endpoint {
    let state = match endpoint.state {
        State::Usable => wire::State::Usable,
        State::Unverified(Standing::Vouched) => wire::State::Unverified,
        State::Unverified(Standing::Last) => wire::State::UnverifiedLast,
        State::Draining { passed: true } => wire::State::Draining,
        State::Draining { passed: false } => wire::State::DrainingUnpassed,
        State::Unusable => wire::State::Unusable,
        State::Starting => wire::State::Starting,
        State::Gone => wire::State::Gone,
    };
    wire::Endpoint {
        node: Some(node_name_out(&endpoint.key.node)),
        container_id: endpoint.key.container_id.clone(),
        run: endpoint.key.run.0,
        container_port: endpoint.key.container_port.into(),
        protocol: protocol_out(endpoint.key.protocol).into(),
        state: state.into(),
        addresses: addresses_out(&endpoint.addresses),
        port: endpoint.port.into(),
        port_name: text(endpoint.port_name.as_ref()),
        container: endpoint.container.to_string(),
        task_id: endpoint.task_id.clone().unwrap_or_default(),
        az: endpoint.az.clone().unwrap_or_default(),
        weight: endpoint.weight.into(),
        is_service_port: endpoint.is_service_port,
        tags: endpoint.tags.clone(),
        meta: meta_out(&endpoint.meta),
    }
}

fn endpoint_in(endpoint: &wire::Endpoint) -> Result<Endpoint, FieldError> {
    let addresses = addresses_in("endpoints.addresses", &endpoint.addresses)?;
    if addresses.is_empty() {
        return Err(wrong("endpoints.addresses", "is empty"));
    }
    Ok(Endpoint {
        key: EndpointKey {
            node: node_name_in(endpoint.node.as_ref())?,
            container_id: endpoint.container_id.clone(),
            run: Run(endpoint.run),
            container_port: port_number("endpoints.container_port", endpoint.container_port)?,
            protocol: protocol_in(endpoint.protocol)?,
        },
        state: state_in(endpoint.state)?,
        addresses,
        port: port_number("endpoints.port", endpoint.port)?,
        port_name: some_label("endpoints.port_name", &endpoint.port_name)?,
        container: label("endpoints.container", &endpoint.container)?,
        task_id: some_text(endpoint.task_id.clone()),
        az: some_text(endpoint.az.clone()),
        weight: port_number("endpoints.weight", endpoint.weight)?,
        is_service_port: endpoint.is_service_port,
        tags: endpoint.tags.clone(),
        meta: meta_in(endpoint.meta.clone()),
    })
}

fn state_in(state: i32) -> Result<State, FieldError> {
    Ok(match wire::State::try_from(state).unwrap_or_default() {
        wire::State::Unspecified => return Err(wrong("endpoints.state", "is not one that this version knows")),
        wire::State::Usable => State::Usable,
        wire::State::Unverified => State::Unverified(Standing::Vouched),
        wire::State::UnverifiedLast => State::Unverified(Standing::Last),
        wire::State::Draining => State::Draining { passed: true },
        wire::State::DrainingUnpassed => State::Draining { passed: false },
        wire::State::Unusable => State::Unusable,
        wire::State::Starting => State::Starting,
        wire::State::Gone => State::Gone,
    })
}

/// The digest of a directory: the sum of a hash of each entry, so it needs no order.
pub fn directory_digest<'a>(services: impl Iterator<Item = &'a Service>, nodes: impl Iterator<Item = &'a Node>) -> u64 {
    let listed = |service: &Service| {
        // Peers of the last version know no planes: one that is told and not understood is no difference.
        let link = service.link.clone().map(|link| Link { plane: None, ..link });
        digest_of(1, &directory_service_out(&service.key, link.as_ref()))
    };
    let services = services.map(listed);
    services.chain(nodes.map(|n| digest_of(2, &node_out(n)))).fold(0, u64::wrapping_add)
}

/// The digest of followed sets. The index of a set does not count: only what it holds.
pub fn sets_digest<'a>(services: impl Iterator<Item = &'a Service>) -> u64 {
    let sets = services.map(|s| digest_of(3, &wire::ServiceSet { index: 0, ..service_set_out(s) }));
    sets.fold(0, u64::wrapping_add)
}

fn digest_of(kind: u8, message: &impl Message) -> u64 {
    hash::stable(&[&[kind], &message.encode_to_vec()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_core::endpoint::Protocol;
    use portolan_core::evidence::LinkPlane;
    use portolan_core::name::Label;
    use portolan_core::view::LinkMode;

    fn service(state: State) -> Service {
        let key = ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed("es") };
        let node = NodeKey { cluster: Label::fixed("prod"), node: Label::fixed("i-1") };
        let endpoint = Endpoint {
            key: EndpointKey {
                node,
                container_id: "c".into(),
                run: Run(1),
                container_port: 9200,
                protocol: Protocol::Tcp,
            },
            state,
            addresses: vec!["10.0.0.1".parse().unwrap()],
            port: 32768,
            port_name: Some(Label::fixed("http")),
            container: Label::fixed("es"),
            task_id: Some("0123".into()),
            az: Some("a".into()),
            weight: 1,
            is_service_port: true,
            tags: vec!["t".into()],
            meta: vec![("k".into(), "v".into())],
        };
        let link = Link {
            address: "198.18.3.4".parse().unwrap(),
            mode: LinkMode::Vip,
            ports: vec![LinkPort { port: 80, container_port: 9200, protocol: Protocol::Tcp }],
            plane: Some(LinkPlane::Ebpf),
        };
        Service { key, index: 9, link: Some(link), endpoints: EndpointSet::Known([endpoint].into()) }
    }

    #[test]
    fn every_state_survives_the_wire() {
        let drained = |passed| State::Draining { passed };
        let unverified = [State::Unverified(Standing::Vouched), State::Unverified(Standing::Last)];
        for state in [State::Usable, drained(true), drained(false), State::Unusable, State::Starting, State::Gone]
            .into_iter()
            .chain(unverified)
        {
            let sent = service(state);
            let (key, index, endpoints) = service_set_in(&service_set_out(&sent)).unwrap();
            assert_eq!((key, index, &endpoints), (sent.key.clone(), 9, sent.known_endpoints().unwrap()));
            let listed = directory_service_in(&directory_service_out(&sent.key, sent.link.as_ref()), 9).unwrap();
            assert_eq!(listed.link, sent.link);
        }
    }

    #[test]
    fn a_set_of_ten_thousand_nodes_fits_one_message() {
        let mut large = service(State::Usable);
        let mut one = large.known_endpoints().unwrap()[0].clone();
        one.key.container_id = "c".repeat(64);
        one.task_id = Some("t".repeat(32));
        one.tags = vec!["a tag of usual length".into(); 4];
        one.meta = vec![("a.key.of.usual.length".into(), "with a value that says something".into()); 4];
        large.endpoints = EndpointSet::Known(vec![one; 10_000].into());
        let length = service_set_out(&large).encoded_len();
        assert!((crate::MESSAGE_BYTES_MAX..crate::TOLD_BYTES_MAX).contains(&length), "{length}");
    }

    #[test]
    fn a_peer_that_knows_no_planes_holds_the_same() {
        let told = service(State::Usable);
        let link = told.link.clone().map(|link| Link { plane: None, ..link });
        let understood = Service { link, ..told.clone() };
        let digest = |service| directory_digest([service].into_iter(), [].into_iter());
        assert_eq!(digest(&told), digest(&understood), "or both would exchange everything every 30 s");
        let unlinked = Service { link: None, ..told.clone() };
        assert_ne!(digest(&told), digest(&unlinked));
    }

    #[test]
    fn a_digest_tells_sets_apart_whatever_their_index() {
        let (a, mut b) = (service(State::Usable), service(State::Usable));
        b.index = 10;
        assert_eq!(sets_digest([&a].into_iter()), sets_digest([&b].into_iter()));
        let c = service(State::Unusable);
        assert_ne!(sets_digest([&a].into_iter()), sets_digest([&c].into_iter()));
    }
}
