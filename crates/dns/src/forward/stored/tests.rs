//! Replies of an upstream that means harm, octet by octet.

use hickory_proto::rr::{DNSClass, Name, RecordType};
use proptest::prelude::*;

use super::super::asked::{Query, Read};
use super::*;
use crate::wire::{Edns, Question, Transport, UDP_PAYLOAD};

const ID: u16 = 7;

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

/// A reply: header, question, then `records`.
fn reply(flags: [u8; 2], counts: [u8; 3], records: &[u8]) -> Vec<u8> {
    let [answers, authorities, additionals] = counts;
    let mut packet = vec![0, 7, flags[0], flags[1], 0, 1, 0, answers, 0, authorities, 0, additionals];
    packet.extend_from_slice(b"\x07example\x03com\x00\x00\x01\x00\x01");
    packet.extend_from_slice(records);
    packet
}

fn read(packet: &[u8]) -> Read {
    Query::new(&asked(), None, ID).read(packet)
}

fn stored(packet: &[u8]) -> Stored {
    let Read::Answer(stored) = read(packet) else { panic!("an answer: {packet:02x?}") };
    stored
}

const GOOD: [u8; 2] = [0x81, 0x80];
const MISSING: [u8; 2] = [0x81, 0x83];
const A: &[u8] = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01";
const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

/// A record of `owner`, both as in a message.
fn record(owner: &[u8], record_type: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = [owner, &record_type.to_be_bytes(), &[0, 1], &ttl.to_be_bytes()].concat();
    record.extend_from_slice(&(data.len() as u16).to_be_bytes());
    record.extend_from_slice(data);
    record
}

fn soa(ttl: u32, minimum: u32) -> Vec<u8> {
    record(b"\xc0\x0c", types::SOA, ttl, &[b"\x00\x00".as_slice(), &[0; 16], &minimum.to_be_bytes()].concat())
}

#[test]
fn tells_answers_from_failures_and_noise() {
    let check = |packet: &[u8], expected: &str| {
        let read = match read(packet) {
            Read::Answer(stored) => format!("answer for {} s", stored.ttl),
            Read::Cut => "cut".to_owned(),
            Read::Respelled => "respelled".to_owned(),
            Read::Failure => "failure".to_owned(),
            Read::NotOurs => "not ours".to_owned(),
        };
        assert_eq!(read, expected, "{packet:02x?}");
    };
    check(&reply(GOOD, [1, 0, 0], A), "answer for 60 s");
    check(&reply(GOOD, [1, 0, 1], &[A, OPT].concat()), "answer for 60 s");
    check(&reply(GOOD, [1, 0, 2], &[A, OPT, A].concat()), "answer for 60 s");
    check(&reply(GOOD, [0, 0, 0], &[]), "answer for 0 s");
    check(&reply([0x83, 0x80], [0, 0, 0], &[]), "cut");
    check(&reply([0x81, 0x82], [0, 0, 0], &[]), "failure");
    check(&reply([0x81, 0x85], [0, 0, 0], &[]), "failure");
    check(&reply(GOOD, [2, 0, 0], A), "failure");
    check(&reply(GOOD, [1, 0, 0], &A[..15]), "failure");
    check(&reply(GOOD, [1, 0, 0], OPT), "failure");
    // BADVERS: the upper bits of its code stand in the OPT record.
    check(&reply(GOOD, [0, 0, 1], b"\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00"), "failure");
    check(&reply([0x01, 0x00], [0, 0, 0], &[]), "not ours");
    check(&reply([0x89, 0x00], [0, 0, 0], &[]), "not ours");
    check(&reply(GOOD, [0, 0, 0], &[])[..20], "not ours");
    check(&[], "not ours");
    let mut changed = reply(GOOD, [1, 0, 0], A);
    for (at, octet) in [(1, 8), (5, 2), (13, b'f'), (26, 28), (28, 3)] {
        let kept = std::mem::replace(&mut changed[at], octet);
        check(&changed, "not ours");
        changed[at] = kept;
    }
}

#[test]
fn names_without_end_and_records_that_cannot_be_spoil_the_message() {
    let check = |record: &[u8]| assert!(matches!(read(&reply(GOOD, [1, 0, 0], record)), Read::Failure), "{record:x?}");
    let alias = |data: &[u8]| record(b"\xc0\x0c", types::CNAME, 60, data);
    // The record begins at 29, its data at 41.
    check(&record(b"\xc0\x1d", types::A, 60, &[192, 0, 2, 1]));
    check(&record(b"\xc0\x3f", types::A, 60, &[192, 0, 2, 1]));
    check(&record(b"\xc0\x00", types::A, 60, &[192, 0, 2, 1]));
    check(&record(b"\x40a\x00", types::A, 60, &[192, 0, 2, 1]));
    check(&alias(b"\xc0\x29"));
    check(&alias(b"\x01a\xc0\x29"));
    check(&alias(b"\xc0\x2b\xc0\x29"));
    check(&alias(b"\x01a\x00\x00"));
    check(&alias(b"\x01a"));
    check(&alias(&[[63; 64].repeat(4), vec![0]].concat()));
    check(&record(b"\xc0\x0c", types::A, 60, &[192, 0, 2]));
    check(&record(b"\xc0\x0c", types::AAAA, 60, &[0; 15]));
    check(&record(b"\xc0\x0c", types::MX, 60, b"\x00"));
    check(&record(b"\xc0\x0c", types::SRV, 60, b"\x00\x00\x00\x00\x00\x35"));
    check(&record(b"\xc0\x0c", types::SOA, 60, &[0; 21]));
    assert!(matches!(read(&reply(GOOD, [1, 0, 0], &alias(b"\x01a\xc0\x0c"))), Read::Answer(_)));
    // A pointer to a pointer to a pointer: each leads back, but at last there are more than a name has labels.
    let led_by = |pointers: u16| {
        let first = 0xc00c_u16.to_be_bytes();
        let data = (1..pointers)
            .fold(first.to_vec(), |data, n| [data, (0xc029 + 2 * (n - 1)).to_be_bytes().to_vec()].concat());
        let last = (0xc029 + 2 * (pointers - 1)).to_be_bytes();
        let records = [record(b"\xc0\x0c", 99, 60, &data), record(&last, 99, 60, b"")];
        read(&reply(GOOD, [2, 0, 0], &records.concat()))
    };
    assert!(matches!(led_by(126), Read::Answer(_)));
    assert!(matches!(led_by(127), Read::Failure));
}

#[test]
fn what_does_not_belong_to_the_question_is_left_out() {
    let address = [192, 0, 2, 6].as_slice();
    let bank = b"\x04bank\x07example\x00".as_slice();
    let check = |counts: [u8; 3], records: &[Vec<u8>], expected: [u16; 3]| {
        let stored = stored(&reply(GOOD, counts, &records.concat()));
        let found = [6, 8, 10].map(|at| u16::from_be_bytes([stored.message[at], stored.message[at + 1]]));
        assert_eq!(found, expected, "{records:02x?}");
        let text = String::from_utf8_lossy(&stored.message).into_owned();
        assert!(!text.contains("bank"), "{text:?}");
        assert!(hickory_proto::op::Message::from_vec(&stored.message).is_ok());
    };
    let stranger = || record(bank, types::A, 60, address);
    check([2, 0, 0], &[A.to_vec(), stranger()], [1, 0, 0]);
    check([2, 0, 0], &[stranger(), A.to_vec()], [1, 0, 0]);
    check([1, 1, 0], &[A.to_vec(), record(bank, types::NS, 60, b"\xc0\x0c")], [1, 0, 0]);
    check([1, 0, 1], &[A.to_vec(), stranger()], [1, 0, 0]);
    check([1, 0, 2], &[A.to_vec(), stranger(), A.to_vec()], [1, 0, 0]);
    check([1, 0, 0], &[stranger()], [0, 0, 0]);
    // Class CHAOS.
    check([1, 0, 0], &[b"\xc0\x0c\x00\x01\x00\x03\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01".to_vec()], [0, 0, 0]);
    // An alias, in whatever order, and those above and below it.
    let alias = record(b"\xc0\x0c", types::CNAME, 60, b"\x01x\x03NET\x00");
    let of_alias = record(b"\x01X\x03net\x00", types::A, 60, address);
    check([3, 0, 0], &[of_alias.clone(), stranger(), alias.clone()], [2, 0, 0]);
    let dname = record(b"\x03com\x00", types::DNAME, 60, b"\x03net\x00");
    check([3, 0, 0], &[dname, alias.clone(), of_alias.clone()], [3, 0, 0]);
    let servers = record(b"\x03net\x00", types::NS, 60, b"\x02ns\x03net\x00");
    let glue = record(b"\x02ns\x03net\x00", types::A, 60, address);
    check([2, 1, 2], &[alias, of_alias, servers, glue, stranger()], [2, 1, 1]);
}

#[test]
fn an_absence_holds_as_long_as_the_zone_says_however_it_is_told() {
    let alias = |ttl| record(b"\xc0\x0c", types::CNAME, ttl, b"\x01x\xc0\x14");
    let check = |flags, counts, records: &[Vec<u8>], expected: u32| {
        assert_eq!(stored(&reply(flags, counts, &records.concat())).ttl, expected, "{records:02x?}");
    };
    check(MISSING, [0, 1, 0], &[soa(60, 7)], 7);
    check(MISSING, [0, 1, 0], &[soa(6, 7)], 6);
    check(MISSING, [0, 1, 0], &[soa(86_400, 86_400)], 300);
    check(MISSING, [0, 0, 0], &[], 0);
    check(GOOD, [0, 1, 0], &[soa(60, 7)], 7);
    // By way of an alias, which may hold for longer, or shorter.
    check(GOOD, [1, 1, 0], &[alias(86_400), soa(60, 7)], 7);
    check(MISSING, [1, 1, 0], &[alias(3), soa(60, 7)], 3);
    check(GOOD, [1, 0, 0], &[alias(86_400)], 300);
    check(GOOD, [1, 1, 0], &[A.to_vec(), soa(60, 7)], 60);
}

#[test]
fn no_ttl_is_passed_on_that_is_longer_than_it_is_kept() {
    let ttl_of = |packet: &[u8], section: fn(&hickory_proto::op::Message) -> u32| {
        let mut out = Vec::new();
        stored(packet).write(&request(), None, &mut out);
        section(&hickory_proto::op::Message::from_vec(&out).unwrap())
    };
    let long = record(b"\xc0\x0c", types::A, u32::MAX, &[192, 0, 2, 1]);
    assert_eq!(ttl_of(&reply(GOOD, [1, 0, 0], &long), |m| m.answers[0].ttl), 86_400);
    assert_eq!(ttl_of(&reply(MISSING, [0, 1, 0], &soa(3600, 7)), |m| m.authorities[0].ttl), 7);
}

#[test]
fn the_upstreams_opt_record_gives_way_to_our_own() {
    let stored = stored(&reply([0x81, 0xb0], [1, 0, 1], &[A, OPT].concat()));
    let mut out = Vec::new();
    stored.write(&request(), None, &mut out);
    let read = hickory_proto::op::Message::from_vec(&out).unwrap();
    assert_eq!((read.metadata.id, read.answers.len(), read.additionals.len()), (9, 1, 0));
    assert_eq!(read.edns.unwrap().max_payload(), UDP_PAYLOAD);
    assert!(!read.metadata.authentic_data, "nobody here has validated");
    let mut plain = request();
    plain.edns = None;
    stored.write(&plain, None, &mut out);
    assert!(hickory_proto::op::Message::from_vec(&out).unwrap().edns.is_none());
}

proptest! {
    #[test]
    fn no_reply_makes_it_panic(
        flags in prop_oneof![Just(GOOD), Just(MISSING)],
        counts: [u8; 3],
        records in prop::collection::vec(prop_oneof![
            Just(A.to_vec()), Just(OPT.to_vec()), Just(soa(9, 9)),
            Just(record(b"\x01a\xc0\x0c", types::CNAME, 60, b"\xc0\x1d")),
            prop::collection::vec(any::<u8>(), 0..40),
        ], 0..8),
    ) {
        if let Read::Answer(stored) = read(&reply(flags, counts, &records.concat())) {
            let mut out = Vec::new();
            stored.write(&request(), None, &mut out);
            prop_assert!(out.len() <= 1232);
            prop_assert_eq!(&out[..2], &[0, 9]);
        }
    }
}
