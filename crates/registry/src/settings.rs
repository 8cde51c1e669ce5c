//! The registry's settings: the list that flags, environment and file are read by, and the struct they are read into.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use portolan_dns::forward::routes::Upstream;
use portolan_dns::gate::{self, GateSettings};
use portolan_runtime::logging::LogSettings;
use portolan_runtime::settings::{Kind, Setting};
use serde::Deserialize;

const fn text(key: &'static str, default: &'static str, accepts: &'static str, help: &'static str) -> Setting {
    Setting { key, kind: Kind::Text(accepts), default, help }
}

const fn list(key: &'static str, accepts: &'static str, help: &'static str) -> Setting {
    Setting { key, kind: Kind::List(accepts), default: "", help }
}

const LOOPBACK: &str = "a loopback address and port";

/// Every setting of the registry.
pub const SETTINGS: &[Setting] = &[
    text("zone", "ecs.internal", "a DNS zone", "The zone that names are in."),
    text("data_dir", "/var/lib/portolan", "a folder", "Where the store is kept."),
    text("dns.listen", "127.0.0.1:8600", "an address and port", "Where DNS is answered."),
    text("http.listen", "127.0.0.1:8500", LOOPBACK, "Where the HTTP API is."),
    text("grpc.listen", "127.0.0.1:8502", LOOPBACK, "Where sidecars connect."),
    gate::SETTINGS[0],
    gate::SETTINGS[1],
    list(
        "upstreams",
        "ADDRESS, ADDRESS:PORT, or SUFFIX=ADDRESS:PORT for names that end in SUFFIX",
        "Resolvers for names outside the zone; else those of /etc/resolv.conf.",
    ),
    text(
        "link.range",
        "198.18.0.0/16",
        "an IPv4 network",
        "Where virtual addresses are given from. The same as the sidecars'.",
    ),
    Setting {
        key: "aws.clusters",
        kind: Kind::List("the name or ARN of an ECS cluster"),
        default: "",
        help: "Clusters that AWS is asked about. Without any, AWS is not used.",
    },
    text("aws.region", "", "an AWS region", "Where they are. By default as the AWS SDK finds it."),
    text("aws.endpoint", "", "a URL", "Where all of AWS is, for a double or a proxy."),
    text(
        "aws.queue",
        "",
        "the URL of an SQS queue",
        "Where EventBridge puts the clusters' events. Without it, listings alone.",
    ),
    Setting {
        key: "aws.calls_per_second",
        kind: Kind::Number,
        default: "2",
        help: "How many calls of ECS and EC2 a second at most, from 1 to 100. Others share the account's limits.",
    },
];

/// The settings as read.
///
/// Keys of others pass: `portolan dev` reads the settings of two programs from one file, and the list refuses unknown keys.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// `zone`.
    pub zone: String,
    /// `data_dir`.
    pub data_dir: PathBuf,
    /// `dns.*`.
    pub dns: Dns,
    /// `http.*`.
    pub http: Listen,
    /// `grpc.*`.
    pub grpc: Listen,
    /// `upstreams`: for the names of declared services.
    pub upstreams: Option<Vec<Upstream>>,
    /// `link.*`.
    pub link: Link,
    /// `aws.*`.
    pub aws: Aws,
    /// `log.*`.
    pub log: LogSettings,
}

/// `dns.*`.
#[derive(Debug, Clone, Deserialize)]
pub struct Dns {
    /// `dns.listen`.
    pub listen: SocketAddr,
    /// Who may ask.
    #[serde(flatten)]
    pub gate: GateSettings,
}

/// One listener.
#[derive(Debug, Clone, Deserialize)]
pub struct Listen {
    /// Where.
    pub listen: SocketAddr,
}

/// `link.*`.
#[derive(Debug, Clone, Deserialize)]
pub struct Link {
    /// `link.range`.
    pub range: Ipv4Net,
}

/// `aws.*`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Aws {
    /// `aws.clusters`: names or ARNs.
    #[serde(default)]
    pub clusters: Vec<String>,
    /// `aws.region`.
    pub region: Option<String>,
    /// `aws.endpoint`.
    pub endpoint: Option<String>,
    /// `aws.queue`.
    pub queue: Option<String>,
    /// `aws.calls_per_second`.
    pub calls_per_second: u32,
}
