//! The registry put together: sources to the intake, the store to the catalog, the catalog to its surfaces.
//!
//! Every listener is bound before anything is served; what is handed back knows the bound addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use portolan_core::lookup::{Zone, address_label};
use portolan_core::view::Readiness;
use portolan_dns::authority::{Authority, Ttl};
use portolan_dns::gate::{Beginning, Gate};
use portolan_dns::listen::Listeners;
use portolan_dns::metrics as dns_metrics;
use portolan_dns::server::{Role, Server};
use portolan_dns::upstreams::Upstreams;
use portolan_runtime::address;
use portolan_runtime::http::{Listener, health, require_loopback};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::logging;
use portolan_runtime::metrics::Metrics;
use portolan_runtime::published::{Reader, published};
use rand::RngExt;
use tokio::net::TcpListener;

use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::deadlines::Deadlines;
use crate::ecs::api::Aws;
use crate::ecs::{self, Source};
use crate::external::External;
use crate::grpc::{Joined, Surface};
use crate::intake::Intake;
use crate::intake::steward::{self, Steward};
use crate::neighbours::switchboard::Switchboard;
use crate::neighbours::{self, Neighbours};
use crate::releases::{self, Releases};
use crate::settings::{self, Settings};
use crate::store::{EmbeddedStore, Store};
use crate::{deadlines, external, http, orders, presence};

/// The store's file in the data folder.
const STORE_FILE: &str = "registry.redb";

/// Where a started registry listens.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// DNS.
    pub dns: SocketAddr,
    /// HTTP.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
}

/// Starts the registry; it runs until `jobs` are shut down. AWS is asked when `aws.clusters` says about which.
///
/// # Errors
/// What cannot be meant in the settings, bound, or opened.
pub async fn start(jobs: &Jobs, settings: Settings, metrics: Arc<Metrics>) -> anyhow::Result<Bound> {
    let is_used = !settings.aws.clusters.is_empty();
    let aws = is_used.then(|| ecs::aws::client(settings.aws.region.clone(), settings.aws.endpoint.clone()));
    start_with(jobs, settings, metrics, aws).await
}

/// The same with a given AWS. With `None`, AWS is not used.
///
/// # Errors
/// As [`start`].
pub async fn start_with(
    jobs: &Jobs,
    settings: Settings,
    metrics: Arc<Metrics>,
    aws: Option<Arc<dyn Aws>>,
) -> anyhow::Result<Bound> {
    let authority = authority(&settings)?;
    let upstreams = Upstreams::new(settings.upstreams.as_deref(), &authority.zone).context("setting `upstreams`")?;
    let (dns, listener, grpc) = bind(&settings).await?;
    let bound = Bound { dns: dns.address(), http: listener.addr(), grpc: grpc.local_addr()? };
    let clock = Clock::system();
    let store = open_store(&settings, clock)?;
    let intake = Arc::new(Intake::open(store.clone(), clock.now()).await.context("open the intake")?);
    let catalog = catalog::start(
        jobs,
        store.clone(),
        catalog::Settings { link_range: settings.link.range, confirmed: intake.confirmed() },
    );
    let steward = Steward { store, catalog: catalog.clone(), link_range: settings.link.range, clock };
    steward::start(jobs, steward);
    let core = Core { intake, catalog, clock };
    let switchboard = start_watching(jobs, &core, &metrics);
    let link_range = settings.link.range;
    let declared = External { intake: core.intake.clone(), catalog: core.catalog.clone(), clock, link_range };
    external::start(jobs, declared, &upstreams);
    let ecs = start_ecs(jobs, &core, settings.aws, (aws, &metrics)).await?;

    let Core { intake, catalog, clock } = core;
    let view = view_of(jobs, catalog.clone());
    let dns_metrics = metrics.register(dns_metrics::Metrics::new);
    let gate = Gate::new(settings.dns.gate, rand::rng().random(), Beginning::now());
    let server = Server { view, authority: authority.clone(), role: Role::Registry, gate, metrics: dns_metrics };
    dns.serve(jobs, Arc::new(server)).context("start the workers of DNS")?;
    let releases = Releases::default();
    releases::start(jobs, releases.clone(), catalog.clone());
    let (hears, reads, http_port) = (intake.clone(), catalog.clone(), bound.http.port());
    let joined = Joined { intake: hears, catalog: reads, switchboard, releases, clock, http_port };
    Surface::new(jobs.clone(), joined).serve(grpc);
    let readers = catalog.clone();
    let readiness = move || match readers.peek().view.readiness {
        Readiness::Loading => Err("the store is not loaded yet".to_owned()),
        Readiness::Stale | Readiness::Current => Ok(()),
    };
    let shown = http::Shown { catalog, authority, link_range, clock, ecs };
    listener.serve(jobs, http::router(shown, intake, jobs).merge(health(metrics, readiness)));
    Ok(bound)
}

/// What every source and every watcher works with.
struct Core {
    intake: Arc<Intake>,
    catalog: Reader<Catalog>,
    clock: Clock,
}

/// Whoever finds out by time and by asking: silences, deadlines, neighbours, orders that nothing matches. What is returned leads
/// to the sidecars that are connected.
fn start_watching(jobs: &Jobs, core: &Core, metrics: &Metrics) -> Switchboard {
    let Core { intake, catalog, clock } = core;
    presence::start(jobs, intake.clone(), *clock);
    let deadlines = Deadlines { intake: intake.clone(), catalog: catalog.clone(), clock: *clock };
    deadlines::start(jobs, deadlines, metrics);
    orders::start(jobs, intake.clone(), catalog.clone(), *clock);
    let switchboard = Switchboard::default();
    let neighbours = Neighbours {
        intake: intake.clone(),
        catalog: catalog.clone(),
        switchboard: switchboard.clone(),
        clock: *clock,
        seed: rand::rng().random(),
    };
    neighbours::start(jobs, neighbours);
    switchboard
}

/// The ECS source, where it is used; what it said of other clusters is taken back.
async fn start_ecs(
    jobs: &Jobs,
    core: &Core,
    settings: settings::Aws,
    (aws, metrics): (Option<Arc<dyn Aws>>, &Metrics),
) -> anyhow::Result<Option<Reader<ecs::status::Status>>> {
    let Core { intake, catalog, clock } = core;
    ecs::take_back(intake, &settings, *clock).await?;
    let Some(aws) = aws.filter(|_| !settings.clusters.is_empty()) else { return Ok(None) };
    let (intake, catalog, clock) = (intake.clone(), catalog.clone(), *clock);
    let (metrics, seed) = (metrics.register(ecs::Metrics::new), rand::rng().random());
    Ok(Some(ecs::start(jobs, Source { aws, intake, catalog, clock, settings, metrics, seed }).await?))
}

async fn bind(settings: &Settings) -> anyhow::Result<(Listeners, Listener, TcpListener)> {
    require_loopback("http.listen", settings.http.listen)?;
    require_loopback("grpc.listen", settings.grpc.listen)?;
    let dns = Listeners::bind(settings.dns.listen).await.context("setting `dns.listen`")?;
    logging::announce("dns", dns.address());
    let http = Listener::bind("http", settings.http.listen).await.context("setting `http.listen`")?;
    let grpc = TcpListener::bind(settings.grpc.listen)
        .await
        .with_context(|| format!("listen for grpc on {} (setting `grpc.listen`)", settings.grpc.listen))?;
    logging::announce("grpc", grpc.local_addr()?);
    Ok((dns, http, grpc))
}

fn open_store(settings: &Settings, clock: Clock) -> anyhow::Result<Arc<dyn Store>> {
    std::fs::create_dir_all(&settings.data_dir)
        .with_context(|| format!("make the data folder `{}` (setting `data_dir`)", settings.data_dir.display()))?;
    let path = settings.data_dir.join(STORE_FILE);
    let store = EmbeddedStore::open(&path, clock.now().unix_ms, rand::rng().random());
    Ok(Arc::new(store.context("setting `data_dir`")?))
}

fn authority(settings: &Settings) -> anyhow::Result<Authority> {
    let zone = Zone::parse(&settings.zone).context("setting `zone`")?;
    // Recursors follow what NS says: never to a wildcard address, and to loopback only where there is no other.
    let listen = Some(settings.dns.listen.ip()).filter(|ip| !ip.is_unspecified());
    let own = listen.or_else(address::of_default_route).unwrap_or(Ipv4Addr::LOCALHOST.into());
    let name_server = format!("{}.addr.{zone}", address_label(own));
    Ok(Authority::new(zone, Ttl::default(), &name_server)?)
}

/// The catalog's view by itself, for DNS, which knows nothing of catalogs.
fn view_of(jobs: &Jobs, mut catalog: Reader<Catalog>) -> Reader<portolan_core::view::View> {
    let (publisher, view) = published(catalog.load().view.clone());
    jobs.start("view", async move {
        while catalog.changed().await {
            publisher.publish(Arc::new(catalog.load().view.clone()));
        }
    });
    view
}
