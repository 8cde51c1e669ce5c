//! Which virtual address a service gets.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use portolan_core::name::ServiceKey;
use portolan_core::virtual_address;

use super::KEPT_MS;
use crate::catalog::Catalog;
use crate::catalog::needs::Recorded;
use crate::store::record::AddressRecord;

/// The virtual addresses, while a plan is made.
pub(super) struct Addresses<'a> {
    catalog: &'a Catalog,
    range: Ipv4Net,
    pub(super) now_ms: u64,
    given: BTreeSet<Ipv4Addr>,
    /// Which address each service has or had; made when the first is needed.
    former: Option<HashMap<&'a ServiceKey, Ipv4Addr>>,
}

impl<'a> Addresses<'a> {
    pub(super) fn new(catalog: &'a Catalog, range: Ipv4Net, now_ms: u64) -> Self {
        Addresses { catalog, range, now_ms, given: BTreeSet::new(), former: None }
    }

    /// An address for `service`: its own former one; else one that nobody ever had; else one that was freed long ago.
    /// With what the store holds of it.
    pub(super) fn give(&mut self, service: &ServiceKey) -> Option<(Ipv4Addr, Option<Recorded<AddressRecord>>)> {
        let catalog = self.catalog;
        let by_service =
            || catalog.addresses.iter().map(|(address, record)| (&record.value.service, *address)).collect();
        let former = self.former.get_or_insert_with(by_service).get(service).copied();
        let was_freed = |address: Ipv4Addr| {
            let freed = catalog.addresses.get(&address).and_then(|record| record.value.freed_at_ms);
            freed.is_some_and(|at_ms| self.now_ms.saturating_sub(at_ms) >= KEPT_MS)
        };
        let is_open = |address: &Ipv4Addr| self.range.contains(address) && !self.given.contains(address);
        let never_used = |address: Ipv4Addr| is_open(&address) && !catalog.addresses.contains_key(&address);
        let chosen = former
            .filter(is_open)
            .or_else(|| virtual_address::choose(self.range, service, never_used))
            .or_else(|| virtual_address::choose(self.range, service, |a| is_open(&a) && was_freed(a)))?;
        self.given.insert(chosen);
        Some((chosen, catalog.addresses.get(&chosen).cloned()))
    }
}
