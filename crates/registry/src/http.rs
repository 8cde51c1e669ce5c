//! The HTTP surface: what the catalog knows, as JSON, as it changes and why; and what operators say.
//!
//! ```text
//! catalog ──> topics (who waits for what) ──> read (index, wait) ──> services, names, nodes, events
//!    │                                                                        │
//!    └──────────────────────────────convert───────────────────────────────────┘──> api (JSON)
//!
//! operator ──> body (fields) ──> orders, external ──> write ──> intake
//! ```
//!
//! It reads only the catalog, and writes only through the intake. A reader who waits is woken by its own resource alone. Bounds: how
//! many wait, how many streams there are, how long anyone waits.
//!
//! - [`api`]: the shapes of the answers. The `portolan` command reads the same types.

pub mod api;
mod body;
mod convert;
mod events;
mod external;
mod names;
mod nodes;
mod openapi;
mod orders;
mod read;
mod services;
mod status;
#[cfg(test)]
mod tests;
mod topics;
mod watch;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use ipnet::Ipv4Net;
use portolan_dns::authority::Authority;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use tokio::sync::Semaphore;

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::ecs;
use crate::intake::Intake;
use topics::Topics;

pub use openapi::description;

/// Readers that wait at once. More are told to come back.
const WAITERS_MAX: usize = 4_096;
/// Streams at once. Each may hold a connection for days.
const STREAMS_MAX: usize = 512;

/// What the surface shows.
#[derive(Debug)]
pub struct Shown {
    /// Everything.
    pub catalog: Reader<Catalog>,
    /// The zone, for resolving as DNS does.
    pub authority: Authority,
    /// The virtual addresses: nobody may declare one.
    pub link_range: Ipv4Net,
    /// For ages.
    pub clock: Clock,
    /// How it stands with AWS; `None`: it is not used.
    pub ecs: Option<Reader<ecs::status::Status>>,
}

/// What every handler has.
#[derive(Debug)]
struct Surface {
    shown: Shown,
    intake: Arc<Intake>,
    started_ms: u64,
    topics: Topics,
    /// One write at a time.
    writers: Semaphore,
    waiters: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

type Shared = axum::extract::State<Arc<Surface>>;

/// The paths under `/api`. Starts the job that wakes who waits.
pub fn router(shown: Shown, intake: Arc<Intake>, jobs: &Jobs) -> Router {
    let topics = Topics::default();
    jobs.start("http topics", topics.clone().follow(shown.catalog.clone()));
    let surface = Surface {
        started_ms: shown.clock.now().unix_ms,
        shown,
        intake,
        topics,
        writers: Semaphore::new(1),
        waiters: Arc::new(Semaphore::new(WAITERS_MAX)),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    };
    Router::new()
        .route("/api/services", get(services::list))
        .route("/api/services/{cluster}/{service}", get(services::one))
        .route("/api/resolve/{name}", get(names::resolve))
        .route("/api/explain/{name}", get(names::explain))
        .route("/api/nodes", get(nodes::list))
        .route("/api/nodes/{node}", get(nodes::one))
        .route("/api/drain", get(orders::list))
        .route("/api/drain/nodes/{id}", post(orders::drain_node).delete(orders::undrain_node))
        .route("/api/drain/tasks/{id}", post(orders::drain_task).delete(orders::undrain_task))
        .route("/api/links/{cluster}/{service}/off", post(orders::unlink).delete(orders::relink))
        .route("/api/evict/{id}", post(orders::evict).delete(orders::unevict))
        .route("/api/external", get(external::list))
        .route("/api/external/{cluster}/{service}", get(external::one).put(external::put).delete(external::delete))
        .route("/api/events", get(events::list))
        .route("/api/watch", get(watch::stream))
        .route("/api/status", get(status::status))
        .route("/api/openapi.json", get(openapi::document))
        .layer(middleware::from_fn(harmless))
        .with_state(Arc::new(surface))
}

/// Nothing here may be kept, and nothing may be taken for anything but what it says it is.
async fn harmless(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
