//! Our nf_tables table `inet portolan-guard`: host ports that were just freed, closed to other hosts, each for a time.
//!
//! The kernel itself forgets an element when its time is over, so that a sidecar that died leaves nothing closed. Each bears a note,
//! as a comment, from which the next sidecar learns whose the port was. A table of its own, so that links may
//! write theirs anew at any time, and a node without links has a guard.

use std::collections::BTreeSet;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use portolan_core::endpoint::Protocol;

use super::NetlinkError;
use super::closing::Closing;
pub use super::closing::Manner;
use super::expression::Expressions;
use super::message::{Attributes, Writer, attribute, attributes, flag, number};
use super::socket::Connection;
use super::table::{SUBSYSTEM, Table, batch, kind, list, text};

const NAME: &str = "portolan-guard";
pub(super) const SET: &str = "closed";
const CHAIN: &str = "closed";
const ACTION: &str = "change the nf_tables table `inet portolan-guard`";
const ACTION_READ: &str = "read the nf_tables table `inet portolan-guard`";
/// `NFPROTO_INET`: IPv4 and IPv6.
const FAMILY_INET: u8 = 1;
const HOOK_PREROUTING: u32 = 0;
/// After connection tracking (-200), before links (-120) and Docker's nat (-100).
const PRIORITY: i32 = -125;
/// Type `inet_proto . inet_service`, for whoever lists it: six bits each.
const SET_KEY_TYPE: u32 = (12 << 6) | 13;
/// Both padded to four octets.
const SET_KEY_OCTETS: u32 = 8;
/// `NFT_SET_TIMEOUT`.
const SET_FLAG_TIMEOUT: u32 = 0x10;
/// Elements in one attribute: some 280 octets each of at most 65,535.
const ELEMENTS_PER_MESSAGE: usize = 200;
/// What a comment has room for: its length is one octet, its end another.
const NOTE_OCTETS_MAX: usize = 250;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// A port of this host, on all its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// A closed port, as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Which.
    pub at: HostPort,
    /// For how long, from now on.
    pub left: Duration,
    /// Whose it was: at most 250 octets, the rest is cut.
    pub note: String,
}

/// A connection to the kernel's nf_tables.
#[derive(Debug)]
pub struct GuardTable {
    connection: Connection,
    /// To ask for the generation of all rules.
    rules: Table,
    manner: Manner,
}

impl GuardTable {
    /// Opens the socket; needs no right yet.
    ///
    /// # Errors
    /// When the kernel has no netfilter.
    pub fn open() -> Result<Self, NetlinkError> {
        let connection = Connection::open(NETLINK_NETFILTER, ACTION)?;
        Ok(GuardTable { connection, rules: Table::open()?, manner: Manner::ALL[0] })
    }

    /// How packets are refused, since the last [`GuardTable::replace`].
    pub fn manner(&self) -> Manner {
        self.manner
    }

    /// Puts the table in the place of whatever bears its name, in one step; `bridges` are the interfaces that others reach this
    /// node by although they are bridges. What the kernel cannot do is left out, as little as possible.
    ///
    /// # Errors
    /// Without the right, or when the kernel can do none of it; nothing was changed then.
    pub fn replace(&mut self, bridges: &[u32], elements: &[Element]) -> Result<(), NetlinkError> {
        let mut refused = None;
        for manner in Manner::ALL {
            match self.replace_in(manner, bridges, elements) {
                Ok(()) => {
                    self.manner = manner;
                    return Ok(());
                }
                Err(error @ NetlinkError::NotPermitted { .. }) => return Err(error),
                // The first answer is about everything that was wanted: it tells most.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or(NetlinkError::Malformed { action: ACTION }))
    }

    /// As [`GuardTable::replace`], in one manner alone.
    ///
    /// # Errors
    /// As there; also when the kernel can do it in another manner only.
    pub fn replace_in(&mut self, manner: Manner, bridges: &[u32], elements: &[Element]) -> Result<(), NetlinkError> {
        batch(&mut self.connection, ACTION, |writer| {
            // Deleting what may not be there would fail: make it first.
            write(writer, kind::NEW_TABLE, flag::CREATE, |body| body.text(1, NAME));
            write(writer, kind::DELETE_TABLE, 0, |body| body.text(1, NAME));
            write(writer, kind::NEW_TABLE, flag::CREATE, |body| body.text(1, NAME));
            write(writer, kind::NEW_SET, flag::CREATE, |body| {
                body.text(1, NAME);
                body.text(2, SET);
                body.number(3, SET_FLAG_TIMEOUT);
                body.number(4, SET_KEY_TYPE);
                body.number(5, SET_KEY_OCTETS);
                body.number(10, 1);
            });
            write_elements(writer, kind::NEW_ELEMENTS, elements.iter().map(|element| (element.at, Some(element))));
            write(writer, kind::NEW_CHAIN, flag::CREATE, |body| {
                body.text(1, NAME);
                body.text(3, CHAIN);
                body.nested(4, |place| {
                    place.number(1, HOOK_PREROUTING);
                    place.number(2, PRIORITY as u32);
                });
                body.text(7, "filter");
            });
            for rule in Closing::all(bridges, manner) {
                write(writer, kind::NEW_RULE, flag::CREATE | flag::APPEND, |body| {
                    body.text(1, NAME);
                    body.text(2, CHAIN);
                    body.nested(4, |list| rule.write(&mut Expressions(list)));
                    body.put(7, &comment(&rule.comment()));
                });
            }
        })
    }

    /// Closes and opens ports in one step. One that is closed already is closed for the new time.
    ///
    /// # Errors
    /// When the kernel refuses, as it does when the table is not as we left it; nothing was changed then.
    pub fn update(&mut self, closed: &[Element], opened: &[HostPort]) -> Result<(), NetlinkError> {
        let gone = || opened.iter().copied().chain(closed.iter().map(|element| element.at));
        batch(&mut self.connection, ACTION, |writer| {
            // What ran out meanwhile is not there to be deleted: made sure of first, as a batch is taken whole or not at all.
            write_elements(writer, kind::NEW_ELEMENTS, gone().map(|at| (at, None)));
            write_elements(writer, kind::DELETE_ELEMENTS, gone().map(|at| (at, None)));
            write_elements(writer, kind::NEW_ELEMENTS, closed.iter().map(|element| (element.at, Some(element))));
        })
    }

    /// What the kernel holds closed; nothing without the table.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn elements(&mut self) -> Result<Vec<Element>, NetlinkError> {
        let mut found = Vec::new();
        let of_set = |body: &mut Attributes<'_>| {
            body.text(1, NAME);
            body.text(2, SET);
        };
        let listed = self.list(kind::LIST_ELEMENTS, of_set, |body| {
            found.extend(attributes(attribute(body, 3).unwrap_or_default()).filter_map(|(_, element)| read(element)));
        });
        match listed {
            Ok(()) => Ok(found),
            Err(error) if error.is_absent() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Whether the kernel holds these rules, and exactly these ports closed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_intact(&mut self, bridges: &[u32], ports: &BTreeSet<HostPort>) -> Result<bool, NetlinkError> {
        Ok(self.has_chain()?
            && self.has_rules(bridges)?
            && self.elements()?.iter().map(|e| e.at).collect::<BTreeSet<_>>() == *ports)
    }

    fn has_chain(&mut self) -> Result<bool, NetlinkError> {
        let mut found = Vec::new();
        self.list(
            kind::LIST_CHAINS,
            |body| body.text(1, NAME),
            |body| {
                if text(body, 1) == Some(NAME) {
                    let hook = attribute(body, 4).unwrap_or_default();
                    let place = [1, 2].map(|kind| attribute(hook, kind).and_then(number));
                    found.push(text(body, 3) == Some(CHAIN) && place == [Some(HOOK_PREROUTING), Some(PRIORITY as u32)]);
                }
            },
        )?;
        Ok(found == [true])
    }

    /// The kernel may write expressions otherwise than we did; what it keeps untouched is the comment.
    fn has_rules(&mut self, bridges: &[u32]) -> Result<bool, NetlinkError> {
        let mut found = Vec::new();
        self.list(
            kind::LIST_RULES,
            |body| body.text(1, NAME),
            |body| {
                if text(body, 1) == Some(NAME) {
                    found.push(attribute(body, 7).unwrap_or_default().to_vec());
                }
            },
        )?;
        let wanted = Closing::all(bridges, self.manner).into_iter().map(|rule| comment(&rule.comment()));
        Ok(found.into_iter().eq(wanted))
    }

    /// The number of the newest change to any rules of this network namespace.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn generation(&mut self) -> Result<u32, NetlinkError> {
        self.rules.generation()
    }

    /// Removes the table; none is no error.
    ///
    /// # Errors
    /// Without the right, or when the kernel refuses.
    pub fn remove(&mut self) -> Result<(), NetlinkError> {
        let remove = |writer: &mut Writer| write(writer, kind::DELETE_TABLE, 0, |body| body.text(1, NAME));
        let removed = batch(&mut self.connection, ACTION, remove);
        removed.or_else(|error| if error.is_absent() { Ok(()) } else { Err(error) })
    }

    fn list(
        &mut self,
        kind: u16,
        body: impl FnOnce(&mut Attributes<'_>),
        take: impl FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        list(&mut self.connection, ACTION_READ, |writer| write(writer, kind, flag::DUMP, body), take)
    }
}

fn write(writer: &mut Writer, kind: u16, flags: u16, body: impl FnOnce(&mut Attributes<'_>)) {
    let acknowledge = if flags == flag::DUMP { 0 } else { flag::ACK };
    writer.message((SUBSYSTEM << 8) | kind, flags | acknowledge, |message| {
        message.fixed(&[FAMILY_INET, 0, 0, 0]);
        body(message);
    });
}

/// Ports with what is held of each, or the ports alone.
fn write_elements<'a>(writer: &mut Writer, kind: u16, elements: impl Iterator<Item = (HostPort, Option<&'a Element>)>) {
    let flags = if kind == kind::NEW_ELEMENTS { flag::CREATE } else { 0 };
    let mut elements = elements.peekable();
    while elements.peek().is_some() {
        write(writer, kind, flags, |body| {
            body.text(1, NAME);
            body.text(2, SET);
            body.nested(3, |list| {
                for (at, held) in elements.by_ref().take(ELEMENTS_PER_MESSAGE) {
                    list.nested(1, |element| {
                        element.nested(1, |data| data.put(1, &key(at)));
                        if let Some(held) = held {
                            // No time at all would mean for ever.
                            let left_ms = u64::try_from(held.left.as_millis()).unwrap_or(u64::MAX).max(1);
                            element.put(4, &left_ms.to_be_bytes());
                            element.put(6, &comment(&held.note));
                        }
                    });
                }
            });
        });
    }
}

fn key(at: HostPort) -> [u8; 8] {
    let [high, low] = at.port.to_be_bytes();
    let protocol = match at.protocol {
        Protocol::Tcp => PROTOCOL_TCP,
        Protocol::Udp => PROTOCOL_UDP,
    };
    [protocol, 0, 0, 0, high, low, 0, 0]
}

fn read(element: &[u8]) -> Option<Element> {
    let key: [u8; 8] = attribute(attribute(element, 1)?, 1)?.try_into().ok()?;
    let [protocol, _, _, _, high, low, _, _] = key;
    let protocol = match protocol {
        PROTOCOL_TCP => Protocol::Tcp,
        PROTOCOL_UDP => Protocol::Udp,
        _ => return None,
    };
    let left_ms = attribute(element, 5).and_then(|value| Some(u64::from_be_bytes(value.try_into().ok()?)));
    let note = attribute(element, 6).and_then(|data| data.get(2..)?.split_last()).map(|(_, text)| text);
    Some(Element {
        at: HostPort { protocol, port: u16::from_be_bytes([high, low]) },
        left: Duration::from_millis(left_ms.unwrap_or_default()),
        note: String::from_utf8_lossy(note.unwrap_or_default()).into_owned(),
    })
}

/// User data as nft writes comments: kind 0, length, text, zero.
fn comment(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let text = &text[..text.len().min(NOTE_OCTETS_MAX)];
    let mut data = vec![0, (text.len() + 1) as u8];
    data.extend_from_slice(text);
    data.push(0);
    data
}
