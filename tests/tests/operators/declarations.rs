//! Services outside ECS and Docker: by address with a check, by a name that moves, by the link that the name had before.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use serde_json::Value;

use portolan_tests::container::Container;
use portolan_tests::http;
use portolan_tests::janitor::{self, Kind};
use portolan_tests::lab::Lab;
use portolan_tests::namespace::Namespace;
use portolan_tests::programs::Program;
use portolan_tests::site::{CLUSTER, NODE_DNS, REGISTRY_DNS, REGISTRY_HTTP, Site, is_ready, start_dnsmasq};
use portolan_tests::surfaces::{full_name, name_behind};
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal, now, throughout};
use portolan_tests::{image, needs, report};

/// The declared service: on node `a` as containers call it, and with its cluster.
const SERVICE: &str = "db";
const NAME: &str = "db.production";
/// Where its servers listen.
const PORT: u16 = 9200;

/// A server on a machine of its own, which neither Docker nor ECS knows.
struct Server {
    program: Program,
    node: Arc<Namespace>,
}

impl Server {
    fn start(lab: &Lab, name: &str) -> anyhow::Result<Self> {
        let node = lab.network.node(name)?;
        let script = format!("NAME={name} exec \"$0\" elasticsearch");
        let program = Program::start_file(&node, "sh", &["-c", &script, &image::standin()?.to_string_lossy()])?;
        let server = Server { program, node };
        eventually(PATIENCE, || server.node.fetch(SocketAddr::new(server.node.addr(), PORT), "/"))?;
        Ok(server)
    }

    fn place(&self) -> String {
        format!("{}:{PORT}", self.node.address)
    }
}

/// What registry and node give for the service, once both give the same.
fn answered(site: &Site) -> anyhow::Result<BTreeSet<String>> {
    let (registry, node) = (site.node().registry_srv(SERVICE)?, site.node().node_srv(SERVICE)?);
    anyhow::ensure!(registry == node, "the registry gives {registry:?}, the node {node:?}");
    let addresses: BTreeSet<String> =
        node.iter().filter_map(|place| Some(place.split_once(':')?.0.to_owned())).collect();
    for server in [REGISTRY_DNS, NODE_DNS] {
        let dug = site.node().dig(server, &format!("{} A", full_name(SERVICE)))?;
        let found: BTreeSet<String> = dug.data("A").into_iter().collect();
        anyhow::ensure!(found == addresses, "{server} gives {found:?}, not {addresses:?}");
    }
    Ok(node)
}

fn all_answer(site: &Site, servers: &[&Server]) -> anyhow::Result<()> {
    let places = servers.iter().map(|server| server.place()).collect();
    eventually_equal(PATIENCE, &Ok(places), || answered(site).map_err(|error| format!("{error:#}")))
}

fn portolan(site: &Site, args: &[&str]) -> anyhow::Result<String> {
    site.node().portolan(args)?.done().with_context(|| format!("portolan {}", args.join(" ")))
}

/// A container on node `a` asks by the bare name; who answers, in as many requests.
fn reached(client: &Container, times: usize) -> anyhow::Result<BTreeSet<String>> {
    (0..times)
        .map(|_| {
            let body: Value = serde_json::from_str(&client.exec(&["get", "http://db:9200/"])?)?;
            body["name"].as_str().map(str::to_owned).context("no name")
        })
        .collect()
}

#[test]
fn a_declared_address_goes_when_its_server_dies_and_comes_back() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let site = Site::start()?;
    let (mut one, mut two) = (Server::start(&site.lab, "one")?, Server::start(&site.lab, "two")?);
    let client = site.lab.engine.run(&["--dns=169.254.53.53", "--dns-search=."], &["wait"])?;
    let set = ["external", "set", NAME, &one.place(), &two.place(), "--check=1s", "--tag=primary"];
    let said = portolan(&site, &set)?;
    assert!(said.starts_with(&format!("{NAME} declared for ")), "{said}");
    assert!(said.contains(&format!("{} (not checked yet)", two.place())) || said.contains(" passing"), "{said}");
    all_answer(&site, &[&one, &two]).context("declared")?;
    assert_eq!(reached(&client, 20)?, ["one".to_owned(), "two".to_owned()].into(), "by the bare name");
    one.program.kill()?;
    let killed = now();
    all_answer(&site, &[&two]).context("one died")?;
    report::say(&format!("a server that died was out after {:.1?}", killed.elapsed()));
    let why = portolan(&site, &["explain", SERVICE])?;
    assert!(why.contains("declared; check fails") && why.contains("declared; check passes"), "{why}");
    let listed = portolan(&site, &["external", "list", SERVICE])?;
    assert!(listed.contains(&format!("{} failing", one.place())), "{listed}");
    one.program.start_again()?;
    all_answer(&site, &[&one, &two]).context("one is back")?;
    // Names never go empty while something may work.
    one.program.kill()?;
    two.program.kill()?;
    let both_failing = || match portolan(&site, &["external", "list", SERVICE])? {
        listed if listed.matches(" failing").count() == 2 => Ok(()),
        listed => anyhow::bail!(listed),
    };
    eventually(PATIENCE, both_failing)?;
    all_answer(&site, &[&one, &two]).context("both died")?;
    two.program.start_again()?;
    all_answer(&site, &[&two]).context("two is back")?;
    an_order_holds_for_it(&site, (&mut one, &two))?;
    let deleted = portolan(&site, &["external", "delete", SERVICE])?;
    assert_eq!(deleted, format!("{NAME} is declared no more\n"));
    all_answer(&site, &[]).context("deleted")?;
    let again = site.node().portolan(&["external", "delete", SERVICE])?;
    assert!(again.code == Some(1) && again.error.contains("no service `db` is declared"), "{again:?}");
    Ok(())
}

/// What is declared can be drained, too: by the id that `explain` shows.
fn an_order_holds_for_it(site: &Site, (one, two): (&mut Server, &Server)) -> anyhow::Result<()> {
    one.program.start_again()?;
    all_answer(site, &[one, two])?;
    let why = site.node().portolan(&["-o", "json", "explain", SERVICE])?.json()?;
    let candidates = why["candidates"].as_array().context("no candidates")?;
    let of_one = candidates.iter().find(|candidate| candidate["address"] == one.node.address.to_string());
    let id = of_one.and_then(|candidate| candidate["container_id"].as_str()).context("no id")?;
    portolan(site, &["drain", id])?;
    all_answer(site, &[two]).context("drained")?;
    portolan(site, &["drain", id, "--undo"])?;
    all_answer(site, &[one, two]).context("put back")
}

/// The resolver of the world outside, whose names a test moves.
struct Outside {
    resolver: Program,
    hosts: PathBuf,
}

/// How long the outside name may be kept: long enough that a refresh that comes too late is seen.
const TTL: Duration = Duration::from_secs(4);
/// What is declared.
const HOST: &str = "db.example.com";

impl Outside {
    fn start(node: &Arc<Namespace>) -> anyhow::Result<Self> {
        let hosts = janitor::folder(&janitor::unique("hosts"), Kind::Folder)?.join("hosts");
        std::fs::write(&hosts, "")?;
        let (file, ttl) = (format!("--addn-hosts={}", hosts.display()), format!("--local-ttl={}", TTL.as_secs()));
        let resolver = start_dnsmasq(node, node.address, &[&file, &ttl, "--user=root"])?;
        Ok(Outside { resolver, hosts })
    }

    /// The name has these addresses from now on.
    fn put(&mut self, addresses: &[Ipv4Addr]) -> anyhow::Result<()> {
        let lines: String = addresses.iter().map(|address| format!("{address} {HOST}\n")).collect();
        write_whole(&self.hosts, &lines)?;
        self.resolver.signal(Signal::HUP)?;
        let node = self.resolver.node().clone();
        let server = SocketAddr::new(node.addr(), 53);
        let expected: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
        eventually_equal(PATIENCE, &Some(expected), || {
            let dug = node.dig(server, &format!("{HOST} A")).ok()?;
            Some(dug.data("A").into_iter().collect())
        })
        .context("the outside resolver")
    }
}

/// In one step: the resolver may read it at any moment.
fn write_whole(file: &Path, text: &str) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text)?;
    Ok(std::fs::rename(beside, file)?)
}

#[test]
fn a_declared_name_is_followed_where_it_moves() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig", "dnsmasq");
    let lab = Lab::start()?;
    let dns = lab.network.node("dns")?;
    let mut outside = Outside::start(&dns)?;
    let upstream = format!("--upstreams={}:53", dns.address);
    let site = Site::start_with(lab, &[&upstream], &[&upstream])?;
    let (one, two) = (Server::start(&site.lab, "one")?, Server::start(&site.lab, "two")?);
    portolan(&site, &["external", "set", NAME, &format!("{HOST}:{PORT}")])?;
    let listed = portolan(&site, &["external", "list", SERVICE])?;
    assert!(listed.contains("not resolved"), "{listed}");
    outside.put(&[one.node.address])?;
    all_answer(&site, &[&one]).context("the name is there")?;
    let client = site.lab.engine.run(&["--dns=169.254.53.53", "--dns-search=."], &["wait"])?;
    assert_eq!(reached(&client, 1)?, ["one".to_owned()].into());
    for (servers, what) in [(vec![&two], "moves"), (vec![&one, &two], "grows"), (vec![&one], "shrinks")] {
        let addresses: Vec<Ipv4Addr> = servers.iter().map(|server| server.node.address).collect();
        outside.put(&addresses)?;
        let moved = now();
        all_answer(&site, &servers).with_context(|| format!("the name {what}"))?;
        let took = moved.elapsed();
        report::say(&format!("the name {what}: answers follow after {took:.1?}, its TTL is {TTL:?}"));
        assert!(took <= TTL + Duration::from_secs(1), "it took {took:?}");
    }
    assert_eq!(reached(&client, 1)?, ["one".to_owned()].into());
    // A resolver that is gone, or says that the name is, takes nothing away.
    outside.put(&[])?;
    let is_lost = || match portolan(&site, &["external", "list"])? {
        listed if listed.contains(HOST) => Ok(()),
        listed => anyhow::bail!(listed),
    };
    eventually(PATIENCE, is_lost).context("shown as unresolved")?;
    all_answer(&site, &[&one]).context("the name is lost")?;
    outside.resolver.kill()?;
    throughout(Duration::from_secs(1), || {
        anyhow::ensure!(answered(&site)? == [one.place()].into(), "changed");
        Ok(())
    })?;
    let path = format!("/api/external/{CLUSTER}/{SERVICE}");
    let deleted = site.node().inside(|| http::request(REGISTRY_HTTP, &format!("DELETE {path}"), &[], ""))??;
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    all_answer(&site, &[]).context("deleted")
}

#[test]
fn a_declared_service_is_reached_by_the_address_that_its_name_had() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut site = Site::start()?;
    let server = Server::start(&site.lab, "one")?;
    // Once it was a container; clients keep its virtual address for ever.
    let task = site.lab.engine.run_task(
        &portolan_tests::container::EcsTask::new(CLUSTER, SERVICE),
        &["-p", "0:9200"],
        &["elasticsearch"],
    )?;
    let address = eventually(PATIENCE, || site.node().virtual_address(SERVICE))?;
    let link = SocketAddr::from((address, PORT));
    eventually(PATIENCE, || site.node().names_behind(link, 1))?;
    task.remove()?;
    // The name waits ten minutes for its owner; a registry that lost its store knows of none, only of the address.
    site.registry.kill()?;
    std::fs::remove_file(site.registry_data.join("registry.redb"))?;
    site.registry.start_again()?;
    is_ready(site.node(), REGISTRY_HTTP)?;
    let set = ["external", "set", NAME, &server.place(), "--check=1s"];
    eventually(PATIENCE, || portolan(&site, &set))?;
    let expected = BTreeSet::from(["one".to_owned()]);
    eventually_equal(PATIENCE, &Some(expected), || site.node().names_behind(link, 5).ok())?;
    assert_eq!(site.node().virtual_address(SERVICE)?, address);
    let client = site.lab.engine.run(&["--dns=169.254.53.53", "--dns-search=."], &["wait"])?;
    assert_eq!(client.exec(&["resolve", SERVICE])?.trim(), address.to_string());
    assert_eq!(client.inside(|| name_behind(link))??, "one");
    assert_eq!(reached(&client, 1)?, ["one".to_owned()].into());
    portolan(&site, &["external", "delete", NAME])?;
    eventually(PATIENCE, || site.node().refusal_time(link)).context("deleted")?;
    assert_eq!(site.node().virtual_address(SERVICE)?, address, "the name keeps its address");
    Ok(())
}
