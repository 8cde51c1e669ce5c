//! Which endpoint a connection goes to: a pure function of the endpoints, of what this node met with each, and of chance.
//!
//! 1. *Rank.* Usable ones before unverified, draining and unusable ones, as names are answered. An endpoint that is ejected
//!    ([`ejection`]) comes after all that are not; one of weight 0 after its equals that have a weight.
//! 2. *Nearness.* Those on this node and those in this zone are preferred, within a bound: a group gets at most [`FACTOR`]
//!    times the connections that its weight entitles it to, both of new ones (by chance) and of those that are open (one
//!    for each endpoint is not counted). What it does not get goes to the next group. The bound needs no knowledge of what
//!    other nodes do: if none of them exceeds it, no endpoint is loaded beyond it, wherever the clients run.
//! 3. *Two choices.* Of two endpoints of the group, drawn by weight, the one that costs less: open connections per weight,
//!    times how long a connect takes. A new endpoint's weight grows over [`RAMP`], unless all are new.
//!
//! The ideas are Mitzenmacher's ("The Power of Two Choices in Randomized Load Balancing", 2001) and those of Envoy's zone
//! aware routing, outlier detection and slow start (docs/decisions/0015). It takes no lock, reads no clock and draws no
//! number of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portolan_core::endpoint::Endpoint;
use portolan_core::selection::Rank;
use tokio::time::Instant;

use super::LinkSettings;

mod draws;
mod ejection;
mod experience;

pub(super) use draws::Draws;
pub(super) use experience::{Experience, InUse};

/// How many times its share a nearer group may get: on this node, in this zone. With three even zones two thirds stay in
/// the zone, where chance would keep one; no endpoint has more than twice the mean, if all clients ran in one zone. A node's
/// endpoints are few, and one of them alone would feel what exceeds.
const FACTOR: [(Nearness, f64); 2] = [(Nearness::Node, 1.5), (Nearness::Az, 2.0)];
/// For so long a new endpoint gets less than its weight: caches are cold, and programs still compile themselves.
const RAMP: Duration = Duration::from_secs(10);
/// What a new endpoint begins with, as a part of its weight: enough to be met at all.
const RAMP_START: f64 = 0.1;

/// Where an endpoint runs, seen from here; lower is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nearness {
    /// On this node.
    Node,
    /// In this availability zone.
    Az,
    /// Anywhere else, or nobody knows.
    Far,
}

/// An endpoint to connect to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) rank: Rank,
    pub(super) nearness: Nearness,
    /// 0 is for when nothing else is left.
    pub(super) weight: u16,
    /// Where it is, and what this node met with it.
    pub(super) endpoint: Arc<Experience>,
}

impl Nearness {
    pub(super) fn of(endpoint: &Endpoint, settings: &LinkSettings) -> Nearness {
        if settings.node.as_ref() == Some(&endpoint.key.node) {
            return Nearness::Node;
        }
        match (&settings.az, &endpoint.az) {
            (Some(ours), Some(its)) if ours == its => Nearness::Az,
            _ => Nearness::Far,
        }
    }
}

impl Target {
    pub(super) fn address(&self) -> SocketAddr {
        self.endpoint.address
    }
}

/// The one to try next, after `tried`; `None` when all were.
pub(super) fn choose<'a>(
    targets: &'a [Target],
    tried: &[SocketAddr],
    (draws, now): (&mut Draws, Instant),
) -> Option<&'a Target> {
    let out = ejection::Out::among(targets, now);
    let class = |target: &Target| (out.is_out(target, now), target.rank, target.weight == 0);
    let untried = || targets.iter().filter(|target| !tried.contains(&target.address()));
    let best = untried().map(class).min()?;
    let chosen = || untried().filter(|target| class(target) == best);
    let is_ramp = chosen().any(|target| target.endpoint.age(now) >= RAMP);
    let candidate = |target: &'a Target| {
        let full = f64::from(target.weight.max(1));
        let weight = if is_ramp { full * ramp(target.endpoint.age(now)) } else { full };
        Candidate { target, weight, open: target.endpoint.open() as f64 }
    };
    let candidates: Vec<Candidate<'a>> = chosen().map(candidate).collect();
    let ring = nearest(&candidates, draws.fraction());
    less_costly(&ring, (draws, now)).map(|candidate| candidate.target)
}

/// The part of its weight that an endpoint of that age has.
fn ramp(age: Duration) -> f64 {
    (age.as_secs_f64() / RAMP.as_secs_f64()).clamp(RAMP_START, 1.0)
}

/// One of the class that is chosen from.
#[derive(Debug, Clone, Copy)]
struct Candidate<'a> {
    target: &'a Target,
    weight: f64,
    open: f64,
}

/// What several have together.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    weight: f64,
    open: f64,
    count: f64,
}

impl Sum {
    fn of<'a: 'b, 'b>(candidates: impl Iterator<Item = &'b Candidate<'a>>) -> Sum {
        candidates.fold(Sum::default(), |sum, candidate| Sum {
            weight: sum.weight + candidate.weight,
            open: sum.open + candidate.open,
            count: sum.count + 1.0,
        })
    }

    /// Whether these, of `all`, may have another connection: `chance` is in their share, and so is what they have.
    fn has_room(&self, all: &Sum, (factor, chance): (f64, f64)) -> bool {
        let share = factor * self.weight / all.weight;
        chance < share && self.open < share * (all.open + all.count)
    }
}

/// The nearest group that has room, without those that are nearer and have none.
fn nearest<'a>(candidates: &[Candidate<'a>], chance: f64) -> Vec<Candidate<'a>> {
    let all = Sum::of(candidates.iter());
    let mut passed = None;
    for (nearness, factor) in FACTOR {
        let is_within = |candidate: &&Candidate<'_>| candidate.target.nearness <= nearness;
        let is_in_ring = |candidate: &&Candidate<'_>| Some(candidate.target.nearness) > passed && is_within(candidate);
        let ring: Vec<Candidate<'a>> = candidates.iter().filter(is_in_ring).copied().collect();
        let within = Sum::of(candidates.iter().filter(is_within));
        if !ring.is_empty() && within.has_room(&all, (factor, chance)) {
            return ring;
        }
        passed = Some(nearness);
    }
    let is_far = |candidate: &&Candidate<'_>| candidate.target.nearness == Nearness::Far;
    let far: Vec<Candidate<'a>> = candidates.iter().filter(is_far).copied().collect();
    // Where there is nowhere to spill to, those that are near are all.
    if far.is_empty() { candidates.to_vec() } else { far }
}

/// Of two, drawn by weight, the one that costs less; the first where both cost the same.
fn less_costly<'a>(ring: &[Candidate<'a>], (draws, now): (&mut Draws, Instant)) -> Option<Candidate<'a>> {
    let sum = Sum::of(ring.iter());
    let first = drawn(ring.iter(), sum.weight * draws.fraction())?;
    let others = || ring.iter().filter(|other| other.target.address() != first.target.address());
    let Some(second) = drawn(others(), (sum.weight - first.weight) * draws.fraction()) else { return Some(first) };
    let mean = sum.weight / sum.count;
    let cost = |of: &Candidate<'_>| (of.open * mean / of.weight + 1.0) * of.target.endpoint.latency(now).as_secs_f64();
    Some(if cost(&second) < cost(&first) { second } else { first })
}

/// The one whose weight ends beyond `at`, the weights laid end to end; the last, should rounding lead past it.
fn drawn<'a: 'b, 'b>(candidates: impl Iterator<Item = &'b Candidate<'a>>, mut at: f64) -> Option<Candidate<'a>> {
    let mut last = None;
    for candidate in candidates {
        last = Some(*candidate);
        if at < candidate.weight {
            break;
        }
        at -= candidate.weight;
    }
    last
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(in crate::links) mod tests;
