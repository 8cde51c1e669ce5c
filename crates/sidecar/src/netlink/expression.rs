//! The nf_tables expressions that our rules are made of (`linux/netfilter/nf_tables.h`).
//!
//! A rule is a list of expressions; one that does not match ends it. Registers of four octets: 8 and 9 stand side by side
//! and hold the concatenation of an address and a port; 10 holds what a map has for it.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

use super::message::Attributes;

const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
pub(super) const REGISTER_ADDRESS: u32 = 8;
pub(super) const REGISTER_PORT: u32 = 9;
pub(super) const REGISTER_VERDICT: u32 = 0;
const REGISTER_FOUND: u32 = 10;
const BASE_NETWORK: u32 = 1;
pub(super) const BASE_TRANSPORT: u32 = 2;
/// RFC 791 section 3.1: the destination address stands 16 octets into the header.
const DESTINATION_ADDRESS_OFFSET: u32 = 16;
/// RFC 9293 section 3.1: the destination port stands 2 octets into the header.
pub(super) const DESTINATION_PORT_OFFSET: u32 = 2;
pub(super) const META_L4_PROTOCOL: u32 = 16;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const CT_STATE: u32 = 0;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`: the first packet of a connection.
const CT_STATE_NEW: u32 = 8;
pub(super) const COMPARE_EQUAL: u32 = 0;
pub(super) const COMPARE_NOT_EQUAL: u32 = 1;
const VERDICT_ACCEPT: u32 = 1;
const NAT_DESTINATION: u32 = 1;
const FAMILY_IPV4: u32 = 2;
const REJECT_ICMP: u32 = 0;
const REJECT_TCP_RESET: u32 = 1;
/// RFC 792: port unreachable.
const ICMP_PORT_UNREACHABLE: u8 = 3;

/// The expressions of a rule being written.
#[derive(Debug)]
pub(super) struct Expressions<'a, 'b>(pub(super) &'a mut Attributes<'b>);

impl Expressions<'_, '_> {
    /// Matches TCP.
    pub(super) fn is_tcp(&mut self) {
        self.is_protocol(PROTOCOL_TCP);
    }

    /// Matches UDP.
    pub(super) fn is_udp(&mut self) {
        self.is_protocol(PROTOCOL_UDP);
    }

    pub(super) fn is_protocol(&mut self, protocol: u8) {
        self.add("meta", |data| {
            data.number(1, REGISTER_ADDRESS);
            data.number(2, META_L4_PROTOCOL);
        });
        self.compare(COMPARE_EQUAL, &[protocol]);
    }

    /// Matches packets to the range.
    pub(super) fn is_to(&mut self, range: Ipv4Net) {
        self.load_address();
        self.mask(&range.netmask().octets());
        self.compare(COMPARE_EQUAL, &range.network().octets());
    }

    /// Matches packets whose destination address and port are an element of the set.
    pub(super) fn is_element_of(&mut self, set: &str) {
        self.load_address();
        self.load(BASE_TRANSPORT, DESTINATION_PORT_OFFSET, (REGISTER_PORT, 2));
        self.add("lookup", |data| {
            data.text(1, set);
            data.number(2, REGISTER_ADDRESS);
        });
    }

    /// Matches packets whose destination address and port are in the map, and finds the port that it has for them.
    pub(super) fn is_key_of(&mut self, map: &str) {
        self.load_address();
        self.load(BASE_TRANSPORT, DESTINATION_PORT_OFFSET, (REGISTER_PORT, 2));
        self.add("lookup", |data| {
            data.text(1, map);
            data.number(2, REGISTER_ADDRESS);
            data.number(3, REGISTER_FOUND);
        });
    }

    /// Matches the first packet of a connection.
    pub(super) fn is_new(&mut self) {
        self.add("ct", |data| {
            data.number(1, REGISTER_ADDRESS);
            data.number(2, CT_STATE);
        });
        self.mask(&CT_STATE_NEW.to_ne_bytes());
        self.compare(COMPARE_NOT_EQUAL, &[0; 4]);
    }

    /// Ends this chain; later ones still see the packet.
    pub(super) fn accept(&mut self) {
        self.add("immediate", |data| {
            data.number(1, REGISTER_VERDICT);
            data.nested(2, |value| value.nested(2, |verdict| verdict.number(1, VERDICT_ACCEPT)));
        });
    }

    /// Answers with a TCP reset.
    pub(super) fn reset(&mut self) {
        self.add("reject", |data| {
            data.number(1, REJECT_TCP_RESET);
            data.put(2, &[0]);
        });
    }

    /// Answers with ICMP port unreachable.
    pub(super) fn unreachable(&mut self) {
        self.add("reject", |data| {
            data.number(1, REJECT_ICMP);
            data.put(2, &[ICMP_PORT_UNREACHABLE]);
        });
    }

    /// Sends the connection to `to`; the original destination stays known to the kernel.
    pub(super) fn redirect(&mut self, to: SocketAddrV4) {
        self.immediate(REGISTER_ADDRESS, &to.ip().octets());
        self.immediate(REGISTER_PORT, &to.port().to_be_bytes());
        self.nat(REGISTER_PORT);
    }

    /// Sends the flow to the port of `to` that [`Expressions::is_key_of`] found.
    pub(super) fn redirect_to_found(&mut self, to: Ipv4Addr) {
        self.immediate(REGISTER_ADDRESS, &to.octets());
        self.nat(REGISTER_FOUND);
    }

    fn nat(&mut self, port: u32) {
        self.add("nat", |data| {
            data.number(1, NAT_DESTINATION);
            data.number(2, FAMILY_IPV4);
            data.number(3, REGISTER_ADDRESS);
            data.number(4, REGISTER_ADDRESS);
            data.number(5, port);
            data.number(6, port);
        });
    }

    fn load_address(&mut self) {
        self.load(BASE_NETWORK, DESTINATION_ADDRESS_OFFSET, (REGISTER_ADDRESS, 4));
    }

    pub(super) fn load(&mut self, base: u32, offset: u32, (register, length): (u32, u32)) {
        self.add("payload", |data| {
            data.number(1, register);
            data.number(2, base);
            data.number(3, offset);
            data.number(4, length);
        });
    }

    pub(super) fn mask(&mut self, mask: &[u8; 4]) {
        self.add("bitwise", |data| {
            data.number(1, REGISTER_ADDRESS);
            data.number(2, REGISTER_ADDRESS);
            data.number(3, 4);
            data.nested(4, |value| value.put(DATA_VALUE, mask));
            data.nested(5, |value| value.put(DATA_VALUE, &[0; 4]));
        });
    }

    pub(super) fn compare(&mut self, operation: u32, with: &[u8]) {
        self.add("cmp", |data| {
            data.number(1, REGISTER_ADDRESS);
            data.number(2, operation);
            data.nested(3, |value| value.put(DATA_VALUE, with));
        });
    }

    pub(super) fn immediate(&mut self, register: u32, bytes: &[u8]) {
        self.add("immediate", |data| {
            data.number(1, register);
            data.nested(2, |value| value.put(DATA_VALUE, bytes));
        });
    }

    pub(super) fn add(&mut self, name: &str, data: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nested(LIST_ELEMENT, |expression| {
            expression.text(1, name);
            expression.nested(2, data);
        });
    }
}
