//! The packet table: replies that are ready, for questions that were asked since their service last changed.
//!
//! Each UDP worker has its own, so that a hit takes no lock, allocates nothing and copies once; the id, the RD bit and the
//! question's name are then put right. A reply is kept in one random order and turned while it is copied, so that every endpoint
//! comes first equally often; now and then it is made anew, so that another follows it. Whatever is not kept here goes through
//! [`answer`](crate::answer::answer) each time: cut replies, whose subset has to rotate, and names that are not a service's.
//!
//! Entries hold their service by a weak pointer: a table never keeps alive what the view has let go.

mod newcomers;
mod question;
mod turn;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use hickory_proto::op::ResponseCode;
use portolan_core::name::ServiceKey;
use portolan_core::view::{Readiness, Service, View};

pub(crate) use newcomers::Newcomers;
pub(crate) use question::Asked;

/// After so many hits a reply of several answers is made anew. Encoding costs about ten hits.
const HITS_PER_ORDER: u32 = 256;
/// How many octets of replies a table holds: 10,000 services of four endpoints, asked for in two ways, take six million.
const OCTETS_MAX: usize = 8 << 20;
/// The same of replies about names that do not exist: two thousand. A client with a search list asks for the same ones again
/// and again.
const ABSENT_OCTETS_MAX: usize = 512 << 10;
/// What an entry costs beside its replies, about.
const ENTRY_OCTETS: usize = 160;

/// The replies of one worker.
#[derive(Debug)]
pub(crate) struct Table {
    entries: HashMap<Box<[u8]>, Entry>,
    octets: usize,
    octets_max: usize,
    view: Weak<View>,
    /// Counts the views that were seen.
    generation: u64,
    random: u64,
}

#[derive(Debug)]
struct Entry {
    reply: Box<[u8]>,
    /// How many of its first answers may each come first.
    alike: usize,
    code: ResponseCode,
    basis: Basis,
    /// The view in which this was last found right.
    generation: u64,
    hits: u32,
    is_used: bool,
}

/// What a reply was made from.
#[derive(Debug)]
pub(crate) struct Basis {
    /// `None` when it is right in that view only.
    service: Option<(ServiceKey, Weak<Service>)>,
    readiness: Readiness,
}

impl Basis {
    /// What a reply about `service` in `view` is made from.
    pub(crate) fn new(service: ServiceKey, view: &View) -> Self {
        let value = view.service(&service).map_or_else(Weak::new, Arc::downgrade);
        Basis { service: Some((service, value)), readiness: view.readiness }
    }

    /// Of a reply that names the view's serial number.
    pub(crate) fn whole(view: &View) -> Self {
        Basis { service: None, readiness: view.readiness }
    }

    fn holds_in(&self, view: &View) -> bool {
        let Some((key, value)) = &self.service else { return false };
        let is_same = |service: &Arc<Service>| std::ptr::eq(Arc::as_ptr(service), value.as_ptr());
        self.readiness == view.readiness && view.service(key).is_some_and(is_same)
    }
}

/// A reply that is worth keeping.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    pub(crate) reply: &'a [u8],
    pub(crate) code: ResponseCode,
    /// How many of its first answers may each come first.
    pub(crate) alike: usize,
    pub(crate) basis: Basis,
}

impl Table {
    /// An empty table. `seed` draws the orders.
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(OCTETS_MAX, seed)
    }

    /// An empty table for names that do not exist.
    pub(crate) fn of_absent() -> Self {
        Self::of(ABSENT_OCTETS_MAX, 1)
    }

    fn of(octets_max: usize, seed: u64) -> Self {
        Table { entries: HashMap::new(), octets: 0, octets_max, view: Weak::new(), generation: 0, random: seed | 1 }
    }

    /// Copies a ready reply to `asked` into `out`, and says its code. `None`: it has to be made, and may then be [kept](Table::keep).
    pub(crate) fn find(&mut self, asked: &Asked<'_>, view: &Arc<View>, out: &mut Vec<u8>) -> Option<ResponseCode> {
        if !std::ptr::eq(self.view.as_ptr(), Arc::as_ptr(view)) {
            self.view = Arc::downgrade(view);
            self.generation += 1;
        }
        self.random = next(self.random);
        let entry = self.entries.get_mut(asked.key())?;
        if entry.generation != self.generation {
            if !entry.basis.holds_in(view) {
                let gone = self.entries.remove(asked.key());
                self.octets -= gone.map_or(0, |gone| cost(asked.key(), &gone));
                return None;
            }
            entry.generation = self.generation;
        }
        entry.hits = entry.hits.wrapping_add(1);
        entry.is_used = true;
        if entry.alike > 1 && entry.hits.is_multiple_of(HITS_PER_ORDER) {
            return None;
        }
        let turn = self.random as usize % entry.alike.max(1);
        turn::copy(&entry.reply, (asked.answers_at(), entry.alike, turn), out);
        asked.put_right(out);
        Some(entry.code)
    }

    /// Draws the order of a reply that [`Table::find`] did not find.
    pub(crate) fn seed(&self) -> u64 {
        self.random
    }

    /// Keeps a reply to `asked`, made from the view that [`Table::find`] was last given.
    pub(crate) fn keep(&mut self, asked: &Asked<'_>, ready: Ready<'_>) {
        let Ready { reply, code, alike, basis } = ready;
        let reply = reply.into();
        let entry = Entry { reply, alike, code, basis, generation: self.generation, hits: 0, is_used: true };
        self.octets += cost(asked.key(), &entry);
        if let Some(kept) = self.entries.get_mut(asked.key()) {
            self.octets -= cost(asked.key(), kept);
            *kept = entry;
        } else {
            self.entries.insert(asked.key().into(), entry);
        }
        if self.octets > self.octets_max {
            self.make_room();
        }
    }

    /// Lets go of what was not asked for since the last time; of everything, if that is not half.
    fn make_room(&mut self) {
        self.entries.retain(|_, entry| std::mem::take(&mut entry.is_used));
        self.octets = self.entries.iter().map(|(key, entry)| cost(key, entry)).sum();
        if self.octets > self.octets_max / 2 {
            self.entries.clear();
            self.octets = 0;
        }
    }
}

fn cost(key: &[u8], entry: &Entry) -> usize {
    ENTRY_OCTETS + key.len() + entry.reply.len()
}

/// The next number of a xorshift generator: good enough for an order, and nobody's secret.
fn next(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ x << 17
}

#[cfg(test)]
mod tests;
