//! The docket: per silent node, what is known of each of its places, when it is asked about next, and what has to be stated.
//!
//! Pure; time is an argument. What was stated last is read from the catalog, so a registry that restarts goes on from
//! there. One answer that comes to nothing takes nothing back: a word lasts [`WORD_MAX_MS`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portolan_core::name::NodeKey;
use portolan_core::neighbours::{Answer, Met, word};
use portolan_core::rules::Neighbours;
use portolan_proto::probe::ProbeResult;

use super::sight::{Places, Silent, Stake};
use crate::intake::statement::Statement;
use crate::store::evidence::{ProbeRecord, Verdict};

/// How many places one question names, beside the host.
const TARGETS_MAX: usize = 63;
/// Where a host shows that it is there, by a connection or a refusal: the port that sidecars have between them.
const HOST_PORT: u16 = 8511;
/// How many silent nodes are asked about at once.
const NODES_AT_ONCE: usize = 50;
/// Not renewed for so long, because nobody was left to ask: not known any more.
const WORD_MAX_MS: u64 = 60_000;
/// A statement is renewed when it is older, so that its age says that somebody still looks.
const STATED_MAX_MS: u64 = 30_000;
/// Places that are due this soon are asked about together with those that are due now.
const TOGETHER_MS: u64 = 500;
/// After an answer that comes to nothing: soon again, because another neighbour may know, then as the others.
const AGAIN_SOON_MS: u64 = 2_000;
/// How long until the next question, the longer the more often the same was heard.
const AGAIN_MS: [u64; 4] = [5_000, 10_000, 20_000, 30_000];
/// How many neighbours a record names.
const NAMED_MAX: usize = 16;

/// What was stated, by node.
pub(super) type Stated = imbl::OrdMap<NodeKey, Arc<ProbeRecord>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Docket {
    cases: BTreeMap<NodeKey, Case>,
}

/// One silence of one node.
#[derive(Debug)]
struct Case {
    since_ms: u64,
    /// The host's own addresses.
    addresses: Vec<IpAddr>,
    places: BTreeMap<SocketAddr, Place>,
    /// When it was last asked about.
    asked_at_ms: u64,
    /// When answers last told something.
    told_at_ms: u64,
    /// Who answered lately, and when.
    heard: BTreeMap<NodeKey, u64>,
    /// Who was asked last, and could not tell.
    clueless: BTreeSet<NodeKey>,
}

#[derive(Debug)]
struct Place {
    stake: Stake,
    word: Neighbours,
    /// When that was last heard.
    word_at_ms: u64,
    /// What the newest answers came to; `None` before the first.
    newest: Option<Neighbours>,
    /// How often in a row.
    repeated: usize,
    due_at_ms: u64,
    is_asked: bool,
}

/// What becomes of what was stated of a silence.
#[derive(Debug)]
enum Stating {
    Stays,
    TakenBack,
    Now(ProbeRecord),
}

/// A question to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// About whom.
    pub(super) node: NodeKey,
    /// Since when it is silent, Unix milliseconds: an answer counts for this silence only.
    pub(super) since_ms: u64,
    pub(super) places: Vec<SocketAddr>,
    /// A place of the host itself, where one of `places` is at an address that is not the host's.
    pub(super) host: Option<SocketAddr>,
    /// Who should be asked only if nobody else can be.
    pub(super) clueless: BTreeSet<NodeKey>,
}

/// What one neighbour said to a question; `None`: nothing.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) from: NodeKey,
    pub(super) result: Option<ProbeResult>,
}

impl Question {
    /// What is to be tried: the places, then the host.
    pub(super) fn targets(&self) -> Vec<SocketAddr> {
        self.places.iter().copied().chain(self.host).collect()
    }

    /// What one neighbour met at the place with that number; `is_own`: by an address that is not the host's.
    fn met(&self, result: &ProbeResult, at: usize, is_own: bool) -> Met {
        let met = |at: usize| result.met.get(at).copied().unwrap_or(Met::Nothing);
        if is_own { met(at).beside(self.host.map_or(Met::Nothing, |_| met(self.places.len()))) } else { met(at) }
    }

    /// Whether somebody connected to every place.
    pub(super) fn is_vouched_for(&self, heard: &[Heard]) -> bool {
        let results = heard.iter().filter_map(|heard| heard.result.as_ref());
        (0..self.places.len()).all(|at| results.clone().any(|result| result.met.get(at) == Some(&Met::Connected)))
    }
}

impl Docket {
    /// Opens a case for each silence in `silent`, and closes those of nodes that speak. Whether one was opened: its places
    /// have to be seen before anything is stated.
    pub(super) fn follow(&mut self, silent: &BTreeMap<NodeKey, Silent>) -> bool {
        self.cases.retain(|node, case| silent.get(node).is_some_and(|silent| silent.since_ms == case.since_ms));
        let before = self.cases.len();
        for (node, silent) in silent {
            self.cases.entry(node.clone()).or_insert_with(|| Case::new(silent));
        }
        self.cases.len() > before
    }

    /// Takes the places of silent nodes as the catalog shows them. New ones begin with what was stated of them in this silence.
    pub(super) fn see(&mut self, places: &Places, stated: &Stated, now_ms: u64) {
        let none = BTreeMap::new();
        for (node, case) in &mut self.cases {
            let seen = places.get(node).unwrap_or(&none);
            let record = stated.get(node).map(AsRef::as_ref).filter(|record| record.at_ms >= case.since_ms);
            case.places.retain(|place, _| seen.contains_key(place));
            for (place, stake) in seen {
                let known = case.places.entry(*place).or_insert_with(|| Place::new(said(record, place), now_ms));
                known.stake = *stake;
            }
        }
    }

    /// The questions to be put now; first of those that were not asked about for longest.
    pub(super) fn questions(&self, now_ms: u64) -> Vec<Question> {
        let asked = self.cases.values().filter(|case| case.places.values().any(|place| place.is_asked)).count();
        let mut due: Vec<_> =
            self.cases.iter().filter(|(_, case)| case.places.values().any(|place| place.is_due(now_ms))).collect();
        due.sort_by_key(|(_, case)| case.asked_at_ms);
        let due = due.into_iter().take(NODES_AT_ONCE.saturating_sub(asked));
        due.flat_map(|(node, case)| case.questions(node, now_ms)).collect()
    }

    /// A question was put.
    pub(super) fn asked(&mut self, question: &Question, now_ms: u64) {
        if let Some(case) = self.case(question) {
            case.asked_at_ms = now_ms;
            case.each(&question.places, |_, place| place.is_asked = true);
        }
    }

    /// What was heard in answer to a question; nothing, when nobody could be asked.
    pub(super) fn heard(&mut self, question: &Question, heard: &[Heard], now_ms: u64) {
        let Some(case) = self.case(question) else { return };
        let answers = |(at, place): (usize, &SocketAddr)| {
            let is_own = !case.addresses.contains(&place.ip());
            let results = heard.iter().filter_map(|heard| heard.result.as_ref());
            let answers = results.map(|result| Answer {
                met: question.met(result, at, is_own),
                is_control_reached: result.is_control_reached,
            });
            (*place, word(answers))
        };
        let words: BTreeMap<_, _> = question.places.iter().enumerate().map(answers).collect();
        case.each(&question.places, |at, place| place.take(words[at], now_ms));
        if words.values().any(|word| *word != Neighbours::NotKnown) {
            case.told_at_ms = now_ms;
        }
        let who = |heard: &Heard| heard.from.clone();
        let answered = heard.iter().filter(|heard| heard.result.is_some());
        case.heard.extend(answered.map(|heard| (who(heard), now_ms)));
        case.heard.retain(|_, at_ms| now_ms.saturating_sub(*at_ms) < WORD_MAX_MS);
        let is_clueless = words.values().any(|word| *word == Neighbours::NotKnown);
        case.clueless = if is_clueless { heard.iter().map(who).collect() } else { BTreeSet::new() };
    }

    /// What has to be stated: per node the record, or that there is none any more. A registry that is not sure of itself
    /// does not begin to say `Refused`.
    pub(super) fn statements(&self, stated: &Stated, is_sure: bool, now_ms: u64) -> Vec<Statement> {
        let over = stated.keys().filter(|node| !self.cases.contains_key(*node));
        let over = over.map(|node| Statement::Probe(node.clone(), None));
        let of_case = |(node, case): (&NodeKey, &Case)| match case.stating(stated.get(node), is_sure, now_ms) {
            Stating::Stays => None,
            Stating::TakenBack => Some(Statement::Probe(node.clone(), None)),
            Stating::Now(record) => Some(Statement::Probe(node.clone(), Some(record))),
        };
        over.chain(self.cases.iter().filter_map(of_case)).collect()
    }

    fn case(&mut self, question: &Question) -> Option<&mut Case> {
        self.cases.get_mut(&question.node).filter(|case| case.since_ms == question.since_ms)
    }
}

impl Case {
    fn new(silent: &Silent) -> Self {
        let Silent { since_ms, addresses } = silent.clone();
        Case {
            since_ms,
            addresses,
            places: BTreeMap::new(),
            asked_at_ms: since_ms,
            told_at_ms: since_ms,
            heard: BTreeMap::new(),
            clueless: BTreeSet::new(),
        }
    }

    fn questions(&self, node: &NodeKey, now_ms: u64) -> Vec<Question> {
        let due = self.places.iter().filter(|(_, place)| place.is_due(now_ms + TOGETHER_MS));
        let places: Vec<SocketAddr> = due.map(|(at, _)| *at).collect();
        let question = |places: &[SocketAddr]| Question {
            node: node.clone(),
            since_ms: self.since_ms,
            places: places.to_vec(),
            host: self.host_beside(places),
            clueless: self.clueless.clone(),
        };
        places.chunks(TARGETS_MAX).map(question).collect()
    }

    /// A place of the host, if one of `places` is not at its address.
    fn host_beside(&self, places: &[SocketAddr]) -> Option<SocketAddr> {
        let is_own = |place: &SocketAddr| !self.addresses.contains(&place.ip());
        let address = self.addresses.first().filter(|_| places.iter().any(is_own))?;
        Some(SocketAddr::new(*address, HOST_PORT))
    }

    fn each(&mut self, places: &[SocketAddr], mut change: impl FnMut(&SocketAddr, &mut Place)) {
        for at in places {
            if let Some(place) = self.places.get_mut(at) {
                change(at, place);
            }
        }
    }

    fn stating(&self, before: Option<&Arc<ProbeRecord>>, is_sure: bool, now_ms: u64) -> Stating {
        let own = before.map(AsRef::as_ref).filter(|record: &&ProbeRecord| record.at_ms >= self.since_ms);
        let verdict = |(at, place): (&SocketAddr, &Place)| {
            let word = match place.word_at(now_ms) {
                Neighbours::Refused if !is_sure => said(own, at),
                word => word,
            };
            Verdict { place: *at, word }
        };
        let verdicts: Vec<_> = self.places.iter().map(verdict).collect();
        let is_known = verdicts.iter().any(|verdict| verdict.word != Neighbours::NotKnown);
        let is_settled = self.places.values().all(Place::is_settled);
        if is_settled || (own.is_none() && !is_known) {
            return before.map_or(Stating::Stays, |_| Stating::TakenBack);
        }
        let stated_ms = own.map_or(0, |own| own.at_ms);
        let is_old = now_ms.saturating_sub(stated_ms) >= STATED_MAX_MS && self.told_at_ms > stated_ms;
        if own.is_some_and(|own| own.verdicts == verdicts) && !(is_old && is_known) {
            return Stating::Stays;
        }
        let neighbours = self.heard.keys().take(NAMED_MAX).map(ToString::to_string).collect();
        Stating::Now(ProbeRecord { at_ms: self.told_at_ms.max(stated_ms), neighbours, verdicts })
    }
}

impl Place {
    fn new(word: Neighbours, now_ms: u64) -> Self {
        Place {
            stake: Stake::Removal,
            word,
            word_at_ms: now_ms,
            newest: None,
            repeated: 0,
            due_at_ms: now_ms,
            is_asked: false,
        }
    }

    fn word_at(&self, now_ms: u64) -> Neighbours {
        let is_fresh = now_ms.saturating_sub(self.word_at_ms) < WORD_MAX_MS;
        if is_fresh { self.word } else { Neighbours::NotKnown }
    }

    /// Gone by other evidence, and nobody who was asked connects: it is not asked about any more.
    fn is_settled(&self) -> bool {
        self.stake == Stake::Return && self.newest.is_some_and(|newest| newest != Neighbours::Connect)
    }

    fn is_due(&self, now_ms: u64) -> bool {
        !self.is_asked && !self.is_settled() && self.due_at_ms <= now_ms
    }

    fn take(&mut self, word: Neighbours, now_ms: u64) {
        self.is_asked = false;
        self.repeated = if self.newest == Some(word) { self.repeated + 1 } else { 0 };
        self.newest = Some(word);
        let wait = |step: usize| AGAIN_MS[step.min(AGAIN_MS.len() - 1)];
        let wait_ms = match (word, self.repeated) {
            (Neighbours::NotKnown, 0) => AGAIN_SOON_MS,
            (Neighbours::NotKnown, repeated) => wait(repeated - 1),
            (Neighbours::Connect | Neighbours::Refused, repeated) => wait(repeated),
        };
        self.due_at_ms = now_ms + wait_ms;
        if word != Neighbours::NotKnown {
            (self.word, self.word_at_ms) = (word, now_ms);
        }
    }
}

/// What a record says of a place.
fn said(record: Option<&ProbeRecord>, place: &SocketAddr) -> Neighbours {
    let verdicts = record.map_or(&[][..], |record| &record.verdicts);
    verdicts.iter().find(|verdict| verdict.place == *place).map_or(Neighbours::NotKnown, |verdict| verdict.word)
}

#[cfg(test)]
mod tests;
