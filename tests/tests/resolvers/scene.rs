//! A node whose services change all the time, and clients that look names up there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use portolan_tests::container::Container;
use portolan_tests::janitor::{self, Kind};
use portolan_tests::lab::Lab;
use portolan_tests::namespace::{Namespace, command_with_resolver_in};
use portolan_tests::programs::Program;
use portolan_tests::site::{CLUSTER, Dev, NODE_DNS, REGISTRY_HTTP, start_outside_resolver};
use portolan_tests::surfaces::full_name;
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal, pause};
use portolan_tests::{http, parts, report};

/// The addresses of the declared service `search`: the first two, then the last two, and so on.
pub(crate) const SEARCH: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
/// How long each pair stays.
const MOVE_EVERY: Duration = Duration::from_millis(20);
/// Later than this a lookup is late.
const LATE: &str = "100 ms";
/// How many of a thousand lookups may be late on a machine that does other things, too.
const LATE_PER_THOUSAND: usize = 1;

/// What a client measured of its lookups.
#[derive(Debug, Deserialize)]
pub(crate) struct Figures {
    lookups: usize,
    failed: usize,
    late: usize,
    median_us: u64,
    max_us: u64,
    seen: Vec<String>,
}

/// How many lookups a client makes: 2,000, or `LOOKUPS` of the environment.
pub(crate) fn lookups() -> String {
    std::env::var("LOOKUPS").unwrap_or_else(|_| "2000".to_owned())
}

/// A container asks 169.254.53.53, with a search list; outside there is no name at all.
pub(crate) struct Scene {
    /// `NAME=ADDRESS,…` for the clients; without an address the name does not exist.
    pub(crate) names: Vec<String>,
    container: Container,
    folder: PathBuf,
    dev: Dev,
    _outside: Program,
}

impl Scene {
    /// Starts everything.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let lab = Lab::start()?;
        let (outside, resolver) = start_outside_resolver(&lab, &["--local=/#/"])?;
        let dev = Dev::start_in(lab, &[&format!("--upstreams={resolver}")])?;
        dev.lab.engine.run_elasticsearch(CLUSTER)?;
        let address = eventually(PATIENCE, || dev.node().virtual_address("elasticsearch"))?;
        declare(dev.node(), &SEARCH[..2])?;
        eventually_equal(PATIENCE, &Some(2), || {
            Some(dev.node().dig(NODE_DNS, &format!("{} A", full_name("search"))).ok()?.data("A").len())
        })?;
        let names = vec![
            format!("elasticsearch={address}"),
            format!("search.{CLUSTER}.ecs.internal={}", SEARCH.join(",")),
            format!("elasticsearch.{CLUSTER}.ecs.internal={address}"),
            format!("nothing.{CLUSTER}.ecs.internal="),
            format!("direct.{}={}", full_name("elasticsearch"), dev.node().address),
        ];
        let container = dev.lab.engine.run(&[], &["wait"])?;
        let folder = janitor::folder(&janitor::unique("clients"), Kind::Folder)?;
        Ok(Scene { names, container, folder, dev, _outside: outside })
    }

    /// The node.
    pub(crate) fn node(&self) -> &std::sync::Arc<Namespace> {
        self.dev.node()
    }

    /// A place for what a test builds.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A client in the container's network, with a resolv.conf as `--dns` and `--dns-search` make it.
    pub(crate) fn client(&self, program: &str) -> anyhow::Result<Command> {
        let resolv_conf = self.resolv_conf(NODE_DNS)?;
        Ok(command_with_resolver_in(&self.container.network()?, program, &resolv_conf))
    }

    /// As [`Scene::client`], in the node's own network, asking `resolver`.
    pub(crate) fn host_client(&self, program: &str, resolver: SocketAddr) -> anyhow::Result<Command> {
        Ok(self.node().command_with_resolver(program, &self.resolv_conf(resolver)?))
    }

    fn resolv_conf(&self, resolver: SocketAddr) -> anyhow::Result<PathBuf> {
        let file = self.folder.join(format!("resolv-{}.conf", resolver.ip()));
        std::fs::write(&file, format!("nameserver {}\nsearch {CLUSTER}.ecs.internal\n", resolver.ip()))?;
        Ok(file)
    }

    /// Runs clients one after the other while the endpoints change; each must find what is there, at once.
    pub(crate) fn check(&self, clients: Vec<(&str, Command)>) -> anyhow::Result<()> {
        let is_over = AtomicBool::new(false);
        let (moves, replacements) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| -> anyhow::Result<()> {
            let mover = scope.spawn(|| until(&is_over, &moves, |turn| self.move_search(turn)));
            let replacer = scope.spawn(|| until(&is_over, &replacements, |_| self.replace_a_task()));
            let checked = clients.into_iter().try_for_each(|(name, command)| self.measure(name, command, &moves));
            is_over.store(true, Ordering::SeqCst);
            for changer in [mover, replacer] {
                changer.join().map_err(|_| anyhow::anyhow!("a changer panicked"))??;
            }
            checked
        })?;
        report::say(&format!("meanwhile `search` moved {moves:?} times and {replacements:?} tasks came and went"));
        assert!(moves.into_inner() > 0 && replacements.into_inner() > 0, "nothing changed meanwhile");
        Ok(())
    }

    fn measure(&self, name: &str, mut command: Command, moves: &AtomicUsize) -> anyhow::Result<()> {
        let before = moves.load(Ordering::SeqCst);
        let output = command.args([&lookups()]).args(&self.names).output().with_context(|| format!("start {name}"))?;
        let complaints = String::from_utf8_lossy(&output.stderr);
        let figures: Figures =
            serde_json::from_slice(&output.stdout).with_context(|| format!("{name}: {complaints}"))?;
        let Figures { lookups, failed, late, median_us, max_us, .. } = figures;
        let moved = moves.load(Ordering::SeqCst) - before;
        report::say(&format!(
            "{name}: {lookups} lookups during {moved} moves, {failed} failed, {late} over {LATE}, median {median_us} us, \
             longest {max_us} us"
        ));
        anyhow::ensure!(failed == 0, "{name}: {complaints}");
        anyhow::ensure!(late * 1000 <= LATE_PER_THOUSAND * lookups, "{name}: {late} of {lookups} took over {LATE}");
        for address in SEARCH {
            let is_seen = figures.seen.iter().any(|seen| seen == address);
            anyhow::ensure!(is_seen, "{name} never saw {address}: {:?}", figures.seen);
        }
        Ok(())
    }

    fn move_search(&self, turn: usize) -> anyhow::Result<()> {
        pause(MOVE_EVERY);
        declare(self.node(), if turn.is_multiple_of(2) { &SEARCH[1..] } else { &SEARCH[..2] })
    }

    /// A second task of `elasticsearch` comes and is killed.
    fn replace_a_task(&self) -> anyhow::Result<()> {
        let task = self.dev.lab.engine.run_elasticsearch(CLUSTER)?;
        task.remove()
    }
}

/// Changes until it is over, and counts.
fn until(
    is_over: &AtomicBool,
    turns: &AtomicUsize,
    mut change: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while !is_over.load(Ordering::SeqCst) {
        change(turns.load(Ordering::SeqCst))?;
        turns.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

fn declare(node: &Namespace, hosts: &[&str]) -> anyhow::Result<()> {
    let endpoints: Vec<_> = hosts.iter().map(|host| serde_json::json!({"host": host, "port": 80})).collect();
    let (line, body) = (format!("PUT /api/external/{CLUSTER}/search"), serde_json::json!({"endpoints": endpoints}));
    let json = ["Content-Type: application/json"];
    let answer = node.inside(|| http::request(REGISTRY_HTTP, &line, &json, &body.to_string()))??;
    anyhow::ensure!(answer.status < 300, "{line}: {} {}", answer.status, answer.body);
    Ok(())
}

/// Compiles the C client; gives the program's file.
pub(crate) fn compile(scene: &Scene, compiler: &str, args: &[&str]) -> anyhow::Result<String> {
    let program = scene.folder().join(format!("lookup-{compiler}")).to_string_lossy().into_owned();
    let mut command = parts::command(compiler);
    parts::run(command.args(["-O2", "-o", &program, &source("lookup.c")]).args(args))?;
    Ok(program)
}

/// A client's source file.
pub(crate) fn source(name: &str) -> String {
    format!("{}/tests/resolvers/{name}", env!("CARGO_MANIFEST_DIR"))
}
