//! Any packet: never a panic; what is answered can be read, carries the asker's id, and is no longer than it may be.

#![no_main]

#[path = "../../crates/dns/tests/dns/fixture.rs"]
mod fixture;

use std::sync::LazyLock;

use hickory_proto::op::{Message, MessageType};
use libfuzzer_sys::fuzz_target;
use portolan_core::name::Label;
use portolan_core::view::View;
use portolan_dns::answer::{Client, Outcome, Perspective, answer};
use portolan_dns::authority::Authority;
use portolan_dns::wire::{Decoded, Reply, Request, Transport, decode, encode};

static VIEW: LazyLock<View> = LazyLock::new(fixture::view);
static AUTHORITY: LazyLock<Authority> = LazyLock::new(fixture::authority);
static CLUSTER: LazyLock<Label> = LazyLock::new(|| Label::fixed("prod"));

// The first octet chooses transport and perspective; the rest is the packet.
fuzz_target!(|input: &[u8]| {
    let Some((choice, packet)) = input.split_first() else { return };
    let transport = if choice & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let perspective =
        if choice & 2 == 0 { Perspective::Registry } else { Perspective::Node { cluster: &CLUSTER } };
    match decode(packet, transport) {
        Decoded::Ask(request) => {
            let client = Client {
                perspective,
                az: None,
                octets_max: request.reply_octets_max(),
                seed: u64::from(*choice),
                authority: &AUTHORITY,
            };
            let question = request.question.as_ref().expect("a request to answer has a question");
            match answer(question, &VIEW, &client) {
                Outcome::Reply(reply) => check(packet, &request, &reply),
                Outcome::Follow(_) | Outcome::Forward => {}
            }
        }
        Decoded::Refuse(request, code) => check(packet, &request, &Reply::bare(code)),
        Decoded::Drop => {}
    }
});

fn check(packet: &[u8], request: &Request, reply: &Reply) {
    let mut out = Vec::new();
    encode(request, reply, &AUTHORITY, &mut out);
    assert!(out.len() <= request.reply_octets_max(), "too long: {}", out.len());
    assert_eq!(out[..2], packet[..2], "another id");
    let read = Message::from_vec(&out).expect("the reply can be read");
    assert_eq!(read.metadata.message_type, MessageType::Response);
    if let Some(question) = &request.question {
        assert!(read.queries[0].name().eq_case(&question.name), "another question");
    }
    let written = read.answers.len();
    assert!(written <= reply.answers.len());
    assert_eq!(read.metadata.truncation, written < reply.answers.len(), "TC says what is missing");
    assert!(written > 0 || reply.answers.is_empty() || request.transport == Transport::Udp);
}
