//! Services: the list, and one with its endpoints.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use portolan_core::name::{Label, ServiceKey};
use portolan_core::refusal::shown;
use portolan_runtime::http::Problem;
use serde::Deserialize;

use super::read::{Patience, answer};
use super::topics::{Scope, Topic};
use super::{Shared, api, convert, names};

/// Which services.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    cluster: Option<String>,
    service: Option<String>,
}

impl Wanted {
    /// As a scope. A service without a cluster is none: two clusters may have it.
    pub(super) fn scope(&self) -> Result<Scope, Problem> {
        match (&self.cluster, &self.service) {
            (None, None) => Ok(Scope::All),
            (Some(cluster), None) => Ok(Scope::Cluster(label("cluster", cluster)?)),
            (Some(cluster), Some(service)) => Ok(Scope::Service(key(cluster, service)?)),
            (None, Some(_)) => Err(Problem::bad_field("cluster", "`service` needs `cluster` beside it")),
        }
    }
}

pub(super) fn key(cluster: &str, service: &str) -> Result<ServiceKey, Problem> {
    Ok(ServiceKey { cluster: label("cluster", cluster)?, service: label("service", service)? })
}

pub(super) fn label(field: &str, text: &str) -> Result<Label, Problem> {
    Label::parse(text).map_err(|error| Problem::bad_field(field, format!("`{}` {error}", shown(text, 80))))
}

/// Every known service.
#[utoipa::path(get, path = "/api/services", tag = "services",
    params(
        ("cluster" = Option<String>, Query, description = "Only this cluster"),
        ("index" = Option<u64>, Query, description = "Answer once the list is past this index"),
        ("wait" = Option<String>, Query, description = "At most this long: 500ms, 30s (the default), 5m"),
    ),
    responses((status = 200, body = api::ServiceList), (status = 503, description = "Not loaded yet")))]
pub(super) async fn list(
    State(surface): Shared,
    Query(wanted): Query<Wanted>,
    patience: Patience,
) -> Result<Response, Problem> {
    let scope = match wanted.scope()? {
        Scope::Service(_) => return Err(Problem::bad_field("service", "ask /api/services/{cluster}/{service}")),
        scope => scope,
    };
    let (catalog, index) = surface.patient(Topic::Services(scope.clone()), patience).await?;
    let zone = &surface.shown.authority.zone;
    let services = catalog.view.services.values().filter(|service| scope.holds(&service.key));
    let services = services.map(|service| convert::summary(service, zone)).collect();
    Ok(answer(Ok(api::ServiceList { index, services }), index, &catalog))
}

/// One service and its endpoints.
#[utoipa::path(get, path = "/api/services/{cluster}/{service}", tag = "services",
    params(
        ("cluster" = String, Path, description = "Its cluster"),
        ("service" = String, Path, description = "Its name"),
        ("index" = Option<u64>, Query, description = "Answer once the service is past this index"),
        ("wait" = Option<String>, Query, description = "At most this long: 500ms, 30s (the default), 5m"),
    ),
    responses(
        (status = 200, body = api::Service),
        (status = 404, description = "No such service; the nearest name is told"),
        (status = 503, description = "Not loaded yet"),
    ))]
pub(super) async fn one(
    State(surface): Shared,
    Path((cluster, service)): Path<(String, String)>,
    patience: Patience,
) -> Result<Response, Problem> {
    let key = key(&cluster, &service)?;
    let (catalog, index) = surface.patient(Topic::Services(Scope::Service(key.clone())), patience).await?;
    let explained = catalog.explained.get(&key).map(AsRef::as_ref);
    let found = catalog.service(&key).ok_or_else(|| names::unknown_service(&key, &catalog));
    let ecs = catalog.stated.services.get(&key).map(|record| convert::ecs_service(record));
    let zone = &surface.shown.authority.zone;
    let found = found.map(|service| api::Service { ecs, ..convert::service(service, explained, zone) });
    Ok(answer(found, index, &catalog))
}
