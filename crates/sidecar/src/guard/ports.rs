//! Which host ports are closed to other hosts, whose they were, and when they open. Pure.
//!
//! A port is closed when a container that other nodes may have been led to no longer has it. It opens at once for
//! a container of the same service; for everybody when the registry released the former endpoint, or when the time is
//! over. Until then what has the port by now is announced as starting.

use std::collections::BTreeMap;
use std::time::Duration;

use portolan_core::endpoint::{Run, State};
use portolan_core::evidence::{ContainerReport, Health, Phase, PortReport};
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::naming;
use portolan_core::refusal::Refusal;
use portolan_core::view::View;
use portolan_proto::release::{Heir, Released};
use tokio::time::Instant;

use crate::netlink::guard::HostPort;

/// How many ports are closed at once. The oldest stay: what is freed beyond them is not guarded.
pub(super) const CLOSED_MAX: usize = 4_096;
/// How long a released port stays closed: DNS answers that led there are in clients' caches for as long as their TTL.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// A port of a run of a container, as the registry names endpoints, and its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Occupant {
    pub(super) service: ServiceKey,
    /// Whether this node knows the service: a name that ECS may still change is not known here.
    pub(super) is_certain: bool,
    /// Docker's id, or its first 12 digits.
    pub(super) container_id: String,
    pub(super) run: Run,
    pub(super) container_port: u16,
    /// Whether it was ever announced as more than starting: before that nobody is led to it.
    pub(super) was_announced: bool,
}

/// Why a port opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Opening {
    /// A container of the service whose it was has it again.
    SameService,
    /// Everybody who followed the former endpoint dropped it.
    Released,
    /// Its time was over.
    Expired,
}

/// A port that is closed.
#[derive(Debug, Clone)]
pub(super) struct Closed {
    pub(super) was: Occupant,
    pub(super) opens_at: Instant,
    pub(super) by: Opening,
    /// Who may have it before, by the registry's word: it is of the same service.
    pub(super) heir: Option<Heir>,
}

/// What changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) closed: Vec<HostPort>,
    pub(super) opened: Vec<(HostPort, Opening)>,
    /// Freed, and not closed because too many are.
    pub(super) left_open: usize,
}

/// All ports of this node.
#[derive(Debug)]
pub(super) struct Ports {
    guard: Duration,
    occupants: BTreeMap<HostPort, Vec<Occupant>>,
    closed: BTreeMap<HostPort, Closed>,
}

impl Ports {
    /// `guard` is how long a port stays closed at most. What `view` knows of `node` counts as having been announced, so that
    /// a death that nobody saw closes its port, too.
    pub(super) fn new(guard: Duration, view: &View, node: &NodeKey) -> Self {
        let mut occupants: BTreeMap<HostPort, Vec<Occupant>> = BTreeMap::new();
        for service in view.services.values() {
            let endpoints = service.known_endpoints().into_iter().flat_map(|endpoints| endpoints.iter());
            let is_announced = |state: State| !matches!(state, State::Starting | State::Gone);
            for endpoint in endpoints.filter(|e| &e.key.node == node && e.port != 0 && is_announced(e.state)) {
                let at = HostPort { protocol: endpoint.key.protocol, port: endpoint.port };
                occupants.entry(at).or_default().push(Occupant {
                    service: service.key.clone(),
                    is_certain: true,
                    container_id: endpoint.key.container_id.clone(),
                    run: endpoint.key.run,
                    container_port: endpoint.key.container_port,
                    was_announced: true,
                });
            }
        }
        Ports { guard, occupants, closed: BTreeMap::new() }
    }

    /// What the kernel has kept closed since an earlier run.
    pub(super) fn restore(&mut self, closed: impl Iterator<Item = (HostPort, Occupant, Duration)>, now: Instant) {
        for (at, was, left) in closed.take(CLOSED_MAX) {
            self.closed
                .insert(at, Closed { was, opens_at: now + left.min(self.guard), by: Opening::Expired, heir: None });
        }
    }

    /// Takes what this node's containers are by now.
    pub(super) fn look(&mut self, reports: &[ContainerReport], now: Instant) -> Changes {
        let before = std::mem::replace(&mut self.occupants, occupants(reports));
        let mut changes = Changes::default();
        for (at, were) in &before {
            let here = self.occupants.get(at).map_or(&[][..], |here| here);
            let stays = |was: &Occupant| here.iter().any(|occupant| occupant.is_same(was));
            // Shared all along, as processes on the host's network may: then it is nobody's in particular.
            if were.iter().any(&stays) {
                continue;
            }
            let Some(was) = were.iter().find(|was| was.was_announced) else { continue };
            if self.closed.len() >= CLOSED_MAX && !self.closed.contains_key(at) {
                changes.left_open += 1;
                continue;
            }
            let closed = Closed { was: was.clone(), opens_at: now + self.guard, by: Opening::Expired, heir: None };
            self.closed.insert(*at, closed);
            changes.closed.push(*at);
        }
        self.open_for_own(&mut changes);
        for (at, here) in &mut self.occupants {
            let is_open = !self.closed.contains_key(at);
            let known = before.get(at).map_or(&[][..], |known| known);
            for occupant in here {
                let was_announced = known.iter().any(|known| known.is_same(occupant) && known.was_announced);
                // At a port that is closed everything is announced as starting.
                occupant.was_announced = was_announced || (is_open && occupant.was_announced);
            }
        }
        changes
    }

    /// Opens what the service has that had it. What was closed a moment ago for the same look never was.
    fn open_for_own(&mut self, changes: &mut Changes) {
        let occupants = &self.occupants;
        let has_own = |at: &HostPort, closed: &Closed| {
            let is_own = |occupant: &Occupant| occupant.is_of_service_of(&closed.was) || occupant.is_heir_of(closed);
            occupants.get(at).is_some_and(|here| here.iter().any(is_own))
        };
        let opened: Vec<HostPort> =
            self.closed.iter().filter(|(at, closed)| has_own(at, closed)).map(|e| *e.0).collect();
        for at in opened {
            self.closed.remove(&at);
            let closed_now = changes.closed.iter().position(|closed| *closed == at);
            match closed_now {
                Some(position) => {
                    changes.closed.remove(position);
                }
                None => changes.opened.push((at, Opening::SameService)),
            }
        }
    }

    /// The registry's word about former endpoints. What it says of others is no concern of this node.
    pub(super) fn release(&mut self, released: &[Released], now: Instant) {
        for (at, closed) in &mut self.closed {
            let is_it = |released: &&Released| released.protocol == at.protocol && closed.was.is_named_by(released);
            let Some(released) = released.iter().find(is_it) else { continue };
            // Another one may have the port by now: the next look tells.
            closed.heir.clone_from(&released.heir);
            if released.heir.is_none() && now + LINGER < closed.opens_at {
                (closed.opens_at, closed.by) = (now + LINGER, Opening::Released);
            }
        }
    }

    /// Opens what is due.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(HostPort, Opening)> {
        let is_due = |(at, closed): (&HostPort, &Closed)| (closed.opens_at <= now).then_some((*at, closed.by));
        let due: Vec<_> = self.closed.iter().filter_map(is_due).collect();
        due.iter().for_each(|(at, _)| {
            self.closed.remove(at);
        });
        due
    }

    /// When [`Ports::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.closed.values().map(|closed| closed.opens_at).min()
    }

    /// All that are closed.
    pub(super) fn closed(&self) -> &BTreeMap<HostPort, Closed> {
        &self.closed
    }

    /// Writes into `reports` what other nodes may know: at a port that is closed nothing has passed yet.
    pub(super) fn hold(&self, reports: &mut [ContainerReport]) {
        for container in reports.iter_mut().filter(|container| is_living(container)) {
            for index in 0..container.ports.len() {
                let port = &mut container.ports[index];
                let Some(closed) = self.closed.get(&place(port)) else { continue };
                port.health = Health::Starting;
                let field = format!("port {}/{}", port.container_port, port.protocol);
                let reason = format!(
                    "host port {} is closed to other hosts for the moment: it belonged to {}",
                    port.host_port, closed.was.service
                );
                container.refusals.push(Refusal::new(field, reason));
            }
        }
    }
}

impl Occupant {
    fn is_same(&self, other: &Occupant) -> bool {
        let is_prefix = |one: &str, other: &str| one.starts_with(other) || other.starts_with(one);
        self.run == other.run && is_prefix(&self.container_id, &other.container_id)
    }

    fn is_of_service_of(&self, former: &Occupant) -> bool {
        self.is_certain && former.is_certain && self.service == former.service
    }

    fn is_heir_of(&self, closed: &Closed) -> bool {
        closed.heir.as_ref().is_some_and(|heir| (&heir.container_id, heir.run) == (&self.container_id, self.run))
    }

    fn is_named_by(&self, released: &Released) -> bool {
        self.run == released.run
            && self.container_port == released.container_port
            && !self.container_id.is_empty()
            && released.container_id.starts_with(&self.container_id)
    }
}

fn is_living(container: &ContainerReport) -> bool {
    !matches!(container.phase, Phase::Died(_))
}

fn place(port: &PortReport) -> HostPort {
    HostPort { protocol: port.protocol, port: port.host_port }
}

/// Who has which port. What is refused as a whole is nobody's endpoint.
fn occupants(reports: &[ContainerReport]) -> BTreeMap<HostPort, Vec<Occupant>> {
    let mut occupants: BTreeMap<HostPort, Vec<Occupant>> = BTreeMap::new();
    for container in reports.iter().filter(|container| is_living(container) && !container.is_refused) {
        for port in container.ports.iter().filter(|port| port.host_port != 0) {
            let Some(service) = naming::service_of(container, port, None) else { continue };
            let is_labelled = naming::by_label(&container.candidates, port.registrator_name.as_ref()).is_some();
            occupants.entry(place(port)).or_default().push(Occupant {
                service,
                is_certain: is_labelled || container.task_arn.is_none(),
                container_id: container.id.clone(),
                run: container.run,
                container_port: port.container_port,
                was_announced: port.health != Health::Starting,
            });
        }
    }
    occupants
}

#[cfg(test)]
mod tests;
