//! The store: what is kept of the evidence, in one order, so that every replica decides the same.
//!
//! - [`key`]: what may be kept, and under which name; [`record`]: our own small values; [`evidence`]: those of the other
//!   witnesses and of operators.
//! - [`log`]: the newest commits, for watchers; one that falls behind is told to load again.
//! - [`embedded`]: a file, for one registry.
//!
//! It decides nothing and reads no clock: a transaction carries its time. An *index* is a revision plus the store's base;
//! a new store's base is the time of its making, so an index never goes back when a store is lost.

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub mod embedded;
pub mod evidence;
pub mod key;
pub mod log;
pub mod record;

#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod memory;

pub use embedded::EmbeddedStore;
pub use key::{Key, Target};
pub use log::{Watch, Watched};

/// How many writes one transaction may carry.
pub const WRITES_MAX: usize = 1_024;
/// How long a value may be, in bytes: a node's report and what the store adds.
pub const VALUE_BYTES_MAX: usize = (4 << 20) + 1_024;

/// A store engine.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Which store this is.
    fn identity(&self) -> &Identity;

    /// Everything, at one revision.
    fn load(&self) -> BoxFuture<'_, Result<Snapshot, StoreError>>;

    /// The commits after `revision`, in their order.
    fn watch(&self, revision: u64) -> Watch;

    /// Applies all of a transaction or nothing. What it returns is durable. When dropped early, it may or may not be.
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<u64, CommitError>>;
}

/// Which store this is: told to clients, so that they see when it was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Random, made with the store.
    pub epoch: String,
    /// What is added to a revision to make an index. The sum stays below 2^53.
    pub base: u64,
}

impl Identity {
    /// The identity of a store made at `now_ms` (Unix milliseconds), random by `seed`.
    pub fn new(now_ms: u64, seed: u64) -> Self {
        // 2^52: beyond the year 2100, and room for as many revisions below 2^53.
        let base = now_ms.saturating_mul(1_000).min(1 << 52);
        Identity { epoch: format!("{:016x}", portolan_core::hash::stable(&[&seed.to_le_bytes(), b"epoch"])), base }
    }

    /// The index of `revision`.
    pub fn index(&self, revision: u64) -> u64 {
        self.base + revision
    }
}

/// Everything a store holds at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision of the newest commit; 0 when there was none.
    pub revision: u64,
    /// In the order of their keys.
    pub entries: Vec<Entry>,
}

/// One key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Under which name.
    pub key: Key,
    /// What.
    pub value: Bytes,
    /// The revision that wrote it.
    pub revision: u64,
    /// The time of that commit, Unix milliseconds, for people.
    pub at_ms: u64,
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its revision; the one before has one less.
    pub revision: u64,
    /// Its time, Unix milliseconds, for people.
    pub at_ms: u64,
    /// What it wrote.
    pub writes: Vec<Write>,
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The key has this value now.
    Put(Key, Bytes),
    /// The key is gone. Deleting what is not there is no error.
    Delete(Key),
}

/// What must hold of a key for a transaction to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// It is not there.
    Absent(Key),
    /// It was last written at this revision.
    AtRevision(Key, u64),
    /// It has this value, whenever that was written.
    Holds(Key, Bytes),
}

impl Expectation {
    /// Of which key.
    pub fn key(&self) -> &Key {
        match self {
            Expectation::Absent(key) | Expectation::AtRevision(key, _) | Expectation::Holds(key, _) => key,
        }
    }

    /// Whether it holds of what is there: the revision and the value.
    pub fn holds_of(&self, there: Option<(u64, &[u8])>) -> bool {
        match (self, there) {
            (Expectation::Absent(_), there) => there.is_none(),
            (Expectation::AtRevision(_, expected), Some((revision, _))) => *expected == revision,
            (Expectation::Holds(_, expected), Some((_, value))) => expected == value,
            (Expectation::AtRevision(..) | Expectation::Holds(..), None) => false,
        }
    }
}

/// Writes that apply together, if every expectation holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// When, Unix milliseconds, for people.
    pub at_ms: u64,
    /// What must hold.
    pub expectations: Vec<Expectation>,
    /// What to write. Two writes of one key: the later one counts.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// An empty transaction of that time.
    pub fn at(at_ms: u64) -> Self {
        Transaction { at_ms, ..Transaction::default() }
    }

    /// With an expectation more.
    #[must_use]
    pub fn expecting(mut self, expectation: Expectation) -> Self {
        self.expectations.push(expectation);
        self
    }

    /// With a put more.
    #[must_use]
    pub fn putting(mut self, key: Key, value: impl Into<Bytes>) -> Self {
        self.writes.push(Write::Put(key, value.into()));
        self
    }

    /// With a delete more.
    #[must_use]
    pub fn deleting(mut self, key: Key) -> Self {
        self.writes.push(Write::Delete(key));
        self
    }

    /// # Errors
    /// When it exceeds a limit.
    fn check_size(&self) -> Result<(), CommitError> {
        let longest = self.writes.iter().map(|w| if let Write::Put(_, value) = w { value.len() } else { 0 }).max();
        if self.writes.len() > WRITES_MAX || longest.unwrap_or(0) > VALUE_BYTES_MAX {
            return Err(CommitError::TooLarge);
        }
        Ok(())
    }
}

/// Why a transaction was not applied.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An expectation does not hold: somebody else wrote first.
    #[error("`{0}` is not as expected")]
    Conflict(Key),
    /// Over [`WRITES_MAX`] or [`VALUE_BYTES_MAX`].
    #[error("the transaction is larger than a store takes")]
    TooLarge,
    /// The engine failed; whether it was kept is not known until the next load.
    #[error("commit to the store")]
    Store(#[source] StoreError),
}

/// Why a store cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("open store at `{0}`: another process uses it; stop that one, or choose another `data_dir`")]
    Locked(String),
    /// The file is not a store, or damaged.
    #[error("open store at `{path}`: the file is damaged or not a store; move it away to start with an empty one")]
    Corrupt {
        /// The file.
        path: String,
        /// What was found.
        #[source]
        source: std::sync::Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Made by a version that this one does not know.
    #[error("open store at `{path}`: its format is {found}, this version reads {known}")]
    Format {
        /// The file.
        path: String,
        /// Its format.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// Reading or writing failed, such as on a full disk. The next attempt may succeed.
    #[error("{action}")]
    Io {
        /// What was tried.
        action: String,
        /// How it failed.
        #[source]
        source: std::sync::Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}
