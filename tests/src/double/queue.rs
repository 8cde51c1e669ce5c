//! An SQS queue: at least once, in no promised order, hidden for a while from the others once received.

use std::collections::BTreeMap;

use portolan_registry::ecs::api::Message;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::world::{ACCOUNT, REGION};

/// What a queue holds at most; the oldest goes for the newest. SQS itself gives up a message after days.
const MESSAGES_MAX: usize = 200_000;

/// SQS's own default.
const VISIBILITY_MS: u64 = 30_000;

/// A queue.
#[derive(Debug)]
pub struct Queue {
    /// Its name, the last part of its URL.
    pub name: String,
    /// How long a message that was received is hidden.
    pub visibility_ms: u64,
    /// After so many receives a message is parked (SQS: `maxReceiveCount` of the redrive policy).
    pub receives_max: Option<u32>,
    /// How many messages were deleted.
    pub deleted: u64,
    /// How many were parked.
    pub parked: Vec<Message>,
    held: BTreeMap<u64, Held>,
    sent: u64,
}

#[derive(Debug)]
struct Held {
    body: String,
    sent_ms: u64,
    visible_ms: u64,
    receives: u32,
}

/// One request to receive.
#[derive(Debug, Clone, Copy)]
pub struct Receive {
    /// How many messages at most.
    pub messages_max: usize,
    /// How long they are hidden; else as the queue says.
    pub visibility_ms: Option<u64>,
    /// Whether their order is by chance.
    pub is_shuffled: bool,
}

/// How much is in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Can be received.
    pub visible: usize,
    /// Received by somebody, and hidden.
    pub hidden: usize,
    /// Not there yet.
    pub delayed: usize,
}

impl Queue {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        Queue {
            name: name.to_owned(),
            visibility_ms: VISIBILITY_MS,
            receives_max: None,
            deleted: 0,
            parked: Vec::new(),
            held: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Its ARN.
    pub fn arn(&self) -> String {
        format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{}", self.name)
    }

    /// Puts a message in, which can be received from `visible_ms` on.
    pub fn send(&mut self, now_ms: u64, visible_ms: u64, body: String) {
        if self.held.len() == MESSAGES_MAX {
            self.held.pop_first();
        }
        self.sent += 1;
        self.held.insert(self.sent, Held { body, sent_ms: now_ms, visible_ms, receives: 0 });
    }

    /// Takes messages, which stay until they are deleted; in the order of their sending, or by chance.
    pub fn receive(&mut self, now_ms: u64, request: Receive, random: &mut StdRng) -> Vec<Message> {
        let mut numbers = self.visible(now_ms);
        if request.is_shuffled {
            numbers.shuffle(random);
        }
        self.take(now_ms, request, numbers)
    }

    fn visible(&mut self, now_ms: u64) -> Vec<u64> {
        self.park(now_ms);
        let visible = self.held.iter().filter(|(_, held)| held.visible_ms <= now_ms);
        visible.map(|(number, _)| *number).collect()
    }

    fn take(&mut self, now_ms: u64, request: Receive, mut numbers: Vec<u64>) -> Vec<Message> {
        numbers.truncate(request.messages_max);
        let hidden_ms = request.visibility_ms.unwrap_or(self.visibility_ms);
        let mut messages = Vec::new();
        for number in numbers {
            let Some(held) = self.held.get_mut(&number) else { continue };
            held.receives += 1;
            held.visible_ms = now_ms + hidden_ms;
            messages.push(message(number, held));
        }
        messages
    }

    /// As [`Queue::receive`], in the order of their sending.
    pub fn receive_in_order(&mut self, now_ms: u64, request: Receive) -> Vec<Message> {
        let numbers = self.visible(now_ms);
        self.take(now_ms, request, numbers)
    }

    /// A message that was received too often goes out of the way.
    fn park(&mut self, now_ms: u64) {
        let Some(receives_max) = self.receives_max else { return };
        let tired = |held: &Held| held.visible_ms <= now_ms && held.receives >= receives_max;
        let numbers: Vec<u64> = self.held.iter().filter(|(_, held)| tired(held)).map(|(number, _)| *number).collect();
        for number in numbers {
            self.parked.extend(self.held.remove(&number).map(|held| message(number, &held)));
        }
    }

    /// Deletes a message by its receipt; an older receipt of a message that was received again deletes nothing, and a
    /// message that is gone is no error. Says whether it is a receipt at all.
    pub fn delete(&mut self, receipt: &str) -> bool {
        let Some((number, receives)) = receipt.strip_prefix("AQEB").and_then(|rest| rest.split_once('+')) else {
            return false;
        };
        let (Ok(number), Ok(receives)) = (number.parse::<u64>(), receives.parse::<u32>()) else { return false };
        if self.held.get(&number).is_some_and(|held| held.receives == receives) {
            self.held.remove(&number);
            self.deleted += 1;
        }
        true
    }

    /// When the next message can be received.
    pub fn next_ms(&self) -> Option<u64> {
        self.held.values().map(|held| held.visible_ms).min()
    }

    /// How much is in it.
    pub fn counts(&self, now_ms: u64) -> Counts {
        let count = |is: fn(&Held) -> bool, visible: bool| {
            self.held.values().filter(|held| (held.visible_ms <= now_ms) == visible && is(held)).count()
        };
        Counts {
            visible: count(|_| true, true),
            hidden: count(|held| held.receives > 0, false),
            delayed: count(|held| held.receives == 0, false),
        }
    }

    /// When a message was sent, by its id.
    pub fn sent_ms(&self, message_id: &str) -> Option<u64> {
        let number = message_id.rsplit('-').next()?.parse().ok()?;
        self.held.get(&number).map(|held| held.sent_ms)
    }
}

fn message(number: u64, held: &Held) -> Message {
    Message {
        message_id: format!("00000000-0000-4000-8000-{number:012}"),
        receipt_handle: format!("AQEB{number}+{}", held.receives),
        body: held.body.clone(),
        receive_count: held.receives,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const ANY: Receive = Receive { messages_max: 10, visibility_ms: None, is_shuffled: false };

    fn bodies(queue: &mut Queue, now_ms: u64) -> Vec<(String, u32)> {
        let messages = queue.receive(now_ms, ANY, &mut StdRng::seed_from_u64(1));
        messages.into_iter().map(|message| (message.body, message.receive_count)).collect()
    }

    #[test]
    fn a_received_message_is_hidden_and_comes_again_until_it_is_deleted() {
        let mut queue = Queue::new("events");
        queue.send(0, 0, "a".to_owned());
        queue.send(0, 500, "b".to_owned());
        assert_eq!(bodies(&mut queue, 0), [("a".to_owned(), 1)]);
        assert_eq!(bodies(&mut queue, 600), [("b".to_owned(), 1)]);
        assert_eq!(queue.counts(600), Counts { visible: 0, hidden: 2, delayed: 0 });
        assert_eq!(bodies(&mut queue, 30_000), [("a".to_owned(), 2)]);
        assert!(queue.delete("AQEB1+1"), "an old receipt is no error");
        assert!(queue.delete("AQEB2+1") && !queue.delete("nonsense"));
        assert_eq!(bodies(&mut queue, 90_000), [("a".to_owned(), 3)]);
    }

    #[test]
    fn what_is_received_too_often_is_parked() {
        let mut queue = Queue::new("events");
        queue.receives_max = Some(2);
        queue.send(0, 0, "poison".to_owned());
        let received: Vec<usize> = (0..4).map(|round| bodies(&mut queue, round * 30_000).len()).collect();
        assert_eq!((received, queue.parked.len()), (vec![1, 1, 0, 0], 1));
    }
}
