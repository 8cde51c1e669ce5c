//! The packet table: replies that are ready, for questions that were asked since their service last changed.
//!
//! Each UDP worker has its own, so that a hit takes no lock, allocates nothing and copies once; the id, the RD bit and the
//! question's name are then put right. A reply is kept in up to [`ORDERS_MAX`] random orders, one that begins with each endpoint,
//! and one of them is drawn anew now and then, so that every endpoint comes first equally often. Whatever is not kept here goes through
//! [`answer`](crate::answer::answer) each time: cut replies, whose subset has to rotate, and names that are not a service's.
//!
//! Entries hold their service by a weak pointer: a table never keeps alive what the view has let go.

mod newcomers;
mod question;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use hickory_proto::op::ResponseCode;
use portolan_core::name::ServiceKey;
use portolan_core::view::{Readiness, Service, View};

pub(crate) use newcomers::Newcomers;
pub(crate) use question::Asked;

use crate::answer::Order;

/// In how many orders a reply is kept.
const ORDERS_MAX: usize = 8;
/// Every so many hits one order is replaced by a new one. Encoding costs about ten hits.
const HITS_PER_ORDER: u32 = 128;
/// How many octets of replies a table holds: 1,000 services of four endpoints, asked for in two ways, take six million.
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
    /// Of the reply that was looked for last.
    order: Order,
}

#[derive(Debug)]
struct Entry {
    orders: Vec<Box<[u8]>>,
    /// How many there are to be.
    orders_max: usize,
    /// Of the next one.
    order: Order,
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
    /// How many answers have an order.
    pub(crate) answers: usize,
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
        let random = seed | 1;
        Table {
            entries: HashMap::new(),
            octets: 0,
            octets_max,
            view: Weak::new(),
            generation: 0,
            random,
            order: Order::once(random),
        }
    }

    /// Copies a ready reply to `asked` into `out`, and says its code. `None`: it has to be made, and may then be [kept](Table::keep).
    pub(crate) fn find(&mut self, asked: &Asked<'_>, view: &Arc<View>, out: &mut Vec<u8>) -> Option<ResponseCode> {
        if !std::ptr::eq(self.view.as_ptr(), Arc::as_ptr(view)) {
            self.view = Arc::downgrade(view);
            self.generation += 1;
        }
        self.random = next(self.random);
        self.order = Order::once(self.random);
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
        let is_due = entry.orders_max > 1 && entry.hits.is_multiple_of(HITS_PER_ORDER);
        if entry.orders.len() < entry.orders_max || is_due {
            self.order = entry.order;
            return None;
        }
        let order = entry.orders.get(self.random as usize % entry.orders.len())?;
        out.clear();
        out.extend_from_slice(order);
        asked.put_right(out);
        Some(entry.code)
    }

    /// In which order a reply is to be made that [`Table::find`] did not find.
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// Keeps a reply to `asked`, made from the view that [`Table::find`] was last given.
    pub(crate) fn keep(&mut self, asked: &Asked<'_>, ready: Ready<'_>) {
        let Ready { reply, code, answers, basis } = ready;
        let order = Order { turn: self.order.turn + 1, ..self.order };
        if let Some(entry) = self.entries.get_mut(asked.key()) {
            self.octets += reply.len();
            if entry.orders.len() < entry.orders_max {
                entry.orders.push(reply.into());
            } else {
                let place = entry.order.turn as usize % entry.orders_max;
                self.octets -= entry.orders[place].len();
                entry.orders[place] = reply.into();
            }
            entry.order = order;
        } else {
            let orders = vec![reply.into()];
            let (generation, orders_max) = (self.generation, orders_max(answers));
            let entry = Entry { orders, orders_max, order, code, basis, generation, hits: 0, is_used: true };
            self.octets += cost(asked.key(), &entry);
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

/// In how many orders that many answers are kept: each comes first in one of them, and no more is kept than that needs, for
/// what the processor's cache does not hold costs more than anything else here.
fn orders_max(answers: usize) -> usize {
    answers.clamp(1, ORDERS_MAX)
}

fn cost(key: &[u8], entry: &Entry) -> usize {
    ENTRY_OCTETS + key.len() + entry.orders.iter().map(|order| order.len()).sum::<usize>()
}

/// The next number of a xorshift generator: good enough for an order, and nobody's secret.
fn next(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ x << 17
}

#[cfg(test)]
mod tests;
