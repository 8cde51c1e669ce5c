//! Keeps the kernel in step with the link table, and puts back what somebody else flushed.
//!
//! The table is published before the kernel's set grows, so that the relay knows a link before its first connection.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use portolan_core::endpoint::Protocol;
use portolan_core::view::View;
use portolan_runtime::published::{Publisher, Reader};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, error, info, warn};

use super::LinkSettings;
use super::figures::Limited;
use super::table::{Place, Table};
use super::udp::Doors;
use crate::netlink::table::{LinkAddress, Links, Table as Rulebook};
use crate::netlink::{Changes, Flows, NetlinkError, Routes, Rules, SETTLE};

/// How often the kernel's state is compared although no change was heard of.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Our part of the kernel's state.
#[derive(Debug)]
pub(super) struct Kernel {
    rulebook: Rulebook,
    changes: Changes,
    rules: Rules,
    routes: Routes,
    links: Links,
    doors: Doors,
    /// UDP links whose door could not be opened; it is tried again.
    lacking: HashSet<LinkAddress>,
    refused_doors: Limited,
    flows: Option<Flows>,
    /// Flows are to be looked at once more: a datagram may have been under way while the rules changed.
    looks_at_flows: bool,
    /// The generation of the kernel's rules at which ours were seen to be right.
    verified: Option<u32>,
    health: Health,
}

/// Whether the last attempt worked: a failure is logged when it begins and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Kept,
    Failing,
}

impl Kernel {
    /// Writes the rules with the links of `table`; from then on the range is ours.
    pub(super) fn claim((rules, routes): (Rules, Routes), table: &Table, doors: Doors) -> Result<Self, NetlinkError> {
        let changes = Changes::listen()?;
        let mut rulebook = Rulebook::open()?;
        // Flows of clients lead to the ports that the sidecar before had.
        let ports = rulebook.udp_ports().unwrap_or_default();
        let links = Links { tcp: table.open(Protocol::Tcp), ..Links::default() };
        let (flows, lacking) = (Flows::open().ok(), table.open(Protocol::Udp));
        let mut kernel = Kernel {
            rulebook,
            changes,
            rules,
            routes,
            links,
            doors,
            lacking,
            refused_doors: Limited::default(),
            flows,
            looks_at_flows: true,
            verified: None,
            health: Health::Kept,
        };
        kernel.open_doors(&ports);
        kernel.replace()?;
        Ok(kernel)
    }

    /// Follows the view and guards rules and routes, for ever.
    pub(super) async fn keep(mut self, mut view: Reader<View>, publisher: Publisher<Table>, settings: LinkSettings) {
        let mut tick = interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_view_alive = true;
        let mut compare_at = None;
        self.follow(&view, &publisher, &settings);
        loop {
            let settled = async {
                match compare_at {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            // Each branch only waits; what follows it is not cancelled.
            tokio::select! {
                biased;
                alive = view.changed(), if is_view_alive => {
                    is_view_alive = alive;
                    self.follow(&view, &publisher, &settings);
                }
                () = settled => {
                    compare_at = None;
                    self.guard();
                }
                // Listening is a help; what it misses the tick finds.
                Ok(()) = self.changes.changed() => compare_at = compare_at.or(Some(Instant::now() + SETTLE)),
                _ = tick.tick() => self.look_again(),
            }
        }
    }

    fn follow(&mut self, view: &Reader<View>, publisher: &Publisher<Table>, settings: &LinkSettings) {
        let (table, touched) = publisher.load().next(&view.peek(), (settings, Instant::now()));
        let (mut added, mut removed) = (Links::default(), Links::default());
        for place in touched.into_iter().collect::<HashSet<Place>>() {
            match (place, table.is_open(place)) {
                ((at, Protocol::Tcp), true) => added.tcp.extend(self.links.tcp.insert(at).then_some(at)),
                ((at, Protocol::Tcp), false) => removed.tcp.extend(self.links.tcp.take(&at)),
                ((at, Protocol::Udp), true) if self.links.udp.contains_key(&at) => {}
                ((at, Protocol::Udp), true) => drop(self.lacking.insert(at)),
                ((at, Protocol::Udp), false) => {
                    self.lacking.remove(&at);
                    removed.udp.extend(self.links.udp.remove_entry(&at));
                }
            }
        }
        added.udp = self.open_doors(&HashMap::new());
        publisher.publish(Arc::new(table));
        self.change(&added, &removed);
        // Nothing leads there any longer.
        removed.udp.keys().for_each(|at| self.doors.close(*at));
    }

    /// Opens the doors that are lacking, at these ports if they are free. Gives those that are open now.
    fn open_doors(&mut self, ports: &HashMap<LinkAddress, u16>) -> HashMap<LinkAddress, u16> {
        let mut opened = HashMap::new();
        for at in std::mem::take(&mut self.lacking) {
            match self.doors.open(at, ports.get(&at).copied()) {
                Ok(port) => drop(opened.insert(at, port)),
                Err(error) => {
                    if self.refused_doors.note(Instant::now()).is_some() {
                        warn!("UDP link {}:{} cannot be served: {error}; trying on every second", at.0, at.1);
                    }
                    self.lacking.insert(at);
                }
            }
        }
        self.links.udp.extend(&opened);
        opened
    }

    fn change(&mut self, added: &Links, removed: &Links) {
        if added.is_empty() && removed.is_empty() {
            return;
        }
        let updated = self.rulebook.update(added, removed);
        if updated.is_ok() {
            // If this was the only change, what was right still is.
            let now = self.rulebook.generation().ok();
            self.verified = now.filter(|now| self.verified.map(|before| before.wrapping_add(1)) == Some(*now));
            let mut touched: Vec<Ipv4Addr> = added.udp.keys().chain(removed.udp.keys()).map(|at| at.0).collect();
            touched.sort_unstable();
            touched.dedup();
            match touched.as_slice() {
                [] => {}
                [only] => self.forget_strays(Some(*only)),
                _ => self.forget_strays(None),
            }
        } else {
            // The sets are not as we left them: write all anew.
            let replaced = self.replace();
            self.note(replaced);
        }
    }

    fn replace(&mut self) -> Result<(), NetlinkError> {
        self.rulebook.replace(self.rules, &self.links)?;
        self.forget_strays(None);
        Ok(())
    }

    /// Sees to it that clients that keep their port go where the rules say now.
    fn forget_strays(&mut self, only: Option<Ipv4Addr>) {
        let Some(flows) = &mut self.flows else { return };
        match flows.forget_strays(self.rules, &self.links.udp, only) {
            Ok(0) => {}
            Ok(count) => debug!("{count} UDP flows of links led elsewhere: forgotten"),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                warn!("UDP clients that keep their port may not follow a link that changes: {error}{cause}");
                self.flows = None;
            }
        }
        self.looks_at_flows = true;
    }

    /// Compares and repairs.
    fn guard(&mut self) {
        let guarded = self.guard_routes().and_then(|()| self.guard_rules());
        self.note(guarded);
        if !self.lacking.is_empty() {
            let added = Links { udp: self.open_doors(&HashMap::new()), ..Links::default() };
            self.change(&added, &Links::default());
        }
    }

    /// Once a second: what a change may have missed.
    fn look_again(&mut self) {
        if std::mem::take(&mut self.looks_at_flows) {
            self.forget_strays(None);
            self.looks_at_flows = false;
        }
        self.guard();
    }

    fn guard_routes(&self) -> Result<(), NetlinkError> {
        if !self.routes.are_intact()? {
            self.routes.assert()?;
            info!("routes of the sidecar's addresses were missing: put back");
        }
        Ok(())
    }

    fn guard_rules(&mut self) -> Result<(), NetlinkError> {
        let generation = Some(self.rulebook.generation()?);
        if self.verified == generation {
            return Ok(());
        }
        self.verified = generation;
        if !self.rulebook.is_intact(self.rules, &self.links)? {
            self.verified = None;
            self.replace()?;
            warn!("table `ip portolan` was changed by another program: written anew");
        }
        Ok(())
    }

    fn note(&mut self, result: Result<(), NetlinkError>) {
        match (result, self.health) {
            (Ok(()), Health::Kept) | (Err(_), Health::Failing) => {}
            (Ok(()), Health::Failing) => {
                info!("rules and routes of links are in place again");
                self.health = Health::Kept;
            }
            (Err(error), Health::Kept) => {
                let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                error!("rules and routes of links cannot be kept, trying on every second: {error}{cause}");
                self.health = Health::Failing;
            }
        }
    }
}
