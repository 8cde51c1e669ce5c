//! The link table: what the relay and the kernel need to know of a view, worked out once per change.
//!
//! A new table shares with the one before what did not change, so that one change among thousands of services costs
//! little more than looking at each of them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use portolan_core::endpoint::{Endpoint, Protocol};
use portolan_core::name::ServiceKey;
use portolan_core::reach::may_be_reached;
use portolan_core::selection::Rank;
use portolan_core::view::{EndpointSet, LinkPort, Readiness, Service, View};

use super::LinkSettings;
use super::choice::{Nearness, Target};
use super::counters::{LinkFigures, LinkStatus, PortStatus};
use crate::netlink::table::LinkAddress;

/// All links at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    services: imbl::HashMap<ServiceKey, Arc<LinkedService>>,
    ports: imbl::HashMap<LinkAddress, Arc<Link>>,
    /// Of the view that it was worked out from.
    pub(super) readiness: Readiness,
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
#[derive(Debug)]
struct LinkedService {
    service: Arc<Service>,
    address: Ipv4Addr,
    links: Vec<Arc<Link>>,
    figures: Arc<LinkFigures>,
}

impl Table {
    /// The table of `view`, and every address and port at which it may differ from this one.
    pub(super) fn next(&self, view: &View, settings: &LinkSettings) -> (Table, Vec<LinkAddress>) {
        let mut table = Table { readiness: view.readiness, ..self.clone() };
        let (mut touched, mut changed, mut withdrawn) = (Vec::new(), Vec::new(), Vec::new());
        let mut count = 0;
        for service in view.services.values() {
            let Some(address) = linked_address(service, settings) else { continue };
            count += 1;
            let before = table.services.get(&service.key);
            if before.is_some_and(|before| Arc::ptr_eq(&before.service, service)) {
                continue;
            }
            changed.push(Arc::new(LinkedService::new((service, address), before.map(Arc::as_ref), settings)));
            withdrawn.extend(before.cloned());
        }
        if table.services.len() + changed.len() != count + withdrawn.len() {
            let is_gone = |(key, _): &(&ServiceKey, &Arc<LinkedService>)| {
                view.service(key).is_none_or(|service| linked_address(service, settings).is_none())
            };
            withdrawn.extend(table.services.iter().filter(is_gone).map(|(_, linked)| linked.clone()));
        }
        // All addresses are free before the first is taken: they may have changed hands.
        for linked in &withdrawn {
            table.services.remove(&linked.service.key);
            table.withdraw(linked, &mut touched);
        }
        changed.into_iter().for_each(|linked| table.announce(linked, &mut touched));
        table.pass_on(&withdrawn, &mut touched);
        (table, touched)
    }

    /// Gives addresses that were given up to those that were told to have them, too.
    fn pass_on(&mut self, withdrawn: &[Arc<LinkedService>], touched: &mut Vec<LinkAddress>) {
        let is_free = |linked: &&Arc<LinkedService>| {
            self.services.get(&linked.service.key).is_none_or(|now| now.address != linked.address)
        };
        let free: HashSet<Ipv4Addr> = withdrawn.iter().filter(is_free).map(|linked| linked.address).collect();
        if free.is_empty() {
            return;
        }
        let heirs: Vec<_> = self.services.values().filter(|linked| free.contains(&linked.address)).cloned().collect();
        heirs.into_iter().for_each(|heir| self.announce(heir, touched));
    }

    fn announce(&mut self, linked: Arc<LinkedService>, touched: &mut Vec<LinkAddress>) {
        for link in &linked.links {
            let at = (linked.address, link.port.port);
            // Two owners of one address are the registry's mistake; the one that has it keeps it.
            if self.ports.get(&at).is_none_or(|owner| owner.key == link.key) {
                self.ports.insert(at, link.clone());
                touched.push(at);
            }
        }
        self.services.insert(linked.service.key.clone(), linked);
    }

    fn withdraw(&mut self, linked: &LinkedService, touched: &mut Vec<LinkAddress>) {
        for link in &linked.links {
            let at = (linked.address, link.port.port);
            if self.ports.get(&at).is_some_and(|owner| owner.key == link.key) {
                self.ports.remove(&at);
                touched.push(at);
            }
        }
    }

    /// The link at that address and port.
    pub(super) fn link(&self, address: LinkAddress) -> Option<&Arc<Link>> {
        self.ports.get(&address)
    }

    /// What became of `link`.
    pub(super) fn same(&self, link: &Link) -> Option<&Arc<Link>> {
        let linked = self.services.get(&link.key)?;
        linked.links.iter().find(|other| other.port.port == link.port.port)
    }

    /// Whether the kernel sends connections to that address and port to the relay: its endpoints are unknown yet, or there
    /// is one to connect to.
    pub(super) fn is_open(&self, address: LinkAddress) -> bool {
        self.link(address).is_some_and(|link| match &link.targets {
            Targets::Unknown => true,
            Targets::Known(targets) => !targets.is_empty(),
        })
    }

    /// Every link that is open, and its service.
    pub(super) fn linked(&self) -> impl Iterator<Item = (LinkAddress, &Link, &Service)> {
        self.ports.iter().filter(|(address, _)| self.is_open(**address)).filter_map(|(address, link)| {
            let linked = self.services.get(&link.key)?;
            Some((*address, link.as_ref(), linked.service.as_ref()))
        })
    }

    /// All that are open.
    pub(super) fn open(&self) -> HashSet<LinkAddress> {
        self.ports.keys().copied().filter(|address| self.is_open(*address)).collect()
    }

    /// What `portolan links` shows.
    pub(super) fn status(&self) -> Vec<LinkStatus> {
        let mut status: Vec<LinkStatus> = self.services.values().map(|linked| linked.status()).collect();
        status.sort_by(|a, b| a.service.cmp(&b.service));
        status
    }
}

impl LinkedService {
    fn new(
        (service, address): (&Arc<Service>, Ipv4Addr),
        before: Option<&LinkedService>,
        settings: &LinkSettings,
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

/// An address outside the range would never reach us.
fn linked_address(service: &Service, settings: &LinkSettings) -> Option<Ipv4Addr> {
    service.virtual_address().filter(|address| settings.range.contains(address))
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
        let rank = Rank::of(endpoint.state)?;
        let ip = *endpoint.addresses.iter().find(|ip| may_be_reached(**ip, settings.range))?;
        let nearness = Nearness::of(endpoint, settings);
        let is_port = endpoint.port != 0;
        is_port.then_some(Target { rank, nearness, address: SocketAddr::new(ip, endpoint.port) })
    };
    let mut targets: Vec<Target> = endpoints.iter().filter(is_behind).filter_map(target).collect();
    targets.sort();
    targets.dedup_by_key(|target| target.address);
    Targets::Known(targets.into())
}

#[cfg(test)]
mod tests;
