//! The life of every container as one pure state machine: (state, input, now) to state, by container id and run.
//!
//! Invariants: a run that ended never lives again, whatever an older answer of Docker says; a container is removed by
//! a death, by Docker's own word about that container, and by nothing else: not by silence, not by a failed call.
//! Reads no clock and does no IO.

use std::collections::BTreeMap;
use std::time::Duration;

use portolan_core::endpoint::Run;
use portolan_core::evidence::Ending;
use tokio::time::Instant;

use super::facts::{Activity, DockerHealth, Facts, Sight};
use super::signal;

mod apply;

pub use apply::Inspect;

/// A stop signal that a container outlived by this long was not its end (DESIGN section 2).
pub const STOPPING_MAX: Duration = Duration::from_secs(180);
/// How long an ended run is still told of, for `explain`, and how many at most.
const ENDED_KEPT: Duration = Duration::from_secs(60);
const ENDED_MAX: usize = 64;
/// By then the inspection that an early event asked for was answered or given up.
const EARLY_KEPT: Duration = Duration::from_secs(30);

/// Everything known of this node's containers.
#[derive(Debug, Default)]
pub struct State {
    containers: BTreeMap<String, Tracked>,
    /// Whether a container's process was ever seen here: one that cannot be seen is then gone, not hidden.
    sees_processes: bool,
}

/// One container over its runs.
#[derive(Debug, Default)]
struct Tracked {
    live: Option<Live>,
    ended: Vec<Ended>,
    /// The run that ended last: final, even where the list still shows it.
    ended_run: Option<Run>,
    /// Events that came before the first inspection's answer.
    early: Early,
}

/// A run that lives.
#[derive(Debug)]
pub struct Live {
    /// Its newest facts.
    pub facts: Facts,
    /// Since when it is asked to stop.
    pub stopping_since: Option<Instant>,
}

/// A run that ended.
#[derive(Debug)]
pub struct Ended {
    /// The last facts of its life.
    pub facts: Facts,
    /// How it ended.
    pub ending: Ending,
    since: Instant,
}

#[derive(Debug, Default)]
struct Early {
    died: Option<(u64, Option<i64>)>,
    killed: Option<(u64, u8)>,
    since: Option<Instant>,
}

/// The moment of an input.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For durations.
    pub instant: Instant,
    /// For people, Unix milliseconds.
    pub unix_ms: u64,
}

/// What the state machine is told.
#[derive(Debug)]
pub enum Input {
    /// Docker answers.
    Connected(Box<Connected>),
    /// Docker does not answer: nothing is known, nothing is removed.
    Lost(String),
    /// An event of one container.
    Event(Event),
    /// All running containers.
    Listed(Vec<Listed>),
    /// One container's inspection: its facts, or that there is no such container.
    Inspected {
        /// Which container.
        id: String,
        /// What was found.
        found: Found,
    },
    /// A pidfd told the death of a run's first process.
    Exited {
        /// Which container.
        id: String,
        /// Which run.
        run: Run,
    },
    /// A health check ended.
    Checked(crate::health::Checked),
}

/// A connection to Docker.
#[derive(Debug)]
pub struct Connected {
    /// To call it.
    pub client: bollard::Docker,
    /// The API's version, such as `1.41`.
    pub api_version: String,
}

/// The outcome of an inspection.
#[derive(Debug)]
pub enum Found {
    /// The container, and a pidfd of its process where that is visible.
    Container(Box<Facts>, Option<std::os::fd::OwnedFd>),
    /// Docker has no such container.
    Nothing,
    /// The call failed: nothing is known.
    Failed(String),
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which container.
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// When, by Docker's clock, in nanoseconds since 1970.
    pub at_ns: u64,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A signal was sent to it.
    Kill(u8),
    /// It ended, with an exit code.
    Die(Option<i64>),
    /// It was removed.
    Destroy,
    /// It was joined to or taken off a network: before its start too, when there is nothing to see yet.
    Network,
    /// Anything else that an inspection will show.
    Changed,
}

/// A row of Docker's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which container.
    pub id: String,
    /// Whether it is frozen.
    pub is_paused: bool,
    /// Its health.
    pub health: DockerHealth,
}

impl State {
    /// Takes a list: names the containers whose inspection is due. With `Distrust::All` that is every one.
    #[must_use]
    pub fn compare(&self, listed: &[Listed], distrust: Distrust) -> Vec<String> {
        let is_known = |row: &Listed| {
            let live = self.containers.get(&row.id).and_then(|tracked| tracked.live.as_ref());
            // Without sight of its process a missed restart would show in nothing but the inspection.
            live.is_some_and(|live| {
                live.facts.sight == Sight::Seen
                    && live.facts.health == row.health
                    && (live.facts.activity == Activity::Paused) == row.is_paused
            })
        };
        let due = listed.iter().filter(|row| distrust == Distrust::All || !is_known(row)).map(|row| row.id.clone());
        let missing = |id: &&String| !listed.iter().any(|row| row.id == **id);
        let lost = self.containers.iter().filter(|(_, tracked)| tracked.live.is_some()).map(|(id, _)| id);
        due.chain(lost.filter(missing).cloned()).collect()
    }

    /// Every run that lives, in the order of ids.
    pub fn live(&self) -> impl Iterator<Item = &Live> {
        self.containers.values().filter_map(|tracked| tracked.live.as_ref())
    }

    /// The run of `id` that lives.
    pub fn live_of(&self, id: &str) -> Option<&Live> {
        self.containers.get(id)?.live.as_ref()
    }

    /// Runs that ended lately.
    pub fn ended(&self) -> impl Iterator<Item = &Ended> {
        self.containers.values().flat_map(|tracked| &tracked.ended)
    }

    /// When [`State::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let stopping = self.live().filter_map(|live| live.stopping_since).map(|since| since + STOPPING_MAX);
        let early = self.containers.values().filter_map(|tracked| tracked.early.since).map(|since| since + EARLY_KEPT);
        stopping.chain(early).chain(self.ended().map(|ended| ended.since + ENDED_KEPT)).min()
    }

    /// Ends marks and memories whose time is over.
    pub fn expire(&mut self, now: Instant) {
        for tracked in self.containers.values_mut() {
            tracked.ended.retain(|ended| now < ended.since + ENDED_KEPT);
            if tracked.early.since.is_some_and(|since| now >= since + EARLY_KEPT) {
                tracked.early = Early::default();
            }
            if let Some(live) = &mut tracked.live {
                live.stopping_since = live.stopping_since.filter(|since| now < *since + STOPPING_MAX);
            }
        }
        let ended = self.ended().count();
        for _ in ENDED_MAX..ended {
            let oldest = self.containers.values_mut().filter(|tracked| !tracked.ended.is_empty());
            if let Some(tracked) = oldest.min_by_key(|tracked| tracked.ended[0].since) {
                tracked.ended.remove(0);
            }
        }
        self.containers
            .retain(|_, tracked| tracked.live.is_some() || !tracked.ended.is_empty() || tracked.early.since.is_some());
    }
}

/// How far a list may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// Rows that agree with what is known need no inspection.
    Differences,
    /// Events may have been missed: everything is inspected.
    All,
}

fn asks_to_stop(signal_number: u8, stop_signal: u8) -> bool {
    signal_number == signal::SIGKILL || signal_number == stop_signal
}

#[cfg(test)]
mod tests;
