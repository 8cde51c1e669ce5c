//! Calls to SQS, and how events come into its queues.

use portolan_registry::ecs::api::Message;
use serde_json::{Value, json};

use super::Refusal;
use crate::double::State;
use crate::double::misbehaviour::Fault;
use crate::double::queue::{Queue, Receive};
use crate::double::world::last_part;

/// What faults of events go by, because no call is to blame.
const ACTION: &str = "events";

/// SQS takes bodies of 256 KiB (since 2025 1 MiB).
const BODY_BYTES_MAX: usize = 256 * 1024;

/// What is no event.
const POISON: [&str; 9] = [
    "",
    "{",
    "null",
    "[]",
    "not JSON at all \u{0}\u{7}\u{fffd}",
    "{\"detail-type\":\"ECS Task State Change\",\"source\":\"aws.ecs\",\"detail\":7}",
    "{\"detail-type\":\"ECS Task State Change\",\"source\":\"aws.ecs\",\"detail\":{\"taskArn\":\"x\",\"version\":-1}}",
    "{\"detail-type\":[\"ECS Task State Change\"],\"detail\":{\"containers\":{\"name\":null}}}",
    "{\"Type\":\"Notification\",\"Message\":\"{\\\"detail-type\\\":\\\"ECS Task State Change\\\"\"}",
];

/// How one deletion went: by its id in the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// `Id`.
    pub id: String,
    /// Whether it was a receipt.
    pub is_valid: bool,
}

impl State {
    /// A queue by its URL, ARN or name.
    pub fn queue(&mut self, url: &str) -> Result<&mut Queue, Refusal> {
        self.queues.get_mut(last_part(url)).ok_or_else(|| Refusal::NotFound {
            code: "QueueDoesNotExist",
            message: "The specified queue does not exist.".to_owned(),
        })
    }

    /// ReceiveMessage, of what is there now.
    pub fn receive_now(&mut self, url: &str, request: Receive) -> Result<Vec<Message>, Refusal> {
        let now_ms = self.world.now_ms();
        let is_shuffled = request.is_shuffled || self.strikes(Fault::Shuffled, "sqs:ReceiveMessage");
        self.queue(url)?;
        let (queues, random) = (&mut self.queues, self.misbehaviour.random());
        let queue = queues.get_mut(last_part(url));
        Ok(queue.map(|queue| queue.receive(now_ms, Receive { is_shuffled, ..request }, random)).unwrap_or_default())
    }

    /// DeleteMessageBatch, of ids and receipts.
    pub fn delete_messages(&mut self, url: &str, entries: &[(String, String)]) -> Result<Vec<Delete>, Refusal> {
        self.queue(url)?;
        let mut deleted = Vec::new();
        for (id, receipt) in entries {
            let is_forgotten = self.strikes(Fault::DeleteForgotten, "sqs:DeleteMessage");
            let is_valid = is_forgotten || self.queue(url)?.delete(receipt);
            deleted.push(Delete { id: id.clone(), is_valid });
        }
        Ok(deleted)
    }

    /// Brings what happened into every queue, with what befalls it on its way. Says whether there was anything.
    pub(in crate::double) fn deliver(&mut self) -> bool {
        let events = std::mem::take(&mut self.world.outbox);
        let names: Vec<String> = self.queues.keys().cloned().collect();
        for event in &events {
            for name in &names {
                if !self.strikes(Fault::EventLost, ACTION) {
                    self.deliver_to(name, event.at_ms, &event.body);
                }
            }
        }
        !events.is_empty()
    }

    fn deliver_to(&mut self, name: &str, at_ms: u64, body: &Value) {
        if self.strikes(Fault::EventPoison, ACTION) {
            let poison = (*self.misbehaviour.pick(&POISON)).to_owned();
            self.send(name, at_ms, poison);
        }
        if self.strikes(Fault::EventUnknown, ACTION) {
            let mut unknown = body.clone();
            unknown["detail-type"] = json!("ECS Something New");
            self.send(name, at_ms, unknown.to_string());
        }
        let mut body = body.clone();
        if self.strikes(Fault::UnknownFields, ACTION) {
            add_unknown_fields(&mut body);
        }
        if self.strikes(Fault::EventHuge, ACTION) {
            let room = BODY_BYTES_MAX.saturating_sub(body.to_string().len() + 64);
            body["detail"]["overrides"] = json!({ "padding": "x".repeat(room) });
        }
        let copies = 1 + usize::from(self.strikes(Fault::EventDoubled, ACTION));
        (0..copies).for_each(|_| self.send(name, at_ms, body.to_string()));
    }

    fn send(&mut self, name: &str, at_ms: u64, body: String) {
        let delay_max = self.misbehaviour.delay_max;
        let is_late = self.strikes(Fault::EventDelayed, ACTION);
        let delay_ms = if is_late { self.misbehaviour.up_to_ms(delay_max) } else { 0 };
        if let Some(queue) = self.queues.get_mut(name) {
            queue.send(at_ms, at_ms + delay_ms, body);
        }
    }
}

/// Adds fields that nobody knows to every object, and kinds of values that were not there before.
pub(in crate::double) fn add_unknown_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Labels are names and texts that a user chose, not fields.
            let known = fields.iter_mut().filter(|(name, _)| *name != "dockerLabels");
            known.for_each(|(_, value)| add_unknown_fields(value));
            fields.insert("somethingNew".to_owned(), json!({"kind": "UNHEARD_OF", "list": [1, null, {"deep": true}]}));
        }
        Value::Array(values) => values.iter_mut().for_each(add_unknown_fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
