//! The writer thread: takes what has queued, applies it in one durable write, then tells callers and watchers.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::super::log::Log;
use super::super::{Commit, CommitError, Snapshot, StoreError, Transaction};
use super::Request;
use super::file::{File, Tables};

/// How many transactions become durable at once at most, so that no caller waits for a very long write.
const BATCH_MAX: usize = 256;

type Reply = oneshot::Sender<Result<u64, CommitError>>;

/// Owns the file. There is one.
pub(super) struct Writer {
    file: File,
    revision: u64,
    log: Arc<Log>,
}

impl Writer {
    pub(super) fn new(file: File, revision: u64, log: Arc<Log>) -> Self {
        Writer { file, revision, log }
    }

    /// Works until every sender of `queue` is gone.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = Vec::new();
            let mut loads = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Load(reply) => loads.push(reply),
                    Request::Commit(transaction, reply) => batch.push((transaction, reply)),
                }
                next = if batch.len() < BATCH_MAX { queue.try_recv().ok() } else { None };
            }
            self.commit(batch);
            // Whoever asked has gone away: nothing is left to tell.
            loads.into_iter().for_each(|reply| drop(reply.send(self.load())));
        }
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.recover()?;
        self.file.load()
    }

    fn commit(&mut self, batch: Vec<(Transaction, Reply)>) {
        if batch.is_empty() {
            return;
        }
        let (transactions, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        match self.write(&transactions) {
            Ok((results, commits)) => {
                self.revision = commits.last().map_or(self.revision, |commit| commit.revision);
                self.log.append(commits);
                for (reply, result) in replies.into_iter().zip(results) {
                    reply.send(result).ok();
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store cannot write: {error}");
                for reply in replies {
                    reply.send(Err(CommitError::Store(error.clone()))).ok();
                }
            }
        }
    }

    fn write(&mut self, transactions: &[Transaction]) -> Result<Written, StoreError> {
        self.recover()?;
        let revision = self.revision;
        self.file.write(|tables| apply_all(tables, transactions, revision))
    }

    /// After a failure nobody knows what reached the disk: the file is read again, and watchers load again.
    fn recover(&mut self) -> Result<(), StoreError> {
        if let Some(revision) = self.file.reopen_if_failed()? {
            self.revision = revision;
            self.log.reset(revision);
        }
        Ok(())
    }
}

/// The answer to each transaction, and what was committed.
type Written = (Vec<Result<u64, CommitError>>, Vec<Commit>);

fn apply_all(
    tables: &mut Tables<'_, '_>,
    transactions: &[Transaction],
    mut revision: u64,
) -> Result<Written, redb::Error> {
    let mut results = Vec::with_capacity(transactions.len());
    let mut commits = Vec::with_capacity(transactions.len());
    for transaction in transactions {
        if let Some(conflict) = conflict(tables, transaction)? {
            results.push(Err(conflict));
            continue;
        }
        revision += 1;
        for write in &transaction.writes {
            tables.apply(write, revision, transaction.at_ms)?;
        }
        commits.push(Commit { revision, at_ms: transaction.at_ms, writes: transaction.writes.clone() });
        results.push(Ok(revision));
    }
    tables.note_revision(revision)?;
    Ok((results, commits))
}

fn conflict(tables: &Tables<'_, '_>, transaction: &Transaction) -> Result<Option<CommitError>, redb::Error> {
    for expectation in &transaction.expectations {
        if !tables.look(expectation.key(), |there| expectation.holds_of(there))? {
            return Ok(Some(CommitError::Conflict(expectation.key().clone())));
        }
    }
    Ok(None)
}
