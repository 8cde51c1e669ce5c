//! The queue.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn messages_come_with_what_deletes_them() {
    let body = json!({"Messages": [
        {"MessageId": "m1", "ReceiptHandle": "r1", "Body": "{}", "MD5OfBody": "99914b932bd37a50b983c5e7c90ae93b",
         "Attributes": {"ApproximateReceiveCount": "3"}},
        {"MessageId": "m2", "ReceiptHandle": "r2", "Attributes": {"ApproximateReceiveCount": "many"}},
        {"MessageId": "m3", "Body": "never to be deleted"},
    ]});
    let (server, sdk) = setup(vec![Reply::json(200, &body), Reply::json(200, &json!({}))]).await;
    let message = |id: &str, receipt: &str, body: &str, receive_count| Message {
        message_id: id.into(),
        receipt_handle: receipt.into(),
        body: body.into(),
        receive_count,
    };
    let queue = format!("http://{}/1/q", server.addr);
    let expected = vec![message("m1", "r1", "{}", 3), message("m2", "r2", "", 0)];
    assert_eq!(sdk.receive_messages(queue.clone()).await, Ok(expected));
    assert_eq!(sdk.receive_messages(queue.clone()).await, Ok(vec![]));
    let asked = serde_json::from_str::<Value>(&server.asked()[0].body).unwrap();
    let expected = json!({
        "QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20,
        "MessageSystemAttributeNames": ["ApproximateReceiveCount"],
    });
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn messages_are_deleted_together() {
    let done = json!({"Successful": [{"Id": "0"}, {"Id": "1"}], "Failed": []});
    let failed = json!({"Failed": [{"Id": "1", "Code": "ReceiptHandleIsInvalid", "SenderFault": true}]});
    let (server, sdk) = setup(vec![Reply::json(200, &done), Reply::json(200, &failed)]).await;
    let receipts = strings(&["r1", "r2"]);
    assert_eq!(sdk.delete_messages("q".into(), receipts.clone()).await, Ok(()));
    let message = "some messages were not deleted: ReceiptHandleIsInvalid".to_owned();
    let expected = CallError::Failed { action: "sqs:DeleteMessage", message };
    assert_eq!(sdk.delete_messages("q".into(), receipts).await, Err(expected));
    let asked = serde_json::from_str::<Value>(&server.asked()[0].body).unwrap();
    let entries = json!([{"Id": "0", "ReceiptHandle": "r1"}, {"Id": "1", "ReceiptHandle": "r2"}]);
    assert_eq!(asked, json!({"QueueUrl": "q", "Entries": entries}));
}

#[tokio::test]
async fn a_missing_queue_is_told_in_both_ways() {
    let kind = json!({"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "gone"});
    let rows = [
        (Reply::json(400, &kind), "QueueDoesNotExist: gone"),
        (
            Reply::json(400, &kind).with("x-amzn-query-error", "AWS.SimpleQueueService.NonExistentQueue;Sender"),
            "AWS.SimpleQueueService.NonExistentQueue: gone",
        ),
    ];
    for (reply, message) in rows {
        let (_server, sdk) = setup(vec![reply]).await;
        let expected = CallError::NotFound { action: "sqs:ReceiveMessage", message: message.to_owned() };
        assert_eq!(sdk.receive_messages("q".into()).await, Err(expected));
    }
}
