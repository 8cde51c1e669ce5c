//! What this node shows of itself on loopback: status, links, and what a name resolves to here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use portolan_core::evidence::LinkPlane;
use portolan_core::refusal::Refusal;
use portolan_core::view::Readiness;
use portolan_dns::answer::{Client, Perspective};
use portolan_dns::authority::Authority;
use portolan_dns::resolution::{Resolution, Resolved, resolve};
use portolan_runtime::http::{self, Problem};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::metrics::Metrics;
use portolan_runtime::published::Reader;
use serde::Serialize;
use tokio::sync::watch;

use crate::follow::Follows;
use crate::guard::GuardStatus;
use crate::identity::Identity;
use crate::links::{ClientStatus, EndpointStatus, LinkStatus, Links, PlaneStatus, PortStatus};
use crate::node_dns;
use crate::owners::Listening;
use crate::register::Progress;
use crate::registration::{DockerStatus, LocalState};
use crate::subscription::Provenance;

/// A person waits longer than a resolver for the first answer of a service.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(2);

/// What the admin listener shows.
pub(crate) struct Admin {
    /// The zone, for resolving as containers do.
    pub(crate) authority: Authority,
    /// Who this node is.
    pub(crate) identity: Identity,
    /// What this node answers from.
    pub(crate) view: Reader<portolan_core::view::View>,
    /// Where that comes from.
    pub(crate) provenance: watch::Receiver<Provenance>,
    /// What this node sees.
    pub(crate) local: Reader<LocalState>,
    /// How far its registration is.
    pub(crate) progress: watch::Receiver<Progress>,
    /// Its links, when it has any.
    pub(crate) links: Option<Links>,
    /// Where it answers containers, when it does.
    pub(crate) dns: node_dns::Bound,
    /// Host ports that are closed to other hosts.
    pub(crate) guard: Reader<GuardStatus>,
    /// Whether other nodes can ask this one who owns a port.
    pub(crate) owners_listening: Listening,
    /// Brings endpoints.
    pub(crate) follows: Follows,
    /// Where the registry's HTTP is, as far as this node can tell without one that is connected.
    pub(crate) registry_http: Option<String>,
}

/// `GET /api/status` of a sidecar.
#[derive(Debug, Serialize)]
struct Status {
    node: String,
    version: &'static str,
    addresses: Vec<std::net::IpAddr>,
    az: Option<String>,
    readiness: Readiness,
    index: u64,
    /// When the view was last current, Unix milliseconds; 0: never.
    current_at_ms: u64,
    is_registry_connected: bool,
    session: u64,
    sent: u64,
    acknowledged: u64,
    refused: Option<String>,
    registry_http: Option<String>,
    dns: Option<SocketAddr>,
    has_links: bool,
    /// Services that the kernel leads.
    ebpf_services: usize,
    /// Why it does not lead those that should be.
    ebpf_problem: Option<String>,
    services: usize,
    containers: usize,
    docker: DockerStatus,
    /// Freed host ports that are closed to other hosts.
    guard: GuardStatus,
    /// Why other nodes cannot ask this one who owns a port, on the addresses where they cannot.
    owners_problems: Vec<String>,
    refusals: Vec<ContainerRefusals>,
}

#[derive(Debug, Serialize)]
struct ContainerRefusals {
    container: String,
    refusals: Vec<Refusal>,
}

/// `GET /api/links`, one entry.
#[derive(Debug, Serialize)]
struct Link {
    service: String,
    cluster: String,
    address: std::net::Ipv4Addr,
    mode: &'static str,
    /// `proxy` or `ebpf`.
    plane: LinkPlane,
    /// Why it is not the plane that was asked for.
    plane_reason: Option<String>,
    /// Of the endpoints, those that the kernel leads to.
    led_endpoints: usize,
    /// Connections that it led.
    led_total: u64,
    /// Of its attempts, those that failed.
    led_failures: u64,
    ports: Vec<LinkPort>,
    endpoints: usize,
    open: usize,
    total: u64,
    failures: u64,
    /// Refused, because there were too many.
    limited: u64,
    bytes: u64,
    /// The endpoints as this node met them.
    met: Vec<EndpointStatus>,
    clients: Vec<LinkClient>,
}

/// Who connected; no cluster and no service: no container of a service on this node.
#[derive(Debug, Serialize)]
struct LinkClient {
    cluster: Option<String>,
    service: Option<String>,
    total: u64,
}

#[derive(Debug, Serialize)]
struct LinkPort {
    port: u16,
    container_port: u16,
    protocol: &'static str,
    endpoints: Option<Vec<SocketAddr>>,
}

/// Serves `admin` on `listener`.
pub(crate) fn serve(jobs: &Jobs, listener: http::Listener, admin: Admin, metrics: Arc<Metrics>) {
    let (view, dns) = (admin.view.clone(), admin.dns.clone());
    let readiness = move || would_answer(view.peek().readiness, dns.get().copied());
    let router = Router::new()
        .route("/api/status", get(status))
        .route("/api/links", get(links))
        .route("/api/resolve/{name}", get(resolved))
        .with_state(Arc::new(admin))
        .merge(http::health(metrics, readiness));
    listener.serve(jobs, router);
}

/// Whether containers that ask would be answered well; if not, why.
fn would_answer(readiness: Readiness, dns: Option<SocketAddr>) -> Result<(), String> {
    match (readiness, dns) {
        (_, None) => Err("the address of `sidecar.dns` could not be bound: containers are not answered".to_owned()),
        (Readiness::Loading, _) => Err("no registry was reached yet, and there is no snapshot".to_owned()),
        (Readiness::Stale | Readiness::Current, Some(_)) => Ok(()),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    let (view, local) = (admin.view.load(), admin.local.load());
    let progress = admin.progress.borrow().clone();
    let planes: Vec<PlaneStatus> = admin.links.iter().flat_map(Links::status).filter_map(|link| link.plane).collect();
    let with_refusals = local.reports.iter().filter(|report| !report.refusals.is_empty());
    Json(Status {
        node: admin.identity.node.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        addresses: admin.identity.addresses.clone(),
        az: admin.identity.az.clone(),
        readiness: view.readiness,
        index: view.index,
        current_at_ms: admin.provenance.borrow().current_at_ms,
        is_registry_connected: progress.is_connected,
        session: progress.session,
        sent: progress.sent,
        acknowledged: progress.acknowledged,
        refused: progress.refused,
        registry_http: progress.registry_http.or_else(|| admin.registry_http.clone()),
        dns: admin.dns.get().copied(),
        has_links: admin.links.is_some(),
        ebpf_services: planes.iter().filter(|plane| plane.plane == LinkPlane::Ebpf).count(),
        ebpf_problem: planes.into_iter().find_map(|plane| plane.why_not),
        services: view.services.len(),
        containers: local.reports.len(),
        docker: local.docker.clone(),
        guard: GuardStatus::clone(&admin.guard.load()),
        owners_problems: admin.owners_problems(),
        refusals: with_refusals
            .map(|report| ContainerRefusals { container: report.name.to_string(), refusals: report.refusals.clone() })
            .collect(),
    })
}

async fn links(State(admin): State<Arc<Admin>>) -> Json<Vec<Link>> {
    let view = admin.view.load();
    Json(admin.links.iter().flat_map(Links::status).map(|status| link(status, &view)).collect())
}

fn link(status: LinkStatus, view: &portolan_core::view::View) -> Link {
    let is_answered = view.service(&status.service).is_some_and(|service| service.virtual_address().is_some());
    let endpoints = status.ports.iter().filter_map(|port| port.endpoints.as_ref()).map(Vec::len).max();
    let port = |port: PortStatus| LinkPort {
        port: port.port,
        container_port: port.container_port,
        protocol: port.protocol.as_str(),
        endpoints: port.endpoints,
    };
    let plane = status.plane.unwrap_or(PlaneStatus::NONE);
    Link {
        service: status.service.service.to_string(),
        cluster: status.service.cluster.to_string(),
        address: status.address,
        mode: if is_answered { "vip" } else { "direct" },
        plane: plane.plane,
        plane_reason: plane.why_not,
        led_endpoints: plane.endpoints,
        led_total: plane.connections,
        led_failures: plane.failures,
        ports: status.ports.into_iter().map(port).collect(),
        endpoints: endpoints.unwrap_or_default(),
        open: status.open,
        total: status.total,
        failures: status.failures,
        limited: status.limited,
        bytes: status.bytes,
        met: status.endpoints,
        clients: status.clients.into_iter().map(client).collect(),
    }
}

fn client(status: ClientStatus) -> LinkClient {
    let (cluster, service) = status.service.map(|key| (key.cluster.to_string(), key.service.to_string())).unzip();
    LinkClient { cluster, service, total: status.total }
}

async fn resolved(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Result<Json<Resolution>, Problem> {
    let bad_name = |error: portolan_core::lookup::TextError| Problem::bad_field("name", error.to_string());
    let first = admin.resolve(&name).map_err(bad_name)?;
    let key = match first {
        Resolved::Done(resolution) => return Ok(Json(resolution)),
        Resolved::Follow(key) => key,
    };
    admin.follows.followed(&admin.view, &key, FOLLOW_PATIENCE).await;
    match admin.resolve(&name).map_err(bad_name)? {
        Resolved::Done(resolution) => Ok(Json(resolution)),
        Resolved::Follow(key) => Err(Problem::unavailable(format!("the endpoints of {key} are not known yet"))),
    }
}

impl Admin {
    fn owners_problems(&self) -> Vec<String> {
        let listening = self.owners_listening.borrow();
        listening.iter().filter_map(|(address, problem)| Some(format!("{address}: {}", problem.as_ref()?))).collect()
    }

    fn resolve(&self, name: &str) -> Result<Resolved, portolan_core::lookup::TextError> {
        let client = Client {
            perspective: Perspective::Node { cluster: &self.identity.node.cluster },
            az: self.identity.az.as_deref(),
            octets_max: u16::MAX.into(),
            seed: 0,
            authority: &self.authority,
        };
        resolve(name, &self.view.load(), &client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_when_containers_are_answered() {
        let dns = Some("169.254.53.53:53".parse().unwrap());
        let reason = |readiness, dns| would_answer(readiness, dns).err().unwrap_or_default();
        assert_eq!(reason(Readiness::Stale, dns), "");
        assert!(reason(Readiness::Loading, dns).contains("no registry"));
        assert!(reason(Readiness::Current, None).contains("sidecar.dns"));
    }
}
