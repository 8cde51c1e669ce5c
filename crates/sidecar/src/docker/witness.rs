//! The one writer: takes every input, changes the state, starts what that calls for, publishes what follows.
//!
//! Never waits for Docker or a check: their answers are inputs.

use std::sync::Arc;
use std::time::SystemTime;

use bollard::Docker;
use bollard::errors::Error;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Publisher;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::connection::{CALL_MAX, chain};
use super::facts::{self, Activity, Sight};
use super::inspections::Inspections;
use super::metrics::Metrics;
use super::sight;
use super::state::{Connected, Distrust, Found, Input, Inspect, Now, State};
use crate::health::Checks;
use crate::registration::{self, Connection, DockerStatus, LocalState, Node};

/// Inputs taken before the next publication: a burst of starts becomes few new values, a single event waits for none.
const BATCH_MAX: usize = 256;
/// How long the first answer waits for first checks, so that a restarted sidecar does not take healthy ports back.
const FIRST_CHECKS_MAX: std::time::Duration = std::time::Duration::from_millis(1500);

/// What a witness is made of.
pub(super) struct Parts {
    pub(super) jobs: Jobs,
    pub(super) node: Node,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) publisher: Publisher<LocalState>,
    pub(super) metrics: Metrics,
}

pub(super) struct Witness {
    parts: Parts,
    state: State,
    inspections: Inspections,
    checks: Checks,
    client: Option<Docker>,
    status: DockerStatus,
    /// Whether the next list is the first of its connection.
    is_first_list: bool,
    completeness: Completeness,
}

/// How far the first reading of this node has come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Completeness {
    /// No list yet.
    Unlisted,
    /// Inspections of the first list are under way.
    Inspecting,
    /// Inspected; first checks are under way until then at most.
    Checking(Instant),
    /// Everything was seen once.
    Complete,
}

impl Completeness {
    fn next(self, is_idle: bool, are_observed: impl Fn() -> bool) -> Self {
        let inspected = match self {
            Completeness::Inspecting if is_idle => Completeness::Checking(Instant::now() + FIRST_CHECKS_MAX),
            other => other,
        };
        match inspected {
            Completeness::Checking(until) if are_observed() || Instant::now() >= until => Completeness::Complete,
            other => other,
        }
    }
}

impl Witness {
    pub(super) fn new(parts: Parts) -> Self {
        let checks = Checks::new(parts.jobs.clone(), parts.inputs.clone());
        Witness {
            parts,
            state: State::default(),
            inspections: Inspections::default(),
            checks,
            client: None,
            status: DockerStatus::default(),
            is_first_list: true,
            completeness: Completeness::Unlisted,
        }
    }

    pub(super) async fn run(mut self, mut received: mpsc::Receiver<Input>) {
        loop {
            let deadline = self.deadline();
            // Both branches are cancel-safe.
            tokio::select! {
                input = received.recv() => match input {
                    Some(input) => self.apply(input),
                    None => return,
                },
                () = sleep_until(deadline.unwrap_or_else(far)), if deadline.is_some() => {}
            }
            for _ in 0..BATCH_MAX {
                match received.try_recv() {
                    Ok(input) => self.apply(input),
                    Err(_) => break,
                }
            }
            self.state.expire(Instant::now());
            self.start_inspections();
            self.publish();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let checking = match self.completeness {
            Completeness::Checking(until) => Some(until),
            _ => None,
        };
        self.state.deadline().into_iter().chain(checking).min()
    }

    fn apply(&mut self, input: Input) {
        let now = now();
        match input {
            Input::Connected(connected) => self.connected(*connected, now),
            Input::Lost(reason) => {
                self.client = None;
                self.inspections.clear();
                if !matches!(self.status.connection, Connection::Down { .. }) {
                    self.status.since_ms = now.unix_ms;
                }
                self.status.connection = Connection::Down { reason };
            }
            Input::Event(event) => {
                debug!(container = event.id, "Docker event {:?}", event.kind);
                if self.state.apply_event(&event, now) == Inspect::Due {
                    self.inspections.want(event.id);
                }
            }
            Input::Listed(listed) => {
                let distrust = if self.is_first_list { Distrust::All } else { Distrust::Differences };
                self.is_first_list = false;
                self.state.compare(&listed, distrust).into_iter().for_each(|id| self.inspections.want(id));
                if self.completeness == Completeness::Unlisted {
                    self.completeness = Completeness::Inspecting;
                }
            }
            Input::Inspected { id, found } => self.inspected(&id, found, now),
            Input::Exited { id, run } => {
                debug!(container = id, "its process ended");
                if self.state.apply_exit(&id, run, now) == Inspect::Due {
                    self.inspections.want(id);
                }
            }
            Input::Checked(checked) => self.checks.take(checked),
        }
    }

    fn connected(&mut self, connected: Connected, now: Now) {
        self.client = Some(connected.client);
        self.is_first_list = true;
        self.status.connection = Connection::Up { api_version: connected.api_version };
        self.status.since_ms = now.unix_ms;
    }

    fn inspected(&mut self, id: &str, found: Found, now: Now) {
        self.inspections.finish(id);
        match found {
            Found::Container(facts, process) => {
                let key = (facts.id.clone(), facts.run);
                let is_new = self.state.live_of(id).is_none_or(|live| live.facts.run != facts.run);
                let name = facts.name.clone();
                self.state.apply_facts(*facts, now);
                let lives = self.state.live_of(id).is_some_and(|live| live.facts.run == key.1);
                if is_new && lives {
                    info!(container = id, "container `{name}` runs");
                    if let Some(process) = process {
                        let inputs = self.parts.inputs.clone();
                        self.parts.jobs.start_work("container process", sight::watch(process, key, inputs));
                    }
                }
            }
            Found::Nothing => self.state.apply_nothing(id, now),
            Found::Failed(reason) => {
                self.parts.metrics.inspection_failures.inc();
                warn!(container = id, "cannot inspect container {id}, the next list will ask again: {reason}");
            }
        }
    }

    fn start_inspections(&mut self) {
        let Some(client) = self.client.clone() else { return };
        while let Some(id) = self.inspections.begin() {
            self.parts.metrics.inspections.inc();
            let (client, inputs) = (client.clone(), self.parts.inputs.clone());
            self.parts.jobs.start_work("inspect container", async move {
                let found = inspect(&client, &id).await;
                inputs.send(Input::Inspected { id, found }).await.ok();
            });
        }
    }

    fn publish(&mut self) {
        let previous = self.parts.publisher.load();
        let resolved = registration::resolve(&self.state, &self.parts.node);
        self.checks.keep(registration::plans(&resolved));
        let is_idle = self.inspections.is_idle();
        self.completeness = self.completeness.next(is_idle, || self.checks.are_all_observed());
        self.status.notices = registration::notices(&resolved);
        let is_complete = self.completeness == Completeness::Complete;
        let reports = registration::Reporter { node: &self.parts.node, checks: &self.checks, previous: &previous };
        let next = reports.local_state(&self.state, &resolved, (self.status.clone(), is_complete));
        if next != *previous {
            self.parts.metrics.containers.set(i64::try_from(resolved.len()).unwrap_or(i64::MAX));
            self.parts.metrics.published.inc();
            self.parts.publisher.publish(Arc::new(next));
        }
    }
}

/// Reads one container. Nothing here waits longer than a call may.
pub(super) async fn inspect(client: &Docker, id: &str) -> Found {
    let answer = match timeout(CALL_MAX, client.inspect_container(id, None)).await {
        Err(_) => return Found::Failed("no answer within 10 s".to_owned()),
        Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => return Found::Nothing,
        Ok(Err(error)) => return Found::Failed(chain(&error)),
        Ok(Ok(answer)) => answer,
    };
    let Some(mut facts) = facts::read(answer) else {
        return Found::Failed("an answer without id or state".to_owned());
    };
    let pid = facts.pid.filter(|_| !matches!(facts.activity, Activity::Ended { .. }));
    let process = pid.ok_or(Sight::Hidden).and_then(|pid| sight::open(pid, &facts.id));
    facts.sight = process.as_ref().map_or_else(|sight| *sight, |_| Sight::Seen);
    Found::Container(Box::new(facts), process.ok())
}

fn now() -> Now {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX) }
}

/// A deadline for a branch that is switched off.
fn far() -> Instant {
    Instant::now() + CALL_MAX
}
