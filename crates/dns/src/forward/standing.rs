//! What is known of each upstream: whether it answers, how quickly, and whether it keeps the case of a question.
//!
//! The order of the settings stands: the second may know less than the first, as a public resolver knows no private zone.
//! Only one that is silent, or slower than a stub waits gladly, goes behind those that answer, and is tried again every
//! ten seconds by one question.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How many upstreams one question is for: resolv.conf has three at most.
pub(super) const UPSTREAMS_MAX: usize = 3;
/// From this smoothed time on an upstream is late. As long as the next one waits for it.
pub(super) const LATE: Duration = Duration::from_millis(400);
/// What a question that was not answered counts for.
const SILENCE: Duration = Duration::from_millis(800);
/// How often one question goes to a late one first.
const EXPLORE_EVERY: Duration = Duration::from_secs(10);
/// After so many unanswered questions in a row an upstream is silent.
const SILENT_STRIKES: u32 = 3;
/// How long an upstream is asked in lower case once it was seen to keep no case.
const CASELESS_FOR: Duration = Duration::from_secs(600);

/// Of every upstream that was asked.
#[derive(Debug, Default)]
pub(super) struct Standings(HashMap<SocketAddr, Standing>);

#[derive(Debug, Default)]
struct Standing {
    smoothed: Duration,
    /// Unanswered questions since the last answer.
    strikes: u32,
    heard_at: Option<Instant>,
    asked_at: Option<Instant>,
    caseless_until: Option<Instant>,
}

/// Whom to ask, when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) upstream: SocketAddr,
    /// It was late, and is tried again.
    pub(super) is_explored: bool,
}

impl Standing {
    fn is_late(&self) -> bool {
        self.smoothed >= LATE
    }
}

impl Standings {
    /// The first three of `upstreams`, late ones last but for one that is explored.
    pub(super) fn order(&mut self, upstreams: &[SocketAddr], now: Instant) -> Vec<Candidate> {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for upstream in upstreams.iter().copied().take(UPSTREAMS_MAX) {
            let standing = self.0.entry(upstream).or_default();
            let is_due = standing.asked_at.is_none_or(|at| now.duration_since(at) >= EXPLORE_EVERY);
            let is_late = standing.is_late();
            let is_explored = is_late && is_due && first.iter().all(|c: &Candidate| !c.is_explored);
            if is_explored {
                // Questions that come meanwhile do not explore as well.
                standing.asked_at = Some(now);
            }
            let place = if is_late && !is_explored { &mut last } else { &mut first };
            place.push(Candidate { upstream, is_explored });
        }
        first.append(&mut last);
        first
    }

    /// A question goes out.
    pub(super) fn asked(&mut self, upstream: SocketAddr, now: Instant) {
        self.0.entry(upstream).or_default().asked_at = Some(now);
    }

    /// It answered what was asked at `asked_at`. Says whether it had been silent before.
    pub(super) fn heard(&mut self, upstream: SocketAddr, asked_at: Instant, now: Instant) -> bool {
        let standing = self.0.entry(upstream).or_default();
        standing.smooth(now.duration_since(asked_at));
        standing.heard_at = Some(now);
        std::mem::take(&mut standing.strikes) >= SILENT_STRIKES
    }

    /// It has not answered in time what was asked at `asked_at`. If it answered something else since, that name is what
    /// is slow.
    pub(super) fn unanswered(&mut self, upstream: SocketAddr, asked_at: Instant) {
        let standing = self.0.entry(upstream).or_default();
        if standing.heard_at.is_none_or(|heard_at| heard_at < asked_at) {
            standing.smooth(SILENCE);
            standing.strikes = standing.strikes.saturating_add(1);
        }
    }

    /// Whether none of `upstreams` answers at present.
    pub(super) fn are_silent(&self, upstreams: &[SocketAddr]) -> bool {
        let strikes = |upstream| self.0.get(upstream).map_or(0, |standing| standing.strikes);
        upstreams.iter().take(UPSTREAMS_MAX).all(|upstream| strikes(upstream) >= SILENT_STRIKES)
    }

    /// It was seen to answer in another case than it was asked in.
    pub(super) fn keeps_no_case(&mut self, upstream: SocketAddr, now: Instant) {
        self.0.entry(upstream).or_default().caseless_until = Some(now + CASELESS_FOR);
    }

    /// Whether it keeps the case of a question, as far as is known.
    pub(super) fn keeps_case(&self, upstream: SocketAddr, now: Instant) -> bool {
        self.0.get(&upstream).and_then(|standing| standing.caseless_until).is_none_or(|until| until <= now)
    }

    /// Forgets all others: they are asked no more.
    pub(super) fn keep(&mut self, is_asked: impl Fn(&SocketAddr) -> bool) {
        self.0.retain(|upstream, _| is_asked(upstream));
    }
}

impl Standing {
    /// Slowly up, so that one lost packet says little; quickly down.
    fn smooth(&mut self, sample: Duration) {
        let share = if sample < self.smoothed { 2 } else { 4 };
        self.smoothed = (self.smoothed * (share - 1) + sample.min(SILENCE)) / share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 53);
    const SECOND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 53);

    fn order(standings: &mut Standings, now: Instant) -> Vec<(SocketAddr, bool)> {
        let order = standings.order(&[FIRST, SECOND], now);
        order.into_iter().map(|candidate| (candidate.upstream, candidate.is_explored)).collect()
    }

    #[test]
    fn one_that_is_slow_goes_last_and_is_tried_again_every_ten_seconds() {
        let (mut standings, start) = (Standings::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(order(&mut standings, start), [(FIRST, false), (SECOND, false)]);
        for ms in 0..10 {
            standings.asked(FIRST, at(ms));
            standings.heard(FIRST, at(ms), at(ms + 700));
        }
        assert_eq!(order(&mut standings, at(700)), [(SECOND, false), (FIRST, false)]);
        assert_eq!(order(&mut standings, at(10_009)), [(FIRST, true), (SECOND, false)]);
        assert_eq!(order(&mut standings, at(10_009)), [(SECOND, false), (FIRST, false)], "one question at a time");
        standings.heard(FIRST, at(10_009), at(10_010));
        assert_eq!(order(&mut standings, at(10_010)), [(FIRST, false), (SECOND, false)], "quickly down");
    }

    #[test]
    fn a_lost_packet_says_little_and_a_slow_name_nothing() {
        let (mut standings, start) = (Standings::default(), Instant::now());
        let later = start + Duration::from_millis(1);
        standings.heard(FIRST, start, later);
        standings.unanswered(FIRST, later + LATE);
        assert_eq!(order(&mut standings, later)[0], (FIRST, false));
        for _ in 0..100 {
            standings.heard(FIRST, start, later);
            standings.unanswered(FIRST, start);
        }
        assert_eq!(order(&mut standings, later)[0], (FIRST, false));
        assert!(!standings.are_silent(&[FIRST]));
    }

    #[test]
    fn silence_is_known_and_so_is_its_end() {
        let (mut standings, start) = (Standings::default(), Instant::now());
        for _ in 0..3 {
            assert!(!standings.are_silent(&[FIRST]));
            standings.unanswered(FIRST, start);
        }
        assert!(standings.are_silent(&[FIRST]) && !standings.are_silent(&[FIRST, SECOND]));
        assert!(standings.heard(FIRST, start, start), "it is back");
        assert!(!standings.heard(FIRST, start, start) && !standings.are_silent(&[FIRST]));
    }

    #[test]
    fn what_is_asked_no_more_is_forgotten() {
        let (mut standings, start) = (Standings::default(), Instant::now());
        standings.keeps_no_case(FIRST, start);
        assert!(!standings.keeps_case(FIRST, start) && standings.keeps_case(SECOND, start));
        assert!(standings.keeps_case(FIRST, start + CASELESS_FOR));
        standings.keep(|upstream| *upstream == SECOND);
        assert!(standings.keeps_case(FIRST, start));
    }
}
