//! An answer as it is kept: the upstream's own message, unread but for whose its records are and where their TTLs stand.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::time::Instant;

use super::asked::{Asked, HEADER_OCTETS};
use super::bailiwick::{belongs, without_strangers};
use super::records::{self, Record, Section, types};
use crate::wire::{Extended, Reply, Request, opt_record, put_question};

/// However long the owner of a name says: a day (RFC 8767 section 4 recommends a cap of days, not weeks).
const TTL_SECONDS_MAX: u32 = 86_400;
/// However long a name is said to be missing; it may have appeared (RFC 2308 section 5 caps at hours).
const NEGATIVE_TTL_SECONDS_MAX: u32 = 300;
/// RFC 8767 section 4.
const STALE_TTL_SECONDS: u32 = 30;

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
    /// No record may be said to hold for longer.
    ttl_max: u32,
    is_positive: bool,
    stored_at: Instant,
}

impl Stored {
    /// Reads an answer to `asked`, and leaves out what does not belong to it. `None` for a message that ends too soon or
    /// makes no sense, or an extended failure.
    pub(super) fn read(message: &[u8], asked: &Asked) -> Option<Stored> {
        let question_end = HEADER_OCTETS + asked.octets();
        let mut all = records::read(message, question_end)?;
        let is_ours = belongs(&all, asked.name());
        let is_stranger = |(record, is_ours): (&Record, &bool)| record.section != Section::Additional && !is_ours;
        if all.iter().zip(&is_ours).any(is_stranger) {
            let scrubbed = without_strangers(message, &all, &is_ours)?;
            let all = records::read(&scrubbed, question_end)?;
            let is_clean = belongs(&all, asked.name()).iter().all(|is_ours| *is_ours);
            return is_clean.then(|| Stored::of(&scrubbed, &all, asked))?;
        }
        // Of the additional section what stands before the first stranger: no name that is kept points behind it.
        all.truncate(is_ours.iter().position(|is_ours| !is_ours).unwrap_or(all.len()));
        Stored::of(message, &all, asked)
    }

    /// What `message` is up to the last of `records`.
    fn of(message: &[u8], records: &[Record], asked: &Asked) -> Option<Stored> {
        let question_end = HEADER_OCTETS + asked.octets();
        let end = records.last().map_or(question_end, |record| record.end);
        let mut kept = message.get(..end)?.to_vec();
        let additional = records.iter().filter(|record| record.section == Section::Additional).count();
        kept[10..12].copy_from_slice(&u16::try_from(additional).ok()?.to_be_bytes());

        let in_section = |section: Section| records.iter().filter(move |record| record.section == section);
        let is_asked_type = |record: &Record| [record.record_type, types::ANY].contains(&asked.record_type());
        let has_answer = in_section(Section::Answer).any(is_asked_type);
        let is_positive = has_answer && kept[3] & 0xf == 0;
        let answers_ttl = in_section(Section::Answer).map(|record| record.ttl).min();
        let soa = in_section(Section::Authority).find(|record| record.record_type == types::SOA);
        // RFC 2308 section 5: without an SOA record only aliases on the way to nothing say how long they hold.
        let negative_ttl = match soa {
            Some(soa) => soa.ttl.min(soa_minimum(message, soa)),
            None => answers_ttl.unwrap_or(0),
        };
        let ttl_max = if is_positive { TTL_SECONDS_MAX } else { negative_ttl.min(NEGATIVE_TTL_SECONDS_MAX) };
        Some(Stored {
            question_end,
            ttls: records.iter().map(|record| u16::try_from(record.ttl_at)).collect::<Result<_, _>>().ok()?,
            ttl: answers_ttl.unwrap_or(u32::MAX).min(ttl_max),
            ttl_max,
            is_positive,
            message: kept,
            stored_at: Instant::now(),
        })
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

    /// Whether there is a record of the type that was asked for.
    pub(super) fn is_positive(&self) -> bool {
        self.is_positive
    }

    pub(super) fn is_cacheable(&self) -> bool {
        self.ttl > 0
    }

    pub(super) fn ends_at(&self) -> Instant {
        self.stored_at + self.ttl()
    }

    pub(super) fn code(&self) -> ResponseCode {
        ResponseCode::from_low(self.message[3] & 0xf)
    }

    /// Writes it for one asker: its id, its case, its size, what is left of the TTLs. `stale` says why it is, if so.
    pub(super) fn write(&self, request: &Request, stale: Option<Extended>, out: &mut Vec<u8>) -> ResponseCode {
        let reply = Reply { extended: stale, ..Reply::bare(self.code()) };
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
            self.write_ttls(stale.is_some(), out);
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
        reply.code
    }

    fn write_ttls(&self, is_stale: bool, out: &mut [u8]) {
        let age = u32::try_from(self.stored_at.elapsed().as_secs()).unwrap_or(u32::MAX);
        for at in self.ttls.iter().copied().map(usize::from) {
            let Some(place) = out.get_mut(at..at + 4) else { return };
            let ttl = place.iter().fold(0u32, |ttl, octet| ttl << 8 | u32::from(*octet));
            let left = if is_stale { STALE_TTL_SECONDS } else { ttl.min(self.ttl_max).saturating_sub(age) };
            place.copy_from_slice(&left.to_be_bytes());
        }
    }
}

/// The last number of an SOA record, which `records` has found to be whole.
fn soa_minimum(message: &[u8], soa: &Record) -> u32 {
    let last = message.get(..soa.end).and_then(|message| message.last_chunk());
    last.map_or(0, |octets| u32::from_be_bytes(*octets))
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
