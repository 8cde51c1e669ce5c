//! The sidecar put together: the one place where its two roads meet.
//!
//! Everything is bound before anything is served. What this node may not do (no right to change the network, no port 53)
//! is told and left out; what it can do without goes on.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use portolan_core::lookup::{Zone, address_label};
use portolan_core::name::{Label, ServiceKey};
use portolan_core::naming;
use portolan_core::view::{EndpointSet, Readiness, View};
use portolan_dns::authority::{Authority, Ttl};
use portolan_dns::forward::{ForwardMetrics, Forwarder};
use portolan_dns::gate::{Beginning, Gate};
use portolan_dns::metrics as dns_metrics;
use portolan_dns::server::{Clients, NodeRole, Role, Server};
use portolan_dns::upstreams::{self, Upstreams};
use portolan_runtime::http::{self, require_loopback};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::logging;
use portolan_runtime::metrics;
use portolan_runtime::published::{Publisher, Reader, published};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Uri;
use tracing::{error, info};

use crate::admin::{self, Admin};
use crate::docker::{self, DockerSettings};
use crate::follow::{Follows, follows};
use crate::guard::{self, Guard, GuardSettings};
use crate::identity::{Identity, Told};
use crate::links::{self, KernelSettings, LinkError, LinkLimits, LinkSettings, Links, Runs};
use crate::overlay::{Local, overlay};
use crate::owners::{self, Ledger};
use crate::register::Registrar;
use crate::registration::LocalState;
use crate::settings::Settings;
use crate::sockets::{Purpose, Sockets};
use crate::subscription::{Provenance, Subscriber, Subscription};
use crate::{connection, inspect, netlink, node_dns, prober, snapshot};

/// How long `inspect` waits for Docker.
const INSPECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a start from a snapshot waits for Docker's first list. A list takes some ten milliseconds; a Docker that is
/// stalled must not keep a node from its names.
const FIRST_LIST_PATIENCE: Duration = Duration::from_millis(500);
/// How long a start without a snapshot waits for the registry's first word, where another sidecar served until now. A client's
/// first question waits five seconds.
const FIRST_VIEW_PATIENCE: Duration = Duration::from_secs(2);
/// Where a registry's gRPC is when no setting says.
const REGISTRY: &str = "http://127.0.0.1:8502";

/// What a sidecar runs in.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// Everything but the connections of links.
    pub jobs: &'a Jobs,
    /// Those: they may go on while the next sidecar serves.
    pub connections: &'a Jobs,
    /// What is listened on, and what the sidecar before left.
    pub sockets: &'a Arc<Sockets>,
}

/// Starts the sidecar; it runs until `jobs` are shut down.
///
/// # Errors
/// What cannot be meant in the settings, or bound.
pub async fn start(
    Process { jobs, connections, sockets }: Process<'_>,
    settings: Settings,
    metrics: Arc<metrics::Metrics>,
) -> anyhow::Result<()> {
    let identity = identity(&settings)?;
    let authority = authority(&settings)?;
    let upstreams = Upstreams::new(settings.upstreams.as_deref(), &authority.zone).context("setting `upstreams`")?;
    let registries = registries(&settings)?;
    require_loopback("sidecar.admin", settings.sidecar.admin)?;
    let listener = admin_listener(settings.sidecar.admin, sockets).await.context("setting `sidecar.admin`")?;
    info!(node = %identity.node, "this node is {}, at {:?}", identity.node, identity.addresses);
    std::fs::create_dir_all(&settings.data_dir)
        .with_context(|| format!("make the data folder `{}` (setting `data_dir`)", settings.data_dir.display()))?;
    let local = start_docker(jobs, (&settings, &identity), &metrics);
    let (told_to, told) = published(View::default());
    let (follows, asked) = follows();
    let subscription = snapshot::load(&settings.data_dir).map(Subscription::from_snapshot).unwrap_or_default();
    let (used_to, used) = watch::channel(0);
    let (subscriber, provenance) = Subscriber::new(subscription, told_to, (asked, used));
    let prober = prober::start(jobs, prober::Limits { range: settings.link.range, own: identity.addresses.clone() });
    let guard = start_guard(jobs, (&settings, &identity), (local.clone(), &told.load()), &metrics);
    let asked_on = (&identity.addresses[..], settings.sidecar.owners_port);
    let owners_listening = owners::start_answering(jobs, asked_on, local.clone());
    let (registrar, progress) = Registrar::new(identity.clone(), guard.up, told.clone(), prober);
    jobs.start("connection", connection::run(registries.clone(), identity.clone(), registrar, subscriber));
    hear_first(told.clone(), local.clone(), sockets).await;
    let (answers_to, answers) = published(laid_over(&told.load(), &local.load(), (&identity, &provenance.borrow())));

    let clients = Arc::new(LocalClients(local.clone()));
    let callers: Arc<dyn links::Callers> = clients.clone();
    let with = (link_settings(&settings, &identity), (answers.clone(), follows.clone(), callers));
    let links = metrics.register(|metrics| links::start(Runs { jobs, connections, sockets }, with.0, with.1, metrics));
    let links = started(jobs, &settings, links);
    jobs.start("view in use", tell_used((answers.clone(), links.as_ref().map(Links::used)), used_to));
    let role = NodeRole {
        cluster: identity.node.cluster.clone(),
        az: identity.az.clone(),
        clients,
        follow: Arc::new(follows.clone()),
        forwarder: Some(forwarder(jobs, &settings, &upstreams, metrics.register(ForwardMetrics::new))),
    };
    let dns_metrics = metrics.register(dns_metrics::Metrics::new);
    let (view, authority_too) = (answers.clone(), authority.clone());
    let gate = Gate::new(settings.dns.clone(), rand::random(), Beginning::now());
    let server = Server { view, authority: authority_too, role: Role::Node(role), gate, metrics: dns_metrics };
    let dns = node_dns::start(jobs, settings.sidecar.dns.into(), Arc::new(server), sockets).await;
    let admin = Admin {
        authority,
        registry_http: registry_http(&registries),
        identity: identity.clone(),
        view: answers,
        provenance: provenance.clone(),
        local: local.clone(),
        progress,
        links,
        dns,
        guard: guard.status,
        owners_listening,
        follows: follows.clone(),
    };
    admin::serve(jobs, listener, admin, metrics);

    let good = start_leases(jobs, (&settings, &identity), (told.clone(), provenance.clone()));
    let roads = Roads { told: good, provenance: provenance.clone(), local, identity: identity.clone(), follows };
    jobs.start("overlay", lay_over(roads, answers_to));
    jobs.start("snapshot", snapshot::keep(settings.data_dir.clone(), told, provenance));
    sockets.close_rest();
    Ok(())
}

fn start_docker(
    jobs: &Jobs,
    (settings, identity): (&Settings, &Identity),
    metrics: &metrics::Metrics,
) -> Reader<LocalState> {
    let (node, addresses) = (identity.node.clone(), identity.addresses.clone());
    let docker = DockerSettings { socket: settings.docker.socket.clone(), node, addresses };
    let local = metrics.register(|metrics| docker::start(jobs, docker, metrics));
    jobs.start("refusals", docker::refusals::tell(local.clone()));
    local
}

fn start_guard(
    jobs: &Jobs,
    (settings, identity): (&Settings, &Identity),
    known: (Reader<LocalState>, &View),
    metrics: &metrics::Metrics,
) -> Guard {
    let (node, addresses) = (identity.node.clone(), identity.addresses.clone());
    let guard = GuardSettings { guard: settings.guard, node, addresses };
    metrics.register(|metrics| guard::start(jobs, guard, known, metrics))
}

/// What was told, as far as it is still good.
fn start_leases(
    jobs: &Jobs,
    (settings, identity): (&Settings, &Identity),
    told: (Reader<View>, watch::Receiver<Provenance>),
) -> Reader<View> {
    let ledger = Ledger::new(identity.node.clone(), rand::random());
    let (good_to, good) = published(View::clone(&told.0.load()));
    jobs.start("leases", owners::keep(told, (ledger, settings.sidecar.owners_port), good_to));
    good
}

/// Tells which view is in use: the one that links lead by, and without links the one that names are answered from.
async fn tell_used((mut answers, links): (Reader<View>, Option<watch::Receiver<u64>>), used: watch::Sender<u64>) {
    let tell = |index: u64| used.send_if_modified(|used| std::mem::replace(used, index) != index);
    match links {
        Some(mut links) => loop {
            tell(*links.borrow_and_update());
            if links.changed().await.is_err() {
                return;
            }
        },
        None => loop {
            tell(answers.load().index);
            if !answers.changed().await {
                return;
            }
        },
    }
}

/// Waits a moment for what should be known before anything is answered.
async fn hear_first(mut told: Reader<View>, mut local: Reader<LocalState>, sockets: &Sockets) {
    if told.peek().readiness != Readiness::Loading {
        // What the snapshot says of this node may have died meanwhile: nothing is answered before Docker was asked.
        tokio::time::timeout(FIRST_LIST_PATIENCE, local.wait_for(|state| state.is_complete)).await.ok();
    } else if sockets.has_left() {
        // Whoever waits in the queues of the sidecar before is not to be told that nothing is known.
        let is_known = |view: &View| view.readiness != Readiness::Loading;
        tokio::time::timeout(FIRST_VIEW_PATIENCE, told.wait_for(is_known)).await.ok();
    }
}

/// The socket that the sidecar before left, else a new one.
async fn admin_listener(address: SocketAddr, sockets: &Sockets) -> anyhow::Result<http::Listener> {
    let listener = match sockets.take_listener(Purpose::Admin, address) {
        Some(left) => http::Listener::of("admin", TcpListener::from_std(left)?)?,
        None => http::Listener::bind("admin", address).await?,
    };
    sockets.hold(&[(Purpose::Admin, listener.socket())])?;
    Ok(listener)
}

/// Prints what this node would register, as soon as every container was seen once.
///
/// # Errors
/// When the settings cannot be meant, or Docker does not answer for ten seconds.
#[expect(clippy::print_stdout, reason = "printing is what it is for")]
pub async fn inspect(jobs: &Jobs, settings: &Settings, format: inspect::Format) -> anyhow::Result<()> {
    let identity = identity(settings)?;
    let docker =
        DockerSettings { socket: settings.docker.socket.clone(), node: identity.node, addresses: identity.addresses };
    let mut local = docker::start(jobs, docker, &mut prometheus_client::registry::Registry::default());
    let seen = tokio::time::timeout(INSPECT_PATIENCE, local.wait_for(|state| state.is_complete)).await;
    print!("{}", inspect::render(&local.load(), format));
    jobs.shut_down();
    seen.ok().context("Docker did not show its containers within ten seconds")?;
    Ok(())
}

/// Who this node is by its settings, and else by the machine.
///
/// # Errors
/// When a setting cannot be meant, or no address is found.
pub fn identity(settings: &Settings) -> anyhow::Result<Identity> {
    let told = Told {
        cluster: settings.cluster.clone(),
        node: settings.node.clone(),
        addresses: settings.address.clone(),
        az: settings.az.clone(),
    };
    Ok(Identity::find(told)?)
}

fn registries(settings: &Settings) -> anyhow::Result<Vec<Uri>> {
    let told = if settings.registry.is_empty() { vec![REGISTRY.to_owned()] } else { settings.registry.clone() };
    let read = |text: &String| {
        text.parse().with_context(|| format!("setting `registry`: `{text}` is not http://ADDRESS:PORT"))
    };
    told.iter().map(read).collect()
}

/// Both roads' values, where they meet.
struct Roads {
    told: Reader<View>,
    provenance: watch::Receiver<Provenance>,
    local: Reader<LocalState>,
    identity: Identity,
    follows: Follows,
}

/// Keeps what this node answers: what the registry told, under what this node sees of itself.
async fn lay_over(mut roads: Roads, answers: Publisher<View>) {
    loop {
        let (view, state) = (roads.told.load(), roads.local.load());
        follow_own(&view, &state, &roads.follows);
        let provenance = roads.provenance.borrow().clone();
        answers.publish(Arc::new(laid_over(&view, &state, (&roads.identity, &provenance))));
        let is_open = tokio::select! {
            is_open = roads.told.changed() => is_open,
            is_open = roads.local.changed() => is_open,
        };
        if !is_open {
            return;
        }
    }
}

fn laid_over(view: &View, state: &LocalState, (identity, provenance): (&Identity, &Provenance)) -> View {
    if !state.is_complete {
        return view.clone();
    }
    let (az, current_at_ms) = (identity.az.as_deref(), provenance.current_at_ms);
    overlay(view, Local { node: &identity.node, az, reports: &state.reports, current_at_ms })
}

/// Follows the services of this node's own containers, so that their sets are known here when no registry is in reach.
fn follow_own(view: &View, state: &LocalState, follows: &Follows) {
    for container in &state.reports {
        for key in container.ports.iter().filter_map(|port| naming::service_of(container, port, None)) {
            if view.service(&key).is_some_and(|service| service.endpoints == EndpointSet::Unfollowed) {
                follows.ask(&key);
            }
        }
    }
}

fn link_settings(settings: &Settings, identity: &Identity) -> LinkSettings {
    let limits = LinkLimits {
        connections_max: settings.link.connections_max,
        connections_per_service_max: settings.link.connections_per_service_max,
        udp_timeout: settings.link.udp_timeout,
        ..LinkLimits::default()
    };
    LinkSettings {
        range: settings.link.range,
        relay: SocketAddrV4::new(*settings.sidecar.dns.ip(), settings.sidecar.relay_port),
        limits,
        kernel: KernelSettings {
            plane: settings.link.plane,
            cgroup: settings.link.cgroup.clone(),
            pins: settings.link.pins.clone(),
            ..KernelSettings::default()
        },
        node: Some(identity.node.clone()),
        az: identity.az.clone(),
    }
}

/// Links where this node may have them; where not, that is told, and the rest goes on: names are answered all the same, so
/// their address has to stay without whoever keeps it beside the rules.
fn started(jobs: &Jobs, settings: &Settings, links: Result<Links, LinkError>) -> Option<Links> {
    match links {
        Ok(links) => {
            logging::announce("relay", links.relay_address().into());
            Some(links)
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            error!("no links on this node: {error:#}; virtual addresses are answered and nothing serves them");
            let routes = netlink::Routes { dns: *settings.sidecar.dns.ip(), range: None };
            jobs.start("routes", netlink::keep_routes(routes));
            None
        }
    }
}

/// Asks the resolvers of the settings, and where they name none, those of the host, whatever they are at the time.
fn forwarder(jobs: &Jobs, settings: &Settings, upstreams: &Upstreams, metrics: ForwardMetrics) -> Arc<Forwarder> {
    let own = [IpAddr::V4(*settings.sidecar.dns.ip())];
    let path = Path::new(upstreams::RESOLV_CONF);
    let (routes, hosts) = upstreams.now(path, &own);
    let forwarder = Forwarder::new(jobs.clone(), &routes, &own, metrics);
    if let Some(known) = hosts {
        let told = forwarder.clone();
        let follow = async move { upstreams::follow(path, &own, known, |now| told.set_default(now)).await };
        jobs.start("upstreams", follow);
    }
    forwarder
}

fn authority(settings: &Settings) -> anyhow::Result<Authority> {
    let zone = Zone::parse(&settings.zone).context("setting `zone`")?;
    let name_server = format!("{}.addr.{zone}", address_label((*settings.sidecar.dns.ip()).into()));
    Ok(Authority::new(zone, Ttl::default(), &name_server)?)
}

/// Of a registry that has not said where its HTTP is: one on this machine first.
fn registry_http(registries: &[Uri]) -> Option<String> {
    let is_here = |registry: &&Uri| matches!(registry.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let registry = registries.iter().find(is_here).or(registries.first())?;
    connection::http_of(registry, None)
}

/// Whose container an address belongs to.
#[derive(Debug)]
struct LocalClients(Reader<LocalState>);

impl Clients for LocalClients {
    fn cluster_of(&self, address: IpAddr) -> Option<Label> {
        self.0.peek().clients.get(&address).cloned()
    }
}

impl links::Callers for LocalClients {
    fn service_at(&self, address: IpAddr) -> Option<ServiceKey> {
        self.0.peek().callers.get(&address).cloned()
    }
}
