//! Services: what ECS says of each, for people. They have no version: what was asked for last counts.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::name::{Label, ServiceKey, service_label};
use portolan_core::refusal::shown;

use super::{Knowledge, Listing};
use crate::ecs::absence::Absence;
use crate::ecs::api;
use crate::intake::statement::Statement;
use crate::store::evidence::{Deployment, ServiceRecord};

/// How many are known of one cluster; ECS allows 5,000.
const SERVICES_MAX: usize = 20_000;
/// How many wait to be asked about; more are seen at the next listing.
const WANTED_MAX: usize = 1_000;
const DEPLOYMENTS_MAX: usize = 20;
const NAME_CHARACTERS_MAX: usize = 255;
const REASON_CHARACTERS_MAX: usize = 400;

/// All of a cluster.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// By their ARNs.
    known: BTreeMap<String, Known>,
    stated: BTreeMap<Label, ServiceRecord>,
    /// ARNs of those to which something happened.
    wanted: BTreeSet<String>,
    is_changed: bool,
}

#[derive(Debug)]
struct Known {
    label: Label,
    record: ServiceRecord,
    heard_ms: u64,
    absence: Absence,
}

impl Services {
    /// What was stated before the start.
    pub(super) fn held(held: impl Iterator<Item = (Label, ServiceRecord)>) -> Services {
        let mut services = Services::default();
        for (label, record) in held {
            let known =
                Known { label: label.clone(), record: record.clone(), heard_ms: 0, absence: Absence::default() };
            services.known.insert(record.arn.clone(), known);
            services.stated.insert(label, record);
        }
        services
    }

    /// What has to be stated. Of two services with one label, the one that was stated first stays.
    pub(super) fn plan(&mut self, cluster: &Label) -> Vec<Statement> {
        if !std::mem::take(&mut self.is_changed) {
            return Vec::new();
        }
        let mut due: BTreeMap<Label, &ServiceRecord> = BTreeMap::new();
        for known in self.known.values() {
            let owns = self.stated.get(&known.label).is_some_and(|stated| stated.name == known.record.name);
            if owns || !due.contains_key(&known.label) {
                due.insert(known.label.clone(), &known.record);
            }
        }
        let key = |label: &Label| ServiceKey { cluster: cluster.clone(), service: label.clone() };
        let gone = self.stated.keys().filter(|label| !due.contains_key(*label));
        let mut statements: Vec<_> = gone.map(|label| Statement::Service(key(label), None)).collect();
        let news = due.iter().filter(|(label, record)| self.stated.get(*label) != Some(*record));
        statements.extend(news.map(|(label, record)| Statement::Service(key(label), Some((*record).clone()))));
        statements
    }

    /// The statements are in the store.
    pub(super) fn settle(&mut self, statements: &[Statement]) {
        for statement in statements {
            match statement {
                Statement::Service(key, Some(record)) => drop(self.stated.insert(key.service.clone(), record.clone())),
                Statement::Service(key, None) => drop(self.stated.remove(&key.service)),
                _ => {}
            }
        }
    }

    /// They may be in the store or not.
    pub(super) fn restore(&mut self) {
        self.is_changed = true;
    }
}

impl Knowledge {
    /// Takes in what AWS answered of a service.
    pub(in crate::ecs) fn hear_service(&mut self, service: &api::Service, now_ms: u64) {
        let (services, arn) = (&mut self.services, &service.service_arn);
        let is_over = service.status == "INACTIVE";
        let Ok(label) = service_label(&service.service_name) else { return };
        if is_over {
            services.is_changed |= services.known.remove(arn).is_some();
        } else if arn.len() <= 512 && (services.known.len() < SERVICES_MAX || services.known.contains_key(arn)) {
            let record = read(service);
            let known = Known { label, record, heard_ms: now_ms, absence: Absence::default() };
            let before = services.known.insert(arn.clone(), known);
            services.is_changed |=
                before.map(|before| before.record) != services.known.get(arn).map(|k| k.record.clone());
        }
    }

    /// Something happened to the service with this ARN: it is asked about soon.
    pub(in crate::ecs) fn want_service(&mut self, arn: &str) {
        if self.services.wanted.len() < WANTED_MAX && arn.len() <= 512 {
            self.services.wanted.insert(arn.to_owned());
        }
    }

    /// Services to ask about now, at most `count`.
    pub(in crate::ecs) fn wanted_services(&mut self, count: usize) -> Vec<String> {
        let some: Vec<String> = self.services.wanted.iter().take(count).cloned().collect();
        for arn in &some {
            self.services.wanted.remove(arn);
        }
        some
    }

    /// A listing of services is complete.
    pub(in crate::ecs) fn complete_services(&mut self, listing: &Listing) {
        for (arn, known) in &mut self.services.known {
            if listing.named.contains(arn) {
                known.absence.seen();
            } else if known.heard_ms < listing.began_ms {
                known.absence.lacked(listing.ended_ms);
            }
        }
        let before = self.services.known.len();
        self.services.known.retain(|_, known| !known.absence.is_missing());
        self.services.is_changed |= self.services.known.len() != before;
    }
}

fn read(service: &api::Service) -> ServiceRecord {
    let mut deployments: Vec<_> = service.deployments.iter().take(DEPLOYMENTS_MAX).map(read_deployment).collect();
    deployments.sort_by(|a, b| (a.status != "PRIMARY", &a.id).cmp(&(b.status != "PRIMARY", &b.id)));
    ServiceRecord {
        name: shown(&service.service_name, NAME_CHARACTERS_MAX),
        arn: service.service_arn.clone(),
        desired: service.desired_count,
        running: service.running_count,
        pending: service.pending_count,
        deployments,
    }
}

fn read_deployment(deployment: &api::ServiceDeployment) -> Deployment {
    let definition = deployment.task_definition.rsplit('/').next().unwrap_or_default();
    Deployment {
        id: shown(&deployment.id, 80),
        status: shown(&deployment.status, 40),
        rollout_state: shown(&deployment.rollout_state, 40),
        reason: shown(&deployment.rollout_state_reason, REASON_CHARACTERS_MAX),
        task_definition: shown(definition, NAME_CHARACTERS_MAX),
        desired: deployment.desired_count,
        running: deployment.running_count,
        failed: deployment.failed_tasks,
    }
}
