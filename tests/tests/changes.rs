//! Every way in which a container changes: after each, DNS, HTTP, the event stream and the link agree with Docker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;

use portolan_tests::container::{Container, EcsTask};
use portolan_tests::needs;
use portolan_tests::site::{CLUSTER, REGISTRY_HTTP, Site};
use portolan_tests::wait::{eventually, eventually_equal, throughout};
use portolan_tests::watch::Watch;

/// Milliseconds by contract; seconds on a machine that runs other tests, too.
const SOON: Duration = Duration::from_secs(6);
/// How long "nothing changes" is looked at: longer than any change takes to show.
const A_WHILE: Duration = Duration::from_millis(1500);

struct Scene {
    site: Site,
    watch: Watch,
    link: SocketAddr,
    /// Never touched, so that no answer is a last resort.
    steady: Container,
}

impl Scene {
    fn start() -> anyhow::Result<Self> {
        let site = Site::start()?;
        let path = format!("/api/watch?cluster={CLUSTER}&service=elasticsearch");
        let watch = Watch::open(site.node(), REGISTRY_HTTP, &path, &[])?;
        let steady = site.lab.engine.run_elasticsearch(CLUSTER)?;
        let address = eventually(SOON, || site.node().virtual_address("elasticsearch"))?;
        let scene = Scene { site, watch, link: SocketAddr::from((address, 9200)), steady };
        scene.agrees(&[&scene.steady], "the steady task")?;
        Ok(scene)
    }

    fn run(&self, options: &[&str]) -> anyhow::Result<Container> {
        let options = [&["-p", "0:9200"], options].concat();
        self.site.lab.engine.run_task(&EcsTask::new(CLUSTER, "elasticsearch"), &options, &["elasticsearch"])
    }

    fn place(&self, container: &Container) -> anyhow::Result<String> {
        Ok(format!("{}:{}", self.site.node().address, container.port(9200)?))
    }

    /// Waits until every surface shows exactly those of `containers` that Docker says are well.
    fn agrees(&self, containers: &[&Container], after: &str) -> anyhow::Result<()> {
        let mut well = BTreeMap::new();
        for container in containers {
            if is_well(container)? {
                well.insert(self.place(container)?, container.host_name().to_owned());
            }
        }
        let places: BTreeSet<String> = well.keys().cloned().collect();
        let node = self.site.node();
        let check = |surface: &str, look: &dyn Fn() -> anyhow::Result<BTreeSet<String>>| {
            eventually_equal(SOON, &Ok(places.clone()), || look().map_err(|error| format!("{error:#}")))
                .with_context(|| format!("{surface} after {after}"))
        };
        check("the registry's DNS", &|| node.registry_srv("elasticsearch"))?;
        check("the node's DNS", &|| node.node_srv("elasticsearch"))?;
        check("the registry's HTTP", &|| node.usable("elasticsearch"))?;
        check("the event stream", &|| self.watch.usable())?;
        node.link_leads_to(self.link, &well.into_values().collect()).with_context(|| format!("after {after}"))
    }
}

fn is_well(container: &Container) -> anyhow::Result<bool> {
    let state =
        container.inspect("{{.State.Running}} {{.State.Paused}} {{if .State.Health}}{{.State.Health.Status}}{{end}}");
    match state {
        Ok(state) => Ok(matches!(state.trim(), "true false" | "true false healthy")),
        Err(error) if error.to_string().contains("No such object") => Ok(false),
        Err(error) => Err(error),
    }
}

#[test]
fn every_surface_follows_every_change() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    a_kill(&scene)?;
    a_crash(&scene)?;
    a_stop_shows_at_its_signal(&scene)?;
    a_hang_up_changes_nothing(&scene)?;
    a_removal(&scene)?;
    a_pause_and_a_restart(&scene)?;
    health(&scene)?;
    a_late_start(&scene)?;
    only_bad_ones_are_better_than_none(&scene)
}

fn a_kill(scene: &Scene) -> anyhow::Result<()> {
    let container = scene.run(&[])?;
    scene.agrees(&[&scene.steady, &container], "a start")?;
    container.kill()?;
    scene.agrees(&[&scene.steady, &container], "docker kill")?;
    container.docker(&["start"])?;
    scene.agrees(&[&scene.steady, &container], "docker start of a killed one")?;
    container.remove()
}

fn a_crash(scene: &Scene) -> anyhow::Result<()> {
    let container = scene.run(&[])?;
    scene.agrees(&[&scene.steady, &container], "a start")?;
    let own = SocketAddr::new(scene.site.node().addr(), container.port(9200)?);
    scene.site.node().fetch(own, "/quit").ok();
    eventually(SOON, || if is_well(&container)? { anyhow::bail!("it still runs") } else { Ok(()) })?;
    scene.agrees(&[&scene.steady, &container], "a crash")
}

fn a_stop_shows_at_its_signal(scene: &Scene) -> anyhow::Result<()> {
    let container = scene.run(&[])?;
    scene.agrees(&[&scene.steady, &container], "a start")?;
    let (place, own) = (scene.place(&container)?, SocketAddr::new(scene.site.node().addr(), container.port(9200)?));
    let node = scene.site.node();
    let stopping = container.clone();
    let stop = std::thread::spawn(move || stopping.stop(5));
    type Look<'a> = &'a dyn Fn() -> anyhow::Result<BTreeSet<String>>;
    let surfaces: [(&str, Look<'_>); 4] = [
        ("the registry's DNS", &|| node.registry_srv("elasticsearch")),
        ("the node's DNS", &|| node.node_srv("elasticsearch")),
        ("the registry's HTTP", &|| node.usable("elasticsearch")),
        ("the event stream", &|| scene.watch.usable()),
    ];
    for (surface, look) in surfaces {
        eventually(Duration::from_secs(3), || match look() {
            Ok(places) if !places.contains(&place) => Ok(()),
            other => Err(other),
        })
        .with_context(|| format!("{surface} at the stop signal"))?;
    }
    let only_steady = BTreeSet::from([scene.steady.host_name().to_owned()]);
    scene.site.node().link_leads_to(scene.link, &only_steady).context("after a stop signal")?;
    assert_eq!(container.inspect("{{.State.Running}}")?, "true", "all of that was before its death");
    assert!(node.fetch(own, "/").is_ok(), "it serves until its death");
    let shown = node.service("elasticsearch")?;
    let states: Vec<&str> =
        shown["endpoints"].as_array().into_iter().flatten().filter_map(|e| e["state"].as_str()).collect();
    assert!(states.contains(&"draining"), "the API says that it drains: {shown:#}");
    stop.join().map_err(|_| anyhow::anyhow!("docker stop panicked"))??;
    scene.agrees(&[&scene.steady, &container], "docker stop")?;
    container.remove()
}

fn a_hang_up_changes_nothing(scene: &Scene) -> anyhow::Result<()> {
    let container = scene.run(&[])?;
    scene.agrees(&[&scene.steady, &container], "a start")?;
    let places = BTreeSet::from([scene.place(&scene.steady)?, scene.place(&container)?]);
    let told = scene.watch.events().len();
    for signal in ["HUP", "USR1"] {
        container.docker(&["kill", "--signal", signal])?;
    }
    throughout(A_WHILE, || {
        let node = scene.site.node();
        for found in
            [node.registry_srv("elasticsearch")?, node.node_srv("elasticsearch")?, node.usable("elasticsearch")?]
        {
            anyhow::ensure!(found == places, "after a HUP: {found:?}, expected {places:?}");
        }
        Ok(())
    })?;
    let events = scene.watch.events();
    assert_eq!(events.len(), told, "the event stream tells nothing of a HUP: {:?}", events.last());
    container.remove()
}

fn a_removal(scene: &Scene) -> anyhow::Result<()> {
    let container = scene.run(&[])?;
    scene.agrees(&[&scene.steady, &container], "a start")?;
    container.remove()?;
    scene.agrees(&[&scene.steady], "docker rm -f")
}

fn a_pause_and_a_restart(scene: &Scene) -> anyhow::Result<()> {
    let container = scene.run(&[])?;
    let both = [&scene.steady, &container];
    scene.agrees(&both, "a start")?;
    container.docker(&["pause"])?;
    scene.agrees(&both, "docker pause")?;
    container.docker(&["unpause"])?;
    scene.agrees(&both, "docker unpause")?;
    container.docker(&["restart", "-t", "1"])?;
    scene.agrees(&both, "docker restart")?;
    container.docker(&["restart", "-t", "0"])?;
    scene.agrees(&both, "docker restart at once")?;
    container.remove()
}

fn health(scene: &Scene) -> anyhow::Result<()> {
    let check = ["--health-cmd=get http://127.0.0.1:9200/health", "--health-interval=300ms", "--health-retries=1"];
    let container = scene.run(&check)?;
    let own = SocketAddr::new(scene.site.node().addr(), container.port(9200)?);
    let becomes = |status: &str| {
        eventually_equal(SOON, &Some(status.to_owned()), || container.inspect("{{.State.Health.Status}}").ok())
    };
    let both = [&scene.steady, &container];
    becomes("healthy")?;
    scene.agrees(&both, "the first pass of a HEALTHCHECK")?;
    scene.site.node().fetch(own, "/health/fail")?;
    becomes("unhealthy")?;
    scene.agrees(&both, "unhealthy")?;
    scene.site.node().fetch(own, "/health/pass")?;
    becomes("healthy")?;
    scene.agrees(&both, "healthy again")?;
    container.remove()?;

    let container = scene.run(&["--label=portolan.check=http:/health", "--label=portolan.check.interval=300ms"])?;
    let own = SocketAddr::new(scene.site.node().addr(), container.port(9200)?);
    let both = [&scene.steady, &container];
    scene.agrees(&both, "the first pass of an HTTP check")?;
    scene.site.node().fetch(own, "/health/fail")?;
    // Docker knows nothing of this check, so it is compared with the steady one alone.
    scene.agrees(&[&scene.steady], "an HTTP check that fails")?;
    scene.site.node().fetch(own, "/health/pass")?;
    scene.agrees(&both, "an HTTP check that passes again")?;
    container.remove()
}

/// Docker's proxy takes connections before the application listens (M11): the application counts.
fn a_late_start(scene: &Scene) -> anyhow::Result<()> {
    let container = scene.run(&["-e", "START_DELAY_MS=2500"])?;
    let place = scene.place(&container)?;
    let node = scene.site.node();
    throughout(A_WHILE, || {
        for found in
            [node.registry_srv("elasticsearch")?, node.node_srv("elasticsearch")?, node.usable("elasticsearch")?]
        {
            anyhow::ensure!(!found.contains(&place), "announced before it listens: {found:?}");
        }
        Ok(())
    })?;
    scene.agrees(&[&scene.steady, &container], "a late start")?;
    container.remove()
}

/// A known service whose every endpoint is unusable is answered with them, and the API says so.
fn only_bad_ones_are_better_than_none(scene: &Scene) -> anyhow::Result<()> {
    let node = scene.site.node();
    scene.agrees(&[&scene.steady], "everything else")?;
    let place = BTreeSet::from([scene.place(&scene.steady)?]);
    scene.steady.docker(&["pause"])?;
    eventually_equal(SOON, &Some(BTreeSet::new()), || node.usable("elasticsearch").ok()).context("none is usable")?;
    throughout(A_WHILE, || {
        for found in [node.registry_srv("elasticsearch")?, node.node_srv("elasticsearch")?] {
            anyhow::ensure!(found == place, "the paused one as the last resort: {found:?}");
        }
        Ok(())
    })?;
    scene.steady.docker(&["unpause"])?;
    scene.agrees(&[&scene.steady], "docker unpause of the only one")?;
    scene.steady.remove()?;
    for server in [portolan_tests::site::REGISTRY_DNS, portolan_tests::site::NODE_DNS] {
        eventually_equal(SOON, &Some(BTreeSet::new()), || node.srv(server, "elasticsearch").ok())
            .with_context(|| format!("a known service without endpoints is NODATA at {server}"))?;
    }
    Ok(())
}

#[test]
fn fifty_starts_and_stops_at_once() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    let create = || -> anyhow::Result<Container> {
        let task = EcsTask::new(CLUSTER, "elasticsearch").options();
        let task: Vec<&str> = task.iter().map(String::as_str).collect();
        scene.site.lab.engine.create(&[&task[..], &["-p", "0:9200"]].concat(), &["elasticsearch"])
    };
    let containers: Vec<Container> = (0..50).map(|_| create()).collect::<anyhow::Result<_>>()?;
    let (first, second) = containers.split_at(25);
    all_at_once(first, |_, container| container.docker(&["start"]).map(drop))?;
    let everyone: Vec<&Container> = containers.iter().chain([&scene.steady]).collect();
    scene.agrees(&everyone, "25 starts at once")?;
    let both: Vec<Container> = first.iter().chain(second).cloned().collect();
    all_at_once(&both, |number, container| match number {
        0..8 => container.kill(),
        8..16 => container.remove(),
        16..25 => container.docker(&["restart", "-t", "0"]).map(drop),
        _ => container.docker(&["start"]).map(drop),
    })?;
    let left: Vec<&Container> = containers[..8].iter().chain(&containers[16..]).chain([&scene.steady]).collect();
    scene.agrees(&left, "50 starts, stops, removals and restarts at once")?;
    // The first eight were killed.
    the_truncation_bit_is_honest(&scene, left.len() - 8)?;
    all_at_once(&both[16..], |_, container| container.remove())?;
    scene.agrees(&[&scene.steady], "34 removals at once")
}

/// What does not fit into a datagram says so and is whole over TCP: answers are never cut by count (RFC 2181 section 9).
fn the_truncation_bit_is_honest(scene: &Scene, count: usize) -> anyhow::Result<()> {
    for server in [portolan_tests::site::REGISTRY_DNS, portolan_tests::site::NODE_DNS] {
        let ask = |options: &str| {
            scene.site.node().dig(server, &format!("elasticsearch.{CLUSTER}.ecs.internal SRV {options}"))
        };
        for options in ["+noedns +ignore", "+bufsize=512 +ignore", "+bufsize=1232 +ignore"] {
            let short = ask(options)?;
            assert!(short.flags.contains(&"tc".to_owned()), "{options} at {server}: {}", short.text);
        }
        let long = ask("+tcp")?;
        assert_eq!(long.data("SRV").len(), count, "over TCP at {server}: {}", long.text);
        assert!(!long.flags.contains(&"tc".to_owned()), "over TCP at {server}: {}", long.text);
    }
    Ok(())
}

/// Does `work` to every container, eight at a time, in no order.
fn all_at_once(
    containers: &[Container],
    work: impl Fn(usize, &Container) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = || -> anyhow::Result<()> {
            loop {
                // Strides of seven, so that neighbours in the list are of different fates.
                let turn = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let number = turn * 7 % containers.len();
                if turn >= containers.len() {
                    return Ok(());
                }
                work(number, &containers[number])?;
            }
        };
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })
}
