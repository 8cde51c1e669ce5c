//! What the ECS side costs: how long a registry takes to know a cluster, what it calls, its CPU and its memory.
//!
//! The registry runs alone in a namespace and asks the double there, with the default budget of two calls a second. No node
//! has a sidecar, so ECS alone says what runs, a minute after it was first heard of. For memory the same number of endpoints
//! is also reported by sidecars, without ECS.
//! Usage: bench_ecs [MINUTES], of which calls are counted after the start; PORTOLAN_BIN names the folder of the programs.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portolan_registry::clock::Clock;
use portolan_tests::double::world::REGION;
use portolan_tests::double::{Definition, Double, Server};
use portolan_tests::namespace::{Namespace, Network};
use portolan_tests::programs::{self, Program};
use portolan_tests::site::REGISTRY_HTTP;
use portolan_tests::synthetic::{SyntheticNode, container};
use portolan_tests::wait::{PATIENCE, eventually, now, pause};
use portolan_tests::{http, process};
use serde_json::Value;

const CLUSTER: &str = "prod";
/// Calls a second, the registry's default.
const BUDGET: f64 = 2.0;
/// Between two looks at a registry that works: seldom enough to cost it nothing.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// When it is given up to know everything.
const FULL_WITHIN: Duration = Duration::from_secs(1_200);

/// A cluster's size. Tasks have one container with one port, so there are as many endpoints.
#[derive(Clone, Copy)]
struct Size {
    tasks: usize,
    services: usize,
    instances: usize,
}

const EMPTY: Size = Size { tasks: 0, services: 0, instances: 0 };
const SIZES: [Size; 2] =
    [Size { tasks: 1_000, services: 50, instances: 20 }, Size { tasks: 10_000, services: 200, instances: 100 }];

/// Calls by action.
type Counts = BTreeMap<&'static str, u64>;

/// What one cluster cost.
struct Figures {
    /// From the start until the first complete listing, and until every endpoint was usable.
    listed: Duration,
    full: Duration,
    calls: Counts,
    cpu: Duration,
    /// The same of the minutes after.
    calls_after: Counts,
    cpu_after: Duration,
    busiest: usize,
    resident_kb: u64,
    resident_peak_kb: u64,
    /// From a start with what the store holds until a name is answered and every endpoint is shown.
    restart: Duration,
    resident_after_restart_kb: u64,
}

fn main() -> Result<()> {
    let minutes: u64 = std::env::args().nth(1).map_or(Ok(5), |text| text.parse()).context("MINUTES is a number")?;
    let network = Network::new()?;
    let node = network.node("a")?;
    let empty = measure(&node, EMPTY, Duration::ZERO)?;
    println!("registry without endpoints: {} kB resident, with ECS and an empty cluster", empty.resident_kb);
    for size in SIZES {
        let figures = measure(&node, size, Duration::from_secs(60 * minutes))?;
        let by_sidecars_kb = by_sidecars(&node, size)?;
        print(size, &figures, minutes);
        for (how, resident_kb) in [
            ("told by ECS", figures.resident_kb),
            ("told by ECS, after a restart", figures.resident_after_restart_kb),
            ("reported by sidecars", by_sidecars_kb),
        ] {
            let each = resident_kb.saturating_sub(empty.resident_kb) as f64 / size.tasks as f64;
            println!("  memory, {how}: {resident_kb} kB resident, {each:.1} kB for each endpoint");
        }
    }
    Ok(())
}

fn print(size: Size, figures: &Figures, minutes: u64) {
    let Size { tasks, services, instances } = size;
    println!("{tasks} tasks of {services} services on {instances} instances");
    let calls: u64 = figures.calls.values().sum();
    let necessary = calls as f64 / BUDGET;
    let (listed, full) = (figures.listed.as_secs_f64(), figures.full.as_secs_f64());
    println!(
        "  listed in full after {listed:.1} s, every endpoint usable after {full:.1} s; its calls take {necessary:.1} s"
    );
    println!("  until then {calls} calls, CPU {:.2} s: {:?}", figures.cpu.as_secs_f64(), figures.calls);
    let after: u64 = figures.calls_after.values().sum();
    let cpu = figures.cpu_after.as_secs_f64();
    println!("  in the {minutes} minutes after {after} calls, CPU {cpu:.2} s: {:?}", figures.calls_after);
    println!("  busiest second: {} calls; resident at most {} kB", figures.busiest, figures.resident_peak_kb);
    println!("  restart with the store: everything is answered after {} ms", figures.restart.as_millis());
}

fn measure(node: &Arc<Namespace>, size: Size, after: Duration) -> Result<Figures> {
    let aws = Double::with_clock(1, Clock::system());
    populate(&aws, size);
    let server = Server::start_in(&aws, node)?;
    let folder = tempfile::tempdir()?;
    let began = now();
    let mut registry = start(node, folder.path(), Some(&server))?;
    registry.listening("http")?;
    let listed = reached(node, began, |status| status["aws"]["clusters"][0]["listed"].is_string())?;
    let full = reached(node, began, |status| is_full(status, size))?;
    let (calls, cpu) = (counts(&aws), process::cpu(registry.pid())?);
    pause(after);
    let mut calls_after = counts(&aws);
    calls_after.iter_mut().for_each(|(action, count)| *count -= calls.get(action).copied().unwrap_or_default());
    let cpu_after = (process::cpu(registry.pid())? - cpu).total();
    let resident_kb = process::resident_kb(registry.pid())?;
    let resident_peak_kb = process::resident_peak_kb(registry.pid())?;
    let restart = restart(node, &mut registry, size)?;
    let resident_after_restart_kb = process::resident_kb(registry.pid())?;
    let busiest = aws.busiest(Duration::from_secs(1));
    Ok(Figures {
        listed,
        full,
        calls,
        cpu: cpu.total(),
        calls_after,
        cpu_after,
        busiest,
        resident_kb,
        resident_peak_kb,
        restart,
        resident_after_restart_kb,
    })
}

fn populate(aws: &Double, size: Size) {
    let cluster = aws.cluster(CLUSTER);
    for _ in 0..size.instances {
        let address = aws.with(|state| state.world.next_host_address());
        cluster.instance(&address.to_string());
    }
    for number in 0..size.services {
        let name = format!("service-{number}");
        let definition = aws.define(Definition::bridge(&name).port(8080).named("http"));
        cluster.service(&name, &definition, (size.tasks / size.services) as u32);
    }
}

/// A registry; it asks AWS where there is one. `env` becomes the registry, with credentials in its environment.
fn start(node: &Arc<Namespace>, data: &Path, aws: Option<&Server>) -> Result<Program> {
    let program = programs::path("portolan-registry")?.to_string_lossy().into_owned();
    let (data, url) = (data.to_string_lossy(), aws.map(Server::url));
    let mut args = vec!["AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench", &program, "--data-dir", &data];
    if let Some(url) = &url {
        args.extend(["--aws-clusters", CLUSTER, "--aws-region", REGION, "--aws-endpoint", url]);
    }
    Program::start_file(node, "env", &args)
}

/// How long after `began` the registry's own status is so. One that does not answer is asked again.
fn reached(node: &Namespace, began: Instant, is_so: impl Fn(&Value) -> bool) -> Result<Duration> {
    loop {
        let status = node.fetch(REGISTRY_HTTP, "/api/status").and_then(|answer| answer.json());
        if status.as_ref().is_ok_and(&is_so) {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < FULL_WITHIN, "after {FULL_WITHIN:?} still: {status:?}");
        pause(LOOK_EVERY);
    }
}

fn is_full(status: &Value, size: Size) -> bool {
    status["endpoints"]["usable"] == size.tasks && status["services"] == size.services
}

fn counts(aws: &Double) -> Counts {
    let mut counts = Counts::new();
    aws.calls().iter().for_each(|call| *counts.entry(call.action).or_default() += 1);
    counts
}

fn restart(node: &Namespace, registry: &mut Program, size: Size) -> Result<Duration> {
    registry.terminate()?;
    let began = now();
    registry.start_again()?;
    eventually(PATIENCE, || -> Result<()> {
        let status = node.fetch(REGISTRY_HTTP, "/api/status")?.json()?;
        ensure!(is_full(&status, size), "{status}");
        if size.services > 0 {
            let answer = node.fetch(REGISTRY_HTTP, &format!("/api/resolve/service-0.{CLUSTER}"))?;
            ensure!(answer.status == 200, "{answer:?}");
        }
        Ok(())
    })?;
    Ok(began.elapsed())
}

/// How much memory a registry takes that never asked AWS, and whose sidecars report as many endpoints.
fn by_sidecars(node: &Arc<Namespace>, size: Size) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let mut registry = start(node, folder.path(), None)?;
    registry.listening("grpc")?;
    let pid = registry.pid();
    node.inside(|| -> Result<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut speaking = tokio::task::JoinSet::new();
            for number in 0..size.instances {
                let mut sidecar = report(size, number).await?;
                speaking.spawn(async move { sidecar.speak().await });
            }
            let mut look = tokio::time::interval(LOOK_EVERY);
            loop {
                look.tick().await;
                let status = http::fetch(REGISTRY_HTTP, "/api/status")?.json()?;
                if is_full(&status, size) {
                    return process::resident_kb(pid);
                }
                ensure!(speaking.try_join_next().is_none(), "a node's stream ended");
            }
        })
    })?
}

/// A node with its share of the containers, of services in turn.
async fn report(size: Size, number: usize) -> Result<SyntheticNode> {
    let address = IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(10, 2, 0, 10).to_bits() + number as u32));
    let mut node = SyntheticNode::connect("http://127.0.0.1:8502", &format!("n{number}"), address).await?;
    let own = (number..size.tasks).step_by(size.instances);
    let containers = own.enumerate().map(|(place, task)| {
        let service = format!("service-{}", task / (size.tasks / size.services));
        container(&service, task as u64, address, 32_768 + place as u16)
    });
    node.register(containers.collect::<Result<_>>()?).await?;
    Ok(node)
}
