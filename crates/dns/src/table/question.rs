//! The questions that a table can answer, read without decoding: one question, a plain name, and at most an OPT record without
//! options but a cookie. Anything else is [`None`](Option::None) here, and goes the long way, which reads everything and refuses
//! what is wrong.

use std::ops::Range;

use crate::wire::{Cookie, CookieReply, PLAIN_PAYLOAD, UDP_PAYLOAD};

const HEADER_OCTETS: usize = 12;
/// RFC 1035 section 2.3.4.
const NAME_OCTETS_MAX: usize = 255;
const TYPE_OPT: [u8; 2] = [0, 41];
/// The root's name, type, payload, extended code, version, flags, and the length of the data (RFC 6891 section 6.1.2).
const OPT_OCTETS: usize = 11;
const OPTION_COOKIE: [u8; 2] = [0, 10];
/// In the key, beside the DO bit: there is an OPT record, and it has a cookie.
const HAS_OPT: u8 = 1;
const HAS_COOKIE: u8 = 2;

/// A question in its packet, and what it is looked up by.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    packet: &'a [u8],
    name: Range<usize>,
    labels: usize,
    cookie: Option<Cookie>,
    cookie_reply: Option<CookieReply>,
    key: &'a mut Vec<u8>,
}

impl<'a> Asked<'a> {
    /// Reads `packet`; `key` is emptied and lent for as long as the question is.
    pub(crate) fn read(packet: &'a [u8], key: &'a mut Vec<u8>) -> Option<Asked<'a>> {
        let header = packet.first_chunk::<HEADER_OCTETS>()?;
        // A query, not cut; one question, nothing but an additional record.
        let is_plain = header[2] & 0b1111_1010 == 0 && header[4..10] == [0, 1, 0, 0, 0, 0] && header[10] == 0;
        if !is_plain {
            return None;
        }
        let (name, labels) = name_at(packet)?;
        let question = packet.get(name.end..name.end + 4)?;
        let rest = packet.get(name.end + 4..)?;
        let (edns, cookie) = match (header[11], rest) {
            (0, []) => ([0; 3], None),
            (1, opt) => edns(opt)?,
            _ => return None,
        };
        key.clear();
        key.extend_from_slice(packet.get(name.clone())?);
        key.make_ascii_lowercase();
        key.extend_from_slice(question);
        key.extend_from_slice(&edns);
        Some(Asked { packet, name, labels, cookie, cookie_reply: None, key })
    }

    /// The asker's cookie.
    pub(crate) fn cookie(&self) -> Option<&Cookie> {
        self.cookie.as_ref()
    }

    /// Sets what the reply to an asker with a cookie carries.
    pub(crate) fn answer_cookie(&mut self, reply: CookieReply) {
        self.cookie_reply = Some(reply);
    }

    /// Where the answers of a reply begin: behind the question.
    pub(crate) fn answers_at(&self) -> usize {
        self.name.end + 4
    }

    /// Whether the name is one label, which counts in the asker's cluster.
    pub(crate) fn is_bare(&self) -> bool {
        self.labels == 1
    }

    /// Makes the answer one for askers of `cluster`.
    pub(crate) fn in_cluster(&mut self, cluster: &str) {
        self.key.extend_from_slice(cluster.as_bytes());
    }

    /// What it is looked up by: the name in lower case, type, class, and what EDNS says.
    pub(crate) fn key(&self) -> &[u8] {
        self.key
    }

    /// Makes `reply`, to the same question by another asker, one to this.
    pub(crate) fn put_right(&self, reply: &mut [u8]) {
        reply[..2].copy_from_slice(&self.packet[..2]);
        reply[2] = reply[2] & !1 | self.packet[2] & 1;
        reply[self.name.clone()].copy_from_slice(&self.packet[self.name.clone()]);
        if let (Some(cookie), Some(place)) = (&self.cookie_reply, reply.last_chunk_mut()) {
            *place = *cookie;
        }
    }
}

/// The name behind the header, uncompressed, and how many labels it has.
fn name_at(packet: &[u8]) -> Option<(Range<usize>, usize)> {
    let (mut at, mut labels) = (HEADER_OCTETS, 0);
    loop {
        let length = usize::from(*packet.get(at)?);
        match length {
            0 => break,
            1..=63 => {
                at += 1 + length;
                labels += 1;
            }
            _ => return None,
        }
    }
    let name = HEADER_OCTETS..at + 1;
    (name.len() <= NAME_OCTETS_MAX).then_some((name, labels))
}

/// What counts of an OPT record that is the packet's last: the payload as far as it does, and the DO bit, beside bits that tell
/// it from none; and its cookie.
fn edns(opt: &[u8]) -> Option<([u8; 3], Option<Cookie>)> {
    let (head, options) = opt.split_first_chunk::<OPT_OCTETS>()?;
    let [0, t0, t1, p0, p1, 0, 0, flags, 0, l0, l1] = *head else { return None };
    let is_opt = [t0, t1] == TYPE_OPT && flags & 0x7f == 0 && is_length_of(options, [l0, l1]);
    let cookie = match options.split_first_chunk() {
        None if options.is_empty() => None,
        Some(([c0, c1, l0, l1], data)) if [*c0, *c1] == OPTION_COOKIE && is_length_of(data, [*l0, *l1]) => {
            Some(Cookie::read(data).ok()?)
        }
        _ => return None,
    };
    let has_cookie = if cookie.is_some() { HAS_COOKIE } else { 0 };
    let [p0, p1] = u16::from_be_bytes([p0, p1]).clamp(PLAIN_PAYLOAD, UDP_PAYLOAD).to_be_bytes();
    is_opt.then_some(([HAS_OPT | has_cookie | flags, p0, p1], cookie))
}

fn is_length_of(data: &[u8], length: [u8; 2]) -> bool {
    data.len() == usize::from(u16::from_be_bytes(length))
}
