//! Where the kernel may lead the connections of a link, and for how long. Pure.

use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;

use portolan_core::endpoint::{Endpoint, State};
use portolan_core::hash;
use portolan_core::labels::LinkOptions;
use portolan_core::reach::may_be_reached;
use portolan_core::selection::Rank;
use portolan_core::view::{LinkPort, Readiness, Service};

use super::encoding::{ENDPOINTS_MAX, Leased, Share};
use crate::links::LinkSettings;
use crate::links::choice::Nearness;

/// How long the kernel leads connections by a view that nobody renews: half of the time for which a freed host port is to
/// be kept from other services (`guard`).
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// Until when what a view says may be relied on: from now on while a registry that is sure of it speaks, else not any longer
/// than was said before.
pub(super) fn lease_until(readiness: Readiness, now_ns: u64, lease: Duration) -> Option<u64> {
    match readiness {
        Readiness::Current => Some(now_ns.saturating_add(nanoseconds(lease))),
        Readiness::Loading | Readiness::Stale => None,
    }
}

/// 584 years at most.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How the connections to `port` of `service` are shared out: over the nearest endpoints of the best rank, by weight. None
/// at all: they are the relay's, because none is usable.
///
/// What the relay would prefer and the kernel may not lead to keeps its share, which goes to the relay: an endpoint of this
/// very node (a client on another bridge may not reach it by the host's address, and whose network the client is in is not
/// known here, so none is led there), one whose node is silent, one without an IPv4 address.
pub(super) fn shares(service: &Service, port: LinkPort, settings: &LinkSettings) -> Vec<Share> {
    let endpoints = service.known_endpoints().map_or(&[][..], |endpoints| endpoints);
    let standing = |endpoint: &Endpoint| (Rank::of(endpoint.state), !is_near(endpoint, settings));
    let is_behind = |endpoint: &&Endpoint| {
        endpoint.is_service_port
            && endpoint.port != 0
            && endpoint.key.container_port == port.container_port
            && endpoint.key.protocol == port.protocol
            && endpoint.addresses.iter().any(|ip| may_be_reached(*ip, settings.range))
    };
    let behind: Vec<&Endpoint> =
        endpoints.iter().filter(is_behind).filter(|e| Rank::of(e.state) == Some(Rank::Usable)).collect();
    let Some(best) = behind.iter().map(|endpoint| standing(endpoint)).min() else { return Vec::new() };
    let nearest = behind.into_iter().filter(|endpoint| standing(endpoint) == best);
    let mut shares: Vec<Share> = nearest.map(|e| Share { to: kernel_address(e, settings), weight: e.weight }).collect();
    shares.sort();
    shares.dedup_by(|one, other| one.to.is_some() && one.to == other.to);
    if shares.iter().all(|share| share.weight == 0) {
        shares.iter_mut().for_each(|share| share.weight = 1);
    }
    few(shares, settings)
}

/// Whether it is in our zone, or on our node where zones are not known. Those of this node are not apart: they would be all, and
/// the relay's.
fn is_near(endpoint: &Endpoint, settings: &LinkSettings) -> bool {
    settings.az.is_none() || Nearness::of(endpoint, settings) <= Nearness::Az
}

/// Where the kernel may lead a connection to `endpoint`, if it may. What its labels wish of a link only the relay can do.
fn kernel_address(endpoint: &Endpoint, settings: &LinkSettings) -> Option<SocketAddrV4> {
    if LinkOptions::of(&endpoint.meta) != LinkOptions::default() {
        return None;
    }
    if endpoint.state != State::Usable || settings.node.as_ref() == Some(&endpoint.key.node) {
        return None;
    }
    let reachable = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) if may_be_reached(*ip, settings.range) => Some(*v4),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    endpoint.addresses.iter().find_map(reachable).map(|ip| SocketAddrV4::new(ip, endpoint.port))
}

/// As many as a link has room for: of more, each node takes others, so that all are led to.
fn few(mut shares: Vec<Share>, settings: &LinkSettings) -> Vec<Share> {
    if shares.len() > ENDPOINTS_MAX {
        let node = settings.node.as_ref().map(ToString::to_string).unwrap_or_default();
        shares.sort_by_cached_key(|share| hash::stable(&[node.as_bytes(), format!("{:?}", share.to).as_bytes()]));
        shares.truncate(ENDPOINTS_MAX);
        shares.sort();
    }
    shares
}

/// `shares` with their ends. Without a lease those that the kernel has keep theirs, and what is new has to wait.
pub(super) fn leased(shares: &[Share], held: &[Leased], lease_until_ns: Option<u64>) -> Vec<Leased> {
    let until = |share: &Share| match (share.to, lease_until_ns) {
        // The relay needs no lease.
        (None, _) => Some(u64::MAX),
        (Some(_), Some(until_ns)) => Some(until_ns),
        (Some(_), None) => held.iter().find(|held| held.share.to == share.to).map(|held| held.until_ns),
    };
    shares.iter().filter_map(|share| Some(Leased { share: *share, until_ns: until(share)? })).collect()
}

/// Whether the kernel should be told: other shares than it has, or a lease that is to be renewed.
pub(super) fn is_news(held: &[Leased], next: &[Leased], renew_below_ns: u64) -> bool {
    let is_same = |(held, next): (&Leased, &Leased)| held.share == next.share;
    let is_due = |(held, next): (&Leased, &Leased)| held.until_ns < renew_below_ns && held.until_ns < next.until_ns;
    held.len() != next.len() || !held.iter().zip(next).all(is_same) || held.iter().zip(next).any(is_due)
}

#[cfg(test)]
mod tests;
