//! The model's names: what each endpoint is called, and whose each name is (DESIGN section 3), as plainly as the model.

use std::collections::BTreeMap;

use portolan_core::endpoint::{EndpointKey, State};
use portolan_core::name::{Label, NodeKey, ServiceKey, service_label};
use portolan_core::naming::NameSource;

use super::model::{Model, Spoken};
use crate::store::record::Owner;
use crate::testing::service;

/// Names that were given and to whom they belong.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// What a port of a container is called, for as long as anybody speaks of it.
    given: BTreeMap<Port, Given>,
    /// Whose each known service is.
    owners: BTreeMap<Label, Claim>,
}

type Port = (NodeKey, String, u16);

/// A name, and who may call itself so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    name: Label,
    claim: Claim,
}

/// Who claims a name: by what, and what of that tells two claimants apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    source: NameSource,
    ecs_service: Option<String>,
    family: Option<Label>,
}

/// An endpoint where the model puts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) key: EndpointKey,
    /// `None`: in no answer.
    pub(super) state: Option<State>,
    /// Another owner has the name.
    pub(super) is_refused: bool,
}

/// The endpoints of every known service, and those that have no name yet.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) known: BTreeMap<ServiceKey, Vec<Expected>>,
    pub(super) waiting: Vec<EndpointKey>,
}

impl Claim {
    /// A stranger has another family and came by another way to the name.
    fn is_same_owner(&self, other: &Claim) -> bool {
        let same_way = self.source == other.source
            && (self.source != NameSource::EcsService || self.ecs_service == other.ecs_service)
            && (self.source != NameSource::Family || self.family == other.family);
        same_way || (self.family.is_some() && self.family == other.family)
    }
}

impl Names {
    /// Names what has none and what may have one, and gives names without an owner away. Where two ask in one step the
    /// contract only says that one gets it: `stored` says which.
    pub(super) fn settle(&mut self, model: &Model, stored: impl Fn(&Label) -> Option<Owner>) {
        let spoken = model.spoken();
        let ports: Vec<Port> = spoken.iter().map(port).collect();
        self.given.retain(|port, _| ports.contains(port));
        for one in &spoken {
            if !self.given.contains_key(&port(one))
                && let Some(given) = choose(model, one)
            {
                self.given.insert(port(one), given);
            }
        }
        for one in &spoken {
            let Some(given) = self.given.get(&port(one)).cloned() else { continue };
            if self.owners.contains_key(&given.name) || !asks(model, one, &given) {
                continue;
            }
            let rivals = spoken.iter().filter_map(|one| {
                let theirs = self.given.get(&port(one)).filter(|theirs| theirs.name == given.name)?;
                asks(model, one, theirs).then_some(&theirs.claim)
            });
            let chosen = stored(&given.name);
            let is_chosen = |claim: &&Claim| {
                chosen.as_ref().is_none_or(|owner| owner.source == claim.source && owner.family == claim.family)
            };
            let winner = rivals.clone().find(is_chosen).unwrap_or(&given.claim).clone();
            self.owners.insert(given.name, winner);
        }
    }

    /// What still waits for ECS after 5 s is called by the next best name.
    pub(super) fn stop_waiting(&mut self, model: &Model) {
        for one in model.spoken() {
            if !self.given.contains_key(&port(&one))
                && let Some(given) = weaker(&one)
            {
                self.given.insert(port(&one), given);
            }
        }
    }

    /// What the history's end of ten minutes does: a name whose owner has nothing left is anybody's.
    pub(super) fn release_the_empty(&mut self, model: &Model) {
        let spoken = model.spoken();
        let is_owned = |name: &Label, owner: &Claim| {
            spoken.iter().any(|one| {
                let given = self.given.get(&port(one)).filter(|given| given.name == *name);
                given.is_some_and(|given| given.claim.is_same_owner(owner) && asks(model, one, given))
            })
        };
        let asked = |name: &Label| {
            spoken.iter().any(|one| {
                self.given.get(&port(one)).is_some_and(|given| given.name == *name && asks(model, one, given))
            })
        };
        let free: Vec<Label> = self
            .owners
            .iter()
            .filter(|(name, owner)| asked(name) && !is_owned(name, owner))
            .map(|(n, _)| n.clone())
            .collect();
        free.iter().for_each(|name| drop(self.owners.remove(name)));
    }

    pub(super) fn services(&self, model: &Model) -> Services {
        let mut services = Services::default();
        for name in self.owners.keys() {
            services.known.insert(service(name.as_str()), Vec::new());
        }
        for one in model.spoken() {
            let Some(given) = self.given.get(&port(&one)) else {
                services.waiting.push(one.key);
                continue;
            };
            let name = service(given.name.as_str());
            let Some(owner) = self.owners.get(&given.name) else { continue };
            let state = model.state(&one, &name);
            let is_refused = !owner.is_same_owner(&given.claim);
            services.known.entry(name).or_default().push(Expected { key: one.key, state, is_refused });
        }
        services
    }
}

fn port(spoken: &Spoken<'_>) -> Port {
    (spoken.key.node.clone(), spoken.key.container_id.clone(), spoken.key.container_port)
}

/// What is gone asks for no name; nor what is in no answer.
fn asks(model: &Model, spoken: &Spoken<'_>, given: &Given) -> bool {
    let state = model.state(spoken, &service(given.name.as_str()));
    state.is_some_and(|state| state != State::Gone)
}

/// The first match of section 3. `None`: it waits until ECS says which service it belongs to.
fn choose(model: &Model, spoken: &Spoken<'_>) -> Option<Given> {
    let offered = &spoken.container.candidates;
    let given = |source, name: &Label, ecs_service: Option<&String>| {
        let claim = Claim { source, ecs_service: ecs_service.cloned(), family: offered.family.clone() };
        Some(Given { name: name.clone(), claim })
    };
    if let Some(name) = &offered.label {
        return given(NameSource::Label, name, None);
    }
    if let Some(name) = &spoken.port.registrator_name {
        return given(NameSource::RegistratorPort, name, None);
    }
    if let Some(name) = &offered.registrator {
        return given(NameSource::Registrator, name, None);
    }
    let family_services = offered.family.as_ref().and_then(|family| model.families.get(family));
    let task = spoken.container.task_id.as_ref();
    match (spoken.task, task, family_services.map(Vec::as_slice)) {
        (Some(task), ..) => {
            if let Some(service) = &task.service {
                return given(NameSource::EcsService, &service.label, Some(&service.name));
            }
        }
        (None, Some(_), Some([name])) => {
            let label = service_label(name).expect("the histories' services can be names");
            return given(NameSource::EcsService, &label, Some(name));
        }
        (None, Some(_), _) if model.is_ecs_used => return None,
        (None, ..) => {}
    }
    weaker(spoken)
}

/// What it is called where ECS has no name for it.
fn weaker(spoken: &Spoken<'_>) -> Option<Given> {
    let offered = &spoken.container.candidates;
    let names = [
        (NameSource::Compose, &offered.compose),
        (NameSource::Family, &offered.family),
        (NameSource::Container, &offered.container),
    ];
    let (source, name) = names.into_iter().find_map(|(source, name)| Some((source, name.as_ref()?)))?;
    Some(Given { name: name.clone(), claim: Claim { source, ecs_service: None, family: offered.family.clone() } })
}
