//! systemd-resolved on a node, as its configuration file has it, in a mount namespace of its own: the machine's resolver, bus
//! and users stay as they are.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use crate::janitor::{self, Kind};
use crate::namespace::Namespace;
use crate::programs::Program;
use crate::wait::{PATIENCE, eventually};

/// Where programs ask it.
pub const STUB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), 53);

/// The user that it becomes, where its package is not installed.
const USER: &str = "systemd-resolve:x:64990:64990::/:/usr/sbin/nologin\n";
const GROUP: &str = "systemd-resolve:x:64990:\n";

/// Hides /run, so that it talks to no other part of systemd, then becomes the daemon.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/netif
cp -r "$1/links" /run/systemd/netif/links
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
mount --bind "$1/systemd" /etc/systemd
SYSTEMD_LOG_TARGET=console exec "$2"
"#;

/// Starts it on a node with a file in `resolved.conf.d`. The node's own link has `link_resolver`, as DHCP would tell it.
///
/// # Errors
/// When it does not answer.
pub fn start(node: &Arc<Namespace>, configuration: &str, link_resolver: Option<SocketAddr>) -> anyhow::Result<Program> {
    let folder = janitor::folder(&janitor::unique("resolved"), Kind::Folder)?;
    fs::create_dir_all(folder.join("systemd/resolved.conf.d"))?;
    fs::create_dir_all(folder.join("links"))?;
    fs::write(folder.join("systemd/resolved.conf.d/portolan.conf"), configuration)?;
    if let Some(resolver) = link_resolver {
        // What systemd-networkd writes of a link, under its index.
        let link = node.ip("-oneline link show dev eth0")?;
        let index = link.split(':').next().context("ip names a link by its index")?;
        let state = format!("ADMIN_STATE=configured\nOPER_STATE=routable\nDNS={}\n", resolver.ip());
        fs::write(folder.join("links").join(index), state)?;
    }
    for (name, own) in [("passwd", USER), ("group", GROUP)] {
        let system = fs::read_to_string(format!("/etc/{name}"))?;
        let is_known = system.lines().any(|line| line.starts_with("systemd-resolve:"));
        fs::write(folder.join(name), if is_known { system } else { system + own })?;
    }
    let program = crate::parts::find("systemd-resolved").unwrap_or_else(|| PathBuf::from("systemd-resolved"));
    let (folder, program) = (folder.to_string_lossy().into_owned(), program.to_string_lossy().into_owned());
    let args = ["--mount", "--propagation=private", "sh", "-c", SCRIPT, "sh", &folder, &program];
    let program = Program::start_file(node, "unshare", &args)?;
    // It answers for the machine's own names by itself.
    eventually(PATIENCE, || match node.dig(STUB, "localhost A") {
        Ok(dug) if dug.status == "NOERROR" => Ok(()),
        other => Err(other.map(|dug| dug.text)),
    })?;
    Ok(program)
}
