//! Which upstream resolvers a name goes to: those of the longest suffix that it ends in, else the default ones.
//!
//! A suffix never falls back to the default ones: what they said of a name that is not theirs would be wrong.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use portolan_core::lookup::Zone;
use serde::Deserialize;

use super::standing::UPSTREAMS_MAX;

/// DNS.
const PORT: u16 = 53;
/// Suffixes: more than anybody writes by hand.
const SUFFIXES_MAX: usize = 64;
/// RFC 1035 section 2.3.4.
const NAME_OCTETS_MAX: usize = 255;
const LABEL_OCTETS_MAX: usize = 63;

/// One entry of the setting: `10.0.0.2`, `10.0.0.2:53`, or `consul=10.0.0.5:8600` for the names that end in `consul`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Upstream {
    /// `None`: for all names that no suffix is for.
    suffix: Option<Suffix>,
    /// The resolver.
    address: SocketAddr,
}

/// The end of a name, as in a message, lower case.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Suffix(Vec<u8>);

/// Why an entry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Behind the `=`, or all of it.
    #[error("`{0}` is no resolver's address, such as 10.0.0.2 or 10.0.0.2:53")]
    Address(String),
    /// Before the `=`.
    #[error("`{0}` is no DNS suffix, such as consul or corp.example")]
    Suffix(String),
}

/// Why entries cannot be used together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutesError {
    /// The zone is answered here, and nobody else is asked.
    #[error("suffix `{suffix}` is inside the zone `{zone}`, whose names are answered here")]
    InZone {
        /// Which.
        suffix: String,
        /// Our zone.
        zone: String,
    },
    /// More than are ever asked.
    #[error("{count} resolvers {of}: at most {UPSTREAMS_MAX} are asked")]
    TooMany {
        /// How many there are.
        count: usize,
        /// What they are for.
        of: String,
    },
    /// More than are looked through.
    #[error("{0} suffixes: at most {SUFFIXES_MAX} can be told apart")]
    TooManySuffixes(usize),
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Upstream, UpstreamError> {
        let (suffix, address) = match text.split_once('=') {
            None => (None, text),
            Some((suffix, address)) => (Some(Suffix::parse(suffix.trim())?), address),
        };
        let address = address.trim();
        let without_port = || address.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
        let read = address.parse().or_else(|_| without_port());
        let address = read.map_err(|_| UpstreamError::Address(address.to_owned()))?;
        Ok(Upstream { suffix, address })
    }
}

impl TryFrom<String> for Upstream {
    type Error = UpstreamError;

    fn try_from(text: String) -> Result<Upstream, UpstreamError> {
        text.parse()
    }
}

impl Suffix {
    fn parse(text: &str) -> Result<Suffix, UpstreamError> {
        let error = || UpstreamError::Suffix(text.to_owned());
        let mut octets = Vec::new();
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            let is_label = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !is_label || !(1..=LABEL_OCTETS_MAX).contains(&label.len()) {
                return Err(error());
            }
            octets.push(label.len() as u8);
            octets.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
        }
        octets.push(0);
        if octets.len() > NAME_OCTETS_MAX { Err(error()) } else { Ok(Suffix(octets)) }
    }

    fn is_in(&self, zone: &Zone) -> bool {
        let zone = Suffix::parse(&zone.to_string()).ok();
        zone.is_some_and(|zone| tails(&self.0).any(|tail| tail == zone.0))
    }
}

impl fmt::Display for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut dot = "";
        let mut rest = self.0.as_slice();
        while let Some((length @ 1.., behind)) = rest.split_first() {
            let (label, behind) = behind.split_at(usize::from(*length));
            write!(f, "{dot}{}", String::from_utf8_lossy(label))?;
            (rest, dot) = (behind, ".");
        }
        Ok(())
    }
}

impl fmt::Debug for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who is asked for which names.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    default: Arc<[SocketAddr]>,
    by_suffix: Arc<HashMap<Suffix, Arc<[SocketAddr]>>>,
}

impl Routes {
    /// As `entries` say, in their order. No suffix may be inside `zone`.
    ///
    /// # Errors
    /// When one is, or there are more than are ever asked.
    pub fn new(entries: &[Upstream], zone: &Zone) -> Result<Routes, RoutesError> {
        let mut default = Vec::new();
        let mut by_suffix: HashMap<Suffix, Vec<SocketAddr>> = HashMap::new();
        for Upstream { suffix, address } in entries {
            if let Some(suffix) = suffix.as_ref().filter(|suffix| suffix.is_in(zone)) {
                return Err(RoutesError::InZone { suffix: suffix.to_string(), zone: zone.to_string() });
            }
            let addresses = suffix.as_ref().map_or(&mut default, |s| by_suffix.entry(s.clone()).or_default());
            if !addresses.contains(address) {
                addresses.push(*address);
            }
            if addresses.len() > UPSTREAMS_MAX {
                let of = suffix.as_ref().map_or("for all other names".to_owned(), |s| format!("for suffix `{s}`"));
                return Err(RoutesError::TooMany { count: addresses.len(), of });
            }
        }
        if by_suffix.len() > SUFFIXES_MAX {
            return Err(RoutesError::TooManySuffixes(by_suffix.len()));
        }
        let by_suffix = by_suffix.into_iter().map(|(suffix, addresses)| (suffix, addresses.into())).collect();
        Ok(Routes { default: default.into(), by_suffix: Arc::new(by_suffix) })
    }

    /// Whether names without a suffix of their own go anywhere.
    pub fn has_default(&self) -> bool {
        !self.default.is_empty()
    }

    /// The same with other default resolvers.
    #[must_use]
    pub fn with_default(&self, default: &[SocketAddr]) -> Routes {
        Routes { default: default.into(), by_suffix: self.by_suffix.clone() }
    }

    /// The same without those at an address of `own`.
    #[must_use]
    pub(super) fn without(&self, own: &[IpAddr]) -> Routes {
        let others = |all: &[SocketAddr]| all.iter().copied().filter(|a| !own.contains(&a.ip())).collect();
        let by_suffix = self.by_suffix.iter().map(|(suffix, all)| (suffix.clone(), others(all))).collect();
        Routes { default: others(&self.default), by_suffix: Arc::new(by_suffix) }
    }

    /// Who is asked for `name`, which is as in a message and lower case.
    pub(super) fn of(&self, name: &[u8]) -> Arc<[SocketAddr]> {
        if self.by_suffix.is_empty() {
            return self.default.clone();
        }
        // The longest first.
        let found = tails(name).find_map(|tail| self.by_suffix.get(&Suffix(tail.to_vec())));
        found.unwrap_or(&self.default).clone()
    }

    /// Whether anybody asks `upstream`.
    pub(super) fn has(&self, upstream: &SocketAddr) -> bool {
        self.default.contains(upstream) || self.by_suffix.values().any(|all| all.contains(upstream))
    }
}

/// The same resolvers for every name.
impl From<&[SocketAddr]> for Routes {
    fn from(default: &[SocketAddr]) -> Routes {
        Routes::default().with_default(default)
    }
}

/// `name` and every name above it but the root, all as in a message.
fn tails(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_name = |name: &&[u8]| name.first().is_some_and(|length| *length > 0);
    let below = |name: &&'_ [u8]| -> Option<usize> { Some(usize::from(*name.first()?) + 1) };
    std::iter::successors(Some(name).filter(is_name), move |name| name.get(below(name)?..).filter(is_name))
}

#[cfg(test)]
mod tests;
