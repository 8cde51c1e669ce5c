//! The link table: what the relay and the kernel need to know of a view, worked out once per change.
//!
//! A new table shares with the one before what did not change, so that one change among thousands of services costs
//! little more than looking at each of them.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use portolan_core::endpoint::{Endpoint, Protocol};
use portolan_core::labels::LinkOptions;
use portolan_core::name::ServiceKey;
use portolan_core::reach::may_be_reached;
use portolan_core::selection::Rank;
use portolan_core::view::{EndpointSet, LinkPort, Readiness, Service, View};
use tokio::time::Instant;

use super::LinkSettings;
use super::choice::{Experience, Nearness, Target};
use super::figures::{LinkFigures, LinkStatus, PortStatus, endpoint_status};
use crate::netlink::table::LinkAddress;

/// An address and port, and what is spoken there: TCP and UDP have ports of their own.
pub(super) type Place = (LinkAddress, Protocol);

/// All links at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    services: imbl::HashMap<ServiceKey, Arc<LinkedService>>,
    ports: imbl::HashMap<Place, Arc<Link>>,
    /// Of the view that it was worked out from.
    pub(super) readiness: Readiness,
    /// That view's index.
    pub(super) index: u64,
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
#[derive(Debug, Clone)]
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
    /// The table of `view`, and every place at which it may differ from this one.
    pub(super) fn next(&self, view: &View, (settings, now): (&LinkSettings, Instant)) -> (Table, Vec<Place>) {
        let mut table = Table { readiness: view.readiness, index: view.index, ..self.clone() };
        let (mut touched, mut changed, mut withdrawn) = (Vec::new(), Vec::new(), Vec::new());
        let mut count = 0;
        for service in view.services.values() {
            let Some(address) = linked_address(service, settings) else { continue };
            count += 1;
            let before = table.services.get(&service.key);
            if before.is_some_and(|before| Arc::ptr_eq(&before.service, service)) {
                continue;
            }
            changed.push(Arc::new(LinkedService::new((service, address), before.map(Arc::as_ref), (settings, now))));
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
    fn pass_on(&mut self, withdrawn: &[Arc<LinkedService>], touched: &mut Vec<Place>) {
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

    fn announce(&mut self, linked: Arc<LinkedService>, touched: &mut Vec<Place>) {
        for link in &linked.links {
            let at = linked.place(link);
            // Two owners of one address are the registry's mistake; the one that has it keeps it.
            if self.ports.get(&at).is_none_or(|owner| owner.key == link.key) {
                self.ports.insert(at, link.clone());
                touched.push(at);
            }
        }
        self.services.insert(linked.service.key.clone(), linked);
    }

    fn withdraw(&mut self, linked: &LinkedService, touched: &mut Vec<Place>) {
        for link in &linked.links {
            let at = linked.place(link);
            if self.ports.get(&at).is_some_and(|owner| owner.key == link.key) {
                self.ports.remove(&at);
                touched.push(at);
            }
        }
    }

    /// The link at that place.
    pub(super) fn link(&self, place: Place) -> Option<&Arc<Link>> {
        self.ports.get(&place)
    }

    /// What became of `link`.
    pub(super) fn same(&self, link: &Link) -> Option<&Arc<Link>> {
        let linked = self.services.get(&link.key)?;
        linked.links.iter().find(|other| (other.port.port, other.port.protocol) == (link.port.port, link.port.protocol))
    }

    /// Whether the kernel sends what comes to that place to the relay: its endpoints are unknown yet, or there is one to
    /// choose.
    pub(super) fn is_open(&self, place: Place) -> bool {
        self.link(place).is_some_and(|link| match &link.targets {
            Targets::Unknown => true,
            Targets::Known(targets) => !targets.is_empty(),
        })
    }

    /// Every TCP link that is open, and its service.
    pub(super) fn linked(&self) -> impl Iterator<Item = (LinkAddress, &Link, &Service)> {
        let open = self.ports.iter().filter(|(place, _)| place.1 == Protocol::Tcp && self.is_open(**place));
        open.filter_map(|((address, _), link)| {
            let linked = self.services.get(&link.key)?;
            Some((*address, link.as_ref(), linked.service.as_ref()))
        })
    }

    /// All that are open of one protocol.
    pub(super) fn open(&self, protocol: Protocol) -> HashSet<LinkAddress> {
        let open = self.ports.keys().filter(|place| place.1 == protocol && self.is_open(**place));
        open.map(|(address, _)| *address).collect()
    }

    /// What `portolan links` shows, in the order of the services' names.
    pub(super) fn status(&self, now: Instant) -> Vec<LinkStatus> {
        let mut status: Vec<LinkStatus> = self.services.values().map(|linked| linked.status(now)).collect();
        status.sort_by(|a, b| a.service.cmp(&b.service));
        status
    }
}

impl LinkedService {
    fn new(
        (service, address): (&Arc<Service>, Ipv4Addr),
        before: Option<&LinkedService>,
        (settings, now): (&LinkSettings, Instant),
    ) -> LinkedService {
        let figures = before.map_or_else(Arc::default, |before| before.figures.clone());
        let met = before.into_iter().flat_map(LinkedService::targets);
        let met = met.map(|(protocol, target)| ((target.address(), protocol), &target.endpoint)).collect();
        let ports = service.link.as_ref().map_or(&[][..], |link| &link.ports);
        let mut links: Vec<Arc<Link>> = Vec::new();
        for port in ports {
            // Two ports of the address may lead to the same endpoints.
            let behind = |port: &LinkPort| (port.container_port, port.protocol);
            let same = links.iter().find(|link| behind(&link.port) == behind(port));
            let targets =
                same.map_or_else(|| targets(service, *port, (settings, &met, now)), |link| link.targets.clone());
            links.push(Arc::new(Link { key: service.key.clone(), port: *port, targets, figures: figures.clone() }));
        }
        LinkedService { service: service.clone(), address, links, figures }
    }

    /// Where it is linked by `link`.
    fn place(&self, link: &Link) -> Place {
        ((self.address, link.port.port), link.port.protocol)
    }

    /// All of its targets; those of two ports that lead to the same come twice.
    fn targets(&self) -> impl Iterator<Item = (Protocol, &Target)> {
        self.links.iter().flat_map(|link| {
            let targets = match &link.targets {
                Targets::Unknown => [].iter(),
                Targets::Known(targets) => targets.iter(),
            };
            targets.map(|target| (link.port.protocol, target))
        })
    }

    fn status(&self, now: Instant) -> LinkStatus {
        let ports = self.links.iter().map(|link| PortStatus {
            port: link.port.port,
            protocol: link.port.protocol,
            container_port: link.port.container_port,
            endpoints: match &link.targets {
                Targets::Unknown => None,
                Targets::Known(targets) => Some(targets.iter().map(Target::address).collect()),
            },
        });
        let mut endpoints: Vec<_> =
            self.targets().map(|(protocol, target)| endpoint_status((target, protocol), now)).collect();
        endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.protocol));
        endpoints.dedup_by_key(|endpoint| (endpoint.address, endpoint.protocol));
        self.figures.status((&self.service.key, self.address), ports.collect(), endpoints)
    }
}

/// Whatever its names answer: clients keep an address for ever. One outside the range would never reach us.
fn linked_address(service: &Service, settings: &LinkSettings) -> Option<Ipv4Addr> {
    let address = service.link.as_ref().map(|link| link.address);
    address.filter(|address| settings.range.contains(address))
}

/// What was met with the endpoints of a service, by where they are.
type Met<'a> = HashMap<(SocketAddr, Protocol), &'a Arc<Experience>>;

/// Where `port` of `service` leads, best first.
fn targets(service: &Service, port: LinkPort, (settings, met, now): (&LinkSettings, &Met<'_>, Instant)) -> Targets {
    let EndpointSet::Known(endpoints) = &service.endpoints else { return Targets::Unknown };
    let is_behind = |endpoint: &&Endpoint| {
        endpoint.is_service_port
            && endpoint.key.container_port == port.container_port
            && endpoint.key.protocol == port.protocol
    };
    let target = |endpoint: &Endpoint| {
        let rank = Rank::of(endpoint.state)?;
        let ip = *endpoint.addresses.iter().find(|ip| may_be_reached(**ip, settings.range))?;
        if endpoint.port == 0 {
            return None;
        }
        let address = SocketAddr::new(ip, endpoint.port);
        let options = LinkOptions::of(&endpoint.meta);
        let known = met.get(&(address, port.protocol)).filter(|known| known.is_of(endpoint, (address, options)));
        let new = || Arc::new(Experience::new(endpoint.key.clone(), address, (options, now)));
        let nearness = Nearness::of(endpoint, settings);
        let experience = known.map_or_else(new, |known| Arc::clone(known));
        Some(Target { rank, nearness, weight: endpoint.weight, endpoint: experience })
    };
    let mut targets: Vec<Target> = endpoints.iter().filter(is_behind).filter_map(target).collect();
    targets.sort_by_key(|target| (target.rank, target.nearness, target.address()));
    let mut seen = HashSet::new();
    targets.retain(|target| seen.insert(target.address()));
    Targets::Known(targets.into())
}

#[cfg(test)]
mod tests;
