//! Any bytes as messages of the wire: a report is read or refused, a subscription takes what it can, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_proto::node_report;
use portolan_proto::wire::{SubscribeResponse, subscribe_response::Kind};
use portolan_sidecar::subscription::Subscription;
use prost::Message;

fuzz_target!(|input: &[u8]| {
    if let Ok(decoded) = node_report::decode(input) {
        let again = node_report::decode(&node_report::encode(&decoded.report)).expect("what was read can be read again");
        assert_eq!(again.report, decoded.report);
    }
    // A stream of messages, each behind one octet of length.
    let mut subscription = Subscription::default();
    subscription.connected();
    let mut rest = input;
    while let Some((length, tail)) = rest.split_first() {
        let (message, tail) = tail.split_at(tail.len().min((*length).into()));
        rest = tail;
        let Ok(message) = SubscribeResponse::decode(message) else { continue };
        match message.kind {
            Some(Kind::Directory(directory)) => subscription.directory(directory),
            Some(Kind::Set(set)) => {
                for key in subscription.view().services.keys().cloned().collect::<Vec<_>>() {
                    subscription.follow(&key);
                }
                subscription.set(&set);
            }
            Some(Kind::Heartbeat(heartbeat)) => subscription.heartbeat(heartbeat.index),
            Some(Kind::Digest(digest)) => {
                subscription.agrees_with(&digest);
            }
            None => {}
        }
    }
});
