//! The newest commits, kept in memory for watchers.
//!
//! Bounded in number and bytes, whatever the watchers do: a watcher holds nothing but the revision it has seen, and one
//! that the log has passed by is told to load again. A commit is told in the order of revisions and only once durable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Commit, Write};

/// How many commits are kept: several seconds of the highest rate promised.
const COMMITS_MAX: usize = 4_096;
/// How many bytes of values are kept.
const BYTES_MAX: usize = 32 << 20;

/// The writing end; the engine holds it.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    newest: watch::Sender<u64>,
    commits_max: usize,
}

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The revision before the first commit kept.
    floor: u64,
    commits: VecDeque<Arc<Commit>>,
    bytes: usize,
}

/// One reader of the log.
#[derive(Debug)]
pub struct Watch {
    seen: u64,
    shared: Arc<Shared>,
    newest: watch::Receiver<u64>,
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// The next commits, at least one.
    Commits(Vec<Arc<Commit>>),
    /// Older than what is held: load again and watch from there.
    Compacted,
    /// The store was closed.
    Closed,
}

impl Log {
    /// A log that begins after `revision`.
    pub fn new(revision: u64) -> Self {
        Self::with_capacity(revision, COMMITS_MAX)
    }

    /// A log that keeps at most `commits_max` commits.
    pub fn with_capacity(revision: u64, commits_max: usize) -> Self {
        let shared = Arc::new(Shared { kept: Mutex::new(Kept { floor: revision, ..Kept::default() }) });
        Log { shared, newest: watch::Sender::new(revision), commits_max }
    }

    /// Adds commits, in the order of their revisions, and wakes the watchers.
    pub fn append(&self, commits: Vec<Commit>) {
        let Some(newest) = commits.last().map(|commit| commit.revision) else { return };
        let mut kept = self.shared.lock();
        for commit in commits {
            kept.bytes += size(&commit);
            kept.commits.push_back(Arc::new(commit));
        }
        while kept.commits.len() > self.commits_max || kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.commits.pop_front() else { break };
            kept.bytes -= size(&oldest);
            kept.floor = oldest.revision;
        }
        drop(kept);
        self.newest.send_replace(newest);
    }

    /// Forgets all commits: what happened up to `revision` is not known in detail. Watchers load again.
    pub fn reset(&self, revision: u64) {
        *self.shared.lock() = Kept { floor: revision, ..Kept::default() };
        self.newest.send_replace(revision);
    }

    /// A watcher of what follows `revision`.
    pub fn watch(&self, revision: u64) -> Watch {
        Watch { seen: revision, shared: self.shared.clone(), newest: self.newest.subscribe() }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Waits for the next commits. Cancel-safe: what was not returned is returned by the next call.
    pub async fn next(&mut self) -> Watched {
        loop {
            let is_open = self.newest.has_changed().is_ok();
            self.newest.mark_unchanged();
            if let Some(watched) = self.take() {
                return watched;
            }
            if !is_open || self.newest.changed().await.is_err() {
                return self.take().unwrap_or(Watched::Closed);
            }
        }
    }

    fn take(&mut self) -> Option<Watched> {
        let kept = self.shared.lock();
        let newest = kept.commits.back().map_or(kept.floor, |commit| commit.revision);
        if self.seen < kept.floor || self.seen > newest {
            return Some(Watched::Compacted);
        }
        // Revisions have no gaps, so the place of the next one is known.
        let skipped = (self.seen - kept.floor) as usize;
        let commits: Vec<_> = kept.commits.iter().skip(skipped).cloned().collect();
        self.seen = newest;
        (!commits.is_empty()).then_some(Watched::Commits(commits))
    }
}

fn size(commit: &Commit) -> usize {
    commit.writes.iter().map(|write| if let Write::Put(_, value) = write { value.len() } else { 0 }).sum()
}
