//! Messages: bytes to a request, a reply to bytes.
//!
//! Both directions are written here (decisions 4 and 10), and hickory-proto is the tests' second opinion. The decoder has
//! to say of every packet what is wrong with it, and to repeat what could be read. The encoder's TC bit has to be honest;
//! and every name in our answers is known: the question's, the zone's, or that of an address.

mod decode;
mod edns;
mod encode;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, RecordType};

pub use decode::{Decoded, decode};
pub use edns::{Cookie, Edns};
pub use encode::encode;
pub(crate) use encode::{WireName, opt_record, put_question};

/// The size that we announce, and the most that we send over UDP (DNS flag day 2020): it fits every path unfragmented.
pub const UDP_PAYLOAD: u16 = 1232;
/// What an asker without EDNS, or with a smaller announcement, can take (RFC 1035 section 4.2.1, RFC 6891 section 6.2.3).
pub const PLAIN_PAYLOAD: u16 = 512;

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A connection.
    Tcp,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name, in the asker's case.
    pub name: Name,
    /// The type.
    pub record_type: RecordType,
    /// The class.
    pub class: DNSClass,
}

/// A well-formed request, or as much of it as a refusal has to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How it came.
    pub transport: Transport,
    /// To be echoed.
    pub id: u16,
    /// The four bits as they came.
    pub opcode: u8,
    /// To be echoed.
    pub recursion_desired: bool,
    /// CD: validation is not wanted. For the forwarder.
    pub checking_disabled: bool,
    /// Missing only in refusals of what could not be read.
    pub question: Option<Question>,
    /// Its EDNS, when it has one: only then has the reply one.
    pub edns: Option<Edns>,
    /// The cookie that the reply carries. Set by the server, which has the secret.
    pub cookie: Option<CookieReply>,
    /// Its TSIG record: the reply says that the key is unknown.
    pub signature: Option<Box<Signature>>,
}

/// What a COOKIE option of ours holds: the asker's half and ours.
pub type CookieReply = [u8; 24];

/// What the reply to a signed request repeats (RFC 8945 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key's name as in a message.
    pub key: Box<[u8]>,
    /// The algorithm's name as in a message.
    pub algorithm: Box<[u8]>,
    /// When it was signed, and how far clocks may differ.
    pub time_and_fudge: [u8; 8],
    /// The id that was signed.
    pub original_id: u16,
}

impl Request {
    /// The most octets that a reply to this request may have.
    pub fn reply_octets_max(&self) -> usize {
        match self.transport {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp => {
                let said = self.edns.map_or(PLAIN_PAYLOAD, |edns| edns.payload);
                usize::from(said.clamp(PLAIN_PAYLOAD, UDP_PAYLOAD))
            }
        }
    }
}

/// One record of an answer; its owner is the question's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An address: A or AAAA.
    Address(std::net::IpAddr),
    /// SRV; the target is the name of the address, which goes into the additional section.
    Service {
        /// SRV weight.
        weight: u16,
        /// Port to connect to.
        port: u16,
        /// Where.
        address: std::net::IpAddr,
    },
    /// PTR to a full name.
    Pointer(String),
    /// The zone's SOA.
    Soa,
    /// The zone's NS.
    NameServer,
    /// HINFO `RFC8482`: the small answer to ANY.
    Minimal,
}

/// An extended error (RFC 8914).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extended {
    /// Its code.
    pub code: u16,
    /// For people.
    pub text: &'static str,
}

/// A reply, before it is cut to size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its code.
    pub code: ResponseCode,
    /// AA.
    pub is_authoritative: bool,
    /// RA: whether this server forwards. Set by the server, for all replies.
    pub is_recursion_available: bool,
    /// The answers, best first.
    pub answers: Vec<Answer>,
    /// How many of the first are as good as each other: another of them may as well come first.
    pub alike: usize,
    /// Whether the authority section has the zone's SOA, for NXDOMAIN and NODATA (RFC 2308 section 3).
    pub has_soa: bool,
    /// The SOA's serial number.
    pub serial: u32,
    /// What went wrong, or how old it is.
    pub extended: Option<Extended>,
    /// Nothing is said but that a connection would get more: TC without records.
    pub is_withheld: bool,
}

impl Reply {
    /// A reply with nothing but `code`.
    pub fn bare(code: ResponseCode) -> Reply {
        Reply {
            code,
            is_authoritative: false,
            is_recursion_available: false,
            answers: Vec::new(),
            alike: 0,
            has_soa: false,
            serial: 0,
            extended: None,
            is_withheld: false,
        }
    }

    /// The same with an extended error.
    pub fn because(mut self, extended: Extended) -> Reply {
        self.extended = Some(extended);
        self
    }
}
