//! Who has a place among the open connections: when all are taken, a newcomer gets the place of one that can spare it.
//!
//! That is one of the address that has most of them, the one without a question for longest. So idle connections keep out
//! nobody, however many somebody opens, and neither does one host that opens them faster than they idle.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Who asked this lately keeps its place, unless its address has more than its share.
const SETTLED: Duration = Duration::from_secs(1);

/// A bounded number of places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    held: Mutex<Vec<Arc<Holder>>>,
}

/// A place. Dropped: it is free.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    holder: Arc<Holder>,
}

#[derive(Debug)]
struct Holder {
    peer: IpAddr,
    asked_at: Mutex<Instant>,
    displaced: Notify,
}

impl Places {
    /// So many places.
    pub(super) fn new(most: usize) -> Arc<Places> {
        Arc::new(Places { most, held: Mutex::new(Vec::new()) })
    }

    /// A place for a connection from `peer`, be it another's. `None`: nobody can spare one.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Option<Place> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= self.most {
            let at = spare(&held, peer, now)?;
            held.swap_remove(at).displaced.notify_one();
        }
        let holder = Arc::new(Holder { peer, asked_at: Mutex::new(now), displaced: Notify::new() });
        held.push(holder.clone());
        Some(Place { places: self.clone(), holder })
    }
}

impl Place {
    /// A whole question came.
    pub(super) fn asked(&self, now: Instant) {
        *self.holder.asked_at.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Waits until another has this place. Cancel-safe.
    pub(super) async fn displaced(&self) {
        self.holder.displaced.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|one| !Arc::ptr_eq(one, &self.holder));
    }
}

/// Whose place goes to a newcomer from `peer`.
fn spare(held: &[Arc<Holder>], peer: IpAddr, now: Instant) -> Option<usize> {
    let of = |peer: IpAddr| held.iter().filter(|one| one.peer == peer).count();
    let newcomers = of(peer) + 1;
    let idle = |one: &Holder| {
        let asked_at = *one.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(asked_at)
    };
    let can_spare = |one: &Holder, has: usize| idle(one) >= SETTLED || has > newcomers;
    let candidates = held.iter().enumerate().map(|(at, one)| (at, one, of(one.peer)));
    let able = candidates.filter(|(_, one, has)| can_spare(one, *has));
    able.max_by_key(|(_, one, has)| (*has, idle(one))).map(|(at, ..)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// The addresses of those who have a place.
    fn held(places: &Places) -> Vec<IpAddr> {
        places.held.lock().unwrap().iter().map(|one| one.peer).collect()
    }

    async fn is_displaced(place: &Place) {
        tokio::time::timeout(SETTLED, place.displaced()).await.expect("another has its place");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_idle_for_longest_makes_room() {
        let places = Places::new(2);
        let first = places.take(address(1), Instant::now()).unwrap();
        let second = places.take(address(2), Instant::now()).unwrap();
        assert!(places.take(address(3), Instant::now()).is_none(), "both asked only now");
        tokio::time::advance(SETTLED).await;
        first.asked(Instant::now());
        let third = places.take(address(3), Instant::now()).unwrap();
        is_displaced(&second).await;
        assert_eq!(held(&places), [address(1), address(3)]);
        drop(second);
        assert_eq!(held(&places), [address(1), address(3)], "who was displaced has no place to give back");
        drop(first);
        assert_eq!(held(&places), [address(3)]);
        drop(third);
        assert!(held(&places).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_most_makes_room_even_while_it_asks() {
        let places = Places::new(4);
        let quiet = places.take(address(1), Instant::now()).unwrap();
        tokio::time::advance(SETTLED * 5).await;
        let mut greedy = Vec::new();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_millis(1)).await;
            greedy.push(places.take(address(2), Instant::now()).unwrap());
        }
        let newcomer = places.take(address(3), Instant::now()).unwrap();
        is_displaced(&greedy[0]).await;
        // Its own next ones displace its own.
        tokio::time::advance(SETTLED).await;
        let next = places.take(address(2), Instant::now()).unwrap();
        is_displaced(&greedy[1]).await;
        let mut peers = held(&places);
        peers.sort();
        assert_eq!(peers, [address(1), address(2), address(2), address(3)]);
        drop((quiet, greedy, newcomer, next));
    }
}
