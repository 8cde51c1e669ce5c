//! UDP flows that the kernel remembers (`linux/netfilter/nfnetlink_conntrack.h`): where the first datagram of a flow was sent, all
//! that follow are sent, whatever the rules say by then. Those that lead elsewhere than the rules do are made to be forgotten, so
//! that a client that keeps its port goes on by the rules.
//!
//! Only UDP flows to the link range are ever touched.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::NetlinkError;
use super::message::{Message, Writer, attribute, flag, number};
use super::rules::Rules;
use super::socket::Connection;
use super::table::LinkAddress;

const ACTION: &str = "forget UDP flows of links (conntrack)";
const FAMILY_IPV4: u8 = 2;
const SUBSYSTEM: u16 = 1;
const READ: u16 = 1;
const DELETE: u16 = 2;
/// `CTA_*`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const FILTER: u16 = 25;
/// An attribute that holds attributes.
const NESTED: u16 = 0x8000;
const PROTOCOL_UDP: u8 = 17;
/// `CTA_FILTER_F_CTA_IP_DST` and `CTA_FILTER_F_CTA_PROTO_NUM` (Linux 5.8).
const FILTER_DESTINATION: u32 = 1 << 1;
const FILTER_PROTOCOL: u32 = 1 << 3;

/// A connection to the kernel's conntrack.
#[derive(Debug)]
pub struct Flows {
    connection: Connection,
}

impl Flows {
    /// Opens the socket; needs no right yet.
    ///
    /// # Errors
    /// When the kernel has no netfilter.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Flows { connection: Connection::open(NETLINK_NETFILTER, ACTION)? })
    }

    /// Has every flow to the range (or to `only`) forgotten that does not lead to the relay's port that `ports` has for it. How
    /// many there were.
    ///
    /// # Errors
    /// Without the right, or when the kernel has no conntrack over netlink.
    pub fn forget_strays(
        &mut self,
        rules: Rules,
        ports: &HashMap<LinkAddress, u16>,
        only: Option<Ipv4Addr>,
    ) -> Result<usize, NetlinkError> {
        let is_stray = |flow: &Flow| {
            let wanted = ports.get(&flow.to).map(|port| (*rules.relay.ip(), *port));
            wanted != Some(flow.leads_to)
        };
        let strays: Vec<Flow> = self.flows(rules.range, only)?.into_iter().filter(is_stray).collect();
        strays.iter().try_for_each(|flow| self.forget(flow))?;
        Ok(strays.len())
    }

    fn flows(&mut self, range: Ipv4Net, only: Option<Ipv4Addr>) -> Result<Vec<Flow>, NetlinkError> {
        let mut writer = Writer::default();
        writer.message((SUBSYSTEM << 8) | READ, flag::DUMP, |body| {
            body.fixed(&[FAMILY_IPV4, 0, 0, 0]);
            body.nested(ORIGINAL, |tuple| {
                only.iter().for_each(|only| tuple.nested(1, |ip| ip.put(2, &only.octets())));
                tuple.nested(2, |protocol| protocol.put(1, &[PROTOCOL_UDP]));
            });
            let by = if only.is_some() { FILTER_DESTINATION | FILTER_PROTOCOL } else { FILTER_PROTOCOL };
            body.nested(FILTER, |filter| filter.put(1, &by.to_ne_bytes()));
        });
        let mut found = Vec::new();
        self.connection.dump(&writer, ACTION, |message: &Message<'_>| {
            let flow = (message.kind >> 8 == SUBSYSTEM).then(|| Flow::parse(message.body)).flatten();
            found.extend(flow.filter(|flow| range.contains(&flow.to.0)));
        })?;
        Ok(found)
    }

    fn forget(&mut self, flow: &Flow) -> Result<(), NetlinkError> {
        let mut writer = Writer::default();
        writer.message((SUBSYSTEM << 8) | DELETE, flag::ACK, |body| {
            body.fixed(&[FAMILY_IPV4, 0, 0, 0]);
            body.put(ORIGINAL | NESTED, &flow.original);
        });
        let last = writer.sequence();
        let forgotten = self.connection.execute(&writer, last, ACTION);
        // It may have ended by itself meanwhile.
        forgotten.or_else(|error| if error.is_absent() { Ok(()) } else { Err(error) })
    }
}

/// A flow of datagrams.
#[derive(Debug, PartialEq, Eq)]
struct Flow {
    /// What it is known by.
    original: Vec<u8>,
    /// Where the client sends to.
    to: LinkAddress,
    /// Who answers.
    leads_to: LinkAddress,
}

impl Flow {
    /// `None`: not UDP, or not understood.
    fn parse(body: &[u8]) -> Option<Flow> {
        let attributes = body.get(4..)?;
        let (original, reply) = (attribute(attributes, ORIGINAL)?, attribute(attributes, REPLY)?);
        let is_udp = attribute(attribute(original, 2)?, 1)? == [PROTOCOL_UDP];
        let flow = || Some(Flow { original: original.to_vec(), to: end(original, 2)?, leads_to: end(reply, 1)? });
        is_udp.then(flow).flatten()
    }
}

/// One end of a tuple: 1 its source, 2 its destination.
fn end(tuple: &[u8], which: u16) -> Option<LinkAddress> {
    let address = attribute(attribute(tuple, 1)?, which).and_then(number)?;
    let port = attribute(attribute(tuple, 2)?, which + 1)?.try_into().ok()?;
    Some((Ipv4Addr::from(address), u16::from_be_bytes(port)))
}
