//! Keys: what a store may hold, as paths that a person can read.
//!
//! | path | value |
//! | --- | --- |
//! | `node/CLUSTER/NODE` | the node's newest report, the bytes as they came |
//! | `presence/CLUSTER/NODE` | whether it speaks, and since when not ([`Presence`](super::record::Presence)) |
//! | `owner/CLUSTER/SERVICE` | who may use the name; a service is known while it has one ([`Owner`](super::record::Owner)) |
//! | `link/CLUSTER/SERVICE` | its mode and virtual address ([`LinkRecord`](super::record::LinkRecord)) |
//! | `address/A.B.C.D` | whose virtual address it is ([`AddressRecord`](super::record::AddressRecord)) |
//! | `session` | up to which number sessions were given |
//! | `cluster/CLUSTER` | ECS is asked about this cluster ([`ClusterRecord`](super::evidence::ClusterRecord)) |
//! | `ecs/CLUSTER/NODE` | what ECS says of a container instance ([`EcsReport`](portolan_core::ecs::EcsReport)) |
//! | `service/CLUSTER/SERVICE` | what ECS says of a service ([`ServiceRecord`](super::evidence::ServiceRecord)) |
//! | `family/CLUSTER/FAMILY` | which services a family's tasks belonged to ([`FamilyRecord`](super::evidence::FamilyRecord)) |
//! | `name/CLUSTER/NODE/CONTAINER` | a name that was given by what only ECS knew ([`NameRecord`](super::evidence::NameRecord)) |
//! | `alone/CLUSTER/NODE` | no sidecar spoke there in time ([`AloneRecord`](super::evidence::AloneRecord)) |
//! | `absence/CLUSTER/NODE` | missing tasks that may go ([`AbsenceRecord`](super::evidence::AbsenceRecord)) |
//! | `probe/CLUSTER/NODE` | what neighbours met there ([`ProbeRecord`](super::evidence::ProbeRecord)) |
//! | `external/CLUSTER/SERVICE` | declared endpoints ([`ExternalRecord`](super::evidence::ExternalRecord)) |
//! | `resolved/CLUSTER/SERVICE` | where those are ([`ResolvedRecord`](super::evidence::ResolvedRecord)) |
//! | `order/node/CLUSTER/NODE`, `order/task/ID`, `order/container/ID` | an operator's order ([`OrderRecord`](super::evidence::OrderRecord)) |
//!
//! A name that is not under `name/` follows from the container's own labels, which never change while it lives. A path
//! that this version does not know is kept and not read.

use std::fmt;
use std::net::Ipv4Addr;

use portolan_core::name::{Label, NodeKey, ServiceKey};
use serde::{Deserialize, Serialize};

/// The longest id of a task or a container; Docker's have 64 characters, ECS's own containers up to 300 with their names.
const ID_OCTETS_MAX: usize = 320;

/// The name of one entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `node/CLUSTER/NODE`.
    Node(NodeKey),
    /// `presence/CLUSTER/NODE`.
    Presence(NodeKey),
    /// `owner/CLUSTER/SERVICE`.
    Owner(ServiceKey),
    /// `link/CLUSTER/SERVICE`.
    Link(ServiceKey),
    /// `address/A.B.C.D`.
    Address(Ipv4Addr),
    /// `session`.
    Session,
    /// `cluster/CLUSTER`.
    Cluster(Label),
    /// `ecs/CLUSTER/NODE`; the node of a part without instance is one that no machine has.
    Ecs(NodeKey),
    /// `service/CLUSTER/SERVICE`.
    Service(ServiceKey),
    /// `family/CLUSTER/FAMILY`.
    Family(Label, Label),
    /// `name/CLUSTER/NODE/CONTAINER`.
    Name(NodeKey, String),
    /// `alone/CLUSTER/NODE`.
    Alone(NodeKey),
    /// `absence/CLUSTER/NODE`.
    Absence(NodeKey),
    /// `probe/CLUSTER/NODE`.
    Probe(NodeKey),
    /// `external/CLUSTER/SERVICE`.
    External(ServiceKey),
    /// `resolved/CLUSTER/SERVICE`.
    Resolved(ServiceKey),
    /// `order/...`.
    Order(Target),
    /// What another version wrote.
    Other(String),
}

/// What an operator's order is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Everything on a node.
    Node(NodeKey),
    /// A task, by the last part of its ARN.
    Task(String),
    /// A container, by its id.
    Container(String),
    /// A service's link.
    Service(ServiceKey),
}

impl Key {
    /// Reads a path.
    pub fn parse(path: &str) -> Key {
        let mut parts = path.split('/');
        let kind = parts.next().unwrap_or_default();
        let key = match (kind, parts.next(), parts.next(), parts.next()) {
            ("session", None, None, None) => Some(Key::Session),
            ("address", Some(address), None, None) => address.parse().ok().map(Key::Address),
            ("cluster", Some(cluster), None, None) => Label::parse(cluster).ok().map(Key::Cluster),
            ("order", Some("task"), Some(id), None) => id_part(id).map(Target::Task).map(Key::Order),
            ("order", Some("container"), Some(id), None) => id_part(id).map(Target::Container).map(Key::Order),
            ("order", Some("node"), Some(cluster), Some(node)) if parts.next().is_none() => {
                labels(cluster, node).map(|(cluster, node)| Key::Order(Target::Node(NodeKey { cluster, node })))
            }
            ("order", Some("service"), Some(cluster), Some(service)) if parts.next().is_none() => {
                labels(cluster, service)
                    .map(|(cluster, service)| Key::Order(Target::Service(ServiceKey { cluster, service })))
            }
            ("name", Some(cluster), Some(node), Some(container)) if parts.next().is_none() => labels(cluster, node)
                .zip(id_part(container))
                .map(|((cluster, node), id)| Key::Name(NodeKey { cluster, node }, id)),
            (_, Some(cluster), Some(name), None) => labels(cluster, name).and_then(|(a, b)| of_kind(kind, a, b)),
            _ => None,
        };
        key.unwrap_or_else(|| Key::Other(path.to_owned()))
    }
}

fn labels(cluster: &str, name: &str) -> Option<(Label, Label)> {
    Some((Label::parse(cluster).ok()?, Label::parse(name).ok()?))
}

/// Whether `text` can be the id of a task or a container in a key: letters, digits and hyphens, and so no slash.
pub fn is_id(text: &str) -> bool {
    (1..=ID_OCTETS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn id_part(text: &str) -> Option<String> {
    is_id(text).then(|| text.to_owned())
}

fn of_kind(kind: &str, cluster: Label, name: Label) -> Option<Key> {
    let node = NodeKey { cluster: cluster.clone(), node: name.clone() };
    let service = ServiceKey { cluster: cluster.clone(), service: name.clone() };
    match kind {
        "node" => Some(Key::Node(node)),
        "presence" => Some(Key::Presence(node)),
        "owner" => Some(Key::Owner(service)),
        "link" => Some(Key::Link(service)),
        "ecs" => Some(Key::Ecs(node)),
        "service" => Some(Key::Service(service)),
        "family" => Some(Key::Family(cluster, name)),
        "alone" => Some(Key::Alone(node)),
        "absence" => Some(Key::Absence(node)),
        "probe" => Some(Key::Probe(node)),
        "external" => Some(Key::External(service)),
        "resolved" => Some(Key::Resolved(service)),
        _ => None,
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Node(key) => write!(f, "node/{}/{}", key.cluster, key.node),
            Key::Presence(key) => write!(f, "presence/{}/{}", key.cluster, key.node),
            Key::Owner(key) => write!(f, "owner/{}/{}", key.cluster, key.service),
            Key::Link(key) => write!(f, "link/{}/{}", key.cluster, key.service),
            Key::Address(address) => write!(f, "address/{address}"),
            Key::Session => f.write_str("session"),
            Key::Cluster(cluster) => write!(f, "cluster/{cluster}"),
            Key::Ecs(key) => write!(f, "ecs/{}/{}", key.cluster, key.node),
            Key::Service(key) => write!(f, "service/{}/{}", key.cluster, key.service),
            Key::Family(cluster, family) => write!(f, "family/{cluster}/{family}"),
            Key::Name(key, container) => write!(f, "name/{}/{}/{container}", key.cluster, key.node),
            Key::Alone(key) => write!(f, "alone/{}/{}", key.cluster, key.node),
            Key::Absence(key) => write!(f, "absence/{}/{}", key.cluster, key.node),
            Key::Probe(key) => write!(f, "probe/{}/{}", key.cluster, key.node),
            Key::External(key) => write!(f, "external/{}/{}", key.cluster, key.service),
            Key::Resolved(key) => write!(f, "resolved/{}/{}", key.cluster, key.service),
            Key::Order(Target::Node(key)) => write!(f, "order/node/{}/{}", key.cluster, key.node),
            Key::Order(Target::Service(key)) => write!(f, "order/service/{}/{}", key.cluster, key.service),
            Key::Order(Target::Task(id)) => write!(f, "order/task/{id}"),
            Key::Order(Target::Container(id)) => write!(f, "order/container/{id}"),
            Key::Other(path) => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_keeps_what_it_does_not_know() {
        for path in [
            "node/prod/i-1",
            "presence/prod/i-1",
            "owner/prod/web",
            "link/prod/web",
            "address/198.18.3.4",
            "session",
            "cluster/prod",
            "ecs/prod/i-1",
            "service/prod/web",
            "family/prod/web",
            "name/prod/i-1/abc",
            "alone/prod/i-1",
            "absence/prod/i-1",
            "probe/prod/i-1",
            "external/prod/db",
            "resolved/prod/db",
            "order/node/prod/i-1",
            "order/task/0123",
            "order/container/0123",
            "order/service/prod/web",
        ] {
            let key = Key::parse(path);
            assert!(!matches!(key, Key::Other(_)), "{path}");
            assert_eq!(key.to_string(), path);
        }
        for path in [
            "order/pod/1",
            "order/task/a b",
            "name/prod/i-1",
            "node/prod",
            "node/prod/i-1/more",
            "address/1.2.3",
            "link/p rod/x",
            "",
        ] {
            assert_eq!(Key::parse(path), Key::Other(path.to_owned()));
        }
    }
}
