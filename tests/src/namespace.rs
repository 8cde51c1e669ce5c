//! Network namespaces: a bridge in one of its own, and nodes that are joined to it by a veth pair.
//!
//! Every address lives inside namespaces that this process made; names are unique, and all are removed when dropped.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::janitor::{self, Kind};
use crate::parts;

/// The bridge's own address: the nodes' default gateway, and where a test may put an outside resolver.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The last byte of the first node's address.
const FIRST_NODE: u8 = 11;

/// A network namespace. Dropped: everything in it is killed and it is removed.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Its address on the bridge. Not loopback, so that other nodes and containers reach it.
    pub address: Ipv4Addr,
}

impl Namespace {
    fn new(purpose: &str, address: Ipv4Addr) -> anyhow::Result<Self> {
        let name = janitor::unique(purpose);
        janitor::remember(Kind::Namespace, &name)?;
        ip(&format!("netns add {name}"))?;
        let namespace = Namespace { name, address };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Its address on the bridge.
    pub fn addr(&self) -> IpAddr {
        IpAddr::V4(self.address)
    }

    /// A command that runs inside, in the machine's own mount namespace (so that cgroups are there). The process that is
    /// started becomes the program itself: its id is the program's.
    pub fn command(&self, program: &str) -> Command {
        command_in(&self.path(), program)
    }

    /// As [`Namespace::command`], with another `/etc/resolv.conf`: for programs that read it.
    pub fn command_with_resolver(&self, program: &str, resolv_conf: &Path) -> Command {
        command_with_resolver_in(&self.path(), program, resolv_conf)
    }

    /// Runs a program inside to its end; gives what it printed.
    ///
    /// # Errors
    /// As [`parts::run`].
    pub fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        parts::run(self.command(program).args(args))
    }

    /// `ip` inside.
    ///
    /// # Errors
    /// As [`parts::run`].
    pub fn ip(&self, args: &str) -> anyhow::Result<String> {
        ip(&format!("-n {} {args}", self.name))
    }

    /// Calls `work` on a thread inside: sockets that it makes stay inside, wherever they are used later.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` panics.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        inside_of(&self.path(), work)
    }

    /// Takes the node off the bridge: nothing gets in or out, as when its cable is pulled.
    ///
    /// # Errors
    /// As [`parts::run`].
    pub fn unplug(&self) -> anyhow::Result<()> {
        self.ip("link set eth0 down").map(drop)
    }

    /// Puts it back.
    ///
    /// # Errors
    /// As [`parts::run`].
    pub fn plug_in(&self) -> anyhow::Result<()> {
        self.ip("link set eth0 up")?;
        self.ip(&format!("route replace default via {GATEWAY}")).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        janitor::remove(Kind::Namespace, &self.name);
    }
}

/// A bridge in a namespace of its own.
#[derive(Debug)]
pub struct Network {
    bridge: Namespace,
    next: AtomicU8,
}

impl Network {
    /// An empty one.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn new() -> anyhow::Result<Self> {
        let bridge = Namespace::new("net", GATEWAY)?;
        bridge.ip("link add br0 type bridge")?;
        bridge.ip(&format!("addr add {GATEWAY}/24 dev br0"))?;
        bridge.ip("link set br0 up")?;
        Ok(Network { bridge, next: AtomicU8::new(FIRST_NODE) })
    }

    /// The namespace that holds the bridge: neither node nor container, so a good place for an outside resolver.
    pub fn outside(&self) -> &Namespace {
        &self.bridge
    }

    /// A node on the bridge: 10.77.0.11, then .12, ...
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn node(&self, purpose: &str) -> anyhow::Result<Arc<Namespace>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let node = Namespace::new(purpose, Ipv4Addr::new(10, 77, 0, number))?;
        let (port, bridge) = (format!("port{number}"), self.bridge.name());
        ip(&format!("link add eth0 netns {} type veth peer name {port} netns {bridge}", node.name()))?;
        self.bridge.ip(&format!("link set {port} master br0 up"))?;
        node.ip(&format!("addr add {}/24 dev eth0", node.address))?;
        node.plug_in()?;
        Ok(Arc::new(node))
    }
}

/// As [`Namespace::command`], in the network namespace that a file stands for.
pub fn command_in(file: &Path, program: &str) -> Command {
    let mut command = parts::command("nsenter");
    command.arg(format!("--net={}", file.display())).arg("--");
    command.arg(parts::find(program).unwrap_or_else(|| PathBuf::from(program)));
    command
}

/// As [`Namespace::command_with_resolver`], in the network namespace that a file stands for.
pub fn command_with_resolver_in(file: &Path, program: &str, resolv_conf: &Path) -> Command {
    let mut command = command_in(file, "unshare");
    command.args(resolver_args(program, resolv_conf));
    command
}

/// Arguments of `unshare` that start a program with another `/etc/resolv.conf`.
pub fn resolver_args(program: &str, resolv_conf: &Path) -> Vec<String> {
    let script = r#"mount --bind "$1" /etc/resolv.conf && shift && exec "$@""#;
    let program = parts::find(program).unwrap_or_else(|| PathBuf::from(program));
    let files = [resolv_conf, &program].map(|file| file.to_string_lossy().into_owned());
    ["--mount", "--propagation=private", "sh", "-c", script, "sh"].map(str::to_owned).into_iter().chain(files).collect()
}

/// Calls `work` on a thread inside the network namespace that a file stands for.
///
/// # Errors
/// When the namespace cannot be entered, or `work` panics.
pub fn inside_of<T: Send>(file: &Path, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let namespace = File::open(file).with_context(|| format!("open namespace {}", file.display()))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> anyhow::Result<T> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        thread.join().map_err(|_| anyhow::anyhow!("the work inside {} panicked", file.display()))?
    })
}

fn ip(args: &str) -> anyhow::Result<String> {
    parts::run(parts::command("ip").args(args.split_whitespace()))
}
