//! The embedded engine: one file (redb), one writer thread, many transactions in one durable write.
//!
//! What `commit` returned is on the disk. The writer takes what has queued up while the disk was busy, applies each
//! transaction on its own (each has its revision, each may conflict), and makes all of them durable at once. A write
//! that fails (full disk) fails its callers and nothing else: the file is opened again for the next one. Reads of
//! surfaces never come here.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::log::Log;
use super::{CommitError, Identity, Snapshot, Store, StoreError, Transaction, Watch};

mod file;
mod writer;

/// How many requests wait for the writer; callers wait when it is full.
const REQUESTS_QUEUED: usize = 1_024;

/// A store in one file.
#[derive(Debug)]
pub struct EmbeddedStore {
    identity: Identity,
    log: std::sync::Arc<Log>,
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

/// What the writer is asked.
enum Request {
    Load(oneshot::Sender<Result<Snapshot, StoreError>>),
    Commit(Transaction, oneshot::Sender<Result<u64, CommitError>>),
}

impl EmbeddedStore {
    /// Opens the store at `path`; a new one is made at `now_ms` (Unix milliseconds) with an epoch from `seed`.
    ///
    /// # Errors
    /// When the file cannot be used: in use by another process, damaged, of another format, or not writable.
    pub fn open(path: &Path, now_ms: u64, seed: u64) -> Result<EmbeddedStore, StoreError> {
        let (file, head) = file::File::open(path, Identity::new(now_ms, seed))?;
        let log = std::sync::Arc::new(Log::new(head.revision));
        let (requests, queue) = mpsc::channel(REQUESTS_QUEUED);
        let writer = writer::Writer::new(file, head.revision, log.clone());
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || writer.run(queue));
        let thread = thread.map_err(|error| io_error("start the store's writer thread", error))?;
        Ok(EmbeddedStore { identity: head.identity, log, requests: Some(requests), writer: Some(thread) })
    }

    async fn ask<T>(&self, request: Request, answer: oneshot::Receiver<T>) -> Result<T, StoreError> {
        let requests = self.requests.as_ref().ok_or(StoreError::Closed)?;
        requests.send(request).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)
    }
}

impl Store for EmbeddedStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn load(&self) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        let (reply, answer) = oneshot::channel();
        async move { self.ask(Request::Load(reply), answer).await? }.boxed()
    }

    fn watch(&self, revision: u64) -> Watch {
        self.log.watch(revision)
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<u64, CommitError>> {
        let (reply, answer) = oneshot::channel();
        async move {
            transaction.check_size()?;
            self.ask(Request::Commit(transaction, reply), answer).await.map_err(CommitError::Store)?
        }
        .boxed()
    }
}

impl Drop for EmbeddedStore {
    /// Lets the writer finish what it was given, at most one durable write.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            writer.join().ok();
        }
    }
}

fn io_error(action: impl Into<String>, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Io { action: action.into(), source: std::sync::Arc::new(error) }
}

/// The path as errors show it.
fn shown(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}

#[cfg(test)]
mod tests;
