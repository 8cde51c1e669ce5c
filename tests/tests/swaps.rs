//! A host port that changes hands between two services: a link never leads to the other one, neither on the node itself nor on
//! another, neither by the relay nor by the kernel. `PORTOLAN_SWAPS` says how often.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;

use portolan_tests::asking::Ending;
use portolan_tests::cgroup::KernelPath;
use portolan_tests::container::{Container, EcsTask};
use portolan_tests::lab::Lab;
use portolan_tests::site::{ADMIN, CLUSTER, Follower, Site};
use portolan_tests::wait::{PATIENCE, eventually, pause};
use portolan_tests::{http, needs, report};

const SWAPS: usize = 25;

/// A service with a container on each of two host ports, of which one runs at any time.
struct Service {
    name: &'static str,
    /// Its label for the plane, if it has one.
    plane: &'static [&'static str],
    containers: Vec<Container>,
    link: SocketAddr,
    answered: AtomicU64,
    answered_elsewhere: AtomicU64,
}

impl Service {
    fn create(site: &Site, name: &'static str, plane: &'static [&'static str]) -> anyhow::Result<Self> {
        let create = |port: &str| -> anyhow::Result<Container> {
            let task = EcsTask::new(CLUSTER, name).options();
            let task: Vec<&str> = task.iter().map(String::as_str).collect();
            let (variable, publish) = (format!("SERVICE={name}"), format!("{port}:9200"));
            let options = [&task[..], &["-p", &publish, "-e", &variable], plane].concat();
            site.lab.engine.create(&options, &["elasticsearch"])
        };
        let containers = vec![create("31001")?, create("31002")?];
        let (link, answered, answered_elsewhere) =
            (SocketAddr::from(([0; 4], 0)), AtomicU64::new(0), AtomicU64::new(0));
        Ok(Service { name, plane, containers, link, answered, answered_elsewhere })
    }

    fn find_link(&mut self, site: &Site) -> anyhow::Result<()> {
        let address = eventually(PATIENCE, || site.node().virtual_address(self.name))?;
        self.link = SocketAddr::from((address, 9200));
        eventually(PATIENCE, || site.node().names_behind(self.link, 1))
            .with_context(|| format!("link of {}", self.name))?;
        Ok(())
    }

    /// Connects again and again; who answers must be of the service. A failed connect is no mistake here: all were killed.
    fn ask_until(&self, is_over: &AtomicBool, answered: &AtomicU64) -> anyhow::Result<()> {
        while !is_over.load(Ordering::SeqCst) {
            if let Ok(answer) = http::fetch(self.link, "/") {
                let who = answer.json()?;
                anyhow::ensure!(who["service"] == self.name, "the link of {} led to {who}", self.name);
                answered.fetch_add(1, Ordering::SeqCst);
            }
            pause(Duration::from_millis(2));
        }
        Ok(())
    }
}

#[test]
fn a_link_never_leads_to_the_other_service() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig", "clang");
    let swaps = std::env::var("PORTOLAN_SWAPS").map_or(Ok(SWAPS), |text| text.parse()).context("PORTOLAN_SWAPS")?;
    let (own, elsewhere) = (KernelPath::new()?, KernelPath::new()?);
    let site = Site::start_in(Lab::start()?, &own.args().each_ref().map(String::as_str))?;
    let b = site.lab.another_node()?;
    let args = elsewhere.args();
    let follower = Follower::start_with(&site, &b, Path::new("/nonexistent"), &["--node=b", &args[0], &args[1]])?;
    let mut red = Service::create(&site, "red", &["--label", "portolan.link.plane=ebpf"])?;
    let mut blue = Service::create(&site, "blue", &[])?;
    site.lab.engine.docker(&["start", &red.containers[0].id, &blue.containers[1].id])?;
    red.find_link(&site)?;
    blue.find_link(&site)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let is_over = &is_over;
        let ending = Ending(is_over);
        let mut clients = Vec::new();
        for service in [&red, &blue] {
            for _ in 0..2 {
                clients.push(scope.spawn(|| site.node().inside(|| service.ask_until(is_over, &service.answered))?));
            }
            clients.push(scope.spawn(|| {
                follower.node.inside(|| {
                    elsewhere.cgroup.take_this_thread()?;
                    service.ask_until(is_over, &service.answered_elsewhere)
                })?
            }));
        }
        let swapped = (0..swaps).try_for_each(|number| {
            swap(number, [&red, &blue])?;
            anyhow::ensure!(!clients.iter().any(|client| client.is_finished()), "a client ended at swap {number}");
            Ok(())
        });
        drop(ending);
        // What a client saw tells more than that it ended.
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        swapped
    })?;
    let links = follower.node.fetch(ADMIN, "/api/links")?.json()?;
    for service in [&red, &blue] {
        let link = links.as_array().into_iter().flatten().find(|link| link["service"] == service.name);
        let led = link.and_then(|link| link["led_total"].as_u64()).context("how many connections the kernel led")?;
        let answered = [&service.answered, &service.answered_elsewhere].map(|count| count.load(Ordering::SeqCst));
        report::say(&format!(
            "{swaps} swaps: {answered:?} answers of {} here and elsewhere, all its own; the kernel led {led} elsewhere",
            service.name
        ));
        assert!(answered[1] > 0 && (led > 0) != service.plane.is_empty(), "{led} led, {answered:?} answered");
    }
    Ok(())
}

/// A docker command to two containers at once.
fn both(containers: [&Container; 2], command: &str) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let [one, other] = containers.map(|container| scope.spawn(|| container.docker(&[command])));
        for done in [one, other] {
            done.join().map_err(|_| anyhow::anyhow!("docker {command} panicked"))??;
        }
        Ok(())
    })
}

/// The host ports change hands as fast as Docker can do it; then both links must work again.
fn swap(number: usize, [red, blue]: [&Service; 2]) -> anyhow::Result<()> {
    let (old, new) = (number % 2, (number + 1) % 2);
    both([&red.containers[old], &blue.containers[new]], "kill")?;
    both([&blue.containers[old], &red.containers[new]], "start")?;
    for service in [red, blue] {
        for (answered, place) in [(&service.answered, "here"), (&service.answered_elsewhere, "elsewhere")] {
            let before = answered.load(Ordering::SeqCst);
            eventually(PATIENCE, || match answered.load(Ordering::SeqCst) {
                now if now > before => Ok(()),
                now => Err(now),
            })
            .with_context(|| format!("answers of {} {place} after swap {number}", service.name))?;
        }
    }
    Ok(())
}
