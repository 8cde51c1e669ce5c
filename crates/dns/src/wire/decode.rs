//! Bytes to a request. What cannot be read is refused with the code that says why, or dropped when it asks nothing.
//!
//! Every record is walked and none is opened, but for OPT and TSIG: the work is at most linear in the packet, no memory is
//! reserved by what it claims, and a type that is unknown here cannot be malformed. Octets behind the last record are
//! ignored, as most servers do.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::edns::cookie_in;
use super::{Edns, Question, Request, Signature, Transport};

/// RFC 1035 section 4.1.1.
const HEADER_OCTETS: usize = 12;
/// RFC 1035 section 2.3.4.
const NAME_OCTETS_MAX: usize = 255;
/// How long the names of a signature may be together: the longest known algorithm has 26 octets, and the reply, which
/// repeats both beside the question, has to fit into 512.
const SIGNATURE_NAMES_OCTETS_MAX: usize = 160;
/// QUERY.
const OPCODE_QUERY: u8 = 0;
const TYPE_OPT: u16 = 41;
const TYPE_TSIG: u16 = 250;

/// What a packet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A question to answer; `question` is there.
    Ask(Request),
    /// To be answered with that code and no records. It is NOERROR for one that asks for a cookie and nothing else.
    Refuse(Request, ResponseCode),
    /// A reply, or too short to say whose it is: an answer would only make noise, or a loop.
    Drop,
}

/// Reads `packet`, which came over `transport`.
pub fn decode(packet: &[u8], transport: Transport) -> Decoded {
    let Some(header) = packet.first_chunk::<HEADER_OCTETS>() else {
        return Decoded::Drop;
    };
    if header[2] & 0x80 != 0 {
        return Decoded::Drop;
    }
    let opcode = header[2] >> 3 & 0xf;
    let is_query = opcode == OPCODE_QUERY;
    let mut request = Request {
        transport,
        id: u16::from_be_bytes([header[0], header[1]]),
        opcode,
        // Both bits are defined for QUERY alone.
        recursion_desired: is_query && header[2] & 1 != 0,
        checking_disabled: is_query && header[3] & 0x10 != 0,
        question: None,
        edns: None,
        cookie: None,
        signature: None,
    };
    let read = Reader { packet, at: HEADER_OCTETS }.sections(header, &mut request);
    if !is_query {
        request.question = None;
        return Decoded::Refuse(request, ResponseCode::NotImp);
    }
    match read.and_then(|()| refusal(&request)) {
        Ok(()) => Decoded::Ask(request),
        Err(code) => Decoded::Refuse(request, code),
    }
}

/// Why a request that could be read is not answered from the view.
fn refusal(request: &Request) -> Result<(), ResponseCode> {
    if request.edns.is_some_and(|edns| edns.version > 0) {
        return Err(ResponseCode::BADVERS);
    }
    if request.signature.is_some() {
        // There are no keys, so it is by one that is unknown (RFC 8945 section 5.2.1).
        return Err(ResponseCode::NotAuth);
    }
    match &request.question {
        None if request.edns.is_some_and(|edns| edns.cookie.is_some()) => Err(ResponseCode::NoError),
        None => Err(ResponseCode::FormErr),
        Some(question) if matches!(question.record_type, RecordType::OPT | RecordType::TSIG) => {
            Err(ResponseCode::FormErr)
        }
        Some(_) => Ok(()),
    }
}

/// A place in a packet. What it returns `None` for is malformed.
struct Reader<'p> {
    packet: &'p [u8],
    at: usize,
}

/// What stands before a record's data, and the data.
struct Record<'p> {
    owner: &'p [u8],
    record_type: u16,
    class: u16,
    ttl: [u8; 4],
    data: &'p [u8],
}

impl<'p> Reader<'p> {
    /// Reads everything behind the header into `request`, which keeps what was read when something is malformed.
    fn sections(mut self, header: &[u8; HEADER_OCTETS], request: &mut Request) -> Result<(), ResponseCode> {
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let malformed = ResponseCode::FormErr;
        match count(4) {
            0 => {}
            1 => request.question = Some(self.question().ok_or(malformed)?),
            // One question (RFC 9619); of other opcodes nothing is known.
            _ => return Err(malformed),
        }
        for _ in 0..u32::from(count(6)) + u32::from(count(8)) {
            let record = self.record().ok_or(malformed)?;
            if matches!(record.record_type, TYPE_OPT | TYPE_TSIG) {
                return Err(malformed);
            }
        }
        for left in (0..count(10)).rev() {
            let record = self.record().ok_or(malformed)?;
            match record.record_type {
                TYPE_OPT if request.edns.is_some() || record.owner != [0] => return Err(malformed),
                TYPE_OPT => record.edns(request).ok_or(malformed)?,
                TYPE_TSIG if left > 0 => return Err(malformed),
                TYPE_TSIG => request.signature = Some(record.signature().ok_or(malformed)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn question(&mut self) -> Option<Question> {
        // Compressed, it could only point to itself or into the header.
        let name = Name::read(&mut BinDecoder::new(self.whole_name()?)).ok()?;
        let record_type = RecordType::from(self.u16()?);
        Some(Question { name, record_type, class: self.u16()?.into() })
    }

    fn record(&mut self) -> Option<Record<'p>> {
        let owner = self.name()?;
        let (record_type, class) = (self.u16()?, self.u16()?);
        let ttl = *self.take(4)?.first_chunk()?;
        let length = self.u16()?;
        Some(Record { owner, record_type, class, ttl, data: self.take(length.into())? })
    }

    /// The octets of a name; a pointer ends it (RFC 1035 section 4.1.4) and is not followed.
    fn name(&mut self) -> Option<&'p [u8]> {
        let start = self.at;
        while self.at - start < NAME_OCTETS_MAX {
            match *self.take(1)?.first()? {
                0 => return self.packet.get(start..self.at),
                length @ 1..=63 => self.take(length.into())?,
                64..=191 => return None,
                192.. => {
                    self.take(1)?;
                    return self.packet.get(start..self.at);
                }
            };
        }
        None
    }

    /// The octets of a name without a pointer.
    fn whole_name(&mut self) -> Option<&'p [u8]> {
        let start = self.at;
        while self.at - start < NAME_OCTETS_MAX {
            match *self.take(1)?.first()? {
                0 => return self.packet.get(start..self.at),
                length => self.take(length.into()).filter(|_| length < 64)?,
            };
        }
        None
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    fn take(&mut self, count: usize) -> Option<&'p [u8]> {
        let taken = self.packet.get(self.at..self.at + count)?;
        self.at += count;
        Some(taken)
    }
}

impl Record<'_> {
    /// Reads an OPT record into `request`. Of another version nothing more is known than that it is another.
    fn edns(&self, request: &mut Request) -> Option<()> {
        let [_, version, flags, _] = self.ttl;
        let edns = Edns { payload: self.class, version, wants_dnssec: flags & 0x80 != 0, cookie: None };
        let edns = request.edns.insert(edns);
        if version == 0 {
            edns.cookie = cookie_in(self.data).ok()?;
        }
        Some(())
    }

    /// What the reply to a signed request repeats of a TSIG record (RFC 8945 section 5.3.2).
    fn signature(&self) -> Option<Box<Signature>> {
        // A key's name behind a pointer would have to be looked for, only to say that it is unknown.
        let key = Reader { packet: self.owner, at: 0 }.whole_name()?;
        let mut reader = Reader { packet: self.data, at: 0 };
        let algorithm = reader.whole_name()?;
        if key.len() + algorithm.len() > SIGNATURE_NAMES_OCTETS_MAX {
            return None;
        }
        let time_and_fudge = *reader.take(8)?.first_chunk()?;
        let length = reader.u16()?;
        reader.take(length.into())?;
        let original_id = reader.u16()?;
        Some(Box::new(Signature { key: key.into(), algorithm: algorithm.into(), time_and_fudge, original_id }))
    }
}
