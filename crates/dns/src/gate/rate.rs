//! Response rate limiting, as authoritative servers have it: a network gets so many datagrams a second. Of what exceeds it
//! every other one is answered with TC, so that who is really there asks again by a connection, and the rest with silence.
//!
//! A fixed number of buckets, each one word: no lock, no memory that grows. Networks that fall into one bucket share it;
//! the hash has a secret, so nobody can choose with whom.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use siphasher::sip::SipHasher13;
use tokio::time::Instant;

/// A quarter of a megabyte. A flood that pretends to come from everywhere fills all of them evenly, and slowly.
const BUCKETS: usize = 1 << 16;
/// The unit of time: a bucket holds a moment in 32 bits, which wrap after 18 hours.
const UNITS_PER_SECOND: u32 = 1 << 16;
/// How many answers may come at once: a second's.
const BURST_UNITS: u32 = UNITS_PER_SECOND;
/// Every so many of what exceeds the limit is answered with TC (BIND's, NSD's and Knot's `slip`).
const SLIP: u32 = 2;

/// What an asker gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// His answer.
    Answer,
    /// TC and nothing else: he may ask by a connection.
    Cut,
    /// Nothing.
    Silence,
}

/// Counts what networks get. Each bucket is the moment until which its network has had its share.
#[derive(Debug)]
pub(super) struct Limiter {
    buckets: Box<[AtomicU32]>,
    units_per_answer: u32,
    hasher: SipHasher13,
    beginning: Instant,
    exceeding: AtomicU32,
}

impl Limiter {
    /// `per_second` answers for each network.
    pub(super) fn new(per_second: NonZeroU32, secret: [u8; 16], beginning: Instant) -> Limiter {
        Limiter {
            buckets: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            units_per_answer: (UNITS_PER_SECOND / per_second).max(1),
            hasher: SipHasher13::new_with_key(&secret),
            beginning,
            exceeding: AtomicU32::new(0),
        }
    }

    /// Whether one more answer goes to the network of `peer`.
    pub(super) fn judge(&self, peer: IpAddr, now: Instant) -> Verdict {
        let since = now.saturating_duration_since(self.beginning).as_micros();
        // It wraps, as the buckets do.
        let now = (since * u128::from(UNITS_PER_SECOND) / 1_000_000) as u32;
        let taken = self.bucket(peer).try_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
            let ahead = until.wrapping_sub(now);
            // What is further ahead than a burst is from before the moment wrapped, or lies behind.
            let ahead = if ahead > BURST_UNITS { 0 } else { ahead } + self.units_per_answer;
            (ahead <= BURST_UNITS).then(|| now.wrapping_add(ahead))
        });
        match taken {
            Ok(_) => Verdict::Answer,
            Err(_) if self.exceeding.fetch_add(1, Ordering::Relaxed).is_multiple_of(SLIP) => Verdict::Cut,
            Err(_) => Verdict::Silence,
        }
    }

    fn bucket(&self, peer: IpAddr) -> &AtomicU32 {
        let hash = match peer {
            IpAddr::V4(v4) => self.hasher.hash(&v4.octets()[..3]),
            IpAddr::V6(v6) => self.hasher.hash(&v6.octets()[..7]),
        };
        &self.buckets[hash as usize % BUCKETS]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limiter(per_second: u32) -> (Limiter, Instant) {
        let now = Instant::now();
        (Limiter::new(NonZeroU32::new(per_second).unwrap(), [7; 16], now), now)
    }

    fn counted(limiter: &Limiter, peer: &str, asked: impl Iterator<Item = Instant>) -> [usize; 3] {
        let peer = peer.parse().unwrap();
        let verdicts: Vec<Verdict> = asked.map(|now| limiter.judge(peer, now)).collect();
        [Verdict::Answer, Verdict::Cut, Verdict::Silence].map(|one| verdicts.iter().filter(|v| **v == one).count())
    }

    #[test]
    fn a_network_gets_its_share_and_half_of_the_rest_is_cut() {
        let (limiter, start) = limiter(100);
        let flood = |from: u64, seconds: u64| {
            (0..seconds * 10_000).map(move |step| start + Duration::from_secs(from) + Duration::from_micros(100 * step))
        };
        let [answers, cut, silence] = counted(&limiter, "203.0.113.9", flood(0, 10));
        assert!((1_050..=1_101).contains(&answers), "a burst of 100, then 100 a second: {answers}");
        assert!(cut.abs_diff(silence) <= 1, "{cut} {silence}");
        let [answers, ..] = counted(&limiter, "203.0.113.77", flood(10, 1));
        assert!(answers <= 101, "the same /24: {answers}");
        let [answers, ..] = counted(&limiter, "203.0.114.9", flood(10, 1));
        assert!((195..=201).contains(&answers), "another /24: {answers}");
        let [answers, ..] = counted(&limiter, "2001:db8:0:ff::1", flood(10, 1));
        assert!((195..=201).contains(&answers), "{answers}");
        let [answers, ..] = counted(&limiter, "2001:db8:0:1::2", flood(11, 1));
        assert!(answers <= 101, "the same /56: {answers}");
    }

    #[test]
    fn who_asks_within_the_limit_is_never_cut_however_long_it_goes_on() {
        let (limiter, start) = limiter(50);
        // More than the 18 hours in which the moments wrap, at steps of 20 ms, then of hours.
        let steady = (0..200_000).map(|step| start + Duration::from_millis(20 * step));
        assert_eq!(counted(&limiter, "203.0.113.9", steady), [200_000, 0, 0]);
        let seldom = (0..10_000).map(|step| start + Duration::from_secs(4_000 + 1_237 * step));
        assert_eq!(counted(&limiter, "203.0.113.9", seldom), [10_000, 0, 0]);
    }

    #[test]
    fn the_rate_may_be_one_or_absurd() {
        let (one, start) = limiter(1);
        let flood = (0..1_000).map(|step| start + Duration::from_millis(10 * step));
        let [answers, ..] = counted(&one, "203.0.113.9", flood);
        assert!((10..=11).contains(&answers), "{answers}");
        let (absurd, start) = limiter(u32::MAX);
        assert_eq!(counted(&absurd, "203.0.113.9", (0..1_000).map(|_| start)), [1_000, 0, 0]);
    }
}
