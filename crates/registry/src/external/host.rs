//! One name that is followed: where it led last, and when to ask again. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::Ipv4Net;
use portolan_core::reach::may_be_reached;
use portolan_dns::forward::addresses::{Addresses, AddressesError};

use super::outside::Answers;
use crate::intake::statement::ResolvedRecord;

/// However short the owner of a name says.
const TTL_MIN: Duration = Duration::from_secs(1);
/// However long: what moved is found within this.
const TTL_MAX: Duration = Duration::from_secs(300);
/// The pause after a failure; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The pause when too much was asked at once.
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// A refresh comes later by up to this part of its TTL, so that names that were declared together are not asked together;
/// and never by more than that, so that what moved is found within its TTL and a second.
const JITTER_PART: u32 = 10;
const JITTER_MAX: Duration = Duration::from_millis(500);
/// Addresses of one name that count, the lowest first: what has more is a load balancer for the whole world.
pub(super) const ADDRESSES_MAX: usize = 32;

/// A name that is followed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    v4: BTreeSet<IpAddr>,
    v6: BTreeSet<IpAddr>,
    /// How often in a row nothing was learned.
    failures: u32,
}

/// What an answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It is known again.
    Found,
    /// It is not known any more; the former addresses stay.
    Lost,
    /// As before.
    Nothing,
}

impl Host {
    /// A name as `former` tells it; one that it does not tell leads nowhere yet.
    pub(super) fn as_in(former: &ResolvedRecord, host: &str) -> Host {
        let places = former.places.iter().filter(|place| place.host == host);
        let (v4, v6) = places.map(|place| place.address).partition(IpAddr::is_ipv4);
        Host { v4, v6, failures: u32::from(former.unresolved.iter().any(|unresolved| unresolved == host)) }
    }

    /// Where it leads.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.v4.iter().chain(&self.v6).copied().take(ADDRESSES_MAX)
    }

    /// Whether the last question brought no address.
    pub(super) fn is_unresolved(&self) -> bool {
        self.failures > 0
    }

    /// Takes answers. What follows, and after how long to ask again; `jitter` is from 0 to 1.
    ///
    /// A name that is said to be gone counts as one that nobody knows: a resolver's slip must not empty a service. Who
    /// means it deletes the declaration.
    pub(super) fn take(&mut self, answers: &Answers, range: Ipv4Net, jitter: f64) -> (News, Duration) {
        let (v4, v6) = (usable(&answers.v4, range), usable(&answers.v6, range));
        let has_addresses = v4.iter().chain(&v6).any(|addresses| !addresses.is_empty());
        let is_busy = [&answers.v4, &answers.v6].iter().any(|one| **one == Err(AddressesError::OverBudget));
        if !has_addresses && is_busy {
            return (News::Nothing, BUSY_WAIT.mul_f64(1.0 + jitter));
        }
        if !has_addresses {
            let news = if self.is_unresolved() { News::Nothing } else { News::Lost };
            let doubled = RETRY_MIN.saturating_mul(1 << self.failures.min(8));
            self.failures = self.failures.saturating_add(1);
            return (news, doubled.min(RETRY_MAX).mul_f64(0.5 + jitter / 2.0));
        }
        // Of one kind nothing may be known: its former addresses stay, for this says nothing of them.
        if let Some(v4) = v4 {
            self.v4 = v4;
        }
        if let Some(v6) = v6 {
            self.v6 = v6;
        }
        let news = if self.is_unresolved() { News::Found } else { News::Nothing };
        self.failures = 0;
        let ttls = [&answers.v4, &answers.v6].into_iter().flatten().filter(|found| !found.addresses.is_empty());
        let ttl = ttls.map(|found| found.ttl).min().unwrap_or(TTL_MIN).clamp(TTL_MIN, TTL_MAX);
        (news, ttl + (ttl / JITTER_PART).min(JITTER_MAX).mul_f64(jitter))
    }
}

/// The addresses that may be announced; `None`: nobody knows.
fn usable(answer: &Result<Addresses, AddressesError>, range: Ipv4Net) -> Option<BTreeSet<IpAddr>> {
    let found = answer.as_ref().ok()?;
    let addresses = found.addresses.iter().map(IpAddr::to_canonical);
    Some(addresses.filter(|address| may_be_reached(*address, range)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str], ttl_s: u64) -> Result<Addresses, AddressesError> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Ok(Addresses { addresses, ttl: Duration::from_secs(ttl_s) })
    }

    const UNANSWERED: Result<Addresses, AddressesError> = Err(AddressesError::Unanswered);

    struct Followed(Host);

    impl Followed {
        fn take(
            &mut self,
            v4: Result<Addresses, AddressesError>,
            v6: Result<Addresses, AddressesError>,
        ) -> (News, u64, String) {
            let (news, wait) = self.0.take(&Answers { v4, v6 }, "198.18.0.0/16".parse().unwrap(), 0.0);
            let addresses: Vec<String> = self.0.addresses().map(|address| address.to_string()).collect();
            (news, u64::try_from(wait.as_millis()).unwrap(), addresses.join(" "))
        }
    }

    #[test]
    fn keeps_what_it_knew_while_nobody_knows_better() {
        let mut host = Followed(Host { v4: ["192.0.2.9".parse().unwrap()].into(), ..Host::default() });
        let check = |found: (News, u64, String), news: News, wait_ms: u64, addresses: &str| {
            assert_eq!(found, (news, wait_ms, addresses.to_owned()));
        };
        check(host.take(UNANSWERED, UNANSWERED), News::Lost, 2_500, "192.0.2.9");
        check(host.take(found(&[], 60), found(&[], 60)), News::Nothing, 5_000, "192.0.2.9");
        for wait_ms in [10_000, 20_000, 30_000, 30_000] {
            check(host.take(UNANSWERED, found(&[], 60)), News::Nothing, wait_ms, "192.0.2.9");
        }
        assert!(host.0.is_unresolved());
        check(
            host.take(found(&["192.0.2.2", "192.0.2.1"], 60), found(&[], 5)),
            News::Found,
            60_000,
            "192.0.2.1 192.0.2.2",
        );
        assert!(!host.0.is_unresolved());
        check(
            host.take(UNANSWERED, found(&["2001:db8::1"], 9)),
            News::Nothing,
            9_000,
            "192.0.2.1 192.0.2.2 2001:db8::1",
        );
        check(host.take(found(&["192.0.2.1"], 0), UNANSWERED), News::Nothing, 1_000, "192.0.2.1 2001:db8::1");
        check(host.take(found(&["192.0.2.1"], 9_000), found(&[], 1)), News::Nothing, 300_000, "192.0.2.1");
        let busy = || Err(AddressesError::OverBudget);
        check(host.take(busy(), busy()), News::Nothing, 1_000, "192.0.2.1");
        assert!(!host.0.is_unresolved());
    }

    #[test]
    fn a_name_leads_to_nothing_that_may_not_be_announced() {
        let mut host = Followed(Host::default());
        let bad = found(&["127.0.0.1", "169.254.169.254", "198.18.3.4", "::ffff:127.0.0.1"], 60);
        assert_eq!(host.take(bad, found(&["::1", "fd00:ec2::254"], 60)), (News::Lost, 2_500, String::new()));
        let mixed = found(&["127.0.0.1", "192.0.2.1"], 60);
        assert_eq!(host.take(mixed, UNANSWERED).2, "192.0.2.1");
        let many: Vec<String> = (0..100).map(|octet| format!("192.0.2.{octet}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(host.take(found(&many, 60), UNANSWERED).2.split(' ').count(), ADDRESSES_MAX);
    }

    #[test]
    fn refreshes_are_spread_over_no_more_than_a_moment() {
        for (ttl_s, expected_ms) in [(1, 1_100), (4, 4_400), (60, 60_500), (300, 300_500), (9_000, 300_500)] {
            let answers = Answers { v4: found(&["192.0.2.1"], ttl_s), v6: UNANSWERED };
            let (_, wait) = Host::default().take(&answers, "198.18.0.0/16".parse().unwrap(), 1.0);
            assert_eq!(wait, Duration::from_millis(expected_ms), "never before the TTL is over: {ttl_s} s");
        }
    }
}
