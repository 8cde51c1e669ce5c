//! Memory of a registry and a sidecar with 50 containers on the node, and with none. Usage: bench_memory [CONTAINERS];
//! PORTOLAN_BIN names the folder of the programs.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portolan_tests::container::EcsTask;
use portolan_tests::process;
use portolan_tests::site::{ADMIN, CLUSTER, REGISTRY_HTTP, Site};
use portolan_tests::wait::eventually;

/// How many containers of each service there are.
const PER_SERVICE: usize = 5;

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
    report(&format!("{number} containers, all usable and followed"), &site)
}

fn report(when: &str, site: &Site) -> Result<()> {
    let (registry, sidecar) =
        (process::resident_kb(site.registry.pid())?, process::resident_kb(site.sidecar.worker_pid()?)?);
    println!("{when}: registry {registry} kB resident, sidecar {sidecar} kB resident");
    Ok(())
}
