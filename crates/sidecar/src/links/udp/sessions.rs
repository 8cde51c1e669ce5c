//! The sessions of one link: by client, and in the order of their last use. Pure: who uses it reads the clock.
//!
//! A use is noted in the session alone, so that neither direction has to come here. The order may be behind, never ahead: whoever
//! is first by it was not used before anybody else, and once its own last use agrees it is the one that is idle longest.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::time::Instant;

/// What knows when it was used.
pub(super) trait Aged {
    /// When it was used last; it only grows.
    fn used_at(&self) -> Instant;
}

/// A time of use, and a number that no other one has.
type Mark = (Instant, u64);

/// The sessions of a link.
#[derive(Debug)]
pub(super) struct Sessions<S> {
    by_client: HashMap<SocketAddrV4, (Mark, S)>,
    by_use: BTreeMap<Mark, SocketAddrV4>,
    marks: u64,
}

impl<S> Default for Sessions<S> {
    fn default() -> Self {
        Sessions { by_client: HashMap::new(), by_use: BTreeMap::new(), marks: 0 }
    }
}

impl<S: Aged> Sessions<S> {
    /// That client's.
    pub(super) fn get(&self, client: SocketAddrV4) -> Option<&S> {
        self.by_client.get(&client).map(|(_, session)| session)
    }

    /// Puts a session in, in the place of the one that the client had.
    pub(super) fn insert(&mut self, client: SocketAddrV4, session: S) {
        self.remove(client, |_| true);
        let mark = self.mark(session.used_at());
        self.by_use.insert(mark, client);
        self.by_client.insert(client, (mark, session));
    }

    /// Takes the client's session out, if it is `that` one.
    pub(super) fn remove(&mut self, client: SocketAddrV4, that: impl FnOnce(&S) -> bool) -> Option<S> {
        if !that(self.get(client)?) {
            return None;
        }
        let (mark, session) = self.by_client.remove(&client)?;
        self.by_use.remove(&mark);
        Some(session)
    }

    /// Takes out those that nobody used for `timeout`.
    pub(super) fn take_idle(&mut self, now: Instant, timeout: Duration) -> Vec<S> {
        let is_idle = |used: Instant| now.saturating_duration_since(used) >= timeout;
        let mut idle = Vec::new();
        while self.by_use.first_key_value().is_some_and(|((used, _), _)| is_idle(*used)) {
            let Some((client, used)) = self.oldest() else { break };
            if !is_idle(used) {
                break;
            }
            idle.extend(self.remove(client, |_| true));
        }
        idle
    }

    /// Takes out the one that is idle longest.
    pub(super) fn take_oldest(&mut self) -> Option<S> {
        let (client, _) = self.oldest()?;
        self.remove(client, |_| true)
    }

    /// Takes out those that may not stay.
    pub(super) fn take_unless(&mut self, mut may_stay: impl FnMut(&S) -> bool) -> Vec<S> {
        let gone = self.by_client.iter().filter(|(_, (_, session))| !may_stay(session)).map(|(client, _)| *client);
        let gone: Vec<SocketAddrV4> = gone.collect();
        gone.into_iter().filter_map(|client| self.remove(client, |_| true)).collect()
    }

    /// Each is looked at again only if it was used since it was looked at last.
    fn oldest(&mut self) -> Option<(SocketAddrV4, Instant)> {
        loop {
            let (&mark, &client) = self.by_use.first_key_value()?;
            let used = self.get(client)?.used_at();
            if used <= mark.0 {
                return Some((client, used));
            }
            let now = self.mark(used);
            self.by_use.remove(&mark);
            self.by_use.insert(now, client);
            if let Some((mark, _)) = self.by_client.get_mut(&client) {
                *mark = now;
            }
        }
    }

    fn mark(&mut self, used: Instant) -> Mark {
        self.marks += 1;
        (used, self.marks)
    }
}

#[cfg(test)]
mod tests;
