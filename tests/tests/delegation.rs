//! Resolvers that send the zone to a registry, configured as `docs/dns.md` says: each block there is what is tested.

#[path = "delegation/scene.rs"]
mod scene;
#[path = "delegation/signed.rs"]
mod signed;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;

use portolan_tests::namespace::{Namespace, Network};
use portolan_tests::programs::Program;
use portolan_tests::resolved::{self, STUB};
use portolan_tests::wait::{PATIENCE, eventually};
use portolan_tests::{documented, needs, parts};
use scene::{PAGE, Scene, file};

/// The zone of the page's configurations.
const ZONE: &str = "ecs.internal";
/// Where the page's registry listens.
const LISTEN: &str = "0.0.0.0:8600";

/// The key that signs the root: who validates finds no root here, and can prove nothing.
const ROOT_KEY: &str = ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";

/// Starts a resolver on a node and waits until it answers something.
fn start(node: &Arc<Namespace>, program: &str, args: &[&str]) -> anyhow::Result<(Program, SocketAddr)> {
    let started = Program::start_file(node, program, args)?;
    let resolver = SocketAddr::new(node.addr(), 53);
    eventually(PATIENCE, || node.dig(resolver, "www.example.com A +cdflag"))?;
    Ok((started, resolver))
}

/// unbound that validates, and takes no private address for a name of elsewhere.
fn unbound(node: &Arc<Namespace>, documented: &str, more: &str) -> anyhow::Result<(Program, SocketAddr)> {
    unbound_from(node, ROOT_KEY, documented, more)
}

/// As [`unbound`], with another key of the root.
fn unbound_from(
    node: &Arc<Namespace>,
    root_key: &str,
    documented: &str,
    more: &str,
) -> anyhow::Result<(Program, SocketAddr)> {
    let text = format!(
        "server:\n  interface: {}\n  access-control: 10.0.0.0/8 allow\n  directory: \"\"\n  chroot: \"\"\n  username: \"\"\n  \
         pidfile: \"\"\n  use-syslog: no\n  trust-anchor: \"{root_key}\"\n  private-address: 10.0.0.0/8\n{documented}{more}",
        node.address
    );
    let file = file("unbound.conf", &text)?;
    start(node, "unbound", &["-d", "-d", "-c", &file.to_string_lossy()])
}

#[test]
fn unbound_forwards_the_zone() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig", "dnsmasq", "unbound");
    let scene = Scene::start(ZONE, LISTEN)?;
    let documented = scene.documented("unbound")?;
    let others = format!("forward-zone:\n  name: \".\"\n  forward-addr: {}\n", scene.outside.ip());
    let (_unbound, resolver) = unbound(&scene.node, &documented, &others)?;
    scene.check("unbound", resolver)?;
    scene.check_other_names(resolver)
}

#[test]
fn unbound_that_refuses_private_addresses_must_be_told() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig", "dnsmasq", "unbound");
    let scene = Scene::start(ZONE, LISTEN)?;
    scene.declare("search", &["10.20.0.1".to_owned()])?;
    let documented = scene.documented("unbound")?;
    let without = documented.lines().filter(|line| !line.contains("private-domain"));
    let without: String = without.map(|line| format!("{line}\n")).collect();
    let others = format!("forward-zone:\n  name: \".\"\n  forward-addr: {}\n", scene.outside.ip());
    let (_unbound, resolver) = unbound(&scene.node, &without, &others)?;
    let dug = scene.node.dig(resolver, "search.production.ecs.internal A")?;
    assert_eq!((dug.status.as_str(), dug.data("A").len()), ("NOERROR", 0), "{}", dug.text);
    Ok(())
}

#[test]
fn dnsmasq_forwards_the_zone() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig", "dnsmasq");
    let scene = Scene::start(ZONE, LISTEN)?;
    let text = format!(
        "keep-in-foreground\nno-resolv\nno-hosts\nbind-interfaces\npid-file\nlisten-address={}\nserver={}\nstop-dns-rebind\n{}",
        scene.node.address,
        scene.outside.ip(),
        scene.documented("dnsmasq")?
    );
    let file = format!("--conf-file={}", file("dnsmasq.conf", &text)?.display());
    let (_dnsmasq, resolver) = start(&scene.node, "dnsmasq", &["--user=root", &file])?;
    scene.check("dnsmasq", resolver)?;
    scene.check_other_names(resolver)
}

#[test]
fn systemd_resolved_forwards_the_zone() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig", "dnsmasq", "systemd-resolved");
    let scene = Scene::start(ZONE, LISTEN)?;
    let _resolved = resolved::start(&scene.node, &scene.documented("systemd-resolved")?, Some(scene.outside))?;
    scene.check("systemd-resolved", STUB)?;
    scene.check_other_names(STUB)
}

#[test]
fn systemd_resolved_that_validates_expects_no_signatures_of_the_zone() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig", "dnsmasq", "systemd-resolved");
    let scene = Scene::start(ZONE, LISTEN)?;
    let configuration = format!("{}DNSSEC=yes\n", scene.documented("systemd-resolved")?);
    let _resolved = resolved::start(&scene.node, &configuration, Some(scene.outside))?;
    scene.check("systemd-resolved with DNSSEC=yes", STUB)?;
    let dug = scene.node.dig(STUB, "www.example.com A +time=10")?;
    assert_eq!(dug.status, "SERVFAIL", "it validates: {}", dug.text);
    Ok(())
}

#[test]
fn bind_forwards_the_zone() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig", "dnsmasq", "named");
    let scene = Scene::start(ZONE, LISTEN)?;
    let options =
        format!("forwarders {{ {}; }}; forward only;\n{}", scene.outside.ip(), scene.documented("bind-options")?);
    let (_named, resolver) = named(&scene, &options, &scene.documented("bind")?)?;
    scene.check("BIND", resolver)?;
    scene.check_other_names(resolver)
}

fn named(scene: &Scene, options: &str, zones: &str) -> anyhow::Result<(Program, SocketAddr)> {
    let file = file("named.conf", "")?;
    let folder = file.parent().context("a folder")?;
    let text = format!(
        "options {{ directory \"{}\"; listen-on {{ {}; }}; listen-on-v6 {{ none; }}; pid-file none; allow-query {{ any; }};\n\
         {options} }};\ncontrols {{ }};\n{zones}",
        folder.display(),
        scene.node.address
    );
    std::fs::write(&file, text)?;
    start(&scene.node, "named", &["-g", "-u", "root", "-c", &file.to_string_lossy()])
}

/// The zone lies below `example.com`, whose name server is BIND; unbound recurses from there, and knows nothing of the zone.
#[test]
fn a_recursor_follows_the_delegation() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig", "dnsmasq", "named", "unbound");
    for listen in ["10.77.0.11:53", "0.0.0.0:53"] {
        let scene = Scene::start("ecs.example.com", listen)?;
        let parent = "$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 10.77.0.12\nwww IN A 192.0.2.7\n";
        let file = file("example.com", &format!("{parent}{}", scene.documented("zone")?))?;
        let zone = format!("zone \"example.com\" {{ type primary; file \"{}\"; }};", file.display());
        let (_named, parent) = named(&scene, "recursion no;", &zone)?;
        let stub = format!("stub-zone:\n  name: \"example.com\"\n  stub-addr: {}\n", parent.ip());
        let private = "  domain-insecure: \"example.com\"\n  private-domain: \"example.com\"\n";
        let (_unbound, resolver) = unbound(&scene.another_node()?, private, &stub)?;
        scene.check("unbound by delegation", resolver)?;
        let dug = scene.node.dig(resolver, "ecs.example.com NS")?;
        assert_eq!(dug.data("NS"), ["ip-10-77-0-11.addr.ecs.example.com."], "{}", dug.text);
    }
    Ok(())
}

/// The AWS CLI checks arguments against the API's description before it sends anything; here it finds nobody to send to.
#[test]
fn the_aws_cli_takes_the_documented_commands() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "aws");
    let network = Network::new()?;
    let page = documented::block(PAGE, "route53")?.replace("\\\n", " ");
    let commands: Vec<&str> = page.lines().collect();
    assert_eq!(commands.len(), 3, "{page}");
    let complaint = |command: &str| -> anyhow::Result<String> {
        let mut aws = network.outside().command("aws");
        aws.args(command.split_whitespace().skip(1))
            .args(["--region=eu-central-1", "--endpoint-url=http://127.0.0.1:1"]);
        aws.env("AWS_ACCESS_KEY_ID", "none").env("AWS_SECRET_ACCESS_KEY", "none").env("AWS_MAX_ATTEMPTS", "1");
        parts::run(&mut aws).map_or_else(|error| Ok(error.to_string()), |said| anyhow::bail!("{command}: {said}"))
    };
    for command in commands {
        let said = complaint(command)?;
        anyhow::ensure!(said.contains("Could not connect to the endpoint URL"), "{command}: {said}");
    }
    let wrong = complaint(&page.lines().nth(1).unwrap_or_default().replace("Port=8600", "Door=8600"))?;
    anyhow::ensure!(wrong.contains("Door"), "a wrong argument is found: {wrong}");
    Ok(())
}
