//! Our nf_tables table `ip portolan`: written whole, changed by elements, read back to compare.
//!
//! ```text
//! chain refuse-prerouting, refuse-output   filter, priority -120
//!     to the range, TCP, in set links      -> accept (goes on to the next chains)
//!     to the range, TCP, new               -> TCP reset
//!     to the range, any other, new         -> ICMP port unreachable (prerouting only)
//! chain link-prerouting, link-output       nat, priority -110, ahead of Docker's -100
//!     TCP, in set links                    -> the relay
//!     UDP to the range                     -> port 0 of the relay's address (output only)
//! ```
//!
//! Only first packets are refused, so that a link that goes away leaves its open connections alone. In `output` nothing but
//! TCP is refused so: a rejected datagram would fail there as "operation not permitted". It is sent to port 0, on which
//! nothing can listen, and the sender gets the "connection refused" that it knows how to handle.
//! Refusing happens before routing and before Docker, so no listener of this host can answer on the range.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use super::NetlinkError;
use super::expression::Expressions;
use super::message::{Attributes, Message, Writer, attribute, attributes, flag, messages, number};
use super::socket::Connection;

const NAME: &str = "portolan";
const SET: &str = "links";
const ACTION: &str = "change the nf_tables table `ip portolan`";
const ACTION_READ: &str = "read the nf_tables table `ip portolan`";
/// Elements in one attribute: 28 octets each of at most 65,535.
const ELEMENTS_PER_MESSAGE: usize = 1024;
/// After connection tracking (-200), before our own nat.
const PRIORITY_REFUSE: i32 = -120;
/// Before Docker's nat chains, which are at -100.
const PRIORITY_LINK: i32 = -110;
const HOOK_PREROUTING: u32 = 0;
const HOOK_OUTPUT: u32 = 3;
const FAMILY_IPV4: u8 = 2;
const SUBSYSTEM: u16 = 10;
/// Type `ipv4_addr . inet_service`, for whoever lists it: six bits each.
const SET_KEY_TYPE: u32 = (7 << 6) | 13;
/// An address, and a port padded to four octets.
const SET_KEY_OCTETS: u32 = 8;

/// `NFT_MSG_*`.
mod kind {
    pub(super) const NEW_TABLE: u16 = 0;
    pub(super) const DELETE_TABLE: u16 = 2;
    pub(super) const NEW_CHAIN: u16 = 3;
    pub(super) const LIST_CHAINS: u16 = 4;
    pub(super) const NEW_RULE: u16 = 6;
    pub(super) const LIST_RULES: u16 = 7;
    pub(super) const NEW_SET: u16 = 9;
    pub(super) const NEW_ELEMENTS: u16 = 12;
    pub(super) const LIST_ELEMENTS: u16 = 13;
    pub(super) const DELETE_ELEMENTS: u16 = 14;
    pub(super) const NEW_GENERATION: u16 = 15;
    pub(super) const READ_GENERATION: u16 = 16;
    pub(super) const BATCH_BEGIN: u16 = 0x10;
    pub(super) const BATCH_END: u16 = 0x11;
}

/// An address and a port of the range that lead to the relay.
pub type LinkAddress = (Ipv4Addr, u16);

/// What does not change while the sidecar runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The range that is ours alone.
    pub range: Ipv4Net,
    /// Where connections to links go.
    pub relay: SocketAddrV4,
}

/// The chains: name, type, hook, priority.
const CHAINS: [(&str, &str, u32, i32); 4] = [
    ("refuse-prerouting", "filter", HOOK_PREROUTING, PRIORITY_REFUSE),
    ("refuse-output", "filter", HOOK_OUTPUT, PRIORITY_REFUSE),
    ("link-prerouting", "nat", HOOK_PREROUTING, PRIORITY_LINK),
    ("link-output", "nat", HOOK_OUTPUT, PRIORITY_LINK),
];

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Pass,
    Reset,
    Unreachable,
    Link,
    NoPort,
}

/// The rules in their order.
const RULES: [(&str, Act); 8] = [
    ("refuse-prerouting", Act::Pass),
    ("refuse-prerouting", Act::Reset),
    ("refuse-prerouting", Act::Unreachable),
    ("refuse-output", Act::Pass),
    ("refuse-output", Act::Reset),
    ("link-prerouting", Act::Link),
    ("link-output", Act::Link),
    ("link-output", Act::NoPort),
];

/// A connection to the kernel's nf_tables.
#[derive(Debug)]
pub struct Table {
    connection: Connection,
}

impl Table {
    /// Opens the socket; needs no right yet.
    ///
    /// # Errors
    /// When the kernel has no netfilter.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Table { connection: Connection::open(NETLINK_NETFILTER, ACTION)? })
    }

    /// Puts our table in the place of whatever bears its name, in one step; connections that are open stay as they are.
    ///
    /// # Errors
    /// Without the right, or when the kernel refuses; nothing was changed then.
    pub fn replace(&mut self, rules: Rules, links: &HashSet<LinkAddress>) -> Result<(), NetlinkError> {
        let replaced = self.batch(|writer| {
            // Deleting what may not be there would fail: make it first.
            write(writer, kind::NEW_TABLE, flag::CREATE, |body| body.text(1, NAME));
            write(writer, kind::DELETE_TABLE, 0, |body| body.text(1, NAME));
            write(writer, kind::NEW_TABLE, flag::CREATE, |body| body.text(1, NAME));
            write(writer, kind::NEW_SET, flag::CREATE, |body| {
                body.text(1, NAME);
                body.text(2, SET);
                body.number(3, 0);
                body.number(4, SET_KEY_TYPE);
                body.number(5, SET_KEY_OCTETS);
                body.number(10, 1);
            });
            write_elements(writer, kind::NEW_ELEMENTS, links.iter());
            for chain in CHAINS {
                write_chain(writer, chain);
            }
            for rule in RULES {
                write_rule(writer, rule, rules);
            }
        });
        // All that it names it makes: what is absent then is a part of the kernel.
        replaced.map_err(|error| match error {
            NetlinkError::Refused { action, source } if Errno::from_io_error(&source) == Some(Errno::NOENT) => {
                NetlinkError::Unsupported { action, source }
            }
            other => other,
        })
    }

    /// Adds and removes elements of the set in one step.
    ///
    /// # Errors
    /// When the kernel refuses, as it does when the table is not as we left it; nothing was changed then.
    pub fn update(&mut self, added: &[LinkAddress], removed: &[LinkAddress]) -> Result<(), NetlinkError> {
        self.batch(|writer| {
            write_elements(writer, kind::DELETE_ELEMENTS, removed.iter());
            write_elements(writer, kind::NEW_ELEMENTS, added.iter());
        })
    }

    /// Removes our table; none is no error.
    ///
    /// # Errors
    /// Without the right, or when the kernel refuses.
    pub fn remove(&mut self) -> Result<(), NetlinkError> {
        let removed = self.batch(|writer| write(writer, kind::DELETE_TABLE, 0, |body| body.text(1, NAME)));
        removed.or_else(|error| if error.is_absent() { Ok(()) } else { Err(error) })
    }

    /// The number of the newest change to any rules of this network namespace: while it stands, nothing changed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn generation(&mut self) -> Result<u32, NetlinkError> {
        let mut writer = Writer::default();
        write(&mut writer, kind::READ_GENERATION, flag::REQUEST, |_| {});
        let answer = self.connection.ask(&writer, ACTION_READ)?;
        let mut found = messages(&answer).filter(|m| m.kind == (SUBSYSTEM << 8) | kind::NEW_GENERATION);
        let body = found.next().map(|message| message.body.get(4..).unwrap_or_default());
        body.and_then(|body| attribute(body, 1)).and_then(number).ok_or(NetlinkError::Malformed { action: ACTION_READ })
    }

    /// Whether the kernel holds exactly this.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_intact(&mut self, rules: Rules, links: &HashSet<LinkAddress>) -> Result<bool, NetlinkError> {
        Ok(self.has_chains()? && self.has_rules(rules)? && self.has_elements(links)?)
    }

    fn has_chains(&mut self) -> Result<bool, NetlinkError> {
        let mut found = 0;
        let mut strangers = 0;
        self.list(
            kind::LIST_CHAINS,
            |body| body.text(1, NAME),
            |body| {
                if text(body, 1) != Some(NAME) {
                    return;
                }
                let hook = attribute(body, 4).unwrap_or_default();
                let hook_number = attribute(hook, 1).and_then(number);
                let priority = attribute(hook, 2).and_then(number).map(|value| value as i32);
                let is_ours = CHAINS.iter().any(|(name, kind, wanted_hook, wanted_priority)| {
                    text(body, 3) == Some(name)
                        && text(body, 7) == Some(kind)
                        && hook_number == Some(*wanted_hook)
                        && priority == Some(*wanted_priority)
                });
                if is_ours { found += 1 } else { strangers += 1 }
            },
        )?;
        Ok(found == CHAINS.len() && strangers == 0)
    }

    /// The kernel may write expressions otherwise than we did; what it keeps untouched is the comment.
    fn has_rules(&mut self, rules: Rules) -> Result<bool, NetlinkError> {
        let mut found = Vec::with_capacity(RULES.len());
        self.list(
            kind::LIST_RULES,
            |body| body.text(1, NAME),
            |body| {
                if text(body, 1) == Some(NAME) {
                    let chain = text(body, 2).unwrap_or_default().to_owned();
                    found.push((chain, attribute(body, 7).unwrap_or_default().to_vec()));
                }
            },
        )?;
        let wanted = RULES.map(|(chain, act)| (chain.to_owned(), comment(act, rules)));
        Ok(CHAINS.iter().all(|(name, ..)| {
            let of_chain = |(chain, _): &&(String, Vec<u8>)| chain == name;
            wanted.iter().filter(of_chain).eq(found.iter().filter(of_chain))
        }) && found.len() == wanted.len())
    }

    fn has_elements(&mut self, links: &HashSet<LinkAddress>) -> Result<bool, NetlinkError> {
        let mut found = 0;
        let mut strangers = 0;
        let body = |body: &mut Attributes<'_>| {
            body.text(1, NAME);
            body.text(2, SET);
        };
        let listed = self.list(kind::LIST_ELEMENTS, body, |body| {
            for (_, element) in attributes(attribute(body, 3).unwrap_or_default()) {
                match element_address(element) {
                    Some(address) if links.contains(&address) => found += 1,
                    Some(_) | None => strangers += 1,
                }
            }
        });
        match listed {
            Ok(()) => Ok(found == links.len() && strangers == 0),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list(
        &mut self,
        kind: u16,
        body: impl FnOnce(&mut Attributes<'_>),
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        let mut writer = Writer::default();
        write(&mut writer, kind, flag::DUMP, body);
        self.connection.dump(&writer, ACTION_READ, |message: &Message<'_>| {
            if message.kind >> 8 == SUBSYSTEM {
                take(message.body.get(4..).unwrap_or_default());
            }
        })
    }

    fn batch(&mut self, body: impl FnOnce(&mut Writer)) -> Result<(), NetlinkError> {
        let mut writer = Writer::default();
        let boundary = [&[0, 0], SUBSYSTEM.to_be_bytes().as_slice()].concat();
        writer.message(kind::BATCH_BEGIN, 0, |message| message.fixed(&boundary));
        body(&mut writer);
        let last = writer.sequence();
        writer.message(kind::BATCH_END, 0, |message| message.fixed(&boundary));
        if last == 1 {
            return Ok(());
        }
        self.connection.execute(&writer, last, ACTION)
    }
}

/// Writes a message about our table. Each that changes something asks to be acknowledged: the last one's word counts for
/// the batch.
fn write(writer: &mut Writer, kind: u16, flags: u16, body: impl FnOnce(&mut Attributes<'_>)) {
    let acknowledge = if matches!(flags, flag::DUMP | flag::REQUEST) { 0 } else { flag::ACK };
    writer.message((SUBSYSTEM << 8) | kind, flags | acknowledge, |message| {
        message.fixed(&[FAMILY_IPV4, 0, 0, 0]);
        body(message);
    });
}

fn write_chain(writer: &mut Writer, (name, kind, hook, priority): (&str, &str, u32, i32)) {
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

fn write_rule(writer: &mut Writer, (chain, act): (&str, Act), rules: Rules) {
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
        Act::NoPort => {
            rule.is_to(rules.range);
            rule.is_udp();
            rule.redirect(SocketAddrV4::new(*rules.relay.ip(), 0));
        }
    }
}

/// A rule's user data: the comment that `nft list` shows. It names all that the rule depends on.
fn comment(act: Act, rules: Rules) -> Vec<u8> {
    let Rules { range, relay } = rules;
    let mut text = match act {
        Act::Pass => format!("portolan: a link in {range}"),
        Act::Reset => format!("portolan: no link in {range}"),
        Act::Unreachable => format!("portolan: not TCP to {range}"),
        Act::NoPort => format!("portolan: UDP to {range} is refused"),
        Act::Link => format!("portolan: to the relay at {relay}"),
    }
    .into_bytes();
    text.push(0);
    let mut data = vec![0, text.len() as u8];
    data.append(&mut text);
    data
}

fn write_elements<'a>(writer: &mut Writer, kind: u16, links: impl Iterator<Item = &'a LinkAddress>) {
    let flags = if kind == kind::NEW_ELEMENTS { flag::CREATE } else { 0 };
    let mut links = links.peekable();
    while links.peek().is_some() {
        write(writer, kind, flags, |body| {
            body.text(1, NAME);
            body.text(2, SET);
            body.nested(3, |list| {
                for (address, port) in links.by_ref().take(ELEMENTS_PER_MESSAGE) {
                    let [high, low] = port.to_be_bytes();
                    let key = [address.octets(), [high, low, 0, 0]].concat();
                    list.nested(1, |element| element.nested(1, |data| data.put(1, &key)));
                }
            });
        });
    }
}

fn element_address(element: &[u8]) -> Option<LinkAddress> {
    let key: [u8; 8] = attribute(attribute(element, 1)?, 1)?.try_into().ok()?;
    let [a, b, c, d, high, low, _, _] = key;
    Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
}

fn text(body: &[u8], kind: u16) -> Option<&str> {
    let (zero, text) = attribute(body, kind)?.split_last()?;
    (*zero == 0).then(|| std::str::from_utf8(text).ok()).flatten()
}
