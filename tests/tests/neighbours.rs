//! The third witness: a node falls silent, and its neighbours tell a dead host from a dead sidecar and from a cut wire.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::sync::watch;

use portolan_runtime::jobs::Jobs;
use portolan_tests::container::Container;
use portolan_tests::dockerd::Engine;
use portolan_tests::janitor::{self, Kind};
use portolan_tests::namespace::{Namespace, Network};
use portolan_tests::programs::Program;
use portolan_tests::site::{CLUSTER, Follower, REGISTRY_DNS, REGISTRY_GRPC, REGISTRY_HTTP, Site};
use portolan_tests::surfaces::{located, name_behind};
use portolan_tests::synthetic::{SyntheticNode, container};
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal, now, pause, throughout};
use portolan_tests::{needs, report};

/// What the contract gives a host that is cut off until it is out of every answer.
const OUT_WITHIN: Duration = Duration::from_secs(15);
/// How long "it goes on" is looked at, from the moment of the cut: longer than a dead host is answered.
const A_WHILE: Duration = Duration::from_secs(20);

/// Three nodes, each with an engine, a sidecar and a task of `elasticsearch`; the registry is on the first.
struct Scene {
    site: Site,
    followers: Vec<Follower>,
    tasks: Vec<Container>,
    link: SocketAddr,
}

impl Scene {
    fn start() -> anyhow::Result<Self> {
        let site = Site::start()?;
        let mut tasks = vec![site.lab.engine.run_elasticsearch(CLUSTER)?];
        let mut followers = Vec::new();
        for name in ["b", "c"] {
            let node = site.lab.network.node(name)?;
            let engine = Engine::start(&node)?;
            followers.push(Follower::start_as(name, &site, &node, &engine.socket())?);
            tasks.push(engine.run_elasticsearch(CLUSTER)?);
        }
        let address = eventually(PATIENCE, || site.node().virtual_address("elasticsearch"))?;
        let scene = Scene { site, followers, tasks, link: SocketAddr::from((address, 9200)) };
        scene.all_answer(&[0, 1, 2], PATIENCE)?;
        Ok(scene)
    }

    fn place(&self, task: usize) -> anyhow::Result<String> {
        let task = &self.tasks[task];
        Ok(format!("{}:{}", task.engine().node().address, task.port(9200)?))
    }

    fn places(&self, tasks: &[usize]) -> anyhow::Result<BTreeSet<String>> {
        tasks.iter().map(|task| self.place(*task)).collect()
    }

    /// The registry and the first and the last node answer exactly these tasks.
    fn all_answer(&self, tasks: &[usize], timeout: Duration) -> anyhow::Result<()> {
        let expected = Ok(self.places(tasks)?);
        let text = |error: anyhow::Error| format!("{error:#}");
        let (a, c) = (self.site.node(), &self.followers[1].node);
        eventually_equal(timeout, &expected, || a.registry_srv("elasticsearch").map_err(text)).context("registry")?;
        eventually_equal(timeout, &expected, || a.node_srv("elasticsearch").map_err(text)).context("node a")?;
        eventually_equal(timeout, &expected, || c.node_srv("elasticsearch").map_err(text)).context("node c")
    }

    /// What `explain` says of a task: state, rule, and the neighbours' word.
    fn explained(&self, task: usize) -> anyhow::Result<[String; 3]> {
        explained(self.site.node(), &format!("elasticsearch.{CLUSTER}.ecs.internal"), &self.place(task)?)
    }
}

fn explained(node: &Namespace, name: &str, place: &str) -> anyhow::Result<[String; 3]> {
    let answer = node.fetch(REGISTRY_HTTP, &format!("/api/explain/{name}"))?;
    anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let json = answer.json()?;
    let candidates = json["candidates"].as_array().context("no candidates")?;
    let is_there = |candidate: &&Value| format!("{}:{}", text(&candidate["address"]), candidate["port"]) == place;
    let candidate = candidates.iter().find(is_there).with_context(|| format!("no {place} in {json}"))?;
    let witnesses = candidate["witnesses"].as_array().context("no witnesses")?;
    let neighbours = witnesses.iter().find(|witness| witness["witness"] == "neighbours").context("no neighbours")?;
    Ok([text(&candidate["state"]), text(&candidate["rule"]), text(&neighbours["word"])])
}

/// Asks through the link again and again until `done`; how often, and how long the longest took. Every request must succeed.
fn use_link(node: &Namespace, link: SocketAddr, done: &AtomicBool) -> anyhow::Result<(usize, Duration)> {
    node.inside(|| {
        let (mut requests, mut longest) = (0, Duration::ZERO);
        while !done.load(Ordering::SeqCst) {
            let began = now();
            name_behind(link).with_context(|| format!("request {requests} took {:?}", began.elapsed()))?;
            longest = longest.max(began.elapsed());
            requests += 1;
            pause(Duration::from_millis(20));
        }
        Ok((requests, longest))
    })?
}

#[test]
fn a_host_that_is_cut_off_leaves_every_answer_and_no_client_fails() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    let lost = &scene.followers[0];
    let done = AtomicBool::new(false);
    let out = std::thread::scope(|scope| -> anyhow::Result<Duration> {
        lost.node.unplug()?;
        lost.wire.stall();
        let cut = now();
        // Clients begin now: a request that is with the host when it is cut is lost with it, whoever links.
        let clients = [scene.site.node(), &scene.followers[1].node];
        let clients = clients.map(|node| scope.spawn(|| use_link(node, scene.link, &done)));
        // Out of answers at first because others are usable; then for good.
        let gone = ["gone", "silent_refused", "refused"].map(str::to_owned);
        let out = eventually_equal(PATIENCE, &Some(gone), || scene.explained(1).ok());
        let out = out.and_then(|()| scene.all_answer(&[0, 2], PATIENCE)).map(|()| cut.elapsed());
        done.store(true, Ordering::SeqCst);
        for client in clients {
            let (requests, longest) = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            report::say(&format!("{requests} requests by the link, the longest {longest:.0?}"));
            assert!(requests > 20, "only {requests} requests");
            assert!(longest < Duration::from_secs(2), "the longest request took {longest:?}");
        }
        out
    })?;
    report::say(&format!("the host was out of every answer after {out:.1?}"));
    assert!(out < OUT_WITHIN, "{OUT_WITHIN:?} by contract; it took {out:?}");
    lost.node.plug_in()?;
    lost.wire.mend();
    scene.all_answer(&[0, 1, 2], PATIENCE).context("the host is back")?;
    assert_eq!(scene.explained(1)?[..2], ["usable", "passing"]);
    Ok(())
}

#[test]
fn a_sidecar_that_died_for_good_takes_no_container_with_it() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start()?;
    scene.followers[0].sidecar.kill()?;
    let killed = now();
    let vouched = ["unverified", "silent_vouched", "connect"].map(str::to_owned);
    eventually_equal(PATIENCE, &Some(vouched), || scene.explained(1).ok())?;
    report::say(&format!("neighbours vouched after {:.1?}", killed.elapsed()));
    let names: BTreeSet<_> = scene.tasks.iter().map(|task| task.host_name().to_owned()).collect();
    while killed.elapsed() < A_WHILE {
        scene.all_answer(&[0, 1, 2], Duration::ZERO)?;
        scene.site.node().link_leads_to(scene.link, &names).context("as good as usable")?;
    }
    scene.tasks[1].kill()?;
    let dead = now();
    scene.all_answer(&[0, 2], Duration::from_secs(60)).context("the container is dead")?;
    report::say(&format!("a container without a sidecar was out {:.1?} after its death", dead.elapsed()));
    Ok(())
}

/// How many nodes there are, and how many of them are cut.
const NODES: usize = 12;
const CUT: usize = 4;

/// Where an endpoint of the many nodes is.
fn host(number: usize) -> IpAddr {
    IpAddr::from([10, 77, 0, 100 + u8::try_from(number).expect("few nodes")])
}

/// Nodes made of thin air, with real sockets as their endpoints. They end with it.
struct Many {
    jobs: Jobs,
    is_cut: watch::Sender<bool>,
    listeners: Vec<Option<tokio::net::TcpListener>>,
}

impl Many {
    /// Registers all; from now on they speak.
    async fn start() -> anyhow::Result<Self> {
        let mut many = Many { jobs: Jobs::new(), is_cut: watch::Sender::new(false), listeners: Vec::new() };
        for number in 0..NODES {
            let listener = tokio::net::TcpListener::bind((host(number), 0)).await?;
            let port = listener.local_addr()?.port();
            many.listeners.push(Some(listener));
            let registry = format!("http://{REGISTRY_GRPC}");
            let mut node = SyntheticNode::connect(&registry, &format!("n{number}"), host(number)).await?;
            node.register(vec![container("web", u64::try_from(number)?, host(number), port)?]).await?;
            let mut is_cut = many.is_cut.subscribe();
            many.jobs.start("node", async move {
                tokio::select! {
                    ended = node.speak() => panic!("node {number}: {ended:?}"),
                    _ = is_cut.wait_for(|is_cut| *is_cut && number < CUT) => {}
                }
                // It is silent, and its stream stays open.
                std::future::pending::<()>().await;
            });
        }
        Ok(many)
    }

    fn place(&self, number: usize) -> anyhow::Result<String> {
        Ok(self.listeners[number].as_ref().context("it listens no more")?.local_addr()?.to_string())
    }
}

#[test]
fn nodes_that_are_cut_from_the_registry_alone_keep_their_endpoints() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig");
    let network = Network::new()?;
    let node = network.node("a")?;
    for number in 0..NODES {
        node.ip(&format!("addr add {}/24 dev eth0", host(number)))?;
    }
    let data = janitor::folder(&janitor::unique("registry"), Kind::Folder)?;
    let data = format!("--data-dir={}", data.display());
    let mut registry = Program::start(&node, "portolan-registry", &[&data, "--log-format=text"])?;
    registry.listening("grpc")?;
    // One thread inside: its sockets are made there, and its runtime drives the nodes.
    let (many_to, many) = std::sync::mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let nodes = scope.spawn(|| {
            node.inside(|| -> anyhow::Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    many_to.send(Many::start().await?)?;
                    ended.await.ok();
                    Ok(())
                })
            })
        });
        let looked = many.recv_timeout(PATIENCE).context("the nodes start").and_then(|many| look(&node, many));
        drop(end);
        nodes.join().map_err(|_| anyhow::anyhow!("the nodes panicked"))???;
        looked
    })
}

fn look(node: &Namespace, mut many: Many) -> anyhow::Result<()> {
    let name = "web.local.ecs.internal";
    let answered = || located(&node.dig(REGISTRY_DNS, &format!("{name} SRV"))?);
    let all: BTreeSet<String> = (0..NODES).map(|number| many.place(number)).collect::<anyhow::Result<_>>()?;
    eventually_equal(PATIENCE, &Some(all.clone()), || answered().ok())?;
    many.is_cut.send_replace(true);
    let mut words = BTreeSet::new();
    let began = now();
    throughout(A_WHILE, || {
        let found = answered()?;
        let said = explained(node, name, &many.place(0)?)?;
        anyhow::ensure!(found.len() >= NODES - CUT, "a lookup gave {found:?}");
        anyhow::ensure!(said[0] != "gone", "removed: {said:?}");
        // Between its silence and its neighbours' answer an endpoint is used last.
        let is_asked_about = said[2] == "not known" || began.elapsed() < Duration::from_secs(12);
        anyhow::ensure!(found == all || is_asked_about, "a lookup gave {found:?}, with {said:?}");
        words.insert(said.join(" "));
        Ok(())
    })?;
    report::say(&format!("a node that was cut went through: {words:?}"));
    for number in 0..NODES {
        let expected = if number < CUT { "unverified silent_vouched connect" } else { "usable passing not known" };
        assert_eq!(explained(node, name, &many.place(number)?)?.join(" "), expected, "node {number}");
    }
    let dead = many.place(0)?;
    many.listeners[0] = None;
    let died = now();
    let left = all.into_iter().filter(|place| *place != dead).collect();
    eventually_equal(Duration::from_secs(60), &Some(left), || answered().ok()).context("one that is dead leaves")?;
    report::say(&format!("a dead endpoint of a node that was cut left after {:.1?}", died.elapsed()));
    many.jobs.shut_down();
    Ok(())
}
