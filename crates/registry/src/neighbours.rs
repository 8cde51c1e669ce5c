//! Neighbours: asks nodes that speak to try the endpoints of a node that fell silent, and states what they met (DESIGN
//! section 5).
//!
//! ```text
//! catalog ──silent nodes──> sight ──> docket ──questions──> choice ──> switchboard <── grpc: Register <── sidecars
//!                                        │                                                  answers ──┘
//!                                        └──verdicts──> intake
//! ```
//!
//! - [`switchboard`]: the ways to sidecars that can be asked.
//! - `sight`: what the catalog shows of silent nodes. `docket`: when to ask about what, and what follows. `choice`: whom.
//!   All three are pure.
//!
//! It decides nothing about endpoints: it states words, and the rules weigh them. A sidecar that does not answer in time
//! says nothing. What was stated of a node is taken back when the node speaks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use portolan_core::name::NodeKey;
use portolan_core::rules::Neighbours as Word;
use portolan_core::view::Readiness;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};
use tracing::{info, warn};

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::intake::Intake;
use crate::intake::statement::Statement;

mod choice;
mod docket;
mod sight;
pub(crate) mod switchboard;

use choice::{Choice, Speaking};
use docket::{Docket, Heard, Question};
use sight::{Controls, Sight};
use switchboard::Switchboard;

/// How often is looked; also how late a silence may be found. Until somebody vouches for its endpoints they are used last.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Without news it is looked this often whether anything has become too old.
const AGE_EVERY: Duration = Duration::from_secs(1);
/// How long a sidecar may take to answer: it tries everything side by side, 1.5 s each.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How many places prove to a neighbour that it reaches anybody: one may be closed to it by a firewall.
const CONTROLS: usize = 3;

/// What the job joins.
#[derive(Debug)]
pub(crate) struct Neighbours {
    pub(crate) intake: Arc<Intake>,
    pub(crate) catalog: Reader<Catalog>,
    pub(crate) switchboard: Switchboard,
    pub(crate) clock: Clock,
    /// Whom it asks follows from this.
    pub(crate) seed: u64,
}

/// Starts the job.
pub(crate) fn start(jobs: &Jobs, neighbours: Neighbours) {
    jobs.start("neighbours", run(neighbours));
}

async fn run(neighbours: Neighbours) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking = FuturesUnordered::new();
    let mut work = Work {
        rng: StdRng::seed_from_u64(neighbours.seed),
        neighbours,
        docket: Docket::default(),
        seen_revision: None,
        stated_revision: 0,
        state_from: None,
    };
    loop {
        // Cancel-safe: neither loses anything when the other wins.
        tokio::select! {
            _ = ticks.tick() => {
                let is_news = work.follow();
                asking.extend(work.ask().into_iter().map(answers));
                work.state(is_news).await;
            }
            Some((question, heard)) = asking.next() => {
                work.docket.heard(&question, &heard, work.neighbours.clock.now().unix_ms);
                work.state(true).await;
            }
        }
    }
}

/// A question on its way, and who will answer.
struct Put {
    question: Question,
    answers: Vec<(NodeKey, tokio::sync::oneshot::Receiver<portolan_proto::probe::ProbeResult>)>,
}

/// Waits for the answers to a question: until somebody connected everywhere, which nobody else can change, or time is up.
async fn answers(put: Put) -> (Question, Vec<Heard>) {
    let end = Instant::now() + ANSWER_WITHIN;
    let heard =
        |(from, answer)| timeout_at(end, answer).map(|answer| Heard { from, result: answer.ok().and_then(Result::ok) });
    let mut coming: FuturesUnordered<_> = put.answers.into_iter().map(heard).collect();
    let mut all = Vec::new();
    while !put.question.is_vouched_for(&all)
        && let Some(heard) = coming.next().await
    {
        all.push(heard);
    }
    (put.question, all)
}

struct Work {
    neighbours: Neighbours,
    docket: Docket,
    rng: StdRng,
    /// The revision up to which silences were taken in.
    seen_revision: Option<u64>,
    /// The revision of the newest statement: until the catalog has it, nothing is stated.
    stated_revision: u64,
    /// Not before this is looked again whether anything has to be stated, unless there is news.
    state_from: Option<Instant>,
}

impl Work {
    /// Takes silences in as the catalog shows them. Whether there may be something new.
    fn follow(&mut self) -> bool {
        let catalog = self.neighbours.catalog.load();
        let is_news = self.seen_revision != Some(catalog.revision);
        if is_news && catalog.view.readiness != Readiness::Loading {
            self.seen_revision = Some(catalog.revision);
            if self.docket.follow(&sight::silent(&catalog)) {
                self.see(&catalog);
            }
        }
        is_news
    }

    /// Takes in what the catalog shows of silent nodes.
    fn see(&mut self, catalog: &Catalog) -> Controls {
        let Sight { places, controls } = sight::look(catalog, &mut self.rng);
        self.docket.see(&places, &catalog.stated.probes, self.neighbours.clock.now().unix_ms);
        controls
    }

    /// Puts the questions that are due.
    fn ask(&mut self) -> Vec<Put> {
        let now_ms = self.neighbours.clock.now().unix_ms;
        if self.docket.questions(now_ms).is_empty() {
            return Vec::new();
        }
        let catalog = self.neighbours.catalog.load();
        let mut speaking = Speaking::of(self.neighbours.switchboard.reachable(), &sight::silent(&catalog));
        if speaking.is_busy() {
            return Vec::new();
        }
        let controls = self.see(&catalog);
        let questions = self.docket.questions(now_ms);
        questions.into_iter().filter_map(|question| self.put(question, &mut speaking, &controls)).collect()
    }

    /// Puts a question; `None`: all who could be asked owe another answer, or there is nobody.
    fn put(&mut self, question: Question, speaking: &mut Speaking, controls: &Controls) -> Option<Put> {
        let asked = match speaking.choose(&question.clueless, &mut self.rng) {
            Choice::Ask(asked) => asked,
            Choice::Wait => return None,
            Choice::Nobody => {
                self.docket.heard(&question, &[], self.neighbours.clock.now().unix_ms);
                return None;
            }
        };
        let mut answers = Vec::new();
        for node in asked {
            let controls = controls.choose(&node, CONTROLS, &mut self.rng);
            let answer = self.neighbours.switchboard.ask(&node, question.targets(), controls);
            answers.extend(answer.map(|answer| (node, answer)));
        }
        self.docket.asked(&question, self.neighbours.clock.now().unix_ms);
        Some(Put { question, answers })
    }

    /// States what has to be stated.
    async fn state(&mut self, is_news: bool) {
        let now = self.neighbours.clock.now();
        let catalog = self.neighbours.catalog.load();
        let is_early = !is_news && self.state_from.is_some_and(|from| now.instant < from);
        if is_early || catalog.revision < self.stated_revision || catalog.view.readiness == Readiness::Loading {
            return;
        }
        self.state_from = Some(now.instant + AGE_EVERY);
        let is_sure = catalog.view.readiness == Readiness::Current && !self.neighbours.intake.is_doubtful(now);
        let statements = self.docket.statements(&catalog.stated.probes, is_sure, now.unix_ms);
        if statements.is_empty() {
            return;
        }
        statements.iter().for_each(|statement| tell(statement, &catalog));
        match self.neighbours.intake.state(statements, now.unix_ms).await {
            Ok(revision) => self.stated_revision = revision.unwrap_or(self.stated_revision),
            // They are stated again when it is looked next.
            Err(error) => warn!("what neighbours say of silent nodes cannot be kept: {error}"),
        }
    }
}

/// Tells people what is news: not that the same was heard again.
fn tell(statement: &Statement, catalog: &Catalog) {
    let Statement::Probe(node, Some(record)) = statement else { return };
    if catalog.stated.probes.get(node).is_some_and(|before| before.verdicts == record.verdicts) {
        return;
    }
    let count = |word: Word| record.verdicts.iter().filter(|verdict| verdict.word == word).count();
    let (connect, refused, unknown) = (count(Word::Connect), count(Word::Refused), count(Word::NotKnown));
    info!(
        node = %node, connect, refused, unknown,
        "neighbours of the silent node `{node}` connect to {connect} of its places, are refused by {refused}, and do not \
         know of {unknown}"
    );
}

#[cfg(test)]
mod tests;
