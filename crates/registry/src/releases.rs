//! Tells nodes when nobody is led to an endpoint any more that they had, so that its host port may go to another service.
//!
//! ```text
//! Subscribe: who follows what, and has which index in use ──┐
//! catalog: what left the view, at which index ──────────────┴──> state ──> Register: released
//! ```
//!
//! What is lost here (a registry that restarts, a stream that breaks) costs time and never safety: a node opens its ports
//! by itself when its `guard` is over.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use imbl::OrdSet;
use portolan_core::endpoint::State as EndpointState;
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_proto::release::{ENDPOINTS_MAX, Released};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::catalog::{Catalog, Event};

mod state;

use state::{Departed, Peer, State};

/// How often followers that left are looked at, and what a full line could not take is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Messages that may wait for a node's stream; when it is full, what is released waits here.
const QUEUED_MAX: usize = 4;

/// Followers and owners, joined.
#[derive(Debug, Clone, Default)]
pub(crate) struct Releases {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: State,
    lines: HashMap<NodeKey, (u64, mpsc::Sender<Vec<Released>>)>,
    /// Nodes that something is to be told.
    due: BTreeSet<NodeKey>,
    /// The number of the newest connection.
    connection: u64,
}

/// One subscription. Dropped: it ended.
#[derive(Debug)]
pub(crate) struct Following {
    releases: Releases,
    peer: Peer,
    connection: u64,
    can_tell: bool,
}

/// One registration. Dropped: it ended.
#[derive(Debug)]
pub(crate) struct Owning {
    releases: Releases,
    node: NodeKey,
    connection: u64,
    released: mpsc::Receiver<Vec<Released>>,
}

/// Starts to watch the catalog. Endpoints that left before are not looked at.
pub(crate) fn start(jobs: &Jobs, releases: Releases, mut catalog: Reader<Catalog>) {
    jobs.start("releases", async move {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = newest_event(&catalog.load());
        loop {
            tokio::select! {
                is_open = catalog.changed() => {
                    if !is_open {
                        return;
                    }
                    let now = catalog.load();
                    releases.look(&now, seen);
                    seen = newest_event(&now);
                }
                _ = tick.tick() => releases.expire(),
            }
        }
    });
}

fn newest_event(catalog: &Catalog) -> u64 {
    catalog.events.back().map_or(0, |event| event.index)
}

impl Releases {
    /// A subscription begins; `can_tell`: the peer says what it has in use.
    pub(crate) fn follow(&self, node: Option<NodeKey>, can_tell: bool) -> Following {
        let mut shared = self.lock();
        shared.connection += 1;
        let connection = shared.connection;
        let peer = node.map_or(Peer::Nameless(connection), Peer::Node);
        shared.state.join(peer.clone(), connection);
        Following { releases: self.clone(), peer, connection, can_tell }
    }

    /// The registration of a node that wants to be told. A newer one takes the place of an older one's.
    pub(crate) fn own(&self, node: NodeKey) -> Owning {
        let (sender, released) = mpsc::channel(QUEUED_MAX);
        let mut shared = self.lock();
        shared.connection += 1;
        let connection = shared.connection;
        shared.lines.insert(node.clone(), (connection, sender));
        shared.state.tell_again(&node);
        shared.due.insert(node.clone());
        shared.tell();
        Owning { releases: self.clone(), node, connection, released }
    }

    /// Takes what changed since the event at index `seen`.
    fn look(&self, catalog: &Catalog, seen: u64) {
        let news: Vec<&Arc<Event>> = catalog.events.iter().rev().take_while(|event| event.index > seen).collect();
        let now = Instant::now();
        let mut shared = self.lock();
        for event in news.iter().rev().filter(|event| is_departure(event)) {
            let Event { endpoint: key, service, index, .. } = Event::clone(event);
            let port = port_of(catalog, event);
            shared.due.insert(key.node.clone());
            shared.state.depart(Departed { key, service, port, index }, now);
        }
        // After all that went: the next owner may have come with the same report.
        for event in news.iter().rev().filter(|event| event.to != EndpointState::Gone) {
            shared.state.came(&event.service, &event.endpoint, port_of(catalog, event));
            shared.due.insert(event.endpoint.node.clone());
        }
        shared.tell();
    }

    fn expire(&self) {
        let mut shared = self.lock();
        let mut due = shared.state.expire(Instant::now());
        shared.due.append(&mut due);
        shared.tell();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Docker tells the exit code some milliseconds after a death: that is no second one.
fn is_departure(event: &Event) -> bool {
    event.to == EndpointState::Gone && event.from.is_some_and(|from| from != EndpointState::Gone)
}

/// The host port of an event's endpoint; what is gone is explained for a while, too.
fn port_of(catalog: &Catalog, event: &Event) -> u16 {
    let explained = catalog.explained.get(&event.service);
    let mut candidates = explained.into_iter().flat_map(|explained| &explained.candidates);
    candidates.find(|candidate| candidate.key == event.endpoint).map_or(0, |candidate| candidate.port)
}

impl Shared {
    /// Tells whom something is to be told. A stream that is full is tried again; without one it is told when one begins.
    fn tell(&mut self) {
        for node in std::mem::take(&mut self.due) {
            let Some((_, line)) = self.lines.get(&node) else { continue };
            while let Ok(room) = line.try_reserve() {
                let released = self.state.take_released(&node, ENDPOINTS_MAX);
                if released.is_empty() {
                    break;
                }
                room.send(released);
            }
            if line.capacity() == 0 {
                self.due.insert(node);
            }
        }
    }
}

impl Following {
    /// What the peer follows from now on. Must be said before it is told of what it follows.
    pub(crate) fn follows(&self, followed: OrdSet<ServiceKey>) {
        self.releases.lock().state.follows(&self.peer, self.connection, followed);
    }

    /// The peer has everything up to `index` in use.
    pub(crate) fn applied(&self, index: u64) {
        if !self.can_tell {
            return;
        }
        let mut shared = self.releases.lock();
        let mut due = shared.state.applied(&self.peer, self.connection, index);
        if !due.is_empty() {
            shared.due.append(&mut due);
            shared.tell();
        }
    }

    /// Whether the peer says what it has in use.
    pub(crate) fn can_tell(&self) -> bool {
        self.can_tell
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.releases.lock().state.leave(&self.peer, self.connection, Instant::now());
    }
}

impl Owning {
    /// The next word for this node. `None`: a newer registration has the line. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Vec<Released>> {
        self.released.recv().await
    }
}

impl Drop for Owning {
    fn drop(&mut self) {
        let mut shared = self.releases.lock();
        if shared.lines.get(&self.node).is_some_and(|(connection, _)| *connection == self.connection) {
            shared.lines.remove(&self.node);
        }
    }
}
