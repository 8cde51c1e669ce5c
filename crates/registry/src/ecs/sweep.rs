//! The sweep: lists one cluster in full, again and again, and tells the ledger what it found.
//!
//! What a page tells counts at once; that something is not there counts only when every page came. A page that fails is
//! asked for again within the budget; when it goes on failing the listing is given up, and nothing is removed for it. The
//! kinds are separate: services that may not be listed keep no task from being known.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::sleep;
use tracing::{info, warn};

use super::action::Action;
use super::api::{Answer, Aws, CallError, DESCRIBE_MAX, DESCRIBE_SERVICES_MAX, Desired, Page};
use super::caller::Caller;
use super::cluster::Configured;
use super::heard::{hear_instances, hear_tasks};
use super::knowledge::{Knowledge, Listing};
use super::ledger::Ledger;
use super::pages::{Next, Pages, PagesError};
use super::pause::Pause;

/// Of how many sweeps one lists stopped tasks too.
const STOPPED_EVERY: u32 = 6;
/// How many pages of those are read, and how many that nobody knew are asked about, for their stop reasons.
const STOPPED_PAGES_MAX: usize = 5;
const STOPPED_MAX: usize = 200;

/// Why a listing was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SweepError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}: {1}")]
    Pages(&'static str, PagesError),
    #[error("the cluster is not known to AWS in this region and account: {0}")]
    NoCluster(String),
}

/// Lists one cluster.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) cluster: Arc<Configured>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) caller: Arc<Caller>,
    /// How many clusters share the budget.
    pub(super) clusters: u32,
    pub(super) calls_per_second: u32,
    /// Those of the last listing of stopped tasks: each is asked about once.
    seen_stopped: BTreeSet<String>,
    number: u32,
    calls: u32,
}

impl Sweep {
    pub(super) fn new(
        cluster: Arc<Configured>,
        (ledger, caller): (Arc<Ledger>, Arc<Caller>),
        (clusters, calls_per_second): (u32, u32),
    ) -> Sweep {
        let seen_stopped = BTreeSet::new();
        Sweep { cluster, ledger, caller, clusters, calls_per_second, seen_stopped, number: 0, calls: 0 }
    }

    /// The job.
    pub(super) async fn repeat(mut self) {
        let mut failures = 0;
        loop {
            (self.calls, self.number) = (0, self.number.wrapping_add(1));
            match self.once().await {
                Ok(()) => self.show_complete(std::mem::take(&mut failures)),
                Err(error) => {
                    failures += 1;
                    self.show_failure(&error, failures);
                }
            }
            let pause = Pause {
                calls: self.calls,
                failures,
                has_events: self.cluster.has_events(self.now_ms()),
                clusters: self.clusters,
                calls_per_second: self.calls_per_second,
            };
            sleep(pause.draw(self.caller.jitter.fraction())).await;
        }
    }

    /// One sweep: complete when tasks and instances were listed in full, or instances may not be listed.
    async fn once(&mut self) -> Result<(), SweepError> {
        self.find_arn().await?;
        // Instances first: their tasks are then told under them at once.
        let instances = unless_denied(self.instances().await);
        if let Err(SweepError::Call(CallError::Throttled { .. })) = &instances {
            // Tasks are of the same family: more calls would only be more throttled ones.
            return instances;
        }
        self.tasks().await?;
        instances?;
        let (now_ms, label, calls) = (self.now_ms(), &self.cluster.label, self.calls);
        let arn = self.cluster.known_as();
        self.ledger.change(|inner| inner.clusters.get_mut(label).map(|known| known.confirm(&arn, now_ms)));
        self.caller.board.change_cluster(label, |status| {
            status.arn = self.cluster.arn();
            (status.listed_ms, status.calls, status.error) = (Some(now_ms), calls, None);
        });
        if let Err(error) = unless_denied(self.services().await) {
            let error = Some((self.now_ms(), error.to_string()));
            self.caller.board.change_cluster(&self.cluster.label, |status| status.error = error);
        }
        Ok(())
    }

    /// The cluster's ARN, by which events are told from those of others.
    async fn find_arn(&mut self) -> Result<(), SweepError> {
        if self.cluster.arn().is_some() {
            return Ok(());
        }
        let name = &self.cluster.name;
        match self
            .caller
            .insist(Action::DescribeClusters, &mut self.calls, |aws| aws.describe_clusters(vec![name.clone()]))
            .await
        {
            Ok(described) => {
                let found = described.items.first().ok_or_else(|| SweepError::NoCluster(name.clone()))?;
                self.cluster.learn_arn(&found.cluster_arn);
                Ok(())
            }
            // Listing needs no ARN.
            Err(CallError::Denied { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn instances(&mut self) -> Result<(), SweepError> {
        let (began_ms, name, label) = (self.now_ms(), self.cluster.name.clone(), self.cluster.label.clone());
        let listed = list(&self.caller, Action::ListContainerInstances, &mut self.calls, |aws, token| {
            aws.list_container_instances(name.clone(), token)
        })
        .await?;
        let unlisted = self.look(|known| known.unlisted_instances(&listed));
        let asked: Vec<String> = listed.iter().cloned().chain(unlisted).collect();
        let mut named = listed;
        for part in asked.chunks(DESCRIBE_MAX) {
            let action = Action::DescribeContainerInstances;
            let described = self
                .caller
                .insist(action, &mut self.calls, |aws| aws.describe_container_instances(name.clone(), part.to_vec()))
                .await?;
            named.extend(hear_instances(&self.ledger, &self.caller, (&label, &described)));
        }
        let listing = Listing { began_ms, ended_ms: self.now_ms(), named };
        self.change(|known| known.complete_instances(&listing, listing.ended_ms));
        Ok(())
    }

    async fn tasks(&mut self) -> Result<(), SweepError> {
        let (began_ms, name, label) = (self.now_ms(), self.cluster.name.clone(), self.cluster.label.clone());
        let mut named = list(&self.caller, Action::ListTasks, &mut self.calls, |aws, token| {
            aws.list_tasks(name.clone(), Desired::Running, token)
        })
        .await?;
        // Those that are told to stop are in no listing of what is to run: asked about by name, they say how it stands.
        let unlisted = self.look(|known| known.unlisted_tasks(&named));
        let mut asked: Vec<String> = named.iter().cloned().chain(unlisted).collect();
        if self.number % STOPPED_EVERY == 1 {
            asked.extend(self.new_stopped().await);
        }
        for part in asked.chunks(DESCRIBE_MAX) {
            let described = self
                .caller
                .insist(Action::DescribeTasks, &mut self.calls, |aws| aws.describe_tasks(name.clone(), part.to_vec()))
                .await?;
            named.extend(hear_tasks(&self.ledger, &self.caller, (&label, &described)));
        }
        let listing = Listing { began_ms, ended_ms: self.now_ms(), named };
        self.change(|known| known.complete_tasks(&listing));
        Ok(())
    }

    /// Tasks that stopped before anybody heard of them. Not being complete costs a stop reason, no more.
    async fn new_stopped(&mut self) -> Vec<String> {
        let mut stopped = BTreeSet::new();
        let mut token = None;
        for _ in 0..STOPPED_PAGES_MAX {
            let page = self
                .caller
                .insist(Action::ListTasks, &mut self.calls, |aws| {
                    aws.list_tasks(self.cluster.name.clone(), Desired::Stopped, token.clone())
                })
                .await;
            let Ok(page) = page else { break };
            stopped.extend(page.arns);
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        let is_new = |arn: &&String| !self.seen_stopped.contains(*arn);
        let new: Vec<String> = stopped.iter().filter(is_new).cloned().collect();
        let new = self.look(|known| new.into_iter().filter(|arn| !known.knows_task(arn)).take(STOPPED_MAX).collect());
        self.seen_stopped = stopped;
        new
    }

    async fn services(&mut self) -> Result<(), SweepError> {
        let (began_ms, name) = (self.now_ms(), self.cluster.name.clone());
        let named = list(&self.caller, Action::ListServices, &mut self.calls, |aws, token| {
            aws.list_services(name.clone(), token)
        })
        .await?;
        let asked: Vec<String> = named.iter().cloned().collect();
        for part in asked.chunks(DESCRIBE_SERVICES_MAX) {
            let described = self
                .caller
                .insist(Action::DescribeServices, &mut self.calls, |aws| {
                    aws.describe_services(name.clone(), part.to_vec())
                })
                .await?;
            let now_ms = self.now_ms();
            self.change(|known| described.items.iter().for_each(|service| known.hear_service(service, now_ms)));
        }
        let listing = Listing { began_ms, ended_ms: self.now_ms(), named };
        self.change(|known| known.complete_services(&listing));
        Ok(())
    }

    fn show_complete(&self, failures_before: u32) {
        self.caller.metrics.swept("complete");
        let cluster = &self.cluster.label;
        if failures_before > 0 {
            info!(cluster = %cluster, "cluster `{cluster}` is listed in full again, with {} calls", self.calls);
        }
    }

    fn show_failure(&self, error: &SweepError, failures: u32) {
        self.caller.metrics.swept("abandoned");
        let (cluster, now_ms) = (&self.cluster.label, self.now_ms());
        self.caller.board.change_cluster(cluster, |status| status.error = Some((now_ms, error.to_string())));
        if failures == 1 {
            warn!(cluster = %cluster, "cluster `{cluster}` cannot be listed, and nothing is removed for it: {error}");
        }
    }

    fn look<T: Default>(&self, look: impl FnOnce(&mut Knowledge) -> T) -> T {
        self.ledger.look(|inner| inner.clusters.get_mut(&self.cluster.label).map(look).unwrap_or_default())
    }

    fn change(&self, change: impl FnOnce(&mut Knowledge)) {
        self.ledger.change(|inner| inner.clusters.get_mut(&self.cluster.label).map(change));
    }

    fn now_ms(&self) -> u64 {
        self.caller.clock.now().unix_ms
    }
}

fn unless_denied(result: Result<(), SweepError>) -> Result<(), SweepError> {
    match result {
        Err(SweepError::Call(CallError::Denied { .. })) => Ok(()),
        result => result,
    }
}

/// Every page of a listing.
async fn list<'a>(
    caller: &'a Caller,
    action: Action,
    calls: &mut u32,
    page: impl Fn(&'a dyn Aws, Option<String>) -> Answer<'a, Page>,
) -> Result<BTreeSet<String>, SweepError> {
    let mut pages = Pages::default();
    let mut token = None;
    loop {
        let next = caller.insist(action, calls, |aws| page(aws, token.clone())).await?;
        match pages.take(next).map_err(|error| SweepError::Pages(action.name(), error))? {
            Next::Complete(arns) => return Ok(arns),
            Next::Token(next) => token = Some(next),
        }
    }
}
