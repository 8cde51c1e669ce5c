//! Lays what this node sees of its own containers over what the registry told, so that a death on this node leaves the
//! answers here at once, and changes here still show while no registry is in reach.
//!
//! Pure. While the registry speaks it only takes away or worsens: what a new container is called is the registry's to say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use portolan_core::endpoint::{Endpoint, EndpointKey, Run, State};
use portolan_core::evidence::{ContainerReport, PortReport};
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::naming;
use portolan_core::rules;
use portolan_core::view::{EndpointSet, Readiness, Service, View};

/// What this node knows of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local<'a> {
    /// Its key.
    pub(crate) node: &'a NodeKey,
    /// Its availability zone.
    pub(crate) az: Option<&'a str>,
    /// Its containers, as Docker showed them.
    pub(crate) reports: &'a [ContainerReport],
    /// When the registry's view was last current, Unix milliseconds: what it left out until then it meant to.
    pub(crate) current_at_ms: u64,
}

/// How long before that a run must have begun to have been placed by then: Docker's event, the report, the view's way back.
const PLACING_MS: u64 = 2_000;

/// `view` as this node should answer it.
pub(crate) fn overlay(view: &View, local: Local<'_>) -> View {
    let mut words: HashMap<EndpointKey, (&ContainerReport, &PortReport)> = HashMap::new();
    for container in local.reports.iter().filter(|container| !container.is_refused) {
        words.extend(container.ports.iter().map(|port| (key_of(local.node, container, port), (container, port))));
    }
    let mut out = view.clone();
    for service in view.services.values() {
        if let Some(endpoints) = corrected(service, local.node, &words) {
            out.insert_service(Arc::new(Service {
                endpoints: EndpointSet::Known(endpoints),
                ..Service::clone(service)
            }));
        }
    }
    if view.readiness != Readiness::Current {
        add_unreported(&mut out, local, words);
    }
    out
}

/// The set of `service` with this node's own endpoints put right, when that changes anything.
fn corrected(
    service: &Service,
    node: &NodeKey,
    words: &HashMap<EndpointKey, (&ContainerReport, &PortReport)>,
) -> Option<Arc<[Endpoint]>> {
    let endpoints = service.known_endpoints()?;
    let own_word = |endpoint: &Endpoint| words.get(&endpoint.key).map(|(c, p)| rules::state_of(c, p));
    let is_right = |endpoint: &Endpoint| {
        &endpoint.key.node != node || own_word(endpoint).is_some_and(|own| worse(own, endpoint.state) == endpoint.state)
    };
    if endpoints.iter().all(is_right) {
        return None;
    }
    let correct = |endpoint: &Endpoint| {
        let mut endpoint = endpoint.clone();
        if &endpoint.key.node == node {
            endpoint.state = worse(own_word(&endpoint)?, endpoint.state);
        }
        (endpoint.state != State::Gone).then_some(endpoint)
    };
    Some(endpoints.iter().filter_map(correct).collect())
}

/// This node's own word counts, except that the registry may drain what this node finds well.
fn worse(own: State, told: State) -> State {
    match (own, told) {
        (State::Usable, State::Draining { .. }) => told,
        _ => own,
    }
}

/// Adds this node's endpoints that the registry had no time to tell, under the names their containers offer. What it had the
/// time to tell and did not, it refused: the name is another owner's, and adding it would lead clients to the wrong service.
fn add_unreported(view: &mut View, local: Local<'_>, words: HashMap<EndpointKey, (&ContainerReport, &PortReport)>) {
    let mut added: BTreeMap<ServiceKey, Vec<Endpoint>> = BTreeMap::new();
    for (key, (container, port)) in words {
        let state = rules::state_of(container, port);
        let Some(service) = naming::service_of(container, port, None).filter(|_| state != State::Gone) else {
            continue;
        };
        let is_unfollowed = view.service(&service).is_some_and(|service| service.known_endpoints().is_none());
        if was_placed(container.run, local.current_at_ms) && !is_unfollowed {
            continue;
        }
        added.entry(service).or_default().push(endpoint(key, state, (container, port), local.az));
    }
    for (key, endpoints) in added {
        let service = view.service(&key).cloned();
        let told = service.as_ref().and_then(|service| service.known_endpoints());
        let mut merged: BTreeMap<_, _> = endpoints.into_iter().map(|e| (e.key.clone(), e)).collect();
        merged.extend(told.iter().flat_map(|set| set.iter()).map(|e| (e.key.clone(), e.clone())));
        let link = service.as_ref().and_then(|service| service.link.clone());
        let index = service.as_ref().map_or(view.index, |service| service.index);
        let endpoints = EndpointSet::Known(merged.into_values().collect());
        view.insert_service(Arc::new(Service { key, index, link, endpoints }));
    }
}

fn was_placed(run: Run, current_at_ms: u64) -> bool {
    (run.0 / 1_000_000).saturating_add(PLACING_MS) < current_at_ms
}

fn key_of(node: &NodeKey, container: &ContainerReport, port: &PortReport) -> EndpointKey {
    EndpointKey {
        node: node.clone(),
        container_id: container.id.clone(),
        run: container.run,
        container_port: port.container_port,
        protocol: port.protocol,
    }
}

fn endpoint(
    key: EndpointKey,
    state: State,
    (container, port): (&ContainerReport, &PortReport),
    az: Option<&str>,
) -> Endpoint {
    Endpoint {
        key,
        state,
        addresses: port.addresses.clone(),
        port: port.host_port,
        port_name: port.name.clone(),
        container: container.name.clone(),
        task_id: container.task_id.clone(),
        az: az.map(str::to_owned),
        weight: container.weight,
        is_service_port: true,
        tags: container.tags.clone(),
        meta: container.meta.clone(),
    }
}

#[cfg(test)]
mod tests;
