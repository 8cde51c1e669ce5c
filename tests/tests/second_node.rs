//! Two nodes, one registry: each reaches the other's containers by name and by link.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;

use portolan_tests::container::Container;
use portolan_tests::dockerd::Engine;
use portolan_tests::namespace::Namespace;
use portolan_tests::site::{CLUSTER, Follower, NODE_DNS, REGISTRY_DNS, Site};
use portolan_tests::surfaces::name_behind;
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal, now};
use portolan_tests::{needs, report};

/// Milliseconds by contract; seconds on a machine that runs other tests, too.
const SOON: Duration = Duration::from_secs(6);

/// What a node's DNS and link must lead to: places and who answers there.
struct Expected {
    places: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Expected {
    fn of(tasks: &[&Container]) -> anyhow::Result<Self> {
        let place = |task: &&Container| Ok(format!("{}:{}", task.engine().node().address, task.port(9200)?));
        let names = tasks.iter().map(|task| task.host_name().to_owned()).collect();
        Ok(Expected { places: tasks.iter().map(place).collect::<anyhow::Result<_>>()?, names })
    }

    fn shows_at(&self, node: &Namespace, link: SocketAddr) -> anyhow::Result<()> {
        let places = Ok(self.places.clone());
        eventually_equal(SOON, &places, || node.node_srv("elasticsearch").map_err(|error| format!("{error:#}")))?;
        node.link_leads_to(link, &self.names).with_context(|| format!("at {}", node.address))
    }
}

#[test]
fn containers_are_reached_from_another_node() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let site = Site::start()?;
    let b = site.lab.another_node()?;
    let engine_b = Engine::start(&b)?;
    let follower = Follower::start(&site, &b, &engine_b.socket())?;
    let first = site.lab.engine.run_elasticsearch(CLUSTER)?;
    let address = eventually(PATIENCE, || b.virtual_address("elasticsearch")).context("the name at the second node")?;
    assert_eq!(
        eventually(PATIENCE, || site.node().virtual_address("elasticsearch"))?,
        address,
        "one address everywhere"
    );
    let link = SocketAddr::from((address, 9200));
    let both = |tasks: &[&Container], after: &str| -> anyhow::Result<()> {
        for node in [site.node(), &b] {
            Expected::of(tasks)?.shows_at(node, link).with_context(|| format!("after {after}, at {}", node.address))?;
        }
        Ok(())
    };
    both(&[&first], "a start")?;
    let client = engine_b.run(&["--dns=169.254.53.53", "--dns-search=."], &["wait"])?;
    let body = client.exec(&["get", "http://elasticsearch:9200/"]).context("a container of the second node")?;
    assert!(body.contains(first.host_name()), "{body}");
    let second = engine_b.run_elasticsearch(CLUSTER)?;
    both(&[&first, &second], "a start on the second node")?;
    first.kill()?;
    both(&[&second], "a kill on the first node")?;
    first.docker(&["start"])?;
    both(&[&first, &second], "a start on the first node")?;
    second.stop(1)?;
    both(&[&first], "a stop on the second node")?;
    for (node, expected) in [("a", site.node().address), ("b", b.address)] {
        for (asking, server) in [(site.node(), REGISTRY_DNS), (site.node(), NODE_DNS), (&b, NODE_DNS)] {
            let dug = asking.dig(server, &format!("{node}.node.production.ecs.internal A"))?;
            assert_eq!(dug.data("A"), [expected.to_string()], "node {node} at {server}: {}", dug.text);
        }
    }
    second.docker(&["start"])?;
    both(&[&first, &second], "a start on the second node")?;
    a_node_falls_off(&site, &follower, link)
}

/// The cable of the second node is pulled: it is not known to be dead, so it is marked and not removed, and no client of the
/// first node waits for it.
fn a_node_falls_off(site: &Site, follower: &Follower, link: SocketAddr) -> anyhow::Result<()> {
    follower.node.unplug()?;
    follower.wire.stall();
    let pulled = now();
    for _ in 0..20 {
        let began = now();
        site.node().inside(|| name_behind(link))?.context("the link from the first node")?;
        assert!(began.elapsed() < Duration::from_secs(1), "a request took {:?}", began.elapsed());
    }
    let unverified = || -> anyhow::Result<usize> {
        let service = site.node().service("elasticsearch")?;
        Ok(service["endpoints"].as_array().into_iter().flatten().filter(|e| e["state"] == "unverified").count())
    };
    eventually_equal(PATIENCE, &Some(1), || unverified().ok()).context("the silent node's endpoint is marked")?;
    let took = pulled.elapsed();
    report::say(&format!("the silent node was suspect after {took:.1?}"));
    assert!(took < Duration::from_secs(9), "5 s by contract; it took {took:?}");
    follower.node.plug_in()?;
    follower.wire.mend();
    eventually_equal(PATIENCE, &Some(2), || site.node().usable("elasticsearch").ok().map(|places| places.len()))
        .context("the node is back")
}
