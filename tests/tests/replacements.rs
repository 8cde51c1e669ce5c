//! Rolling deployments of a linked service under load: no connect fails, no request fails.
//!
//! `PORTOLAN_REPLACEMENTS` and `PORTOLAN_REQUESTS` make it as large as one likes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc;

use anyhow::Context;
use serde_json::Value;

use portolan_tests::asking::{Asking, Scale};
use portolan_tests::container::Container;
use portolan_tests::needs;
use portolan_tests::report::say;
use portolan_tests::site::{ADMIN, CLUSTER, Site};
use portolan_tests::wait::{PATIENCE, eventually, now};

const REPLACEMENTS: usize = 200;
/// Each waits 10 ms between a whole exchange and the next, each over a new connection: about 300 requests a second together.
const CLIENTS: usize = 4;
/// What the deployments are to be unnoticed under, in requests a second.
const RATE_MIN: f64 = 200.0;
/// How many may be on their way out at once, so that a slow engine is not asked for more and more.
const LEAVING_MAX: usize = 4;

#[test]
fn two_hundred_replacements_are_not_noticed() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let site = Site::start()?;
    let engine = &site.lab.engine;
    let tasks = VecDeque::from([engine.run_elasticsearch(CLUSTER)?, engine.run_elasticsearch(CLUSTER)?]);
    for task in &tasks {
        is_usable(&site, task)?;
    }
    let label = "--label=portolan.service=kibana";
    let options = ["--dns=169.254.53.53", "--dns-search=.", "-e", "INTERVAL_MS=10", label];
    let clients: Vec<Container> =
        (0..CLIENTS).map(|_| engine.run(&options, &["kibana"])).collect::<anyhow::Result<_>>()?;
    for client in &clients {
        eventually(PATIENCE, || match stats(client)?["requests"].as_u64() {
            Some(1..) => Ok(()),
            other => anyhow::bail!("{other:?} requests"),
        })?;
    }
    let scale = Scale::from_environment(REPLACEMENTS)?;
    let address = eventually(PATIENCE, || site.node().virtual_address("elasticsearch"))?;
    let asking = Asking::new(SocketAddr::from((address, 9200)), scale);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let ending = asking.ending();
        let anew = scope.spawn(|| site.node().inside(|| asking.anew())?);
        let again = scope.spawn(|| site.node().inside(|| asking.again())?);
        let replaced = replace(&site, tasks, &clients, (scale, &asking));
        drop(ending);
        for asked in [anew, again] {
            asked.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        replaced
    })?;
    let (answers, cut) = (asking.answers(), asking.cut());
    say(&format!(
        "{answers} answers beside, over new connections and one that is kept; {cut} times its task was killed under it"
    ));
    assert!(cut <= scale.replacements as u64, "{cut} requests were cut by {} replacements", scale.replacements);
    Ok(())
}

/// Replaces tasks one after the other, while clients ask.
fn replace(
    site: &Site,
    mut tasks: VecDeque<Container>,
    clients: &[Container],
    (scale, asking): (Scale, &Asking),
) -> anyhow::Result<()> {
    let engine = &site.lab.engine;
    let began = now();
    let (leave, leaving) = mpsc::sync_channel::<Container>(LEAVING_MAX);
    let stopping = std::thread::spawn(move || leaving.iter().try_for_each(|task| task.remove_after_stop()));
    let (leave_too, leaving_too) = mpsc::sync_channel::<Container>(LEAVING_MAX);
    let stopping_too = std::thread::spawn(move || leaving_too.iter().try_for_each(|task| task.remove_after_stop()));
    for number in 0..scale.replacements {
        asking.reached(scale.requests_before(number)).with_context(|| format!("before replacement {number}"))?;
        let new = engine.run_elasticsearch(CLUSTER)?;
        is_usable(site, &new).with_context(|| format!("replacement {number}"))?;
        tasks.push_back(new);
        let old = tasks.pop_front().context("there are always two")?;
        let leave = if number % 2 == 0 { &leave } else { &leave_too };
        leave.send(old).map_err(|_| anyhow::anyhow!("a stop failed before replacement {number}"))?;
        for client in clients {
            let stats = stats(client)?;
            assert_eq!(stats["errors"], 0, "by replacement {number} a request failed: {stats:#}");
        }
    }
    drop((leave, leave_too));
    for stopping in [stopping, stopping_too] {
        stopping.join().map_err(|_| anyhow::anyhow!("stopping panicked"))??;
    }
    let took = began.elapsed();
    let mut requests = 0;
    for client in clients {
        let stats = stats(client)?;
        assert_eq!(stats["errors"], 0, "a request failed: {stats:#}");
        requests += stats["requests"].as_u64().unwrap_or(0);
        let instances = stats["instances"].as_object().map_or(0, serde_json::Map::len);
        assert!(instances > scale.replacements / 2, "the client saw only {instances} instances: {stats:#}");
    }
    let rate = (requests + asking.answers()) as f64 / took.as_secs_f64();
    say(&format!(
        "{} replacements in {took:.1?}, {requests} requests by name, {rate:.0} a second in all, none failed",
        scale.replacements
    ));
    let counted = connections_of_kibana(site)?;
    assert!(counted >= requests, "the link counted {counted} connections of {requests} requests");
    // Not a measure of speed: with fewer requests, that none failed would say less.
    assert!(rate >= RATE_MIN, "only {rate:.0} requests a second");
    Ok(())
}

/// Who connects to whom: the connections from `kibana` to `elasticsearch`, as the sidecar shows them.
fn connections_of_kibana(site: &Site) -> anyhow::Result<u64> {
    let links = site.node().fetch(ADMIN, "/api/links")?.json()?;
    let link = links.as_array().into_iter().flatten().find(|link| link["service"] == "elasticsearch");
    let clients = link.and_then(|link| link["clients"].as_array()).into_iter().flatten();
    let counted = clients.filter(|client| client["service"] == "kibana" && client["cluster"] == CLUSTER);
    counted.map(|client| client["total"].as_u64()).sum::<Option<u64>>().context("a figure is no number")
}

fn is_usable(site: &Site, task: &Container) -> anyhow::Result<()> {
    let place = format!("{}:{}", site.node().address, task.port(9200)?);
    // The node's word, because its links lead by it.
    eventually(PATIENCE, || match site.node().node_srv("elasticsearch") {
        Ok(places) if places.contains(&place) => Ok(()),
        other => Err(other),
    })
    .with_context(|| format!("{place} becomes usable"))
}

fn stats(client: &Container) -> anyhow::Result<Value> {
    let addr: SocketAddr = "127.0.0.1:5601".parse()?;
    client.inside(|| portolan_tests::http::fetch(addr, "/stats"))??.json()
}
