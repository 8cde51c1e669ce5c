//! The queue: events from SQS, one long poll at a time. A message is deleted once what it said is durable.
//!
//! One that cannot be read or applied comes back by itself, and is parked at the third time: deleted, and kept for people.
//! That the store or SQS fails is no message's fault.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portolan_core::refusal::shown;
use tokio::time::{sleep, sleep_until};
use tracing::{debug, warn};

use super::action::Action;
use super::api::{CallError, Message};
use super::caller::Caller;
use super::cluster::Configured;
use super::events::{self, Event, EventError, Told};
use super::knowledge::Voice;
use super::ledger::{Inner, Ledger};
use super::status::{PARKED_MAX, Parked};

/// How often a message is tried.
const TRIES_MAX: u32 = 3;
/// The waits while the queue cannot be read.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// From the beginning of a poll that brought nothing to the next one: SQS waits by itself, but a queue may be set not to. After
/// one that did wait there is no pause, in which an event would wait.
const IDLE: Duration = Duration::from_secs(1);
/// How many messages are remembered that could not be used, to count their tries where the queue does not.
const TRIED_MAX: usize = 1_000;
/// How much of a parked message is kept.
const BEGINNING_CHARACTERS: usize = 200;

/// Reads the queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) url: String,
    pub(super) clusters: Vec<Arc<Configured>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) caller: Arc<Caller>,
    tried: BTreeMap<String, u32>,
}

impl Queue {
    pub(super) fn new(
        url: String,
        clusters: Vec<Arc<Configured>>,
        (ledger, caller): (Arc<Ledger>, Arc<Caller>),
    ) -> Queue {
        Queue { url, clusters, ledger, caller, tried: BTreeMap::new() }
    }

    /// The job.
    pub(super) async fn follow(mut self) {
        let mut failures = 0;
        loop {
            let (url, began) = (&self.url, self.caller.clock.now().instant);
            match self.caller.call(Action::ReceiveMessage, |aws| aws.receive_messages(url.clone())).await {
                Ok(messages) => {
                    failures = 0;
                    let now_ms = self.caller.clock.now().unix_ms;
                    self.caller.board.change_queue(|queue| (queue.answered_ms, queue.error) = (Some(now_ms), None));
                    let is_idle = messages.is_empty();
                    self.take(messages).await;
                    if is_idle {
                        sleep_until(began + IDLE.mul_f64(self.caller.jitter.fraction())).await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.show_failure(&error, failures);
                    sleep(self.caller.jitter.backoff(failures, BACKOFF)).await;
                }
            }
        }
    }

    /// Applies what came, and deletes what is done with.
    async fn take(&mut self, messages: Vec<Message>) {
        let now_ms = self.caller.clock.now().unix_ms;
        let (mut events, mut done, mut parked) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages {
            match events::read(&message.body, now_ms, |arn| self.clusters.iter().any(|own| own.is(arn))) {
                Ok(event) => {
                    self.tried.remove(&message.message_id);
                    events.push(event);
                    done.push(message.receipt_handle);
                }
                Err(error) if self.try_again(&message) => {
                    debug!("message `{}` cannot be used yet: {error}", shown(&message.message_id, 80));
                    self.caller.metrics.event("refused", 1);
                }
                Err(error) => {
                    parked.push(park(&message, &error, now_ms));
                    done.push(message.receipt_handle);
                }
            }
        }
        let applied = events.len();
        let ((), change) = self.ledger.change(|inner| {
            events.into_iter().for_each(|event| apply(inner, &self.clusters, event, now_ms));
        });
        // What a message said must be in the store before nobody says it again.
        self.ledger.is_durable(change).await;
        self.caller.metrics.event("applied", applied);
        self.show_parked(parked, applied);
        if !done.is_empty() {
            let url = &self.url;
            let deleted = self.caller.call(Action::DeleteMessage, |aws| aws.delete_messages(url.clone(), done)).await;
            if let Err(error) = deleted {
                // They come again, and change nothing then.
                debug!("messages are not deleted from the queue: {error}");
            }
        }
    }

    /// Whether a message that could not be used is to come again.
    fn try_again(&mut self, message: &Message) -> bool {
        if self.tried.len() >= TRIED_MAX {
            self.tried.pop_first();
        }
        let tries = self.tried.entry(message.message_id.clone()).or_default();
        *tries = (*tries + 1).max(message.receive_count);
        let is_over = *tries >= TRIES_MAX;
        if is_over {
            self.tried.remove(&message.message_id);
        }
        !is_over
    }

    fn show_parked(&self, parked: Vec<Parked>, applied: usize) {
        self.caller.metrics.event("parked", parked.len());
        for message in &parked {
            warn!("message `{}` of the event queue is given up: {}", message.message_id, message.reason);
        }
        self.caller.board.change_queue(|queue| {
            queue.applied += applied as u64;
            queue.parked_total += parked.len() as u64;
            queue.parked.extend(parked);
            let excess = queue.parked.len().saturating_sub(PARKED_MAX);
            queue.parked.drain(..excess);
        });
    }

    fn show_failure(&self, error: &CallError, failures: u32) {
        let now_ms = self.caller.clock.now().unix_ms;
        self.caller.board.change_queue(|queue| queue.error = Some((now_ms, error.to_string())));
        if failures == 1 && !matches!(error, CallError::Denied { .. }) {
            warn!("the event queue cannot be read, and changes are seen by listing alone: {error}");
        }
    }
}

fn park(message: &Message, error: &EventError, now_ms: u64) -> Parked {
    Parked {
        message_id: shown(&message.message_id, 80),
        at_ms: now_ms,
        reason: shown(&error.to_string(), 300),
        beginning: shown(&message.body, BEGINNING_CHARACTERS),
    }
}

/// Takes an event in. One of a cluster that the settings do not name is nobody's.
fn apply(inner: &mut Inner, clusters: &[Arc<Configured>], event: Event, now_ms: u64) {
    let Event { at_ms, told } = event;
    let of = |arn: &str| clusters.iter().find(|cluster| cluster.is(arn));
    let note = |cluster: &Configured| cluster.event_came(now_ms);
    match told {
        Told::Task(arn, facts) => {
            let Some(cluster) = of(&arn).inspect(|cluster| note(cluster)) else { return };
            let Some((known, definitions)) = inner.cluster(&cluster.label) else { return };
            known.hear_task(*facts, Voice::Event(at_ms), (definitions, now_ms));
        }
        Told::Instance(arn, facts) => {
            let Some(cluster) = of(&arn).inspect(|cluster| note(cluster)) else { return };
            let Some((known, _)) = inner.cluster(&cluster.label) else { return };
            known.hear_instance(facts, Voice::Event(at_ms), now_ms);
        }
        Told::Service(arn, service) => {
            let Some(cluster) = of(&arn).inspect(|cluster| note(cluster)) else { return };
            let Some((known, _)) = inner.cluster(&cluster.label) else { return };
            known.want_service(&service);
        }
        Told::Machine(id, power) => {
            for known in inner.clusters.values_mut() {
                known.hear_machine(&id, now_ms, |machine| machine.hear_event(power, at_ms, now_ms));
            }
        }
        Told::Warning(id) => {
            for known in inner.clusters.values_mut() {
                known.hear_machine(&id, now_ms, |machine| machine.warn(at_ms));
            }
        }
        Told::Other => {}
    }
}

#[cfg(test)]
mod tests;
