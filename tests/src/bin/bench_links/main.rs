//! Links beside a direct connection, DNAT in the kernel and other TCP proxies, in one run: CPU per request, connection and byte,
//! latency, and memory of idle connections.
//!
//! A registry, a sidecar and the proxies run in a namespace; the services are in another one. Proxies have one processor, clients
//! and services the other. A client takes one way after the other, another one first in each round.
//! Usage: bench_links [ROUNDS [IDLE [WAY,...]]]: how many rounds and idle connections, and which ways but "direct". PORTOLAN_BIN
//! names the folder of the programs, ENVOY the program of that name. What is not installed is left out.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod load;
mod peers;
mod portolan;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use portolan_tests::namespace::{Namespace, Network};
use portolan_tests::programs::Program;
use portolan_tests::wait::{PATIENCE, eventually};
use portolan_tests::{image, process};

use load::{Figure, Idle};

/// Where the stand-in answers HTTP, where it echoes lines, and where this program holds connections.
const HTTP: u16 = 9200;
const ECHO: u16 = 9300;
const HELD: u16 = 9400;
const PORTS: [u16; 3] = [HTTP, ECHO, HELD];

/// What is compared with each proxy.
const RELAY: &str = "link proxy";

/// The processors of proxies, and of everything else.
const PROXIES: u32 = 0;
const OTHERS: u32 = 1;

/// A way from the client to the services.
struct Way {
    name: &'static str,
    address: IpAddr,
    /// What is added to each port.
    offset: u16,
    /// Whose memory and CPU it takes.
    process: Option<u32>,
}

fn main() -> Result<()> {
    let argument = |at: usize, default: usize| std::env::args().nth(at).map_or(Ok(default), |text| text.parse());
    let rounds = argument(1, 5).context("ROUNDS is a number")?;
    let idle = argument(2, 9_000).context("IDLE is a number")?;
    let network = Network::new()?;
    let (node, backend) = (network.node("a")?, network.node("b")?);
    forget_quickly([&node, &backend])?;
    let folder = tempfile::tempdir()?;
    process::pin(std::process::id(), PROXIES)?;
    let (portolan, proxies) = (portolan::start(&node, folder.path())?, peers::start(&node, &backend, folder.path())?);
    process::pin(std::process::id(), OTHERS)?;
    let held = Idle::listen(&backend)?;
    let _services = services(&backend)?;
    let mut ways = vec![
        Way { name: "direct", address: backend.addr(), offset: 0, process: None },
        Way { name: "dnat", address: peers::dnat(&node, &backend)?, offset: 0, process: None },
    ];
    ways.extend(portolan.ways(&node, &backend)?);
    ways.extend(proxies.iter().map(|proxy| proxy.way(&node)));
    if let Some(only) = std::env::args().nth(3) {
        ways.retain(|way| way.name == "direct" || only.split(',').any(|name| name == way.name));
    }
    let (ways, portolan) = (&ways, &portolan);
    node.inside(move || -> Result<()> {
        portolan.kernel_path.cgroup.take_this_thread()?;
        for way in ways {
            eventually(PATIENCE, || load::is_ready(way)).with_context(|| way.name)?;
        }
        portolan.is_ready()?;
        measure(ways, rounds)?;
        for way in ways {
            println!("idle {:14} {}", way.name, held.measure(way, idle)?);
        }
        Ok(())
    })??;
    Ok(())
}

/// Thousands of connections a second between two addresses meet those that ended before, and then wait a second for want of an
/// answer. So there is nothing left of them.
fn forget_quickly(nodes: [&Namespace; 2]) -> Result<()> {
    for node in nodes {
        node.run("sysctl", &["-qw", "net.ipv4.tcp_max_tw_buckets=0"])?;
        node.run("sysctl", &["-qw", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1"])?;
    }
    Ok(())
}

fn services(backend: &Arc<Namespace>) -> Result<[Program; 2]> {
    let standin = image::standin()?.to_string_lossy().into_owned();
    let http = Program::start_file(backend, &standin, &["elasticsearch"])?;
    Ok([http, Program::start_file(backend, &standin, &["tcp", &ECHO.to_string()])?])
}

fn measure(ways: &[Way], rounds: usize) -> Result<()> {
    let mut figures: Vec<Vec<Figure>> = ways.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..ways.len() {
            let which = (turn + round) % ways.len();
            let figure = load::measure(&ways[which])?;
            println!("round {round} {:14} {figure}", ways[which].name);
            figures[which].push(figure);
        }
    }
    println!("\nmedians; [x direct]");
    for (way, own) in ways.iter().zip(&figures) {
        println!("{:14} {}", way.name, Figure::median(own, &figures[0]));
    }
    let Some(relay) = ways.iter().position(|way| way.name == RELAY) else { return Ok(()) };
    println!("\nCPU of {RELAY} to that of");
    for (way, other) in ways.iter().zip(&figures).filter(|(way, _)| way.process.is_some() && way.name != RELAY) {
        println!("{:14} {}", way.name, Figure::beside(&figures[relay], other));
    }
    Ok(())
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}
