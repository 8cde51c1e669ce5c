//! SQS on the wire: awsJson1_0.

use std::time::Duration;

use portolan_registry::ecs::api::Message;
use serde_json::{Map, Value, json};

use super::md5;
use super::reply::Reply;
use super::request::{Request, Service};
use crate::double::actions::Refusal;
use crate::double::queue::Receive;
use crate::double::world::ACCOUNT;
use crate::double::{Double, State};

/// The longest poll that SQS does.
const WAIT_SECONDS_MAX: u64 = 20;

/// Answers one call.
pub(super) async fn answer(aws: &Double, request: &Request) -> Reply {
    let url = request.text("QueueUrl");
    let verdict = match request.operation.as_str() {
        "ReceiveMessage" => return receive(aws, request).await,
        "DeleteMessage" => aws.with(|state| {
            state.judge_json("sqs:DeleteMessage", |state| {
                let entries = [("0".to_owned(), request.text("ReceiptHandle").to_owned())];
                let deleted = state.delete_messages(url, &entries)?;
                if deleted.iter().all(|one| one.is_valid) { Ok(json!({})) } else { Err(invalid_receipt()) }
            })
        }),
        "DeleteMessageBatch" => {
            aws.with(|state| state.judge_json("sqs:DeleteMessage", |state| delete_batch(state, request)))
        }
        "GetQueueAttributes" => {
            aws.with(|state| state.judge_json("sqs:GetQueueAttributes", |state| attributes(state, request)))
        }
        "GetQueueUrl" => aws.with(|state| {
            state.judge_json("sqs:GetQueueUrl", |state| {
                let name = state.queue(request.text("QueueName"))?.name.clone();
                Ok(json!({"QueueUrl": format!("https://sqs.eu-central-1.amazonaws.com/{ACCOUNT}/{name}")}))
            })
        }),
        operation => return Reply::unknown(Service::Sqs, operation),
    };
    Reply::json(Service::Sqs, verdict)
}

async fn receive(aws: &Double, request: &Request) -> Reply {
    let url = request.text("QueueUrl");
    let number = |name: &str| request.json[name].as_u64();
    let wait = Duration::from_secs(number("WaitTimeSeconds").unwrap_or(0).min(WAIT_SECONDS_MAX));
    let asked = Receive {
        messages_max: number("MaxNumberOfMessages").unwrap_or(1).clamp(1, 10) as usize,
        visibility_ms: number("VisibilityTimeout").map(|seconds| seconds * 1000),
        is_shuffled: false,
    };
    let wanted = [request.texts("AttributeNames"), request.texts("MessageSystemAttributeNames")].concat();
    let verdict = aws.receive(url, asked, wait).await;
    Reply::of(Service::Sqs, verdict, |messages| {
        let shown = |message: &Message| {
            let sent_ms = aws.with(|state| state.queue(url).ok().and_then(|queue| queue.sent_ms(&message.message_id)));
            shape(message, sent_ms, &wanted)
        };
        // An empty answer has no list at all.
        if messages.is_empty() { json!({}) } else { json!({"Messages": messages.iter().map(shown).collect::<Value>()}) }
            .to_string()
    })
}

fn shape(message: &Message, sent_ms: Option<u64>, wanted: &[String]) -> Value {
    let all = [
        ("ApproximateReceiveCount", message.receive_count.to_string()),
        ("SentTimestamp", sent_ms.unwrap_or_default().to_string()),
        ("SenderId", "AIDAEVENTBRIDGE".to_owned()),
    ];
    let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == "All" || wanted == name);
    let attributes = all.into_iter().filter(|(name, _)| is_wanted(name));
    let attributes: Map<String, Value> = attributes.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let mut shown = json!({
        "MessageId": message.message_id,
        "ReceiptHandle": message.receipt_handle,
        "MD5OfBody": md5::hex(message.body.as_bytes()),
        "Body": message.body,
    });
    if !attributes.is_empty() {
        shown["Attributes"] = Value::Object(attributes);
    }
    shown
}

fn delete_batch(state: &mut State, request: &Request) -> Result<Value, Refusal> {
    let entries = request.json["Entries"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let entries: Vec<(String, String)> =
        entries.iter().map(|entry| (text(entry, "Id"), text(entry, "ReceiptHandle"))).collect();
    if entries.is_empty() || entries.len() > 10 {
        let (code, message) = ("TooManyEntriesInBatchRequest", "There must be between 1 and 10 entries.");
        return Err(Refusal::Invalid { code, message: message.to_owned() });
    }
    let (done, not): (Vec<_>, Vec<_>) =
        state.delete_messages(request.text("QueueUrl"), &entries)?.into_iter().partition(|one| one.is_valid);
    let failed = not.iter().map(|one| {
        let message = "The input receipt handle is invalid.";
        json!({"Id": one.id, "SenderFault": true, "Code": "ReceiptHandleIsInvalid", "Message": message})
    });
    Ok(json!({
        "Successful": done.iter().map(|one| json!({"Id": one.id})).collect::<Value>(),
        "Failed": failed.collect::<Value>(),
    }))
}

fn attributes(state: &mut State, request: &Request) -> Result<Value, Refusal> {
    let now_ms = state.world.now_ms();
    let queue = state.queue(request.text("QueueUrl"))?;
    let counts = queue.counts(now_ms);
    let all = [
        ("ApproximateNumberOfMessages", counts.visible.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", counts.hidden.to_string()),
        ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
        ("QueueArn", queue.arn()),
        ("VisibilityTimeout", (queue.visibility_ms / 1000).to_string()),
        ("MessageRetentionPeriod", "345600".to_owned()),
    ];
    let wanted = request.texts("AttributeNames");
    let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == "All" || wanted == name);
    let shown = all.into_iter().filter(|(name, _)| is_wanted(name));
    let shown: Map<String, Value> = shown.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    Ok(json!({ "Attributes": shown }))
}

fn invalid_receipt() -> Refusal {
    Refusal::Invalid {
        code: "ReceiptHandleIsInvalid",
        message: "The input receipt handle is not a valid receipt handle.".to_owned(),
    }
}
