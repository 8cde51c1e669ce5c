//! Two nodes with a task of the service `echo` on each; the registry is on the first, where operators type.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use serde_json::Value;

use portolan_tests::container::{Container, EcsTask};
use portolan_tests::dockerd::Engine;
use portolan_tests::namespace::Namespace;
use portolan_tests::site::{ADMIN, CLUSTER, Follower, NODE_DNS, REGISTRY_DNS, REGISTRY_HTTP, Site};
use portolan_tests::surfaces::full_name;
use portolan_tests::talk::Talk;
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal};

/// The service that every scene has.
pub(crate) const SERVICE: &str = "echo";
/// Its port.
pub(crate) const PORT: u16 = 7000;
/// Connections by which is looked who is behind a link: of two equals one is missed once in 2^24 looks.
const CONNECTIONS: u32 = 25;

/// The scene.
pub(crate) struct Scene {
    pub(crate) follower: Follower,
    pub(crate) site: Site,
    pub(crate) tasks: Vec<Task>,
    /// The service's virtual address and port.
    pub(crate) link: SocketAddr,
}

/// A task of the service.
pub(crate) struct Task {
    pub(crate) ecs: EcsTask,
    pub(crate) container: Container,
}

impl Task {
    /// Starts one; `options` go to docker.
    pub(crate) fn start(engine: &Arc<Engine>, options: &[&str]) -> anyhow::Result<Self> {
        let ecs = EcsTask::new(CLUSTER, SERVICE);
        let options = [&["-p", "0:7000"], options].concat();
        let container = engine.run_task(&ecs, &options, &["tcp", &PORT.to_string()])?;
        Ok(Task { ecs, container })
    }

    /// `address:port`, as answers have it.
    pub(crate) fn place(&self) -> anyhow::Result<String> {
        Ok(format!("{}:{}", self.container.engine().node().address, self.container.port(PORT)?))
    }

    /// As much of its id as people type.
    pub(crate) fn short_id(&self) -> &str {
        &self.ecs.task_id[..12]
    }
}

impl Scene {
    /// Starts everything; both tasks are in every answer.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let site = Site::start()?;
        let b = site.lab.network.node("b")?;
        let engine = Engine::start(&b)?;
        let follower = Follower::start(&site, &b, &engine.socket())?;
        let tasks = vec![Task::start(&site.lab.engine, &[])?, Task::start(&engine, &[])?];
        let address = eventually(PATIENCE, || site.node().virtual_address(SERVICE))?;
        let scene = Scene { follower, site, tasks, link: SocketAddr::from((address, PORT)) };
        scene.all_answer(&[0, 1]).context("at first")?;
        Ok(scene)
    }

    /// Where operators type.
    pub(crate) fn node(&self) -> &Arc<Namespace> {
        self.site.node()
    }

    /// Runs the command there; what it printed, once it did what it was asked for.
    pub(crate) fn portolan(&self, args: &[&str]) -> anyhow::Result<String> {
        self.node().portolan(args)?.done().with_context(|| format!("portolan {}", args.join(" ")))
    }

    /// Every surface answers exactly these tasks, and new connections by the link reach exactly these, from both nodes together.
    pub(crate) fn all_answer(&self, tasks: &[usize]) -> anyhow::Result<()> {
        let chosen = || tasks.iter().map(|&task| &self.tasks[task]);
        let places: BTreeSet<String> = chosen().map(Task::place).collect::<anyhow::Result<_>>()?;
        let address = |task: &Task| task.container.engine().node().address.to_string();
        let addresses: BTreeSet<String> = chosen().map(address).collect();
        let surfaces = ["registry SRV", "a's SRV", "b's SRV", "registry HTTP", "a's HTTP", "b's HTTP"];
        let mut expected: BTreeMap<&str, BTreeSet<String>> =
            surfaces.into_iter().map(|surface| (surface, places.clone())).collect();
        expected.extend(["registry A", "a's A", "b's A"].map(|surface| (surface, addresses.clone())));
        eventually_equal(PATIENCE, &Ok(expected), || self.answers().map_err(|error| format!("{error:#}")))?;
        let names: BTreeSet<String> = chosen().map(|task| task.container.host_name().to_owned()).collect();
        // A link prefers what is near, so a node need not reach all of them; both together do.
        let mut reached = BTreeSet::new();
        for node in [self.node(), &self.follower.node] {
            let found = node.inside(|| Talk::names(self.link, CONNECTIONS))?.context("a connection by the link")?;
            assert!(found.is_subset(&names), "behind the link at {}: {found:?}, not only {names:?}", node.address);
            reached.extend(found);
        }
        assert_eq!(reached, names, "behind the link");
        Ok(())
    }

    /// What each surface answers for the service's name.
    fn answers(&self) -> anyhow::Result<BTreeMap<&'static str, BTreeSet<String>>> {
        let (a, b) = (self.node(), &self.follower.node);
        Ok(BTreeMap::from([
            ("registry SRV", a.registry_srv(SERVICE)?),
            ("a's SRV", a.node_srv(SERVICE)?),
            ("b's SRV", b.node_srv(SERVICE)?),
            ("registry A", direct(a, REGISTRY_DNS)?),
            ("a's A", direct(a, NODE_DNS)?),
            ("b's A", direct(b, NODE_DNS)?),
            ("registry HTTP", resolved(a, REGISTRY_HTTP)?),
            ("a's HTTP", resolved(a, ADMIN)?),
            ("b's HTTP", resolved(b, ADMIN)?),
        ]))
    }

    /// The candidate that a task is, as `portolan explain -o json` shows it.
    pub(crate) fn candidate(&self, task: usize) -> anyhow::Result<Value> {
        let name = format!("{SERVICE}.{CLUSTER}");
        let why = self.node().portolan(&["-o", "json", "explain", &name])?.json()?;
        let candidates = why["candidates"].as_array().context("no candidates")?;
        let id = &self.tasks[task].container.id;
        let found = candidates.iter().find(|candidate| candidate["container_id"] == id.as_str());
        found.cloned().with_context(|| format!("no candidate {id} in {why}"))
    }

    /// What the operator says of a task, in `portolan explain`.
    pub(crate) fn order(&self, task: usize) -> anyhow::Result<Option<String>> {
        let candidate = self.candidate(task)?;
        let witnesses = candidate["witnesses"].as_array().context("no witnesses")?;
        let operator = witnesses.iter().find(|witness| witness["witness"] == "operator");
        Ok(operator.and_then(|operator| operator["word"].as_str()).map(str::to_owned))
    }
}

/// The addresses that a server gives the service, without the virtual one.
fn direct(node: &Namespace, server: SocketAddr) -> anyhow::Result<BTreeSet<String>> {
    let dug = node.dig(server, &format!("direct.{} A", full_name(SERVICE)))?;
    anyhow::ensure!(dug.status == "NOERROR", "{}", dug.text);
    Ok(dug.data("A").into_iter().collect())
}

/// The places that `GET /api/resolve` gives for the service.
pub(crate) fn resolved(node: &Namespace, addr: SocketAddr) -> anyhow::Result<BTreeSet<String>> {
    let answer = node.fetch(addr, &format!("/api/resolve/{}", full_name(SERVICE)))?;
    anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
    let json = answer.json()?;
    let place = |record: &Value| -> anyhow::Result<String> {
        let address: IpAddr = record["address"].as_str().context("no address")?.parse()?;
        Ok(format!("{address}:{}", record["port"]))
    };
    json["srv"].as_array().context("no records")?.iter().map(place).collect()
}
