//! Who is out: endpoints that could not be connected to, or reset connections before they answered, for a time that doubles.
//!
//! At most half of a service's endpoints are out at once, rounded down, so never the only one: if most fail, it is likely
//! ourselves that fail. And at most half of a rank, rounded up: of two usable ones that were slow for a moment one stays in,
//! because draining ones are about to end; a lone one that nobody can connect to is no better than a draining one that works.
//! Of too many those stay out that were to be out longest.

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

/// Ranks of [`portolan_core::selection::Rank`].
const RANKS: usize = 5;

/// From when on an end of ejection counts, for all and by rank: earlier ones are back, because too many were out.
#[derive(Debug)]
pub(super) struct Out {
    of_all: Option<End>,
    of_rank: [Option<End>; RANKS],
}

/// How long one is still out; by its address where two are out equally long.
type End = (Duration, SocketAddr);

impl Out {
    /// What holds for these.
    pub(super) fn among(targets: &[Target], now: Instant) -> Out {
        let mut ends: Vec<(End, usize)> =
            targets.iter().filter_map(|target| Some((end(target, now)?, target.rank as usize))).collect();
        ends.sort_unstable_by_key(|(end, _)| Reverse(*end));
        let mut out = Out { of_all: None, of_rank: [None; RANKS] };
        if ends.is_empty() {
            return out;
        }
        out.of_all = ends.iter().map(|(end, _)| *end).take(targets.len() / 2).next_back();
        for (rank, from) in out.of_rank.iter_mut().enumerate() {
            let most = targets.iter().filter(|target| target.rank as usize == rank).count().div_ceil(2);
            *from = ends.iter().filter(|(_, of)| *of == rank).map(|(end, _)| *end).take(most).last();
        }
        out
    }

    /// Whether it is.
    pub(super) fn is_out(&self, target: &Target, now: Instant) -> bool {
        let (Some(of_all), Some(of_rank)) = (self.of_all, self.of_rank[target.rank as usize]) else { return false };
        end(target, now).is_some_and(|end| end >= of_all && end >= of_rank)
    }
}

fn end(target: &Target, now: Instant) -> Option<End> {
    Some((target.endpoint.out_for(now)?, target.address()))
}
