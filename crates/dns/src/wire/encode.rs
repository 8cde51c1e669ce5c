//! A reply to bytes, cut to what the asker can take.
//!
//! Answers go in while they fit; if one does not, TC is set and nothing follows. The additional section has the
//! addresses of exactly the targets that went in, as far as there is room, and never sets TC (RFC 2181 section 9).
//! Room for what stands last is kept from the start.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use portolan_core::lookup::address_label;

use super::{Answer, Question, Reply, Request, UDP_PAYLOAD};
use crate::authority::{Authority, NEGATIVE_TTL, Ttl};

const HEADER_OCTETS: usize = 12;
/// A pointer to the question's name, which always stands behind the header (RFC 1035 section 4.1.4).
const QUESTION_POINTER: u16 = 0xc000 | HEADER_OCTETS as u16;
/// Pointers have 14 bits.
const POINTER_MAX: usize = 0x3fff;

const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const TYPE_SOA: u16 = 6;
const TYPE_PTR: u16 = 12;
const TYPE_HINFO: u16 = 13;
const TYPE_AAAA: u16 = 28;
const TYPE_SRV: u16 = 33;
const TYPE_OPT: u16 = 41;
const TYPE_TSIG: u16 = 250;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
const OPTION_COOKIE: u16 = 10;
const OPTION_EXTENDED_ERROR: u16 = 15;
/// BADKEY (RFC 8945 section 3).
const UNKNOWN_KEY: u16 = 17;

/// SOA refresh, retry and expire, in seconds. Nobody transfers the zone; they are what a checker expects to see.
const SOA_TIMERS: [u32; 3] = [60, 10, 86_400];

/// A name in wire form, uncompressed, with the root's octet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WireName(Vec<u8>);

impl WireName {
    /// Reads a full name; the final dot may be missing.
    pub(crate) fn parse(text: &str) -> Option<WireName> {
        let mut octets = Vec::with_capacity(text.len() + 2);
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            octets.push(length);
            octets.extend_from_slice(label.as_bytes());
        }
        octets.push(0);
        (octets.len() <= 255).then_some(WireName(octets))
    }
}

/// Writes the reply to `request` into `out`, which is emptied first, at most as long as the asker can take.
pub fn encode(request: &Request, reply: &Reply, authority: &Authority, out: &mut Vec<u8>) {
    out.clear();
    let tail = [opt_record(request, reply), signature_record(request, reply)];
    let tail_octets: usize = tail.iter().map(Vec::len).sum();
    let mut writer = Writer { out, end: request.reply_octets_max() - tail_octets, zone_at: None, targets: Vec::new() };
    writer.out.extend_from_slice(&[0; HEADER_OCTETS]);
    let mut counts = [0u16; 4];
    if let Some(question) = &request.question {
        writer.question(question, authority);
        counts[0] = 1;
    }
    let written = reply.answers.iter().take_while(|answer| writer.answer(answer, reply, authority)).count();
    counts[1] = u16::try_from(written).expect("65,535 octets hold fewer records");
    let is_cut = reply.is_withheld || written < reply.answers.len();
    if !is_cut {
        // It always fits: a question of 271 octets at most, a name server's name of 102, 125 besides in an OPT record with
        // a cookie and the longest text, and in the SOA.
        counts[2] = u16::from(reply.has_soa && writer.soa(reply, authority));
        counts[3] = writer.additional(authority);
    }
    for record in tail.iter().filter(|record| !record.is_empty()) {
        out.extend_from_slice(record);
        counts[3] += 1;
    }
    out[..4].copy_from_slice(&header(request, reply));
    out[2] |= u8::from(is_cut) << 1;
    for (place, count) in out[4..HEADER_OCTETS].chunks_exact_mut(2).zip(counts) {
        place.copy_from_slice(&count.to_be_bytes());
    }
}

/// Id and flags, without TC.
fn header(request: &Request, reply: &Reply) -> [u8; 4] {
    let bit = |is_set: bool, position: u8| u8::from(is_set) << position;
    let [high, low] = request.id.to_be_bytes();
    let flags = 0x80 | request.opcode << 3 | bit(reply.is_authoritative, 2) | bit(request.recursion_desired, 0);
    [high, low, flags, bit(reply.is_recursion_available, 7) | (u16::from(reply.code) & 0xf) as u8]
}

/// The OPT record (RFC 6891 section 6.1.2), or nothing for an asker without EDNS. The cookie stands last: the packet table
/// counts on it.
pub(crate) fn opt_record(request: &Request, reply: &Reply) -> Vec<u8> {
    let Some(edns) = request.edns else { return Vec::new() };
    let mut opt = vec![0];
    opt.extend_from_slice(&TYPE_OPT.to_be_bytes());
    opt.extend_from_slice(&UDP_PAYLOAD.to_be_bytes());
    opt.extend_from_slice(&[(u16::from(reply.code) >> 4) as u8, 0, u8::from(edns.wants_dnssec) << 7, 0]);
    let options = opt.len();
    opt.extend_from_slice(&[0, 0]);
    let mut option = |code: u16, data: &[&[u8]]| {
        let length: usize = data.iter().map(|part| part.len()).sum();
        opt.extend_from_slice(&code.to_be_bytes());
        opt.extend_from_slice(&(length as u16).to_be_bytes());
        data.iter().for_each(|part| opt.extend_from_slice(part));
    };
    if let Some(extended) = reply.extended {
        option(OPTION_EXTENDED_ERROR, &[&extended.code.to_be_bytes(), extended.text.as_bytes()]);
    }
    if let Some(cookie) = &request.cookie {
        option(OPTION_COOKIE, &[cookie]);
    }
    let length = (opt.len() - options - 2) as u16;
    opt[options..options + 2].copy_from_slice(&length.to_be_bytes());
    opt
}

/// The TSIG record that says that a request's key is unknown, itself unsigned (RFC 8945 section 5.3.2); else nothing.
fn signature_record(request: &Request, reply: &Reply) -> Vec<u8> {
    let Some(signature) = request.signature.as_ref().filter(|_| reply.code == ResponseCode::NotAuth) else {
        return Vec::new();
    };
    let length = signature.algorithm.len() + signature.time_and_fudge.len() + 8;
    let mut record = signature.key.to_vec();
    record.extend_from_slice(&[TYPE_TSIG, CLASS_ANY, 0, 0, length as u16].map(u16::to_be_bytes).concat());
    record.extend_from_slice(&signature.algorithm);
    record.extend_from_slice(&signature.time_and_fudge);
    record.extend_from_slice(&[0, signature.original_id, UNKNOWN_KEY, 0].map(u16::to_be_bytes).concat());
    record
}

/// Writes a question: name, type, class.
pub(crate) fn put_question(question: &Question, out: &mut Vec<u8>) {
    for label in question.name.iter() {
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
    out.extend_from_slice(&u16::from(question.record_type).to_be_bytes());
    out.extend_from_slice(&u16::from(question.class).to_be_bytes());
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// How long the message may become before the OPT record.
    end: usize,
    /// Where the zone's name stands, at the end of the question's.
    zone_at: Option<u16>,
    /// The targets written whose addresses are to follow, and where.
    targets: Vec<(IpAddr, usize)>,
}

impl Writer<'_> {
    fn question(&mut self, question: &Question, authority: &Authority) {
        put_question(question, self.out);
        let zone = &authority.zone_name.0;
        let name_end = self.out.len() - 4;
        let start = name_end.saturating_sub(zone.len()).max(HEADER_OCTETS);
        self.zone_at = self.out[start..name_end].eq_ignore_ascii_case(zone).then_some(start as u16);
    }

    /// Writes one answer; `false` and nothing written when it does not fit.
    fn answer(&mut self, answer: &Answer, reply: &Reply, authority: &Authority) -> bool {
        let (record_type, ttl) = match answer {
            Answer::Address(IpAddr::V4(_)) => (TYPE_A, authority.ttl),
            Answer::Address(IpAddr::V6(_)) => (TYPE_AAAA, authority.ttl),
            Answer::Service { .. } => (TYPE_SRV, authority.ttl),
            Answer::Pointer(_) => (TYPE_PTR, authority.ttl),
            Answer::Soa => (TYPE_SOA, NEGATIVE_TTL),
            Answer::NameServer => (TYPE_NS, authority.ttl),
            Answer::Minimal => (TYPE_HINFO, authority.ttl),
        };
        let mut target = None;
        let fits = self.record(|w| {
            w.u16(QUESTION_POINTER);
            w.head(record_type, ttl);
            w.data(|w| match answer {
                Answer::Address(address) => w.address(*address),
                Answer::Service { weight, port, address } => {
                    w.u16(0);
                    w.u16(*weight);
                    w.u16(*port);
                    target = Some((*address, w.out.len()));
                    // RFC 2782: the target is not compressed, although what follows may point to it.
                    w.address_name(*address, authority);
                }
                Answer::Pointer(name) => w.text_name(name),
                Answer::Soa => w.soa_data(reply, authority),
                Answer::NameServer => {
                    target = authority.name_server_address.map(|address| (address, w.out.len()));
                    w.name(&authority.name_server, authority);
                }
                Answer::Minimal => w.out.extend_from_slice(b"\x07RFC8482\x00"),
            });
        });
        self.targets.extend(target.filter(|_| fits));
        fits
    }

    /// The zone's SOA as a record of the authority section.
    fn soa(&mut self, reply: &Reply, authority: &Authority) -> bool {
        self.record(|w| {
            w.name(&authority.zone_name, authority);
            w.head(TYPE_SOA, NEGATIVE_TTL);
            w.data(|w| w.soa_data(reply, authority));
        })
    }

    fn soa_data(&mut self, reply: &Reply, authority: &Authority) {
        self.name(&authority.name_server, authority);
        self.name(&authority.mailbox, authority);
        for number in [reply.serial].into_iter().chain(SOA_TIMERS).chain([NEGATIVE_TTL.seconds()]) {
            self.out.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// The addresses of the targets that were written, each once. Returns how many.
    fn additional(&mut self, authority: &Authority) -> u16 {
        let mut targets = std::mem::take(&mut self.targets);
        // Those that are equal stand together in their first one's place only if sorted; their order has no meaning here.
        targets.sort_unstable();
        targets.dedup_by_key(|(address, _)| *address);
        let mut written = 0;
        for (address, place) in targets {
            let record_type = if address.is_ipv4() { TYPE_A } else { TYPE_AAAA };
            let fits = self.record(|w| {
                if place <= POINTER_MAX {
                    w.u16(0xc000 | place as u16);
                } else {
                    w.address_name(address, authority);
                }
                w.head(record_type, authority.ttl);
                w.data(|w| w.address(address));
            });
            if !fits {
                break;
            }
            written += 1;
        }
        written
    }

    /// Writes a record; takes it back and says `false` when it is too long.
    fn record(&mut self, write: impl FnOnce(&mut Self)) -> bool {
        let start = self.out.len();
        write(self);
        let fits = self.out.len() <= self.end;
        if !fits {
            self.out.truncate(start);
        }
        fits
    }

    /// What stands between a record's owner and its data's length.
    fn head(&mut self, record_type: u16, ttl: Ttl) {
        self.u16(record_type);
        self.u16(CLASS_IN);
        self.out.extend_from_slice(&ttl.seconds().to_be_bytes());
    }

    /// A record's data with its length before it.
    fn data(&mut self, write: impl FnOnce(&mut Self)) {
        let place = self.out.len();
        self.u16(0);
        write(self);
        let length = (self.out.len() - place - 2) as u16;
        self.out[place..place + 2].copy_from_slice(&length.to_be_bytes());
    }

    fn u16(&mut self, number: u16) {
        self.out.extend_from_slice(&number.to_be_bytes());
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.out.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => self.out.extend_from_slice(&v6.octets()),
        }
    }

    fn address_name(&mut self, address: IpAddr, authority: &Authority) {
        let label = address_label(address);
        self.out.push(label.len() as u8);
        self.out.extend_from_slice(label.as_bytes());
        self.out.extend_from_slice(b"\x04addr");
        self.out.extend_from_slice(&authority.zone_name.0);
    }

    /// A name, with a pointer to the question's zone where it ends in the zone.
    fn name(&mut self, name: &WireName, authority: &Authority) {
        let mut rest = name.0.as_slice();
        while rest[0] > 0 {
            if let Some(zone_at) = self.zone_at.filter(|_| rest == authority.zone_name.0) {
                return self.u16(0xc000 | zone_at);
            }
            let (label, below) = rest.split_at(usize::from(rest[0]) + 1);
            self.out.extend_from_slice(label);
            rest = below;
        }
        self.out.push(0);
    }

    /// A full name that was made of valid labels.
    fn text_name(&mut self, name: &str) {
        for label in name.split('.').filter(|label| !label.is_empty()) {
            self.out.push(label.len() as u8);
            self.out.extend_from_slice(label.as_bytes());
        }
        self.out.push(0);
    }
}
