//! Portolan: a registry and a sidecar with two services at the same place, one by the relay and one led by the kernel.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portolan_core::evidence::{ContainerReport, LinkPlane};
use portolan_tests::cgroup::KernelPath;
use portolan_tests::http;
use portolan_tests::namespace::Namespace;
use portolan_tests::programs::Program;
use portolan_tests::site::ADMIN;
use portolan_tests::synthetic::{SyntheticNode, container};
use portolan_tests::wait::{PATIENCE, eventually};

use crate::{PORTS, RELAY, Way};

const PLANES: [(&str, &str, LinkPlane); 2] =
    [(RELAY, "relayed", LinkPlane::Proxy), ("link ebpf", "led", LinkPlane::Ebpf)];

pub(crate) struct Portolan {
    sidecar: Program,
    _registry: Program,
    /// Whose connections the kernel may lead.
    pub(crate) kernel_path: KernelPath,
}

pub(crate) fn start(node: &Arc<Namespace>, folder: &Path) -> Result<Portolan> {
    let data = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let mut registry = Program::start(node, "portolan-registry", &["--data-dir", &data("registry")])?;
    registry.listening("grpc")?;
    let kernel_path = KernelPath::new()?;
    let led = kernel_path.args();
    let address = node.addr().to_string();
    let args = ["--data-dir", &data("sidecar"), "--address", &address, "--docker-socket", "/nonexistent/docker.sock"];
    let args: Vec<&str> = args.into_iter().chain(led.iter().map(String::as_str)).collect();
    let mut sidecar = Program::start(node, "portolan-sidecar", &args)?;
    sidecar.listening("relay")?;
    Ok(Portolan { sidecar, _registry: registry, kernel_path })
}

impl Portolan {
    /// Registers the services, and finds their links.
    pub(crate) fn ways(&self, node: &Arc<Namespace>, backend: &Namespace) -> Result<Vec<Way>> {
        let (address, registered) = (backend.addr(), node.clone());
        // The synthetic node's socket is made inside; it is served on this thread's runtime for as long as the bench runs.
        let _registration = std::thread::spawn(move || registered.inside(|| register(address)));
        let way = |(name, service, _): (&'static str, &str, LinkPlane)| -> Result<Way> {
            let address = eventually(PATIENCE, || resolve(node, service))?;
            Ok(Way { name, address, offset: 0, process: Some(self.sidecar.worker_pid()?) })
        };
        PLANES.into_iter().map(way).collect()
    }

    /// Each link is carried as it should be.
    pub(crate) fn is_ready(&self) -> Result<()> {
        eventually(PATIENCE, || {
            let links = http::fetch(ADMIN, "/api/links")?.json()?;
            for link in links.as_array().into_iter().flatten() {
                let is_led = link["led_endpoints"] == 1;
                ensure!(is_led == (link["service"] == "led"), "{links}");
            }
            Ok(())
        })
    }
}

/// Registers both services, and keeps them registered.
fn register(address: IpAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut node = SyntheticNode::connect("http://127.0.0.1:8502", "backend", address).await?;
        let containers = PLANES.iter().zip(1..).map(|((_, service, plane), id)| linked(service, id, address, *plane));
        node.register(containers.collect::<Result<_>>()?).await?;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            node.heartbeat().await?;
        }
    })
}

fn linked(service: &str, id: u64, address: IpAddr, plane: LinkPlane) -> Result<ContainerReport> {
    let mut container = container(service, id, address, PORTS[0])?;
    for port in &PORTS[1..] {
        let mut other = container.ports[0].clone();
        (other.container_port, other.host_port) = (*port, *port);
        container.ports.push(other);
    }
    container.link.plane = Some(plane);
    Ok(container)
}

fn resolve(node: &Namespace, service: &str) -> Result<IpAddr> {
    let answer = node.fetch(ADMIN, &format!("/api/resolve/{service}"))?.json()?;
    let address = answer["virtual_address"].as_str().with_context(|| format!("no virtual address in {answer}"))?;
    Ok(address.parse()?)
}
