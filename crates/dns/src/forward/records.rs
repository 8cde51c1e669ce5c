//! The records of a message, as far as the forwarder has to know them: where each stands, whose it is, whom it names.
//!
//! Types unknown here pass unread. What cannot be right (a name that has no end, an address of three octets) spoils the
//! whole message: whoever gets it next may be less careful.

use super::asked::HEADER_OCTETS;

/// Record types that the forwarder knows.
pub(super) mod types {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const MX: u16 = 15;
    pub(crate) const AFSDB: u16 = 18;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const KX: u16 = 36;
    pub(crate) const DNAME: u16 = 39;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const RRSIG: u16 = 46;
    pub(crate) const NSEC: u16 = 47;
    pub(crate) const NSEC3: u16 = 50;
    pub(crate) const SVCB: u16 = 64;
    pub(crate) const HTTPS: u16 = 65;
    pub(crate) const ANY: u16 = 255;
}

/// RFC 1035 section 2.3.4, with the root's octet.
const NAME_OCTETS_MAX: usize = 255;
/// A name has at most 127 labels, so more pointers than that only cost time.
const POINTERS_MAX: usize = 127;
/// The numbers behind the two names of an SOA record.
const SOA_NUMBERS_OCTETS: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

/// One record.
pub(super) struct Record {
    pub(super) section: Section,
    /// Uncompressed, lower case.
    pub(super) owner: Vec<u8>,
    pub(super) record_type: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    /// Where its TTL stands.
    pub(super) ttl_at: usize,
    /// Where its data begins.
    pub(super) data: usize,
    /// Where the next one begins.
    pub(super) end: usize,
    /// The names in its data that lead on: a target, a name server.
    pub(super) names: Vec<Vec<u8>>,
}

/// Every record behind the question, up to the OPT record: by custom it is last, and what follows would point past the
/// gap. `None` for a message that ends too soon or makes no sense, or whose OPT record says that it failed.
pub(super) fn read(message: &[u8], question_end: usize) -> Option<Vec<Record>> {
    let count = |at: usize| message.get(at..at + 2).map(|octets| usize::from(octets[0]) << 8 | usize::from(octets[1]));
    let (mut at, mut records) = (question_end, Vec::new());
    for (section, place) in [(Section::Answer, 6), (Section::Authority, 8), (Section::Additional, 10)] {
        for _ in 0..count(place)? {
            let record = Record::read(message, at, section)?;
            if record.record_type == types::OPT {
                // The upper bits of an extended code.
                let is_failure = record.ttl >> 24 != 0;
                return (section == Section::Additional && !is_failure).then_some(records);
            }
            at = record.end;
            records.push(record);
        }
    }
    Some(records)
}

impl Record {
    fn read(message: &[u8], start: usize, section: Section) -> Option<Record> {
        let (owner, at) = name_at(message, start)?;
        let head: &[u8; 10] = message.get(at..)?.first_chunk()?;
        let u16_at = |place: usize| u16::from_be_bytes([head[place], head[place + 1]]);
        let data = at + head.len();
        let mut record = Record {
            section,
            owner,
            record_type: u16_at(0),
            class: u16_at(2),
            ttl: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            ttl_at: at + 4,
            data,
            end: data + usize::from(u16_at(8)),
            names: Vec::new(),
        };
        record.names = record.read_names(message.get(..record.end)?)?;
        Some(record)
    }

    /// The names in the data of `message`'s last record; `None` when it is not made as its type is.
    fn read_names(&self, message: &[u8]) -> Option<Vec<Vec<u8>>> {
        let length = self.end - self.data;
        let one_at = |skipped: usize, is_all: bool| {
            let (name, end) = name_at(message, self.data + skipped)?;
            (end == self.end || (!is_all && end < self.end)).then(|| vec![name])
        };
        match self.record_type {
            types::A => (length == 4).then(Vec::new),
            types::AAAA => (length == 16).then(Vec::new),
            types::NS | types::CNAME | types::PTR | types::DNAME => one_at(0, true),
            types::MX | types::AFSDB | types::KX => one_at(2, true),
            types::SRV => one_at(6, true),
            types::SVCB | types::HTTPS => one_at(2, false),
            types::SOA => {
                let (_, second) = name_at(message, self.data)?;
                let (_, numbers) = name_at(message, second)?;
                (numbers + SOA_NUMBERS_OCTETS == self.end).then(Vec::new)
            }
            _ => Some(Vec::new()),
        }
    }
}

/// The name at `start`, uncompressed and lower case, and where what follows it stands. Pointers lead back only (RFC 1035
/// section 4.1.4), so every name has an end.
pub(super) fn name_at(message: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut lowest, mut end, mut pointers) = (start, start, None, 0);
    let mut name = Vec::new();
    loop {
        match *message.get(at)? {
            0 => {
                name.push(0);
                return (name.len() <= NAME_OCTETS_MAX).then_some((name, end.unwrap_or(at + 1)));
            }
            length @ 1..=63 => {
                let label = message.get(at..=at + usize::from(length))?;
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                if name.len() >= NAME_OCTETS_MAX {
                    return None;
                }
                at += label.len();
            }
            high @ 192..=255 => {
                let target = usize::from(high & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                end.get_or_insert(at + 2);
                pointers += 1;
                if !(HEADER_OCTETS..lowest).contains(&target) || pointers > POINTERS_MAX {
                    return None;
                }
                (at, lowest) = (target, target);
            }
            64..=191 => return None,
        }
    }
}
