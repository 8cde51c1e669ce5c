//! What is asked: the same questions of every server, in a random order that is the same in each run.

use anyhow::Result;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// How many services there are.
pub(crate) const SERVICES: usize = 1_000;
/// How many endpoints each has.
pub(crate) const NODES: usize = 4;

/// Which questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Addresses.
    A,
    /// Endpoints, with their addresses beside them.
    Srv,
    /// Names that do not exist: a thousand of them, over and over.
    Absent,
    /// Addresses and endpoints, half and half.
    Mixed,
}

impl Kind {
    /// Each of them.
    pub(crate) const ALL: [Kind; 4] = [Kind::A, Kind::Srv, Kind::Absent, Kind::Mixed];

    /// What it is called in the figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::A => "A",
            Kind::Srv => "SRV",
            Kind::Absent => "NXDOMAIN",
            Kind::Mixed => "mixed",
        }
    }

    /// The code and the number of answers that each reply has.
    pub(crate) fn expected(self) -> (u8, u8) {
        match self {
            Kind::Absent => (3, 0),
            Kind::A | Kind::Srv | Kind::Mixed => (0, NODES as u8),
        }
    }

    fn asked(self) -> &'static [(&'static str, RecordType)] {
        match self {
            Kind::A => &[("service", RecordType::A)],
            Kind::Srv => &[("service", RecordType::SRV)],
            Kind::Absent => &[("absent", RecordType::A)],
            Kind::Mixed => &[("service", RecordType::A), ("service", RecordType::SRV)],
        }
    }
}

/// The packets, with EDNS.
pub(crate) fn questions(kind: Kind) -> Result<Vec<Vec<u8>>> {
    let mut questions = Vec::new();
    for s in 0..SERVICES {
        for (name, record_type) in kind.asked() {
            let mut message = Message::new(questions.len() as u16, MessageType::Query, OpCode::Query);
            let name = Name::from_ascii(format!("{name}-{s}.local.ecs.internal."))?;
            message.add_query(Query::query(name, *record_type));
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            message.edns = Some(edns);
            questions.push(message.to_vec()?);
        }
    }
    questions.shuffle(&mut StdRng::seed_from_u64(1));
    Ok(questions)
}
