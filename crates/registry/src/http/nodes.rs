//! Nodes: the list, and one with the endpoints on it.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use portolan_core::lookup::Zone;
use portolan_core::name::{Label, NodeKey};
use portolan_core::refusal::shown;
use portolan_runtime::http::Problem;
use serde::Deserialize;

use super::read::{Patience, answer};
use super::services::label;
use super::topics::Topic;
use super::{Shared, api, convert, names};
use crate::catalog::{Catalog, NodeStatus};

/// In which cluster.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    cluster: Option<String>,
}

/// Every known node.
#[utoipa::path(get, path = "/api/nodes", tag = "nodes",
    params(
        ("cluster" = Option<String>, Query, description = "Only this cluster"),
        ("index" = Option<u64>, Query, description = "Answer once the list is past this index"),
        ("wait" = Option<String>, Query, description = "At most this long: 500ms, 30s (the default), 5m"),
    ),
    responses((status = 200, body = api::NodeList), (status = 503, description = "Not loaded yet")))]
pub(super) async fn list(
    State(surface): Shared,
    Query(wanted): Query<Wanted>,
    patience: Patience,
) -> Result<Response, Problem> {
    let cluster = wanted.cluster.as_deref().map(|text| label("cluster", text)).transpose()?;
    let (catalog, index) = surface.patient(Topic::Nodes, patience).await?;
    let zone = &surface.shown.authority.zone;
    let nodes = catalog.nodes.values().filter(|node| cluster.as_ref().is_none_or(|c| &node.key.cluster == c));
    let nodes = nodes.map(|node| summary(node, zone)).collect();
    Ok(answer(Ok(api::NodeList { index, nodes }), index, &catalog))
}

/// One node and the endpoints on it. By its name or its host name; the cluster where more than one has it.
#[utoipa::path(get, path = "/api/nodes/{node}", tag = "nodes",
    params(
        ("node" = String, Path, description = "Its name, or its host name"),
        ("cluster" = Option<String>, Query, description = "Its cluster, where more than one has such a node"),
        ("index" = Option<u64>, Query, description = "Answer once the node is past this index"),
        ("wait" = Option<String>, Query, description = "At most this long: 500ms, 30s (the default), 5m"),
    ),
    responses(
        (status = 200, body = api::Node),
        (status = 404, description = "No such node; the nearest name is told"),
        (status = 503, description = "Not loaded yet"),
    ))]
pub(super) async fn one(
    State(surface): Shared,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
    patience: Patience,
) -> Result<Response, Problem> {
    let name = label("node", &name)?;
    let cluster = wanted.cluster.as_deref().map(|text| label("cluster", text)).transpose()?;
    let key = called(&*surface.ready()?, &name, cluster.as_ref())?;
    let (catalog, index) = surface.patient(Topic::Node(key.clone()), patience).await?;
    let status = catalog.nodes.get(&key).ok_or_else(|| Problem::not_found(format!("node `{key}` is gone")));
    let node = status.map(|status| api::Node {
        summary: summary(status, &surface.shown.authority.zone),
        endpoints: endpoints(&catalog, &key),
        refusals: convert::refused(&status.refusals),
    });
    Ok(answer(node, index, &catalog))
}

/// The one node that is called so.
pub(super) fn called(catalog: &Catalog, name: &Label, cluster: Option<&Label>) -> Result<NodeKey, Problem> {
    let in_cluster = |node: &&NodeStatus| cluster.is_none_or(|cluster| &node.key.cluster == cluster);
    let all = || catalog.nodes.values().map(AsRef::as_ref).filter(in_cluster);
    let mut found: Vec<&NodeStatus> = all().filter(|node| &node.key.node == name).collect();
    if found.is_empty() {
        found = all().filter(|node| node.host_name.as_ref() == Some(name)).collect();
    }
    match found.as_slice() {
        [one] => Ok(one.key.clone()),
        [] => {
            let known = all().flat_map(|node| [Some(&node.key.node), node.host_name.as_ref()]).flatten();
            let nearest = names::nearest(name.as_str(), known.map(Label::as_str));
            Err(Problem::not_found(format!("no node is called `{name}`{nearest}")))
        }
        several => {
            let keys: Vec<String> = several.iter().take(5).map(|node| node.key.to_string()).collect();
            let detail = format!("several nodes are called `{name}`; name the cluster: {}", keys.join(", "));
            Err(Problem::bad_field("cluster", shown(&detail, 400)))
        }
    }
}

fn summary(node: &NodeStatus, zone: &Zone) -> api::NodeSummary {
    let (sidecar, since_ms) = match &node.silence {
        _ if !node.has_sidecar => ("none", None),
        None => ("speaking", Some(node.speaking_since_ms)),
        Some(silence) => ("silent", Some(silence.since_ms)),
    };
    api::NodeSummary {
        cluster: node.key.cluster.to_string(),
        node: node.key.node.to_string(),
        dns_name: convert::node_name(&node.key, zone),
        host_name: node.host_name.as_ref().map(ToString::to_string),
        addresses: node.addresses.clone(),
        az: node.az.clone(),
        sidecar: sidecar.to_owned(),
        since: since_ms.map(convert::time),
        version: Some(node.version.clone()).filter(|version| !version.is_empty()),
        reported: convert::time(node.reported_at_ms),
        containers: u32::try_from(node.containers).unwrap_or(u32::MAX),
        unnamed: u32::try_from(node.unnamed).unwrap_or(u32::MAX),
        refused: u32::try_from(node.refusals.len()).unwrap_or(u32::MAX),
    }
}

/// The endpoints on a node, in the order of services.
fn endpoints(catalog: &Catalog, node: &NodeKey) -> Vec<api::NodeEndpoint> {
    let all = catalog
        .view
        .services
        .values()
        .flat_map(|service| convert::endpoints(service).iter().map(|endpoint| (&service.key, endpoint)));
    let here = all.filter(|(_, endpoint)| &endpoint.key.node == node);
    here.map(|(service, endpoint)| api::NodeEndpoint {
        cluster: service.cluster.to_string(),
        service: service.service.to_string(),
        container: endpoint.container.to_string(),
        container_id: endpoint.key.container_id.clone(),
        container_port: format!("{}/{}", endpoint.key.container_port, endpoint.key.protocol),
        port: endpoint.port,
        state: endpoint.state.as_str().to_owned(),
    })
    .collect()
}
