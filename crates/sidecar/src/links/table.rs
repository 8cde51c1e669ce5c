//! The link table: what the relay and the kernel need to know of a view, worked out once per change.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use portolan_core::endpoint::{Endpoint, Protocol};
use portolan_core::name::ServiceKey;
use portolan_core::view::{EndpointSet, LinkPort, Service, View};

use super::LinkSettings;
use super::choice::{Nearness, Target, is_allowed, rank};
use super::counters::{LinkFigures, LinkStatus, PortStatus};
use crate::netlink::table::LinkAddress;

/// All links at one moment.
#[derive(Debug, Default)]
pub(super) struct Table {
    services: HashMap<ServiceKey, LinkedService>,
    ports: HashMap<LinkAddress, Arc<Link>>,
}

/// One port of one virtual address.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) key: ServiceKey,
    pub(super) port: LinkPort,
    pub(super) targets: Targets,
    pub(super) figures: Arc<LinkFigures>,
}

/// Where a link leads.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Targets {
    /// The service is not followed yet: follow it at the first connection.
    Unknown,
    /// Best first; an empty list is refused by the kernel.
    Known(Arc<[Target]>),
}

/// A service as it was when its links were worked out.
#[derive(Debug, Clone)]
struct LinkedService {
    service: Arc<Service>,
    address: Ipv4Addr,
    links: Vec<Arc<Link>>,
    figures: Arc<LinkFigures>,
}

impl Table {
    /// The table of `view`; what did not change is shared with this one.
    pub(super) fn next(&self, view: &View, settings: &LinkSettings) -> Table {
        let mut table = Table::default();
        for service in view.services.values() {
            let Some(address) = service.virtual_address() else { continue };
            // An address outside the range would never reach us; two owners of one are the registry's mistake: first wins.
            if !settings.range.contains(&address) {
                continue;
            }
            let before = self.services.get(&service.key);
            let linked = match before {
                Some(before) if Arc::ptr_eq(&before.service, service) => before.clone(),
                Some(_) | None => LinkedService::new(service, address, (before, settings)),
            };
            for link in &linked.links {
                table.ports.entry((address, link.port.port)).or_insert_with(|| link.clone());
            }
            table.services.insert(service.key.clone(), linked);
        }
        table
    }

    /// The link at that address and port.
    pub(super) fn link(&self, address: LinkAddress) -> Option<&Arc<Link>> {
        self.ports.get(&address)
    }

    /// The addresses and ports that the kernel sends to the relay: unknown yet, or with an endpoint to connect to.
    pub(super) fn addresses(&self) -> HashSet<LinkAddress> {
        let is_open = |link: &Link| match &link.targets {
            Targets::Unknown => true,
            Targets::Known(targets) => !targets.is_empty(),
        };
        self.ports.iter().filter(|(_, link)| is_open(link)).map(|(address, _)| *address).collect()
    }

    /// What `portolan links` shows.
    pub(super) fn status(&self) -> Vec<LinkStatus> {
        let mut status: Vec<LinkStatus> = self.services.values().map(LinkedService::status).collect();
        status.sort_by(|a, b| a.service.cmp(&b.service));
        status
    }
}

impl LinkedService {
    fn new(
        service: &Arc<Service>,
        address: Ipv4Addr,
        (before, settings): (Option<&LinkedService>, &LinkSettings),
    ) -> LinkedService {
        let figures = before.map_or_else(Arc::default, |before| before.figures.clone());
        let ports = service.link.as_ref().map_or(&[][..], |link| &link.ports);
        // UDP is not relayed: the kernel refuses it.
        let links = ports.iter().filter(|port| port.protocol == Protocol::Tcp).map(|port| {
            let targets = targets(service, *port, settings);
            Arc::new(Link { key: service.key.clone(), port: *port, targets, figures: figures.clone() })
        });
        LinkedService { service: service.clone(), address, links: links.collect(), figures }
    }

    fn status(&self) -> LinkStatus {
        let ports = self.links.iter().map(|link| PortStatus {
            port: link.port.port,
            container_port: link.port.container_port,
            endpoints: match &link.targets {
                Targets::Unknown => None,
                Targets::Known(targets) => Some(targets.iter().map(|target| target.address).collect()),
            },
        });
        LinkStatus::new(&self.service.key, self.address, (ports.collect(), &self.figures))
    }
}

/// Where `port` of `service` leads, best first.
pub(super) fn targets(service: &Service, port: LinkPort, settings: &LinkSettings) -> Targets {
    let EndpointSet::Known(endpoints) = &service.endpoints else { return Targets::Unknown };
    let is_behind = |endpoint: &&Endpoint| {
        endpoint.is_service_port
            && endpoint.key.container_port == port.container_port
            && endpoint.key.protocol == port.protocol
    };
    let target = |endpoint: &Endpoint| {
        let rank = rank(endpoint.state)?;
        let ip = *endpoint.addresses.iter().find(|ip| is_allowed(**ip, settings.range))?;
        let nearness = Nearness::of(endpoint, settings);
        let is_port = endpoint.port != 0;
        is_port.then_some(Target { rank, nearness, address: SocketAddr::new(ip, endpoint.port) })
    };
    let mut targets: Vec<Target> = endpoints.iter().filter(is_behind).filter_map(target).collect();
    targets.sort();
    targets.dedup_by_key(|target| target.address);
    Targets::Known(targets.into())
}
