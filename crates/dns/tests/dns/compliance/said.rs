//! A reply in the words of the matrix. Read by hickory-proto, which did not write it, and by hand where that hides something.

use hickory_proto::op::Message;
use hickory_proto::rr::{Record, RecordType};

const HEADER_OCTETS: usize = 12;

/// What `reply` says to the packet `asked`.
pub(crate) fn said(asked: &[u8], reply: &[u8]) -> String {
    let Ok(message) = Message::from_vec(reply) else { return format!("unreadable: {reply:02x?}") };
    if reply[..2] != asked[..2] || reply[2] & 0x80 == 0 || (reply[2] ^ asked[2]) & 0x78 != 0 {
        return "another id or opcode, or no reply".to_owned();
    }
    let mut words = vec![code(&message)];
    let bits =
        [(2, 4, "aa"), (2, 2, "tc"), (2, 1, "rd"), (3, 0x80, "ra"), (3, 0x40, "z"), (3, 0x20, "ad"), (3, 0x10, "cd")];
    words.extend(bits.iter().filter(|(octet, mask, _)| reply[*octet] & mask != 0).map(|(.., bit)| (*bit).to_owned()));
    match reply[5] {
        0 => words.push("no-question".to_owned()),
        _ if !has_question_of(asked, reply) => words.push("another question".to_owned()),
        _ => {}
    }
    words.extend(answers(&message.answers));
    words.extend(message.authorities.iter().map(|record| record.record_type().to_string().to_lowercase()));
    words.extend(edns(asked, &message));
    if message.additionals.iter().any(|record| record.record_type() == RecordType::TSIG) {
        // Its error stands before the length of what is not there, at the end.
        words.push(format!("tsig={}", reply[reply.len() - 3]));
    }
    words.join(" ")
}

fn code(message: &Message) -> String {
    // Written as dig does.
    match u16::from(message.metadata.response_code) {
        0 => "NOERROR".to_owned(),
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        9 => "NOTAUTH".to_owned(),
        16 => "BADVERS".to_owned(),
        other => format!("code {other}"),
    }
}

/// Octet for octet: the case of the name too.
fn has_question_of(asked: &[u8], reply: &[u8]) -> bool {
    let name_octets = asked[HEADER_OCTETS..].iter().position(|octet| *octet == 0).unwrap_or(0);
    let end = HEADER_OCTETS + name_octets + 5;
    reply.len() >= end && asked.len() >= end && reply[HEADER_OCTETS..end] == asked[HEADER_OCTETS..end]
}

fn answers(records: &[Record]) -> Option<String> {
    let types: Vec<String> = records.iter().map(|record| record.record_type().to_string()).collect();
    match types.len() {
        0 => None,
        1 | 2 => Some(format!("an={}", types.join(","))),
        _ => Some("an=many".to_owned()),
    }
}

fn edns(asked: &[u8], message: &Message) -> Vec<String> {
    let Some(edns) = &message.edns else { return Vec::new() };
    let mut words = vec!["opt".to_owned()];
    if edns.version() != 0 {
        words.push(format!("version={}", edns.version()));
    }
    if edns.flags().dnssec_ok {
        words.push("do".to_owned());
    }
    if edns.flags().z != 0 {
        words.push(format!("unknown flags {:x}", edns.flags().z));
    }
    let mut options: Vec<(u16, Vec<u8>)> = Vec::new();
    for (code, option) in edns.options().as_ref() {
        options.push((u16::from(*code), Vec::try_from(option).unwrap()));
    }
    options.sort();
    words.extend(options.iter().rev().filter(|(code, _)| *code != 15).map(|(code, data)| match code {
        10 if data.len() == 24 && asked.windows(8).any(|sent| sent == &data[..8]) => "cookie".to_owned(),
        _ => format!("option {code} {data:02x?}"),
    }));
    let extended = options.iter().filter(|(code, _)| *code == 15);
    words.extend(extended.map(|(_, data)| format!("ede={}", u16::from_be_bytes([data[0], data[1]]))));
    words
}
