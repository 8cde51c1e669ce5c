//! From the catalog to JSON's shapes. Pure: the present is an argument.

use std::collections::HashMap;

use jiff::Timestamp;
use portolan_core::endpoint::{Endpoint, EndpointKey};
use portolan_core::lookup::{Meaning, Part, Zone};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::refusal::Refusal;
use portolan_core::view::{Link, LinkMode, Service};

use super::api;
use crate::catalog::{Catalog, Deployment, Event, Explained, ServiceRecord};

/// Unix milliseconds as RFC 3339; empty for a time that no clock shows.
pub(super) fn time(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map(|at| format!("{at:.3}")).unwrap_or_default()
}

/// The full name of a service.
pub(super) fn service_name(key: &ServiceKey, zone: &Zone) -> String {
    format!("{key}.{zone}")
}

/// The full name of a node.
pub(super) fn node_name(key: &NodeKey, zone: &Zone) -> String {
    Meaning::Node(key.clone()).full_name(zone).unwrap_or_default()
}

/// A service of a list.
pub(super) fn summary(service: &Service, zone: &Zone) -> api::ServiceSummary {
    let endpoints = endpoints(service);
    let mut ports: Vec<_> = endpoints.iter().map(|e| (e.key.container_port, e.key.protocol)).collect();
    let linked = service.link.iter().flat_map(|link| &link.ports);
    ports.extend(linked.map(|port| (port.container_port, port.protocol)));
    ports.sort_unstable();
    ports.dedup();
    api::ServiceSummary {
        cluster: service.key.cluster.to_string(),
        service: service.key.service.to_string(),
        dns_name: service_name(&service.key, zone),
        index: service.index,
        virtual_address: service.virtual_address(),
        ports: ports.into_iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect(),
        endpoints: counts(endpoints),
    }
}

/// How many endpoints stand where.
pub(super) fn counts<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>) -> api::StateCounts {
    use portolan_core::endpoint::State;
    let mut counts = api::StateCounts::default();
    for endpoint in endpoints {
        match endpoint.state {
            State::Usable => counts.usable += 1,
            State::Unverified(_) => counts.unverified += 1,
            State::Draining { .. } => counts.draining += 1,
            State::Unusable => counts.unusable += 1,
            State::Starting => counts.starting += 1,
            State::Gone => {}
        }
    }
    counts
}

/// The endpoints of a service; a registry knows all of them.
pub(super) fn endpoints(service: &Service) -> &[Endpoint] {
    service.known_endpoints().map(|endpoints| &endpoints[..]).unwrap_or_default()
}

/// A service with its endpoints.
pub(super) fn service(service: &Service, explained: Option<&Explained>, zone: &Zone) -> api::Service {
    let candidates = explained.map(|explained| explained.candidates.as_slice()).unwrap_or_default();
    let since: HashMap<&EndpointKey, u64> = candidates.iter().map(|c| (&c.key, c.since_ms)).collect();
    let one = |e: &Endpoint| endpoint(e, since.get(&e.key).copied());
    api::Service {
        cluster: service.key.cluster.to_string(),
        service: service.key.service.to_string(),
        dns_name: service_name(&service.key, zone),
        index: service.index,
        link: service.link.as_ref().map(link),
        // An endpoint always has an address; one without could not be connected to, and is not shown.
        endpoints: endpoints(service).iter().filter_map(one).collect(),
        ecs: None,
    }
}

/// What ECS says of a service.
pub(super) fn ecs_service(record: &ServiceRecord) -> api::EcsService {
    let deployment = |d: &Deployment| api::EcsDeployment {
        id: d.id.clone(),
        status: d.status.clone(),
        rollout_state: d.rollout_state.clone(),
        reason: d.reason.clone(),
        task_definition: d.task_definition.clone(),
        desired: d.desired,
        running: d.running,
        failed: d.failed,
    };
    api::EcsService {
        name: record.name.clone(),
        desired: record.desired,
        running: record.running,
        pending: record.pending,
        deployments: record.deployments.iter().map(deployment).collect(),
    }
}

/// A link.
pub(super) fn link(link: &Link) -> api::Link {
    let port = |port: &portolan_core::view::LinkPort| api::LinkPort {
        port: port.port,
        container_port: port.container_port,
        protocol: port.protocol.to_string(),
    };
    let mode = match link.mode {
        LinkMode::Vip => "vip",
        LinkMode::Direct => "direct",
    };
    api::Link { address: link.address, mode: mode.to_owned(), ports: link.ports.iter().map(port).collect() }
}

fn endpoint(endpoint: &Endpoint, since_ms: Option<u64>) -> Option<api::Endpoint> {
    Some(api::Endpoint {
        id: id(&endpoint.key, &endpoint.container, endpoint.task_id.as_deref()),
        state: endpoint.state.as_str().to_owned(),
        since: since_ms.map(time),
        address: *endpoint.addresses.first()?,
        addresses: endpoint.addresses.clone(),
        port: endpoint.port,
        port_name: endpoint.port_name.as_ref().map(ToString::to_string),
        weight: endpoint.weight,
        az: endpoint.az.clone(),
        is_service_port: endpoint.is_service_port,
        tags: endpoint.tags.clone(),
        meta: endpoint.meta.iter().cloned().collect(),
    })
}

/// Which endpoint it is.
pub(super) fn id(key: &EndpointKey, container: &Label, task_id: Option<&str>) -> api::EndpointId {
    let started = Timestamp::from_nanosecond(i128::from(key.run.0)).map(|at| at.to_string());
    api::EndpointId {
        node: key.node.node.to_string(),
        node_cluster: key.node.cluster.to_string(),
        container: container.to_string(),
        container_id: key.container_id.clone(),
        started_at: started.unwrap_or_default(),
        task_id: task_id.map(str::to_owned),
        container_port: key.container_port,
        protocol: key.protocol.to_string(),
    }
}

/// What was refused.
pub(super) fn refused(refusals: &[Refusal]) -> Vec<api::RefusedInput> {
    let one = |r: &Refusal| api::RefusedInput { field: r.field.clone(), reason: r.reason.clone() };
    refusals.iter().map(one).collect()
}

/// A change.
pub(super) fn change(event: &Event, catalog: &Catalog) -> api::Change {
    let candidates = catalog.explained.get(&event.service).map(|e| e.candidates.as_slice()).unwrap_or_default();
    let candidate = candidates.iter().find(|candidate| candidate.key == event.endpoint);
    api::Change {
        index: event.index,
        at: time(event.at_ms),
        cluster: event.service.cluster.to_string(),
        service: event.service.service.to_string(),
        id: id(&event.endpoint, &event.container, candidate.and_then(|c| c.task_id.as_deref())),
        address: candidate.and_then(|c| c.addresses.first().copied()),
        port: candidate.map(|c| c.port),
        from: event.from.map(|state| state.as_str().to_owned()),
        to: event.to.as_str().to_owned(),
        reason: reason(event),
    }
}

fn reason(event: &Event) -> String {
    let mut reason = event.rule.map_or("it is no longer reported", |rule| rule.text()).to_owned();
    if let Some(said) = &event.order_reason {
        reason.push_str(&format!(", reason: {said}"));
    }
    if let Some(code) = event.exit_code {
        reason.push_str(&format!(", exit code {code}"));
    }
    if event.is_out_of_memory {
        reason.push_str(", out of memory");
    }
    reason
}

/// Whether a candidate is one that `part` of the service's name speaks of, by what it says itself.
pub(super) fn is_meant(candidate: &crate::catalog::Candidate, part: &Part) -> bool {
    match part {
        Part::Whole | Part::Direct => true,
        Part::ProtocolBranch(protocol) => candidate.key.protocol == *protocol,
        Part::Port(port, protocol) => {
            candidate.key.protocol == *protocol && port.as_str().parse() == Ok(candidate.key.container_port)
        }
        Part::Named(name) => {
            let id = candidate.task_id.as_deref().unwrap_or_default();
            &candidate.container == name || (name.as_str().len() >= 12 && id.starts_with(name.as_str()))
        }
    }
}
