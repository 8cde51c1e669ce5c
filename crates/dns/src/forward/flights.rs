//! Questions under way: one flight each, however many wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::asked::{Asked, Spelling};
use super::exchange::Unanswered;
use super::stored::Stored;

/// At once; beyond it, stale or SERVFAIL.
const FLIGHTS_MAX: usize = 256;

/// What a flight brings.
pub(super) type Landed = Result<Arc<Stored>, Unanswered>;
/// Where a flight says what it brings.
pub(super) type Landing = watch::Sender<Option<Landed>>;

/// A question under way.
#[derive(Clone)]
pub(super) struct Flight {
    landed: watch::Receiver<Option<Landed>>,
    started_at: Instant,
    /// It came back to us.
    is_circle: Arc<AtomicBool>,
    pub(super) spelling: Arc<Spelling>,
}

#[derive(Default)]
pub(super) struct Flights(HashMap<Asked, Flight>);

impl Flights {
    /// The flight of that question. One that ended without a result has crashed, and is none.
    pub(super) fn of(&self, asked: &Asked) -> Option<Flight> {
        self.0.get(asked).filter(|flight| flight.landed.has_changed().is_ok()).cloned()
    }

    /// Starts one; `None` when there are too many.
    pub(super) fn start(&mut self, asked: &Asked, now: Instant) -> Option<(Flight, Landing)> {
        if self.0.len() >= FLIGHTS_MAX {
            self.0.retain(|_, flight| flight.landed.has_changed().is_ok());
        }
        if self.0.len() >= FLIGHTS_MAX {
            return None;
        }
        let (landing, landed) = watch::channel(None);
        let flight = Flight {
            landed,
            started_at: now,
            is_circle: Arc::default(),
            spelling: Arc::new(asked.spell(rand::random)),
        };
        self.0.insert(asked.clone(), flight.clone());
        Some((flight, landing))
    }

    pub(super) fn end(&mut self, asked: &Asked) {
        self.0.remove(asked);
    }

    /// Whether `question`, with name, type and class as they came, is what one of them asks, letter by letter: that one goes
    /// in a circle. Few askers write capitals, so this looks through them seldom.
    pub(super) fn is_one_of_ours(&self, question: &[u8]) -> bool {
        if !question.iter().any(u8::is_ascii_uppercase) {
            return false;
        }
        let found = self.0.values().find(|flight| flight.spelling.is(question));
        found.is_some_and(|flight| {
            flight.is_circle.store(true, Ordering::Relaxed);
            true
        })
    }
}

impl Flight {
    pub(super) fn is_circle(&self) -> bool {
        self.is_circle.load(Ordering::Relaxed)
    }

    /// What it brings within `patience`, counted from its start: who comes later waits the less.
    pub(super) async fn landed_within(&mut self, patience: Duration) -> Option<Landed> {
        // The sender is dropped right behind its result, so an error here still may have one.
        timeout_at(self.started_at + patience, self.landed.changed()).await.ok()?.ok();
        self.landed.borrow().clone()
    }
}
