//! Random histories of a small cluster: after every step the catalog is what an independent model says ([`model`]), and
//! keeps what was promised ([`promises`]).
//!
//! A history follows from its seed. One that fails is made shorter, by leaving steps out while it still fails, and printed.
//! `PORTOLAN_HISTORIES` says how many to play, or which (`100000..200000`), `PORTOLAN_HISTORY` plays one seed. A long run is
//! worth an optimised build: `make histories`, or `make histories HISTORIES=100000..200000`.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use portolan_core::name::{Label, NodeKey};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::cast::Cast;
use self::model::Model;
use self::names::Names;
use self::promises::{Made, Promises};
use self::stage::Stage;
use self::steps::{Statement, Step};
use super::testing::Stepper;
use crate::store::Transaction;
use crate::testing::{World, service};

mod cast;
mod compare;
mod model;
mod names;
mod promises;
mod stage;
mod steps;

/// How long a container waits for ECS to say its service.
const NAME_WAIT_MS: u64 = 5_000;
/// How long a name waits for an owner that has nothing left.
const NAME_HELD_MS: u64 = 600_000;
/// How many histories are played where nobody says: a minute of two cores in an unoptimised build.
const HISTORIES: u64 = 4_000;
/// How many steps a history has after its opening.
const STEPS: usize = 20;

/// A history under way.
struct History {
    stage: Stage,
    world: World,
    model: Model,
    names: Names,
    promises: Promises,
    /// What was stated last.
    stated: Vec<Statement>,
}

impl History {
    async fn begin(seed: u64) -> History {
        let stage = Stage::of(Cast::of(seed));
        let (model, names, promises) = (Model::default(), Names::default(), Promises::default());
        History { stage, world: World::new().await, model, names, promises, stated: Vec::new() }
    }

    /// One step, and what must hold after it.
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        let before = self.world.catalog();
        let stated = self.stage.play(step, self.world.now_ms() + 1_000);
        match step {
            Step::Repeat => self.commit(&self.stated.clone()).await,
            Step::Reload => self.world.catalog.reload(self.world.store.as_ref()).await,
            Step::NamesWaited => self.world.pass(NAME_WAIT_MS).await,
            Step::TenMinutes => self.world.pass(NAME_HELD_MS).await,
            Step::Tidies => self.world.expire().await,
            _ if stated.is_empty() => return Ok(()),
            _ => {
                self.world.pass_time(1_000);
                self.commit(&stated).await;
                self.stated.clone_from(&stated);
            }
        }
        let after = self.world.catalog();
        match step {
            Step::Reload => self.names.wait_anew(&self.model),
            _ => {
                let is_stored =
                    |node: &NodeKey, id: &str| after.stated.names.contains_key(&(node.clone(), id.to_owned()));
                // What is not stored follows from the container alone, and is found again.
                self.names.forget(&self.model, |node, id| !is_stored(node, id));
            }
        }
        let owner = |name: &Label| after.explained.get(&service(name.as_str()))?.owner.clone();
        self.names.settle(&self.model, self.world.now_ms(), owner);
        compare::compare(&self.names.services(&self.model), &after)?;
        self.promises.check(&Made { step, stated: &stated, before: &before, after: &after }, &self.model)
    }

    async fn commit(&mut self, stated: &[Statement]) {
        if stated.is_empty() {
            return;
        }
        let now_ms = self.world.now_ms();
        let transaction = stated.iter().fold(Transaction::at(now_ms), |transaction, one| one.write(transaction));
        self.world.commit(transaction).await;
        stated.iter().for_each(|one| self.model.hear(one, now_ms));
    }

    /// What must hold at the end: the catalog follows from the store alone.
    async fn end(self) -> Result<(), String> {
        let rebuilt = Stepper::load(self.world.store.as_ref()).await.catalog();
        compare::same(&self.world.catalog(), &rebuilt)
    }
}

fn steps_of(seed: u64) -> Vec<Step> {
    let dice = &mut StdRng::seed_from_u64(seed);
    let mut steps = steps::opening(dice);
    steps.extend((0..STEPS).map(|_| steps::step(dice)));
    steps
}

/// Plays these steps. The error says after which one something was wrong, and what.
fn play(seed: u64, steps: &[Step]) -> Result<(), String> {
    let played = async {
        let mut history = History::begin(seed).await;
        for (number, step) in steps.iter().enumerate() {
            // Who waits for a name has it long before an empty owner loses his: not both in one moment.
            if matches!(step, Step::TenMinutes) {
                let named = history.step(&Step::NamesWaited).await;
                named.map_err(|wrong| format!("during step {}: {wrong}", number + 1))?;
            }
            history.step(step).await.map_err(|wrong| format!("after step {}: {wrong}", number + 1))?;
        }
        history.end().await.map_err(|wrong| format!("loaded anew: {wrong}"))
    };
    let played = catch_unwind(AssertUnwindSafe(|| played.now_or_never().expect("nothing here waits")));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("a panic: {}", text.or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()))
    })
}

/// The history without any step that its failure does not need.
fn shrink(seed: u64, mut steps: Vec<Step>) -> Vec<Step> {
    let without = |steps: &[Step], number: usize| [&steps[..number], &steps[number + 1..]].concat();
    while let Some(shorter) =
        (0..steps.len()).rev().map(|number| without(&steps, number)).find(|shorter| play(seed, shorter).is_err())
    {
        steps = shorter;
    }
    steps
}

fn told(seed: u64) -> String {
    let steps = shrink(seed, steps_of(seed));
    let wrong = play(seed, &steps).err().unwrap_or_default();
    let lines: Vec<_> = steps.iter().enumerate().map(|(number, step)| format!("{:3}. {step:?}", number + 1)).collect();
    format!("seed {seed}\n{}{}\n{wrong}", Cast::of(seed), lines.join("\n"))
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What `PORTOLAN_HISTORIES` says: how many, or `FROM..TO`.
fn seeds(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..").unwrap_or(("0", text));
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// Plays the histories of these seeds, on every core. The first one that fails.
fn failing(seeds: Range<u64>) -> Option<u64> {
    let (next, end) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let play_on = || {
        let mut own = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let failed = own.find(|seed| *seed >= end.load(Ordering::Relaxed) || play(*seed, &steps_of(*seed)).is_err());
        // Nobody begins a later one.
        failed.map(|seed| end.fetch_min(seed, Ordering::Relaxed))
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(play_on)));
    });
    let first = end.into_inner();
    (first < seeds.end).then_some(first)
}

#[test]
fn every_history_is_as_the_model_says() {
    if let Some(text) = setting("PORTOLAN_HISTORY") {
        let seed = text.parse().unwrap_or_else(|_| panic!("`PORTOLAN_HISTORY` is no number: {text}"));
        assert!(play(seed, &steps_of(seed)).is_ok(), "{}", told(seed));
        return;
    }
    let text = setting("PORTOLAN_HISTORIES").unwrap_or_else(|| HISTORIES.to_string());
    let seeds = seeds(&text).unwrap_or_else(|| panic!("`PORTOLAN_HISTORIES` is neither a number nor FROM..TO: {text}"));
    let failed = failing(seeds);
    assert!(failed.is_none(), "{}", failed.map(told).unwrap_or_default());
}
