//! Links that run in a test's host, and the views that drive them.

#![allow(dead_code, reason = "each file of tests uses its part")]

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;

use portolan_core::endpoint::{Endpoint, EndpointKey, Protocol, Run, State};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::view::{EndpointSet, Link, LinkMode, LinkPort, Readiness, Service, View};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::{Publisher, published};
use portolan_sidecar::follow::follows;
use portolan_sidecar::links::{Callers, KernelSettings, LinkLimits, LinkSettings, Links, Runs, start};
use portolan_sidecar::sockets::Sockets;
use prometheus_client::registry::Registry;

use super::host::{Host, Place, enter};

/// The sidecar's address.
pub(crate) const RELAY: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 53);
/// The service that most tests ask.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 7);
/// An address of the range that is nobody's.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 8);

/// Links in the host's namespace. Dropping it ends them without tidying up, as a kill does.
pub(crate) struct Rig {
    view: Publisher<View>,
    pub(crate) links: Links,
    pub(crate) followed: tokio::sync::mpsc::Receiver<ServiceKey>,
    pub(crate) metrics: Arc<Registry>,
    jobs: Jobs,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// No container is known.
#[derive(Debug)]
struct Nobody;

impl Callers for Nobody {
    fn service_at(&self, _: IpAddr) -> Option<ServiceKey> {
        None
    }
}

impl Rig {
    pub(crate) fn start(host: &Host, services: Vec<Service>) -> Rig {
        Rig::start_with(host, services, LinkLimits::default())
    }

    pub(crate) fn start_with(host: &Host, services: Vec<Service>, limits: LinkLimits) -> Rig {
        let namespace = host.of(Place::Host);
        Rig::start_where((view(services), KernelSettings::default()), limits, move || enter(&namespace))
    }

    pub(crate) fn start_with_view(host: &Host, view: View) -> Rig {
        Rig::start_led(host, view, KernelSettings::default())
    }

    /// With the kernel path as told.
    pub(crate) fn start_led(host: &Host, view: View, kernel: KernelSettings) -> Rig {
        let namespace = host.of(Place::Host);
        Rig::start_where((view, kernel), LinkLimits::default(), move || enter(&namespace))
    }

    /// In the namespace of this process.
    pub(crate) fn start_here(services: Vec<Service>) -> Rig {
        Rig::start_where((view(services), KernelSettings::default()), LinkLimits::default(), || {})
    }

    fn start_where(
        (view, kernel): (View, KernelSettings),
        limits: LinkLimits,
        prepare: impl FnOnce() + Send + 'static,
    ) -> Rig {
        let (publisher, view) = published(view);
        let (follows, followed) = follows();
        let (ready, started) = mpsc::channel();
        let jobs = Jobs::new();
        let owner = jobs.clone();
        let thread = std::thread::spawn(move || {
            prepare();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut registry = Registry::default();
                let settings = LinkSettings {
                    range: "198.18.0.0/16".parse().unwrap(),
                    relay: SocketAddrV4::new(RELAY, 0),
                    limits,
                    kernel,
                    node: None,
                    az: None,
                };
                let links = start(
                    Runs { jobs: &owner, connections: &owner, sockets: &Sockets::default() },
                    settings,
                    (view, follows, Arc::new(Nobody)),
                    &mut registry,
                )
                .unwrap();
                ready.send((links, registry)).unwrap();
                owner.finished().await.unwrap();
            });
        });
        let (links, registry) = started.recv().expect("links must start");
        Rig { view: publisher, links, followed, metrics: Arc::new(registry), jobs, thread: Some(thread) }
    }

    pub(crate) fn publish(&self, services: Vec<Service>) {
        self.publish_view(view(services));
    }

    pub(crate) fn publish_view(&self, view: View) {
        self.view.publish(Arc::new(view));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.jobs.shut_down();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

pub(crate) fn view(services: Vec<Service>) -> View {
    let mut view = View { readiness: Readiness::Current, ..View::default() };
    services.into_iter().for_each(|service| view.insert_service(Arc::new(service)));
    view
}

pub(crate) fn vip(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(VIP, port)
}

/// Service `web` at [`VIP`]: its port 80 leads to container port 8080 of these.
pub(crate) fn web(endpoints: &[(SocketAddrV4, State)]) -> Service {
    let endpoints = endpoints.iter().enumerate().map(|(index, (address, state))| endpoint(index, *address, *state));
    service(("web", VIP), EndpointSet::Known(endpoints.collect()))
}

pub(crate) fn service((name, address): (&'static str, Ipv4Addr), endpoints: EndpointSet) -> Service {
    let ports = vec![LinkPort { port: 80, container_port: 8080, protocol: Protocol::Tcp }];
    Service {
        key: ServiceKey { cluster: Label::fixed("test"), service: Label::fixed(name) },
        index: 1,
        link: Some(Link { address, mode: LinkMode::Vip, ports, plane: None }),
        endpoints,
    }
}

pub(crate) fn endpoint(index: usize, address: SocketAddrV4, state: State) -> Endpoint {
    Endpoint {
        key: EndpointKey {
            node: NodeKey { cluster: Label::fixed("test"), node: Label::fixed("n1") },
            container_id: format!("{index:064x}"),
            run: Run(1),
            container_port: 8080,
            protocol: Protocol::Tcp,
        },
        state,
        addresses: vec![IpAddr::V4(*address.ip())],
        port: address.port(),
        port_name: None,
        container: Label::fixed("web"),
        task_id: None,
        az: None,
        weight: 1,
        is_service_port: true,
        tags: Vec::new(),
        meta: Vec::new(),
    }
}

/// Links in a process of their own, in the host's namespace.
pub(crate) fn process(host: &Host, backend: SocketAddrV4) -> Child {
    Command::new("ip")
        .args(["netns", "exec", &host.of(Place::Host)])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "links_as_a_process_of_their_own"])
        .env("LINK_TO", backend.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}
