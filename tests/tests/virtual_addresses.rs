//! The range of virtual addresses is Portolan's alone: nobody else answers on it, and it keeps nobody from starting.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;

use portolan_tests::container::{Container, EcsTask};
use portolan_tests::needs;
use portolan_tests::site::{CLUSTER, Site};
use portolan_tests::surfaces::{name_behind, refusal_time};
use portolan_tests::wait::{PATIENCE, eventually};

/// What is not a link is refused, and a person would call it at once.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Somewhere to connect from.
enum Place<'a> {
    Host(&'a Site),
    Container(&'a str, &'a Container),
}

impl Place<'_> {
    fn name(&self) -> &str {
        match self {
            Place::Host(_) => "the host",
            Place::Container(name, _) => name,
        }
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        match self {
            Place::Host(site) => site.node().inside(work),
            Place::Container(_, container) => container.inside(work),
        }
    }

    /// Who answers over ten connections.
    fn names_behind(&self, addr: SocketAddr) -> anyhow::Result<BTreeSet<String>> {
        let names: anyhow::Result<_> = self.inside(|| (0..10).map(|_| name_behind(addr)).collect())?;
        names.with_context(|| format!("{addr} from {}", self.name()))
    }

    fn is_refused_at_once(&self, addr: SocketAddr) -> anyhow::Result<()> {
        let took = self.inside(|| refusal_time(addr))?.with_context(|| format!("from {}", self.name()))?;
        assert!(took < AT_ONCE, "{addr} from {} was refused after {took:?}", self.name());
        Ok(())
    }
}

#[test]
fn the_range_is_ours_alone_and_in_nobody_s_way() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let site = Site::start()?;
    let engine = &site.lab.engine;
    engine.docker(&["network", "create", "user"])?;
    let (bridge, user) = (engine.run(&[], &["wait"])?, engine.run(&["--network=user"], &["wait"])?);
    let places = [
        Place::Host(&site),
        Place::Container("the default bridge", &bridge),
        Place::Container("a user network", &user),
    ];
    let task = engine.run_elasticsearch(CLUSTER)?;
    let address = eventually(PATIENCE, || site.node().virtual_address("elasticsearch"))?;
    let link = SocketAddr::from((address, 9200));
    eventually(PATIENCE, || site.node().names_behind(link, 1)).context("the link works")?;
    let only_the_task = BTreeSet::from([task.host_name().to_owned()]);

    // A container that publishes the link's very port, another one, and a server on the host's own network.
    let on_link_port = engine.run(&["-p", "9200:9200", "-e", "NAME=stranger"], &["elasticsearch"])?;
    let on_other_port = engine.run(&["-p", "39200:9200", "-e", "NAME=stranger"], &["elasticsearch"])?;
    let in_host_network =
        engine.run(&["--network=host", "-e", "NAME=stranger", "-e", "PORT=39201"], &["elasticsearch"])?;
    for (container, port) in [(&on_link_port, 9200), (&on_other_port, 39200), (&in_host_network, 39201)] {
        assert_eq!(container.inspect("{{.State.Running}}")?, "true", "a container on port {port} starts beside a link");
        let own = SocketAddr::new(site.node().addr(), port);
        let names =
            eventually(PATIENCE, || site.node().names_behind(own, 1)).context("the stranger serves on its port")?;
        assert_eq!(names, BTreeSet::from(["stranger".to_owned()]), "{own}");
    }
    for place in &places {
        assert_eq!(place.names_behind(link)?, only_the_task, "the link from {}", place.name());
        for port in [39200, 39201, 53, 1, 65535] {
            place.is_refused_at_once(SocketAddr::from((address, port)))?;
        }
        for other in [Ipv4Addr::new(198, 18, 0, 0), Ipv4Addr::new(198, 18, 255, 255), neighbour(address)] {
            for port in [9200, 39200, 39201] {
                place.is_refused_at_once(SocketAddr::from((other, port)))?;
            }
        }
    }
    on_link_port.remove()?;
    let host_server = ["--network=host", "-e", "NAME=stranger"];
    let on_link_port =
        engine.run(&host_server, &["elasticsearch"]).context("a server of the host's network on port 9200")?;
    let own = SocketAddr::new(site.node().addr(), 9200);
    eventually(PATIENCE, || site.node().names_behind(own, 1)).context("it serves on its port")?;
    for place in &places {
        assert_eq!(place.names_behind(link)?, only_the_task, "the link beside a host server, from {}", place.name());
    }
    the_last_endpoint_goes(&site, &places, &task, link)?;
    assert_eq!(on_link_port.inspect("{{.State.Running}}")?, "true");
    Ok(())
}

fn neighbour(address: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address) ^ 1)
}

fn the_last_endpoint_goes(site: &Site, places: &[Place<'_>], task: &Container, link: SocketAddr) -> anyhow::Result<()> {
    task.remove()?;
    eventually(PATIENCE, || site.node().refusal_time(link)).context("the link without an endpoint")?;
    for place in places {
        place.is_refused_at_once(link)?;
    }
    let address = site.node().virtual_address("elasticsearch").context("the name keeps its virtual address")?;
    assert_eq!(SocketAddr::from((address, 9200)), link, "the address is the name's for ever");
    let again = site.lab.engine.run_elasticsearch(CLUSTER)?;
    let names =
        eventually(PATIENCE, || site.node().names_behind(link, 1)).context("a new task behind the old address")?;
    assert_eq!(names, BTreeSet::from([again.host_name().to_owned()]));
    Ok(())
}

#[test]
fn the_range_is_taken_back_when_something_flushes_it() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let site = Site::start()?;
    let worker = EcsTask::new(CLUSTER, "elasticsearch");
    site.lab.engine.run_task(&worker, &["-p", "0:9200"], &["elasticsearch"])?;
    let address = eventually(PATIENCE, || site.node().virtual_address("elasticsearch"))?;
    let link = SocketAddr::from((address, 9200));
    eventually(PATIENCE, || site.node().names_behind(link, 1))?;
    site.node().run("nft", &["flush", "ruleset"])?;
    site.node().ip("route del local 169.254.53.53 dev lo table local").ok();
    // 2 s by contract; the rest is for a loaded machine.
    eventually(Duration::from_secs(4), || {
        site.node().virtual_address("elasticsearch")?;
        site.node().inside(|| name_behind(link))?
    })
    .context("rules and routes come back")?;
    Ok(())
}
