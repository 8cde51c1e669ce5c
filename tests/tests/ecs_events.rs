//! What ECS says and does, by events on the wire, until DNS answers so: real programs, real containers, in real time.

#[path = "ecs_events/asked.rs"]
mod asked;
#[path = "ecs_events/delays.rs"]
mod delays;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use portolan_tests::double::{Definition, Service, ServiceWish, Task};
use portolan_tests::http;
use portolan_tests::namespace::Namespace;
use portolan_tests::needs;
use portolan_tests::programs::Program;
use portolan_tests::site::ecs::EcsLab;
use portolan_tests::site::{NODE_DNS, REGISTRY_DNS, REGISTRY_GRPC, start_sidecar};
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal, now};
use portolan_tests::wire::Wire;

use asked::Asked;
use delays::Delays;

/// The service, which no task's family is called.
const SERVICE: &str = "search";
/// How often each thing is done.
const ROUNDS: usize = 10;
/// The host port of the first revision that names its own.
const FIRST_PORT: u16 = 31_000;

/// A node with a registry and a sidecar, and another node with a sidecar alone.
struct Scene {
    _registry: Program,
    _sidecar: Program,
    _follower: Program,
    _wire: Wire,
    other: Arc<Namespace>,
    lab: EcsLab,
}

impl Scene {
    fn start(seed: u64) -> anyhow::Result<Self> {
        let lab = EcsLab::start(seed)?;
        let registry = lab.start_registry()?;
        let sidecar = lab.start_sidecar()?;
        let other = lab.lab.another_node()?;
        let wire = Wire::lay(&other, lab.node(), REGISTRY_GRPC)?;
        let mut follower = start_sidecar(&other, Path::new("/nonexistent"), &["--node=b"])?;
        follower.listening("node-dns")?;
        Ok(Scene { _registry: registry, _sidecar: sidecar, _follower: follower, _wire: wire, other, lab })
    }

    fn asked(&self) -> anyhow::Result<[Asked<'_>; 3]> {
        Ok([
            Asked::new("registry", (self.lab.node(), REGISTRY_DNS), SERVICE)?,
            Asked::new("its node", (self.lab.node(), NODE_DNS), SERVICE)?,
            Asked::new("another node", (&self.other, NODE_DNS), SERVICE)?,
        ])
    }
}

/// A task whose port 9200 gets a host port by chance, or this one.
fn elasticsearch(host_port: u16) -> Definition {
    let port = Definition::bridge("elasticsearch").port(9200).named("http").on_host_port(host_port);
    port.plays(&["elasticsearch"])
}

/// `address:port` of a task that runs.
fn place(lab: &EcsLab, task: &Task) -> anyhow::Result<String> {
    Ok(format!("{}:{}", lab.node().address, lab.docker.container(task, "elasticsearch")?.port(9200)?))
}

/// Everybody who is asked gives the tasks of the service that run, and no other.
fn all_answer(lab: &EcsLab, asked: &[Asked<'_>], service: &Service, timeout: Duration) -> anyhow::Result<()> {
    let places = service.tasks().iter().map(|task| place(lab, task)).collect::<anyhow::Result<BTreeSet<_>>>()?;
    asked.iter().try_for_each(|asked| {
        let look = || asked.node.srv(asked.server, SERVICE).map_err(|error| format!("{error:#}"));
        eventually_equal(timeout, &Ok(places.clone()), look).context(asked.who)
    })
}

/// When, since then, each who is asked first had the place in its answer, or first lacked it.
fn moments(
    asked: &[Asked<'_>],
    since: Instant,
    place: &str,
    is_in: bool,
) -> anyhow::Result<Vec<(&'static str, Instant)>> {
    asked.iter().map(|asked| asked.moment(since, place, is_in)).collect()
}

/// The tasks that are to run and do not yet.
fn not_started(service: &Service) -> Vec<Task> {
    service.tasks().into_iter().filter(|task| task.now().last_status != "RUNNING").collect()
}

/// A connection that is kept, to one of the stand-ins.
struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(node: &Namespace, addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = node.inside(|| TcpStream::connect_timeout(&addr, PATIENCE))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { reader: BufReader::new(stream) })
    }

    /// Connects until the one who answers has this name.
    fn open_to(node: &Namespace, addr: SocketAddr, name: &str) -> anyhow::Result<Self> {
        eventually(PATIENCE, || {
            let mut connection = Connection::open(node, addr)?;
            let found = connection.ask()?;
            anyhow::ensure!(found == name, "{addr} leads to {found}, not to {name}");
            Ok(connection)
        })
    }

    /// Who answers.
    fn ask(&mut self) -> anyhow::Result<String> {
        self.reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: search\r\n\r\n")?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            anyhow::ensure!(self.reader.read_line(&mut line)? > 0, "the connection was closed");
            if line == "\r\n" {
                break;
            }
            if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = number.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        let answer: serde_json::Value = serde_json::from_slice(&body)?;
        answer["name"].as_str().map(str::to_owned).with_context(|| format!("no name in {answer}"))
    }
}

#[test]
fn what_ecs_stops_leaves_every_answer_before_docker_stops_it() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start(1)?;
    let (lab, asked) = (&scene.lab, scene.asked()?);
    let service = lab.cluster.service(SERVICE, &lab.aws.define(elasticsearch(0)), 2);
    lab.docker.settle()?;
    all_answer(lab, &asked, &service, PATIENCE)?;
    let link = SocketAddr::from((eventually(PATIENCE, || lab.node().virtual_address(SERVICE))?, 9200));
    let mut delays = Delays::default();
    for round in 0..ROUNDS {
        let stopping = service.tasks().remove(0);
        let (place, container) = (place(lab, &stopping)?, lab.docker.container(&stopping, "elasticsearch")?);
        let mut straight = Connection::open_to(&scene.other, place.parse()?, container.host_name())?;
        let mut linked = Connection::open_to(lab.node(), link, container.host_name())?;
        let told = now();
        stopping.stop("by hand");
        delays.add(told, moments(&asked, told, &place, false).with_context(|| format!("round {round}"))?);
        assert_eq!(container.inspect("{{.State.Running}}")?, "true", "Docker was not told yet");
        assert_eq!(straight.ask()?, container.host_name(), "what was open goes on");
        assert_eq!(linked.ask()?, container.host_name(), "what was open through the link goes on");
        let shown = lab.node().service(SERVICE)?;
        let endpoints = shown["endpoints"].as_array().context("no endpoints")?;
        let is_it = |endpoint: &&serde_json::Value| endpoint["task_id"] == stopping.id();
        let endpoint = endpoints.iter().find(is_it).with_context(|| format!("it is not in {shown:#}"))?;
        assert_eq!(endpoint["state"], "draining");
        lab.docker.settle()?;
        all_answer(lab, &asked, &service, PATIENCE).with_context(|| format!("after round {round}"))?;
    }
    delays.check("from ECS's event to out of the answer", ROUNDS);
    Ok(())
}

#[test]
fn what_ecs_starts_is_answered_once_it_can_be_reached() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start(2)?;
    let (lab, asked) = (&scene.lab, scene.asked()?);
    let service = lab.cluster.service(SERVICE, &lab.aws.define(elasticsearch(FIRST_PORT)), 1);
    lab.docker.settle()?;
    all_answer(lab, &asked, &service, PATIENCE)?;
    let mut delays = Delays::default();
    for round in 1..=u16::try_from(ROUNDS)? {
        // A new revision each time, whose port is known before Docker is told.
        let port = FIRST_PORT + round;
        service.deploy(&lab.aws.define(elasticsearch(port)));
        let fresh = not_started(&service).pop().context("a deployment starts a task")?;
        let addr = SocketAddr::new(lab.node().addr(), port);
        let began = now();
        let reached = std::thread::scope(|scope| -> anyhow::Result<_> {
            let reached = scope.spawn(|| reached(&scene.other, addr));
            lab.docker.start(&fresh)?;
            reached.join().map_err(|_| anyhow::anyhow!("asking panicked"))?
        })?;
        delays.add(reached, moments(&asked, began, &addr.to_string(), true)?);
        lab.docker.settle()?;
        all_answer(lab, &asked, &service, PATIENCE).with_context(|| format!("after round {round}"))?;
    }
    delays.check("from the first connection to in the answer", ROUNDS);
    Ok(())
}

/// When a request there was first answered, from that node.
fn reached(node: &Namespace, addr: SocketAddr) -> anyhow::Result<Instant> {
    node.inside(|| eventually(PATIENCE, || http::fetch(addr, "/").map(|_| now())))?
}

#[test]
fn without_a_sidecar_events_alone_are_enough() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "dig");
    let lab = EcsLab::start(3)?;
    let _registry = lab.start_registry()?;
    let asked = [Asked::new("registry", (lab.node(), REGISTRY_DNS), SERVICE)?];
    let service = lab.cluster.service(SERVICE, &lab.aws.define(elasticsearch(0)), 2);
    lab.docker.settle()?;
    // For a minute somebody else may still speak for the node.
    all_answer(&lab, &asked, &service, Duration::from_secs(90))?;
    let (mut started, mut stopped) = (Delays::default(), Delays::default());
    for round in 0..ROUNDS / 2 {
        let old = service.tasks();
        let places = old.iter().map(|task| place(&lab, task)).collect::<anyhow::Result<Vec<_>>>()?;
        // A new revision, which the registry has to read first.
        service.deploy(&lab.aws.define(elasticsearch(0)));
        for fresh in not_started(&service) {
            let wanted = |task: &Task| task.now().desired_status == "RUNNING";
            let wanted_before: Vec<bool> = old.iter().map(wanted).collect();
            let began = now();
            lab.docker.start(&fresh)?;
            let told = now();
            started.add(told, moments(&asked, began, &place(&lab, &fresh)?, true)?);
            let stopping = (0..old.len()).find(|&at| wanted_before[at] && !wanted(&old[at]));
            let stopping = stopping.context("one that is new lets an old one stop")?;
            stopped.add(told, moments(&asked, began, &places[stopping], false)?);
            let container = lab.docker.container(&old[stopping], "elasticsearch")?;
            assert_eq!(container.inspect("{{.State.Running}}")?, "true", "Docker was not told yet");
        }
        lab.docker.settle()?;
        all_answer(&lab, &asked, &service, PATIENCE).with_context(|| format!("after round {round}"))?;
    }
    started.check("from ECS's RUNNING to in the answer, without a sidecar", ROUNDS);
    stopped.check("from ECS's event to out of the answer, without a sidecar", ROUNDS);
    Ok(())
}

#[test]
fn a_task_with_service_connect_goes_by_the_service_that_ecs_says() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let lab = EcsLab::start(4)?;
    let _registry = lab.start_registry()?;
    let _sidecar = lab.start_sidecar()?;
    let connected = ServiceWish { is_connected: true, ..ServiceWish::default() };
    let service = lab.cluster.service_as(SERVICE, (&lab.aws.define(elasticsearch(0)), 1), connected);
    lab.docker.settle()?;
    // Its ports are those of the container that holds its network.
    let pause = lab.docker.container(&service.tasks()[0], "~internal~ecs~pause-elasticsearch")?;
    let place = format!("{}:{}", lab.node().address, pause.port(9200)?);
    for server in [REGISTRY_DNS, NODE_DNS] {
        let look = || lab.node().srv(server, SERVICE).map_err(|error| format!("{error:#}"));
        eventually_equal(PATIENCE, &Ok([place.clone()].into()), look)?;
    }
    assert_eq!(lab.node().fetch(place.parse()?, "/")?.status, 200);
    let family = lab.node().dig(REGISTRY_DNS, "elasticsearch.production.ecs.internal SRV")?;
    assert_eq!(family.status, "NXDOMAIN", "{}", family.text);
    Ok(())
}
