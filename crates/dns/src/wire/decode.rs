//! Bytes to a request. What cannot be read is refused with the code that says why, or dropped when it asks nothing.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use super::{Edns, Question, Request, Transport};

/// RFC 1035 section 4.1.1.
const HEADER_OCTETS: usize = 12;
/// QUERY.
const OPCODE_QUERY: u8 = 0;

/// What a packet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A question to answer; `question` is there.
    Ask(Request),
    /// To be refused with that code.
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
    let mut request = Request {
        transport,
        id: u16::from_be_bytes([header[0], header[1]]),
        opcode: header[2] >> 3 & 0xf,
        recursion_desired: header[2] & 1 != 0,
        checking_disabled: header[3] & 0x10 != 0,
        question: None,
        edns: None,
    };
    if request.opcode != OPCODE_QUERY {
        return Decoded::Refuse(request, ResponseCode::NotImp);
    }
    // Exactly one question (RFC 9619).
    if [header[4], header[5]] != [0, 1] {
        return Decoded::Refuse(request, ResponseCode::FormErr);
    }
    let Ok(mut message) = Message::from_vec(packet) else {
        return Decoded::Refuse(request, ResponseCode::FormErr);
    };
    request.edns = message.edns.as_ref().map(|edns| Edns {
        payload: edns.max_payload(),
        version: edns.version(),
        wants_dnssec: edns.flags().dnssec_ok,
    });
    let Some(query) = message.queries.pop() else {
        return Decoded::Refuse(request, ResponseCode::FormErr);
    };
    let record_type = query.query_type();
    request.question = Some(Question { name: query.name().clone(), record_type, class: query.query_class() });
    if request.edns.is_some_and(|edns| edns.version > 0) {
        return Decoded::Refuse(request, ResponseCode::BADVERS);
    }
    if record_type == RecordType::OPT {
        return Decoded::Refuse(request, ResponseCode::FormErr);
    }
    Decoded::Ask(request)
}
