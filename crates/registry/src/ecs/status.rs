//! How it stands with AWS, for people: one value that `/api/status` shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use portolan_core::name::Label;
use portolan_runtime::published::{Publisher, Reader, published};

/// How many parked messages are kept for people.
pub(super) const PARKED_MAX: usize = 100;

/// Everything that a person may want to know of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// By cluster.
    pub clusters: BTreeMap<Label, ClusterStatus>,
    /// IAM actions that are missing, by their names.
    pub denied: BTreeMap<&'static str, Denied>,
    /// Calls of ECS and EC2 within the last minute.
    pub calls_last_minute: u32,
    /// How many the budget allows in a minute.
    pub calls_per_minute_max: u32,
    /// The event queue; `None`: there is none.
    pub queue: Option<QueueStatus>,
}

/// How it stands with one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Its ARN, once it is known.
    pub arn: Option<String>,
    /// When the last complete listing ended, Unix milliseconds.
    pub listed_ms: Option<u64>,
    /// How many calls that took.
    pub calls: u32,
    /// How many tasks are known that have not stopped.
    pub tasks: usize,
    /// How many of those are missing.
    pub missing: usize,
    /// How many container instances are known.
    pub instances: usize,
    /// What went wrong since the last complete listing: when, Unix milliseconds, and what.
    pub error: Option<(u64, String)>,
}

/// An action that may not be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Since when, Unix milliseconds.
    pub since_ms: u64,
    /// What AWS said.
    pub message: String,
    /// What is lost.
    pub without: &'static str,
}

/// How it stands with the event queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// When it last answered, Unix milliseconds.
    pub answered_ms: Option<u64>,
    /// Messages that were applied, since the start.
    pub applied: u64,
    /// What went wrong since it last answered: when, Unix milliseconds, and what.
    pub error: Option<(u64, String)>,
    /// How many messages were parked since the start.
    pub parked_total: u64,
    /// The newest that could not be read or applied, oldest first.
    pub parked: Vec<Parked>,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Its id.
    pub message_id: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Why.
    pub reason: String,
    /// How it begins, made harmless to show.
    pub beginning: String,
}

/// Where the jobs write what they know; each change is published whole.
#[derive(Debug)]
pub(super) struct Board(Mutex<Publisher<Status>>);

impl Board {
    pub(super) fn new(status: Status) -> (Board, Reader<Status>) {
        let (publisher, reader) = published(status);
        (Board(Mutex::new(publisher)), reader)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Status)) {
        let publisher = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = publisher.load();
        let mut status = Status::clone(&before);
        change(&mut status);
        if status != *before {
            publisher.publish(Arc::new(status));
        }
    }

    pub(super) fn change_cluster(&self, cluster: &Label, change: impl FnOnce(&mut ClusterStatus)) {
        self.change(|status| change(status.clusters.entry(cluster.clone()).or_default()));
    }

    pub(super) fn change_queue(&self, change: impl FnOnce(&mut QueueStatus)) {
        self.change(|status| change(status.queue.get_or_insert_default()));
    }
}
