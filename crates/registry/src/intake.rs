//! The intake: the one door through which evidence enters the store.
//!
//! - [`sessions`]: who holds a node's key, and which report is the newest; pure.
//! - [`steward`]: stores what the catalog found out about names and links.
//!
//! It decides nothing about endpoints. A report that it took is durable when the call returns; one that says nothing
//! new is not written. What it refuses changes nothing and is shown. Time is an argument.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use portolan_core::name::{NodeKey, ServiceKey, cluster_label};
use portolan_core::refusal::shown;
use portolan_core::view::LinkMode;
use portolan_proto::node_report;
use tokio::sync::watch;

use crate::clock::Now;
use crate::store::record::{self, AddressRecord, LinkDecision, LinkRecord, Passage, Presence, SessionRecord, Silence};
use crate::store::{CommitError, Expectation, Key, Store, StoreError, Transaction};

mod report;
mod sessions;
pub mod statement;
pub mod steward;

use report::Incoming;
use sessions::Sessions;

/// The longest report, in bytes.
pub const REPORT_BYTES_MAX: usize = portolan_proto::MESSAGE_BYTES_MAX;
/// How many bindings one hello may bring: more than a range of 65,534 is not meant.
const BINDINGS_MAX: usize = 65_534;
/// How many adoptions are under way at once.
const ADOPTIONS_AT_ONCE: usize = 64;
/// How many sessions one start of the registry may give; the next start begins above them.
const SESSIONS_PER_START: u64 = 1 << 32;
/// How often a write is tried again when another one came first.
const CONFLICTS_MAX: usize = 5;
/// The longest boot id: a UUID has 36 characters.
const BOOT_ID_MAX: usize = 128;

/// The door. Shared by every stream.
#[derive(Debug)]
pub struct Intake {
    store: Arc<dyn Store>,
    sessions: Mutex<Sessions>,
    /// Whether the store held no link when this registry started: then it adopts those that sidecars bring.
    adopts: bool,
    confirmed: watch::Sender<bool>,
}

/// What a sidecar says first.
#[derive(Debug, Clone)]
pub struct Hello {
    /// The key it claims.
    pub node: NodeKey,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Virtual addresses that it knows.
    pub bindings: Vec<(ServiceKey, Ipv4Addr)>,
}

/// The right to report for a node. A later session of the same node ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub node: NodeKey,
    /// Rises, also over restarts of the registry.
    pub number: u64,
}

/// How it stands with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may report.
    Live,
    /// It was silent for too long: the node may open another one at once.
    Ended,
    /// A newer session of the node took over.
    TakenOver,
}

/// A node that was refused, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RefusedNode {
    /// The key that it claimed.
    pub node: NodeKey,
    /// Its boot id.
    pub boot_id: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Why.
    pub reason: String,
}

/// Why no session was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The node cannot have this key; the text is for the person who runs it.
    #[error("{0}")]
    Refused(String),
    /// The store failed.
    #[error("adopt virtual addresses")]
    Store(#[source] CommitError),
}

/// Why a report was not taken. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Another session of the node is newer, or this one was ended: the stream should end.
    #[error("the session is over")]
    SessionOver,
    /// Its generation is not newer than one that was taken.
    #[error("generation {0} is not newer than the last one")]
    OldGeneration(u64),
    /// Over [`REPORT_BYTES_MAX`].
    #[error("the report has {0} bytes; at most {REPORT_BYTES_MAX} are taken")]
    TooLong(usize),
    /// Not a report.
    #[error("read a report")]
    Decode(#[source] node_report::DecodeError),
    /// It speaks for another node, boot or session than its stream does.
    #[error("the report is not of the session that it came on")]
    Foreign,
    /// The store failed; the same report may be sent again.
    #[error("keep a report")]
    Store(#[source] CommitError),
}

/// Why an intake cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// What is there cannot be read.
    #[error("read what the store holds of nodes")]
    Load(#[source] StoreError),
    /// Sessions cannot be reserved.
    #[error("reserve session numbers")]
    Reserve(#[source] CommitError),
}

impl Intake {
    /// Opens the door of `store`.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn open(store: Arc<dyn Store>, now: Now) -> Result<Intake, IntakeError> {
        let snapshot = store.load().await.map_err(IntakeError::Load)?;
        let stored = snapshot.entries.iter().find(|entry| entry.key == Key::Session);
        let reserved = stored.and_then(|entry| record::decode::<SessionRecord>(&entry.value)).map_or(0, |r| r.reserved);
        let expectation = match stored {
            Some(entry) => Expectation::AtRevision(Key::Session, entry.revision),
            None => Expectation::Absent(Key::Session),
        };
        let record = SessionRecord { reserved: reserved + SESSIONS_PER_START };
        let reserve =
            Transaction::at(now.unix_ms).expecting(expectation).putting(Key::Session, record::encode(&record));
        store.commit(reserve).await.map_err(IntakeError::Reserve)?;
        let adopts = !snapshot.entries.iter().any(|entry| matches!(entry.key, Key::Link(_)));
        let sessions = Sessions::new(&snapshot, reserved, now.instant);
        let confirmed = watch::Sender::new(sessions.is_sure());
        Ok(Intake { store, sessions: Mutex::new(sessions), adopts, confirmed })
    }

    /// Whether the witnesses have spoken, or have had the time to.
    pub fn confirmed(&self) -> watch::Receiver<bool> {
        self.confirmed.subscribe()
    }

    /// The nodes that were refused lately, oldest first.
    pub fn refused(&self) -> Vec<RefusedNode> {
        self.lock().refused.iter().cloned().collect()
    }

    /// Gives the node a session; its former one, if any, is over. Bindings are adopted before this returns.
    ///
    /// # Errors
    /// When another machine holds the node's key, or the hello cannot be meant.
    pub async fn open_session(&self, hello: Hello, now: Now) -> Result<Session, OpenError> {
        let refuse = |reason: String| {
            let node = hello.node.clone();
            tracing::warn!(node = %node, "node `{node}` is refused: {reason}");
            let boot_id = shown(&hello.boot_id, BOOT_ID_MAX);
            self.lock().refuse(RefusedNode { node, boot_id, at_ms: now.unix_ms, reason: reason.clone() });
            Err(OpenError::Refused(reason))
        };
        if let Err(error) = cluster_label(hello.node.cluster.as_str()) {
            return refuse(format!("its cluster {error}"));
        }
        if hello.boot_id.is_empty() || hello.boot_id.len() > BOOT_ID_MAX || hello.bindings.len() > BINDINGS_MAX {
            return refuse("its hello has no boot id, or more than a hello can have".to_owned());
        }
        let opened = self.lock().open(&hello.node, &hello.boot_id, now.instant);
        let number = match opened {
            Ok(number) => number,
            Err(reason) => return refuse(reason),
        };
        if !hello.bindings.is_empty() {
            self.lock().remembered();
        }
        if self.adopts {
            self.adopt(hello.bindings, now.unix_ms).await.map_err(OpenError::Store)?;
        }
        Ok(Session { node: hello.node, number })
    }

    /// Something was heard on the session's stream. Unless it is live, the stream should end.
    pub fn heard(&self, session: &Session, now: Now) -> Standing {
        self.lock().heard(session, now.instant)
    }

    /// Takes a report. What this returns, its generation, is durable.
    ///
    /// # Errors
    /// When it cannot be taken; nothing changed then, and the node's former report stands.
    pub async fn report(&self, session: &Session, bytes: Bytes, now: Now) -> Result<u64, ReportError> {
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(ReportError::TooLong(bytes.len()));
        }
        let report = node_report::decode(&bytes).map_err(ReportError::Decode)?.report;
        let generation = report.generation;
        if report.node != session.node || report.session != session.number {
            return Err(ReportError::Foreign);
        }
        let fingerprint = report::fingerprint(&bytes);
        let incoming = Incoming { session, boot_id: &report.boot_id, generation, bytes: &bytes, fingerprint };
        for _ in 0..CONFLICTS_MAX {
            let held = self.lock().check(&incoming, now.instant)?;
            let Some((transaction, presence)) = report::transaction(&incoming, &held, now) else {
                self.lock().took(session, generation, None);
                self.confirm();
                return Ok(generation);
            };
            match self.store.commit(transaction).await {
                Ok(revision) => {
                    let written = sessions::Written { revision, fingerprint, presence };
                    self.lock().took(session, generation, Some(written));
                    self.confirm();
                    return Ok(generation);
                }
                Err(CommitError::Conflict(_)) => self.refresh(&session.node).await.map_err(ReportError::Store)?,
                Err(error) => return Err(ReportError::Store(error)),
            }
        }
        Err(ReportError::Store(CommitError::Conflict(Key::Node(session.node.clone()))))
    }

    /// The session's stream ended: the node is silent, unless a newer session has taken over. Not to be called when the
    /// registry itself stops: then the streams end by its own doing.
    ///
    /// # Errors
    /// When the store failed. The node counts as silent at the next sweep.
    pub async fn end_session(&self, session: &Session, now: Now) -> Result<(), CommitError> {
        if self.lock().end(session, now.instant) { self.silence(&session.node, now.unix_ms).await } else { Ok(()) }
    }

    /// Writes that `node` is silent since `since_ms`, unless it speaks by now.
    pub(crate) async fn silence(&self, node: &NodeKey, since_ms: u64) -> Result<(), CommitError> {
        self.revise_presence(
            node,
            |presence| {
                let is_news = presence.silence.is_none();
                presence.silence.get_or_insert(Silence { since_ms, passage: None });
                is_news
            },
            since_ms,
        )
        .await
    }

    /// Writes that the deadline of the node's silence passed, except for the services `held`.
    pub(crate) async fn pass(&self, node: &NodeKey, held: Vec<ServiceKey>, at_ms: u64) -> Result<(), CommitError> {
        self.revise_presence(
            node,
            |presence| {
                let Some(silence) = &mut presence.silence else { return false };
                let is_news = silence.passage.as_ref().is_none_or(|passage| passage.held != held);
                silence.passage = Some(Passage { at_ms, held: held.clone() });
                is_news
            },
            at_ms,
        )
        .await
    }

    /// Takes silent sessions' keys away, and finds nodes that never came back. What is silent from now on.
    pub(crate) fn sweep(&self, now: Now) -> Vec<NodeKey> {
        let silent = self.lock().sweep(now.instant);
        self.confirm();
        silent
    }

    /// Whether so many streams were lost at once that this registry doubts itself.
    pub(crate) fn is_doubtful(&self, now: Now) -> bool {
        self.lock().is_doubtful(now.instant)
    }

    fn confirm(&self) {
        let is_confirmed = self.lock().is_sure();
        self.confirmed
            .send_if_modified(|confirmed| !std::mem::replace(confirmed, is_confirmed || *confirmed) && *confirmed);
    }

    /// Changes a silent node's presence. `change` says whether there is anything to write.
    async fn revise_presence(
        &self,
        node: &NodeKey,
        change: impl Fn(&mut Presence) -> bool,
        at_ms: u64,
    ) -> Result<(), CommitError> {
        for _ in 0..CONFLICTS_MAX {
            let Some((revision, mut presence)) = self.lock().begin_revision(node) else { return Ok(()) };
            if !change(&mut presence) {
                return Ok(());
            }
            let key = Key::Presence(node.clone());
            let transaction = Transaction::at(at_ms)
                .expecting(Expectation::AtRevision(key.clone(), revision))
                .putting(key, record::encode(&presence));
            match self.store.commit(transaction).await {
                Ok(revision) => {
                    self.lock().revised_presence(node, revision, presence);
                    return Ok(());
                }
                Err(CommitError::Conflict(_)) => self.refresh(node).await?,
                Err(error) => return Err(error),
            }
        }
        Err(CommitError::Conflict(Key::Presence(node.clone())))
    }

    /// Reads again what the store holds of a node: another session's write came first. Rare, so a whole load will do.
    async fn refresh(&self, node: &NodeKey) -> Result<(), CommitError> {
        let snapshot = self.store.load().await.map_err(CommitError::Store)?;
        self.lock().refresh(node, &snapshot);
        Ok(())
    }

    async fn adopt(&self, bindings: Vec<(ServiceKey, Ipv4Addr)>, at_ms: u64) -> Result<(), CommitError> {
        let adoptions = futures_util::stream::iter(bindings).map(|(service, address)| {
            let link = LinkRecord {
                mode: LinkMode::Vip,
                decided_by: LinkDecision::Adopted,
                address: Some(address),
                since_ms: at_ms,
            };
            let record = AddressRecord { service: service.clone(), freed_at_ms: None };
            let (link_key, address_key) = (Key::Link(service), Key::Address(address));
            let transaction = Transaction::at(at_ms)
                .expecting(Expectation::Absent(link_key.clone()))
                .expecting(Expectation::Absent(address_key.clone()))
                .putting(link_key, record::encode(&link))
                .putting(address_key, record::encode(&record));
            self.store.commit(transaction)
        });
        let mut results = adoptions.buffer_unordered(ADOPTIONS_AT_ONCE);
        while let Some(result) = results.next().await {
            match result {
                // Another sidecar brought it already, or brought the address for another name: the first one counts.
                Ok(_) | Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
