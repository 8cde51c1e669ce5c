//! Declared services: endpoints outside ECS and Docker, such as a database. What is declared is kept as it was said;
//! where its names lead is found out by the job `external`.

mod declaration;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use portolan_core::name::{Label, NameError, ServiceKey, cluster_label, service_label};
use portolan_core::refusal::shown;
use portolan_runtime::http::Problem;

use super::body::Body;
use super::names::nearest;
use super::read::{Patience, answer};
use super::services::label;
use super::topics::Topic;
use super::{Shared, api, convert};
use crate::catalog::Catalog;
use crate::intake::statement::{CheckState, ExternalEndpoint, ExternalRecord, ResolvedRecord, Statement};

/// How many services may be declared.
const SERVICES_MAX: usize = 10_000;

/// Every declared service.
#[utoipa::path(get, path = "/api/external", tag = "external services",
    params(
        ("index" = Option<u64>, Query, description = "Answer once the list is past this index"),
        ("wait" = Option<String>, Query, description = "At most this long: 500ms, 30s (the default), 5m"),
    ),
    responses((status = 200, body = api::ExternalList), (status = 503, description = "Not loaded yet")))]
pub(super) async fn list(State(surface): Shared, patience: Patience) -> Result<Response, Problem> {
    let (catalog, index) = surface.patient(Topic::Externals, patience).await?;
    let services = catalog.stated.externals.iter().map(|(key, record)| summary(key, record, &catalog)).collect();
    Ok(answer(Ok(api::ExternalList { index, services }), index, &catalog))
}

/// One declared service, and where its endpoints are.
#[utoipa::path(get, path = "/api/external/{cluster}/{service}", tag = "external services",
    params(
        ("cluster" = String, Path, description = "Its cluster"),
        ("service" = String, Path, description = "Its name"),
        ("index" = Option<u64>, Query, description = "Answer once it is past this index"),
        ("wait" = Option<String>, Query, description = "At most this long: 500ms, 30s (the default), 5m"),
    ),
    responses(
        (status = 200, body = api::External),
        (status = 404, description = "No such service was declared; the nearest name is told"),
        (status = 503, description = "Not loaded yet"),
    ))]
pub(super) async fn one(
    State(surface): Shared,
    Path((cluster, service)): Path<(String, String)>,
    patience: Patience,
) -> Result<Response, Problem> {
    let key = ServiceKey { cluster: label("cluster", &cluster)?, service: label("service", &service)? };
    let (catalog, index) = surface.patient(Topic::External(key.clone()), patience).await?;
    let found = catalog.stated.externals.get(&key).ok_or_else(|| undeclared(&key, &catalog));
    Ok(answer(found.map(|record| shape(&key, record, &catalog)), index, &catalog))
}

/// Declares a service, or replaces what was declared.
#[utoipa::path(put, path = "/api/external/{cluster}/{service}", tag = "external services",
    params(
        ("cluster" = String, Path, description = "Its cluster"),
        ("service" = String, Path, description = "Its name"),
    ),
    request_body = api::ExternalDeclaration,
    responses(
        (status = 200, body = api::External),
        (status = 400, description = "A field cannot be meant; it is named"),
        (status = 409, description = "10,000 services are declared already"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not JSON"),
        (status = 503, description = "Not loaded yet, or the store does not take it"),
    ))]
pub(super) async fn put(
    State(surface): Shared,
    Path((cluster, service)): Path<(String, String)>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let key = new_key(&cluster, &service)?;
    let bounds = declaration::Bounds { zone: &surface.shown.authority.zone, link_range: surface.shown.link_range };
    let declared = declaration::read(&body.unwrap_or_default(), &bounds)?;
    let _turn = surface.turn().await?;
    let mut catalog = surface.ready()?;
    let before = catalog.stated.externals.get(&key);
    if before.is_none() && catalog.stated.externals.len() >= SERVICES_MAX {
        let detail = format!("{SERVICES_MAX} services are declared already; delete one (GET /api/external lists them)");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let since_ms = before.map_or_else(|| surface.shown.clock.now().unix_ms, |before| before.since_ms);
    let record = ExternalRecord { since_ms, ..declared };
    if before.is_none_or(|before| **before != record) {
        catalog = surface.write(Statement::External(key.clone(), Some(record.clone()))).await?;
    }
    let index = surface.topics.index(&Topic::External(key.clone()), &catalog);
    Ok(answer(Ok(shape(&key, &record, &catalog)), index, &catalog))
}

/// Takes a declaration back: its endpoints are gone.
#[utoipa::path(delete, path = "/api/external/{cluster}/{service}", tag = "external services",
    params(
        ("cluster" = String, Path, description = "Its cluster"),
        ("service" = String, Path, description = "Its name"),
    ),
    responses(
        (status = 200, body = api::External, description = "What was declared"),
        (status = 404, description = "No such service was declared; the nearest name is told"),
        (status = 503, description = "Not loaded yet, or the store does not take it"),
    ))]
pub(super) async fn delete(
    State(surface): Shared,
    Path((cluster, service)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let key = ServiceKey { cluster: label("cluster", &cluster)?, service: label("service", &service)? };
    let _turn = surface.turn().await?;
    let before = surface.ready()?;
    let record = before.stated.externals.get(&key).ok_or_else(|| undeclared(&key, &before))?;
    let catalog = surface.write(Statement::External(key.clone(), None)).await?;
    let index = surface.topics.index(&Topic::External(key.clone()), &catalog);
    Ok(answer(Ok(shape(&key, record, &before)), index, &catalog))
}

/// The key of a service that may be declared: what would have to be changed to be a name is refused, not changed.
fn new_key(cluster: &str, service: &str) -> Result<ServiceKey, Problem> {
    Ok(ServiceKey {
        cluster: name("cluster", cluster, cluster_label)?,
        service: name("service", service, service_label)?,
    })
}

fn name(field: &str, text: &str, made: fn(&str) -> Result<Label, NameError>) -> Result<Label, Problem> {
    let label = label(field, text)?;
    made(label.as_str()).map_err(|error| Problem::bad_field(field, format!("`{}` {error}", shown(text, 80))))
}

fn undeclared(key: &ServiceKey, catalog: &Catalog) -> Problem {
    let known: Vec<String> = catalog.stated.externals.keys().map(ToString::to_string).collect();
    let nearest = nearest(&key.to_string(), known.iter().map(String::as_str));
    Problem::not_found(format!("no service `{key}` is declared{nearest}"))
}

fn resolved(key: &ServiceKey, catalog: &Catalog) -> Arc<ResolvedRecord> {
    catalog.stated.resolved.get(key).cloned().unwrap_or_default()
}

fn summary(key: &ServiceKey, record: &ExternalRecord, catalog: &Catalog) -> api::ExternalSummary {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let resolved = resolved(key, catalog);
    let failing = resolved.places.iter().filter(|place| place.check == Some(CheckState::Failing));
    api::ExternalSummary {
        cluster: key.cluster.to_string(),
        service: key.service.to_string(),
        endpoints: count(record.endpoints.len()),
        places: count(resolved.places.len()),
        failing: count(failing.count()),
        unresolved: resolved.unresolved.clone(),
        since: convert::time(record.since_ms),
    }
}

fn shape(key: &ServiceKey, record: &ExternalRecord, catalog: &Catalog) -> api::External {
    let resolved = resolved(key, catalog);
    let places = resolved.places.iter().map(|place| api::ExternalPlace {
        host: place.host.clone(),
        address: place.address,
        port: place.port,
        protocol: place.protocol.to_string(),
        check: place.check.map(|check| check_word(check).to_owned()),
    });
    let check = record.check_every_ms.map(|ms| api::ExternalCheck { tcp: true, interval: Some(interval_text(ms)) });
    api::External {
        cluster: key.cluster.to_string(),
        service: key.service.to_string(),
        declaration: api::ExternalDeclaration {
            endpoints: record.endpoints.iter().map(endpoint).collect(),
            check,
            tags: record.tags.clone(),
            meta: record.meta.iter().cloned().collect::<BTreeMap<_, _>>(),
        },
        since: convert::time(record.since_ms),
        places: places.collect(),
        unresolved: resolved.unresolved.clone(),
    }
}

fn endpoint(endpoint: &ExternalEndpoint) -> api::ExternalEndpoint {
    api::ExternalEndpoint {
        host: endpoint.host.clone(),
        port: endpoint.port,
        protocol: Some(endpoint.protocol.to_string()),
        port_name: endpoint.port_name.as_ref().map(ToString::to_string),
        weight: Some(endpoint.weight),
        az: endpoint.az.clone(),
    }
}

fn check_word(check: CheckState) -> &'static str {
    match check {
        CheckState::Starting => "starting",
        CheckState::Passing => "passing",
        CheckState::Failing => "failing",
    }
}

fn interval_text(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { format!("{}s", ms / 1_000) } else { format!("{ms}ms") }
}
