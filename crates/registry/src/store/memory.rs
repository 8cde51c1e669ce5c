//! An engine in memory: the second one that the contract suite runs on, and quick tests of what uses a store.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::log::Log;
use super::{Commit, CommitError, Entry, Identity, Key, Snapshot, Store, StoreError, Transaction, Watch, Write};

#[derive(Debug)]
pub(crate) struct MemoryStore {
    identity: Identity,
    log: Log,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    revision: u64,
    entries: BTreeMap<Key, (u64, u64, Bytes)>,
}

impl MemoryStore {
    pub(crate) fn new(now_ms: u64) -> Self {
        MemoryStore { identity: Identity::new(now_ms, 1), log: Log::new(0), held: Mutex::default() }
    }

    fn apply(&self, transaction: Transaction) -> Result<u64, CommitError> {
        transaction.check_size()?;
        let mut held = self.held.lock().unwrap();
        for expectation in &transaction.expectations {
            let there = held.entries.get(expectation.key()).map(|(revision, _, value)| (*revision, value.as_ref()));
            if !expectation.holds_of(there) {
                return Err(CommitError::Conflict(expectation.key().clone()));
            }
        }
        held.revision += 1;
        let revision = held.revision;
        for write in &transaction.writes {
            match write {
                Write::Put(key, value) => {
                    held.entries.insert(key.clone(), (revision, transaction.at_ms, value.clone()));
                }
                Write::Delete(key) => drop(held.entries.remove(key)),
            }
        }
        self.log.append(vec![Commit { revision, at_ms: transaction.at_ms, writes: transaction.writes }]);
        Ok(revision)
    }
}

impl Store for MemoryStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn load(&self) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        let held = self.held.lock().unwrap();
        let entry = |(key, (revision, at_ms, value)): (&Key, &(u64, u64, Bytes))| Entry {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
            at_ms: *at_ms,
        };
        let snapshot = Snapshot { revision: held.revision, entries: held.entries.iter().map(entry).collect() };
        ready(Ok(snapshot)).boxed()
    }

    fn watch(&self, revision: u64) -> Watch {
        self.log.watch(revision)
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<u64, CommitError>> {
        ready(self.apply(transaction)).boxed()
    }
}
