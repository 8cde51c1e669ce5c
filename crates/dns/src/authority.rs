//! What this server says of the zone itself: its name, its name server, and how long an answer may be kept.

use std::net::IpAddr;

use portolan_core::lookup::{Meaning, Zone, lookup};
use thiserror::Error;

use crate::wire::WireName;

/// The negative TTL, and the SOA's: a name that appears is seen a second later by every resolver (RFC 2308 section 5).
pub const NEGATIVE_TTL: Ttl = Ttl(1);

/// Keeps every negative answer, with its SOA, within 512 octets.
const NAME_SERVER_CHARACTERS_MAX: usize = 100;

/// How long an answer may be kept, in seconds. At most 60 by construction: what moves within milliseconds must not be
/// remembered for hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(u32);

/// A TTL that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a TTL of {0} s is over the most that the zone may have, 60 s")]
pub struct TtlError(u32);

impl Ttl {
    /// The longest.
    pub const MAX: Ttl = Ttl(60);

    /// A TTL of `seconds`.
    ///
    /// # Errors
    /// Over 60.
    pub fn from_seconds(seconds: u32) -> Result<Ttl, TtlError> {
        if seconds > Self::MAX.0 { Err(TtlError(seconds)) } else { Ok(Ttl(seconds)) }
    }

    /// In seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl Default for Ttl {
    /// One second.
    fn default() -> Self {
        Ttl(1)
    }
}

/// The settings of the zone, with their names ready for the wire.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The zone.
    pub zone: Zone,
    /// The TTL of every positive answer.
    pub ttl: Ttl,
    pub(crate) zone_name: WireName,
    pub(crate) name_server: WireName,
    /// Told beside the name server's name, when that is one of the zone's own.
    pub(crate) name_server_address: Option<IpAddr>,
    pub(crate) mailbox: WireName,
}

/// Why the name server's name cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("name server `{0}` is not a DNS name of at most 100 characters")]
pub struct NameServerError(String);

impl Authority {
    /// The zone's settings. `name_server` is the full name that NS and SOA tell; `ip-….addr.ZONE` of an own address
    /// always resolves.
    ///
    /// # Errors
    /// When `name_server` is no DNS name, or over 100 characters.
    pub fn new(zone: Zone, ttl: Ttl, name_server: &str) -> Result<Authority, NameServerError> {
        let shown = || NameServerError(portolan_core::refusal::shown(name_server, 120));
        let zone_name = WireName::parse(&zone.to_string()).expect("a zone is a DNS name by construction");
        let mailbox = WireName::parse(&format!("hostmaster.{zone}")).expect("a zone leaves room for a label");
        let is_short = name_server.len() <= NAME_SERVER_CHARACTERS_MAX;
        let labels: Vec<&[u8]> = name_server.trim_end_matches('.').split('.').map(str::as_bytes).collect();
        let name_server_address = match lookup(&labels, &zone) {
            Meaning::Address(address) => Some(address),
            _ => None,
        };
        let name_server = WireName::parse(name_server).filter(|_| is_short).ok_or_else(shown)?;
        Ok(Authority { zone, ttl, zone_name, name_server, name_server_address, mailbox })
    }
}
