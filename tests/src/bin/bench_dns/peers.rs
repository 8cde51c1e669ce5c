//! Other servers with the same names, each with one thread that answers.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use portolan_tests::parts;

use crate::questions::{NODES, SERVICES};
use crate::server::Server;

/// Writes a configuration for a server of that port into a folder that has the zone; how to start it then.
type Prepare = fn(&Path, u16) -> Result<Command>;

/// Name and program.
const PEERS: [(&str, &str, Prepare); 4] = [
    ("nsd", "nsd", nsd),
    ("knot", "knotd", knot),
    ("unbound", "unbound", unbound),
    ("powerdns", "pdns_server", powerdns),
];
const FIRST_PORT: u16 = 18_610;

/// Starts those that are installed.
pub(crate) fn start(folder: &Path) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for ((name, program, prepare), port) in PEERS.into_iter().zip(FIRST_PORT..) {
        if parts::find(program).is_none() {
            continue;
        }
        let own = folder.join(name);
        fs::create_dir(&own)?;
        fs::write(own.join("zone"), zone())?;
        let mut command = prepare(&own, port)?;
        command.stderr(Stdio::null());
        servers.push(Server::start(name, port, command)?.ready()?);
    }
    Ok(servers)
}

/// Each record: name, type and data.
fn records() -> impl Iterator<Item = (String, &'static str, String)> {
    let places = (1..=NODES).map(|n| (format!("ip-10-0-0-{n}.addr.ecs.internal."), "A", format!("10.0.0.{n}")));
    let of_service = |s: usize| {
        (1..=NODES).flat_map(move |n| {
            let (name, port) = (format!("service-{s}.local.ecs.internal."), 30_000 + s);
            let target = format!("0 1 {port} ip-10-0-0-{n}.addr.ecs.internal.");
            [(name.clone(), "A", format!("10.0.0.{n}")), (name, "SRV", target)]
        })
    };
    places.chain((0..SERVICES).flat_map(of_service))
}

fn zone() -> String {
    let mut zone =
        "$ORIGIN ecs.internal.\n$TTL 1\n@ SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\nns A 10.0.0.1\n".to_owned();
    for (name, kind, data) in records() {
        writeln!(zone, "{name} {kind} {data}").ok();
    }
    zone
}

fn nsd(folder: &Path, port: u16) -> Result<Command> {
    let at = folder.display();
    let config = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{at}\"\n database: \"\"\n pidfile: \"{at}/pid\"\n \
         xfrdfile: \"{at}/xfrd\"\n xfrdir: \"{at}\"\n zonelistfile: \"{at}/list\"\n server-count: 1\n minimal-responses: no\n rrl-ratelimit: 0\n\
         remote-control:\n control-enable: no\nzone:\n name: ecs.internal\n zonefile: zone\n"
    );
    fs::write(folder.join("nsd.conf"), config)?;
    let mut command = parts::command("nsd");
    command.arg("-d").arg("-c").arg(folder.join("nsd.conf"));
    Ok(command)
}

fn knot(folder: &Path, port: u16) -> Result<Command> {
    let at = folder.display();
    let config = format!(
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {at}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         log:\n  - target: stderr\n    any: error\ndatabase:\n  storage: {at}\n\
         zone:\n  - domain: ecs.internal.\n    storage: {at}\n    file: zone\n    semantic-checks: off\n    journal-content: none\n"
    );
    fs::write(folder.join("knot.conf"), config)?;
    let mut command = parts::command("knotd");
    command.arg("-c").arg(folder.join("knot.conf"));
    Ok(command)
}

/// It adds no addresses to SRV: its replies are 64 octets shorter.
fn unbound(folder: &Path, port: u16) -> Result<Command> {
    let at = folder.display();
    let mut config = format!(
        "server:\n interface: 127.0.0.1\n port: {port}\n num-threads: 1\n username: \"\"\n chroot: \"\"\n directory: \"{at}\"\n \
         pidfile: \"{at}/pid\"\n use-syslog: no\n access-control: 127.0.0.0/8 allow\n rrset-roundrobin: yes\n\
         remote-control:\n control-enable: no\nserver:\n local-zone: \"ecs.internal.\" static\n \
         local-data: \"ecs.internal. 1 SOA ns.ecs.internal. hostmaster.ecs.internal. 1 3600 600 86400 1\"\n"
    );
    for (name, kind, data) in records() {
        writeln!(config, " local-data: \"{name} 1 {kind} {data}\"").ok();
    }
    fs::write(folder.join("unbound.conf"), config)?;
    let mut command = parts::command("unbound");
    command.arg("-d").arg("-c").arg(folder.join("unbound.conf"));
    Ok(command)
}

fn powerdns(folder: &Path, port: u16) -> Result<Command> {
    let at = folder.display();
    fs::write(folder.join("named.conf"), format!("zone \"ecs.internal\" {{ type master; file \"{at}/zone\"; }};\n"))?;
    let config = format!(
        "launch=bind\nbind-config={at}/named.conf\nlocal-address=127.0.0.1:{port}\nsocket-dir={at}\nreceiver-threads=1\n\
         distributor-threads=1\ncache-ttl=60\nnegquery-cache-ttl=60\nquery-cache-ttl=60\nguardian=no\ndaemon=no\n\
         version-string=anonymous\ndisable-syslog=yes\nloglevel=0\nmax-packet-cache-entries=100000\n"
    );
    fs::write(folder.join("pdns.conf"), config)?;
    let mut command = parts::command("pdns_server");
    command.arg(format!("--config-dir={at}"));
    Ok(command)
}
