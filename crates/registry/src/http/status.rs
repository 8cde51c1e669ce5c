//! The registry about itself. Answers also before anything is loaded.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use portolan_dns::resolution::readiness_word;

use super::{Shared, api, convert, read};
use crate::catalog::Catalog;

/// The registry about itself.
#[utoipa::path(get, path = "/api/status", tag = "status", responses((status = 200, body = api::Status)))]
pub(super) async fn status(State(surface): Shared) -> Response {
    let catalog = surface.shown.catalog.load();
    let status = api::Status {
        program: "registry".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: catalog.epoch.to_string(),
        zone: surface.shown.authority.zone.to_string(),
        started: convert::time(surface.started_ms),
        readiness: readiness_word(catalog.view.readiness).to_owned(),
        index: catalog.view.index,
        clusters: count(catalog.view.clusters.len()),
        services: count(catalog.view.services.len()),
        nodes: count(catalog.nodes.len()),
        silent_nodes: count(catalog.nodes.values().filter(|node| node.silence.is_some()).count()),
        endpoints: convert::counts(catalog.view.services.values().flat_map(|service| convert::endpoints(service))),
        held: held(&catalog),
    };
    read::with_epoch(Json(status).into_response(), &catalog)
}

/// How much limits hold back.
fn held(catalog: &Catalog) -> api::HeldCounts {
    let frozen = catalog.frozen();
    api::HeldCounts { endpoints: count(frozen.endpoints), nodes: count(frozen.nodes), services: count(frozen.services) }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
