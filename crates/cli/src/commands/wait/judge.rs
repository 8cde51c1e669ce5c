//! What is to be thought of a service that somebody waits for: how many of its tasks are usable, which stopped meanwhile,
//! and whether it makes sense to wait on. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portolan_registry::http::api::{Candidate, EcsDeployment, EcsService, Explanation, StoppedTask};
use serde::Serialize;

use super::{Key, name};
use crate::show::seconds;

/// How many stopped tasks and ended runs are told; the newest count.
const TOLD_MAX: usize = 20;

/// How long a deployment that had failed before the wait began is given to be replaced by another one: whoever deploys
/// anew and waits is ahead of what ECS has told the registry.
const REPLACED_WITHIN: Duration = Duration::from_secs(30);

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Waited {
    /// As many are usable.
    Usable,
    /// ECS says that the deployment failed.
    Failed,
    /// The time is over.
    Timeout,
}

/// What came of it, as `-o json` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Outcome {
    /// The service.
    pub(crate) service: String,
    /// Its cluster.
    pub(crate) cluster: String,
    /// How the wait ended.
    pub(crate) outcome: Waited,
    /// How many tasks should be usable; none: ECS did not tell.
    pub(crate) wanted: Option<u32>,
    /// How many tasks are in each state.
    pub(crate) tasks: BTreeMap<String, u32>,
    /// The deployment that failed.
    pub(crate) deployment: Option<EcsDeployment>,
    /// Tasks that stopped meanwhile, the newest first; where nothing stopped or ended meanwhile, those before.
    pub(crate) stopped: Vec<StoppedTask>,
    /// Runs that ended, likewise, of tasks that are not among those.
    pub(crate) ended: Vec<EndedRun>,
    /// How long was waited.
    pub(crate) waited_seconds: u64,
}

/// A run of a container that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct EndedRun {
    /// The container's name within its task.
    pub(crate) container: String,
    /// Docker's id.
    pub(crate) container_id: String,
    /// Its task.
    pub(crate) task_id: Option<String>,
    /// Its node.
    pub(crate) node: String,
    /// When.
    pub(crate) at: String,
    /// Exit code, once Docker has told it.
    pub(crate) exit_code: Option<i64>,
    /// Whether the kernel killed it for memory.
    pub(crate) is_out_of_memory: bool,
}

/// Looks at a service again and again.
#[derive(Debug)]
pub(super) struct Judge {
    key: Key,
    /// What the person said.
    said: Option<u32>,
    wanted: Option<u32>,
    tasks: BTreeMap<String, u32>,
    ecs: Option<EcsService>,
    /// What had stopped or failed before the wait began.
    before: Option<Before>,
    /// What did meanwhile.
    since: Over,
}

#[derive(Debug, Default)]
struct Before {
    over: Over,
    failed: BTreeSet<String>,
}

/// Tasks that stopped and runs that ended.
#[derive(Debug, Default)]
struct Over {
    stopped: BTreeMap<String, StoppedTask>,
    ended: BTreeMap<(String, String), EndedRun>,
}

impl Over {
    fn is_empty(&self) -> bool {
        self.stopped.is_empty() && self.ended.is_empty()
    }
}

impl Judge {
    /// Of a service of which `said` tasks should be usable.
    pub(super) fn new(key: &Key, said: Option<u32>) -> Judge {
        Judge {
            key: key.clone(),
            said,
            wanted: said,
            tasks: BTreeMap::new(),
            ecs: None,
            before: None,
            since: Over::default(),
        }
    }

    /// Whether it has looked at all.
    pub(super) fn has_looked(&self) -> bool {
        self.before.is_some()
    }

    /// The service is not known yet. Whether the wait is over.
    pub(super) fn look_at_nothing(&mut self) -> Option<Waited> {
        self.before.get_or_insert_default();
        self.tasks.clear();
        (self.wanted == Some(0)).then_some(Waited::Usable)
    }

    /// Looks, after that long. Whether the wait is over.
    pub(super) fn look(&mut self, service: &Explanation, waited: Duration) -> Option<Waited> {
        self.tasks = states(&service.candidates);
        self.ecs = service.ecs.clone();
        self.wanted = match (self.said, &service.ecs) {
            (Some(said), _) => Some(said),
            (None, Some(ecs)) => Some(ecs.desired),
            // ECS will tell; without it one is the least that makes sense.
            (None, None) => (!service.has_ecs).then_some(1),
        };
        self.remember(service);
        if let Some(failed) = self.failed() {
            let is_new = self.before.as_ref().is_some_and(|before| !before.failed.contains(&failed.id));
            return (is_new || waited >= REPLACED_WITHIN).then_some(Waited::Failed);
        }
        self.wanted.is_some_and(|wanted| self.usable() >= wanted).then_some(Waited::Usable)
    }

    fn remember(&mut self, service: &Explanation) {
        let stopped = || service.stopped.iter().map(|task| (task.task_id.clone(), task.clone()));
        let ended = || service.candidates.iter().filter_map(ended_run);
        let before = self.before.get_or_insert_with(|| Before {
            over: Over { stopped: stopped().collect(), ended: ended().collect() },
            failed: failed(service.ecs.as_ref()).map(|deployment| deployment.id.clone()).collect(),
        });
        self.since.stopped.extend(stopped().filter(|(id, _)| !before.over.stopped.contains_key(id)));
        self.since.ended.extend(ended().filter(|(run, _)| !before.over.ended.contains_key(run)));
    }

    /// The deployment that failed: the primary one, or one that failed meanwhile and is being rolled back.
    fn failed(&self) -> Option<&EcsDeployment> {
        let primary = self.ecs.as_ref().and_then(|ecs| ecs.deployments.first());
        let is_new = |deployment: &&EcsDeployment| {
            self.before.as_ref().is_some_and(|before| !before.failed.contains(&deployment.id))
        };
        primary.filter(|primary| has_failed(primary)).or_else(|| failed(self.ecs.as_ref()).find(is_new))
    }

    fn usable(&self) -> u32 {
        self.tasks.get("usable").copied().unwrap_or_default()
    }

    /// For the line that a terminal shows meanwhile.
    pub(super) fn progress(&self, left: Duration) -> String {
        let of = match self.wanted {
            Some(wanted) => format!("of {wanted} "),
            None => "(how many there should be, ECS has not told: `--usable N` says it) ".to_owned(),
        };
        format!(
            "{}: {} {of}usable{}; {} left",
            name(&self.key),
            self.usable(),
            others(&self.tasks),
            seconds(left.as_secs())
        )
    }

    /// What came of it.
    pub(super) fn outcome(mut self, outcome: Waited, waited: Duration) -> Outcome {
        let has_failed = outcome == Waited::Timeout && self.failed().is_some();
        let outcome = if has_failed { Waited::Failed } else { outcome };
        let deployment = self.failed().filter(|_| outcome == Waited::Failed).cloned();
        // Who deploys and then waits comes after the first ones that died.
        let is_late = outcome != Waited::Usable && self.since.is_empty();
        let over = self.before.take().filter(|_| is_late).map_or(self.since, |before| before.over);
        let is_told = |run: &EndedRun| run.task_id.as_ref().is_some_and(|task| over.stopped.contains_key(task));
        let mut ended: Vec<_> = over.ended.into_values().filter(|run| !is_told(run)).collect();
        ended.sort_by(|a, b| b.at.cmp(&a.at));
        ended.truncate(TOLD_MAX);
        let mut stopped: Vec<_> = over.stopped.into_values().collect();
        stopped.sort_by(|a, b| b.at.cmp(&a.at));
        stopped.truncate(TOLD_MAX);
        Outcome {
            service: self.key.service,
            cluster: self.key.cluster,
            outcome,
            wanted: self.wanted,
            tasks: self.tasks,
            deployment,
            stopped,
            ended,
            waited_seconds: waited.as_secs(),
        }
    }
}

/// `, 1 starting, 2 draining`: what there is beside usable ones.
pub(crate) fn others(tasks: &BTreeMap<String, u32>) -> String {
    let others = tasks.iter().filter(|(state, _)| *state != "usable");
    others.map(|(state, count)| format!(", {count} {state}")).collect()
}

/// How many tasks (without ECS: containers) are in each state: usable ones are so with every port. What is gone or refused
/// does not count.
fn states(candidates: &[Candidate]) -> BTreeMap<String, u32> {
    let mut tasks: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for candidate in candidates.iter().filter(|c| !c.is_refused && c.ended.is_none() && c.state != "gone") {
        let id = &candidate.id;
        let task = (id.node.as_str(), id.task_id.as_deref().unwrap_or(&id.container_id));
        let state = tasks.entry(task).or_insert(&candidate.state);
        if *state == "usable" {
            *state = &candidate.state;
        }
    }
    let mut counts = BTreeMap::new();
    for state in tasks.into_values() {
        *counts.entry(state.to_owned()).or_default() += 1;
    }
    counts
}

fn ended_run(candidate: &Candidate) -> Option<((String, String), EndedRun)> {
    let (ended, id) = (candidate.ended.as_ref()?, &candidate.id);
    let run = EndedRun {
        container: id.container.clone(),
        container_id: id.container_id.clone(),
        task_id: id.task_id.clone(),
        node: id.node.clone(),
        at: ended.at.clone(),
        exit_code: ended.exit_code,
        is_out_of_memory: ended.is_out_of_memory,
    };
    Some(((id.container_id.clone(), id.started_at.clone()), run))
}

fn has_failed(deployment: &EcsDeployment) -> bool {
    deployment.rollout_state == "FAILED"
}

fn failed(ecs: Option<&EcsService>) -> impl Iterator<Item = &EcsDeployment> {
    ecs.into_iter().flat_map(|ecs| &ecs.deployments).filter(|deployment| has_failed(deployment))
}

#[cfg(test)]
mod tests;
