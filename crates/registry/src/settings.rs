//! The registry's settings: the list that flags, environment and file are read by, and the struct they are read into.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
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
    list("upstreams", "ADDRESS:PORT", "Resolvers for names outside the zone; else those of /etc/resolv.conf."),
    text(
        "link.range",
        "198.18.0.0/16",
        "an IPv4 network",
        "Where virtual addresses are given from. The same as the sidecars'.",
    ),
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
    pub dns: Listen,
    /// `http.*`.
    pub http: Listen,
    /// `grpc.*`.
    pub grpc: Listen,
    /// `upstreams`: for the names of declared services.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// `link.*`.
    pub link: Link,
    /// `log.*`.
    pub log: LogSettings,
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
