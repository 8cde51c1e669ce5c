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
//!
//! `name/CLUSTER/NODE/CONTAINER` and `family/CLUSTER/FAMILY` are reserved for names chosen by what only ECS knew at that
//! moment; every other name follows from the container's own labels, which never change while it lives. A path that
//! this version does not know is kept and not read.

use std::fmt;
use std::net::Ipv4Addr;

use portolan_core::name::{Label, NodeKey, ServiceKey};

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
    /// What another version wrote.
    Other(String),
}

impl Key {
    /// Reads a path.
    pub fn parse(path: &str) -> Key {
        let mut parts = path.split('/');
        let kind = parts.next().unwrap_or_default();
        let key = match (kind, parts.next(), parts.next(), parts.next()) {
            ("session", None, None, None) => Some(Key::Session),
            ("address", Some(address), None, None) => address.parse().ok().map(Key::Address),
            (_, Some(cluster), Some(name), None) => labels(cluster, name).and_then(|(a, b)| of_kind(kind, a, b)),
            _ => None,
        };
        key.unwrap_or_else(|| Key::Other(path.to_owned()))
    }
}

fn labels(cluster: &str, name: &str) -> Option<(Label, Label)> {
    Some((Label::parse(cluster).ok()?, Label::parse(name).ok()?))
}

fn of_kind(kind: &str, cluster: Label, name: Label) -> Option<Key> {
    let node = NodeKey { cluster: cluster.clone(), node: name.clone() };
    let service = ServiceKey { cluster, service: name };
    match kind {
        "node" => Some(Key::Node(node)),
        "presence" => Some(Key::Presence(node)),
        "owner" => Some(Key::Owner(service)),
        "link" => Some(Key::Link(service)),
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
            Key::Other(path) => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_keeps_what_it_does_not_know() {
        for path in
            ["node/prod/i-1", "presence/prod/i-1", "owner/prod/web", "link/prod/web", "address/198.18.3.4", "session"]
        {
            let key = Key::parse(path);
            assert!(!matches!(key, Key::Other(_)), "{path}");
            assert_eq!(key.to_string(), path);
        }
        for path in [
            "name/prod/i-1/abc",
            "family/prod/web",
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
