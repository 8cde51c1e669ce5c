//! The caller: every call of AWS goes through here, within the budget, timed, counted, and remembered when it is denied.
//!
//! SQS is outside of the budget: its one long poll is paced by its own job. A denied action is not asked again for a while,
//! and named once to whoever can grant it; the others go on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portolan_core::refusal::shown;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::action::{Action, Family};
use super::api::{Answer, Aws, CallError};
use super::budget::Budget;
use super::jitter::Jitter;
use super::metrics::Metrics;
use super::status::{Board, Denied};
use crate::clock::Clock;

/// How long an answer may take; SQS's long poll takes 20 s by itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a call that fails is made before it is given up.
pub(super) const ATTEMPTS_MAX: u32 = 5;
/// The waits between those: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// How long a denied action is left alone.
const DENIED_FOR: Duration = Duration::from_secs(30);
/// The span in which calls are counted for people.
const COUNTED_FOR: Duration = Duration::from_secs(60);
/// How much is shown of what AWS says.
const MESSAGE_CHARACTERS_MAX: usize = 300;

/// Calls AWS. Shared by all jobs of the source.
#[derive(Debug)]
pub(super) struct Caller {
    aws: Arc<dyn Aws>,
    pub(super) clock: Clock,
    pub(super) jitter: Jitter,
    pub(super) metrics: Metrics,
    pub(super) board: Board,
    per_second: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    budget: Budget,
    /// When calls within the budget were made, oldest first. The budget bounds how many there are.
    recent: VecDeque<Instant>,
    denied: HashMap<Action, (Instant, CallError)>,
}

/// What a caller is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) aws: Arc<dyn Aws>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) board: Board,
    pub(super) calls_per_second: u32,
    pub(super) seed: u64,
}

impl Caller {
    pub(super) fn new(parts: Parts) -> Caller {
        let Parts { aws, clock, metrics, board, calls_per_second: per_second, seed } = parts;
        let budget = Budget::new(per_second, clock.now().instant);
        let inner = Mutex::new(Inner { budget, recent: VecDeque::new(), denied: HashMap::new() });
        board.change(|status| status.calls_per_minute_max = per_second.saturating_mul(60));
        Caller { aws, clock, jitter: Jitter::new(seed), metrics, board, per_second, inner }
    }

    /// One call, once the budget has room for it.
    ///
    /// # Errors
    /// What AWS says, or that it said nothing in time.
    pub(super) async fn call<'a, T>(
        &'a self,
        action: Action,
        ask: impl FnOnce(&'a dyn Aws) -> Answer<'a, T>,
    ) -> Result<T, CallError> {
        if let Some(denied) = self.still_denied(action) {
            return Err(denied);
        }
        if let Some(family) = action.family() {
            let turn = self.lock().budget.reserve_in_family(family, self.now());
            sleep_until(turn).await;
            while let Err(turn) = self.take_turn() {
                sleep_until(turn).await;
            }
            self.lock().recent.push_back(self.now());
        }
        let patience = if action == Action::ReceiveMessage { POLL_TIMEOUT } else { ANSWER_TIMEOUT };
        let answer = match timeout(patience, ask(self.aws.as_ref())).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!("no answer within {} s", patience.as_secs());
                Err(CallError::Failed { action: action.name(), message })
            }
        };
        self.heard(action, answer.as_ref().err());
        answer
    }

    /// The same, again and again with backoff while it fails or is throttled, at most [`ATTEMPTS_MAX`] times. `calls` counts
    /// them.
    ///
    /// # Errors
    /// What the last attempt brought.
    pub(super) async fn insist<'a, T>(
        &'a self,
        action: Action,
        calls: &mut u32,
        ask: impl Fn(&'a dyn Aws) -> Answer<'a, T>,
    ) -> Result<T, CallError> {
        let mut attempt = 1;
        loop {
            *calls += 1;
            let answer = self.call(action, &ask).await;
            match &answer {
                _ if attempt >= ATTEMPTS_MAX => return answer,
                // Its family goes slower by now: that is the wait.
                Err(CallError::Throttled { .. }) => {}
                Err(CallError::Failed { .. }) => sleep(self.jitter.backoff(attempt, BACKOFF)).await,
                Ok(_) | Err(CallError::Denied { .. } | CallError::NotFound { .. }) => return answer,
            }
            attempt += 1;
        }
    }

    /// Shows how much of the budget is used.
    pub(super) fn show_use(&self) {
        let count = {
            let mut inner = self.lock();
            let now = self.now();
            inner.recent.retain(|at| now.saturating_duration_since(*at) < COUNTED_FOR);
            u32::try_from(inner.recent.len()).unwrap_or(u32::MAX)
        };
        self.board.change(|status| status.calls_last_minute = count);
        self.metrics.set_budget_used(f64::from(count) / f64::from(self.per_second.saturating_mul(60).max(1)));
    }

    /// Whether a call may go now; otherwise when it may be tried again.
    fn take_turn(&self) -> Result<(), Instant> {
        self.lock().budget.take(self.now())
    }

    fn still_denied(&self, action: Action) -> Option<CallError> {
        let inner = self.lock();
        let (since, error) = inner.denied.get(&action)?;
        (self.now().saturating_duration_since(*since) < DENIED_FOR).then(|| error.clone())
    }

    /// Takes in how a call went; `None`: it was answered.
    fn heard(&self, action: Action, error: Option<&CallError>) {
        let outcome = match error {
            None => "answered",
            Some(CallError::Throttled { .. }) => "throttled",
            Some(CallError::Denied { .. }) => "denied",
            Some(CallError::NotFound { .. }) => "not_found",
            Some(CallError::Failed { .. }) => "failed",
        };
        self.metrics.called(action, outcome);
        if let Some(family) = action.family() {
            self.pace(family, error);
        }
        match error {
            Some(CallError::Denied { message, .. }) => self.deny(action, message),
            // Whoever was throttled or could not be reached has not said that it may not.
            Some(CallError::Throttled { .. } | CallError::Failed { .. }) => {}
            None | Some(CallError::NotFound { .. }) => self.grant(action),
        }
    }

    fn pace(&self, family: Family, error: Option<&CallError>) {
        let mut inner = self.lock();
        match error {
            Some(CallError::Throttled { retry_after, .. }) => {
                inner.budget.throttled(family, *retry_after, (self.now(), self.jitter.fraction()));
            }
            // An error of the network says nothing about the account's rate.
            Some(CallError::Failed { .. }) => {}
            None | Some(CallError::Denied { .. } | CallError::NotFound { .. }) => inner.budget.answered(family),
        }
        self.metrics.set_pace(family, inner.budget.pace(family));
    }

    fn deny(&self, action: Action, message: &str) {
        let (name, without) = (action.name(), action.without());
        let message = shown(message, MESSAGE_CHARACTERS_MAX);
        let error = CallError::Denied { action: name, message: message.clone() };
        let is_news = self.lock().denied.insert(action, (self.now(), error)).is_none();
        if is_news {
            warn!(action = name, "`{name}` is denied: {without}; allow it to this registry's role ({message})");
            let since_ms = self.clock.now().unix_ms;
            self.board.change(|status| {
                status.denied.insert(name, Denied { since_ms, message, without });
            });
        }
    }

    fn grant(&self, action: Action) {
        let was_denied = self.lock().denied.remove(&action).is_some();
        if was_denied {
            info!(action = action.name(), "`{}` is allowed now", action.name());
            self.board.change(|status| {
                status.denied.remove(action.name());
            });
        }
    }

    fn now(&self) -> Instant {
        self.clock.now().instant
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
