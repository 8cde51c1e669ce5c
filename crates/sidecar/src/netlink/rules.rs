//! The chains and rules of our table: what they are and how they are written.
//!
//! ```text
//! chain refuse-prerouting, refuse-output   filter, priority -120
//!     to the range, TCP, in set links      -> accept (goes on to the next chains)
//!     to the range, UDP, in map udp-links  -> accept (prerouting only)
//!     to the range, TCP, new               -> TCP reset
//!     to the range, any other, new         -> ICMP port unreachable (prerouting only)
//! chain link-prerouting, link-output       nat, priority -110, ahead of Docker's -100
//!     TCP, in set links                    -> the relay
//!     UDP, in map udp-links                -> the port that the map says, of the relay's address
//!     other UDP to the range               -> port 0 of the relay's address (output only)
//! ```
//!
//! Only first packets are refused, so that a link that goes away leaves its open connections alone. In `output` nothing but
//! TCP is refused so: a rejected datagram would fail there as "operation not permitted". It is sent to port 0, on which
//! nothing can listen, and the sender gets the "connection refused" that it knows how to handle.
//! Refusing happens before routing and before Docker, so no listener of this host can answer on the range.

use std::net::SocketAddrV4;

use ipnet::Ipv4Net;

use super::expression::Expressions;
use super::message::{Writer, flag};
use super::table::{MAP, NAME, SET, kind, write};

/// After connection tracking (-200), before our own nat.
const PRIORITY_REFUSE: i32 = -120;
/// Before Docker's nat chains, which are at -100.
const PRIORITY_LINK: i32 = -110;
const HOOK_PREROUTING: u32 = 0;
const HOOK_OUTPUT: u32 = 3;

/// What does not change while the sidecar runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The range that is ours alone.
    pub range: Ipv4Net,
    /// Where connections to links go.
    pub relay: SocketAddrV4,
}

/// The chains: name, type, hook, priority.
pub(super) const CHAINS: [(&str, &str, u32, i32); 4] = [
    ("refuse-prerouting", "filter", HOOK_PREROUTING, PRIORITY_REFUSE),
    ("refuse-output", "filter", HOOK_OUTPUT, PRIORITY_REFUSE),
    ("link-prerouting", "nat", HOOK_PREROUTING, PRIORITY_LINK),
    ("link-output", "nat", HOOK_OUTPUT, PRIORITY_LINK),
];

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Pass,
    PassDatagram,
    Reset,
    Unreachable,
    Link,
    LinkDatagram,
    NoPort,
}

/// The rules in their order.
pub(super) const RULES: [(&str, Act); 11] = [
    ("refuse-prerouting", Act::Pass),
    ("refuse-prerouting", Act::PassDatagram),
    ("refuse-prerouting", Act::Reset),
    ("refuse-prerouting", Act::Unreachable),
    ("refuse-output", Act::Pass),
    ("refuse-output", Act::Reset),
    ("link-prerouting", Act::Link),
    ("link-prerouting", Act::LinkDatagram),
    ("link-output", Act::Link),
    ("link-output", Act::LinkDatagram),
    ("link-output", Act::NoPort),
];

pub(super) fn write_chain(writer: &mut Writer, (name, kind, hook, priority): (&str, &str, u32, i32)) {
    write(writer, kind::NEW_CHAIN, flag::CREATE, |body| {
        body.text(1, NAME);
        body.text(3, name);
        body.nested(4, |place| {
            place.number(1, hook);
            place.number(2, priority as u32);
        });
        body.text(7, kind);
    });
}

pub(super) fn write_rule(writer: &mut Writer, (chain, act): (&str, Act), rules: Rules) {
    write(writer, kind::NEW_RULE, flag::CREATE | flag::APPEND, |body| {
        body.text(1, NAME);
        body.text(2, chain);
        body.nested(4, |list| write_expressions(&mut Expressions(list), act, rules));
        body.put(7, &comment(act, rules));
    });
}

fn write_expressions(rule: &mut Expressions<'_, '_>, act: Act, rules: Rules) {
    match act {
        Act::Pass => {
            rule.is_to(rules.range);
            rule.is_tcp();
            rule.is_element_of(SET);
            rule.accept();
        }
        Act::PassDatagram => {
            rule.is_to(rules.range);
            rule.is_udp();
            rule.is_key_of(MAP);
            rule.accept();
        }
        Act::Reset => {
            rule.is_to(rules.range);
            rule.is_tcp();
            rule.is_new();
            rule.reset();
        }
        Act::Unreachable => {
            rule.is_to(rules.range);
            rule.is_new();
            rule.unreachable();
        }
        Act::Link => {
            rule.is_tcp();
            rule.is_element_of(SET);
            rule.redirect(rules.relay);
        }
        Act::LinkDatagram => {
            rule.is_udp();
            rule.is_key_of(MAP);
            rule.redirect_to_found(*rules.relay.ip());
        }
        Act::NoPort => {
            rule.is_to(rules.range);
            rule.is_udp();
            rule.redirect(SocketAddrV4::new(*rules.relay.ip(), 0));
        }
    }
}

/// A rule's user data: the comment that `nft list` shows. It names all that the rule depends on.
pub(super) fn comment(act: Act, rules: Rules) -> Vec<u8> {
    let Rules { range, relay } = rules;
    let mut text = match act {
        Act::Pass => format!("portolan: a link in {range}"),
        Act::PassDatagram => format!("portolan: a UDP link in {range}"),
        Act::Reset => format!("portolan: no link in {range}"),
        Act::Unreachable => format!("portolan: no link in {range}, not TCP"),
        Act::NoPort => format!("portolan: no UDP link in {range}"),
        Act::Link => format!("portolan: to the relay at {relay}"),
        Act::LinkDatagram => format!("portolan: to the relay's UDP at {}", relay.ip()),
    }
    .into_bytes();
    text.push(0);
    let mut data = vec![0, text.len() as u8];
    data.append(&mut text);
    data
}
