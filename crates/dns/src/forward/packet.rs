//! Messages as the forwarder needs them: unread but for header, question, and where each record's TTL stands.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::time::Instant;

use crate::wire::{Extended, Question, Reply, Request, UDP_PAYLOAD, opt_record, put_question};

const HEADER_OCTETS: usize = 12;
const TYPE_SOA: u16 = 6;
const TYPE_OPT: u16 = 41;
/// However long the owner of a name says: a day (RFC 8767 section 4 recommends a cap of days, not weeks).
const TTL_SECONDS_MAX: u32 = 86_400;
/// However long a name is said to be missing; it may have appeared (RFC 2308 section 5 caps at hours).
const NEGATIVE_TTL_SECONDS_MAX: u32 = 300;
/// RFC 8767 section 4.
const STALE_TTL_SECONDS: u32 = 30;

/// What is asked upstream. Two that are equal share a flight and an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    /// Name, type and class as in a message, lower case.
    question: Vec<u8>,
    wants_dnssec: bool,
    checking_disabled: bool,
}

/// What a packet from an upstream is.
pub(super) enum Read {
    /// The answer, positive or negative.
    Answer(Stored),
    /// The answer, cut: ask again over TCP.
    Cut,
    /// It answers that it cannot.
    Failure,
    /// Not an answer to this question.
    NotOurs,
}

/// An answer without its OPT record.
#[derive(Debug)]
pub(super) struct Stored {
    message: Vec<u8>,
    /// Where the name, type and class of the question end.
    question_end: usize,
    /// Where the TTL of each record stands.
    ttls: Vec<u16>,
    /// How long it may be kept.
    ttl: u32,
    stored_at: Instant,
}

impl Asked {
    pub(super) fn new(question: &Question, request: &Request) -> Asked {
        let wants_dnssec = request.edns.is_some_and(|edns| edns.wants_dnssec);
        Asked { wants_dnssec, checking_disabled: request.checking_disabled, ..Asked::plain(question) }
    }

    /// A question of our own.
    pub(super) fn plain(question: &Question) -> Asked {
        let mut octets = Vec::new();
        put_question(question, &mut octets);
        // Type and class are no letters, but lowering them could change them.
        let name = octets.len() - 4;
        octets[..name].make_ascii_lowercase();
        Asked { question: octets, wants_dnssec: false, checking_disabled: false }
    }

    pub(super) fn octets(&self) -> usize {
        self.question.len()
    }

    /// The message that asks it.
    pub(super) fn query(&self, id: u16) -> Vec<u8> {
        let [high, low] = id.to_be_bytes();
        let mut query = vec![high, low, 1, u8::from(self.checking_disabled) << 4, 0, 1, 0, 0, 0, 0, 0, 1];
        query.extend_from_slice(&self.question);
        let [high, low] = UDP_PAYLOAD.to_be_bytes();
        query.extend_from_slice(&[0, 0, TYPE_OPT as u8, high, low, 0, 0, u8::from(self.wants_dnssec) << 7, 0, 0, 0]);
        query
    }

    /// Reads what came for the query with `id`.
    pub(super) fn read(&self, message: &[u8], id: u16) -> Read {
        let end = HEADER_OCTETS + self.question.len();
        let name = HEADER_OCTETS..end - 4;
        let is_answer = message.len() >= end
            && message[..2] == id.to_be_bytes()
            && message[2] & 0xf8 == 0x80
            && message[4..6] == [0, 1]
            && message[name.clone()].eq_ignore_ascii_case(&self.question[..name.len()])
            && message[end - 4..end] == self.question[name.len()..];
        if !is_answer {
            return Read::NotOurs;
        }
        if message[2] & 2 != 0 {
            return Read::Cut;
        }
        let code = message[3] & 0xf;
        let is_known =
            code == u16::from(ResponseCode::NoError) as u8 || code == u16::from(ResponseCode::NXDomain) as u8;
        match Stored::read(message, end).filter(|_| is_known) {
            Some(stored) => Read::Answer(stored),
            None => Read::Failure,
        }
    }
}

impl Stored {
    /// Walks the records behind the question. `None` for a message that ends too soon, or an extended failure.
    fn read(message: &[u8], question_end: usize) -> Option<Stored> {
        let count = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        let (answers, authorities, additionals) = (count(6), count(8), count(10));
        let mut stored = Stored {
            message: Vec::new(),
            question_end,
            ttls: Vec::new(),
            ttl: TTL_SECONDS_MAX,
            stored_at: Instant::now(),
        };
        let (mut at, mut kept, mut negative_ttl) = (question_end, 0, 0);
        let total = u32::from(answers) + u32::from(authorities) + u32::from(additionals);
        for index in 0..total {
            let record = Record::read(message, at)?;
            let is_answer = index < u32::from(answers);
            let is_authority = !is_answer && index < u32::from(answers) + u32::from(authorities);
            if record.record_type == TYPE_OPT {
                if record.ttl >> 24 != 0 {
                    return None;
                }
                // OPT is last by custom. What follows would point past the gap; it is additional, so it can go.
                break;
            }
            if is_answer {
                stored.ttl = stored.ttl.min(record.ttl);
            }
            if is_authority && record.record_type == TYPE_SOA {
                let minimum = u32::from_be_bytes(*message.get(..record.end)?.last_chunk()?);
                negative_ttl = record.ttl.min(minimum).min(NEGATIVE_TTL_SECONDS_MAX);
            }
            stored.ttls.push(u16::try_from(record.ttl_at).ok()?);
            (at, kept) = (record.end, index + 1);
        }
        if answers == 0 || message[3] & 0xf != 0 {
            stored.ttl = negative_ttl;
        }
        stored.message = message[..at].to_vec();
        let additional = u16::try_from(kept.saturating_sub(u32::from(answers) + u32::from(authorities))).ok()?;
        // An OPT among the answers leaves the counts wrong: such a message is nothing to keep.
        let is_whole = kept >= u32::from(answers) + u32::from(authorities);
        stored.message[10..12].copy_from_slice(&additional.to_be_bytes());
        is_whole.then_some(stored)
    }

    pub(super) fn octets(&self) -> usize {
        self.message.len() + 2 * self.ttls.len()
    }

    /// The message, its records whole and counted.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// How long it holds.
    pub(super) fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl.into())
    }

    pub(super) fn is_cacheable(&self) -> bool {
        self.ttl > 0
    }

    pub(super) fn ends_at(&self) -> Instant {
        self.stored_at + Duration::from_secs(self.ttl.into())
    }

    /// Writes it for one asker: its id, its case, its size, what is left of the TTLs. `stale` says why it is, if so.
    pub(super) fn write(&self, request: &Request, stale: Option<Extended>, out: &mut Vec<u8>) -> ResponseCode {
        let code = ResponseCode::from_low(self.message[3] & 0xf);
        let reply = Reply { extended: stale, ..Reply::bare(code) };
        let opt = opt_record(request, &reply);
        out.clear();
        let is_cut = self.message.len() + opt.len() > request.reply_octets_max();
        out.extend_from_slice(if is_cut { &self.message[..self.question_end] } else { &self.message });
        out[..2].copy_from_slice(&request.id.to_be_bytes());
        out[2] = 0x80 | u8::from(is_cut) << 1 | u8::from(request.recursion_desired);
        out[3] = 0x80 | u8::from(request.checking_disabled) << 4 | (self.message[3] & 0xf);
        if is_cut {
            out[6..12].fill(0);
        } else {
            self.write_ttls(stale, out);
        }
        let mut asked = Vec::with_capacity(self.question_end - HEADER_OCTETS);
        request.question.iter().for_each(|question| put_question(question, &mut asked));
        if asked.len() == self.question_end - HEADER_OCTETS {
            out[HEADER_OCTETS..self.question_end].copy_from_slice(&asked);
        }
        if !opt.is_empty() {
            out.extend_from_slice(&opt);
            let additional = u16::from_be_bytes([out[10], out[11]]) + 1;
            out[10..12].copy_from_slice(&additional.to_be_bytes());
        }
        code
    }

    fn write_ttls(&self, stale: Option<Extended>, out: &mut [u8]) {
        let age = u32::try_from(self.stored_at.elapsed().as_secs()).unwrap_or(u32::MAX);
        for at in self.ttls.iter().copied().map(usize::from) {
            let Some(place) = out.get_mut(at..at + 4) else { return };
            let ttl = place.iter().fold(0u32, |ttl, octet| ttl << 8 | u32::from(*octet));
            let left = if stale.is_some() { STALE_TTL_SECONDS } else { ttl.saturating_sub(age) };
            place.copy_from_slice(&left.to_be_bytes());
        }
    }
}

/// One record's outline.
struct Record {
    record_type: u16,
    ttl: u32,
    ttl_at: usize,
    end: usize,
}

impl Record {
    fn read(message: &[u8], start: usize) -> Option<Record> {
        let at = name_end(message, start)?;
        let head = message.get(at..at + 10)?;
        let record_type = u16::from_be_bytes([head[0], head[1]]);
        let ttl = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let end = at + 10 + usize::from(u16::from_be_bytes([head[8], head[9]]));
        (end <= message.len()).then_some(Record { record_type, ttl, ttl_at: at + 4, end })
    }
}

/// Where the name that starts at `at` ends; pointers are not followed.
fn name_end(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += usize::from(length) + 1,
            192..=255 => return Some(at + 2),
            64..=191 => return None,
        }
    }
}

/// Writes a reply without records.
pub(super) fn refuse(
    request: &Request,
    code: ResponseCode,
    extended: Option<Extended>,
    out: &mut Vec<u8>,
) -> ResponseCode {
    let reply = Reply { extended, ..Reply::bare(code) };
    out.clear();
    out.extend_from_slice(&request.id.to_be_bytes());
    out.push(0x80 | request.opcode << 3 | u8::from(request.recursion_desired));
    out.push(0x80 | (u16::from(code) & 0xf) as u8);
    let opt = opt_record(request, &reply);
    out.extend_from_slice(&[0, u8::from(request.question.is_some()), 0, 0, 0, 0, 0, u8::from(!opt.is_empty())]);
    request.question.iter().for_each(|question| put_question(question, out));
    out.extend_from_slice(&opt);
    code
}

#[cfg(test)]
mod tests;
