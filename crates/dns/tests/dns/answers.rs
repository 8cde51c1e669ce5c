//! Questions and answers as text, in `golden/answers.txt`: each `?` line is the input, what follows is expected.
//!
//! `UPDATE_GOLDEN=1 cargo test -p portolan-dns --test dns` writes the file anew; read the difference. Replies are
//! read back by hickory-proto, which did not write them. The order seed is fixed.

use std::fmt::Write as _;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use portolan_core::name::Label;
use portolan_core::view::{Readiness, View};
use portolan_dns::answer::{Client, Outcome, Perspective, answer};
use portolan_dns::wire::{Decoded, Reply, Request, Transport, decode, encode};

use crate::fixture;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dns/golden/answers.txt");

/// `? WHERE NAME TYPE [edns] [dnssec] [tcp] [loading] [stale] [class=CH]`, with WHERE `node` or `registry`.
fn converse(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, place, name, record_type, flags @ ..] = words.as_slice() else { panic!("bad line: {line}") };
    let has = |flag: &str| flags.contains(&flag);
    let mut message = Message::new(4660, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut query = Query::query(Name::from_ascii(name).unwrap(), record_type.parse::<RecordType>().unwrap());
    if has("class=CH") {
        query.set_query_class(DNSClass::CH);
    }
    message.add_query(query);
    if has("edns") || has("dnssec") {
        let mut edns = Edns::new();
        edns.set_max_payload(1232).set_dnssec_ok(has("dnssec"));
        message.set_edns(edns);
    }
    let mut view = fixture::view();
    if has("loading") {
        view = View::default();
    }
    if has("stale") {
        view.readiness = Readiness::Stale;
    }
    let cluster = Label::fixed("prod");
    let perspective = if *place == "node" { Perspective::Node { cluster: &cluster } } else { Perspective::Registry };
    let transport = if has("tcp") { Transport::Tcp } else { Transport::Udp };
    spoken(&message, &view, perspective, transport)
}

fn spoken(message: &Message, view: &View, perspective: Perspective<'_>, transport: Transport) -> String {
    let request = match decode(&message.to_vec().unwrap(), transport) {
        Decoded::Ask(request) => request,
        Decoded::Refuse(request, code) => return shown(&request, &Reply::bare(code)),
        Decoded::Drop => return "dropped\n".to_owned(),
    };
    let authority = fixture::authority();
    let octets_max = request.reply_octets_max();
    let client = Client { perspective, az: None, octets_max, seed: 1, authority: &authority };
    match answer(request.question.as_ref().unwrap(), view, &client) {
        Outcome::Reply(reply) => shown(&request, &reply),
        Outcome::Follow(key) => format!("follow {key}\n"),
        Outcome::Forward => "forward\n".to_owned(),
    }
}

fn shown(request: &Request, reply: &Reply) -> String {
    let mut packet = Vec::new();
    let octets_max = request.reply_octets_max();
    encode(request, reply, &fixture::authority(), &mut packet);
    assert!(packet.len() <= octets_max);
    let read = Message::from_vec(&packet).unwrap();
    assert_eq!(read.metadata.id, 4660);
    assert!(!read.metadata.authentic_data);
    let mut text = format!("{:?} {}, {} octets", read.metadata.response_code, read.metadata.flags(), packet.len());
    if let Some(edns) = &read.edns {
        write!(text, ", EDNS {}", edns.max_payload()).unwrap();
        for (_, option) in edns.options().as_ref() {
            let EdnsOption::Unknown(15, data) = option else { panic!("{option:?}") };
            write!(text, ", extended error {} ({})", data[1], String::from_utf8_lossy(&data[2..])).unwrap();
        }
    }
    text.push('\n');
    let mut section = |mark: &str, records: &[Record]| {
        let shown = if records.len() > 6 { 2 } else { records.len() };
        records[..shown].iter().for_each(|record| writeln!(text, "{mark}{record}").unwrap());
        if records.len() > shown {
            writeln!(text, "{mark}... {} records", records.len()).unwrap();
        }
    };
    section("    ", &read.answers);
    section("  = ", &read.authorities);
    section("  + ", &read.additionals);
    text
}

#[test]
fn answers_as_the_golden_file_says() {
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    let mut actual = String::new();
    for line in golden.lines().filter(|line| line.is_empty() || line.starts_with(['?', ';'])) {
        writeln!(actual, "{line}").unwrap();
        if line.starts_with('?') {
            actual.push_str(&converse(line));
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &actual).unwrap();
    }
    let differing = actual.lines().zip(golden.lines()).position(|(actual, expected)| actual != expected);
    let shown = |text: &str, at: usize| text.lines().skip(at.saturating_sub(2)).take(5).collect::<Vec<_>>().join("\n");
    if let Some(at) = differing {
        panic!("line {}:\n{}\nexpected:\n{}", at + 1, shown(&actual, at), shown(&golden, at));
    }
    assert_eq!(actual.len(), golden.len(), "one ends before the other");
}
