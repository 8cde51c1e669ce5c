//! A registry and a sidecar on one node, servers on three others, and a synthetic node that registers them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use portolan_core::evidence::ContainerReport;
use portolan_tests::http::Answer;
use portolan_tests::janitor::{self, Kind};
use portolan_tests::namespace::{Namespace, Network};
use portolan_tests::programs::Program;
use portolan_tests::site::{ADMIN, REGISTRY_GRPC};
use portolan_tests::synthetic::{SyntheticNode, container};
use portolan_tests::wait::{PATIENCE, eventually};
use serde_json::Value;
use tokio::sync::mpsc;

use super::server::{Manner, serve};

/// A service, the places of its endpoints, and their metadata.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) name: &'static str,
    pub(crate) places: Vec<SocketAddr>,
    pub(crate) meta: Vec<(String, String)>,
}

/// Everything, for as long as a test needs it.
pub(crate) struct Scene {
    pub(crate) node: Arc<Namespace>,
    pub(crate) backends: [Arc<Namespace>; 3],
    register: mpsc::Sender<Vec<Declared>>,
    sidecar: Program,
    _registry: Program,
    _network: Network,
}

impl Scene {
    /// Starts everything; `manners` are what the three servers of each service do.
    pub(crate) fn start(manners: &[(&'static str, [Manner; 3])], sidecar_args: &[&str]) -> anyhow::Result<Scene> {
        let network = Network::new()?;
        let node = network.node("a")?;
        let backends = [network.node("b")?, network.node("c")?, network.node("d")?];
        let mut services: Vec<Declared> = Vec::new();
        for (number, (name, manners)) in manners.iter().enumerate() {
            let port = 9001 + number as u16;
            let places = backends.iter().zip(manners).map(|(backend, manner)| serve(backend, port, *manner));
            services.push(Declared { name, places: places.collect::<anyhow::Result<_>>()?, meta: Vec::new() });
        }
        let data = |name: &str| -> anyhow::Result<PathBuf> { janitor::folder(&janitor::unique(name), Kind::Folder) };
        let registry_data = format!("--data-dir={}", data("registry")?.display());
        let mut registry = Program::start(&node, "portolan-registry", &[&registry_data])?;
        registry.listening("grpc")?;
        let sidecar_data = format!("--data-dir={}", data("data")?.display());
        let own = [&sidecar_data, "--cluster=local", "--docker-socket=/nonexistent/docker.sock"];
        let address = format!("--address={}", node.address);
        let mut sidecar = Program::start(&node, "portolan-sidecar", &[&own[..], &[&address], sidecar_args].concat())?;
        sidecar.listening("relay")?;
        let (register, wanted) = mpsc::channel(4);
        let (inside, at) = (node.clone(), backends[0].addr());
        std::thread::spawn(move || inside.inside(|| keep_registered(at, wanted)));
        let scene = Scene { node, backends, register, sidecar, _registry: registry, _network: network };
        scene.register(services)?;
        Ok(scene)
    }

    /// The program.
    pub(crate) fn sidecar(&mut self) -> &mut Program {
        &mut self.sidecar
    }

    /// Registers these and nothing else.
    pub(crate) fn register(&self, services: Vec<Declared>) -> anyhow::Result<()> {
        self.register.blocking_send(services).context("the synthetic node ended")
    }

    /// Where the link of a service is, once it leads to as many endpoints.
    pub(crate) fn link(&self, service: &str, endpoints: usize) -> anyhow::Result<SocketAddr> {
        eventually(PATIENCE, || -> anyhow::Result<SocketAddr> {
            // To ask for a name is to follow it.
            self.fetch(&format!("/api/resolve/{service}"))?;
            let link = self.shown(service)?;
            anyhow::ensure!(link["endpoints"] == endpoints, "{link:#}");
            let address: IpAddr = link["address"].as_str().context("no address")?.parse()?;
            Ok(SocketAddr::new(address, 9200))
        })
    }

    /// What the sidecar shows of a link.
    pub(crate) fn shown(&self, service: &str) -> anyhow::Result<Value> {
        let links = self.fetch("/api/links")?.json()?;
        let mut links = links.as_array().into_iter().flatten();
        links.find(|link| link["service"] == service).cloned().with_context(|| format!("no link of {service}"))
    }

    /// One figure of one endpoint.
    pub(crate) fn met(&self, service: &str, place: &Namespace, figure: &str) -> anyhow::Result<u64> {
        let link = self.shown(service)?;
        let is_there = |endpoint: &&Value| {
            endpoint["address"].as_str().is_some_and(|text| text.starts_with(&format!("{}:", place.address)))
        };
        let met = link["met"].as_array().into_iter().flatten().find(is_there);
        met.and_then(|met| met[figure].as_u64()).with_context(|| format!("no {figure} in {link:#}"))
    }

    /// The sidecar's admin listener.
    pub(crate) fn fetch(&self, path: &str) -> anyhow::Result<Answer> {
        self.node.fetch(ADMIN, path)
    }
}

fn keep_registered(at: IpAddr, mut wanted: mpsc::Receiver<Vec<Declared>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut node = SyntheticNode::connect(&format!("http://{REGISTRY_GRPC}"), "backends", at).await?;
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                services = wanted.recv() => {
                    let Some(services) = services else { return Ok(()) };
                    let places = services.iter().flat_map(|service| service.places.iter().map(move |place| (service, place)));
                    let containers = places.map(|(service, place)| reported(service, *place));
                    node.register(containers.collect::<anyhow::Result<_>>()?).await?;
                }
                _ = beat.tick() => node.heartbeat().await?,
            }
        }
    })
}

fn reported(service: &Declared, place: SocketAddr) -> anyhow::Result<ContainerReport> {
    // A place keeps its id over registrations.
    let id = match place.ip() {
        IpAddr::V4(ip) => u64::from(u32::from(ip)) << 16 | u64::from(place.port()),
        IpAddr::V6(_) => 0,
    };
    let mut report = container(service.name, id, place.ip(), place.port())?;
    report.meta.clone_from(&service.meta);
    Ok(report)
}
