//! What is known of one cluster: listings and events merged by version, and what of it has to be stated.
//!
//! ```text
//! listings ─┐
//! events ───┼─> tasks, instances, services ──changed──> statements ──> intake
//! lookups ──┘
//! ```
//!
//! Pure: time is an argument. An older or equal version changes nothing, whatever it came by; what a listing does not name
//! stays as it is, until two complete ones lack it. What the store held at the start counts until something newer is heard.
//!
//! - [`tasks`]: tasks, and their containers once the definition is there; [`places`]: under which node each is stated.
//! - [`instances`]: container instances and their machines; [`services`]: services, for people.
//! - [`forget`]: what has ended for long enough; [`statements`]: what the store should hold and does not.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::name::{Label, NodeKey};

use crate::intake::statement::Held;
use crate::store::evidence::ClusterRecord;

mod forget;
mod instances;
mod places;
mod services;
mod statements;
mod tasks;

use instances::Instances;
use services::Services;
pub(super) use statements::Plan;
use tasks::Tasks;

/// How old an event may be that tells of something new: an older one is left to the listings, which know what has ended
/// since, milliseconds.
const EVENT_AGE_MAX_MS: u64 = 600_000;

/// One cluster.
#[derive(Debug)]
pub(super) struct Knowledge {
    cluster: Label,
    record: Option<ClusterRecord>,
    tasks: Tasks,
    instances: Instances,
    services: Services,
    /// Services of each family's tasks.
    families: BTreeMap<Label, BTreeSet<String>>,
    changed: Changed,
    /// What the store holds.
    stated: BTreeMap<NodeKey, Stated>,
}

/// What may have to be stated.
#[derive(Debug, Default)]
struct Changed {
    has_record: bool,
    nodes: BTreeSet<NodeKey>,
    /// Those that can wait a little for more.
    gathering: BTreeSet<NodeKey>,
    families: BTreeSet<Label>,
}

/// What the store holds of a node.
#[derive(Debug, Default)]
struct Stated {
    fingerprint: u64,
    /// When it was stated, Unix milliseconds; 0: before the start.
    at_ms: u64,
}

/// By what something was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// AWS answered a call.
    Answer,
    /// An event of that time, Unix milliseconds.
    Event(u64),
}

/// A complete listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// When it began and ended, Unix milliseconds.
    pub(super) began_ms: u64,
    pub(super) ended_ms: u64,
    /// ARNs that it names, or that AWS spoke of otherwise.
    pub(super) named: BTreeSet<String>,
}

/// How much is known, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) tasks: usize,
    pub(super) missing: usize,
    pub(super) instances: usize,
}

impl Knowledge {
    /// Begins with what the store holds of the cluster.
    pub(super) fn new(cluster: &Label, held: &Held, now_ms: u64) -> Knowledge {
        let families = held.families.iter().filter(|((own, _), _)| own == cluster);
        let families =
            families.map(|((_, family), record)| (family.clone(), record.services.iter().cloned().collect())).collect();
        let services = held.services.iter().filter(|(key, _)| &key.cluster == cluster);
        let mut knowledge = Knowledge {
            cluster: cluster.clone(),
            record: held.clusters.get(cluster).cloned(),
            tasks: Tasks::default(),
            instances: Instances::default(),
            services: Services::held(services.map(|(key, record)| (key.service.clone(), record.clone()))),
            families,
            changed: Changed::default(),
            stated: BTreeMap::new(),
        };
        for (node, report) in held.reports.iter().filter(|(node, _)| &node.cluster == cluster) {
            let fingerprint = statements::fingerprint(report);
            knowledge.stated.insert(node.clone(), Stated { fingerprint, at_ms: 0 });
            if let Some(instance) = &report.instance {
                knowledge.instances.hold(&node.node, instance, now_ms);
            }
            for task in &report.tasks {
                if !knowledge.tasks.hold(node, task, now_ms) {
                    knowledge.changed.nodes.insert(node.clone());
                }
            }
        }
        knowledge
    }

    /// The cluster was listed in full: by now its ARN is known, unless nobody may ask for it.
    pub(super) fn confirm(&mut self, arn: &str, now_ms: u64) {
        let since_ms = self.record.as_ref().map_or(now_ms, |record| record.since_ms);
        let record = ClusterRecord { arn: arn.to_owned(), since_ms };
        if self.record.as_ref() != Some(&record) {
            self.record = Some(record);
            self.changed.has_record = true;
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let (tasks, missing) = self.tasks.counts();
        Counts { tasks, missing, instances: self.instances.len() }
    }
}

#[cfg(test)]
mod tests;
