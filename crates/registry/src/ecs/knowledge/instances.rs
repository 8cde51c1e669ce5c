//! Container instances by their ARNs, and the machines that they are. An instance that registers again has another ARN: the
//! node is the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portolan_core::ecs::{Instance, InstanceStatus};
use portolan_core::name::{Label, NodeKey};

use super::{EVENT_AGE_MAX_MS, Knowledge, Listing, Voice};
use crate::ecs::absence::Absence;
use crate::ecs::facts::{InstanceFacts, Registration};
use crate::ecs::machine::Machine;

/// How many are known of one cluster; ECS allows 5,000.
const INSTANCES_MAX: usize = 20_000;

/// All of a cluster.
#[derive(Debug, Default)]
pub(super) struct Instances {
    by_arn: BTreeMap<String, Known>,
    machines: BTreeMap<Label, Held>,
    /// ARNs that tasks name and that are not known.
    wanted: BTreeSet<String>,
}

/// How many wait to be asked about; more are seen at the next listing.
const WANTED_MAX: usize = 1_000;

/// What ECS said of one registration.
#[derive(Debug)]
struct Known {
    machine: Label,
    registration: Registration,
    /// `None`: it is known from before the start.
    version: Option<u64>,
    az: Option<String>,
    /// When AWS last spoke of it, Unix milliseconds.
    heard_ms: u64,
    absence: Absence,
}

/// A machine, and what follows.
#[derive(Debug)]
struct Held {
    machine: Machine,
    /// Of all its registrations.
    arns: BTreeSet<String>,
    /// The ARN that is stated, and the status.
    arn: String,
    status: InstanceStatus,
    /// Since when ECS holds none of its registrations, Unix milliseconds.
    over_since_ms: Option<u64>,
}

impl Instances {
    pub(super) fn len(&self) -> usize {
        self.machines.len()
    }

    /// What was stated before the start.
    pub(super) fn hold(&mut self, node: &Label, instance: &Instance, now_ms: u64) {
        let known = Known {
            machine: node.clone(),
            registration: Registration::Active,
            version: None,
            az: instance.az.clone(),
            heard_ms: 0,
            absence: Absence::default(),
        };
        self.by_arn.insert(instance.arn.clone(), known);
        self.machines.insert(node.clone(), Held::new(Machine::held(instance, now_ms), &instance.arn));
        self.settle(node, now_ms);
    }

    /// The machine of a registration.
    pub(super) fn machine_of(&self, arn: &str) -> Option<&Label> {
        self.by_arn.get(arn).map(|known| &known.machine)
    }

    pub(super) fn addresses(&self, machine: &Label) -> &[IpAddr] {
        self.machines.get(machine).map_or(&[], |held| &held.machine.addresses)
    }

    /// As it is stated.
    pub(super) fn instance(&self, machine: &Label) -> Option<Instance> {
        let held = self.machines.get(machine)?;
        let az = self.by_arn.get(&held.arn).and_then(|known| known.az.clone());
        Some(Instance {
            arn: held.arn.clone(),
            ec2_id: machine.to_string(),
            status: held.status,
            addresses: held.machine.addresses.clone(),
            az: az.or_else(|| held.machine.az.clone()),
            first_seen_ms: held.machine.first_seen_ms,
        })
    }

    /// Machines that are no longer registered: since when, and whether they ended.
    pub(super) fn over(&self) -> impl Iterator<Item = (&Label, u64, bool)> {
        self.machines
            .iter()
            .filter_map(|(label, held)| Some((label, held.over_since_ms?, held.status == InstanceStatus::Terminated)))
    }

    pub(super) fn forget(&mut self, machine: &Label) {
        self.machines.remove(machine);
        self.by_arn.retain(|_, known| &known.machine != machine);
    }

    /// A task runs on an instance that is not known: it is asked about soon.
    pub(super) fn want(&mut self, arn: &str) {
        if self.wanted.len() < WANTED_MAX {
            self.wanted.insert(arn.to_owned());
        }
    }

    fn add(&mut self, facts: InstanceFacts, now_ms: u64) {
        let InstanceFacts { arn, ec2_id, registration, version, az, .. } = facts;
        let held = self.machines.entry(ec2_id.clone()).or_insert_with(|| {
            let mut machine = Machine::new(now_ms);
            if !ec2_id.as_str().starts_with("i-") {
                machine.never_ask();
            }
            Held::new(machine, &arn)
        });
        held.arns.insert(arn.clone());
        let (version, absence) = (Some(version), Absence::default());
        self.by_arn.insert(arn, Known { machine: ec2_id, registration, version, az, heard_ms: now_ms, absence });
    }

    /// Takes in what was heard of one that is known. Whether it is news.
    fn hear(&mut self, facts: InstanceFacts, voice: Voice, now_ms: u64) -> bool {
        let Some(known) = self.by_arn.get_mut(&facts.arn) else { return false };
        let is_newer = known.version.is_none_or(|version| facts.version > version);
        // Without versions only the order of calls is left.
        let is_unversioned = facts.version == 0 && voice == Voice::Answer;
        if is_newer || voice == Voice::Answer {
            known.heard_ms = now_ms;
            known.absence.seen();
        }
        if !is_newer && !is_unversioned {
            return false;
        }
        let is_again = known.registration == facts.registration && known.version.is_some();
        (known.registration, known.az, known.version) = (facts.registration, facts.az, Some(facts.version));
        if let Some(held) = self.machines.get_mut(&known.machine).filter(|_| is_newer || !is_again) {
            held.machine.registered(facts.registration, facts.is_connected);
        }
        true
    }

    /// Works out what follows for a machine. Whether anything that is stated changed.
    fn settle(&mut self, label: &Label, now_ms: u64) -> bool {
        let Some(held) = self.machines.get_mut(label) else { return false };
        let own = held.arns.iter().filter_map(|arn| Some((arn, self.by_arn.get(arn)?)));
        // The registration that ECS still holds counts, and of several the one that was heard of last.
        let is_held = |known: &Known| known.registration != Registration::Inactive && !known.absence.is_missing();
        let chosen = own.max_by_key(|(arn, known)| (is_held(known), known.heard_ms, *arn));
        let Some((arn, known)) = chosen else { return false };
        let status = held.machine.status(known.registration, known.absence.is_missing(), now_ms);
        held.over_since_ms = (!is_held(known)).then(|| held.over_since_ms.unwrap_or(now_ms));
        let is_changed = (&held.arn, held.status) != (arn, status);
        (held.arn, held.status) = (arn.clone(), status);
        is_changed
    }
}

impl Held {
    fn new(machine: Machine, arn: &str) -> Held {
        Held {
            machine,
            arns: [arn.to_owned()].into(),
            arn: arn.to_owned(),
            status: InstanceStatus::Active,
            over_since_ms: None,
        }
    }
}

impl Knowledge {
    /// Takes in what was heard of an instance.
    pub(in crate::ecs) fn hear_instance(&mut self, facts: InstanceFacts, voice: Voice, now_ms: u64) {
        let arn = facts.arn.clone();
        let is_known = self.instances.by_arn.contains_key(&arn);
        let is_old = matches!(voice, Voice::Event(at_ms) if now_ms.saturating_sub(at_ms) > EVENT_AGE_MAX_MS);
        if is_known {
            if !self.instances.hear(facts, voice, now_ms) {
                // It may have been missing.
                if let Some(label) = self.instances.machine_of(&arn).cloned() {
                    self.settle_machines(vec![label], now_ms);
                }
                return;
            }
        } else if is_old || self.instances.by_arn.len() >= INSTANCES_MAX {
            return;
        } else {
            self.instances.add(facts, now_ms);
            self.place_tasks_of(&arn);
        }
        if let Some(label) = self.instances.machine_of(&arn).cloned() {
            self.instances.settle(&label, now_ms);
            self.change_machine(&label);
        }
    }

    /// EC2 said this of a machine, if it is one of this cluster's.
    pub(in crate::ecs) fn hear_machine(&mut self, id: &Label, now_ms: u64, change: impl FnOnce(&mut Machine)) {
        let Some(held) = self.instances.machines.get_mut(id) else { return };
        let before = (held.machine.addresses.clone(), held.machine.az.clone());
        change(&mut held.machine);
        let has_moved = before != (held.machine.addresses.clone(), held.machine.az.clone());
        if has_moved {
            self.convert_tasks_on(id);
        }
        if self.instances.settle(id, now_ms) || has_moved {
            self.change_machine(id);
        }
    }

    /// Instances to ask about now, at most `count`.
    pub(in crate::ecs) fn wanted_instances(&mut self, count: usize) -> Vec<String> {
        let some: Vec<String> = self.instances.wanted.iter().take(count).cloned().collect();
        for arn in &some {
            self.instances.wanted.remove(arn);
        }
        some
    }

    /// Machines that EC2 is to be asked about now, at most `count`.
    pub(in crate::ecs) fn due_machines(&mut self, count: usize, now_ms: u64) -> Vec<Label> {
        let due = self.instances.machines.iter_mut().filter(|(_, held)| held.machine.is_due(now_ms)).take(count);
        due.map(|(label, held)| {
            held.machine.asked(now_ms);
            label.clone()
        })
        .collect()
    }

    /// Instances that are known and that a listing lacks.
    pub(in crate::ecs) fn unlisted_instances(&self, listed: &BTreeSet<String>) -> Vec<String> {
        let unlisted = self
            .instances
            .by_arn
            .iter()
            .filter(|(arn, known)| known.registration != Registration::Inactive && !listed.contains(*arn));
        unlisted.map(|(arn, _)| arn.clone()).collect()
    }

    /// A listing of instances is complete.
    pub(in crate::ecs) fn complete_instances(&mut self, listing: &Listing, now_ms: u64) {
        let mut touched = Vec::new();
        for (arn, known) in &mut self.instances.by_arn {
            if listing.named.contains(arn) {
                known.absence.seen();
            } else if known.heard_ms < listing.began_ms {
                let was_missing = known.absence.is_missing();
                known.absence.lacked(listing.ended_ms);
                if let Some(held) = self.instances.machines.get_mut(&known.machine).filter(|_| !was_missing) {
                    held.machine.ask_soon();
                }
            }
            touched.push(known.machine.clone());
        }
        self.settle_machines(touched, now_ms);
    }

    /// Takes the passing of time in.
    pub(super) fn settle_all_machines(&mut self, now_ms: u64) {
        let all = self.instances.machines.keys().cloned().collect();
        self.settle_machines(all, now_ms);
    }

    fn settle_machines(&mut self, machines: Vec<Label>, now_ms: u64) {
        for machine in machines {
            if self.instances.settle(&machine, now_ms) {
                self.change_machine(&machine);
            }
        }
    }

    fn change_machine(&mut self, machine: &Label) {
        self.changed.nodes.insert(NodeKey { cluster: self.cluster.clone(), node: machine.clone() });
    }
}
