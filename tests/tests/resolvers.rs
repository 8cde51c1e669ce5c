//! The resolvers that programs bring along: each finds the right addresses in every lookup, at once, while endpoints change.

#[path = "resolvers/scene.rs"]
mod scene;

use std::process::Command;

use portolan_tests::resolved::{self, STUB};
use portolan_tests::site::NODE_DNS;
use portolan_tests::{needs, parts};
use scene::{Scene, compile, source};

fn with(mut command: Command, args: &[&str]) -> Command {
    command.args(args);
    command
}

#[test]
fn the_c_libraries_and_python_find_names_while_endpoints_change() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "dig", "dnsmasq", "cc", "musl-gcc", "python3");
    let scene = Scene::start()?;
    let (glibc, musl) = (compile(&scene, "cc", &[])?, compile(&scene, "musl-gcc", &["-static"])?);
    scene.check(vec![
        ("glibc", scene.client(&glibc)?),
        ("musl", scene.client(&musl)?),
        ("Python", with(scene.client("python3")?, &[&source("lookup.py")])),
    ])
}

#[test]
fn node_and_java_find_names_while_endpoints_change() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "dig", "dnsmasq", "node", "javac");
    let scene = Scene::start()?;
    let node = |how| anyhow::Ok(with(scene.client("node")?, &[&source("lookup.mjs"), how]));
    let classes = scene.folder().join("classes").to_string_lossy().into_owned();
    parts::run(parts::command("javac").args(["-d", &classes, &source("Lookup.java")]))?;
    let java = with(scene.client("java")?, &["-cp", &classes, "Lookup"]);
    scene.check(vec![("Node's lookup", node("lookup")?), ("Node's resolve4", node("resolve4")?), ("Java", java)])
}

/// The host's own resolver forwards the zone to the node's DNS, and programs of the host ask it.
#[test]
fn programs_find_names_through_systemd_resolved_while_endpoints_change() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "dig", "dnsmasq", "cc", "systemd-resolved");
    let scene = Scene::start()?;
    let configuration = format!("[Resolve]\nDNS={}\nDomains=~ecs.internal\n", NODE_DNS.ip());
    let _resolved = resolved::start(scene.node(), &configuration, None)?;
    let mut client = scene.host_client(&compile(&scene, "cc", &[])?, STUB)?;
    // It keeps answers for their second: the run must last some.
    client.env("PAUSE_US", "1000");
    scene.check(vec![("systemd-resolved", client)])
}
