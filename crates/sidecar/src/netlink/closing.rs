//! The rules of our guard: which packets they refuse, and how. Each is tried as well as the kernel can do it.
//!
//! ```text
//! chain closed    filter, prerouting, priority -125: after connection tracking, before our links and Docker's nat
//!     TCP, a first packet (SYN), port in set `closed`, from elsewhere, to this host      -> reset
//!     UDP, from who began the exchange, port in set `closed`, from elsewhere, to this host -> port unreachable
//! ```
//!
//! "From elsewhere" is any interface but loopback and bridges, which are those of local containers, and again a bridge that
//! holds an address of this node that others use. A UDP exchange that was begun from outside is refused also when connection tracking
//! knows it: it was the former owner's. What this host began itself may be answered.

use super::expression::{
    BASE_TRANSPORT, COMPARE_EQUAL, COMPARE_NOT_EQUAL, DESTINATION_PORT_OFFSET, Expressions, META_L4_PROTOCOL,
    REGISTER_ADDRESS, REGISTER_PORT, REGISTER_VERDICT,
};
use super::guard::SET;

const META_INTERFACE: u32 = 4;
const META_INTERFACE_KIND: u32 = 26;
/// The loopback interface is the first of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
/// `IFNAMSIZ`: kinds and names of interfaces are padded to it.
const KIND_OCTETS: usize = 16;
/// RFC 9293 section 3.1: the flags stand 13 octets into the header.
const TCP_FLAGS_OFFSET: u32 = 13;
/// FIN, SYN, RST and ACK; of these a first packet has SYN alone.
const TCP_FLAGS_MASK: u8 = 0x17;
const TCP_SYN: u8 = 0x02;
const CT_DIRECTION: u32 = 1;
/// `IP_CT_DIR_ORIGINAL`.
const DIRECTION_ORIGINAL: u8 = 0;
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_OF_DESTINATION: u32 = 2;
/// `RTN_LOCAL`.
const ADDRESS_LOCAL: u32 = 2;
const REJECT_TCP_RESET: u32 = 1;
/// The same for IPv4 and IPv6, whichever the packet is.
const REJECT_EITHER: u32 = 2;
const EITHER_PORT_UNREACHABLE: u8 = 1;
const VERDICT_DROP: u32 = 0;

/// How well the kernel can refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// A reset or an ICMP message; else the packet is dropped without a word.
    pub is_told: bool,
    /// Only packets to this host; else also those that it forwards, to the same port elsewhere.
    pub is_local_only: bool,
}

impl Manner {
    /// Best first.
    pub(super) const ALL: [Manner; 4] = [
        Manner { is_told: true, is_local_only: true },
        Manner { is_told: true, is_local_only: false },
        Manner { is_told: false, is_local_only: true },
        Manner { is_told: false, is_local_only: false },
    ];

    /// In words, for a rule's comment.
    fn text(self) -> &'static str {
        match (self.is_told, self.is_local_only) {
            (true, true) => "refused",
            (true, false) => "refused, forwarded ones too",
            (false, true) => "dropped",
            (false, false) => "dropped, forwarded ones too",
        }
    }
}

/// Where packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Neither loopback nor a bridge.
    Elsewhere,
    /// This interface: a bridge that others reach this node by.
    Bridge(u32),
}

/// Which transport a rule is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closing {
    pub(super) transport: Transport,
    pub(super) from: From,
    pub(super) manner: Manner,
}

impl Closing {
    /// All rules, where others reach this node by these bridges.
    pub(super) fn all(bridges: &[u32], manner: Manner) -> Vec<Closing> {
        let from = [From::Elsewhere].into_iter().chain(bridges.iter().map(|index| From::Bridge(*index)));
        let each = |from| [Transport::Tcp, Transport::Udp].map(|transport| Closing { transport, from, manner });
        from.flat_map(each).collect()
    }

    pub(super) fn write(self, rule: &mut Expressions<'_, '_>) {
        // What most packets are not comes first.
        match self.transport {
            Transport::Tcp => {
                rule.is_tcp();
                rule.is_first_of_tcp();
            }
            Transport::Udp => rule.is_udp(),
        }
        rule.is_closed();
        if self.transport == Transport::Udp {
            rule.is_of_who_began();
        }
        match self.from {
            From::Elsewhere => rule.is_from_elsewhere(),
            From::Bridge(index) => rule.is_from(COMPARE_EQUAL, index),
        }
        if self.manner.is_local_only {
            rule.is_to_this_host();
        }
        match (self.manner.is_told, self.transport) {
            (true, Transport::Tcp) => rule.refuse(REJECT_TCP_RESET, 0),
            (true, Transport::Udp) => rule.refuse(REJECT_EITHER, EITHER_PORT_UNREACHABLE),
            (false, _) => rule.drop_packet(),
        }
    }

    /// The comment that `nft list` shows: all that the rule depends on.
    pub(super) fn comment(self) -> String {
        let from = match self.from {
            From::Elsewhere => "from elsewhere".to_owned(),
            From::Bridge(index) => format!("from bridge {index}"),
        };
        let transport = match self.transport {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        };
        format!("portolan: {transport} {from} to a port just freed is {}", self.manner.text())
    }
}

impl Expressions<'_, '_> {
    fn is_first_of_tcp(&mut self) {
        self.load(BASE_TRANSPORT, TCP_FLAGS_OFFSET, (REGISTER_ADDRESS, 1));
        self.mask(&[TCP_FLAGS_MASK, 0, 0, 0]);
        self.compare(COMPARE_EQUAL, &[TCP_SYN]);
    }

    fn is_closed(&mut self) {
        self.meta(META_L4_PROTOCOL);
        self.load(BASE_TRANSPORT, DESTINATION_PORT_OFFSET, (REGISTER_PORT, 2));
        self.add("lookup", |data| {
            data.text(1, SET);
            data.number(2, REGISTER_ADDRESS);
        });
    }

    fn is_of_who_began(&mut self) {
        self.add("ct", |data| {
            data.number(1, REGISTER_ADDRESS);
            data.number(2, CT_DIRECTION);
        });
        self.compare(COMPARE_EQUAL, &[DIRECTION_ORIGINAL]);
    }

    fn is_from_elsewhere(&mut self) {
        self.is_from(COMPARE_NOT_EQUAL, LOOPBACK_INDEX);
        self.meta(META_INTERFACE_KIND);
        let mut kind = [0; KIND_OCTETS];
        kind[..6].copy_from_slice(b"bridge");
        self.compare(COMPARE_NOT_EQUAL, &kind);
    }

    fn is_from(&mut self, operation: u32, index: u32) {
        self.meta(META_INTERFACE);
        self.compare(operation, &index.to_ne_bytes());
    }

    fn is_to_this_host(&mut self) {
        self.add("fib", |data| {
            data.number(1, REGISTER_ADDRESS);
            data.number(2, FIB_ADDRESS_TYPE);
            data.number(3, FIB_OF_DESTINATION);
        });
        self.compare(COMPARE_EQUAL, &ADDRESS_LOCAL.to_ne_bytes());
    }

    fn meta(&mut self, key: u32) {
        self.add("meta", |data| {
            data.number(1, REGISTER_ADDRESS);
            data.number(2, key);
        });
    }

    fn refuse(&mut self, kind: u32, code: u8) {
        self.add("reject", |data| {
            data.number(1, kind);
            data.put(2, &[code]);
        });
    }

    fn drop_packet(&mut self) {
        self.add("immediate", |data| {
            data.number(1, REGISTER_VERDICT);
            data.nested(2, |value| value.nested(2, |verdict| verdict.number(1, VERDICT_DROP)));
        });
    }
}
