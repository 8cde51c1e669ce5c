//! Any packet of an upstream: never a panic; what is passed on carries the asker's id, is no longer than it may be, passes
//! again unchanged, and by hickory-proto's reading has no record that does not belong to the question.

#![no_main]

use std::collections::HashSet;

use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use libfuzzer_sys::fuzz_target;
use portolan_dns::forward::passed_on;
use portolan_dns::wire::{Edns, Question, Request, Transport};

const TTL_SECONDS_MAX: u32 = 86_400;

// The first octet chooses the asker. With its highest bit, header and question are put before the rest, whose first octets
// are the flags and the counts: so that more of what is tried is an answer.
fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let request = request(*choice);
    let mut packet = Vec::new();
    if choice & 0x80 == 0 {
        packet.extend_from_slice(rest);
    } else {
        let Some(([flags @ .., answers, authorities, additionals], records)) = rest.split_first_chunk::<5>() else {
            return;
        };
        packet.extend_from_slice(&[0, 7, flags[0] | 0x80, flags[1], 0, 1, 0, *answers, 0, *authorities, 0, *additionals]);
        packet.extend_from_slice(b"\x03www\x07example\x03com\x00");
        packet.extend_from_slice(&[0, u16::from(request.question.as_ref().unwrap().record_type) as u8, 0, 1]);
        packet.extend_from_slice(records);
    }
    let Some(out) = passed_on(&request, &packet) else { return };
    assert!(out.len() <= request.reply_octets_max(), "too long: {}", out.len());
    assert_eq!(out[..2], [0, 9], "another id");
    let is_cut = out[2] & 2 != 0;
    let again = passed_on(&request, &out);
    assert!(is_cut || again.as_deref() == Some(&out), "it does not pass again:\n{out:02x?}\n{again:02x?}");
    // Types that nobody knows are passed on as they are; hickory-proto refuses some of them.
    if let Ok(read) = Message::from_vec(&out) {
        check(&read);
    }
});

fn check(read: &Message) {
    let mut names: HashSet<&Name> = read.queries.iter().map(|query| query.name()).collect();
    for _ in 0..=read.answers.len() {
        let targets = read.answers.iter().filter_map(|record| match &record.data {
            RData::CNAME(target) if names.contains(&record.name) => Some(&target.0),
            _ => None,
        });
        let targets: Vec<&Name> = targets.collect();
        names.extend(targets);
    }
    let is_dname = |record: &Record| matches!(u16::from(record.record_type()), 39 | 46);
    for record in &read.answers {
        assert!(names.contains(&record.name) || is_dname(record), "a stranger: {record}");
    }
    for record in read.answers.iter().chain(&read.authorities).chain(&read.additionals) {
        assert!(record.ttl <= TTL_SECONDS_MAX, "{record}");
        assert_eq!(record.dns_class, DNSClass::IN);
    }
}

fn request(choice: u8) -> Request {
    let types = [RecordType::A, RecordType::AAAA, RecordType::CNAME, RecordType::SRV];
    let edns = Edns { payload: 1232, version: 0, wants_dnssec: choice & 8 != 0, cookie: None };
    Request {
        transport: if choice & 1 == 0 { Transport::Udp } else { Transport::Tcp },
        id: 9,
        opcode: 0,
        recursion_desired: true,
        checking_disabled: false,
        question: Some(Question {
            name: Name::from_ascii("www.example.com.").expect("a name"),
            record_type: types[usize::from(choice >> 1 & 3)],
            class: DNSClass::IN,
        }),
        edns: (choice & 16 == 0).then_some(edns),
        cookie: None,
        signature: None,
    }
}
