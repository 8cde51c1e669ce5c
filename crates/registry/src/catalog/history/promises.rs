//! What holds in every history, whatever the model says.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::endpoint::{EndpointKey, State};
use portolan_core::evidence::{Health, Phase};
use portolan_core::name::{NodeKey, ServiceKey};

use super::super::Catalog;
use super::model::Model;
use super::steps::{Statement, Step};

/// What must be remembered to see a promise broken.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// The service of every endpoint that has one, until its sidecar says that it ended.
    services: BTreeMap<EndpointKey, ServiceKey>,
    /// Runs that ended, as their sidecar said: node, container, run.
    ended: BTreeSet<(NodeKey, String, u64)>,
    /// Runs that live, as their sidecar said.
    living: BTreeSet<(NodeKey, String, u64)>,
}

/// Where every endpoint is.
type Places = BTreeMap<EndpointKey, (ServiceKey, State)>;

/// A step that was made.
pub(super) struct Made<'a> {
    pub(super) step: &'a Step,
    pub(super) stated: &'a [Statement],
    pub(super) before: &'a Catalog,
    pub(super) after: &'a Catalog,
}

impl Promises {
    pub(super) fn check(&mut self, made: &Made<'_>, model: &Model) -> Result<(), String> {
        let Made { step, stated, before, after } = *made;
        stated.iter().for_each(|statement| self.remember(statement));
        let (were, are) = (places(before)?, places(after)?);
        self.deaths_are_final(&are)?;
        self.no_name_changes(&are)?;
        indexes_rise(before, after)?;
        if matches!(step, Step::Repeat | Step::Reload) {
            nothing_changed(before, after)?;
        }
        if stated.iter().all(|one| matches!(one, Statement::Silence(_, silence) if silence.passage.is_none())) {
            silence_removes_nothing(model, &were, &are)?;
        }
        if !matches!(step, Step::TenMinutes) && stated.iter().all(is_of_aws) {
            aws_only_drains(model, &were, &are)?;
        }
        Ok(())
    }

    fn remember(&mut self, statement: &Statement) {
        let Statement::Report(report) = statement else { return };
        let run = |container: &portolan_core::evidence::ContainerReport| {
            (report.node.clone(), container.id.clone(), container.run.0)
        };
        let running = report.containers.iter().filter(|container| !matches!(container.phase, Phase::Died(_)));
        let now: BTreeSet<_> = running.map(run).collect();
        let here = |living: &&(NodeKey, String, u64)| living.0 == report.node && !now.contains(*living);
        let ended: Vec<_> = self.living.iter().filter(here).cloned().collect();
        self.ended.extend(ended);
        self.living.retain(|living| living.0 != report.node);
        self.living.extend(now);
    }

    fn deaths_are_final(&self, are: &Places) -> Result<(), String> {
        let ended = |key: &EndpointKey| self.ended.contains(&(key.node.clone(), key.container_id.clone(), key.run.0));
        match are.keys().find(|key| ended(key)) {
            Some(key) => Err(format!("a run that ended is in an answer: {key:?}")),
            None => Ok(()),
        }
    }

    fn no_name_changes(&mut self, are: &Places) -> Result<(), String> {
        let ended = &self.ended;
        let is_over = |key: &EndpointKey| ended.contains(&(key.node.clone(), key.container_id.clone(), key.run.0));
        self.services.retain(|key, _| !is_over(key));
        // One that starts may still wait for its name, and whoever declares a place names it.
        let is_named = |key: &EndpointKey, state: State| state != State::Starting && !is_declared(key);
        for (key, (service, _)) in are.iter().filter(|(key, (_, state))| is_named(key, *state)) {
            let before = self.services.entry(key.clone()).or_insert_with(|| service.clone());
            if before != service {
                return Err(format!("{key:?} was of {before}, and is of {service} now"));
            }
        }
        Ok(())
    }
}

/// # Errors
/// When an endpoint is in two services. A declared place may be: one database has several names now and then.
fn places(catalog: &Catalog) -> Result<Places, String> {
    let mut places = Places::new();
    for service in catalog.view.services.values() {
        for endpoint in service.known_endpoints().into_iter().flat_map(|endpoints| endpoints.iter()) {
            let place = (service.key.clone(), endpoint.state);
            if let Some((other, _)) = places.insert(endpoint.key.clone(), place).filter(|_| !is_declared(&endpoint.key))
            {
                return Err(format!("{:?} is in {other} and in {}", endpoint.key, service.key));
            }
        }
    }
    Ok(places)
}

fn is_declared(key: &EndpointKey) -> bool {
    key.node.node.as_str() == "external"
}

fn indexes_rise(before: &Catalog, after: &Catalog) -> Result<(), String> {
    if after.view.index < before.view.index || after.revision < before.revision {
        return Err(format!("the index went from {} to {}", before.view.index, after.view.index));
    }
    for key in before.view.services.keys().chain(after.view.services.keys()) {
        let (was, is) = (before.service_index(key), after.service_index(key));
        if is < was || is > after.view.index.max(after.first_index) {
            return Err(format!("the index of {key} went from {was} to {is}"));
        }
    }
    Ok(())
}

fn nothing_changed(before: &Catalog, after: &Catalog) -> Result<(), String> {
    if after.view == before.view && after.events.len() == before.events.len() {
        return Ok(());
    }
    let of = |catalog: &Catalog| -> Vec<_> { catalog.view.services.values().cloned().collect() };
    let (were, are) = (of(before), of(after));
    let changed: Vec<_> = were.iter().filter(|was| !are.contains(was)).collect();
    Err(format!("nothing new was stated, and changed: {changed:#?}, of {} services {}", were.len(), are.len()))
}

fn is_answered(state: State) -> bool {
    !matches!(state, State::Starting | State::Gone)
}

fn silence_removes_nothing(model: &Model, were: &Places, are: &Places) -> Result<(), String> {
    if model.is_ecs_used {
        return Ok(());
    }
    for (key, (service, state)) in were.iter().filter(|(_, (_, state))| is_answered(*state)) {
        if !are.get(key).is_some_and(|(now, state)| now == service && is_answered(*state)) {
            return Err(format!("{key:?} of {service} was {state:?}, and silence alone removed it"));
        }
    }
    Ok(())
}

fn is_of_aws(statement: &Statement) -> bool {
    match statement {
        Statement::Ecs(..)
        | Statement::Cluster(_)
        | Statement::Family(..)
        | Statement::Alone(_)
        | Statement::Absence(..) => true,
        Statement::Report(_)
        | Statement::Silence(..)
        | Statement::Probe(..)
        | Statement::Order(..)
        | Statement::Declared(..)
        | Statement::Found(..) => false,
    }
}

fn aws_only_drains(model: &Model, were: &Places, are: &Places) -> Result<(), String> {
    for (key, (service, state)) in were {
        let report = model.reports.get(&key.node).filter(|_| !model.silences.contains_key(&key.node));
        let container =
            report.and_then(|report| report.containers.iter().find(|c| c.id == key.container_id && c.run == key.run));
        let passes = container.is_some_and(|container| {
            container.phase == Phase::Running && container.ports.iter().all(|port| port.health == Health::Passing)
        });
        let is_kept = match (state, are.get(key)) {
            (_, None) => false,
            (State::Starting, Some(_)) => true,
            (_, Some((now, state))) => now == service && matches!(state, State::Usable | State::Draining { .. }),
        };
        if passes && !is_kept {
            return Err(format!(
                "{key:?} of {service} was {state:?}, its sidecar says it passes, and ECS alone removed it"
            ));
        }
    }
    Ok(())
}
