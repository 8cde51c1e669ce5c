//! One question to the upstream resolvers: who is asked when, and for how long each is listened to.
//!
//! The next one is asked when the one before is late, cannot answer, or seems not to be there; who was asked before is still listened
//! to, so a slow answer counts as much as a second one. All in all it ends before a stub resolver gives up.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};

use super::asked::{Asked, Spelling};
use super::attempt::{Attempt, Heard, Listening};
use super::budget::Budget;
use super::failures::Cause;
use super::metrics::ForwardMetrics;
use super::standing::{Candidate, LATE, Standings};
use super::stored::Stored;

/// For all attempts together: below the five seconds after which stub resolvers ask again, and give up soon after.
pub(super) const TOTAL: Duration = Duration::from_millis(4500);
/// How long the last of the upstreams may take before the first is asked again, round by round.
const ROUNDS: [Duration; 2] = [Duration::from_millis(800), Duration::from_millis(1500)];
/// How long one that was late may take when it is tried again.
const EXPLORE: Duration = Duration::from_millis(200);
/// Attempts at the least: over one upstream, two lost packets are forgiven.
const ATTEMPTS_MIN: usize = 3;
/// Sockets of one question.
const LISTENING_MAX: usize = 2;

/// Asks, within one budget.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    budget: Mutex<Budget>,
    standings: Mutex<Standings>,
    /// Somebody answers again who was silent.
    has_returned: AtomicBool,
    pub(super) metrics: ForwardMetrics,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Nobody has one.
    Failed(Cause),
    /// Too much was asked in this second: says nothing of the name.
    OverBudget,
}

impl Exchange {
    /// Counts in `metrics`.
    pub(super) fn new(metrics: ForwardMetrics) -> Exchange {
        Exchange { metrics, ..Exchange::default() }
    }

    /// The first answer of `upstreams`, of which three at most are asked.
    pub(super) async fn ask(
        &self,
        upstreams: &[SocketAddr],
        asked: &Asked,
        spelling: &Spelling,
    ) -> Result<Stored, Unanswered> {
        let now = Instant::now();
        let steps = steps(&self.standings().order(upstreams, now));
        let (listening, refused, ends_at) = (VecDeque::new(), Vec::new(), now + TOTAL);
        Course { exchange: self, asked, spelling, steps, listening, refused, ends_at }.run().await
    }

    /// Whether none of `upstreams` answers at present.
    pub(super) fn are_silent(&self, upstreams: &[SocketAddr]) -> bool {
        self.standings().are_silent(upstreams)
    }

    /// Whether somebody answers again who was silent when this was asked last.
    pub(super) fn take_return(&self) -> bool {
        self.has_returned.swap(false, Ordering::Relaxed)
    }

    /// Whether one more question may go out.
    pub(super) fn may_send(&self) -> bool {
        let is_granted = lock(&self.budget).take(Instant::now());
        self.metrics.sent.inc_by(u64::from(is_granted));
        is_granted
    }

    /// `upstream` answered what was asked at `asked_at`.
    pub(super) fn heard(&self, upstream: SocketAddr, asked_at: Instant) {
        let was_silent = self.standings().heard(upstream, asked_at, Instant::now());
        if was_silent {
            self.has_returned.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn standings(&self) -> MutexGuard<'_, Standings> {
        lock(&self.standings)
    }
}

/// A panic under one of these locks leaves counts that are still counts.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One attempt to be made.
struct Step {
    upstream: SocketAddr,
    /// How long until the next one.
    patience: Duration,
    is_last_of_round: bool,
}

/// Two rounds through all of `order`.
fn steps(order: &[Candidate]) -> VecDeque<Step> {
    let attempts = if order.is_empty() { 0 } else { ATTEMPTS_MIN.max(ROUNDS.len() * order.len()) };
    let step = |number: usize| {
        let Candidate { upstream, is_explored } = order[number % order.len()];
        let (round, is_last_of_round) = (number / order.len(), (number + 1).is_multiple_of(order.len()));
        let patience = match ROUNDS.get(round).filter(|_| number + 1 < attempts) {
            None => TOTAL,
            Some(_) if is_explored && round == 0 => EXPLORE,
            Some(patience) if is_last_of_round => *patience,
            Some(_) => LATE,
        };
        Step { upstream, patience, is_last_of_round }
    };
    (0..attempts).map(step).collect()
}

/// One question on its way.
struct Course<'a> {
    exchange: &'a Exchange,
    asked: &'a Asked,
    spelling: &'a Spelling,
    steps: VecDeque<Step>,
    /// The latest attempts, the oldest first.
    listening: VecDeque<Listening<'a>>,
    /// Who said that they cannot: they are not asked again.
    refused: Vec<SocketAddr>,
    ends_at: Instant,
}

impl Course<'_> {
    async fn run(mut self) -> Result<Stored, Unanswered> {
        loop {
            let mut step = self.steps.pop_front();
            if step.as_ref().is_some_and(|step| self.refused.contains(&step.upstream)) {
                continue;
            }
            if step.is_some() && !self.exchange.may_send() {
                if self.listening.is_empty() {
                    return Err(Unanswered::OverBudget);
                }
                self.steps.clear();
                step = None;
            }
            if let Some(step) = &step {
                self.begin(step.upstream);
            }
            if self.listening.is_empty() {
                return Err(Unanswered::Failed(Cause::Refusal));
            }
            if let Some(stored) = self.listen(step).await {
                return Ok(stored);
            }
            if Instant::now() >= self.ends_at {
                return Err(Unanswered::Failed(Cause::Silence));
            }
        }
    }

    fn begin(&mut self, upstream: SocketAddr) {
        if self.listening.len() >= LISTENING_MAX {
            self.listening.pop_front();
        }
        let attempt = Attempt::ask(self.exchange, upstream, self.asked, self.spelling);
        self.listening.push_back(attempt.boxed());
    }

    /// Listens until there is an answer, or reason for the next step; without a `step` until there is nobody left.
    async fn listen(&mut self, step: Option<Step>) -> Option<Stored> {
        let asked_at = Instant::now();
        let until = step.as_ref().map_or(self.ends_at, |step| self.ends_at.min(asked_at + step.patience));
        let is_of_step = |upstream| step.as_ref().is_some_and(|step| step.upstream == upstream);
        loop {
            let Ok((upstream, heard)) = timeout_at(until, first(&mut self.listening)).await else {
                step.iter().for_each(|step| self.exchange.standings().unanswered(step.upstream, asked_at));
                return None;
            };
            let is_over = match heard {
                Heard::Answer(stored) => return Some(stored),
                Heard::Failure => {
                    self.refused.push(upstream);
                    is_of_step(upstream)
                }
                Heard::Caseless => is_of_step(upstream),
                Heard::Doubt(attempt) => {
                    self.exchange.standings().unanswered(upstream, asked_at);
                    self.listening.push_back(attempt.listen().boxed());
                    is_of_step(upstream) && step.as_ref().is_some_and(|step| !step.is_last_of_round)
                }
            };
            if is_over || self.listening.is_empty() {
                return None;
            }
        }
    }
}

/// The first of `listening` that comes to something. Cancel-safe: what is not ready stays.
async fn first<'a>(listening: &mut VecDeque<Listening<'a>>) -> (SocketAddr, Heard<'a>) {
    poll_fn(|context| {
        for at in 0..listening.len() {
            if let Poll::Ready(heard) = listening[at].as_mut().poll(context) {
                listening.remove(at);
                return Poll::Ready(heard);
            }
        }
        Poll::Pending
    })
    .await
}
