//! Our two routes: the sidecar's DNS address as an address of this host, and the link range kept on this host.
//!
//! - `local 169.254.53.53 dev lo`: an address without an interface; `ip addr` tools do not see or flush it.
//! - `198.18.0.0/16 dev lo src 169.254.53.53`: without any route a process gets "network unreachable" before our rules see
//!   its packet. Were the rules missing, the range would end on `lo` instead of leaving the host; it is not a `local` route,
//!   which would let every listener on 0.0.0.0 answer on it.
//!
//! Both carry a route protocol number of ours; only routes with it are ever removed.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::NetlinkError;
use super::message::{Writer, attribute, flag};
use super::socket::Connection;

/// Who made a route (`rtm_protocol`): a number that iproute2's list gives to nobody.
const PROTOCOL: u8 = 153;
/// The loopback interface is the first of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const LIST_ROUTES: u16 = 26;
const FAMILY_IPV4: u8 = 2;
const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u8 = 255;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const TYPE_UNICAST: u8 = 1;
const TYPE_LOCAL: u8 = 2;
const ATTRIBUTE_DESTINATION: u16 = 1;
const ATTRIBUTE_INTERFACE: u16 = 4;
const ATTRIBUTE_SOURCE: u16 = 7;
const ACTION: &str = "change the routes of the sidecar's addresses";
const ACTION_READ: &str = "read the routes of the sidecar's addresses";

/// The routes that are to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routes {
    /// The sidecar's DNS address.
    pub dns: Ipv4Addr,
    /// The link range, where there are links.
    pub range: Option<Ipv4Net>,
}

/// One route: `struct rtmsg` without what is always the same, and its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    destination: Ipv4Net,
    source: Option<Ipv4Addr>,
    table: u8,
    scope: u8,
    kind: u8,
}

impl Routes {
    /// Makes the routes that are missing. A route of somebody else to exactly the same destination is left alone.
    ///
    /// # Errors
    /// Without the right, or when the kernel refuses.
    pub fn assert(self) -> Result<(), NetlinkError> {
        let mut connection = Connection::open(NETLINK_ROUTE, ACTION)?;
        for route in self.routes() {
            let mut writer = Writer::default();
            let flags = flag::CREATE | flag::EXCLUSIVE | flag::ACK;
            write(&mut writer, (NEW_ROUTE, flags), route);
            let made = connection.execute(&writer, writer.sequence(), ACTION);
            made.or_else(|error| if error.is_present() { Ok(()) } else { Err(error) })?;
        }
        Ok(())
    }

    /// Whether the routes are there.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn are_intact(self) -> Result<bool, NetlinkError> {
        let found = listed(&mut Connection::open(NETLINK_ROUTE, ACTION_READ)?)?;
        Ok(self.routes().all(|route| found.contains(&route)))
    }

    fn routes(self) -> impl Iterator<Item = Route> {
        let dns = Route {
            destination: Ipv4Net::from(self.dns),
            source: None,
            table: TABLE_LOCAL,
            scope: SCOPE_HOST,
            kind: TYPE_LOCAL,
        };
        let range = self.range.map(|range| Route {
            destination: range.trunc(),
            source: Some(self.dns),
            table: TABLE_MAIN,
            scope: SCOPE_LINK,
            kind: TYPE_UNICAST,
        });
        [dns].into_iter().chain(range)
    }
}

/// Removes every route that is ours.
///
/// # Errors
/// Without the right, or when the kernel refuses.
pub fn remove_routes() -> Result<(), NetlinkError> {
    let mut connection = Connection::open(NETLINK_ROUTE, ACTION)?;
    // The range's route names the DNS address as its source: it goes first.
    let mut found = listed(&mut connection)?;
    found.sort_by_key(|route| route.kind);
    for route in found {
        let mut writer = Writer::default();
        write(&mut writer, (DELETE_ROUTE, flag::ACK), route);
        let removed = connection.execute(&writer, writer.sequence(), ACTION);
        removed.or_else(|error| if error.is_absent() { Ok(()) } else { Err(error) })?;
    }
    Ok(())
}

/// Our routes as the kernel has them.
fn listed(connection: &mut Connection) -> Result<Vec<Route>, NetlinkError> {
    let mut writer = Writer::default();
    writer.message(LIST_ROUTES, flag::DUMP, |body| body.fixed(&[FAMILY_IPV4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    let mut found = Vec::new();
    connection.dump(&writer, ACTION_READ, |message| {
        if message.kind == NEW_ROUTE {
            found.extend(parse(message.body));
        }
    })?;
    Ok(found)
}

fn parse(body: &[u8]) -> Option<Route> {
    let [_, prefix, _, _, table, protocol, scope, kind, ..] = *body.get(..12)? else { return None };
    let attributes = &body[12..];
    let address = |kind| attribute(attributes, kind).and_then(|value| <[u8; 4]>::try_from(value).ok());
    if protocol != PROTOCOL {
        return None;
    }
    let destination = Ipv4Net::new(address(ATTRIBUTE_DESTINATION)?.into(), prefix).ok()?;
    Some(Route { destination, source: address(ATTRIBUTE_SOURCE).map(Ipv4Addr::from), table, scope, kind })
}

fn write(writer: &mut Writer, (kind, flags): (u16, u16), route: Route) {
    writer.message(kind, flags, |body| {
        let Route { destination, source, table, scope, kind } = route;
        body.fixed(&[FAMILY_IPV4, destination.prefix_len(), 0, 0, table, PROTOCOL, scope, kind, 0, 0, 0, 0]);
        body.put(ATTRIBUTE_DESTINATION, &destination.network().octets());
        body.put(ATTRIBUTE_INTERFACE, &LOOPBACK_INDEX.to_ne_bytes());
        if let Some(source) = source {
            body.put(ATTRIBUTE_SOURCE, &source.octets());
        }
    });
}
