//! Keeps the kernel's table in step with the ports that are closed, and puts back what somebody else flushed.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::future::pending;
use std::net::IpAddr;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::note;
use super::ports::Closed;
use crate::netlink::guard::{Element, GuardTable, HostPort, Manner};
use crate::netlink::{Changes, NetlinkError, SETTLE, uplinks};

/// Our part of the kernel's state.
#[derive(Debug)]
pub(super) struct Kernel {
    addresses: Vec<IpAddr>,
    table: Option<GuardTable>,
    changes: Option<Changes>,
    bridges: Vec<u32>,
    /// The generation of the kernel's rules at which ours were seen to be right.
    verified: Option<u32>,
    problem: Option<String>,
    /// Whether the table was ever in place.
    is_usable: bool,
}

impl Kernel {
    /// `addresses` are those of this node that others can reach.
    pub(super) fn new(addresses: Vec<IpAddr>) -> Self {
        let (table, changes, bridges) = (None, None, Vec::new());
        Kernel { addresses, table, changes, bridges, verified: None, problem: None, is_usable: false }
    }

    /// Why ports are not closed, or not as well as they should be.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether ports can be closed here at all.
    pub(super) fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// Nothing is to be closed: nothing stays behind from earlier.
    pub(super) fn switch_off(&mut self) {
        self.problem = Some("switched off: setting `guard` is 0".to_owned());
        if let Ok(mut table) = GuardTable::open() {
            table.remove().ok();
        }
    }

    /// What an earlier sidecar left closed.
    pub(super) fn left(&mut self) -> Vec<Element> {
        match GuardTable::open() {
            Ok(table) => self.table.insert(table).elements().unwrap_or_default(),
            Err(error) => {
                self.note(Err(error));
                Vec::new()
            }
        }
    }

    /// Writes the table anew.
    pub(super) fn write_anew(&mut self, closed: &BTreeMap<HostPort, Closed>, now: Instant) {
        if self.changes.is_none() {
            // Listening is a help; what it misses the tick finds.
            self.changes = Changes::listen().ok();
        }
        let elements: Vec<Element> = closed.iter().map(|(at, closed)| element(*at, closed, now)).collect();
        let Some(table) = &mut self.table else { return };
        self.bridges = uplinks(&self.addresses).unwrap_or_default();
        let written = table.replace(&self.bridges, &elements);
        self.verified = None;
        self.is_usable |= written.is_ok();
        self.note(written);
    }

    /// Closes and opens ports.
    pub(super) fn update(
        &mut self,
        all: &BTreeMap<HostPort, Closed>,
        (closed, opened): (&[HostPort], &[HostPort]),
        now: Instant,
    ) {
        let elements: Vec<Element> = closed.iter().filter_map(|at| Some(element(*at, all.get(at)?, now))).collect();
        let Some(table) = &mut self.table else { return };
        if table.update(&elements, opened).is_err() {
            // The set is not as we left it.
            self.write_anew(all, now);
            return;
        }
        // If this was the only change, what was right still is.
        let generation = table.generation().ok();
        self.verified = generation.filter(|now| self.verified.map(|before| before.wrapping_add(1)) == Some(*now));
    }

    /// Compares and repairs.
    pub(super) fn compare(&mut self, closed: &BTreeMap<HostPort, Closed>, now: Instant) {
        let Some(table) = self.table.as_mut().filter(|_| self.is_usable) else { return };
        let bridges = uplinks(&self.addresses).unwrap_or_else(|_| self.bridges.clone());
        let generation = table.generation().ok();
        if bridges == self.bridges && generation.is_some() && generation == self.verified {
            return;
        }
        let ports: BTreeSet<HostPort> = closed.keys().copied().collect();
        match table.is_intact(&bridges, &ports) {
            Ok(true) => {
                self.verified = generation;
                self.bridges = bridges;
            }
            Ok(false) | Err(_) => {
                self.write_anew(closed, now);
                if self.problem.is_none() {
                    warn!(
                        "table `inet portolan-guard` was changed by another program, or an address moved: written anew"
                    );
                }
            }
        }
    }

    /// Waits until the kernel's rules changed, and what changes in a row is over. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        let Some(changes) = &mut self.changes else { return pending().await };
        if changes.changed().await.is_err() {
            pending::<()>().await;
        }
        sleep(SETTLE).await;
    }

    fn note(&mut self, written: Result<(), NetlinkError>) {
        let manner = self.table.as_ref().map(GuardTable::manner);
        let problem = match (written, manner) {
            (Ok(()), Some(Manner { is_told: true, is_local_only: true })) => None,
            (Ok(()), Some(manner)) => Some(lesser(manner)),
            (Ok(()), None) => Some("there is no table".to_owned()),
            (Err(error), _) => {
                let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                Some(format!("freed host ports are not closed to other hosts: {error}{cause}"))
            }
        };
        if self.is_usable && problem != self.problem {
            match &problem {
                Some(problem) => warn!("the guard of freed host ports: {problem}"),
                None => info!("freed host ports are closed to other hosts"),
            }
        }
        self.problem = problem;
    }
}

fn lesser(manner: Manner) -> String {
    let how = if manner.is_told { "refused" } else { "dropped, as this kernel cannot refuse so early (Linux 5.9)" };
    let which = if manner.is_local_only { "" } else { "; those that this host forwards to that port elsewhere, too" };
    format!("connections to freed host ports are {how}{which}")
}

fn element(at: HostPort, closed: &Closed, now: Instant) -> Element {
    Element { at, left: closed.opens_at.saturating_duration_since(now), note: note::write(&closed.was) }
}
