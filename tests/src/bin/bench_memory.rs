//! Memory of a registry and a sidecar with 50 containers on the node, and with none; then with services of other nodes that the
//! sidecar follows and links. Usage: bench_memory [CONTAINERS [SERVICES]]; PORTOLAN_BIN names the folder of the programs.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::net::IpAddr;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portolan_tests::container::EcsTask;
use portolan_tests::process;
use portolan_tests::site::{ADMIN, CLUSTER, REGISTRY_GRPC, REGISTRY_HTTP, Site};
use portolan_tests::synthetic::{SyntheticNode, container};
use portolan_tests::wait::{PATIENCE, eventually};

/// How many containers of each service there are.
const PER_SERVICE: usize = 5;
/// How many endpoints each service of other nodes has, on as many nodes.
const ENDPOINTS: u8 = 4;

fn main() -> Result<()> {
    let number: usize =
        std::env::args().nth(1).map_or(Ok(50), |text| text.parse()).context("CONTAINERS is a number")?;
    let site = Site::start()?;
    report("no container", &site)?;
    let mut containers = Vec::new();
    for n in 0..number {
        let task = EcsTask::new(CLUSTER, &format!("service-{}", n / PER_SERVICE));
        containers.push(site.lab.engine.run_task(&task, &["-p", "0:9200"], &["elasticsearch"])?);
    }
    eventually(Duration::from_secs(60), || -> Result<()> {
        let services = site.node().fetch(REGISTRY_HTTP, "/api/services")?.json()?;
        let usable = services["services"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|s| s["endpoints"]["usable"].as_u64().unwrap_or(0));
        let (usable, expected) = (usable.sum::<u64>(), number as u64);
        ensure!(usable == expected, "{usable} of {expected} are usable");
        Ok(())
    })?;
    // Follows every service, as a node does whose containers ask for all of them.
    for service in 0..number.div_ceil(PER_SERVICE) {
        site.node().fetch(ADMIN, &format!("/api/resolve/service-{service}"))?;
    }
    report(&format!("{number} containers, all usable and followed"), &site)?;
    let services: u64 = std::env::args().nth(2).map_or(Ok(500), |text| text.parse()).context("SERVICES is a number")?;
    elsewhere(&site, services)
}

/// As many services with endpoints on other nodes, all followed and linked.
fn elsewhere(site: &Site, services: u64) -> Result<()> {
    let (node, (told, ready)) = (site.node().clone(), mpsc::channel());
    // Their sockets are made inside; they speak on that thread for as long as the benchmark runs.
    let _nodes = std::thread::spawn(move || node.inside(|| speak(services, &told)));
    ready.recv().context("the nodes are registered")?;
    for service in 0..services {
        let path = format!("/api/resolve/other-{service}.local.ecs.internal");
        eventually(PATIENCE, || -> Result<()> {
            let answer = site.node().fetch(ADMIN, &path)?.json()?;
            let found = answer["endpoints"].as_array().map_or(0, Vec::len);
            ensure!(answer["virtual_address"].is_string() && found == ENDPOINTS as usize, "{answer}");
            Ok(())
        })?;
    }
    report(&format!("and {services} services of {ENDPOINTS} endpoints elsewhere, all followed and linked"), site)
}

fn speak(services: u64, told: &mpsc::Sender<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut nodes = register(services).await?;
        told.send(())?;
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            beat.tick().await;
            for node in &mut nodes {
                node.heartbeat().await?;
            }
        }
    })
}

async fn register(services: u64) -> Result<Vec<SyntheticNode>> {
    let mut nodes = Vec::new();
    for number in 0..ENDPOINTS {
        let address = IpAddr::from([10, 77, 1, number]);
        let mut node =
            SyntheticNode::connect(&format!("http://{REGISTRY_GRPC}"), &format!("n{number}"), address).await?;
        let one = |service: u64| {
            let id = service * u64::from(ENDPOINTS) + u64::from(number);
            container(&format!("other-{service}"), id, address, 20_000 + u16::try_from(service)?)
        };
        node.register((0..services).map(one).collect::<Result<_>>()?).await?;
        nodes.push(node);
    }
    Ok(nodes)
}

fn report(when: &str, site: &Site) -> Result<()> {
    let (registry, sidecar) =
        (process::resident_kb(site.registry.pid())?, process::resident_kb(site.sidecar.worker_pid()?)?);
    let proportional = process::proportional_kb(site.sidecar.worker_pid()?)?;
    println!("{when}: registry {registry} kB resident, sidecar {sidecar} kB ({proportional} kB proportional)");
    Ok(())
}
