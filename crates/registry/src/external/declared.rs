//! One declared service: the names that it follows, the checks of its places, and the record that follows. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use portolan_core::endpoint::Protocol;
use tokio::time::Instant;

use super::check::Check;
use super::host::Host;
use crate::intake::statement::{ExternalRecord, ResolvedPlace, ResolvedRecord};

/// Addresses of one service that count: as many as make sense behind one name, and a bound on checks.
pub(super) const PLACES_MAX: usize = 400;

/// Something that is done again and again. `None`: it is under way.
#[derive(Debug)]
pub(super) struct Timed<T> {
    pub(super) what: T,
    pub(super) due: Option<Instant>,
}

/// A declared service.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) record: Arc<ExternalRecord>,
    /// By name.
    pub(super) hosts: BTreeMap<Arc<str>, Timed<Host>>,
    /// By place; none where the service is not checked.
    pub(super) checks: BTreeMap<SocketAddr, Timed<Check>>,
    /// What was stated last.
    pub(super) stated: ResolvedRecord,
}

impl Declared {
    /// A declaration that nothing was done for yet, save what `former` says.
    pub(super) fn new(record: Arc<ExternalRecord>, former: ResolvedRecord, now: Instant) -> Declared {
        let mut declared = Declared { record, hosts: BTreeMap::new(), checks: BTreeMap::new(), stated: former };
        declared.follow(now);
        declared
    }

    /// Follows the names of the record, and no others; those that stay are not asked for anew.
    pub(super) fn follow(&mut self, now: Instant) {
        let names = self.record.endpoints.iter().filter(|endpoint| endpoint.host.parse::<IpAddr>().is_err());
        let names: BTreeSet<Arc<str>> = names.map(|endpoint| endpoint.host.as_str().into()).collect();
        self.hosts.retain(|name, _| names.contains(name));
        for name in names {
            let former = || Timed { what: Host::as_in(&self.stated, &name), due: Some(now) };
            self.hosts.entry(name.clone()).or_insert_with(former);
        }
        self.check(now);
    }

    /// Checks the places of the record, and no others; new ones at once.
    pub(super) fn check(&mut self, now: Instant) {
        let Some(every) = self.check_every() else { return self.checks.clear() };
        let places = self.places().into_iter().filter(|place| place.protocol == Protocol::Tcp);
        let wanted: BTreeSet<SocketAddr> = places.map(|place| socket(&place)).collect();
        self.checks.retain(|place, _| wanted.contains(place));
        for place in wanted {
            let former = || self.stated.places.iter().find(|stated| socket(stated) == place)?.check;
            let timed = self.checks.entry(place);
            let timed = timed.or_insert_with(|| Timed { what: Check::new(former()), due: Some(now) });
            // The interval may have become shorter.
            timed.due = timed.due.map(|due| due.min(now + every));
        }
    }

    /// How often places are checked, if they are.
    pub(super) fn check_every(&self) -> Option<Duration> {
        self.record.check_every_ms.map(Duration::from_millis)
    }

    /// Where everything is, in the order that a record has.
    fn places(&self) -> Vec<ResolvedPlace> {
        let mut places = BTreeSet::new();
        for endpoint in &self.record.endpoints {
            let place = |address| ResolvedPlace {
                host: endpoint.host.clone(),
                port: endpoint.port,
                protocol: endpoint.protocol,
                address,
                check: None,
            };
            match endpoint.host.parse::<IpAddr>() {
                Ok(address) => drop(places.insert(place(address))),
                Err(_) => {
                    let host = self.hosts.get(endpoint.host.as_str());
                    places.extend(host.into_iter().flat_map(|host| host.what.addresses()).map(place));
                }
            }
        }
        places.into_iter().take(PLACES_MAX).collect()
    }

    /// What is to be stated.
    pub(super) fn resolved(&self) -> ResolvedRecord {
        let mut places = self.places();
        for place in places.iter_mut().filter(|place| place.protocol == Protocol::Tcp) {
            let check = self.checks.get(&socket(place));
            place.check = check.map(|check| check.what.state);
        }
        let unresolved = self.hosts.iter().filter(|(_, host)| host.what.is_unresolved());
        ResolvedRecord { places, unresolved: unresolved.map(|(name, _)| name.to_string()).collect() }
    }
}

fn socket(place: &ResolvedPlace) -> SocketAddr {
    SocketAddr::new(place.address, place.port)
}
