//! A server on a free port, and the tools that ask it.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use portolan_core::name::{Label, ServiceKey};
use portolan_core::view::View;
use portolan_dns::forward::Forwarder;
use portolan_dns::gate::GateSettings;
use portolan_dns::listen::Listeners;
use portolan_dns::metrics::Metrics;
use portolan_dns::server::{Clients, Follow, NodeRole, Role, Server};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::{Publisher, published};

use crate::desked::gate;
use crate::fixture;

/// A running server; it ends with this value.
pub(crate) struct Started {
    pub(crate) address: SocketAddr,
    pub(crate) view: Arc<Publisher<View>>,
    pub(crate) jobs: Jobs,
    pub(crate) metrics: prometheus_client::registry::Registry,
}

impl Drop for Started {
    fn drop(&mut self) {
        self.jobs.shut_down();
    }
}

pub(crate) async fn registry() -> Started {
    start(|_, _| Role::Registry).await
}

pub(crate) async fn node(forwarder: impl FnOnce(Jobs) -> Option<Arc<Forwarder>>) -> Started {
    start(|jobs, view| Role::Node(node_role(view, forwarder(jobs)))).await
}

/// A node at that address.
pub(crate) async fn at(address: &str) -> Started {
    start_at((address, None), |_, view| Role::Node(node_role(view, None))).await
}

/// A registry that only that network may ask.
pub(crate) async fn registry_for(network: &str) -> Started {
    start_at(("127.0.0.1:0", Some(network)), |_, _| Role::Registry).await
}

/// A node without a forwarder unless one is given; only `far` can be followed.
pub(crate) fn node_role(view: Arc<Publisher<View>>, forwarder: Option<Arc<Forwarder>>) -> NodeRole {
    let (clients, follow) = (Arc::new(KnowsLoopback), Arc::new(FollowsFar { view }));
    NodeRole { cluster: Label::fixed("prod"), az: None, clients, follow, forwarder }
}

async fn start(role: impl FnOnce(Jobs, Arc<Publisher<View>>) -> Role) -> Started {
    start_at(("127.0.0.1:0", None), role).await
}

async fn start_at(
    (address, allow): (&str, Option<&str>),
    role: impl FnOnce(Jobs, Arc<Publisher<View>>) -> Role,
) -> Started {
    let jobs = Jobs::new();
    let (publisher, view) = published(fixture::view());
    let publisher = Arc::new(publisher);
    let mut metrics = prometheus_client::registry::Registry::default();
    let listeners = Listeners::bind(address.parse().unwrap()).await.unwrap();
    let address = listeners.address();
    let server = Server {
        view,
        authority: fixture::authority(),
        role: role(jobs.clone(), publisher.clone()),
        gate: gate(GateSettings {
            allow: allow.map(|network| vec![network.parse().unwrap()]),
            answers_per_second: 200,
        }),
        metrics: Metrics::new(&mut metrics),
    };
    listeners.serve_here(&jobs, Arc::new(server));
    Started { address, view: publisher, jobs, metrics }
}

/// `127.0.0.7` and `192.0.2.7` are containers of cluster `test`.
struct KnowsLoopback;

impl Clients for KnowsLoopback {
    fn cluster_of(&self, address: IpAddr) -> Option<Label> {
        [[127, 0, 0, 7], [192, 0, 2, 7]].map(IpAddr::from).contains(&address).then(|| Label::fixed("test"))
    }
}

/// Brings the endpoints of `far` at once, and nothing else ever.
struct FollowsFar {
    view: Arc<Publisher<View>>,
}

impl Follow for FollowsFar {
    fn ask(&self, key: &ServiceKey) {
        if key.service.as_str() == "far" {
            let mut view = View::clone(&self.view.load());
            fixture::insert(&mut view, "far", None, Some(vec![fixture::endpoint(9, "10.0.9.9", 1000, 80)]));
            self.view.publish(Arc::new(view));
        }
    }
}

/// Runs `dig` or `kdig` against `server`. `None`, loudly, when the tool is missing and this is no CI.
pub(crate) async fn ask(tool: &'static str, server: SocketAddr, arguments: &str) -> Option<String> {
    let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
    let run = move || {
        let mut command = Command::new(tool);
        command.arg(format!("@{}", server.ip())).arg("-p").arg(server.port().to_string()).args(arguments);
        command.output()
    };
    match tokio::task::spawn_blocking(run).await.unwrap() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) if std::env::var_os("CI").is_some() => panic!("{tool} is needed in CI: {error}"),
        Err(error) => {
            eprintln!("SKIPPED: {tool} cannot be run ({error}); what it would have checked is unchecked");
            None
        }
    }
}
