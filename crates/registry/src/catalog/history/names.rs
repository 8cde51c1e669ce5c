//! The model's names: what each endpoint is called, and whose each name is (DESIGN section 3), as plainly as the model.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portolan_core::endpoint::{EndpointKey, Protocol, Run, State};
use portolan_core::evidence::Phase;
use portolan_core::name::{Label, NodeKey, ServiceKey, service_label};
use portolan_core::naming::NameSource;

use super::model::{Model, Spoken};
use super::{NAME_HELD_MS, NAME_WAIT_MS};
use crate::store::record::Owner;
use crate::testing::{node, service};

/// Names that were given and to whom they belong.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// What a port of a container is called.
    given: BTreeMap<Port, Given>,
    /// Since when those wait that have no name yet.
    waiting: BTreeMap<Port, u64>,
    /// Whose each known service is.
    owners: BTreeMap<Label, Owned>,
}

type Port = (NodeKey, String, u16);

/// A name, and who may call itself so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    name: Label,
    claim: Claim,
}

/// Who owns a name, and since when it has nothing left.
#[derive(Debug)]
struct Owned {
    owner: Claim,
    empty_since_ms: Option<u64>,
}

/// An endpoint that has a name, if its owner lets it; or, without a key, the declaration of a service.
struct Claimed {
    key: Option<EndpointKey>,
    given: Given,
    state: Option<State>,
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
    /// Two ECS services are two owners, and so is a standalone family. What else has the same family is no stranger.
    fn is_same_owner(&self, other: &Claim) -> bool {
        let is_same_family = self.family.is_some() && self.family == other.family;
        match (self.source, other.source) {
            (NameSource::EcsService, NameSource::EcsService) => self.ecs_service == other.ecs_service,
            (NameSource::Family, NameSource::Family) => is_same_family,
            (one, another) => one == another || is_same_family,
        }
    }
}

impl Names {
    /// Names what has none and what may have one, and gives names without an owner away. Where two ask in one step the
    /// contract only says that one gets it: `stored` says which.
    pub(super) fn settle(&mut self, model: &Model, now_ms: u64, stored: impl Fn(&Label) -> Option<Owner>) {
        let spoken = model.spoken();
        let living = || spoken.iter().filter(|one| !matches!(one.container.phase, Phase::Died(_)));
        let ports: Vec<Port> = living().map(port).collect();
        self.waiting.retain(|port, _| ports.contains(port));
        for one in living() {
            if self.given.contains_key(&port(one)) {
                continue;
            }
            let since_ms = *self.waiting.entry(port(one)).or_insert(now_ms);
            let is_over = now_ms - since_ms >= NAME_WAIT_MS;
            if let Some(given) = choose(model, one).or_else(|| weaker(one).filter(|_| is_over)) {
                self.waiting.remove(&port(one));
                self.given.insert(port(one), given);
            }
        }
        let claims = self.claims(model);
        // A name is kept for an owner that has nothing left, for a time.
        self.owners.retain(|name, owned| {
            let is_empty = !asking(&claims, name).any(|one| one.given.claim.is_same_owner(&owned.owner));
            owned.empty_since_ms = is_empty.then(|| owned.empty_since_ms.unwrap_or(now_ms));
            let is_over = owned.empty_since_ms.is_some_and(|since_ms| now_ms - since_ms >= NAME_HELD_MS);
            !is_over || asking(&claims, name).next().is_none()
        });
        for name in claims.iter().filter(|one| one.asks()).map(|one| &one.given.name) {
            let chosen = stored(name);
            let is_chosen = |rival: &&Claimed| {
                let stored = chosen.as_ref().map(|owner| (owner.source, &owner.ecs_service, &owner.family));
                let claim = &rival.given.claim;
                stored.is_none_or(|stored| stored == (claim.source, &claim.ecs_service, &claim.family))
            };
            if let Some(winner) = asking(&claims, name).find(is_chosen).or_else(|| asking(&claims, name).next()) {
                let owned = Owned { owner: winner.given.claim.clone(), empty_since_ms: None };
                self.owners.entry(name.clone()).or_insert(owned);
            }
        }
    }

    /// Everything that has a name, with its state.
    fn claims(&self, model: &Model) -> Vec<Claimed> {
        let mut claims = Vec::new();
        for one in model.spoken() {
            let Some(given) = self.given.get(&port(&one)).cloned() else { continue };
            let state = model.state(&one, &service(given.name.as_str()));
            claims.push(Claimed { key: Some(one.key), given, state });
        }
        for declared in model.declared.keys() {
            let claim = Claim { source: NameSource::External, ecs_service: None, family: None };
            let given = Given { name: declared.service.clone(), claim };
            for ((host, address), state) in model.external(declared) {
                let key = Some(external_key(&host, address));
                claims.push(Claimed { key, given: given.clone(), state: Some(state) });
            }
            // What is declared is known, wherever it is.
            claims.push(Claimed { key: None, given, state: None });
        }
        claims
    }

    /// What nobody speaks of any more loses its name, once that `is_forgotten`. The contract says that it keeps it while it
    /// lives, and leaves open when somebody tidies up: until then a container that is started again has its former name.
    pub(super) fn forget(&mut self, model: &Model, is_forgotten: impl Fn(&NodeKey, &str) -> bool) {
        let spoken = model.spoken();
        let by_ecs = |id: &String| {
            model.ecs.values().flat_map(|r| &r.tasks).flat_map(|t| &t.containers).any(|c| c.report.id == *id)
        };
        self.given.retain(|(node, id, _), _| {
            !is_forgotten(node, id)
                || spoken.iter().any(|one| one.key.node == *node && one.container.id == *id)
                || (model.is_ecs_used && by_ecs(id))
        });
    }

    /// A catalog that loads everything anew knows no better than that who waits did so since the newest report.
    pub(super) fn wait_anew(&mut self, model: &Model) {
        for ((node, ..), since_ms) in &mut self.waiting {
            *since_ms = model.reported_ms.get(node).copied().unwrap_or(*since_ms);
        }
    }

    pub(super) fn services(&self, model: &Model) -> Services {
        let mut services = Services::default();
        for name in self.owners.keys() {
            services.known.insert(service(name.as_str()), Vec::new());
        }
        for Claimed { key, given, state } in self.claims(model) {
            let (Some(owned), Some(key)) = (self.owners.get(&given.name), key) else { continue };
            let is_refused = !owned.owner.is_same_owner(&given.claim);
            let expected = Expected { key, state, is_refused };
            services.known.entry(service(given.name.as_str())).or_default().push(expected);
        }
        let unnamed = model.spoken().into_iter().filter(|one| !self.given.contains_key(&port(one)));
        services.waiting = unnamed.map(|one| one.key).collect();
        services
    }
}

/// Who asks for a name.
fn asking<'a>(claims: &'a [Claimed], name: &'a Label) -> impl Iterator<Item = &'a Claimed> + use<'a> {
    claims.iter().filter(move |one| one.asks() && one.given.name == *name)
}

impl Claimed {
    /// What is gone asks for no name; nor what is in no answer.
    fn asks(&self) -> bool {
        self.key.is_none() || self.state.is_some_and(|state| state != State::Gone)
    }
}

/// Where declared endpoints stand: on no node that there is.
fn external_key(host: &str, address: IpAddr) -> EndpointKey {
    let id = if host.parse() == Ok(address) { host.to_owned() } else { format!("{host}-{address}") };
    EndpointKey {
        node: node("external"),
        container_id: id.replace('.', "-"),
        run: Run(0),
        container_port: 5432,
        protocol: Protocol::Tcp,
    }
}

fn port(spoken: &Spoken<'_>) -> Port {
    (spoken.key.node.clone(), spoken.key.container_id.clone(), spoken.key.container_port)
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
    // Of a cluster that ECS is no longer asked about the contract does not say; what was learnt of families may be old.
    let family = offered.family.as_ref().filter(|_| model.is_ecs_used);
    let family_services = family.and_then(|family| model.families.get(family));
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
