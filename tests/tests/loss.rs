//! What goes on when a part is lost, and how soon all agree when it is back.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use portolan_tests::container::{Container, EcsTask};
use portolan_tests::lab::Lab;
use portolan_tests::site::{CLUSTER, Follower, Site, start_sidecar};
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal, now, throughout};
use portolan_tests::{needs, report};

/// Milliseconds by contract; seconds on a machine that runs other tests, too.
const SOON: Duration = Duration::from_secs(6);
/// How long "it goes on" is looked at.
const A_WHILE: Duration = Duration::from_secs(2);

struct Scene {
    site: Site,
    tasks: Vec<Container>,
    link: SocketAddr,
}

impl Scene {
    /// Two tasks of `elasticsearch`, on which every surface agrees.
    fn start(dockerd_args: &[&str]) -> anyhow::Result<Self> {
        let site = Site::start_in(Lab::start_with(dockerd_args)?, &[])?;
        let tasks = vec![site.lab.engine.run_elasticsearch(CLUSTER)?, site.lab.engine.run_elasticsearch(CLUSTER)?];
        let address = eventually(PATIENCE, || site.node().virtual_address("elasticsearch"))?;
        let scene = Scene { site, tasks, link: SocketAddr::from((address, 9200)) };
        scene.all_agree(PATIENCE)?;
        Ok(scene)
    }

    fn run(&mut self) -> anyhow::Result<()> {
        self.tasks.push(self.site.lab.engine.run_elasticsearch(CLUSTER)?);
        Ok(())
    }

    fn place(&self, task: &Container) -> anyhow::Result<String> {
        Ok(format!("{}:{}", self.site.node().address, task.port(9200)?))
    }

    /// Where the tasks of the list are, by Docker.
    fn places(&self) -> anyhow::Result<BTreeSet<String>> {
        self.tasks.iter().map(|task| self.place(task)).collect()
    }

    /// The node's names and link lead to exactly these places; `names` are who answers there.
    fn node_shows(&self, places: &BTreeSet<String>, names: &BTreeSet<String>) -> anyhow::Result<()> {
        let found = self.site.node().node_srv("elasticsearch").context("the node's SRV")?;
        anyhow::ensure!(found == *places, "the node's SRV: {found:?}, expected {places:?}");
        let address = self.site.node().virtual_address("elasticsearch").context("the node's A")?;
        anyhow::ensure!(SocketAddr::from((address, 9200)) == self.link, "the virtual address moved to {address}");
        let found = self.site.node().names_behind(self.link, 12).context("the link")?;
        anyhow::ensure!(found.is_subset(names), "the link leads to {found:?}, expected {names:?}");
        Ok(())
    }

    fn names(&self) -> BTreeSet<String> {
        self.tasks.iter().map(|task| task.host_name().to_owned()).collect()
    }

    fn node_agrees(&self, timeout: Duration) -> anyhow::Result<()> {
        let (places, names) = (self.places()?, self.names());
        eventually(timeout, || self.node_shows(&places, &names))
    }

    fn registry_agrees(&self, timeout: Duration) -> anyhow::Result<()> {
        let places = Ok(self.places()?);
        let text = |error: anyhow::Error| format!("{error:#}");
        let node = self.site.node();
        eventually_equal(timeout, &places, || node.registry_srv("elasticsearch").map_err(text)).context("its DNS")?;
        eventually_equal(timeout, &places, || node.usable("elasticsearch").map_err(text)).context("its HTTP")
    }

    fn all_agree(&self, timeout: Duration) -> anyhow::Result<()> {
        self.node_agrees(timeout).context("the node")?;
        self.registry_agrees(timeout).context("the registry")
    }
}

#[test]
fn a_node_goes_on_without_the_registry_and_agrees_on_its_return() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start(&[])?;
    scene.site.registry.kill()?;
    let (places, names) = (scene.places()?, scene.names());
    throughout(A_WHILE, || scene.node_shows(&places, &names)).context("names and links go on")?;
    scene.tasks.remove(0).kill()?;
    scene.node_agrees(SOON).context("a death on the node shows there")?;
    scene.run()?;
    scene.node_agrees(SOON).context("a start on the node shows there")?;
    let engine = scene.site.lab.engine.clone();
    let late = engine.run_task(&EcsTask::new(CLUSTER, "late"), &["-p", "0:9200"], &["elasticsearch"])?;
    let late = BTreeSet::from([scene.place(&late)?]);
    eventually_equal(SOON, &Some(late.clone()), || scene.site.node().node_srv("late").ok())
        .context("a new service of the node shows there")?;

    scene.site.registry.start_again()?;
    scene.site.registry.listening("http")?;
    let returned = now();
    scene.all_agree(PATIENCE).context("after the registry's return")?;
    eventually_equal(PATIENCE, &Some(late), || scene.site.node().registry_srv("late").ok())?;
    let took = returned.elapsed();
    report::say(&format!("all agreed {took:.0?} after the registry's return"));
    assert!(took < Duration::from_secs(2), "all agreed only {took:?} after the registry's return");
    throughout(A_WHILE, || scene.all_agree(Duration::ZERO)).context("and it stays so")
}

#[test]
fn a_registry_that_lost_its_store_takes_the_addresses_that_nodes_report() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start(&[])?;
    // More than one, so that an address that is only right by chance shows.
    let others = ["red", "green", "blue"];
    let engine = scene.site.lab.engine.clone();
    for service in others {
        engine.run_task(&EcsTask::new(CLUSTER, service), &["-p", "0:9200"], &["elasticsearch"])?;
    }
    let addresses = |scene: &Scene| -> anyhow::Result<Vec<_>> {
        others.iter().map(|service| scene.site.node().virtual_address(service)).collect()
    };
    let before = eventually(PATIENCE, || addresses(&scene))?;
    scene.site.registry.kill()?;
    for entry in std::fs::read_dir(&scene.site.registry_data)? {
        std::fs::remove_file(entry?.path())?;
    }
    scene.site.registry.start_again()?;
    scene.site.registry.listening("http")?;
    let (places, names) = (scene.places()?, scene.names());
    throughout(A_WHILE, || scene.node_shows(&places, &names)).context("the node does not forget")?;
    scene.all_agree(PATIENCE)?;
    assert_eq!(addresses(&scene)?, before, "the node's virtual addresses");
    for (service, address) in others.iter().zip(&before) {
        let shown = eventually(PATIENCE, || scene.site.node().service(service))?;
        assert_eq!(shown["link"]["address"], address.to_string(), "{service} at the registry: {shown:#}");
    }
    scene.run()?;
    scene.all_agree(SOON).context("a start after that")
}

#[test]
fn a_sidecar_is_back_from_its_snapshot_within_a_second() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start(&[])?;
    scene.run()?;
    scene.all_agree(SOON)?;
    comes_back(&mut scene).context("with a registry")?;
    scene.all_agree(SOON).context("with a registry")?;
    scene.site.registry.kill()?;
    comes_back(&mut scene).context("without a registry")?;
    scene.site.registry.start_again()?;
    scene.all_agree(PATIENCE).context("after the registry's return")?;
    scene.run()?;
    scene.all_agree(SOON).context("a start after all that")
}

/// Kills the sidecar and the first task, starts the sidecar: from its first answer on, the task is gone.
fn comes_back(scene: &mut Scene) -> anyhow::Result<()> {
    scene.site.sidecar.kill()?;
    let gone = scene.tasks.remove(0);
    let gone_place = scene.place(&gone)?;
    gone.remove()?;
    let (places, names) = (scene.places()?, scene.names());
    scene.site.sidecar.start_again()?;
    let started = now();
    eventually(PATIENCE, || -> anyhow::Result<anyhow::Result<()>> {
        let found = scene.site.node().node_srv("elasticsearch")?;
        if found.contains(&gone_place) {
            return Ok(Err(anyhow::anyhow!("it answered a container that is gone: {found:?}")));
        }
        scene.node_shows(&places, &names).map(Ok)
    })
    .context("names and links after a restart")??;
    let took = started.elapsed();
    report::say(&format!("the sidecar was back after {took:.0?}"));
    assert!(took < Duration::from_secs(1), "names and links were back only after {took:?}");
    Ok(())
}

#[test]
fn nothing_is_removed_because_docker_does_not_answer() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    // Containers outlive their engine, as on an ECS instance whose engine is updated.
    let mut scene = Scene::start(&["--live-restore"])?;
    scene.run()?;
    scene.all_agree(SOON)?;
    let (places, names) = (scene.places()?, scene.names());
    let engine = scene.site.lab.engine.clone();
    engine.stall()?;
    // Longer than the 10 s between two listings.
    let stalled = throughout(Duration::from_secs(12), || {
        scene.node_shows(&places, &names)?;
        shows(scene.site.node().registry_srv("elasticsearch")?, &places)
    });
    engine.resume()?;
    stalled.context("while Docker is stalled")?;
    scene.all_agree(Duration::from_secs(15)).context("Docker goes on")?;

    let dying = scene.tasks.remove(0);
    let (pid, left) = (dying.pid()?, (scene.places()?, scene.names()));
    engine.stop()?;
    let closed = without_docker(&scene, &places, &names, (pid, &left));
    engine.start_again()?;
    closed.context("while Docker is gone")?;
    let returned = now();
    scene.run()?;
    scene.all_agree(PATIENCE).context("Docker is back")?;
    let took = returned.elapsed();
    report::say(&format!("all agreed {took:.0?} after Docker's return"));
    assert!(took < Duration::from_secs(15), "all agreed only {took:?} after Docker's return");
    Ok(())
}

type Shown = (BTreeSet<String>, BTreeSet<String>);

fn without_docker(
    scene: &Scene,
    places: &BTreeSet<String>,
    names: &BTreeSet<String>,
    (pid, left): (u32, &Shown),
) -> anyhow::Result<()> {
    throughout(A_WHILE, || {
        scene.node_shows(places, names)?;
        shows(scene.site.node().registry_srv("elasticsearch")?, places)
    })?;
    kill_process(Pid::from_raw(pid.cast_signed()).context("no process")?, Signal::KILL)?;
    eventually(SOON, || scene.node_shows(&left.0, &left.1)).context("a process that dies is seen without Docker")?;
    eventually(SOON, || shows(scene.site.node().registry_srv("elasticsearch")?, &left.0))
        .context("also by the registry")
}

fn shows(found: BTreeSet<String>, expected: &BTreeSet<String>) -> anyhow::Result<()> {
    anyhow::ensure!(found == *expected, "{found:?}, expected {expected:?}");
    Ok(())
}

#[test]
fn a_second_sidecar_goes_on_within_a_second() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start(&[])?;
    let mut standby = start_sidecar(scene.site.node(), &scene.site.lab.engine.socket(), &["--node=a"])?;
    let (places, names) = (scene.places()?, scene.names());
    throughout(A_WHILE, || scene.node_shows(&places, &names)).context("beside a standby")?;
    scene.site.sidecar.kill()?;
    let died = now();
    scene.node_agrees(PATIENCE).context("the standby serves")?;
    let took = died.elapsed();
    report::say(&format!("the standby served {took:.0?} after the first one's death"));
    assert!(took < Duration::from_secs(1), "the standby served only after {took:?}");
    standby.listening("node-dns")?;
    scene.run()?;
    scene.all_agree(SOON).context("a start under the standby")?;
    // The first one comes back, as an agent would start it again, and waits for its turn.
    scene.site.sidecar.start_again()?;
    let (places, names) = (scene.places()?, scene.names());
    throughout(A_WHILE, || scene.node_shows(&places, &names)).context("the first one waits")?;
    assert_eq!(standby.terminate()?, Some(0), "SIGTERM ends it in order");
    let ended = now();
    scene.node_agrees(PATIENCE).context("the first one serves again")?;
    let took = ended.elapsed();
    assert!(took < Duration::from_secs(1), "the first one served only after {took:?}");
    scene.tasks.remove(0).kill()?;
    scene.all_agree(SOON).context("a death under the first one")
}

#[test]
fn a_stalled_wire_is_noticed_and_heals() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start(&[])?;
    let other = scene.site.lab.another_node()?;
    let follower = Follower::start(&scene.site, &other, Path::new("/nonexistent/docker.sock"))?;
    let before = Ok(scene.places()?);
    let asked = || other.node_srv("elasticsearch").map_err(|error| format!("{error:#}"));
    eventually_equal(PATIENCE, &before, asked).context("the second node follows")?;
    follower.wire.stall();
    let (stalled, taken) = (now(), follower.wire.taken());
    scene.run()?;
    scene.all_agree(SOON).context("the first node is not concerned")?;
    eventually(Duration::from_secs(20), || match follower.wire.taken() {
        now if now > taken => Ok(()),
        now => Err(format!("{now} connections")),
    })
    .context("the second node tries another connection")?;
    let took = stalled.elapsed();
    report::say(&format!("a stalled wire was noticed after {took:.1?}"));
    assert!(took < Duration::from_secs(12), "a stalled wire was noticed only after {took:?}");
    assert_eq!(asked(), before, "it goes on from what it knows");
    assert!(other.names_behind(scene.link, 4)?.is_subset(&scene.names()), "so do its links");
    follower.wire.mend();
    let after = Ok(scene.places()?);
    eventually_equal(Duration::from_secs(15), &after, asked).context("after the wire was mended")?;
    follower.wire.cut();
    scene.tasks.remove(0).kill()?;
    throughout(A_WHILE, || asked().map(drop).map_err(anyhow::Error::msg)).context("while the wire is cut")?;
    follower.wire.mend();
    let after = Ok(scene.places()?);
    eventually_equal(Duration::from_secs(15), &after, asked).context("after the cut was mended")
}
