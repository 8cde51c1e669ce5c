//! A host port that changes hands between two services: a link never leads to the other one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;

use portolan_tests::container::{Container, EcsTask};
use portolan_tests::namespace::Namespace;
use portolan_tests::site::{CLUSTER, Site};
use portolan_tests::wait::{PATIENCE, eventually, pause};
use portolan_tests::{http, needs, report};

const SWAPS: usize = 100;

/// A service with a container on each of two host ports, of which one runs at any time.
struct Service {
    name: &'static str,
    containers: Vec<Container>,
    link: SocketAddr,
    answered: AtomicU64,
}

impl Service {
    fn create(site: &Site, name: &'static str) -> anyhow::Result<Self> {
        let create = |port: &str| -> anyhow::Result<Container> {
            let task = EcsTask::new(CLUSTER, name).options();
            let task: Vec<&str> = task.iter().map(String::as_str).collect();
            let (variable, publish) = (format!("SERVICE={name}"), format!("{port}:9200"));
            site.lab.engine.create(&[&task[..], &["-p", &publish, "-e", &variable]].concat(), &["elasticsearch"])
        };
        let containers = vec![create("31001")?, create("31002")?];
        Ok(Service { name, containers, link: SocketAddr::from(([0; 4], 0)), answered: AtomicU64::new(0) })
    }

    fn find_link(&mut self, site: &Site) -> anyhow::Result<()> {
        let address = eventually(PATIENCE, || site.node().virtual_address(self.name))?;
        self.link = SocketAddr::from((address, 9200));
        eventually(PATIENCE, || site.node().names_behind(self.link, 1))
            .with_context(|| format!("link of {}", self.name))?;
        Ok(())
    }

    /// Connects again and again; who answers must be of the service. A failed connect is no mistake here: all were killed.
    fn ask_until(&self, is_over: &AtomicBool, node: &Namespace) -> anyhow::Result<()> {
        node.inside(|| {
            while !is_over.load(Ordering::SeqCst) {
                if let Ok(answer) = http::fetch(self.link, "/") {
                    let who = answer.json()?;
                    anyhow::ensure!(who["service"] == self.name, "the link of {} led to {who}", self.name);
                    self.answered.fetch_add(1, Ordering::SeqCst);
                }
                pause(Duration::from_millis(2));
            }
            Ok(())
        })?
    }
}

#[test]
fn a_link_never_leads_to_the_other_service() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let site = Site::start()?;
    let (mut red, mut blue) = (Service::create(&site, "red")?, Service::create(&site, "blue")?);
    site.lab.engine.docker(&["start", &red.containers[0].id, &blue.containers[1].id])?;
    red.find_link(&site)?;
    blue.find_link(&site)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let clients: Vec<_> = [&red, &blue, &red, &blue]
            .map(|service| scope.spawn(|| service.ask_until(&is_over, site.node())))
            .into_iter()
            .collect();
        let swapped = (0..SWAPS).try_for_each(|number| {
            swap(number, [&red, &blue])?;
            anyhow::ensure!(!clients.iter().any(|client| client.is_finished()), "a client ended at swap {number}");
            Ok(())
        });
        is_over.store(true, Ordering::SeqCst);
        // What a client saw tells more than that it ended.
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        swapped
    })?;
    report::say(&format!(
        "{SWAPS} swaps; {:?} and {:?} answers, each of the right service",
        red.answered, blue.answered
    ));
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
        let before = service.answered.load(Ordering::SeqCst);
        eventually(PATIENCE, || match service.answered.load(Ordering::SeqCst) {
            now if now > before => Ok(()),
            now => Err(now),
        })
        .with_context(|| format!("answers of {} after swap {number}", service.name))?;
    }
    Ok(())
}
