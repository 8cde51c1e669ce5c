//! Bridges that other hosts reach this node by: those that hold one of the addresses that it announces.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::NetlinkError;
use super::message::{Writer, attribute, flag};
use super::socket::Connection;

const NEW_LINK: u16 = 16;
const LIST_LINKS: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const LIST_ADDRESSES: u16 = 22;
/// `struct ifinfomsg`, `struct ifaddrmsg`.
const LINK_OCTETS: usize = 16;
const ADDRESS_OCTETS: usize = 8;
const ATTRIBUTE_LINK_INFO: u16 = 18;
const ATTRIBUTE_KIND: u16 = 1;
const ATTRIBUTE_ADDRESS: u16 = 1;
const ATTRIBUTE_LOCAL: u16 = 2;
const ACTION: &str = "read the interfaces of this node";

/// The indices of the bridges that hold one of `announced`.
///
/// # Errors
/// When they cannot be read.
pub fn uplinks(announced: &[IpAddr]) -> Result<Vec<u32>, NetlinkError> {
    let mut connection = Connection::open(NETLINK_ROUTE, ACTION)?;
    let bridges = listed(&mut connection, (LIST_LINKS, LINK_OCTETS), |kind, body| {
        let index = index(body)?;
        let info = attribute(body.get(LINK_OCTETS..)?, ATTRIBUTE_LINK_INFO)?;
        let is_bridge = attribute(info, ATTRIBUTE_KIND)?.strip_suffix(&[0]).unwrap_or_default() == b"bridge";
        (kind == NEW_LINK && is_bridge).then_some(index)
    })?;
    if bridges.is_empty() {
        return Ok(Vec::new());
    }
    let holders = listed(&mut connection, (LIST_ADDRESSES, ADDRESS_OCTETS), |kind, body| {
        let attributes = body.get(ADDRESS_OCTETS..)?;
        // Of a point-to-point interface the other attribute is the peer's.
        let address = attribute(attributes, ATTRIBUTE_LOCAL).or_else(|| attribute(attributes, ATTRIBUTE_ADDRESS))?;
        (kind == NEW_ADDRESS && announced.contains(&ip(address)?)).then_some(index(body)?)
    })?;
    Ok(bridges.intersection(&holders).copied().collect())
}

fn listed(
    connection: &mut Connection,
    (kind, fixed_octets): (u16, usize),
    read: impl Fn(u16, &[u8]) -> Option<u32>,
) -> Result<BTreeSet<u32>, NetlinkError> {
    let mut writer = Writer::default();
    writer.message(kind, flag::DUMP, |body| body.fixed(&[0; LINK_OCTETS][..fixed_octets]));
    let mut found = BTreeSet::new();
    connection.dump(&writer, ACTION, |message| found.extend(read(message.kind, message.body)))?;
    Ok(found)
}

/// Both structures have it at the same place.
fn index(body: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?))
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from).ok();
    v4.or_else(|| <[u8; 16]>::try_from(octets).map(IpAddr::from).ok())
}
