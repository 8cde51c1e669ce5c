//! Which endpoints of other nodes are still good without a registry, and which owners are to be asked. Pure.
//!
//! An endpoint is good for a lease after the view was last current, and for a lease after its owner said yes. After that it is used
//! last, as one whose node is silent. What its owner said no to is gone from here until the registry speaks again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use portolan_core::endpoint::{Endpoint, EndpointKey, Standing, State};
use portolan_core::hash;
use portolan_core::name::NodeKey;
use portolan_core::selection::Rank;
use portolan_core::view::{EndpointSet, Readiness, Service, View};
use portolan_proto::ownership::{OwnedPort, PORTS_MAX};
use tokio::time::Instant;

/// How long a word counts (DESIGN section 4).
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// A registry that is away for less is about to be back.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an owner is asked, and by how much later at most, so that not all ask at once.
const ASK_EVERY: Duration = Duration::from_secs(10);
const ASK_LATER_MS: u64 = 2_000;

/// What an owner said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It has it, at that time.
    Has(Instant),
    HasNot,
}

/// A question to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) node: NodeKey,
    pub(super) endpoints: Vec<(EndpointKey, OwnedPort)>,
}

/// What is known of endpoints without a registry.
#[derive(Debug)]
pub(crate) struct Ledger {
    own: NodeKey,
    seed: u64,
    /// Since when the view is not current, as far as this process knows; `None`: it is.
    alone_since: Option<Instant>,
    /// Until when the registry's last word counts.
    told_until: Option<Instant>,
    words: HashMap<EndpointKey, Word>,
    ask_at: HashMap<NodeKey, Instant>,
    asked: u64,
}

impl Ledger {
    /// `own` is this node, which needs not be asked; `seed` draws who is asked when.
    pub(crate) fn new(own: NodeKey, seed: u64) -> Self {
        let (words, ask_at) = (HashMap::new(), HashMap::new());
        Ledger { own, seed, alone_since: None, told_until: None, words, ask_at, asked: 0 }
    }

    /// Takes the newest view; `age` is how long ago it was current, as far as that is known.
    pub(super) fn look(&mut self, view: &View, age: Duration, now: Instant) {
        if view.readiness == Readiness::Current {
            (self.alone_since, self.told_until) = (None, None);
            self.words.clear();
            self.ask_at.clear();
        } else if self.alone_since.is_none() {
            (self.alone_since, self.told_until) = (Some(now), Some(now + LEASE.saturating_sub(age)));
        }
    }

    /// The view as far as it is still good; the very same where nothing is to be changed.
    pub(super) fn apply(&self, view: &Arc<View>, now: Instant) -> Arc<View> {
        if self.alone_since.is_none() {
            return view.clone();
        }
        let mut out = None;
        for service in view.services.values() {
            let Some(endpoints) = service.known_endpoints() else { continue };
            let kept: Vec<Option<State>> =
                endpoints.iter().map(|endpoint| self.state_of(view, endpoint, now)).collect();
            if endpoints.iter().zip(&kept).all(|(endpoint, state)| Some(endpoint.state) == *state) {
                continue;
            }
            let with_state =
                |(endpoint, state): (&Endpoint, Option<State>)| Some(Endpoint { state: state?, ..endpoint.clone() });
            let endpoints = EndpointSet::Known(endpoints.iter().zip(kept).filter_map(with_state).collect());
            let out = out.get_or_insert_with(|| View::clone(view));
            out.insert_service(Arc::new(Service { endpoints, ..Service::clone(service) }));
        }
        out.map_or_else(|| view.clone(), Arc::new)
    }

    /// What to take an endpoint for; `None`: it is gone.
    fn state_of(&self, view: &View, endpoint: &Endpoint, now: Instant) -> Option<State> {
        if !self.can_be_asked(view, endpoint) {
            return Some(endpoint.state);
        }
        let good_until = match self.words.get(&endpoint.key) {
            Some(Word::HasNot) => return None,
            Some(Word::Has(at)) => Some(*at + LEASE),
            None => None,
        };
        let good_until = good_until.max(self.told_until);
        let is_good = good_until.is_none_or(|until| now < until);
        let is_leading = Rank::of(endpoint.state) == Some(Rank::Usable);
        Some(if is_good || !is_leading { endpoint.state } else { State::Unverified(Standing::Last) })
    }

    /// Endpoints of this node are known here; those of no node (declared ones, tasks with an address of their own) share
    /// theirs with nobody.
    fn can_be_asked(&self, view: &View, endpoint: &Endpoint) -> bool {
        endpoint.key.node != self.own && endpoint.port != 0 && view.nodes.contains_key(&endpoint.key.node)
    }

    /// Whom to ask now; who is asked counts as asked. Of more than a thousand endpoints of one node the rest is used last.
    pub(super) fn due(&mut self, view: &View, now: Instant) -> Vec<Question> {
        if self.alone_since.is_none_or(|since| now < since + PATIENCE) {
            return Vec::new();
        }
        let mut by_node: BTreeMap<&NodeKey, Vec<(EndpointKey, OwnedPort)>> = BTreeMap::new();
        for endpoint in view.services.values().filter_map(|service| service.known_endpoints()).flat_map(|e| e.iter()) {
            let is_gone = Rank::of(endpoint.state).is_none() || self.words.get(&endpoint.key) == Some(&Word::HasNot);
            let is_asked_later = self.ask_at.get(&endpoint.key.node).is_some_and(|at| now < *at);
            if is_gone || is_asked_later || !self.can_be_asked(view, endpoint) {
                continue;
            }
            let asked = by_node.entry(&endpoint.key.node).or_default();
            if asked.len() < PORTS_MAX {
                asked.push((endpoint.key.clone(), OwnedPort::of(&endpoint.key, endpoint.port)));
            }
        }
        let question = |(node, endpoints): (&NodeKey, Vec<_>)| Question { node: node.clone(), endpoints };
        let questions: Vec<Question> = by_node.into_iter().map(question).collect();
        for question in &questions {
            self.asked += 1;
            let drawn = hash::stable(&[&self.seed.to_be_bytes(), &self.asked.to_be_bytes()]) % ASK_LATER_MS;
            self.ask_at.insert(question.node.clone(), now + ASK_EVERY + Duration::from_millis(drawn));
        }
        questions
    }

    /// What the owner said to a question of `asked_at`; `None`: nothing. A word from before the registry was back, or from before
    /// it was lost, is no word.
    pub(super) fn answered(&mut self, question: &Question, owned: Option<&[bool]>, asked_at: Instant) {
        if self.alone_since.is_none_or(|since| asked_at < since) {
            return;
        }
        for ((key, _), is_owned) in question.endpoints.iter().zip(owned.unwrap_or_default()) {
            // It was so when it was asked, and not later.
            let word = if *is_owned { Word::Has(asked_at) } else { Word::HasNot };
            self.words.insert(key.clone(), word);
        }
    }

    /// When what is good changes by time alone.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let has = self.words.values().filter_map(|word| match word {
            Word::Has(at) => Some(*at + LEASE),
            Word::HasNot => None,
        });
        has.chain(self.told_until).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests;
