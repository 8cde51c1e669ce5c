//! A sidecar does not let go: whether its worker dies, it dies with its keeper while another one waits, or a new one takes over, no
//! connection to a link is refused and no question goes unanswered; connections that nobody killed go on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use portolan_tests::namespace::Namespace;
use portolan_tests::programs::Program;
use portolan_tests::site::{NODE_DNS, Site, start_sidecar};
use portolan_tests::talk::Talk;
use portolan_tests::wait::{PATIENCE, eventually, now};
use portolan_tests::{needs, report};

const SERVICE: &str = "echo";
const PORT: u16 = 7000;
/// The contract says a second; on a machine that runs other tests, too, it takes longer.
const GAP_MAX: Duration = Duration::from_secs(5);
/// Connections that are seen to succeed before something is done to the sidecar, and after it.
const ENOUGH: usize = 50;

/// A node with a linked service, and the sidecar that serves it.
struct Scene {
    site: Site,
    link: SocketAddr,
}

impl Scene {
    fn start() -> anyhow::Result<Self> {
        let site = Site::start()?;
        let task = portolan_tests::container::EcsTask::new(portolan_tests::site::CLUSTER, SERVICE);
        site.lab.engine.run_task(&task, &["-p", "0:7000"], &["tcp", &PORT.to_string()])?;
        let address = eventually(PATIENCE, || site.node().virtual_address(SERVICE))?;
        let scene = Scene { link: SocketAddr::from((address, PORT)), site };
        eventually(PATIENCE, || scene.talk())?;
        Ok(scene)
    }

    fn node(&self) -> &Arc<Namespace> {
        self.site.node()
    }

    fn talk(&self) -> anyhow::Result<Talk> {
        self.node().inside(|| Talk::begin(self.link))?
    }

    /// Another sidecar of this node.
    fn another(&self, args: &[&str]) -> anyhow::Result<Program> {
        start_sidecar(self.node(), &self.docker_socket(), &[&["--node=a"], args].concat())
    }

    fn docker_socket(&self) -> PathBuf {
        self.site.lab.engine.socket()
    }
}

/// A client that connects over and over, each time anew.
struct Client {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What one connection came to.
struct Seen {
    took: Duration,
    ended: Instant,
    failure: Option<String>,
}

impl Client {
    fn start(node: &Arc<Namespace>, link: SocketAddr) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (told, sees, node) = (stop.clone(), seen.clone(), node.clone());
        let thread = std::thread::spawn(move || {
            let work = || {
                while !told.load(Ordering::SeqCst) {
                    let began = now();
                    let failure = Talk::begin(link).err().map(|error| format!("{error:#}"));
                    let seen = Seen { took: began.elapsed(), ended: now(), failure };
                    sees.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
                }
            };
            node.inside(work).expect("enter the node");
        });
        Client { stop, seen, thread: Some(thread) }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until enough connections succeeded from now on.
    fn goes_on(&self) -> anyhow::Result<()> {
        let from = now();
        eventually(PATIENCE, || {
            let count = self.seen().iter().filter(|seen| seen.failure.is_none() && seen.ended > from).count();
            anyhow::ensure!(count >= ENOUGH, "{count} connections");
            Ok(())
        })
    }

    /// No connection failed; but those that were open through a process that was killed may.
    fn end(mut self, what: &str, killed: Option<(Instant, Instant)>) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().context("it runs once")?.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
        let seen = self.seen();
        let longest = seen.iter().map(|seen| seen.took).max().unwrap_or_default();
        let failed: Vec<&Seen> = seen.iter().filter(|seen| seen.failure.is_some()).collect();
        report::say(&format!(
            "{what}: {} connections, {} failed, the longest took {longest:.1?}",
            seen.len(),
            failed.len()
        ));
        assert!(longest < GAP_MAX, "{what}: {longest:?}");
        for failure in failed {
            let began = failure.ended - failure.took;
            let was_open = killed.is_some_and(|(before, after)| began <= after && failure.ended >= before);
            assert!(was_open, "{what}: {:?} after {:?}", failure.failure, failure.took);
        }
        Ok(())
    }
}

#[test]
fn a_worker_that_is_killed_is_started_again_on_the_same_sockets() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    let client = Client::start(scene.node(), scene.link);
    client.goes_on()?;
    let worker = scene.site.sidecar.worker_pid()?;
    let killed = killing(worker, || {
        Ok(kill_process(Pid::from_raw(worker.cast_signed()).context("a process id")?, Signal::KILL)?)
    })?;
    // A question that comes now waits, too.
    let dug = scene.node().dig(NODE_DNS, &format!("{SERVICE}.production.ecs.internal A"))?;
    assert_eq!(dug.data("A"), [scene.link.ip().to_string()], "{}", dug.text);
    client.goes_on()?;
    let next = eventually(PATIENCE, || scene.site.sidecar.worker_pid())?;
    assert_ne!(next, worker, "another one works");
    assert!(scene.site.sidecar.log().contains("the worker died"), "the keeper says so");
    client.end("a worker killed", Some(killed))
}

#[test]
fn a_sidecar_that_waits_goes_on_with_the_sockets_of_the_one_before() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start()?;
    let mut second = scene.another(&[])?;
    second.wait_for_line("waiting until it ends")?;
    let client = Client::start(scene.node(), scene.link);
    client.goes_on()?;
    let worker = scene.site.sidecar.worker_pid()?;
    let killed = killing(worker, || scene.site.sidecar.kill())?;
    let dug = scene.node().dig(NODE_DNS, &format!("{SERVICE}.production.ecs.internal A"))?;
    assert_eq!(dug.data("A"), [scene.link.ip().to_string()], "{}", dug.text);
    second.listening("relay")?;
    client.goes_on()?;
    client.end("keeper and worker killed, another sidecar waited", Some(killed))?;
    // In an orderly end with somebody waiting, open connections go on, too.
    let mut open = scene.talk()?;
    let mut third = scene.another(&[])?;
    third.wait_for_line("waiting until it ends")?;
    let client = Client::start(scene.node(), scene.link);
    client.goes_on()?;
    second.signal(Signal::TERM)?;
    third.listening("relay")?;
    client.goes_on()?;
    open.goes_on()?;
    assert_eq!(second.try_ended()?, None, "it finishes what it has");
    client.end("a sidecar stopped, another one waited", None)?;
    drop(open);
    eventually(PATIENCE, || ended(&mut second))
}

#[test]
fn a_new_sidecar_takes_over_and_the_old_one_finishes_its_connections() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start()?;
    let mut open = scene.talk()?;
    let client = Client::start(scene.node(), scene.link);
    client.goes_on()?;
    let mut second = scene.another(&["--takeover"])?;
    second.listening("relay")?;
    client.goes_on()?;
    scene.site.sidecar.wait_for_line("may finish")?;
    open.goes_on()?;
    assert_eq!(scene.site.sidecar.try_ended()?, None, "it finishes what it has");
    client.end("taken over", None)?;
    drop(open);
    eventually(PATIENCE, || ended(&mut scene.site.sidecar))?;
    // It is the second that answers now.
    scene.talk()?.goes_on()
}

/// Kills, and waits until `worker` is gone; when that began and ended.
fn killing(worker: u32, kill: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<(Instant, Instant)> {
    let before = now();
    kill()?;
    eventually(PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        let is_gone = stat.is_empty() || stat.contains(") Z ");
        anyhow::ensure!(is_gone, "the worker lives: {stat}");
        Ok(())
    })?;
    Ok((before, now()))
}

fn ended(program: &mut Program) -> anyhow::Result<()> {
    let code = program.try_ended()?.context("it runs on")?;
    anyhow::ensure!(code == 0, "it ended with {code}");
    Ok(())
}
