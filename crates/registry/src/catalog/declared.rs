//! Endpoints that an operator declared, as claims: one for each address that a declared host has.
//!
//! An address is its own host and needs nobody to look it up; a name has no endpoint before it was looked up. What is no
//! longer declared has none, wherever it was found.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use portolan_core::endpoint::Run;
use portolan_core::evidence::{ContainerReport, Health, LinkWish, NameCandidates, Phase, PortReport};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::naming::NameSource;
use portolan_core::rules::{Declared as Check, Ecs, Neighbours};

use super::announce;
use super::join::{self, Claimant, Said};
use super::naming::Claim;
use super::stated::Stated;
use crate::store::evidence::{CheckState, ExternalEndpoint, ExternalRecord, ResolvedRecord};

/// The node that declared endpoints stand under: none that a machine has.
const NODE: &str = "external";

/// What is declared of one service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) node: NodeKey,
    pub(super) claims: Vec<Claim>,
    /// When it was declared, Unix milliseconds.
    pub(super) since_ms: u64,
}

/// What is declared of `service`, if anything is.
pub(super) fn of(service: &ServiceKey, stated: &Stated, range: Ipv4Net) -> Option<Declared> {
    let record = stated.externals.get(service).filter(|record| !record.endpoints.is_empty())?;
    let node = NodeKey { cluster: service.cluster.clone(), node: Label::fixed(NODE) };
    let found = stated.resolved.get(service).map(AsRef::as_ref);
    let mut claims: BTreeMap<_, Claim> = BTreeMap::new();
    for endpoint in &record.endpoints {
        for (address, check) in places(endpoint, record, found) {
            let container = Arc::new(container(service, record, endpoint, address));
            let said = Said {
                claimant: Claimant::Declared(check),
                ecs: Ecs::NotUsed,
                neighbours: Neighbours::NotKnown,
                operator: join::operator(stated, &node, None, &container.id),
                may_go: false,
            };
            let az = endpoint.az.as_deref().map(Arc::from);
            let place = (container.id.clone(), endpoint.port, endpoint.protocol);
            claims.entry(place).or_insert_with(|| Claim { az, ..claim(container, said, range) });
        }
    }
    Some(Declared { node, claims: claims.into_values().collect(), since_ms: record.since_ms })
}

/// Where an endpoint is, and how its check goes there.
fn places(
    endpoint: &ExternalEndpoint,
    record: &ExternalRecord,
    found: Option<&ResolvedRecord>,
) -> BTreeMap<IpAddr, Check> {
    let is_same = |place: &&_| {
        let place: &crate::store::evidence::ResolvedPlace = place;
        (&place.host, place.port, place.protocol) == (&endpoint.host, endpoint.port, endpoint.protocol)
    };
    let resolved = found.into_iter().flat_map(|found| &found.places).filter(is_same);
    // What a check said that is no longer declared says nothing.
    let counted = |state: Option<CheckState>| state.filter(|_| record.check_every_ms.is_some());
    let mut places: BTreeMap<_, _> = resolved.map(|place| (place.address, check(counted(place.check)))).collect();
    if let Ok(address) = endpoint.host.parse() {
        let unheard = if record.check_every_ms.is_some() { Check::Starting } else { Check::Unchecked };
        places.entry(address).or_insert(unheard);
    }
    places
}

fn check(state: Option<CheckState>) -> Check {
    match state {
        None => Check::Unchecked,
        Some(CheckState::Starting) => Check::Starting,
        Some(CheckState::Passing) => Check::Passing,
        Some(CheckState::Failing) => Check::Failing,
    }
}

/// An id in the letters of a container's: the host, and the address that it has, if that is something else.
fn id(host: &str, address: IpAddr) -> String {
    let text = if host.parse() == Ok(address) { host.to_owned() } else { format!("{host}-{address}") };
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// In the words of a sidecar's report, so that it is answered by the same code. What it says of life and health is not read.
fn container(
    service: &ServiceKey,
    record: &ExternalRecord,
    endpoint: &ExternalEndpoint,
    address: IpAddr,
) -> ContainerReport {
    let port = PortReport {
        container_port: endpoint.port,
        protocol: endpoint.protocol,
        host_port: endpoint.port,
        addresses: vec![address],
        name: endpoint.port_name.clone(),
        registrator_name: None,
        health: Health::Passing,
        is_dynamic: false,
    };
    ContainerReport {
        id: id(&endpoint.host, address),
        run: Run(0),
        cluster: service.cluster.clone(),
        candidates: NameCandidates::default(),
        name: Label::sanitise(&endpoint.host).unwrap_or_else(|_| Label::fixed(NODE)),
        task_arn: None,
        task_id: None,
        phase: Phase::Running,
        ports: vec![port],
        link: LinkWish::default(),
        is_primary: false,
        tags: record.tags.clone(),
        meta: record.meta.clone(),
        weight: endpoint.weight,
        refusals: Vec::new(),
        is_refused: false,
    }
}

fn claim(container: Arc<ContainerReport>, said: Said, range: Ipv4Net) -> Claim {
    let declared: Vec<IpAddr> = container.ports.iter().flat_map(|port| port.addresses.iter().copied()).collect();
    let addresses = announce::announced(&declared, range);
    Claim {
        source: NameSource::External,
        ecs_service: None,
        port: Some(0),
        port_name: container.ports.first().and_then(|port| port.name.clone()),
        refusal: addresses.is_empty().then(|| announce::refusal(format!("host `{}`", container.name))),
        addresses,
        az: None,
        said,
        container,
    }
}
