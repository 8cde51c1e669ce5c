//! Knot, NSD and BIND with one zone, each on a port of its own on loopback.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::questions;
use super::seen::Asker;

/// How many there are.
pub(super) const COUNT: usize = 3;
/// How long one may take to load a small zone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes a configuration for a server of that port into a folder, which has the zone; how to start it then.
type Prepare = fn(&Path, u16) -> Command;

/// A running server; it ends with this value.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    child: Child,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Not SIGKILL: NSD's other processes would outlive it.
        Command::new("kill").arg(self.child.id().to_string()).status().ok();
        self.child.wait().ok();
    }
}

/// Starts all. `None`, loudly, when one is missing and this is no CI.
pub(super) fn start(folder: &Path) -> Option<Vec<Peer>> {
    let starts: [(&'static str, &str, Prepare); COUNT] =
        [("knot", "knotd", knot), ("nsd", "nsd", nsd), ("bind", "named", bind)];
    starts.into_iter().map(|(name, program, prepare)| start_one(name, program, folder, prepare)).collect()
}

fn start_one(name: &'static str, program: &str, folder: &Path, prepare: Prepare) -> Option<Peer> {
    let address = free_address();
    let own = folder.join(name);
    fs::create_dir(&own).unwrap();
    fs::copy(folder.join("zone"), own.join("zone")).unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = prepare(&own, address.port());
    let child =
        command.env("PATH", path).stdout(Stdio::null()).stderr(fs::File::create(own.join("log")).unwrap()).spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) if std::env::var_os("CI").is_some() => panic!("{program} is needed in CI: {error}"),
        Err(error) => {
            eprintln!("SKIPPED: {program} cannot be run ({error}); nothing is compared with it");
            return None;
        }
    };
    let peer = Peer { name, address, child };
    let asked = questions::ready();
    let end = Instant::now() + PATIENCE;
    while Asker::quick(address).ask(&asked).answers.is_empty() {
        assert!(Instant::now() < end, "{program}: {}", fs::read_to_string(own.join("log")).unwrap_or_default());
    }
    Some(peer)
}

/// An address that is free for both transports, and that no client is given by the kernel: these begin at 32768. Should
/// somebody take it before the server does, the wait for the server says so.
fn free_address() -> SocketAddr {
    let is_free = |address: &SocketAddr| UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok();
    let mut candidates = (0..100).map(|_| SocketAddr::from(([127, 0, 0, 1], rand::random_range(20_000..32_000))));
    candidates.find(is_free).expect("one of a hundred ports is free")
}

fn knot(folder: &Path, port: u16) -> Command {
    let at = folder.display();
    let config = format!(
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {at}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         log:\n  - target: stderr\n    any: error\ndatabase:\n  storage: {at}\n\
         zone:\n  - domain: ecs.internal.\n    storage: {at}\n    file: zone\n    semantic-checks: off\n    journal-content: none\n"
    );
    fs::write(folder.join("knot.conf"), config).unwrap();
    let mut command = Command::new("knotd");
    command.arg("-c").arg(folder.join("knot.conf"));
    command
}

fn nsd(folder: &Path, port: u16) -> Command {
    let at = folder.display();
    let config = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{at}\"\n database: \"\"\n pidfile: \"{at}/pid\"\n \
         xfrdfile: \"{at}/xfrd\"\n xfrdir: \"{at}\"\n zonelistfile: \"{at}/list\"\n server-count: 1\n minimal-responses: no\n rrl-ratelimit: 0\n\
         remote-control:\n control-enable: no\nzone:\n name: ecs.internal\n zonefile: zone\n"
    );
    fs::write(folder.join("nsd.conf"), config).unwrap();
    let mut command = Command::new("nsd");
    command.arg("-d").arg("-c").arg(folder.join("nsd.conf"));
    command
}

fn bind(folder: &Path, port: u16) -> Command {
    let at = folder.display();
    let config = format!(
        "options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file \"{at}/pid\"; \
         session-keyfile \"{at}/session\"; recursion no; allow-transfer {{ none; }}; minimal-responses no-auth; notify no; \
         dnssec-validation no; empty-zones-enable no; max-udp-size 1232; send-cookie no; answer-cookie no; }};\n\
         controls {{ }};\nzone \"ecs.internal\" {{ type primary; file \"zone\"; check-names ignore; }};\n"
    );
    fs::write(folder.join("named.conf"), config).unwrap();
    let mut command = Command::new("named");
    command.arg("-g").arg("-n").arg("1").arg("-c").arg(folder.join("named.conf"));
    command
}
