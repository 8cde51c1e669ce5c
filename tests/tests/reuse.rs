//! A host port that a death freed goes to another service: nobody on another host takes that one for the former.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use portolan_tests::container::{Container, EcsTask};
use portolan_tests::dockerd::Engine;
use portolan_tests::namespace::Namespace;
use portolan_tests::programs::Program;
use portolan_tests::site::{ADMIN, CLUSTER, REGISTRY_GRPC, REGISTRY_HTTP, Site, start_sidecar};
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal, now, pause};
use portolan_tests::wire::Wire;
use portolan_tests::{needs, report};

/// The host port that changes hands.
const PORT: u16 = 31_001;
/// A `guard` that a test can wait for, and longer than a port is closed when everybody tells in time.
const SHORT: Duration = Duration::from_secs(8);
/// What "within about a second" may take on a machine that runs other tests, too.
const SOON: Duration = Duration::from_secs(5);

/// A node with a registry and a sidecar, and one beside it whose port changes hands.
struct Scene {
    site: Site,
    owner: Program,
    engine: Arc<Engine>,
    _wire: Wire,
    node: Arc<Namespace>,
}

impl Scene {
    fn start(guard: &str) -> anyhow::Result<Self> {
        let site = Site::start()?;
        let node = site.lab.another_node()?;
        let engine = Engine::start(&node)?;
        let wire = Wire::lay(&node, site.node(), REGISTRY_GRPC)?;
        let mut owner = start_sidecar(&node, &engine.socket(), &["--node=b", &format!("--guard={guard}")])?;
        owner.listening("node-dns")?;
        Ok(Scene { site, owner, engine, _wire: wire, node })
    }

    /// Creates a task of that family that will have the port.
    fn create(&self, family: &str) -> anyhow::Result<Container> {
        let task = EcsTask::new(CLUSTER, family).options();
        let task: Vec<&str> = task.iter().map(String::as_str).collect();
        let (variable, publish) = (format!("SERVICE={family}"), format!("{PORT}:9200"));
        self.engine.create(&[&task[..], &["-p", &publish, "-e", &variable]].concat(), &["elasticsearch"])
    }

    /// Starts a task and waits until the first node leads there; returns the link.
    fn run(&self, task: &Container, family: &str) -> anyhow::Result<SocketAddr> {
        task.docker(&["start"])?;
        let address = eventually(PATIENCE, || self.site.node().virtual_address(family))?;
        let link = SocketAddr::from((address, 9200));
        eventually_equal(PATIENCE, &Some(family.to_owned()), || answered_by(self.site.node(), link).ok())?;
        Ok(link)
    }

    /// Where a client goes that remembers the place.
    fn place(&self) -> SocketAddr {
        SocketAddr::new(self.node.addr(), PORT)
    }

    /// What the owner says of its guard.
    fn guard(&self) -> anyhow::Result<Value> {
        Ok(self.node.fetch(ADMIN, "/api/status")?.json()?["guard"].clone())
    }

    fn is_closed(&self) -> anyhow::Result<bool> {
        let guard = self.guard()?;
        anyhow::ensure!(guard["problem"].is_null(), "{guard}");
        Ok(guard["ports"].as_array().context("no ports")?.iter().any(|port| port["port"] == PORT))
    }

    /// That the port is open. The kernel opens it, and a moment later the sidecar says so.
    fn is_open(&self) -> anyhow::Result<()> {
        eventually_equal(Duration::from_millis(500), &Some(false), || self.is_closed().ok())
    }

    /// How often the owner opened ports for that reason.
    fn opened(&self, reason: &str) -> anyhow::Result<u64> {
        let metrics = self.node.fetch(ADMIN, "/metrics")?.body;
        let series = format!("portolan_guard_opened_total{{reason=\"{reason}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
        line.with_context(|| format!("no {series} in {metrics}"))?.parse().context("a count")
    }

    /// The first node's clients of the port, by link and by the place that they remember, until `is_over`. Whoever meets `next`
    /// while the port is closed, or by the link of the other service, was led to the wrong one.
    fn watch(&self, link: SocketAddr, next: &str, is_over: impl Fn() -> bool) -> anyhow::Result<Counts> {
        let mut counts = Counts::default();
        loop {
            // Asked before: what is over now was over for all that follows.
            let ends = is_over();
            match answered_by(self.site.node(), link) {
                Ok(who) => {
                    anyhow::ensure!(who != next, "the link led to {who}");
                    counts.by_link += 1;
                }
                Err(_) => counts.refused_by_link += 1,
            }
            match answered_by(self.site.node(), self.place()) {
                Ok(who) if who == next => {
                    self.is_open().with_context(|| format!("{next} was met while the port was closed"))?;
                    counts.next += 1;
                }
                Ok(_) => counts.former += 1,
                Err(_) => counts.refused += 1,
            }
            if ends {
                return Ok(counts);
            }
            pause(Duration::from_millis(5));
        }
    }

    fn is_usable(&self, family: &str) -> bool {
        self.site.node().usable(family).is_ok_and(|places| !places.is_empty())
    }

    /// What `explain` tells of the newest candidate of a service: state and refusals.
    fn explained(&self, family: &str) -> anyhow::Result<String> {
        let path = format!("/api/explain/{family}.{CLUSTER}.ecs.internal");
        Ok(self.site.node().fetch(REGISTRY_HTTP, &path)?.json()?["candidates"].to_string())
    }
}

#[derive(Debug, Default)]
struct Counts {
    by_link: usize,
    refused_by_link: usize,
    former: usize,
    refused: usize,
    next: usize,
}

/// Which service answers there, as seen from `node`.
fn answered_by(node: &Namespace, address: SocketAddr) -> anyhow::Result<String> {
    let answer = node.fetch(address, "/")?.json()?;
    Ok(answer["service"].as_str().context("no service")?.to_owned())
}

/// A sidecar's worker and its keeper, stopped until this is dropped.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn stop(sidecar: &Program) -> anyhow::Result<Self> {
        let pid = |pid: u32| Pid::from_raw(pid.cast_signed()).context("no process id");
        let pids = vec![pid(sidecar.worker_pid()?)?, pid(sidecar.pid())?];
        pids.iter().try_for_each(|pid| kill_process(*pid, Signal::STOP))?;
        Ok(Stopped(pids))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            kill_process(*pid, Signal::CONT).ok();
        }
    }
}

#[test]
fn another_service_has_the_port_once_every_follower_forgot_the_former() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start("60s")?;
    let (red, blue) = (scene.create("red")?, scene.create("blue")?);
    let link = scene.run(&red, "red")?;
    let dead = now();
    red.kill()?;
    assert!(scene.is_closed()?, "closed at once: {}", scene.guard()?);
    blue.docker(&["start"])?;
    let counts = scene.watch(link, "blue", || scene.is_usable("blue") || dead.elapsed() > PATIENCE)?;
    let took = dead.elapsed();
    report::say(&format!("the next service was usable {took:.2?} after the kill: {counts:?}"));
    assert!(scene.is_usable("blue"), "not within {PATIENCE:?}: {}", scene.explained("blue")?);
    assert!(took < SOON, "it took {took:?}");
    assert!(counts.refused > 10, "{counts:?}");
    assert_eq!(answered_by(scene.site.node(), scene.place())?, "blue");
    assert_eq!((scene.opened("released")?, scene.opened("expired")?), (1, 0));
    Ok(())
}

#[test]
fn a_follower_that_stalls_holds_the_port_until_the_guard_is_over() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start("8s")?;
    let (red, blue) = (scene.create("red")?, scene.create("blue")?);
    scene.run(&red, "red")?;
    let neighbour = scene.engine.run(&[], &["wait"])?;
    scene.engine.docker(&["network", "create", "front"])?;
    let stranger = scene.engine.run(&["--network=front"], &["wait"])?;
    let stopped = Stopped::stop(&scene.site.sidecar)?;
    let dead = now();
    red.kill()?;
    blue.docker(&["start"])?;
    let url = format!("http://{}/", scene.place());
    eventually(SOON, || match scene.node.fetch(scene.place(), "/") {
        Ok(answer) if answer.body.contains("\"blue\"") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .context("a process of the node itself")?;
    for (who, container) in [("of the default bridge", &neighbour), ("of another bridge", &stranger)] {
        let body = container.exec(&["get", &url]).with_context(|| format!("a container {who}"))?;
        assert!(body.contains("\"blue\""), "{who}: {body}");
    }
    assert!(dead.elapsed() < SHORT, "too slow to tell: {:?}", dead.elapsed());
    let held = eventually(SOON, || match scene.explained("blue") {
        Ok(text) if text.contains("it belonged to") => Ok(text),
        other => Err(format!("{other:?}")),
    })?;
    assert!(held.contains("\"starting\""), "{held}");
    while !scene.is_usable("blue") {
        assert!(dead.elapsed() < SHORT + SOON, "{}", scene.guard()?);
        if let Ok(who) = answered_by(scene.site.node(), scene.place()) {
            anyhow::ensure!(dead.elapsed() >= SHORT - Duration::from_millis(100), "{who} after {:?}", dead.elapsed());
        }
        pause(Duration::from_millis(20));
    }
    report::say(&format!("with a follower that was stopped the port was open after {:.2?}", dead.elapsed()));
    assert!(dead.elapsed() >= SHORT - Duration::from_millis(100), "it opened after {:?}", dead.elapsed());
    assert_eq!((scene.opened("released")?, scene.opened("expired")?), (0, 1));
    drop(stopped);
    Ok(())
}

#[test]
fn the_same_service_has_its_port_again_at_once() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start("60s")?;
    let (first, second) = (scene.create("red")?, scene.create("red")?);
    let link = scene.run(&first, "red")?;
    // Nobody tells that it forgot the first.
    let _stopped = Stopped::stop(&scene.site.sidecar)?;
    first.kill()?;
    second.docker(&["start"])?;
    let began = now();
    eventually_equal(SOON, &Some("red".to_owned()), || answered_by(scene.site.node(), scene.place()).ok())
        .with_context(|| scene.guard().unwrap_or_default().to_string())?;
    report::say(&format!("the same service had its port {:.2?} after its start", began.elapsed()));
    scene.is_open()?;
    eventually_equal(SOON, &true, || scene.is_usable("red"))?;
    assert_eq!((scene.opened("same_service")?, scene.opened("released")?), (1, 0), "{link}");
    Ok(())
}

#[test]
fn a_port_stays_closed_while_its_sidecar_starts_again() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start("8s")?;
    let (red, blue) = (scene.create("red")?, scene.create("blue")?);
    scene.run(&red, "red")?;
    scene.site.registry.kill()?;
    let dead = now();
    red.kill()?;
    blue.docker(&["start"])?;
    eventually_equal(SOON, &Some(true), || scene.is_closed().ok())?;
    scene.owner.start_again()?;
    scene.owner.listening("node-dns")?;
    eventually_equal(PATIENCE, &Some(true), || scene.guard().ok().map(|guard| guard["problem"].is_null()))?;
    while dead.elapsed() < SHORT - Duration::from_secs(1) {
        assert!(scene.is_closed()?, "open after {:?}", dead.elapsed());
        if let Ok(who) = answered_by(scene.site.node(), scene.place()) {
            anyhow::bail!("{who} answered after {:?}", dead.elapsed());
        }
        pause(Duration::from_millis(20));
    }
    eventually_equal(SOON, &Some("blue".to_owned()), || answered_by(scene.site.node(), scene.place()).ok())?;
    report::say(&format!("over a restart without a registry the port was open after {:.2?}", dead.elapsed()));
    // A death that no sidecar sees.
    let green = scene.create("green")?;
    scene.site.registry.start_again()?;
    eventually_equal(PATIENCE, &true, || scene.is_usable("blue"))?;
    eventually(PATIENCE, || match scene.guard() {
        Ok(guard) if guard["ports"].as_array().is_some_and(Vec::is_empty) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    // The snapshot has to know it.
    pause(Duration::from_secs(2));
    scene.owner.kill()?;
    blue.kill()?;
    green.docker(&["start"])?;
    scene.owner.start_again()?;
    eventually_equal(PATIENCE, &Some(true), || scene.is_closed().ok()).context("a death that no sidecar saw")?;
    Ok(())
}

/// The states of a service's endpoints as the first node answers them.
fn states(scene: &Scene, family: &str) -> anyhow::Result<Vec<String>> {
    let path = format!("/api/resolve/{family}.{CLUSTER}.ecs.internal");
    let answer = scene.site.node().fetch(ADMIN, &path)?.json()?;
    let records = answer["srv"].as_array().context("no records")?;
    Ok(records.iter().map(|record| record["state"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn without_a_registry_the_owner_tells_that_a_port_is_no_longer_its_former_ones() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start("25s")?;
    let (red, blue) = (scene.create("red")?, scene.create("blue")?);
    let link = scene.run(&red, "red")?;
    scene.site.registry.kill()?;
    let dead = now();
    red.kill()?;
    blue.docker(&["start"])?;
    let is_forgotten = || states(&scene, "red").is_ok_and(|states| states.is_empty());
    let counts = scene.watch(link, "blue", || is_forgotten() || dead.elapsed() > Duration::from_secs(25))?;
    report::say(&format!("without a registry the follower forgot {:.1?} after the death: {counts:?}", dead.elapsed()));
    assert!(is_forgotten(), "still answered after {:?}: {:?}", dead.elapsed(), states(&scene, "red"));
    let counts = scene.watch(link, "blue", || !scene.is_closed().unwrap_or(true) || dead.elapsed() > PATIENCE * 2)?;
    report::say(&format!("the port was open {:.1?} after the death: {counts:?}", dead.elapsed()));
    assert_eq!((scene.opened("released")?, scene.opened("expired")?), (0, 1));
    let counts = scene.watch(link, "blue", || dead.elapsed() > Duration::from_secs(27))?;
    assert!(counts.next > 0 && counts.by_link == 0, "{counts:?}");
    Ok(())
}

#[test]
fn an_owner_that_cannot_be_asked_is_used_last_and_marked() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start("60s")?;
    let red = scene.create("red")?;
    let link = scene.run(&red, "red")?;
    scene.site.registry.kill()?;
    let killed = now();
    let stopped = Stopped::stop(&scene.owner)?;
    let is_marked = |mark: &str| states(&scene, "red").is_ok_and(|states| states == [mark]);
    while !is_marked("unverified") {
        assert!(killed.elapsed() < Duration::from_secs(50), "{:?}", states(&scene, "red"));
        assert_eq!(answered_by(scene.site.node(), link)?, "red", "it is all that there is");
        pause(Duration::from_millis(50));
    }
    report::say(&format!("an owner that cannot be asked was marked {:.1?} after the registry's end", killed.elapsed()));
    assert!(killed.elapsed() > Duration::from_secs(28), "before its lease ended: {:?}", killed.elapsed());
    assert_eq!(answered_by(scene.site.node(), link)?, "red");
    drop(stopped);
    eventually_equal(PATIENCE, &true, || is_marked("usable")).context("its owner says that it has it")?;
    assert_eq!(answered_by(scene.site.node(), link)?, "red");
    Ok(())
}
