//! The sidecar's settings: the list that flags, environment and file are read by, and the struct they are read into.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use portolan_core::evidence::LinkPlane;
use portolan_dns::forward::routes::Upstream;
use portolan_dns::gate::{self, GateSettings};
use portolan_runtime::logging::LogSettings;
use portolan_runtime::settings::{Kind, Setting, duration};
use serde::Deserialize;

const fn text(key: &'static str, default: &'static str, accepts: &'static str, help: &'static str) -> Setting {
    Setting { key, kind: Kind::Text(accepts), default, help }
}

const fn list(key: &'static str, accepts: &'static str, help: &'static str) -> Setting {
    Setting { key, kind: Kind::List(accepts), default: "", help }
}

/// Every setting of the sidecar.
pub const SETTINGS: &[Setting] = &[
    text("zone", "ecs.internal", "a DNS zone", "The zone that names are in."),
    text(
        "cluster",
        "",
        "a name or an ARN",
        "This node's cluster: what ECS labels do not say of a container; else `local`.",
    ),
    text("node", "", "a name", "This node's name; else a hash of its machine id."),
    list("address", "an IP address", "Addresses of this node that others can reach; else that of the default route."),
    text("az", "", "a name, such as eu-west-1a", "This node's availability zone: endpoints there are preferred."),
    list("registry", "http://ADDRESS:PORT", "Registries, tried in turn; else http://127.0.0.1:8502."),
    text("data_dir", "/var/lib/portolan", "a folder", "Where the last view is kept."),
    Setting {
        key: "guard",
        kind: Kind::Duration,
        default: "60s",
        help: "How long a host port that a death freed stays closed to other hosts, when nobody says sooner that its former owner is forgotten; 0s: never closed.",
    },
    text("docker.socket", "/var/run/docker.sock", "a path", "Docker's socket."),
    text(
        "sidecar.dns",
        "169.254.53.53:53",
        "an IPv4 address and port",
        "Where containers ask. The same on every node.",
    ),
    text("sidecar.admin", "127.0.0.1:8510", "a loopback address and port", "Status and metrics over HTTP."),
    text("sidecar.relay_port", "8509", "a port", "The relay's port, on the address of `sidecar.dns`."),
    text(
        "sidecar.owners_port",
        "8511",
        "a port",
        "Where nodes without a registry ask each other who owns a host port, on each `address`. The same on every node; 0: they do not.",
    ),
    gate::SETTINGS[0],
    gate::SETTINGS[1],
    list(
        "upstreams",
        "ADDRESS, ADDRESS:PORT, or SUFFIX=ADDRESS:PORT for names that end in SUFFIX",
        "Resolvers for names outside the zone; else those of /etc/resolv.conf.",
    ),
    text("link.range", "198.18.0.0/16", "an IPv4 network", "The virtual addresses. Portolan's alone on this node."),
    Setting {
        key: "link.connections_max",
        kind: Kind::Number,
        default: "20000",
        help: "Connections and UDP sessions at once over all links; what the limit of open files allows if that is less.",
    },
    Setting {
        key: "link.connections_per_service_max",
        kind: Kind::Number,
        default: "10000",
        help: "The same over the links of one service, so that its clients cannot starve others.",
    },
    Setting {
        key: "link.udp_timeout",
        kind: Kind::Duration,
        default: "60s",
        help: "How long a UDP session over a link lives that nobody uses.",
    },
    Setting {
        key: "link.plane",
        kind: Kind::Choice(&["proxy", "ebpf"]),
        default: "proxy",
        help: "How links are carried, where no label says: through the relay, or by the kernel itself.",
    },
    text(
        "link.cgroup",
        "",
        "a folder of a cgroup v2 hierarchy",
        "Whose connections the kernel leads; else everybody's.",
    ),
    text("link.pins", "/sys/fs/bpf/portolan", "a folder of a BPF file system", "Where the kernel's part is kept."),
];

/// The settings as read.
///
/// Keys of others pass: `portolan dev` reads the settings of two programs from one file, and the list refuses unknown keys.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// `zone`.
    pub zone: String,
    /// `cluster`.
    pub cluster: Option<String>,
    /// `node`.
    pub node: Option<String>,
    /// `address`.
    #[serde(default)]
    pub address: Vec<IpAddr>,
    /// `az`.
    pub az: Option<String>,
    /// `registry`.
    #[serde(default)]
    pub registry: Vec<String>,
    /// `data_dir`.
    pub data_dir: PathBuf,
    /// `guard`.
    #[serde(deserialize_with = "portolan_runtime::settings::duration")]
    pub guard: Duration,
    /// `docker.*`.
    pub docker: Docker,
    /// `sidecar.*`.
    pub sidecar: Listeners,
    /// `dns.*`: who may ask. Containers of this node always may.
    pub dns: GateSettings,
    /// `upstreams`.
    pub upstreams: Option<Vec<Upstream>>,
    /// `link.*`.
    pub link: Link,
    /// `log.*`.
    pub log: LogSettings,
}

/// `docker.*`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Docker {
    /// `docker.socket`.
    pub socket: PathBuf,
}

/// `sidecar.*`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    /// `sidecar.dns`.
    pub dns: SocketAddrV4,
    /// `sidecar.admin`.
    pub admin: SocketAddr,
    /// `sidecar.relay_port`.
    #[serde(deserialize_with = "port")]
    pub relay_port: u16,
    /// `sidecar.owners_port`.
    #[serde(deserialize_with = "port")]
    pub owners_port: u16,
}

/// `link.*`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// `link.range`.
    pub range: Ipv4Net,
    /// `link.connections_max`.
    pub connections_max: usize,
    /// `link.connections_per_service_max`.
    pub connections_per_service_max: usize,
    /// `link.udp_timeout`.
    #[serde(deserialize_with = "duration")]
    pub udp_timeout: Duration,
    /// `link.plane`.
    pub plane: LinkPlane,
    /// `link.cgroup`.
    pub cgroup: Option<PathBuf>,
    /// `link.pins`.
    pub pins: PathBuf,
}

/// Ports come as text, as every setting with words of its own does.
fn port<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}
