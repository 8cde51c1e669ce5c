//! Our nf_tables table `ip portolan`: written whole, changed by elements, read back to compare.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use super::NetlinkError;
use super::message::{Attributes, Message, Writer, attribute, attributes, flag, messages, number};
use super::rules::{CHAINS, RULES, Rules, comment, write_chain, write_rule};
use super::socket::Connection;

pub(super) const NAME: &str = "portolan";
pub(super) const SET: &str = "links";
pub(super) const MAP: &str = "udp-links";
const ACTION: &str = "change the nf_tables table `ip portolan`";
const ACTION_READ: &str = "read the nf_tables table `ip portolan`";
/// Elements in one attribute: at most 40 octets each of at most 65,535.
const ELEMENTS_PER_MESSAGE: usize = 1024;
const FAMILY_IPV4: u8 = 2;
pub(super) const SUBSYSTEM: u16 = 10;
/// Type `ipv4_addr . inet_service`, for whoever lists it: six bits each.
const SET_KEY_TYPE: u32 = (7 << 6) | 13;
/// An address, and a port padded to four octets.
const SET_KEY_OCTETS: u32 = 8;
/// `NFT_SET_MAP`: its elements have values.
const SET_IS_MAP: u32 = 8;
/// Type `inet_service`.
const MAP_VALUE_TYPE: u32 = 13;
const MAP_VALUE_OCTETS: u32 = 2;

/// `NFT_MSG_*`.
pub(super) mod kind {
    pub(crate) const NEW_TABLE: u16 = 0;
    pub(crate) const DELETE_TABLE: u16 = 2;
    pub(crate) const NEW_CHAIN: u16 = 3;
    pub(crate) const LIST_CHAINS: u16 = 4;
    pub(crate) const NEW_RULE: u16 = 6;
    pub(crate) const LIST_RULES: u16 = 7;
    pub(crate) const NEW_SET: u16 = 9;
    pub(crate) const NEW_ELEMENTS: u16 = 12;
    pub(crate) const LIST_ELEMENTS: u16 = 13;
    pub(crate) const DELETE_ELEMENTS: u16 = 14;
    pub(crate) const NEW_GENERATION: u16 = 15;
    pub(crate) const READ_GENERATION: u16 = 16;
    pub(crate) const BATCH_BEGIN: u16 = 0x10;
    pub(crate) const BATCH_END: u16 = 0x11;
}

/// An address and a port of the range that lead to the relay.
pub type LinkAddress = (Ipv4Addr, u16);

/// What leads to the relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// TCP, to its listener.
    pub tcp: HashSet<LinkAddress>,
    /// UDP, each to the port of a socket of its own.
    pub udp: HashMap<LinkAddress, u16>,
}

impl Links {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty()
    }

    /// With the name of what holds them, and the value that they have there.
    fn elements(&self) -> [(&'static str, Vec<Element>); 2] {
        let tcp = self.tcp.iter().map(|address| (*address, None)).collect();
        [(SET, tcp), (MAP, self.udp.iter().map(|(address, port)| (*address, Some(*port))).collect())]
    }
}

/// An element of the set, or of the map with its value.
type Element = (LinkAddress, Option<u16>);

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
    pub fn replace(&mut self, rules: Rules, links: &Links) -> Result<(), NetlinkError> {
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
            write(writer, kind::NEW_SET, flag::CREATE, |body| {
                body.text(1, NAME);
                body.text(2, MAP);
                body.number(3, SET_IS_MAP);
                body.number(4, SET_KEY_TYPE);
                body.number(5, SET_KEY_OCTETS);
                body.number(6, MAP_VALUE_TYPE);
                body.number(7, MAP_VALUE_OCTETS);
                body.number(10, 2);
            });
            write_elements(writer, kind::NEW_ELEMENTS, links);
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

    /// Adds and removes links in one step.
    ///
    /// # Errors
    /// When the kernel refuses, as it does when the table is not as we left it; nothing was changed then.
    pub fn update(&mut self, added: &Links, removed: &Links) -> Result<(), NetlinkError> {
        self.batch(|writer| {
            write_elements(writer, kind::DELETE_ELEMENTS, removed);
            write_elements(writer, kind::NEW_ELEMENTS, added);
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
    pub fn is_intact(&mut self, rules: Rules, links: &Links) -> Result<bool, NetlinkError> {
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

    fn has_elements(&mut self, links: &Links) -> Result<bool, NetlinkError> {
        for (set, wanted) in links.elements() {
            let mut wanted: HashSet<Element> = wanted.into_iter().collect();
            let mut strangers = 0;
            let is_there = self.elements(set, |element| match element {
                Some(element) if wanted.remove(&element) => {}
                Some(_) | None => strangers += 1,
            })?;
            if !is_there || strangers > 0 || !wanted.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The ports that UDP links led to, as whoever wrote the table before left it; none without a table.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn udp_ports(&mut self) -> Result<HashMap<LinkAddress, u16>, NetlinkError> {
        let mut found = HashMap::new();
        self.elements(MAP, |element| {
            found.extend(element.and_then(|(address, port)| Some((address, port?))));
        })?;
        Ok(found)
    }

    /// Gives each element of a set to `take`, those that it does not understand as `None`; whether there is such a set.
    fn elements(&mut self, set: &str, mut take: impl FnMut(Option<Element>)) -> Result<bool, NetlinkError> {
        let body = |body: &mut Attributes<'_>| {
            body.text(1, NAME);
            body.text(2, set);
        };
        let listed = self.list(kind::LIST_ELEMENTS, body, |body| {
            attributes(attribute(body, 3).unwrap_or_default()).for_each(|(_, found)| take(element(found)));
        });
        match listed {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list(
        &mut self,
        kind: u16,
        body: impl FnOnce(&mut Attributes<'_>),
        take: impl FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        list(&mut self.connection, ACTION_READ, |writer| write(writer, kind, flag::DUMP, body), take)
    }

    fn batch(&mut self, body: impl FnOnce(&mut Writer)) -> Result<(), NetlinkError> {
        batch(&mut self.connection, ACTION, body)
    }
}

/// Reads what `request` asks for; `take` gets each found thing's attributes.
pub(super) fn list(
    connection: &mut Connection,
    action: &'static str,
    request: impl FnOnce(&mut Writer),
    mut take: impl FnMut(&[u8]),
) -> Result<(), NetlinkError> {
    let mut writer = Writer::default();
    request(&mut writer);
    connection.dump(&writer, action, |message: &Message<'_>| {
        if message.kind >> 8 == SUBSYSTEM {
            take(message.body.get(4..).unwrap_or_default());
        }
    })
}

/// Sends what `body` writes as one batch: it is taken whole or not at all.
pub(super) fn batch(
    connection: &mut Connection,
    action: &'static str,
    body: impl FnOnce(&mut Writer),
) -> Result<(), NetlinkError> {
    let mut writer = Writer::default();
    let boundary = [&[0, 0], SUBSYSTEM.to_be_bytes().as_slice()].concat();
    writer.message(kind::BATCH_BEGIN, 0, |message| message.fixed(&boundary));
    body(&mut writer);
    let last = writer.sequence();
    writer.message(kind::BATCH_END, 0, |message| message.fixed(&boundary));
    if last == 1 {
        return Ok(());
    }
    connection.execute(&writer, last, action)
}

/// Writes a message about our table. Each that changes something asks to be acknowledged: the last one's word counts for
/// the batch.
pub(super) fn write(writer: &mut Writer, kind: u16, flags: u16, body: impl FnOnce(&mut Attributes<'_>)) {
    let acknowledge = if matches!(flags, flag::DUMP | flag::REQUEST) { 0 } else { flag::ACK };
    writer.message((SUBSYSTEM << 8) | kind, flags | acknowledge, |message| {
        message.fixed(&[FAMILY_IPV4, 0, 0, 0]);
        body(message);
    });
}

fn write_elements(writer: &mut Writer, kind: u16, links: &Links) {
    let flags = if kind == kind::NEW_ELEMENTS { flag::CREATE } else { 0 };
    for (set, elements) in links.elements() {
        for elements in elements.chunks(ELEMENTS_PER_MESSAGE) {
            write(writer, kind, flags, |body| {
                body.text(1, NAME);
                body.text(2, set);
                body.nested(3, |list| elements.iter().for_each(|element| write_element(list, *element)));
            });
        }
    }
}

fn write_element(list: &mut Attributes<'_>, ((address, port), value): Element) {
    let [high, low] = port.to_be_bytes();
    let key = [address.octets(), [high, low, 0, 0]].concat();
    list.nested(1, |element| {
        element.nested(1, |data| data.put(1, &key));
        if let Some(value) = value {
            element.nested(2, |data| data.put(1, &value.to_be_bytes()));
        }
    });
}

fn element(element: &[u8]) -> Option<Element> {
    let key: [u8; 8] = attribute(attribute(element, 1)?, 1)?.try_into().ok()?;
    let [a, b, c, d, high, low, _, _] = key;
    let address = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
    let Some(value) = attribute(element, 2) else { return Some((address, None)) };
    Some((address, Some(u16::from_be_bytes(attribute(value, 1)?.try_into().ok()?))))
}

pub(super) fn text(body: &[u8], kind: u16) -> Option<&str> {
    let (zero, text) = attribute(body, kind)?.split_last()?;
    (*zero == 0).then(|| std::str::from_utf8(text).ok()).flatten()
}
