//! Keeps the kernel in step with the link table, and puts back what somebody else flushed.
//!
//! The table is published before the kernel's set grows, so that the relay knows a link before its first connection.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use portolan_core::view::View;
use portolan_runtime::published::{Publisher, Reader};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};

use super::LinkSettings;
use super::table::Table;
use crate::netlink::table::{LinkAddress, Table as Rulebook};
use crate::netlink::{Changes, NetlinkError, Routes, Rules, SETTLE};

/// How often the kernel's state is compared although no change was heard of.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Our part of the kernel's state.
#[derive(Debug)]
pub(super) struct Kernel {
    rulebook: Rulebook,
    changes: Changes,
    rules: Rules,
    routes: Routes,
    links: HashSet<LinkAddress>,
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
    /// Writes the rules with these links; from then on the range is ours.
    pub(super) fn claim(rules: Rules, routes: Routes, links: HashSet<LinkAddress>) -> Result<Self, NetlinkError> {
        let changes = Changes::listen()?;
        let mut rulebook = Rulebook::open()?;
        rulebook.replace(rules, &links)?;
        Ok(Kernel { rulebook, changes, rules, routes, links, verified: None, health: Health::Kept })
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
                _ = tick.tick() => self.guard(),
            }
        }
    }

    fn follow(&mut self, view: &Reader<View>, publisher: &Publisher<Table>, settings: &LinkSettings) {
        let (table, touched) = publisher.load().next(&view.peek(), (settings, Instant::now()));
        let touched: HashSet<LinkAddress> = touched.into_iter().collect();
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for address in touched {
            if table.is_open(address) {
                added.extend(self.links.insert(address).then_some(address));
            } else {
                removed.extend(self.links.take(&address));
            }
        }
        publisher.publish(Arc::new(table));
        if added.is_empty() && removed.is_empty() {
            return;
        }
        let updated = self.rulebook.update(&added, &removed);
        if updated.is_ok() {
            // If this was the only change, what was right still is.
            let now = self.rulebook.generation().ok();
            self.verified = now.filter(|now| self.verified.map(|before| before.wrapping_add(1)) == Some(*now));
        } else {
            // The set is not as we left it: write all anew.
            let replaced = self.rulebook.replace(self.rules, &self.links);
            self.note(replaced);
        }
    }

    /// Compares and repairs.
    fn guard(&mut self) {
        let guarded = self.guard_routes().and_then(|()| self.guard_rules());
        self.note(guarded);
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
            self.rulebook.replace(self.rules, &self.links)?;
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
