//! Orders: what an operator takes out of answers, and puts back; and links that are to be left alone.
//!
//! A drain is undone by deleting it; so is an eviction. What an id means is looked up in the catalog, so that a slip of
//! the pen is an error and not an order about nothing.

mod find;

use std::collections::HashMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use portolan_core::endpoint::State as EndpointState;
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::refusal::shown;
use portolan_core::rules::{Decision, Rule};
use portolan_runtime::http::Problem;

use super::body::{Body, Fields};
use super::read::{Patience, answer};
use super::services::label;
use super::topics::Topic;
use super::{Shared, Surface, api, convert};
use crate::catalog::{Candidate, Catalog};
use crate::intake::statement::{Order, OrderRecord, Statement, Target};

/// How many orders may stand.
const ORDERS_MAX: usize = 10_000;
/// Longer than any reason that a person reads.
const REASON_CHARACTERS_MAX: usize = 400;

/// Every order that stands: drains, evictions, links that are off.
#[utoipa::path(get, path = "/api/drain", tag = "orders",
    params(
        ("index" = Option<u64>, Query, description = "Answer once the list is past this index"),
        ("wait" = Option<String>, Query, description = "At most this long: 500ms, 30s (the default), 5m"),
    ),
    responses((status = 200, body = api::OrderList), (status = 503, description = "Not loaded yet")))]
pub(super) async fn list(State(surface): Shared, patience: Patience) -> Result<Response, Problem> {
    let (catalog, index) = surface.patient(Topic::Orders, patience).await?;
    let counts = Counts::of(catalog.stated.orders.keys(), &catalog);
    let orders = catalog.stated.orders.iter().map(|(target, record)| shape(target, record, &counts)).collect();
    Ok(answer(Ok(api::OrderList { index, orders }), index, &catalog))
}

/// Takes everything on a node out of answers, while open links finish.
#[utoipa::path(post, path = "/api/drain/nodes/{id}", tag = "orders",
    params(("id" = String, Path, description = "NODE where only one cluster has it, else NODE.CLUSTER; or a host name")),
    request_body = Option<api::OrderReason>,
    responses(
        (status = 200, body = api::Order),
        (status = 404, description = "No such node; the nearest name is told"),
        (status = 415, description = "The body is not JSON"),
        (status = 503, description = "Not loaded yet, or the store does not take it"),
    ))]
pub(super) async fn drain_node(
    State(surface): Shared,
    Path(id): Path<String>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let reason = reason(body.as_ref())?;
    surface.order(Order::Drain, reason, |catalog| find::node(&id, catalog).map(Target::Node)).await
}

/// Puts a node back.
#[utoipa::path(delete, path = "/api/drain/nodes/{id}", tag = "orders",
    params(("id" = String, Path, description = "As it was drained")),
    responses(
        (status = 200, body = api::Order, description = "The order that stood"),
        (status = 404, description = "It is not drained"),
    ))]
pub(super) async fn undrain_node(State(surface): Shared, Path(id): Path<String>) -> Result<Response, Problem> {
    surface.take_back(Order::Drain, |catalog| find::drained_node(&id, catalog).map(Target::Node)).await
}

/// Takes a task, or one container, out of answers, while open links finish.
#[utoipa::path(post, path = "/api/drain/tasks/{id}", tag = "orders",
    params(("id" = String, Path, description = "The id or the ARN of a task, or a container's id; 12 characters are enough")),
    request_body = Option<api::OrderReason>,
    responses(
        (status = 200, body = api::Order),
        (status = 404, description = "No such task; the nearest id is told"),
        (status = 409, description = "It is evicted"),
        (status = 415, description = "The body is not JSON"),
        (status = 503, description = "Not loaded yet, or the store does not take it"),
    ))]
pub(super) async fn drain_task(
    State(surface): Shared,
    Path(id): Path<String>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let reason = reason(body.as_ref())?;
    surface.order(Order::Drain, reason, |catalog| find::run(&id, catalog)).await
}

/// Puts a task, or a container, back.
#[utoipa::path(delete, path = "/api/drain/tasks/{id}", tag = "orders",
    params(("id" = String, Path, description = "As it was drained")),
    responses(
        (status = 200, body = api::Order, description = "The order that stood"),
        (status = 404, description = "It is not drained"),
    ))]
pub(super) async fn undrain_task(State(surface): Shared, Path(id): Path<String>) -> Result<Response, Problem> {
    surface.take_back(Order::Drain, |catalog| find::ordered_run(&id, Order::Drain, catalog)).await
}

/// Takes a task, or one container, out of answers for good: as if it had ended.
#[utoipa::path(post, path = "/api/evict/{id}", tag = "orders",
    params(("id" = String, Path, description = "The id or the ARN of a task, or a container's id; 12 characters are enough")),
    request_body = api::OrderReason,
    responses(
        (status = 200, body = api::Order),
        (status = 400, description = "No reason is given"),
        (status = 404, description = "No such task; the nearest id is told"),
        (status = 415, description = "The body is not JSON"),
        (status = 503, description = "Not loaded yet, or the store does not take it"),
    ))]
pub(super) async fn evict(
    State(surface): Shared,
    Path(id): Path<String>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let reason = reason(body.as_ref())?;
    if reason.is_empty() {
        return Err(Problem::bad_field("reason", "say why: it is shown wherever the task is missed"));
    }
    surface.order(Order::Evict, reason, |catalog| find::run(&id, catalog)).await
}

/// Takes an eviction back.
#[utoipa::path(delete, path = "/api/evict/{id}", tag = "orders",
    params(("id" = String, Path, description = "As it was evicted")),
    responses(
        (status = 200, body = api::Order, description = "The order that stood"),
        (status = 404, description = "It is not evicted"),
    ))]
pub(super) async fn unevict(State(surface): Shared, Path(id): Path<String>) -> Result<Response, Problem> {
    surface.take_back(Order::Evict, |catalog| find::ordered_run(&id, Order::Evict, catalog)).await
}

/// Has a service's name answer its endpoints' own addresses, at once and on all nodes. Who holds its virtual address still
/// reaches it there.
#[utoipa::path(post, path = "/api/links/{cluster}/{service}/off", tag = "orders",
    params(("cluster" = String, Path, description = "Its cluster"), ("service" = String, Path, description = "Its name")),
    request_body = Option<api::OrderReason>,
    responses(
        (status = 200, body = api::Order),
        (status = 404, description = "No such service, or it has no link"),
        (status = 415, description = "The body is not JSON"),
        (status = 503, description = "Not loaded yet, or the store does not take it"),
    ))]
pub(super) async fn unlink(
    State(surface): Shared,
    Path((cluster, service)): Path<(String, String)>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let reason = reason(body.as_ref())?;
    surface.order(Order::Unlink, reason, |catalog| find::link(&cluster, &service, catalog)).await
}

/// Has its name answer the virtual address again.
#[utoipa::path(delete, path = "/api/links/{cluster}/{service}/off", tag = "orders",
    params(("cluster" = String, Path, description = "Its cluster"), ("service" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = api::Order, description = "The order that stood"),
        (status = 404, description = "Its link is not off"),
    ))]
pub(super) async fn relink(
    State(surface): Shared,
    Path((cluster, service)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let key = ServiceKey { cluster: label("cluster", &cluster)?, service: label("service", &service)? };
    surface.take_back(Order::Unlink, |_| Ok(Target::Service(key))).await
}

/// The reason in a body, made harmless; empty where there is none.
fn reason(body: Option<&serde_json::Value>) -> Result<String, Problem> {
    let Some(body) = body else { return Ok(String::new()) };
    let mut fields = Fields::of(body, "")?;
    let reason = fields.text("reason")?.unwrap_or_default().trim();
    fields.finish()?;
    Ok(shown(reason, REASON_CHARACTERS_MAX))
}

impl Surface {
    async fn order(
        &self,
        order: Order,
        reason: String,
        target: impl FnOnce(&Catalog) -> Result<Target, Problem>,
    ) -> Result<Response, Problem> {
        let _turn = self.turn().await?;
        let catalog = self.ready()?;
        let target = target(&catalog)?;
        let stands = catalog.stated.orders.get(&target);
        match stands {
            Some(stands) if stands.order == order && stands.reason == reason => {
                return Ok(self.told(&target, stands, &catalog));
            }
            Some(stands) if stands.order == Order::Evict && order == Order::Drain => {
                let detail = "it is evicted, which is more; take that back first: DELETE /api/evict/{id}";
                return Err(Problem::new(StatusCode::CONFLICT, detail));
            }
            None if catalog.stated.orders.len() >= ORDERS_MAX => {
                let detail = format!("{ORDERS_MAX} orders stand already; take some back (GET /api/drain lists them)");
                return Err(Problem::new(StatusCode::CONFLICT, detail));
            }
            Some(_) | None => {}
        }
        let record = OrderRecord { order, at_ms: self.shown.clock.now().unix_ms, reason };
        let catalog = self.write(Statement::Order(target.clone(), Some(record.clone()))).await?;
        Ok(self.told(&target, &record, &catalog))
    }

    async fn take_back(
        &self,
        order: Order,
        target: impl FnOnce(&Catalog) -> Result<Target, Problem>,
    ) -> Result<Response, Problem> {
        let _turn = self.turn().await?;
        let catalog = self.ready()?;
        let target = target(&catalog)?;
        let stood = catalog.stated.orders.get(&target).filter(|stands| stands.order == order);
        let stood = stood.ok_or_else(|| Problem::not_found("no such order stands; GET /api/drain lists them"))?;
        let catalog = self.write(Statement::Order(target.clone(), None)).await?;
        Ok(self.told(&target, stood, &catalog))
    }

    fn told(&self, target: &Target, record: &OrderRecord, catalog: &Catalog) -> Response {
        let order = shape(target, record, &Counts::of([target], catalog));
        answer(Ok(order), self.topics.index(&Topic::Orders, catalog), catalog)
    }
}

fn shape(target: &Target, record: &OrderRecord, counts: &Counts<'_>) -> api::Order {
    let (kind, name, endpoints) = match target {
        Target::Node(key) => ("node", key.to_string(), counts.nodes.get(key)),
        Target::Task(id) => ("task", id.clone(), counts.runs.get(id.as_str())),
        Target::Container(id) => ("container", id.clone(), counts.runs.get(id.as_str())),
        Target::Service(key) => ("service", key.to_string(), counts.services.get(key)),
    };
    api::Order {
        kind: kind.to_owned(),
        target: name,
        order: match record.order {
            Order::Drain => "drain".to_owned(),
            Order::Evict => "evict".to_owned(),
            Order::Unlink => "unlink".to_owned(),
        },
        since: convert::time(record.at_ms),
        reason: record.reason.clone(),
        endpoints: endpoints.copied().unwrap_or_default(),
    }
}

/// How many endpoints each order is about.
struct Counts<'a> {
    nodes: HashMap<&'a NodeKey, u32>,
    services: HashMap<&'a ServiceKey, u32>,
    /// By the ids of tasks and of containers, which are never the same.
    runs: HashMap<&'a str, u32>,
}

impl<'a> Counts<'a> {
    fn of(targets: impl IntoIterator<Item = &'a Target>, catalog: &'a Catalog) -> Self {
        let (mut nodes, mut services, mut runs) = (HashMap::new(), HashMap::new(), HashMap::new());
        for target in targets {
            match target {
                Target::Node(key) => drop(nodes.insert(key, 0)),
                Target::Service(key) => {
                    let candidates = catalog.explained.get(key).map_or(&[][..], |explained| &explained.candidates);
                    let count = candidates.iter().filter(|candidate| !is_over(candidate)).count();
                    services.insert(key, u32::try_from(count).unwrap_or(u32::MAX));
                }
                Target::Task(id) | Target::Container(id) => drop(runs.insert(id.as_str(), 0)),
            }
        }
        let all = catalog.explained.values().flat_map(|explained| &explained.candidates);
        for candidate in all.filter(|candidate| !is_over(candidate)) {
            nodes.entry(&candidate.key.node).and_modify(|count| *count += 1);
            for id in candidate.task_id.as_deref().into_iter().chain([candidate.key.container_id.as_str()]) {
                runs.entry(id).and_modify(|count| *count += 1);
            }
        }
        Counts { nodes, services, runs }
    }
}

/// Whether it is gone by itself: what was evicted is gone by that order only.
fn is_over(candidate: &Candidate) -> bool {
    let Decision { state, rule } = candidate.decision;
    candidate.ending.is_some() || (state == EndpointState::Gone && rule != Rule::Evicted)
}
