//! Who is out: endpoints that could not be connected to, or reset connections before they answered, for a time that doubles.
//!
//! At most half of a service's endpoints are out at once, rounded down, so never the only one: if most fail, it is likely
//! ourselves that fail. Of too many those stay out that were to be out longest. The rank does not count: a usable endpoint that
//! nobody can connect to is no better than a draining one that works.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Target;

/// For so long an endpoint is out at first: longer than a crashed container needs to vanish from the view, short enough
/// that one lost packet does not unbalance a service.
pub(super) const FIRST: Duration = Duration::from_secs(5);
/// It doubles as often when it fails again soon: 160 s.
pub(super) const DOUBLINGS_MAX: u32 = 5;
/// Connections in a row that were reset before anything was answered: one may be the client's fault.
pub(super) const RESETS_MAX: u32 = 2;

/// From when on an end of ejection counts: earlier ones are back, because too many were out.
#[derive(Debug)]
pub(super) struct Out {
    from: Option<End>,
}

/// How long one is still out; by its address where two are out equally long.
type End = (Duration, SocketAddr);

impl Out {
    /// What holds for these.
    pub(super) fn among(targets: &[Target], now: Instant) -> Out {
        let mut ends: Vec<End> = targets.iter().filter_map(|target| end(target, now)).collect();
        ends.sort_unstable_by_key(|end| Reverse(*end));
        ends.truncate(targets.len() / 2);
        Out { from: ends.last().copied() }
    }

    /// Whether it is.
    pub(super) fn is_out(&self, target: &Target, now: Instant) -> bool {
        self.from.is_some_and(|from| end(target, now).is_some_and(|end| end >= from))
    }
}

fn end(target: &Target, now: Instant) -> Option<End> {
    Some((target.endpoint.out_for(now)?, target.address()))
}
