//! A site: a lab with Portolan on its first node, as an administrator would start it there.
//!
//! Every node is a namespace of its own, so the programs keep the ports that their documentation names.

pub mod ecs;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::janitor::{self, Kind};
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::programs::Program;
use crate::wait::{PATIENCE, eventually};
use crate::wire::Wire;

/// The cluster of every node of a site.
pub const CLUSTER: &str = "production";
/// The registry's DNS.
pub const REGISTRY_DNS: SocketAddr = loopback(8600);
/// The registry's HTTP.
pub const REGISTRY_HTTP: SocketAddr = loopback(8500);
/// The registry's gRPC.
pub const REGISTRY_GRPC: SocketAddr = loopback(8502);
/// The sidecar's status and figures.
pub const ADMIN: SocketAddr = loopback(8510);
/// Where containers ask.
pub const NODE_DNS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(169, 254, 53, 53), 53));

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// A registry and a sidecar on the first node of a lab. The programs end before the lab does.
#[derive(Debug)]
pub struct Site {
    /// `portolan-registry`.
    pub registry: Program,
    /// The registry's data directory.
    pub registry_data: PathBuf,
    /// `portolan-sidecar`.
    pub sidecar: Program,
    /// Where they run.
    pub lab: Lab,
}

impl Site {
    /// Starts both and waits until both are ready.
    ///
    /// # Errors
    /// When a part refuses or is not ready in time.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_in(Lab::start()?, &[])
    }

    /// As [`Site::start`], in a lab of the test's own, with more arguments for the sidecar.
    ///
    /// # Errors
    /// As there.
    pub fn start_in(lab: Lab, sidecar_args: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(lab, &[], sidecar_args)
    }

    /// As [`Site::start_in`], with more arguments for the registry, too.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(lab: Lab, registry_args: &[&str], sidecar_args: &[&str]) -> anyhow::Result<Self> {
        let registry_data = janitor::folder(&janitor::unique("registry"), Kind::Folder)?;
        let data = format!("--data-dir={}", registry_data.display());
        let args = [&[data.as_str(), "--log-format=text"], registry_args].concat();
        let mut registry = Program::start(&lab.node, "portolan-registry", &args)?;
        let registry_http = registry.listening("http")?;
        registry.listening("grpc")?;
        let sidecar = start_sidecar(&lab.node, &lab.engine.socket(), &[&["--node=a"], sidecar_args].concat())?;
        is_ready(&lab.node, registry_http)?;
        is_ready(&lab.node, ADMIN)?;
        Ok(Site { registry, registry_data, sidecar, lab })
    }

    /// The first node.
    pub fn node(&self) -> &Arc<Namespace> {
        &self.lab.node
    }
}

/// `portolan dev` on the first node of a lab.
#[derive(Debug)]
pub struct Dev {
    /// `portolan`.
    pub program: Program,
    /// Where it runs.
    pub lab: Lab,
}

impl Dev {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When a part refuses or is not ready in time.
    pub fn start(args: &[&str]) -> anyhow::Result<Self> {
        Self::start_in(Lab::start()?, args)
    }

    /// As [`Dev::start`], in a lab of the test's own.
    ///
    /// # Errors
    /// As there.
    pub fn start_in(lab: Lab, args: &[&str]) -> anyhow::Result<Self> {
        let node_args = node_args(&lab.node, &lab.engine.socket())?;
        let all: Vec<&str> = ["dev", "--node=a"].into_iter().chain(node_args.iter().map(String::as_str)).collect();
        let mut program = Program::start(&lab.node, "portolan", &[&all, args].concat())?;
        program.listening("node-dns")?;
        is_ready(&lab.node, REGISTRY_HTTP)?;
        is_ready(&lab.node, ADMIN)?;
        Ok(Dev { program, lab })
    }

    /// The first node.
    pub fn node(&self) -> &Arc<Namespace> {
        &self.lab.node
    }
}

/// Starts a sidecar on a node, with a data directory of its own; the registry is at its own loopback address. It may have
/// to wait for its turn, so nothing is waited for here.
///
/// # Errors
/// When it cannot be started.
pub fn start_sidecar(node: &Arc<Namespace>, docker_socket: &Path, args: &[&str]) -> anyhow::Result<Program> {
    let node_args = node_args(node, docker_socket)?;
    let registry = format!("--registry=http://{REGISTRY_GRPC}");
    let all: Vec<&str> = [registry.as_str()].into_iter().chain(node_args.iter().map(String::as_str)).collect();
    Program::start(node, "portolan-sidecar", &[&all, args].concat())
}

/// The settings that tell a sidecar which node it is on.
///
/// # Errors
/// When there is no place for its data.
pub fn node_args(node: &Namespace, docker_socket: &Path) -> anyhow::Result<Vec<String>> {
    let data = janitor::folder(&janitor::unique("data"), Kind::Folder)?;
    Ok(vec![
        format!("--cluster={CLUSTER}"),
        format!("--address={}", node.address),
        format!("--data-dir={}", data.display()),
        format!("--docker-socket={}", docker_socket.display()),
        "--log-format=text".to_owned(),
    ])
}

/// Waits until `/readyz` says 200.
///
/// # Errors
/// What it said last.
pub fn is_ready(node: &Namespace, addr: SocketAddr) -> anyhow::Result<()> {
    eventually(PATIENCE, || match node.fetch(addr, "/readyz") {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(other),
    })
}

/// Starts dnsmasq on a node of its own, as the resolver of the world outside; `records` are its arguments, such as
/// `--host-record=www.example.com,192.0.2.7`.
///
/// # Errors
/// When it does not answer.
pub fn start_outside_resolver(lab: &Lab, records: &[&str]) -> anyhow::Result<(Program, SocketAddr)> {
    let node = lab.network.node("dns")?;
    let resolver = start_dnsmasq(&node, node.address, records)?;
    Ok((resolver, SocketAddr::new(node.addr(), 53)))
}

/// Starts dnsmasq on `address` of `node`.
///
/// # Errors
/// When it does not answer.
pub fn start_dnsmasq(node: &Arc<Namespace>, address: Ipv4Addr, args: &[&str]) -> anyhow::Result<Program> {
    let listen = format!("--listen-address={address}");
    let own = ["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--bind-interfaces"];
    let program = Program::start_file(node, "dnsmasq", &[&own[..], &["--pid-file", &listen], args].concat())?;
    eventually(PATIENCE, || node.run("dig", &["+tries=1", "+time=1", &format!("@{address}"), "x"]))?;
    Ok(program)
}

/// A node that reaches the registry of another one by a wire of the test's.
#[derive(Debug)]
pub struct Follower {
    /// `portolan-sidecar`.
    pub sidecar: Program,
    /// From this node's loopback to the registry's.
    pub wire: Wire,
    /// Where it runs.
    pub node: Arc<Namespace>,
}

impl Follower {
    /// Starts a sidecar as node `b` on another node of the site's network. Without a Docker engine its socket is missing.
    ///
    /// # Errors
    /// When a part refuses.
    pub fn start(site: &Site, node: &Arc<Namespace>, docker_socket: &Path) -> anyhow::Result<Self> {
        Self::start_as("b", site, node, docker_socket)
    }

    /// As [`Follower::start`], as a node of another name.
    ///
    /// # Errors
    /// As there.
    pub fn start_as(name: &str, site: &Site, node: &Arc<Namespace>, docker_socket: &Path) -> anyhow::Result<Self> {
        Self::start_with(site, node, docker_socket, &[&format!("--node={name}")])
    }

    /// As [`Follower::start`], with arguments that name the node.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(site: &Site, node: &Arc<Namespace>, docker_socket: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let wire = Wire::lay(node, site.node(), REGISTRY_GRPC)?;
        let mut sidecar = start_sidecar(node, docker_socket, args)?;
        sidecar.listening("node-dns")?;
        Ok(Follower { sidecar, wire, node: node.clone() })
    }
}
