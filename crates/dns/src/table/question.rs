//! The questions that a table can answer, read without decoding: one question, a plain name, and at most an OPT record without
//! options. Anything else is [`None`](Option::None) here, and goes the long way, which reads everything and refuses what is wrong.

use std::ops::Range;

use crate::wire::{PLAIN_PAYLOAD, UDP_PAYLOAD};

const HEADER_OCTETS: usize = 12;
/// RFC 1035 section 2.3.4.
const NAME_OCTETS_MAX: usize = 255;
const TYPE_OPT: [u8; 2] = [0, 41];
/// The root's name, type, payload, extended code, version, flags, and no data (RFC 6891 section 6.1.2).
const OPT_OCTETS: usize = 11;

/// A question in its packet, and what it is looked up by.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    packet: &'a [u8],
    name: Range<usize>,
    labels: usize,
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
        let edns = match (header[11], rest) {
            (0, []) => [0; 3],
            (1, opt) => edns(opt)?,
            _ => return None,
        };
        key.clear();
        key.extend(packet.get(name.clone())?.iter().map(u8::to_ascii_lowercase));
        key.extend_from_slice(question);
        key.extend_from_slice(&edns);
        Some(Asked { packet, name, labels, key })
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

/// What counts of an OPT record that is the packet's last: the payload as far as it does, and the DO bit, beside a bit that tells
/// it from none.
fn edns(opt: &[u8]) -> Option<[u8; 3]> {
    let opt: &[u8; OPT_OCTETS] = opt.try_into().ok()?;
    let [0, t0, t1, p0, p1, 0, 0, flags, 0, 0, 0] = *opt else { return None };
    let is_opt = [t0, t1] == TYPE_OPT && flags & 0x7f == 0;
    let [p0, p1] = u16::from_be_bytes([p0, p1]).clamp(PLAIN_PAYLOAD, UDP_PAYLOAD).to_be_bytes();
    is_opt.then_some([1 | flags, p0, p1])
}
