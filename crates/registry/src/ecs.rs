//! The ECS source: asks AWS which tasks run where, and states it. The second witness.
//!
//! ```text
//! api (AWS, or a double) <── caller (budget) <──┬── sweep (lists each cluster) ──────┐
//!                                               ├── lookup (what one wants to know) ─┼──> ledger ──> intake
//!                                               └── queue (events) ──────────────────┘
//! ```
//!
//! A listing counts only when every page of it came; a failed or partial one changes nothing. An event is applied by
//! version. No error of AWS removes anything. It decides nothing about endpoints, and nothing of it runs unless
//! `aws.clusters` is set.
//!
//! - [`action`], [`budget`], [`caller`]: what may be called, how often, and what is denied.
//! - [`facts`], [`definition`], [`events`], [`machine`]: what AWS said, checked at the door.
//! - [`convert`]: a task in the words of a sidecar's report.
//! - [`knowledge`], [`absence`]: listings and events merged, per cluster; [`ledger`]: shared, and brought to the intake.
//! - [`sweep`], [`pages`], [`pause`], [`lookup`], [`unnamed`], [`queue`]: the jobs. [`status`]: how it stands, for people.

mod absence;
mod action;
pub mod api;
pub mod aws;
mod budget;
mod caller;
mod cluster;
mod convert;
mod definition;
mod events;
mod facts;
mod heard;
mod jitter;
mod knowledge;
mod ledger;
mod lookup;
mod machine;
mod metrics;
mod pages;
mod pause;
mod queue;
pub mod status;
mod sweep;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod unnamed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use tracing::{info, warn};

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::intake::Intake;
use crate::intake::statement::{Held, Statement};
use crate::settings;
use crate::store::evidence::ClusterRecord;
use crate::store::{CommitError, StoreError};
use api::Aws;
use caller::Caller;
use cluster::Configured;
use knowledge::Knowledge;
use ledger::Ledger;
use queue::Queue;
use status::{Board, QueueStatus, Status};
use sweep::Sweep;

pub use metrics::Metrics;

/// What the source is made of.
#[derive(Debug)]
pub struct Source {
    /// AWS, or a double.
    pub aws: Arc<dyn Aws>,
    /// Where it states.
    pub intake: Arc<Intake>,
    /// What may be forgotten depends on it.
    pub catalog: Reader<Catalog>,
    /// The time.
    pub clock: Clock,
    /// `aws.*`.
    pub settings: settings::Aws,
    /// Counts.
    pub metrics: Metrics,
    /// For jitter.
    pub seed: u64,
}

/// Why the source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Something in `aws.clusters` is no cluster.
    #[error("setting `aws.clusters`: {0}")]
    Cluster(String),
    /// `aws.calls_per_second` is out of range.
    #[error("setting `aws.calls_per_second`: `{0}` is not accepted: give a whole number from 1 to 100")]
    CallsPerSecond(u32),
    /// What was stated before cannot be read.
    #[error("read what the store holds of ECS")]
    Load(#[source] StoreError),
    /// What is to be taken back cannot be.
    #[error("take back what was stated of clusters that are no longer set")]
    TakeBack(#[source] CommitError),
    /// It cannot be stated that ECS is a witness.
    #[error("state which clusters ECS is asked about")]
    Announce(#[source] CommitError),
}

/// Starts the source: one job that states, one that looks things up, one for each cluster, and one for the queue if there
/// is one. Returns how it stands, for people.
///
/// # Errors
/// When the settings cannot be meant, or the store cannot be read or written.
pub async fn start(jobs: &Jobs, source: Source) -> Result<Reader<Status>, SourceError> {
    let clusters = configured(&source.settings)?;
    let calls_per_second = source.settings.calls_per_second;
    if !(1..=100).contains(&calls_per_second) {
        return Err(SourceError::CallsPerSecond(calls_per_second));
    }
    let mut held = source.intake.held_of_ecs().await.map_err(SourceError::Load)?;
    let now_ms = source.clock.now().unix_ms;
    announce(&source.intake, (&clusters, &mut held), now_ms).await.map_err(SourceError::Announce)?;
    let known = clusters.iter().map(|own| (own.label.clone(), Knowledge::new(&own.label, &held, now_ms)));
    let ledger = Arc::new(Ledger::new(known.collect()));
    let (board, reader) = Board::new(first_status(&clusters, &source.settings));
    let Source { aws, clock, metrics, seed, .. } = source;
    let caller = Arc::new(Caller::new(caller::Parts { aws, clock, metrics, board, calls_per_second, seed }));

    let (stating, asking, intake, catalog) = (ledger.clone(), caller.clone(), source.intake, source.catalog);
    let named = catalog.clone();
    jobs.start("ecs statements", async move { stating.state(&asking, &intake, catalog).await });
    let names = clusters.iter().map(|own| (own.label.clone(), own.name.clone())).collect();
    jobs.start("ecs lookups", lookup::answer_questions(ledger.clone(), caller.clone(), names, named));
    let count = u32::try_from(clusters.len()).unwrap_or(u32::MAX);
    for cluster in &clusters {
        let sweep = Sweep::new(cluster.clone(), (ledger.clone(), caller.clone()), (count, calls_per_second));
        jobs.start("ecs sweep", sweep.repeat());
    }
    if let Some(url) = source.settings.queue {
        jobs.start("ecs queue", Queue::new(url, clusters, (ledger, caller)).follow());
    }
    Ok(reader)
}

fn configured(settings: &settings::Aws) -> Result<Vec<Arc<Configured>>, SourceError> {
    let mut labels = BTreeSet::new();
    let mut clusters = Vec::new();
    for text in &settings.clusters {
        let cluster = Configured::parse(text).map_err(SourceError::Cluster)?;
        if !labels.insert(cluster.label.clone()) {
            let reason = format!("two clusters are called `{}`; run one registry for each", cluster.label);
            return Err(SourceError::Cluster(reason));
        }
        clusters.push(Arc::new(cluster));
    }
    Ok(clusters)
}

/// States that ECS is a witness for the clusters of which the store does not say so: before anybody registers a container,
/// because it would be named for life without ECS otherwise.
async fn announce(
    intake: &Intake,
    (clusters, held): (&[Arc<Configured>], &mut Held),
    now_ms: u64,
) -> Result<(), CommitError> {
    let new = clusters.iter().filter(|cluster| !held.clusters.contains_key(&cluster.label));
    let record = |cluster: &Configured| ClusterRecord { arn: cluster.known_as(), since_ms: now_ms };
    let new: Vec<_> = new.map(|cluster| (cluster.label.clone(), record(cluster))).collect();
    let statements = new.iter().map(|(label, record)| Statement::Cluster(label.clone(), Some(record.clone())));
    intake.state(statements.collect(), now_ms).await?;
    held.clusters.extend(new);
    Ok(())
}

fn first_status(clusters: &[Arc<Configured>], settings: &settings::Aws) -> Status {
    let mut status = Status { queue: settings.queue.as_ref().map(|_| QueueStatus::default()), ..Status::default() };
    for cluster in clusters {
        status.clusters.entry(cluster.label.clone()).or_default().arn = cluster.arn();
    }
    status
}

/// Takes back what was stated of clusters that `settings` no longer names: ECS is no witness for them any more.
///
/// # Errors
/// When the settings cannot be meant, or the store cannot be read or written.
pub async fn take_back(intake: &Intake, settings: &settings::Aws, clock: Clock) -> Result<(), SourceError> {
    let kept: BTreeSet<Label> = configured(settings)?.iter().map(|cluster| cluster.label.clone()).collect();
    let held = intake.held_of_ecs().await.map_err(SourceError::Load)?;
    for (cluster, statements) in foreign(&held, &kept) {
        let count = statements.len();
        intake.state(statements, clock.now().unix_ms).await.map_err(SourceError::TakeBack)?;
        info!(cluster = %cluster, "cluster `{cluster}` is no longer set: {count} records of what ECS said are taken back");
    }
    if !held.unread.is_empty() {
        warn!("{} records of what ECS said cannot be read, and are made again", held.unread.len());
    }
    Ok(())
}

/// By cluster, what takes back everything that was stated of others than these.
fn foreign(held: &Held, kept: &BTreeSet<Label>) -> BTreeMap<Label, Vec<Statement>> {
    let mut foreign: BTreeMap<Label, Vec<Statement>> = BTreeMap::new();
    let mut add = |cluster: &Label, statement: Statement| {
        if !kept.contains(cluster) {
            foreign.entry(cluster.clone()).or_default().push(statement);
        }
    };
    held.clusters.keys().for_each(|cluster| add(cluster, Statement::Cluster(cluster.clone(), None)));
    held.reports.keys().for_each(|node: &NodeKey| add(&node.cluster, Statement::Ecs(node.clone(), None)));
    held.services.keys().for_each(|key: &ServiceKey| add(&key.cluster, Statement::Service(key.clone(), None)));
    for (cluster, family) in held.families.keys() {
        add(cluster, Statement::Family(cluster.clone(), family.clone(), None));
    }
    foreign
}
