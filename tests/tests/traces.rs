//! What a sidecar leaves on a host: nothing after `--cleanup`, and nothing that stands in the way before.

use std::path::Path;

use anyhow::Context;

use portolan_tests::namespace::{Namespace, Network};
use portolan_tests::needs;
use portolan_tests::programs::{self, Program};
use portolan_tests::site::{NODE_DNS, node_args, start_sidecar};
use portolan_tests::wait::{PATIENCE, eventually};

/// Rules, routes and addresses, as the kernel has them.
fn traces(node: &Namespace) -> anyhow::Result<String> {
    let rules = node.run("nft", &["list", "ruleset"])?;
    Ok([rules, node.ip("route show table all")?, node.ip("addr show")?, node.ip("rule show")?].join("\n"))
}

fn clean_up(node: &Namespace) -> anyhow::Result<String> {
    node.run(&programs::path("portolan-sidecar")?.to_string_lossy(), &["--cleanup"])
}

#[test]
fn a_cleanup_removes_every_trace_and_nothing_else() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "nft");
    let network = Network::new()?;
    let node = network.node("a")?;
    node.run("nft", &["add table ip somebody; add chain ip somebody else"])?;
    node.ip("route add local 192.0.2.0/24 dev lo")?;
    let before = traces(&node)?;
    clean_up(&node).context("where there is nothing to clean")?;
    assert_eq!(traces(&node)?, before);

    let mut sidecar = start_sidecar(&node, Path::new("/nonexistent/docker.sock"), &["--node=a"])?;
    sidecar.listening("relay")?;
    sidecar.listening("node-dns")?;
    let with = traces(&node)?;
    assert!(with.contains("169.254.53.53") && with.contains("portolan"), "the sidecar's own traces: {with}");
    sidecar.kill()?;
    clean_up(&node).context("after kill -9")?;
    assert_eq!(traces(&node)?, before, "after kill -9 and a cleanup");

    sidecar.start_again()?;
    sidecar.listening("node-dns")?;
    assert_eq!(sidecar.terminate()?, Some(0), "SIGTERM ends it in order");
    clean_up(&node).context("after SIGTERM")?;
    assert_eq!(traces(&node)?, before, "after SIGTERM and a cleanup");
    Ok(())
}

/// A setting that cannot be meant, by program: its arguments and what the error must name.
const REFUSED: [(&str, &[&str], &str); 10] = [
    ("portolan-registry", &["--http-listen=0.0.0.0:0"], "http.listen"),
    ("portolan-registry", &["--grpc-listen=10.77.0.11:0"], "grpc.listen"),
    ("portolan-registry", &["--grpc-listen=[::]:0"], "grpc.listen"),
    ("portolan-sidecar", &["--sidecar-admin=0.0.0.0:0"], "sidecar.admin"),
    ("portolan-sidecar", &["--link-rang=198.18.0.0/16"], "link-range"),
    ("portolan-sidecar", &["--link-range=198.18.0.0/99"], "link-range"),
    ("portolan-registry", &["--zone=..", "--dns-listen=127.0.0.1:0"], "zone"),
    ("portolan-sidecar", &["--registry=://"], "registry"),
    ("portolan-registry", &["--dns-allow=10.0.0.0/8,everybody"], "dns.allow"),
    ("portolan-sidecar", &["--dns-answers-per-second=many"], "dns.answers_per_second"),
];

#[test]
fn a_setting_that_cannot_be_meant_is_named() -> anyhow::Result<()> {
    needs!("ip", "nsenter");
    let network = Network::new()?;
    let node = network.node("a")?;
    for (name, args, expected) in REFUSED {
        // Only a sidecar has a Docker socket; what both know is enough here.
        let own = node_args(&node, Path::new("/nonexistent/docker.sock"))?;
        let own: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .filter(|arg| name == "portolan-sidecar" || arg.starts_with("--data-dir"))
            .collect();
        let mut program = Program::start(&node, name, &[&own[..], args].concat())?;
        let ended = eventually(PATIENCE, || match program.try_ended()? {
            Some(code) => Ok(code),
            None => anyhow::bail!("{name} {args:?} still runs: {}", program.log()),
        })?;
        let log = program.log();
        assert!(matches!(ended, 1 | 2), "{name} {args:?} ended with {ended}: {log}");
        assert!(log.contains(expected), "{name} {args:?} names {expected}: {log}");
        assert!(!log.contains("panicked"), "{name} {args:?}: {log}");
    }
    Ok(())
}

#[test]
fn a_sidecar_without_rights_says_so_and_goes_on() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "setpriv");
    let network = Network::new()?;
    let node = network.node("a")?;
    let mut args = vec!["--bounding-set=-all".to_owned(), "--inh-caps=-all".to_owned()];
    args.push(programs::path("portolan-sidecar")?.to_string_lossy().into_owned());
    args.extend(node_args(&node, Path::new("/nonexistent/docker.sock"))?);
    args.push("--node=a".to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut sidecar = Program::start_file(&node, "setpriv", &args)?;
    let line = sidecar.wait_for_line("no links on this node")?;
    assert!(line.contains("ERROR"), "a person must act: {line}");
    sidecar.listening("admin").context("it goes on")?;
    assert!(node.dig(NODE_DNS, "ecs.internal SOA").is_err(), "without its address there is no DNS");
    Ok(())
}
