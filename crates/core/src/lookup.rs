//! What a DNS name means within the zone (DESIGN section 3), before anything is looked up.
//!
//! Labels come as byte slices, as a question carries them, and case is ignored (RFC 4343). A meaning says nothing of
//! existence: that is for the view. Nothing here fails: a name that cannot be ours is [`Meaning::Outside`] or
//! [`Meaning::Unknown`].

mod reverse;
mod text;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::endpoint::Protocol;
use crate::name::{Label, NodeKey, ServiceKey};

pub use reverse::reverse_name;
pub use text::{TextError, parse};

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The zone itself.
    Apex,
    /// `CLUSTER.ZONE`: nothing of its own, but names below it.
    Cluster(Label),
    /// A service, or something below one.
    Service(ServiceKey, Part),
    /// `node.CLUSTER.ZONE`: nothing of its own.
    NodeBranch(Label),
    /// `NODE.node.CLUSTER.ZONE`, by the node's name or its host name.
    Node(NodeKey),
    /// `addr.ZONE`: nothing of its own.
    AddressBranch,
    /// `ip-….addr.ZONE` or `ip6-….addr.ZONE`: that address, always.
    Address(IpAddr),
    /// One label alone: on a node, a service of the asker's cluster.
    Bare(Label),
    /// The name of an address in `in-addr.arpa` or `ip6.arpa`.
    Reverse(IpAddr),
    /// In the zone, but no name can be made like this.
    Unknown,
    /// Not in the zone.
    Outside,
}

/// What of a service is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// `SERVICE.CLUSTER.ZONE`.
    Whole,
    /// `direct.SERVICE.CLUSTER.ZONE`: never the virtual address.
    Direct,
    /// `_PORT._PROTO.SERVICE.CLUSTER.ZONE`: by port name or container port number.
    Port(Label, Protocol),
    /// `_PROTO.SERVICE.CLUSTER.ZONE`: nothing of its own.
    ProtocolBranch(Protocol),
    /// `X.SERVICE.CLUSTER.ZONE`: a task by the first 12 or all 32 characters of its id, else a container.
    Named(Label),
}

/// The zone: the names that are ours. Displayed with the final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    labels: Vec<Label>,
}

/// Why a text cannot be the zone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("zone `{0}` is not one to ten DNS labels joined by dots, at most 100 characters")]
pub struct ZoneError(String);

/// Leaves room for the longest name below the zone within the 255 octets of RFC 1035 section 2.3.4, for usual names.
const ZONE_OCTETS_MAX: usize = 100;
/// More than any zone has; bounds the work per question.
const ZONE_LABELS_MAX: usize = 10;

impl Zone {
    /// Reads `ecs.internal` or `ecs.internal.`.
    ///
    /// # Errors
    /// When a part is no DNS label, there is none, or there is too much.
    pub fn parse(text: &str) -> Result<Zone, ZoneError> {
        let error = || ZoneError(crate::refusal::shown(text, 120));
        let trimmed = text.strip_suffix('.').unwrap_or(text);
        if trimmed.len() > ZONE_OCTETS_MAX {
            return Err(error());
        }
        let labels: Result<Vec<Label>, _> = trimmed.split('.').map(Label::parse).collect();
        let labels = labels.map_err(|_| error())?;
        if labels.len() > ZONE_LABELS_MAX { Err(error()) } else { Ok(Zone { labels }) }
    }

    /// Its labels, the leftmost first.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The name of ours that `name` begins with, if something follows: a search list was tried on it.
    pub fn searched<'n, 'l>(&self, name: &'n [&'l [u8]]) -> Option<&'n [&'l [u8]]> {
        let ends = self.labels.len() + 1..name.len();
        ends.map(|end| &name[..end]).find(|head| self.below(head).is_some())
    }

    /// What stands before the zone in `name`, or `None` when `name` is outside.
    fn below<'n, 'l>(&self, name: &'n [&'l [u8]]) -> Option<&'n [&'l [u8]]> {
        let (below, tail) = name.split_at(name.len().checked_sub(self.labels.len())?);
        let is_ours = tail.iter().zip(&self.labels).all(|(a, b)| a.eq_ignore_ascii_case(b.as_str().as_bytes()));
        is_ours.then_some(below)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.labels.iter().try_for_each(|label| write!(f, "{label}."))
    }
}

/// What `name` means; its labels stand leftmost first, without the root.
pub fn lookup(name: &[&[u8]], zone: &Zone) -> Meaning {
    if let Some(below) = zone.below(name) {
        return within(below).unwrap_or(Meaning::Unknown);
    }
    if let [only] = name {
        return label(only).filter(|l| !is_reserved_bare(l)).map_or(Meaning::Outside, Meaning::Bare);
    }
    reverse::address_of(name).map_or(Meaning::Outside, Meaning::Reverse)
}

/// The meaning of the labels before the zone; `None` when no name is made like this.
fn within(below: &[&[u8]]) -> Option<Meaning> {
    let Some((cluster, rest)) = below.split_last() else {
        return Some(Meaning::Apex);
    };
    let cluster = label(cluster)?;
    if cluster.as_str() == "addr" {
        return match rest {
            [] => Some(Meaning::AddressBranch),
            [text] => address(text).map(Meaning::Address),
            _ => None,
        };
    }
    if cluster.as_str() == "node" {
        return None;
    }
    let Some((service, rest)) = rest.split_last() else {
        return Some(Meaning::Cluster(cluster));
    };
    let service = label(service)?;
    if service.as_str() == "node" {
        return match rest {
            [] => Some(Meaning::NodeBranch(cluster)),
            [node] => Some(Meaning::Node(NodeKey { cluster, node: label(node)? })),
            _ => None,
        };
    }
    Some(Meaning::Service(ServiceKey { cluster, service }, part(rest)?))
}

fn part(below_service: &[&[u8]]) -> Option<Part> {
    match below_service {
        [] => Some(Part::Whole),
        [one] => match one.strip_prefix(b"_") {
            Some(name) => Some(Part::ProtocolBranch(protocol(name)?)),
            None if one.eq_ignore_ascii_case(b"direct") => Some(Part::Direct),
            None => Some(Part::Named(label(one)?)),
        },
        [port, proto] => Some(Part::Port(label(port.strip_prefix(b"_")?)?, protocol(proto.strip_prefix(b"_")?)?)),
        _ => None,
    }
}

fn label(bytes: &[u8]) -> Option<Label> {
    Label::parse(std::str::from_utf8(bytes).ok()?).ok()
}

/// Names with a meaning of their own on every client.
fn is_reserved_bare(label: &Label) -> bool {
    matches!(label.as_str(), "localhost" | "wpad")
}

fn protocol(bytes: &[u8]) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| bytes.eq_ignore_ascii_case(p.as_str().as_bytes()))
}

/// Reads `ip-10-0-3-7` and `ip6-<32 hex digits>`. Only the one way of writing each: `ip-010-0-3-7` is no name.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(bytes).ok()?.to_ascii_lowercase();
    if let Some(digits) = text.strip_prefix("ip6-") {
        let is_hex = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        return is_hex.then(|| u128::from_str_radix(digits, 16).ok()).flatten().map(|n| Ipv6Addr::from(n).into());
    }
    let v4: Ipv4Addr = text.strip_prefix("ip-")?.replace('-', ".").parse().ok()?;
    (address_label(v4.into()) == text).then_some(v4.into())
}

/// The label that stands for `address` before `addr.ZONE`; SRV targets are made of it.
pub fn address_label(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("ip-{a}-{b}-{c}-{d}")
        }
        IpAddr::V6(v6) => format!("ip6-{:032x}", u128::from(v6)),
    }
}

impl Meaning {
    /// The service of the asker's cluster for a bare name; every other meaning as it is.
    pub fn in_cluster(self, cluster: &Label) -> Meaning {
        match self {
            Meaning::Bare(service) if service.as_str() != "node" => {
                Meaning::Service(ServiceKey { cluster: cluster.clone(), service }, Part::Whole)
            }
            other => other,
        }
    }

    /// The full name with this meaning, with the final dot. `None` for those that have no name of their own.
    pub fn full_name(&self, zone: &Zone) -> Option<String> {
        match self {
            Meaning::Apex => Some(zone.to_string()),
            Meaning::Cluster(cluster) => Some(format!("{cluster}.{zone}")),
            Meaning::Service(key, part) => Some(format!("{part}{key}.{zone}")),
            Meaning::NodeBranch(cluster) => Some(format!("node.{cluster}.{zone}")),
            Meaning::Node(key) => Some(format!("{}.node.{}.{zone}", key.node, key.cluster)),
            Meaning::AddressBranch => Some(format!("addr.{zone}")),
            Meaning::Address(address) => Some(format!("{}.addr.{zone}", address_label(*address))),
            Meaning::Bare(service) => Some(format!("{service}.")),
            Meaning::Reverse(address) => Some(reverse_name(*address)),
            Meaning::Unknown | Meaning::Outside => None,
        }
    }
}

/// What stands before `SERVICE.CLUSTER.ZONE`, with its dot.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Whole => Ok(()),
            Part::Direct => f.write_str("direct."),
            Part::Port(port, protocol) => write!(f, "_{port}._{protocol}."),
            Part::ProtocolBranch(protocol) => write!(f, "_{protocol}."),
            Part::Named(name) => write!(f, "{name}."),
        }
    }
}

#[cfg(test)]
mod tests;
