//! Replies of an upstream that means harm.

use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name, RecordType};
use proptest::prelude::*;

use super::*;
use crate::wire::{Edns, Transport};

fn request() -> Request {
    Request {
        transport: Transport::Udp,
        id: 9,
        opcode: 0,
        recursion_desired: true,
        checking_disabled: false,
        question: Some(Question {
            name: Name::from_ascii("example.com.").unwrap(),
            record_type: RecordType::A,
            class: DNSClass::IN,
        }),
        edns: Some(Edns { payload: 1232, version: 0, wants_dnssec: false, cookie: None }),
        cookie: None,
        signature: None,
    }
}

fn asked() -> Asked {
    let request = request();
    Asked::new(request.question.as_ref().unwrap(), &request)
}

/// A reply to `asked` with id 7: header, question, then `records`.
fn reply(flags: [u8; 2], counts: [u8; 3], records: &[u8]) -> Vec<u8> {
    let [answers, authorities, additionals] = counts;
    let mut packet = vec![0, 7, flags[0], flags[1], 0, 1, 0, answers, 0, authorities, 0, additionals];
    packet.extend_from_slice(&asked().question);
    packet.extend_from_slice(records);
    packet
}

const A: &[u8] = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01";
const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

#[test]
fn tells_answers_from_failures_and_noise() {
    let check = |packet: &[u8], expected: &str| {
        let read = match asked().read(packet, 7) {
            Read::Answer(stored) => format!("answer for {} s", stored.ttl),
            Read::Cut => "cut".to_owned(),
            Read::Failure => "failure".to_owned(),
            Read::NotOurs => "not ours".to_owned(),
        };
        assert_eq!(read, expected, "{packet:02x?}");
    };
    check(&reply([0x81, 0x80], [1, 0, 0], A), "answer for 60 s");
    check(&reply([0x81, 0x80], [1, 0, 1], &[A, OPT].concat()), "answer for 60 s");
    check(&reply([0x81, 0x80], [1, 0, 2], &[A, OPT, A].concat()), "answer for 60 s");
    check(&reply([0x81, 0x80], [0, 0, 0], &[]), "answer for 0 s");
    check(&reply([0x83, 0x80], [0, 0, 0], &[]), "cut");
    check(&reply([0x81, 0x82], [0, 0, 0], &[]), "failure");
    check(&reply([0x81, 0x85], [0, 0, 0], &[]), "failure");
    check(&reply([0x81, 0x80], [2, 0, 0], A), "failure");
    check(&reply([0x81, 0x80], [1, 0, 0], &A[..15]), "failure");
    check(&reply([0x81, 0x80], [1, 0, 0], OPT), "failure");
    // BADVERS: the upper bits of its code stand in the OPT record.
    check(&reply([0x81, 0x80], [0, 0, 1], b"\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00"), "failure");
    check(&reply([0x01, 0x00], [0, 0, 0], &[]), "not ours");
    check(&reply([0x81, 0x80], [0, 0, 0], &[])[..20], "not ours");
    check(&[], "not ours");
}

#[test]
fn the_upstreams_opt_record_gives_way_to_our_own() {
    let Read::Answer(stored) = asked().read(&reply([0x81, 0xb0], [1, 0, 1], &[A, OPT].concat()), 7) else {
        panic!("an answer")
    };
    let mut out = Vec::new();
    stored.write(&request(), None, &mut out);
    let read = Message::from_vec(&out).unwrap();
    assert_eq!((read.metadata.id, read.answers.len(), read.additionals.len()), (9, 1, 0));
    assert_eq!(read.edns.unwrap().max_payload(), UDP_PAYLOAD);
    assert!(!read.metadata.authentic_data, "nobody here has validated");
    let mut plain = request();
    plain.edns = None;
    stored.write(&plain, None, &mut out);
    assert!(Message::from_vec(&out).unwrap().edns.is_none());
}

proptest! {
    #[test]
    fn no_reply_makes_it_panic(
        flags in prop_oneof![Just([0x81, 0x80]), Just([0x81, 0x83])],
        counts: [u8; 3],
        records in prop::collection::vec(prop_oneof![
            Just(A.to_vec()), Just(OPT.to_vec()), prop::collection::vec(any::<u8>(), 0..40),
        ], 0..8),
    ) {
        if let Read::Answer(stored) = asked().read(&reply(flags, counts, &records.concat()), 7) {
            let mut out = Vec::new();
            stored.write(&request(), None, &mut out);
            prop_assert!(out.len() <= 1232);
            prop_assert_eq!(&out[..2], &[0, 9]);
        }
    }
}
