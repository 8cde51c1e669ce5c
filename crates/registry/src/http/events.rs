//! What changed lately.

use axum::extract::{Query, State};
use axum::response::Response;
use portolan_runtime::http::Problem;
use serde::Deserialize;

use super::read::{Patience, answer};
use super::services::Wanted;
use super::topics::{Scope, Topic};
use super::{Shared, api, convert};
use crate::catalog::{Catalog, EVENTS_MAX, Event};

/// Since when.
#[derive(Debug, Deserialize)]
pub(super) struct Since {
    since: Option<u64>,
}

/// The changes that are still remembered, the oldest first.
#[utoipa::path(get, path = "/api/events", tag = "changes",
    params(
        ("cluster" = Option<String>, Query, description = "Only this cluster"),
        ("service" = Option<String>, Query, description = "Only this service of it"),
        ("since" = Option<u64>, Query, description = "Only what happened after this index"),
        ("index" = Option<u64>, Query, description = "Answer once something happened after this index"),
        ("wait" = Option<String>, Query, description = "At most this long: 500ms, 30s (the default), 5m"),
    ),
    responses((status = 200, body = api::EventList), (status = 503, description = "Not loaded yet")))]
pub(super) async fn list(
    State(surface): Shared,
    Query(wanted): Query<Wanted>,
    Query(Since { since }): Query<Since>,
    patience: Patience,
) -> Result<Response, Problem> {
    let scope = wanted.scope()?;
    let (catalog, index) = surface.patient(Topic::Explained(scope.clone()), patience).await?;
    let events = after(since.unwrap_or_default(), &catalog).filter(|event| scope.holds(&event.service));
    let events = events.map(|event| convert::change(event, &catalog)).collect();
    let list = api::EventList { index, complete_after: complete_after(&catalog), events };
    Ok(answer(Ok(list), index, &catalog))
}

/// The remembered changes with an index above `index`, in their order.
pub(super) fn after(index: u64, catalog: &Catalog) -> impl Iterator<Item = &Event> {
    let start = catalog.events.binary_search_by(|event| {
        // Never equal: the first one above is looked for.
        if event.index <= index { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater }
    });
    let start = start.unwrap_or_else(|start| start);
    catalog.events.iter().skip(start).map(AsRef::as_ref)
}

/// Every change after this index is remembered.
pub(super) fn complete_after(catalog: &Catalog) -> u64 {
    match catalog.events.front() {
        // Some with the oldest one's index may be forgotten already.
        Some(oldest) if catalog.events.len() >= EVENTS_MAX => oldest.index,
        _ => catalog.first_index,
    }
}

/// Where a stream that begins now begins.
pub(super) fn newest(catalog: &Catalog) -> u64 {
    catalog.events.back().map_or(catalog.first_index, |event| event.index.max(catalog.first_index))
}

/// Which changes a stream tells.
pub(super) fn topic(scope: &Scope) -> Topic {
    Topic::Explained(scope.clone())
}
