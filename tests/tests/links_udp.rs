//! UDP through links, between real containers: whoever asks hears the virtual address answer, from an endpoint that is there.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use portolan_tests::container::{Container, EcsTask};
use portolan_tests::site::{CLUSTER, Site};
use portolan_tests::talk::Talk;
use portolan_tests::wait::{PATIENCE, eventually, now};
use portolan_tests::{needs, programs};

const SERVICE: &str = "echo";
const PORT: u16 = 7000;
/// What is lost is asked again after so long.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);
/// A person would call it at once; on a machine that runs other tests, too.
const AT_ONCE: Duration = Duration::from_millis(200);
/// "Within a few seconds".
const SOON: Duration = Duration::from_secs(5);

/// A node with a service of two tasks that speaks UDP and TCP on one port, and clients wherever they may be.
struct Scene {
    site: Site,
    tasks: Vec<Container>,
    places: Vec<(&'static str, Option<Container>)>,
    link: SocketAddr,
}

impl Scene {
    fn start() -> anyhow::Result<Self> {
        let site = Site::start()?;
        let engine = &site.lab.engine;
        engine.docker(&["network", "create", "user"])?;
        let run = |options: &[&str]| engine.run(options, &["wait"]).map(Some);
        let places = vec![
            ("a host process", None),
            ("the default bridge", run(&[])?),
            ("a user network", run(&["--network=user"])?),
            ("host mode", run(&["--network=host"])?),
        ];
        let task = || {
            let published = ["-p", "0:7000/udp", "-p", "0:7000/tcp"];
            engine.run_task(&EcsTask::new(CLUSTER, SERVICE), &published, &["both", &PORT.to_string()])
        };
        let tasks = vec![task()?, task()?];
        let address = eventually(PATIENCE, || site.node().virtual_address(SERVICE))?;
        let scene = Scene { link: SocketAddr::from((address, PORT)), site, tasks, places };
        scene.reaches(&scene.names())?;
        Ok(scene)
    }

    fn names(&self) -> BTreeSet<String> {
        self.tasks.iter().map(|task| task.host_name().to_owned()).collect()
    }

    /// New clients in each place reach all of `names`, and nobody else.
    fn reaches(&self, names: &BTreeSet<String>) -> anyhow::Result<()> {
        for place in &self.places {
            let mut seen = BTreeSet::new();
            eventually(PATIENCE, || {
                seen.insert(Client::in_place(self, place)?.ask()?);
                anyhow::ensure!(seen.is_superset(names), "{seen:?}");
                anyhow::Ok(())
            })
            .with_context(|| format!("all of {names:?} from {}", place.0))?;
            assert_eq!(&seen, names, "from {}", place.0);
        }
        Ok(())
    }

    fn clients(&self) -> anyhow::Result<Vec<Client>> {
        self.places.iter().map(|place| Client::in_place(self, place)).collect()
    }
}

/// A client that keeps its port, and hears the virtual address alone: its socket is connected.
struct Client {
    place: &'static str,
    socket: UdpSocket,
}

impl Client {
    fn in_place(scene: &Scene, place: &(&'static str, Option<Container>)) -> anyhow::Result<Self> {
        Client::of(scene, place, scene.link)
    }

    fn of(
        scene: &Scene,
        (place, container): &(&'static str, Option<Container>),
        to: SocketAddr,
    ) -> anyhow::Result<Self> {
        let make = || -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(ANSWER_PATIENCE))?;
            Ok(socket)
        };
        let socket = match container {
            None => scene.site.node().inside(make)?,
            Some(container) => container.inside(make)?,
        };
        Ok(Client { place, socket: socket.with_context(|| format!("a socket in {place}"))? })
    }

    /// Who answers.
    fn ask(&self) -> anyhow::Result<String> {
        let question = format!("{:x}", rand::random::<u64>());
        self.socket.send(question.as_bytes())?;
        let mut buffer = [0; 256];
        loop {
            let length = self.socket.recv(&mut buffer).with_context(|| format!("an answer in {}", self.place))?;
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            // Answers to earlier questions may come late.
            if let Some((name, said)) = answer.split_once(": ")
                && said == question
            {
                return Ok(name.to_owned());
            }
        }
    }
}

/// How long until each is answered again.
fn all_answered(clients: &[Client]) -> anyhow::Result<Duration> {
    let began = now();
    clients.iter().try_for_each(|client| eventually(PATIENCE, || client.ask()).map(drop))?;
    Ok(began.elapsed())
}

#[test]
fn datagrams_go_both_ways_from_everywhere() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    for place in &scene.places {
        let client = Client::in_place(&scene, place)?;
        let name = client.ask()?;
        for _ in 0..20 {
            assert_eq!(client.ask()?, name, "a session stays with its endpoint, in {}", place.0);
        }
        for octets in [0, 8_000, 60_000] {
            let datagram: Vec<u8> = (0..octets).map(|index| (index % 251) as u8).collect();
            client.socket.send(&datagram)?;
            let mut answer = vec![0; 65_536];
            let length = client.socket.recv(&mut answer).with_context(|| format!("{octets} octets in {}", place.0))?;
            assert_eq!(answer[..length], [name.as_bytes(), b": ", &datagram].concat(), "in {}", place.0);
        }
        for port in [PORT + 1, 53] {
            let (stranger, began) = (Client::of(&scene, place, SocketAddr::new(scene.link.ip(), port))?, now());
            let refused = stranger.ask().err().context("nobody is there")?;
            let kind = refused.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            assert_eq!(kind, Some(ErrorKind::ConnectionRefused), "port {port} in {}: {refused:#}", place.0);
            assert!(began.elapsed() < AT_ONCE, "{:?} in {}", began.elapsed(), place.0);
        }
        let talk = || Talk::begin(scene.link);
        let talk = match &place.1 {
            None => scene.site.node().inside(talk)?,
            Some(container) => container.inside(talk)?,
        };
        talk.with_context(|| format!("TCP on the same port, in {}", place.0))?.goes_on()?;
    }
    // The port itself, published by a stranger.
    let stranger = scene.site.lab.engine.run(&["-p", "7000:7000/udp", "-e", "NAME=stranger"], &["udp", "7000"])?;
    assert_eq!(stranger.inspect("{{.State.Running}}")?, "true");
    scene.reaches(&scene.names())?;
    scene.site.node().virtual_address(SERVICE).context("the node's DNS answers as ever")?;
    let command = programs::path("portolan")?;
    let shown = scene.site.node().run(&command.to_string_lossy(), &["links", SERVICE])?;
    assert!(shown.contains("7000/tcp:7000 7000/udp:7000"), "{shown}");
    Ok(())
}

#[test]
fn a_session_moves_on_when_its_endpoint_is_killed() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    let clients = scene.clients()?;
    let leads_to = clients.iter().map(Client::ask).collect::<anyhow::Result<Vec<_>>>()?;
    let dead = &scene.tasks[0];
    dead.kill()?;
    let took = all_answered(&clients)?;
    assert!(took < SOON, "{took:?}");
    for (client, before) in clients.iter().zip(leads_to) {
        let after = client.ask()?;
        assert_eq!(after, scene.tasks[1].host_name(), "in {}, which led to {before}", client.place);
    }
    // The last one goes, too: refused, as a host without the program would. A new one is found by the same sockets.
    scene.tasks[1].kill()?;
    for client in &clients {
        eventually(PATIENCE, || {
            let refused = client.ask().err().context("somebody answers")?;
            let kind = refused.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            anyhow::ensure!(kind == Some(ErrorKind::ConnectionRefused), "{refused:#}");
            Ok(())
        })
        .with_context(|| format!("refused in {}", client.place))?;
    }
    let published = ["-p", "0:7000/udp", "-p", "0:7000/tcp"];
    let engine = &scene.site.lab.engine;
    let again = engine.run_task(&EcsTask::new(CLUSTER, SERVICE), &published, &["both", &PORT.to_string()])?;
    all_answered(&clients)?;
    for client in &clients {
        assert_eq!(client.ask()?, again.host_name(), "in {}", client.place);
    }
    Ok(())
}

#[test]
fn clients_that_keep_their_port_outlive_the_sidecar_s_worker_and_its_rules() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    let clients = scene.clients()?;
    all_answered(&clients)?;
    for _ in 0..2 {
        let worker = scene.site.sidecar.worker_pid()?;
        kill_process(Pid::from_raw(worker.cast_signed()).context("no process id")?, Signal::KILL)?;
        eventually(PATIENCE, || {
            let now = scene.site.sidecar.worker_pid()?;
            anyhow::ensure!(now != worker, "it is not dead yet");
            Ok(())
        })?;
        let took = all_answered(&clients)?;
        println!("answered {took:?} after the worker was killed");
        assert!(took < SOON, "{took:?}");
    }
    let fresh = scene.clients()?;
    scene.site.node().run("nft", &["delete", "table", "ip", "portolan"])?;
    // What they send meanwhile, the kernel remembers.
    fresh.iter().for_each(|client| drop(client.socket.send(b"?")));
    let took = all_answered(&fresh)?;
    println!("answered {took:?} after the rules were gone");
    // 2 s by contract; the rest is for a loaded machine.
    assert!(took < Duration::from_secs(4), "{took:?}");
    Ok(())
}
