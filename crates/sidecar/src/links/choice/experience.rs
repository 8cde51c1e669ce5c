//! What this node met with an endpoint: connections, how long connecting takes, failures. Atomics only: every connection
//! writes here while others choose.
//!
//! It begins when the link table first holds that run of that container at that address, and ends with the last connection
//! after the table let it go; so there are as many as there are endpoints in the view and open connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use portolan_core::endpoint::{Endpoint, EndpointKey};
use portolan_core::labels::LinkOptions;
use tokio::time::Instant;

use super::ejection::{DOUBLINGS_MAX, FIRST, RESETS_MAX};

/// Below this, differences are a busy processor's: hosts of a region are 2 ms apart at most.
const LATENCY_MIN: Duration = Duration::from_millis(5);
/// What is to be out and is not, because too many are, is avoided where there is a choice.
const LATENCY_OUT: Duration = Duration::from_millis(300);
/// A new sample counts one part in so many.
const SAMPLE_PART: u64 = 4;
/// What is known of the latency halves in this time, so that a slow one is tried again although nobody chose it.
const LATENCY_HALF_LIFE: Duration = Duration::from_secs(5);

/// Of one endpoint.
#[derive(Debug)]
pub(in crate::links) struct Experience {
    /// Where it is.
    pub(in crate::links) address: SocketAddr,
    /// What it wishes of its connections.
    pub(in crate::links) options: LinkOptions,
    key: EndpointKey,
    since: Instant,
    open: AtomicUsize,
    total: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
    ejections: AtomicU64,
    /// The mean in microseconds, and when it was such, in milliseconds since `since` (which overflow after 49 days, and
    /// then a mean seems younger than it is): one number, so that no reader sees half of it.
    latency: AtomicU64,
    /// Until when it is out, in milliseconds since `since`.
    out_until: AtomicU64,
    doublings: AtomicU32,
    /// In a row, before an answer.
    resets: AtomicU32,
}

/// What the figures show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::links) struct Met {
    pub(in crate::links) open: usize,
    pub(in crate::links) total: u64,
    pub(in crate::links) bytes: u64,
    pub(in crate::links) failures: u64,
    pub(in crate::links) ejections: u64,
    pub(in crate::links) latency: Duration,
    /// How long it is still out, if it is.
    pub(in crate::links) out_for: Option<Duration>,
}

impl Experience {
    pub(in crate::links) fn new(
        key: EndpointKey,
        address: SocketAddr,
        (options, since): (LinkOptions, Instant),
    ) -> Experience {
        Experience {
            address,
            options,
            key,
            since,
            open: AtomicUsize::default(),
            total: AtomicU64::default(),
            bytes: AtomicU64::default(),
            failures: AtomicU64::default(),
            ejections: AtomicU64::default(),
            latency: AtomicU64::default(),
            out_until: AtomicU64::default(),
            doublings: AtomicU32::default(),
            resets: AtomicU32::default(),
        }
    }

    /// Whether it is of that endpoint at that address: what another run did says nothing.
    pub(in crate::links) fn is_of(&self, endpoint: &Endpoint, (address, options): (SocketAddr, LinkOptions)) -> bool {
        self.address == address && self.key == endpoint.key && self.options == options
    }

    /// Counts an attempt or a connection for as long as it lives.
    pub(in crate::links) fn begin(self: &Arc<Self>) -> InUse {
        self.open.fetch_add(1, Ordering::Relaxed);
        InUse(self.clone())
    }

    /// A connect took so long.
    pub(in crate::links) fn connected(&self, took: Duration, now: Instant) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.sample(took, now);
        // Who accepts and then resets is no better for accepting.
        if self.resets.load(Ordering::Relaxed) == 0 {
            self.readmit(now);
        }
    }

    /// A UDP session began there, which proves nothing.
    pub(in crate::links) fn session_began(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// It answered a session's first datagram.
    pub(in crate::links) fn session_answered(&self, now: Instant) {
        self.readmit(now);
    }

    /// A connect was refused, or not through in time. That is no sample of the latency: it would keep others away for long
    /// after it is well again.
    pub(in crate::links) fn connect_failed(&self, now: Instant) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.eject(now);
    }

    /// The first bytes of an answer came.
    pub(in crate::links) fn answered(&self, now: Instant) {
        if self.resets.swap(0, Ordering::Relaxed) > 0 {
            self.readmit(now);
        }
    }

    /// It reset a connection before it answered anything.
    pub(in crate::links) fn reset_unanswered(&self, now: Instant) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if self.resets.fetch_add(1, Ordering::Relaxed) + 1 >= RESETS_MAX {
            self.eject(now);
        }
    }

    pub(in crate::links) fn relayed(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::links) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    pub(in crate::links) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How long connecting is expected to take.
    pub(in crate::links) fn latency(&self, now: Instant) -> Duration {
        let least = if self.out_for(now).is_some() { LATENCY_OUT } else { LATENCY_MIN };
        least.max(Duration::from_micros(self.aged_us(self.latency.load(Ordering::Relaxed), now)))
    }

    /// How long it is still out; `None`: it is not.
    pub(in crate::links) fn out_for(&self, now: Instant) -> Option<Duration> {
        let until = self.out_until.load(Ordering::Relaxed);
        if until == 0 {
            return None;
        }
        let left_ms = until.saturating_sub(self.now_ms(now));
        (left_ms > 0).then(|| Duration::from_millis(left_ms))
    }

    pub(in crate::links) fn met(&self, now: Instant) -> Met {
        Met {
            open: self.open(),
            total: self.total.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            ejections: self.ejections.load(Ordering::Relaxed),
            latency: Duration::from_micros(self.aged_us(self.latency.load(Ordering::Relaxed), now)),
            out_for: self.out_for(now),
        }
    }

    fn now_ms(&self, now: Instant) -> u64 {
        u64::try_from(self.age(now).as_millis()).unwrap_or(u64::MAX)
    }

    fn sample(&self, took: Duration, now: Instant) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(u32::MAX.into());
        let mixed = |packed: u64| {
            let mean = match packed {
                0 => took_us,
                _ => (self.aged_us(packed, now) * (SAMPLE_PART - 1) + took_us) / SAMPLE_PART,
            };
            Some((mean << 32) | (self.now_ms(now) & u64::from(u32::MAX)))
        };
        // It cannot fail: there is always another value.
        self.latency.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mixed).ok();
    }

    fn aged_us(&self, packed: u64, now: Instant) -> u64 {
        let (mean_us, at_ms) = (packed >> 32, packed as u32);
        let age_ms = (self.now_ms(now) as u32).wrapping_sub(at_ms);
        let halvings = u64::from(age_ms) / LATENCY_HALF_LIFE.as_millis() as u64;
        mean_us >> halvings.min(63)
    }

    fn eject(&self, now: Instant) {
        let (at, until) = (self.now_ms(now), self.out_until.load(Ordering::Relaxed));
        // Connections that began before fail later; they tell nothing new.
        if until > at {
            return;
        }
        let doublings = self.doublings.load(Ordering::Relaxed);
        // One that was well for as long as it was last out begins anew.
        let is_fresh = until == 0 || at - until >= out_time(doublings).as_millis() as u64;
        let doublings = if is_fresh { 0 } else { (doublings + 1).min(DOUBLINGS_MAX) };
        self.doublings.store(doublings, Ordering::Relaxed);
        self.out_until.store(at + out_time(doublings).as_millis() as u64, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// It proved well, though it was only tried for want of others.
    fn readmit(&self, now: Instant) {
        let at = self.now_ms(now);
        if self.out_until.load(Ordering::Relaxed) > at {
            self.out_until.store(at, Ordering::Relaxed);
        }
    }
}

fn out_time(doublings: u32) -> Duration {
    FIRST * (1 << doublings.min(DOUBLINGS_MAX))
}

/// An attempt on an endpoint, or a connection to it: counted while it lives.
#[derive(Debug)]
pub(in crate::links) struct InUse(Arc<Experience>);

impl InUse {
    pub(in crate::links) fn experience(&self) -> &Arc<Experience> {
        &self.0
    }
}

impl std::ops::Deref for InUse {
    type Target = Experience;

    fn deref(&self) -> &Experience {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
