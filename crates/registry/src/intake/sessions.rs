//! Who holds each node's key, which of its reports is the newest, and who has fallen silent. Pure: no IO, no clock.
//!
//! A mirror of what the store holds of nodes (revisions only) lets a report be written with the right expectation.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use portolan_core::name::NodeKey;
use tokio::time::Instant;

use super::report::{Incoming, fingerprint};
use super::{RefusedNode, ReportError, Session, Standing};
use crate::store::record::{self, Presence};
use crate::store::{Entry, Key, Snapshot};

/// A stream that said nothing for this long is silent (DESIGN section 7: suspect after 5 s).
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Not looked for so long: this registry itself stood still (a suspended machine), and nobody could have been heard.
const STALLED_AFTER: Duration = Duration::from_millis(2_500);
/// How long after a start a node may take to connect before it counts as silent.
pub(crate) const CONNECT_GRACE: Duration = Duration::from_secs(10);
/// Over half of the streams lost within this time: the registry doubts itself.
const DOUBT_WINDOW: Duration = Duration::from_secs(5);
/// How many refused nodes are remembered.
const REFUSED_MAX: usize = 100;
/// How many losses are remembered for the doubt; more than that within the window is doubt anyway.
const LOSSES_MAX: usize = 20_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Sessions {
    live: HashMap<NodeKey, Live>,
    mirror: HashMap<NodeKey, Mirror>,
    /// Nodes that spoke when the registry stopped and have not reported since its start.
    awaited: HashSet<NodeKey>,
    awaited_until: Instant,
    memory: Memory,
    /// When was last looked who is silent.
    swept: Instant,
    given: u64,
    pub(super) refused: VecDeque<RefusedNode>,
    losses: VecDeque<Instant>,
    /// How many streams there were when doubt began.
    doubt: Option<usize>,
}

/// What the store knew of the world at the start. Without this a registry that lost its disk would tell every node,
/// surely, that there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// It knew nodes, or links; or there was time enough to hear of them.
    Kept,
    /// It was empty, and no node has spoken yet.
    Empty,
    /// It was empty, and a node remembers more: others may, too, so all get their time.
    Lost,
}

/// Whether the entry is something that was learnt from nodes.
fn is_memory(entry: &Entry) -> bool {
    matches!(entry.key, Key::Node(_) | Key::Presence(_) | Key::Link(_))
}

#[derive(Debug)]
struct Live {
    number: u64,
    boot_id: String,
    heard: Instant,
    generation: u64,
}

/// What the store holds of a node.
#[derive(Debug, Clone, Default)]
struct Mirror {
    report_revision: Option<u64>,
    /// The session that wrote the report, and the report's fingerprint.
    fingerprint: Option<(u64, u64)>,
    presence: Option<(u64, Presence)>,
    /// A write of the presence is under way that nobody has answered: it must not be relied on.
    is_revising: bool,
}

/// What a report has to be written against.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) report_revision: Option<u64>,
    pub(super) presence_revision: Option<u64>,
    pub(super) fingerprint: Option<(u64, u64)>,
    /// Whether the store says that this boot of the node speaks.
    pub(super) is_speaking: bool,
}

/// What a report's commit wrote.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) revision: u64,
    pub(super) fingerprint: u64,
    pub(super) presence: Option<Presence>,
}

impl Sessions {
    /// The sessions of a registry that starts with `snapshot`; numbers rise from `given`.
    pub(super) fn new(snapshot: &Snapshot, given: u64, now: Instant) -> Self {
        let mut sessions = Sessions {
            live: HashMap::new(),
            mirror: HashMap::new(),
            awaited: HashSet::new(),
            awaited_until: now + CONNECT_GRACE,
            memory: if snapshot.entries.iter().any(is_memory) { Memory::Kept } else { Memory::Empty },
            swept: now,
            given,
            refused: VecDeque::new(),
            losses: VecDeque::new(),
            doubt: None,
        };
        let nodes = snapshot.entries.iter().filter_map(|entry| match &entry.key {
            Key::Node(node) | Key::Presence(node) => Some(node),
            _ => None,
        });
        let nodes: HashSet<NodeKey> = nodes.cloned().collect();
        sessions.mirror = mirror_of(snapshot.entries.iter());
        let speaks = |node: &NodeKey| {
            let presence = sessions.mirror.get(node).and_then(|mirror| mirror.presence.as_ref());
            presence.is_some_and(|(_, presence)| presence.silence.is_none())
        };
        sessions.awaited = nodes.into_iter().filter(speaks).collect();
        sessions
    }

    /// Whether those that could speak against what this registry holds have spoken, or have had the time to.
    pub(super) fn is_sure(&self) -> bool {
        self.memory == Memory::Kept && self.awaited.is_empty()
    }

    /// A node brought virtual addresses. If the store was empty, it was not always.
    pub(super) fn remembered(&mut self) {
        if self.memory == Memory::Empty {
            self.memory = Memory::Lost;
        }
    }

    /// A session for this boot of the node, or why not.
    pub(super) fn open(&mut self, node: &NodeKey, boot_id: &str, now: Instant) -> Result<u64, String> {
        if let Some(live) = self.live.get(node)
            && live.boot_id != boot_id
            && now.saturating_duration_since(live.heard) < SILENT_AFTER
        {
            return Err(format!(
                "another machine holds the key `{node}` and is connected; give one of them another name by setting `node`"
            ));
        }
        self.given += 1;
        let live = Live { number: self.given, boot_id: boot_id.to_owned(), heard: now, generation: 0 };
        self.live.insert(node.clone(), live);
        Ok(self.given)
    }

    pub(super) fn refuse(&mut self, refused: RefusedNode) {
        self.refused.retain(|old| (&old.node, &old.boot_id) != (&refused.node, &refused.boot_id));
        self.refused.push_back(refused);
        while self.refused.len() > REFUSED_MAX {
            self.refused.pop_front();
        }
    }

    pub(super) fn heard(&mut self, session: &Session, now: Instant) -> Standing {
        match self.live.get_mut(&session.node) {
            Some(live) if live.number == session.number => {
                live.heard = now;
                Standing::Live
            }
            Some(_) => Standing::TakenOver,
            None => Standing::Ended,
        }
    }

    /// Whether a report may be taken, and what it has to be written against.
    pub(super) fn check(&mut self, incoming: &Incoming<'_>, now: Instant) -> Result<Held, ReportError> {
        let Incoming { session, boot_id, generation, .. } = *incoming;
        if self.heard(session, now) != Standing::Live {
            return Err(ReportError::SessionOver);
        }
        let live = self.live.get(&session.node).ok_or(ReportError::SessionOver)?;
        if live.boot_id != boot_id {
            return Err(ReportError::Foreign);
        }
        if generation <= live.generation {
            return Err(ReportError::OldGeneration(generation));
        }
        let mirror = self.mirror.get(&session.node).cloned().unwrap_or_default();
        let presence = mirror.presence.as_ref().map(|(_, presence)| presence);
        Ok(Held {
            report_revision: mirror.report_revision,
            presence_revision: mirror.presence.as_ref().map(|(revision, _)| *revision),
            fingerprint: mirror.fingerprint,
            is_speaking: !mirror.is_revising && presence.is_some_and(|p| p.silence.is_none() && p.boot_id == boot_id),
        })
    }

    /// A report was taken; `written` when that needed a commit.
    pub(super) fn took(&mut self, session: &Session, generation: u64, written: Option<Written>) {
        self.awaited.remove(&session.node);
        if self.memory == Memory::Empty {
            // A node that remembers nothing: both are new.
            self.memory = Memory::Kept;
        }
        if let Some(live) = self.live.get_mut(&session.node).filter(|live| live.number == session.number) {
            live.generation = live.generation.max(generation);
        }
        let Some(written) = written else { return };
        let mirror = self.mirror.entry(session.node.clone()).or_default();
        if mirror.report_revision.is_none_or(|revision| revision < written.revision) {
            mirror.report_revision = Some(written.revision);
            mirror.fingerprint = Some((session.number, written.fingerprint));
        }
        if let Some(presence) = written.presence {
            self.revised_presence(&session.node, written.revision, presence);
        }
    }

    /// The stream of a session ended. Whether that makes its node silent.
    pub(super) fn end(&mut self, session: &Session, now: Instant) -> bool {
        let is_live = self.live.get(&session.node).is_some_and(|live| live.number == session.number);
        if is_live {
            self.live.remove(&session.node);
            self.note_loss(now);
        }
        is_live
    }

    /// Ends what has been silent for too long; everything that the store should call silent and does not.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<NodeKey> {
        if now.saturating_duration_since(self.swept) >= STALLED_AFTER {
            self.live.values_mut().for_each(|live| live.heard = now);
        }
        self.swept = now;
        let is_silent = |live: &Live| now.saturating_duration_since(live.heard) >= SILENT_AFTER;
        let silent: Vec<_> =
            self.live.iter().filter(|(_, live)| is_silent(live)).map(|(node, _)| node.clone()).collect();
        for node in silent {
            self.live.remove(&node);
            self.note_loss(now);
        }
        if now >= self.awaited_until {
            self.awaited.clear();
            self.memory = Memory::Kept;
        }
        let speaks = |mirror: &Mirror| mirror.presence.as_ref().is_some_and(|(_, p)| p.silence.is_none());
        let gone = self.mirror.iter().filter(|(node, mirror)| speaks(mirror) && !self.live.contains_key(*node));
        gone.map(|(node, _)| node.clone()).filter(|node| !self.awaited.contains(node)).collect()
    }

    /// What the store says of the presence of a node that has no live session, for a write that the caller begins.
    pub(super) fn begin_revision(&mut self, node: &NodeKey) -> Option<(u64, Presence)> {
        if self.live.contains_key(node) {
            return None;
        }
        let mirror = self.mirror.get_mut(node)?;
        mirror.is_revising = mirror.presence.is_some();
        mirror.presence.clone()
    }

    pub(super) fn revised_presence(&mut self, node: &NodeKey, revision: u64, presence: Presence) {
        let mirror = self.mirror.entry(node.clone()).or_default();
        if mirror.presence.as_ref().is_none_or(|(known, _)| *known < revision) {
            mirror.presence = Some((revision, presence));
            mirror.is_revising = false;
        }
    }

    pub(super) fn refresh(&mut self, node: &NodeKey, snapshot: &Snapshot) {
        let of_node = |entry: &&Entry| matches!(&entry.key, Key::Node(key) | Key::Presence(key) if key == node);
        match mirror_of(snapshot.entries.iter().filter(of_node)).remove(node) {
            Some(mirror) => drop(self.mirror.insert(node.clone(), mirror)),
            None => drop(self.mirror.remove(node)),
        }
    }

    /// Over half of the streams were lost within five seconds, and fewer than a third of them are back.
    pub(super) fn is_doubtful(&mut self, now: Instant) -> bool {
        while self.losses.front().is_some_and(|lost| now.saturating_duration_since(*lost) > DOUBT_WINDOW) {
            self.losses.pop_front();
        }
        let before = self.live.len() + self.losses.len();
        if self.losses.len() * 2 > before {
            self.doubt = Some(self.doubt.unwrap_or(0).max(before));
        } else if self.doubt.is_some_and(|before| self.live.len() * 3 >= before) {
            self.doubt = None;
        }
        self.doubt.is_some()
    }

    fn note_loss(&mut self, now: Instant) {
        if self.losses.len() < LOSSES_MAX {
            self.losses.push_back(now);
        }
    }
}

fn mirror_of<'a>(entries: impl Iterator<Item = &'a Entry>) -> HashMap<NodeKey, Mirror> {
    let mut mirrors: HashMap<NodeKey, Mirror> = HashMap::new();
    for entry in entries {
        match &entry.key {
            Key::Node(node) => {
                let mirror = mirrors.entry(node.clone()).or_default();
                mirror.report_revision = Some(entry.revision);
                let session = portolan_proto::node_report::decode(&entry.value).ok().map(|d| d.report.session);
                mirror.fingerprint = session.map(|session| (session, fingerprint(&entry.value)));
            }
            Key::Presence(node) => {
                // A record of another version is written over by the node's next report, not read.
                let unknown = Presence { boot_id: String::new(), since_ms: 0, silence: None };
                let presence = record::decode(&entry.value).unwrap_or(unknown);
                mirrors.entry(node.clone()).or_default().presence = Some((entry.revision, presence));
            }
            _ => {}
        }
    }
    mirrors
}
