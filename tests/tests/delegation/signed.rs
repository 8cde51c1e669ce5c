//! A signed root that knows nothing of the zone, as the world's does, and resolvers that validate from its key on.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;

use portolan_tests::janitor::{self, Kind};
use portolan_tests::namespace::Namespace;
use portolan_tests::programs::Program;
use portolan_tests::wait::{PATIENCE, eventually};
use portolan_tests::{needs, parts};

use crate::scene::{Scene, file};
use crate::{LISTEN, ZONE, named, start};

/// The root, which has one name of the world in itself.
const ROOT: &str = "\
. 60 IN SOA ns. hostmaster. 1 3600 600 86400 60
. 60 IN NS ns.
ns. 60 IN A ADDRESS
www.example.com. 60 IN A 192.0.2.7
";

/// Knot signs it by itself.
const KNOT: &str = "
server:
  rundir: FOLDER
  listen: ADDRESS@53
database:
  storage: FOLDER
log:
- target: stderr
  any: info
policy:
- id: own
  algorithm: ecdsap256sha256
  single-type-signing: on
zone:
- domain: .
  file: FOLDER/root.zone
  zonefile-sync: -1
  zonefile-load: difference-no-serial
  journal-content: all
  dnssec-signing: on
  dnssec-policy: own
";

/// A root name server.
struct Root {
    address: String,
    /// The numbers of its DS record: key tag, algorithm, digest type, digest.
    key: [String; 4],
    _knot: Program,
}

impl Root {
    /// Starts it with more in its zone.
    fn start(node: &Arc<Namespace>, more: &str) -> anyhow::Result<Self> {
        let folder = janitor::folder(&janitor::unique("root"), Kind::Folder)?;
        let address = node.address.to_string();
        let filled = |text: &str| text.replace("FOLDER", &folder.to_string_lossy()).replace("ADDRESS", &address);
        std::fs::write(folder.join("root.zone"), filled(ROOT) + more)?;
        let configuration = folder.join("knot.conf").to_string_lossy().into_owned();
        std::fs::write(&configuration, filled(KNOT))?;
        let knot = Program::start_file(node, "knotd", &["-c", &configuration])?;
        eventually(PATIENCE, || match node.dig(SocketAddr::new(node.addr(), 53), ". DNSKEY +dnssec") {
            Ok(dug) if dug.data("RRSIG").len() == 1 => Ok(()),
            other => Err(other.map(|dug| dug.text)),
        })?;
        let ds = parts::run(parts::command("keymgr").args(["-c", &configuration, ".", "ds"]))?;
        let sha256 = ds.lines().find(|line| line.contains(" 2 ")).with_context(|| format!("no SHA-256 in {ds}"))?;
        let fields: Vec<String> = sha256.split_whitespace().skip(2).map(str::to_owned).collect();
        let key = fields.try_into().map_err(|fields| anyhow::anyhow!("odd DS {fields:?}"))?;
        Ok(Root { address, key, _knot: knot })
    }
}

/// A validating resolver that is not told of the zone, or is as `docs/dns.md` says.
type Start = fn(&Scene, &Root, documented: bool) -> anyhow::Result<(Program, SocketAddr)>;

#[test]
fn validating_resolvers_must_be_told_that_the_zone_is_not_signed() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig", "dnsmasq", "knotd", "keymgr", "unbound", "named");
    let scene = Scene::start(ZONE, LISTEN)?;
    scene.declare("search", &["10.20.0.1".to_owned()])?;
    let root = Root::start(&scene.another_node()?, "")?;
    // dnsmasq that is told nothing asks the root, which knows no such name.
    let resolvers: [(&str, Start, &str); 3] =
        [("unbound", unbound, "SERVFAIL"), ("BIND", bind, "SERVFAIL"), ("dnsmasq", dnsmasq, "NXDOMAIN")];
    for (name, start, untold) in resolvers {
        for (is_documented, status, found) in [(true, "NOERROR", &["10.20.0.1"][..]), (false, untold, &[])] {
            let (mut program, resolver) = start(&scene, &root, is_documented)?;
            eventually(PATIENCE, || {
                let dug = scene.node.dig(resolver, "www.example.com A +dnssec")?;
                anyhow::ensure!(dug.flags.iter().any(|flag| flag == "ad"), "{name} does not validate: {}", dug.text);
                Ok(())
            })?;
            let dug = scene.node.dig(resolver, "search.production.ecs.internal A +time=10")?;
            assert_eq!(dug.data("A"), found, "{name}, documented: {is_documented}: {}", dug.text);
            assert_eq!(dug.status, status, "{name}, documented: {is_documented}: {}", dug.text);
            program.kill()?;
        }
    }
    Ok(())
}

/// A signed parent says that the zone is not: who validates needs no configuration at all.
#[test]
fn a_validating_recursor_follows_a_delegation_without_signatures() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig", "dnsmasq", "knotd", "keymgr", "unbound");
    let scene = Scene::start("ecs.example.com", "10.77.0.11:53")?;
    let root = Root::start(&scene.another_node()?, &format!("$ORIGIN example.com.\n{}", scene.documented("zone")?))?;
    let (_unbound, resolver) = unbound_from(&scene, &root, "  private-domain: \"example.com\"\n")?;
    scene.check("unbound by a signed delegation", resolver)?;
    let dug = scene.node.dig(resolver, "www.example.com A +dnssec")?;
    assert!(dug.flags.contains(&"ad".to_owned()), "it validates: {}", dug.text);
    Ok(())
}

fn unbound(scene: &Scene, root: &Root, is_documented: bool) -> anyhow::Result<(Program, SocketAddr)> {
    let documented = scene.documented("unbound")?;
    let documented = documented.lines().filter(|line| is_documented || !line.contains("domain-insecure"));
    let documented: String = documented.map(|line| format!("{line}\n")).collect();
    unbound_from(scene, root, &documented)
}

fn unbound_from(scene: &Scene, root: &Root, configuration: &str) -> anyhow::Result<(Program, SocketAddr)> {
    let anchor = format!(". IN DS {}", root.key.join(" "));
    let stub = format!("stub-zone:\n  name: \".\"\n  stub-addr: {}\n", root.address);
    crate::unbound_from(&scene.node, &anchor, configuration, &stub)
}

fn bind(scene: &Scene, root: &Root, is_documented: bool) -> anyhow::Result<(Program, SocketAddr)> {
    let options = if is_documented { scene.documented("bind-options")? } else { String::new() };
    let hints = file("hints", &format!(". 60 IN NS ns.\nns. 60 IN A {}\n", root.address))?;
    let [tag, algorithm, digest_type, digest] = &root.key;
    let zones = format!(
        "trust-anchors {{ . static-ds {tag} {algorithm} {digest_type} \"{digest}\"; }};\n\
         zone \".\" {{ type hint; file \"{}\"; }};\n{}",
        hints.display(),
        scene.documented("bind")?
    );
    named(scene, &format!("dnssec-validation yes;\n{options}"), &zones)
}

fn dnsmasq(scene: &Scene, root: &Root, is_documented: bool) -> anyhow::Result<(Program, SocketAddr)> {
    let text = format!(
        "keep-in-foreground\nno-resolv\nno-hosts\nbind-interfaces\npid-file\nlisten-address={}\nserver={}\n\
         dnssec\ntrust-anchor=.,{}\n{}",
        scene.node.address,
        root.address,
        root.key.join(","),
        if is_documented { scene.documented("dnsmasq")? } else { String::new() }
    );
    let configuration = format!("--conf-file={}", file("dnsmasq.conf", &text)?.display());
    start(&scene.node, "dnsmasq", &["--user=root", &configuration])
}
