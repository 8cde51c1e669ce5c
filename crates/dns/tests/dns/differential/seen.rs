//! What an asker sees of a reply: everything but the order of records and what servers may choose freely.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::{Record, RecordType};

use super::questions::Asked;

/// Everyone is on this machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reply, or its absence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) is_there: bool,
    pub(super) is_echo: bool,
    pub(super) code: u16,
    pub(super) opcode: u8,
    /// AA, TC, RD, RA, AD, CD.
    pub(super) flags: [bool; 6],
    pub(super) answers: BTreeSet<String>,
    pub(super) authorities: BTreeSet<String>,
    pub(super) additionals: BTreeSet<String>,
    /// EDNS: its version and the DO bit.
    pub(super) edns: Option<(u8, bool)>,
}

impl Seen {
    pub(super) fn is_cut(&self) -> bool {
        self.flags[1]
    }
}

impl Seen {
    /// What of it is another than in `other`.
    pub(super) fn differing(&self, other: &Seen) -> Vec<&'static str> {
        let rows = [
            ("presence", self.is_there != other.is_there),
            ("echo", self.is_echo != other.is_echo),
            ("code", self.code != other.code),
            ("flags", self.flags != other.flags),
            ("answers", self.answers != other.answers),
            ("authorities", self.authorities != other.authorities),
            ("additionals", self.additionals != other.additionals),
            ("edns", self.edns != other.edns),
        ];
        rows.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
    }
}

/// Asks one server.
pub(super) struct Asker {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Asker {
    pub(super) fn new(server: SocketAddr) -> Self {
        Asker::patient(server, PATIENCE)
    }

    /// One that soon gives up: for a server that may not be there yet.
    pub(super) fn quick(server: SocketAddr) -> Self {
        Asker::patient(server, Duration::from_millis(100))
    }

    fn patient(server: SocketAddr, patience: Duration) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        Asker { socket, server }
    }

    pub(super) fn ask(&mut self, asked: &Asked) -> Seen {
        let reply = if asked.is_tcp { self.by_tcp(&asked.message) } else { self.by_udp(&asked.message) };
        reply.map(|reply| read(&asked.message, &reply)).unwrap_or_default()
    }

    fn by_udp(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.socket.send(message).unwrap();
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).ok()?;
            // One that came too late for an earlier question is none to this.
            if buffer[..2] == message[..2] {
                return Some(buffer[..length].to_vec());
            }
        }
    }

    fn by_tcp(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(self.server).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, message].concat()).ok()?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).ok()?;
        Some(reply)
    }
}

fn read(question: &[u8], reply: &[u8]) -> Seen {
    let Ok(message) = Message::from_vec(reply) else { return Seen::default() };
    let meta = &message.metadata;
    let records =
        |all: &[Record]| all.iter().filter(|record| record.record_type() != RecordType::OPT).map(text).collect();
    let question_end = reply.len().min(question_end(question));
    Seen {
        is_there: true,
        is_echo: reply[12..question_end] == question[12..question_end],
        code: meta.response_code.into(),
        opcode: question[2] >> 3 & 0xf,
        flags: [
            meta.authoritative,
            meta.truncation,
            meta.recursion_desired,
            meta.recursion_available,
            meta.authentic_data,
            meta.checking_disabled,
        ],
        answers: records(&message.answers),
        authorities: records(&message.authorities),
        additionals: records(&message.additionals),
        edns: message.edns.as_ref().map(|edns| (edns.version(), edns.flags().dnssec_ok)),
    }
}

/// Owners in lower case: whose case a server repeats in records is its own affair.
fn text(record: &Record) -> String {
    record.to_string().to_lowercase()
}

/// Where the first question ends, its name uncompressed.
fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message.get(at).is_some_and(|length| *length != 0) {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}
