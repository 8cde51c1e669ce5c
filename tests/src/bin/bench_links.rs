//! A link beside a direct connection, in one run: latency of a request, of a round trip, and bytes.
//!
//! A registry and a sidecar run in a namespace; the service is a stand-in in another one. The client in the first connects to
//! the service's virtual address and, in turn, straight to the stand-in. CPU is the sidecar's own, from /proc.
//! Usage: bench_links [ROUNDS [proxy|ebpf]]; PORTOLAN_BIN names the folder of the programs.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use portolan_tests::cgroup::Cgroup;
use portolan_tests::janitor::{self, Kind};
use portolan_tests::namespace::{Namespace, Network};
use portolan_tests::programs::Program;
use portolan_tests::site::ADMIN;
use portolan_tests::synthetic::{SyntheticNode, container};
use portolan_tests::wait::{PATIENCE, eventually, now};
use portolan_tests::{http, image, process};

const REQUESTS: usize = 2_000;
const ROUND_TRIPS: usize = 10_000;
const BYTES: u64 = 256 << 20;
const HTTP: u16 = 9200;
const ECHO: u16 = 9300;

fn main() -> Result<()> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(3), |text| text.parse()).context("ROUNDS is a number")?;
    let plane = std::env::args().nth(2).unwrap_or_else(|| "proxy".to_owned());
    let network = Network::new()?;
    let (node, backend) = (network.node("a")?, network.node("b")?);
    let folder = tempfile::tempdir()?;
    let pins = janitor::folder(&janitor::unique("bpf"), Kind::Folder)?.join("mount/portolan");
    std::fs::create_dir(pins.parent().context("pins have a folder")?)?;
    let led = Led { cgroup: Cgroup::new()?, pins, plane };
    let (_registry, mut sidecar) = start(&node, folder.path(), &led)?;
    let standin = image::standin()?.to_string_lossy().into_owned();
    let _http = Program::start_file(&backend, &standin, &["elasticsearch"])?;
    let _echo = Program::start_file(&backend, &standin, &["tcp", &ECHO.to_string()])?;
    sidecar.listening("relay")?;
    // The synthetic node's socket is made inside; it is served on this thread's runtime for as long as the bench runs.
    let address = backend.addr();
    let registered = node.clone();
    let _registration = std::thread::spawn(move || registered.inside(|| register(address)));
    let virtual_address = eventually(PATIENCE, || resolve(&node))?;
    let direct = SocketAddr::new(address, HTTP);
    let linked = SocketAddr::new(virtual_address, HTTP);
    node.inside(|| -> Result<()> {
        led.cgroup.take_this_thread()?;
        eventually(PATIENCE, || request(linked, "/health").map(drop))?;
        eventually(PATIENCE, || led.is_ready())?;
        for round in 0..rounds {
            for (name, to) in [("direct", direct), ("link", linked)] {
                measure(round, name, to, sidecar.worker_pid()?)?;
            }
        }
        println!("sidecar: {} kB resident", process::resident_kb(sidecar.worker_pid()?)?);
        Ok(())
    })??;
    Ok(())
}

/// Whose connections the kernel leads, and whether it should.
struct Led {
    cgroup: Cgroup,
    pins: PathBuf,
    plane: String,
}

impl Led {
    fn args(&self) -> [String; 3] {
        let cgroup = format!("--link-cgroup={}", self.cgroup.path().display());
        [cgroup, format!("--link-pins={}", self.pins.display()), format!("--link-plane={}", self.plane)]
    }

    /// Both ports of the link are carried as they should be.
    fn is_ready(&self) -> Result<()> {
        let links = http::fetch(ADMIN, "/api/links")?.json()?;
        let is_led = links[0]["led_endpoints"] == 1;
        anyhow::ensure!(is_led == (self.plane == "ebpf"), "{links}");
        Ok(())
    }
}

fn start(node: &Arc<Namespace>, folder: &std::path::Path, led: &Led) -> Result<(Program, Program)> {
    let data = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let mut registry = Program::start(node, "portolan-registry", &["--data-dir", &data("registry")])?;
    registry.listening("grpc")?;
    let address = node.addr().to_string();
    let args = ["--data-dir", &data("sidecar"), "--address", &address, "--docker-socket", "/nonexistent/docker.sock"];
    let led = led.args();
    let args: Vec<&str> = args.into_iter().chain(led.iter().map(String::as_str)).collect();
    let sidecar = Program::start(node, "portolan-sidecar", &args)?;
    Ok((registry, sidecar))
}

/// Registers the stand-in as service `bench`, and keeps it registered.
fn register(address: IpAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut node = SyntheticNode::connect("http://127.0.0.1:8502", "backend", address).await?;
        let mut linked = container("bench", 1, address, HTTP)?;
        let mut echo = linked.ports[0].clone();
        (echo.container_port, echo.host_port) = (ECHO, ECHO);
        linked.ports.push(echo);
        node.register(vec![linked]).await?;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            node.heartbeat().await?;
        }
    })
}

fn resolve(node: &Namespace) -> Result<IpAddr> {
    let answer = node.fetch("127.0.0.1:8510".parse()?, "/api/resolve/bench")?.json()?;
    let address = answer["virtual_address"].as_str().with_context(|| format!("no virtual address in {answer}"))?;
    Ok(address.parse()?)
}

fn measure(round: usize, name: &str, to: SocketAddr, sidecar: u32) -> Result<()> {
    let cpu = process::cpu(sidecar)?;
    let mut requests = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let began = now();
        request(to, "/health")?;
        requests.push(began.elapsed());
    }
    let per_connection = (process::cpu(sidecar)? - cpu).total().as_secs_f64() * 1e6 / REQUESTS as f64;
    let trips = round_trips(SocketAddr::new(to.ip(), ECHO))?;
    let (cpu, began) = (process::cpu(sidecar)?, now());
    let received = request(to, &format!("/bytes/{BYTES}"))?;
    let took = began.elapsed().as_secs_f64();
    let per_gb = (process::cpu(sidecar)? - cpu).total().as_secs_f64() * 1e9 / received as f64;
    let [request_p50, request_p99] = percentiles(requests);
    let [trip_p50, trip_p99] = percentiles(trips);
    println!(
        "round {round} {name:6} request p50 {request_p50:4} p99 {request_p99:5} us, {per_connection:5.1} us CPU of the sidecar; \
         round trip p50 {trip_p50:4} p99 {trip_p99:5} us; {:.2} GB/s, {per_gb:.3} s CPU/GB",
        received as f64 / took / 1e9
    );
    Ok(())
}

/// One HTTP request on a connection of its own; gives how many bytes of body came.
fn request(to: SocketAddr, path: &str) -> Result<u64> {
    let mut stream = BufReader::with_capacity(256 << 10, TcpStream::connect_timeout(&to, Duration::from_secs(5))?);
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut length = None;
    loop {
        let mut line = String::new();
        anyhow::ensure!(stream.read_line(&mut line)? > 0, "the stand-in closed before it answered {path}");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = Some(value.trim().parse::<u64>()?);
        }
        if line == "\r\n" {
            break;
        }
    }
    let length = length.with_context(|| format!("no Content-Length for {path}"))?;
    let received = io::copy(&mut stream.take(length), &mut io::sink())?;
    anyhow::ensure!(received == length, "{received} of {length} bytes came");
    Ok(received)
}

/// Lines that go and come back on one connection.
fn round_trips(to: SocketAddr) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    let mut took = Vec::with_capacity(ROUND_TRIPS);
    let mut buffer = [0; 4096];
    for _ in 0..ROUND_TRIPS {
        let began = now();
        stream.write_all(b"ping\n")?;
        let mut line = Vec::new();
        while !line.contains(&b'\n') {
            let length = stream.read(&mut buffer)?;
            anyhow::ensure!(length > 0, "the echo ended");
            line.extend_from_slice(&buffer[..length]);
        }
        took.push(began.elapsed());
    }
    Ok(took)
}

/// The median and the 99th percentile, in microseconds.
fn percentiles(mut took: Vec<Duration>) -> [u128; 2] {
    took.sort();
    [took[took.len() / 2], took[took.len() * 99 / 100]].map(|d| d.as_micros())
}
