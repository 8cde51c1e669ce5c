//! Answers of every size, over both transports: nothing is cut by count, and TC says exactly whether something is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{RData, RecordType};
use portolan_core::lookup::Zone;
use portolan_core::view::{Readiness, View};
use portolan_dns::answer::{Client, Outcome, Perspective, answer};
use portolan_dns::authority::{Authority, Ttl};
use portolan_dns::wire::{Decoded, Transport, decode, encode};

use crate::desked::Desked;
use crate::fixture;
use crate::served::query;

/// What a reply may at most have in front of the record that did not fit: an SRV record to an IPv4 address, or an A.
const SRV_OCTETS: usize = 2 + 10 + 6 + "-ip-255-255-255-255-addr-ecs-internal-".len();
const A_OCTETS: usize = 16;

fn reply(view: &View, transport: Transport, payload: Option<u16>, record_type: &str) -> (Message, usize, usize) {
    reply_in(3, view, (transport, payload, record_type))
}

fn reply_in(
    seed: u64,
    view: &View,
    (transport, payload, record_type): (Transport, Option<u16>, &str),
) -> (Message, usize, usize) {
    let mut message = query("sized.prod.ecs.internal.", record_type);
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    let Decoded::Ask(request) = decode(&message.to_vec().unwrap(), transport) else { panic!("a good question") };
    let authority = fixture::authority();
    let octets_max = request.reply_octets_max();
    let client = Client { perspective: Perspective::Registry, az: None, octets_max, seed, authority: &authority };
    let Outcome::Reply(reply) = answer(request.question.as_ref().unwrap(), view, &client) else { panic!("known") };
    let mut octets = Vec::new();
    encode(&request, &reply, &authority, &mut octets);
    assert!(octets.len() <= octets_max);
    (Message::from_vec(&octets).unwrap(), octets.len(), octets_max)
}

#[test]
fn an_answer_is_as_large_as_it_can_be_and_says_when_it_is_cut() {
    for count in [0, 1, 2, 4, 9, 10, 29, 30, 31, 70, 500, 4000, 20_000_u32] {
        let mut view = fixture::view();
        let address = |id: u32| format!("10.{}.{}.{}", id >> 16, id >> 8 & 255, id & 255);
        let all = (0..count).map(|id| fixture::endpoint(id, &address(id), 40000, 80)).collect();
        fixture::insert(&mut view, "sized", None, Some(all));
        for (record_type, octets) in [("A", A_OCTETS), ("SRV", SRV_OCTETS)] {
            for payload in [None, Some(0), Some(600), Some(1232), Some(4096)] {
                for transport in [Transport::Udp, Transport::Tcp] {
                    let what = format!("{count} {record_type} {payload:?} {transport:?}");
                    let (message, length, octets_max) = reply(&view, transport, payload, record_type);
                    let written = message.answers.len();
                    assert_eq!(written == 0, count == 0, "{what}");
                    assert_eq!(message.metadata.truncation, written < count as usize, "{what}");
                    assert_eq!(message.edns.is_some(), payload.is_some(), "{what}");
                    if message.metadata.truncation {
                        assert!(length + octets > octets_max, "{what}: room for more in {length} octets");
                        assert!(message.additionals.is_empty(), "{what}");
                    }
                    check_additional(&message, &what);
                }
            }
        }
    }
}

#[test]
fn of_a_set_that_is_cut_every_endpoint_is_seen_soon() {
    for (count, transport, payload) in [
        (50, Transport::Udp, None),
        (500, Transport::Udp, Some(1232)),
        (5_000, Transport::Tcp, None),
        (20_000_u32, Transport::Tcp, None),
    ] {
        let mut view = fixture::view();
        let address = |id: u32| format!("10.{}.{}.{}", id >> 16, id >> 8 & 255, id & 255);
        let all = (0..count).map(|id| fixture::endpoint(id, &address(id), 40000, 80)).collect();
        fixture::insert(&mut view, "sized", None, Some(all));
        let mut seen = BTreeSet::new();
        let mut questions = 0;
        let mut per_answer = 1;
        // Drawing a fair share at a time: that one of all is still unseen then has a chance of e^-9.
        let enough =
            |per_answer: usize| (f64::from(count) / per_answer as f64 * (f64::from(count).ln() + 9.0)) as usize;
        while seen.len() < count as usize {
            let (message, ..) = reply_in(questions as u64, &view, (transport, payload, "A"));
            per_answer = message.answers.len();
            seen.extend(message.answers.iter().map(ToString::to_string));
            questions += 1;
            assert!(questions <= enough(per_answer), "{} of {count} after {questions} questions", seen.len());
        }
        println!("{count} endpoints, {per_answer} in an answer: all seen after {questions} questions");
    }
}

/// Each record of the additional section is the address of a target that is there, once.
fn check_additional(message: &Message, what: &str) {
    let target = |data: &RData| match data {
        RData::SRV(srv) => Some(srv.target.to_ascii()),
        _ => None,
    };
    let targets: BTreeSet<String> = message.answers.iter().filter_map(|record| target(&record.data)).collect();
    let mut seen = BTreeSet::new();
    for record in &message.additionals {
        assert_eq!(record.record_type(), RecordType::A, "{what}");
        let name = record.name.to_ascii();
        assert!(targets.contains(&name), "{what}: {name} is no target");
        assert!(seen.insert(name), "{what}: twice");
    }
}

/// The longest name, name server, text and cookie together: NXDOMAIN has its SOA, or nobody would keep it.
#[test]
fn the_longest_refusal_of_a_name_fits_into_512_octets() {
    let mut view = fixture::view();
    view.readiness = Readiness::Stale;
    let mut server = Desked::of(view);
    let name_server = format!("{}.{}", "n".repeat(63), "s".repeat(36));
    server.server.authority = Authority::new(Zone::parse("ecs.internal").unwrap(), Ttl::MAX, &name_server).unwrap();
    let labels = ["x", "y", "z"].map(|letter| letter.repeat(63)).join(".");
    let mut message = query(&format!("{labels}.{}.ecs.internal.", "w".repeat(47)), "A");
    let mut edns = Edns::new();
    edns.set_max_payload(512);
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 40]));
    message.set_edns(edns);
    let octets = message.to_vec().unwrap();
    let reply = server.ask(("10.0.0.1", Transport::Udp), &octets, Duration::ZERO).unwrap();
    assert!((490..=512).contains(&reply.len()), "{}", reply.len());
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(reply.authorities.len(), 1);
    assert_eq!(reply.edns.unwrap().options().as_ref().len(), 2);
}
