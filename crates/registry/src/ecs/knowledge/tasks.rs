//! Tasks: what was heard of each, by version, and as what it is stated.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::ecs::{Task, TaskStatus};
use portolan_core::name::{Label, NodeKey};

use super::places::{Kind, Parts, Places};
use super::{EVENT_AGE_MAX_MS, Knowledge, Listing, Voice};
use crate::ecs::absence::Absence;
use crate::ecs::convert::{self, Host, Surroundings};
use crate::ecs::definition::{Definitions, Known as KnownDefinition};
use crate::ecs::facts::{TaskFacts, id_of};

/// How many are known of one cluster. More is more than one registry is for; they are left out.
const TASKS_MAX: usize = 200_000;
/// How many services one family may belong to.
const FAMILY_SERVICES_MAX: usize = 20;

/// All of a cluster.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// By their ids.
    known: BTreeMap<String, Known>,
    pub(super) places: Places,
}

/// One task.
#[derive(Debug)]
pub(super) struct Known {
    /// `None`: nothing was heard of it since the start.
    facts: Option<TaskFacts>,
    definition: KnownDefinition,
    /// As it is stated.
    pub(super) task: Task,
    pub(super) node: NodeKey,
    /// The parts that `node` is one of; `None`: it is a machine.
    parts: Option<Parts>,
    /// When AWS last said something of it, Unix milliseconds.
    heard_ms: u64,
    pub(super) absence: Absence,
    /// Whether an event told of it, or somebody waits for it: what becomes known around it does not wait.
    is_urgent: bool,
}

impl Tasks {
    /// What was stated before the start. A task that was stated twice, by a start that was cut short, stays in the first
    /// place: whether it did.
    pub(super) fn hold(&mut self, node: &NodeKey, task: &Task, now_ms: u64) -> bool {
        if self.known.contains_key(&task.id) {
            return false;
        }
        let is_part = ["fargate-", "unplaced-"].iter().any(|kind| node.node.as_str().starts_with(kind));
        let known = Known {
            facts: None,
            definition: KnownDefinition::NotYet,
            task: task.clone(),
            node: node.clone(),
            parts: is_part.then(|| Parts::held(node, task)),
            heard_ms: 0,
            absence: if task.is_missing { Absence::since(now_ms) } else { Absence::default() },
            is_urgent: false,
        };
        self.places.enter(node, &task.id);
        self.known.insert(task.id.clone(), known);
        true
    }

    pub(super) fn get(&self, id: &str) -> Option<&Known> {
        self.known.get(id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &Known)> {
        self.known.iter()
    }

    /// Forgets a task; where it was stated.
    pub(super) fn remove(&mut self, id: &str) -> Option<NodeKey> {
        let known = self.known.remove(id)?;
        self.places.leave(&known.node, id);
        Some(known.node)
    }

    /// How many have not stopped, and how many of those are missing.
    pub(super) fn counts(&self) -> (usize, usize) {
        let live = || self.known.values().filter(|known| known.task.status != TaskStatus::Stopped);
        (live().count(), live().filter(|known| known.task.is_missing).count())
    }
}

impl Known {
    /// Whether what was heard is news.
    fn takes(&self, facts: &TaskFacts, voice: Voice) -> bool {
        let is_first = self.facts.is_none();
        // Without versions only the order of calls is left.
        let is_unversioned = facts.version == 0 && self.task.version == 0 && voice == Voice::Answer;
        facts.version > self.task.version || (is_first && facts.version == self.task.version) || is_unversioned
    }

    /// Whether it is of the same task definition.
    fn is_of(&self, facts: &TaskFacts) -> bool {
        self.facts.as_ref().is_some_and(|own| own.definition_arn == facts.definition_arn)
    }

    /// AWS still knows it. Whether that changes what is stated.
    fn see(&mut self, now_ms: u64) -> bool {
        self.heard_ms = now_ms;
        self.absence.seen();
        self.settle()
    }

    /// Works out whether it counts as missing; only what ran and was to run on does. Whether that changed.
    fn settle(&mut self) -> bool {
        let runs = self.task.status == TaskStatus::Running && self.task.is_wanted;
        let is_missing = runs && self.absence.is_missing();
        std::mem::replace(&mut self.task.is_missing, is_missing) != is_missing
    }
}

/// Whether what is told of an unknown task is of the past.
fn is_over(facts: &TaskFacts, voice: Voice, now_ms: u64) -> bool {
    let is_old = |at_ms: u64| now_ms.saturating_sub(at_ms) > EVENT_AGE_MAX_MS;
    matches!(voice, Voice::Event(at_ms) if is_old(at_ms)) || facts.stop.as_ref().is_some_and(|stop| is_old(stop.at_ms))
}

/// Leaves containers as they were told before, when their definition was at hand: that it is not there now takes no port
/// and no name away.
fn carry_over(task: &mut Task, earlier: &Task) {
    for container in &mut task.containers {
        let same = earlier.containers.iter().find(|own| own.report.id == container.report.id);
        if let Some(same) = same.filter(|own| !own.report.ports.is_empty()) {
            container.report = same.report.clone();
        }
    }
}

impl Knowledge {
    /// Takes in what was heard of a task.
    pub(in crate::ecs) fn hear_task(
        &mut self,
        facts: TaskFacts,
        voice: Voice,
        (definitions, now_ms): (&mut Definitions, u64),
    ) {
        let id = facts.id.clone();
        let is_full = self.tasks.known.len() >= TASKS_MAX;
        match self.tasks.known.get_mut(&id) {
            Some(known) if !known.takes(&facts, voice) => {
                // AWS still knows it, whatever it says of it; an event may come from the past.
                if voice == Voice::Answer && known.see(now_ms) {
                    self.changed.nodes.insert(known.node.clone());
                }
                self.hurry_event(&id, voice);
                return;
            }
            Some(_) => {}
            None if is_full || is_over(&facts, voice, now_ms) => return,
            None => {}
        }
        self.note_family(&facts);
        let earlier = self.tasks.known.remove(&id);
        let known = earlier.as_ref().filter(|earlier| earlier.is_of(&facts)).map(|earlier| earlier.definition.clone());
        let definition = match (known, facts.status) {
            (Some(known @ KnownDefinition::Read(_)), _) => known,
            // What has ended is not worth a call.
            (_, TaskStatus::Stopped) => definitions.peek(&facts.definition_arn),
            (_, TaskStatus::Pending | TaskStatus::Running | TaskStatus::Leaving) => {
                definitions.find(&facts.definition_arn, now_ms)
            }
        };
        self.keep(facts, definition, (earlier, now_ms, Absence::default()));
        self.hurry_event(&id, voice);
    }

    /// What an event told does not wait: its message goes once it is stated.
    fn hurry_event(&mut self, id: &str, voice: Voice) {
        match voice {
            Voice::Event(_) => self.hurry(id),
            Voice::Answer => {}
        }
    }

    /// Somebody waits for what is known of a task: it is stated now, and takes along what gathers.
    pub(in crate::ecs) fn hurry(&mut self, id: &str) {
        let Some(known) = self.tasks.known.get_mut(id) else { return };
        known.is_urgent = true;
        if self.changed.gathering.remove(&known.node) {
            self.changed.nodes.insert(known.node.clone());
        }
    }

    /// A task definition came, or cannot be had: tasks that waited for it are told anew.
    pub(in crate::ecs) fn learn_definition(&mut self, arn: &str, definitions: &mut Definitions, now_ms: u64) {
        let definition = definitions.find(arn, now_ms);
        let waits = |known: &Known| {
            known.definition != definition
                && known.facts.as_ref().is_some_and(|facts| facts.definition_arn == arn && facts.stop.is_none())
        };
        let waiting: Vec<String> =
            self.tasks.all().filter(|(_, known)| waits(known)).map(|(id, _)| id.clone()).collect();
        for id in waiting {
            self.revise(&id, Some(definition.clone()));
        }
    }

    /// Tasks that a listing of those that are to run does not name, and that have not stopped: to be asked about.
    pub(in crate::ecs) fn unlisted_tasks(&self, listed: &BTreeSet<String>) -> Vec<String> {
        let unlisted = self.tasks.known.values().map(|known| &known.task);
        let unlisted = unlisted.filter(|task| task.status != TaskStatus::Stopped && !listed.contains(&task.arn));
        unlisted.map(|task| task.arn.clone()).collect()
    }

    pub(in crate::ecs) fn knows_task(&self, arn: &str) -> bool {
        id_of(arn, ":task/").is_some_and(|id| self.tasks.known.contains_key(&id))
    }

    /// A listing of tasks is complete.
    pub(in crate::ecs) fn complete_tasks(&mut self, listing: &Listing) {
        for known in self.tasks.known.values_mut().filter(|known| known.task.status != TaskStatus::Stopped) {
            if listing.named.contains(&known.task.arn) {
                known.absence.seen();
            } else if known.heard_ms < listing.began_ms {
                known.absence.lacked(listing.ended_ms);
            }
            if known.settle() {
                self.changed.nodes.insert(known.node.clone());
            }
        }
    }

    /// An instance came to be known: its tasks are there.
    pub(super) fn place_tasks_of(&mut self, instance_arn: &str) {
        let is_there = |known: &Known| {
            known.facts.as_ref().is_some_and(|facts| facts.instance_arn.as_deref() == Some(instance_arn))
        };
        let there: Vec<String> = self.tasks.all().filter(|(_, k)| is_there(k)).map(|(id, _)| id.clone()).collect();
        for id in there {
            self.revise(&id, None);
        }
    }

    /// The addresses of a machine changed.
    pub(super) fn convert_tasks_on(&mut self, machine: &Label) {
        let node = NodeKey { cluster: self.cluster.clone(), node: machine.clone() };
        let there: Vec<String> = self.tasks.places.tasks(&node).cloned().collect();
        for id in there {
            self.revise(&id, None);
        }
    }

    /// Tells a task anew, after something around it changed.
    fn revise(&mut self, id: &str, definition: Option<KnownDefinition>) {
        let Some(mut earlier) = self.tasks.known.remove(id) else { return };
        let Some(facts) = earlier.facts.take() else {
            self.tasks.known.insert(id.to_owned(), earlier);
            return;
        };
        let definition = definition.unwrap_or_else(|| earlier.definition.clone());
        let (heard_ms, absence) = (earlier.heard_ms, earlier.absence);
        self.keep(facts, definition, (Some(earlier), heard_ms, absence));
    }

    /// Converts and places a task. One in a part stays in it.
    fn keep(
        &mut self,
        facts: TaskFacts,
        definition: KnownDefinition,
        (earlier, heard_ms, absence): (Option<Known>, u64, Absence),
    ) {
        let machine = facts.instance_arn.as_deref().and_then(|arn| self.instances.machine_of(arn)).cloned();
        if let (None, Some(arn)) = (&machine, &facts.instance_arn) {
            self.instances.want(arn);
        }
        let host = match &machine {
            Some(machine) => Host::Instance(self.instances.addresses(machine)),
            None if facts.is_fargate => Host::Fargate,
            None => Host::NotKnown,
        };
        let around = Surroundings { cluster: &self.cluster, definition: &definition, host };
        let mut task = convert::task(&facts, around);
        if let (KnownDefinition::NotYet | KnownDefinition::Refused, Some(earlier)) = (&definition, &earlier) {
            carry_over(&mut task, &earlier.task);
        }
        let (node, parts) = match machine {
            Some(node) => (NodeKey { cluster: self.cluster.clone(), node }, None),
            None => {
                let kind = if facts.is_fargate { Kind::Fargate } else { Kind::Unplaced };
                let parts = Parts::of(&self.cluster, kind, &task);
                let stays = earlier.as_ref().filter(|earlier| earlier.parts.as_ref() == Some(&parts));
                let node = stays.map(|earlier| earlier.node.clone());
                (node.unwrap_or_else(|| self.tasks.places.part_with_room(&parts)), Some(parts))
            }
        };
        let id = task.id.clone();
        let is_urgent = earlier.as_ref().is_some_and(|earlier| earlier.is_urgent);
        let mut known = Known { facts: Some(facts), definition, task, node, parts, heard_ms, absence, is_urgent };
        known.settle();
        // A task that is new, or around which something became known, takes nothing from any answer.
        let can_wait = |earlier: &Known| (earlier.task.version, &earlier.node) == (known.task.version, &known.node);
        let can_wait = !is_urgent && earlier.as_ref().is_none_or(can_wait);
        if earlier.as_ref().is_none_or(|earlier| (&earlier.task, &earlier.node) != (&known.task, &known.node)) {
            let into = if can_wait { &mut self.changed.gathering } else { &mut self.changed.nodes };
            into.insert(known.node.clone());
        }
        if let Some(earlier) = earlier.filter(|earlier| earlier.node != known.node) {
            self.tasks.places.leave(&earlier.node, &id);
            self.changed.nodes.insert(earlier.node);
        }
        self.tasks.places.enter(&known.node, &id);
        self.tasks.known.insert(id, known);
    }

    /// A family's tasks belong to that service too. What was seen once stays.
    fn note_family(&mut self, facts: &TaskFacts) {
        let (Some(family), Some(service)) = (&facts.family, &facts.service) else { return };
        let services = self.families.entry(family.clone()).or_default();
        if services.len() < FAMILY_SERVICES_MAX && services.insert(service.name.clone()) {
            self.changed.families.insert(family.clone());
        }
    }
}
