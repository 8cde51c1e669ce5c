//! An endpoint: one port of one run of one container, where it can be reached, and in which state the rules put it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::{Label, NodeKey};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As it stands in a name: `tcp` or `udp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One run of a container: Docker's `StartedAt`, in nanoseconds since 1970. A restart is another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run(pub u64);

/// What makes two endpoints the same one (DESIGN section 5). The address is an attribute, not a part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointKey {
    /// Where it runs.
    pub node: NodeKey,
    /// Docker's container id, 64 hexadecimal digits.
    pub container_id: String,
    /// Which run of that container.
    pub run: Run,
    /// The port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// Where the rules put an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Answered.
    Usable,
    /// Its node is silent and it was usable: answered, by its standing first or last.
    Unverified(Standing),
    /// Stopping: out of answers while anything usable is left.
    Draining {
        /// Whether its last check passed: such ones are answered before unusable ones.
        passed: bool,
    },
    /// Paused or failing its check: answered only when nothing better is left (fail open).
    Unusable,
    /// Not yet passed its first check: never answered.
    Starting,
    /// Ended: never answered.
    Gone,
}

/// In which order an unverified endpoint is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A neighbour connects to it: as good as usable.
    Vouched,
    /// Nobody knows: used when no usable one is left.
    Last,
}

impl State {
    /// One word, as it stands in the API, in logs and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Usable => "usable",
            State::Unverified(_) => "unverified",
            State::Draining { .. } => "draining",
            State::Unusable => "unusable",
            State::Starting => "starting",
            State::Gone => "gone",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One endpoint of a service, as surfaces show it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its identity.
    pub key: EndpointKey,
    /// Its state by the rules.
    pub state: State,
    /// Addresses that other nodes can reach, IPv4 before IPv6. Never empty.
    pub addresses: Vec<IpAddr>,
    /// The port to connect to: the host port, or the container's own in host and awsvpc mode.
    pub port: u16,
    /// Port name by label or ECS port mapping.
    pub port_name: Option<Label>,
    /// The container's name within its task.
    pub container: Label,
    /// ECS task id, 32 hexadecimal digits.
    pub task_id: Option<String>,
    /// The availability zone of its node.
    pub az: Option<String>,
    /// SRV weight.
    pub weight: u16,
    /// Whether its port belongs to the service's own names: false when two containers of the service have the same port
    /// and this one is not labelled primary.
    pub is_service_port: bool,
    /// Tags.
    pub tags: Vec<String>,
    /// Metadata, in the order of its keys.
    pub meta: Vec<(String, String)>,
}
