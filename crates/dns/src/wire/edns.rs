//! The asker's EDNS (RFC 6891) and the one option of it that is answered: COOKIE (RFC 7873).

use std::ops::RangeInclusive;

const OPTION_COOKIE: u16 = 10;
const CLIENT_OCTETS: usize = 8;
/// How long a server's half may be (RFC 7873 section 4).
const SERVER_OCTETS: RangeInclusive<usize> = 8..=32;

/// The asker's EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest datagram it takes, as it said.
    pub payload: u16,
    /// Zero is the only one there is.
    pub version: u8,
    /// The DO bit.
    pub wants_dnssec: bool,
    /// Its cookie, when it sent one.
    pub cookie: Option<Cookie>,
}

/// A cookie as an asker sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie {
    /// Its own half.
    pub client: [u8; CLIENT_OCTETS],
    /// The server's half, if it is as long as ours are; all others are somebody else's.
    pub server: Option<[u8; 16]>,
}

/// An option, or its length, is not what it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadOption;

impl Cookie {
    /// Reads what an option holds.
    pub(crate) fn read(data: &[u8]) -> Result<Cookie, BadOption> {
        let (client, server) = data.split_first_chunk().ok_or(BadOption)?;
        if !server.is_empty() && !SERVER_OCTETS.contains(&server.len()) {
            return Err(BadOption);
        }
        Ok(Cookie { client: *client, server: server.try_into().ok() })
    }
}

/// The cookie among the options of an OPT record; of several the first counts (RFC 7873 section 5.2). What other options
/// say is nothing to this server, so only their lengths have to be right.
pub(crate) fn cookie_in(mut options: &[u8]) -> Result<Option<Cookie>, BadOption> {
    let mut found = None;
    while !options.is_empty() {
        let (head, rest) = options.split_first_chunk::<4>().ok_or(BadOption)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (data, rest) = rest.split_at_checked(length).ok_or(BadOption)?;
        if head[..2] == OPTION_COOKIE.to_be_bytes() && found.is_none() {
            found = Some(Cookie::read(data)?);
        }
        options = rest;
    }
    Ok(found)
}
