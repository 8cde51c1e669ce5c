//! A view: the immutable value that every surface reads. The registry builds one of all services; a sidecar holds one
//! whose services are all listed (the directory) and whose endpoint sets are known where they are followed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, Protocol};
use crate::evidence::LinkPlane;
use crate::name::{Label, NodeKey, ServiceKey};

/// Everything that can be asked about, at one moment. Cloning shares what did not change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// Whether answers may be given.
    pub readiness: Readiness,
    /// The index of the newest change in this view.
    pub index: u64,
    /// Every known service, with or without endpoints.
    pub services: imbl::OrdMap<ServiceKey, Arc<Service>>,
    /// Every known node.
    pub nodes: imbl::OrdMap<NodeKey, Arc<Node>>,
    /// Names behind addresses, for PTR.
    pub reverse: imbl::HashMap<IpAddr, ReverseName>,
    /// Clusters that have or had a service or node: `CLUSTER.ZONE` exists for these.
    pub clusters: imbl::OrdSet<Label>,
}

/// Whether a view may be answered from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Nothing complete was ever loaded: SERVFAIL, never NXDOMAIN.
    #[default]
    Loading,
    /// Loaded from disk; the witnesses have not yet spoken, or the registry is out of reach.
    Stale,
    /// Complete and current.
    Current,
}

/// One service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub key: ServiceKey,
    /// The index at which it last changed.
    pub index: u64,
    /// Its link, once one was decided.
    pub link: Option<Link>,
    /// Its endpoints, if they are known here.
    pub endpoints: EndpointSet,
}

/// The endpoints of a service as far as this view knows them.
#[derive(Debug, Clone, PartialEq)]
pub enum EndpointSet {
    /// In the directory only: follow the service first.
    Unfollowed,
    /// Known; none is a legal number. In the order of their keys.
    Known(Arc<[Endpoint]>),
}

/// The stable address of a service and the ports that are linked there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Link {
    /// From the link range; belongs to the service's name for ever.
    pub address: Ipv4Addr,
    /// Whether names answer that address.
    pub mode: LinkMode,
    /// What each port of that address leads to, in the order of the ports.
    pub ports: Vec<LinkPort>,
    /// How it is carried, where a label says so; else each node's own setting does.
    pub plane: Option<LinkPlane>,
}

/// Whether a service's name answers its virtual address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkMode {
    /// Its virtual address.
    Vip,
    /// Its endpoints' own addresses.
    Direct,
}

/// One port of a virtual address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkPort {
    /// The port that clients connect to.
    pub port: u16,
    /// The endpoints it leads to: those with this container port.
    pub container_port: u16,
    /// The protocol of both.
    pub protocol: Protocol,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub key: NodeKey,
    /// Host name, also answered under `node.CLUSTER.ZONE`.
    pub host_name: Option<Label>,
    /// Addresses that other nodes can reach.
    pub addresses: Vec<IpAddr>,
    /// Availability zone.
    pub az: Option<String>,
}

/// What a registered address is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReverseName {
    /// A node's address.
    Node(NodeKey),
    /// A virtual address, or an endpoint's own.
    Service(ServiceKey),
}

impl View {
    /// The service of that name.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The node called `name` in `cluster`: by its own name, else by host name.
    pub fn node(&self, cluster: &Label, name: &Label) -> Option<&Arc<Node>> {
        let key = NodeKey { cluster: cluster.clone(), node: name.clone() };
        self.nodes.get(&key).or_else(|| {
            let named = |node: &&Arc<Node>| &node.key.cluster == cluster && node.host_name.as_ref() == Some(name);
            self.nodes.values().filter(named).min_by(|a, b| a.key.cmp(&b.key))
        })
    }

    /// Puts `service` in, replacing what stood there, and keeps the reverse names and clusters in step.
    pub fn insert_service(&mut self, service: Arc<Service>) {
        self.forget_reverse(&service.key);
        self.clusters.insert(service.key.cluster.clone());
        if let Some(link) = &service.link {
            self.reverse.insert(link.address.into(), ReverseName::Service(service.key.clone()));
        }
        self.services.insert(service.key.clone(), service);
    }

    /// Takes a service out.
    pub fn remove_service(&mut self, key: &ServiceKey) {
        self.forget_reverse(key);
        self.services.remove(key);
    }

    /// Takes the reverse name of a service's address out, unless the address is another's by now.
    fn forget_reverse(&mut self, key: &ServiceKey) {
        let Some(link) = self.services.get(key).and_then(|service| service.link.as_ref()) else { return };
        let address = IpAddr::V4(link.address);
        if self.reverse.get(&address) == Some(&ReverseName::Service(key.clone())) {
            self.reverse.remove(&address);
        }
    }

    /// Puts `node` in, replacing what stood there.
    pub fn insert_node(&mut self, node: Arc<Node>) {
        self.remove_node(&node.key);
        self.clusters.insert(node.key.cluster.clone());
        for address in &node.addresses {
            self.reverse.insert(*address, ReverseName::Node(node.key.clone()));
        }
        self.nodes.insert(node.key.clone(), node);
    }

    /// Takes a node out.
    pub fn remove_node(&mut self, key: &NodeKey) {
        for address in self.nodes.remove(key).iter().flat_map(|n| &n.addresses) {
            if self.reverse.get(address) == Some(&ReverseName::Node(key.clone())) {
                self.reverse.remove(address);
            }
        }
    }
}

impl Service {
    /// The virtual address that this service's names answer on a node with links.
    pub fn virtual_address(&self) -> Option<Ipv4Addr> {
        self.link.as_ref().filter(|link| link.mode == LinkMode::Vip).map(|link| link.address)
    }

    /// The endpoints that are known here.
    pub fn known_endpoints(&self) -> Option<&Arc<[Endpoint]>> {
        match &self.endpoints {
            EndpointSet::Unfollowed => None,
            EndpointSet::Known(endpoints) => Some(endpoints),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_follow_addresses_that_change_hands() {
        let service = |name: &'static str, last: u8| {
            let key = ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed(name) };
            let link = Link { address: [198, 18, 0, last].into(), mode: LinkMode::Vip, ports: Vec::new(), plane: None };
            Arc::new(Service { key, index: 1, link: Some(link), endpoints: EndpointSet::Unfollowed })
        };
        let mut view = View::default();
        for (name, last) in [("a", 1), ("b", 2), ("b", 1), ("a", 3)] {
            view.insert_service(service(name, last));
        }
        let name = |view: &View, last: u8| match view.reverse.get(&IpAddr::from([198, 18, 0, last])) {
            Some(ReverseName::Service(key)) => key.service.to_string(),
            Some(ReverseName::Node(_)) | None => String::new(),
        };
        assert_eq!([1, 2, 3].map(|last| name(&view, last)), ["b", "", "a"]);
        view.remove_service(&service("a", 3).key);
        assert_eq!([1, 2, 3].map(|last| name(&view, last)), ["b", "", ""]);
    }
}
