//! Names: what a client gets for one, and why; and what was meant by a name that nobody has.

mod testimony;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use portolan_core::endpoint::EndpointKey;
use portolan_core::lookup::{Meaning, Part, parse};
use portolan_core::name::{Label, ServiceKey};
use portolan_core::refusal::shown;
use portolan_core::selection::{Preference, behind, select};
use portolan_core::view::ReverseName;
use portolan_dns::answer::{Client, Perspective};
use portolan_dns::resolution::{Resolved, readiness_word, resolve as resolved};
use portolan_runtime::http::Problem;

use super::read::{Patience, answer};
use super::topics::{Scope, Topic};
use super::{Shared, Surface, api, convert};
use crate::catalog::{Catalog, Explained};

/// How alike two names must be for one to be meant by the other.
const LIKENESS_MIN: f64 = 0.7;
/// How many names are compared with one that nobody has.
const COMPARED_MAX: usize = 20_000;

/// What a client gets for a name, as DNS answers it.
#[utoipa::path(get, path = "/api/resolve/{name}", tag = "names",
    params(
        ("name" = String, Path, description = "A name of the zone, with or without the zone, or an address"),
        ("index" = Option<u64>, Query, description = "Answer once the service behind it is past this index"),
        ("wait" = Option<String>, Query, description = "At most this long: 500ms, 30s (the default), 5m"),
    ),
    responses(
        (status = 200, body = api::Resolution),
        (status = 404, description = "No such name; the nearest is told"),
        (status = 503, description = "Not loaded yet"),
    ))]
pub(super) async fn resolve(
    State(surface): Shared,
    Path(name): Path<String>,
    patience: Patience,
) -> Result<Response, Problem> {
    let meaning = surface.meaning(&name, &*surface.ready()?)?;
    let text = meaning.full_name(&surface.shown.authority.zone).unwrap_or(name);
    let (catalog, index) = surface.patient(topic(&meaning), patience).await?;
    let client = Client {
        perspective: Perspective::Registry,
        az: None,
        octets_max: usize::from(u16::MAX),
        seed: rand::random(),
        authority: &surface.shown.authority,
    };
    let found =
        resolved(&text, &catalog.view, &client).map_err(|error| Problem::bad_field("name", error.to_string()))?;
    let found = match found {
        Resolved::Done(found) if found.status == "NXDOMAIN" => Err(unknown(&meaning, &text, &catalog)),
        Resolved::Done(found) => Ok(found),
        Resolved::Follow(key) => Err(Problem::unavailable(format!("the endpoints of `{key}` are not known yet"))),
    };
    Ok(answer(found, index, &catalog))
}

/// Why a name answers what it answers: every candidate, every witness, the deciding rule, everything refused.
#[utoipa::path(get, path = "/api/explain/{name}", tag = "names",
    params(
        ("name" = String, Path, description = "A name of a service, with or without the zone, or its address"),
        ("index" = Option<u64>, Query, description = "Answer once the explanation is past this index"),
        ("wait" = Option<String>, Query, description = "At most this long: 500ms, 30s (the default), 5m"),
    ),
    responses(
        (status = 200, body = api::Explanation),
        (status = 404, description = "No such service; the nearest name is told"),
        (status = 503, description = "Not loaded yet"),
    ))]
pub(super) async fn explain(
    State(surface): Shared,
    Path(name): Path<String>,
    patience: Patience,
) -> Result<Response, Problem> {
    let catalog = surface.ready()?;
    let (key, part) = match surface.meaning(&name, &catalog)? {
        Meaning::Service(key, part) => (key, part),
        Meaning::Reverse(address) => match catalog.view.reverse.get(&address) {
            Some(ReverseName::Service(key)) => (key.clone(), Part::Whole),
            Some(ReverseName::Node(key)) => {
                return Err(Problem::not_found(format!("{address} is an address of node `{key}`, not of a service")));
            }
            None => return Err(Problem::not_found(format!("no service has the address {address}"))),
        },
        _ => {
            let detail = format!("`{}` is not a name of a service", shown(&name, 80));
            return Err(Problem::bad_field("name", detail));
        }
    };
    let (catalog, index) = surface.patient(Topic::Explained(Scope::Service(key.clone())), patience).await?;
    // A service that only ECS knows has nothing to answer yet, and people wait for it.
    let by_ecs = || catalog.stated.services.contains_key(&key).then(|| Arc::new(Explained::nothing(key.clone())));
    let why = catalog.explained.get(&key).cloned().or_else(by_ecs).ok_or_else(|| unknown_service(&key, &catalog));
    let why = why.and_then(|explained| surface.explanation(&explained, &part, &catalog));
    Ok(answer(why, index, &catalog))
}

fn topic(meaning: &Meaning) -> Topic {
    match meaning {
        Meaning::Service(key, _) => Topic::Services(Scope::Service(key.clone())),
        Meaning::Cluster(cluster) => Topic::Services(Scope::Cluster(cluster.clone())),
        Meaning::Node(_) | Meaning::NodeBranch(_) => Topic::Nodes,
        Meaning::Apex
        | Meaning::AddressBranch
        | Meaning::Address(_)
        | Meaning::Bare(_)
        | Meaning::Reverse(_)
        | Meaning::Unknown
        | Meaning::Outside => Topic::Services(Scope::All),
    }
}

impl Surface {
    /// What a person means by `text`. A service's name alone is enough where only one cluster has it.
    fn meaning(&self, text: &str, catalog: &Catalog) -> Result<Meaning, Problem> {
        let zone = &self.shown.authority.zone;
        let meaning = parse(text, zone).map_err(|error| Problem::bad_field("name", error.to_string()))?;
        let Meaning::Bare(name) = &meaning else { return Ok(meaning) };
        let known = catalog.view.services.keys().chain(catalog.explained.keys());
        let found: BTreeSet<&ServiceKey> = known.filter(|key| &key.service == name).collect();
        match found.into_iter().collect::<Vec<_>>().as_slice() {
            [one] => Ok(Meaning::Service((*one).clone(), Part::Whole)),
            [] => Err(unknown(&meaning, text, catalog)),
            several => {
                let names: Vec<String> = several.iter().take(5).map(ToString::to_string).collect();
                let detail = format!("`{name}` is in several clusters; say which: {}", names.join(", "));
                Err(Problem::bad_field("name", detail))
            }
        }
    }

    /// Whether ECS is a witness for `cluster`, or will be once it was listed.
    fn has_ecs(&self, cluster: &Label, catalog: &Catalog) -> bool {
        let is_asked = || self.shown.ecs.as_ref().is_some_and(|ecs| ecs.load().clusters.contains_key(cluster));
        catalog.stated.clusters.contains_key(cluster) || is_asked()
    }

    fn explanation(&self, explained: &Explained, part: &Part, catalog: &Catalog) -> Result<api::Explanation, Problem> {
        let key = &explained.key;
        let service = catalog.service(key);
        let endpoints = service.map(|service| convert::endpoints(service)).unwrap_or_default();
        let meant = behind(part, endpoints).unwrap_or_default();
        let is_meant: BTreeSet<&EndpointKey> = meant.iter().map(|endpoint| &endpoint.key).collect();
        let selected = select(meant.iter().copied(), Preference::default()).endpoints;
        let is_answered: BTreeSet<&EndpointKey> = selected.iter().map(|endpoint| &endpoint.key).collect();
        let now_ms = self.shown.clock.now().unix_ms;
        let candidates: Vec<api::Candidate> = explained
            .candidates
            .iter()
            .filter(|candidate| is_meant.contains(&candidate.key) || convert::is_meant(candidate, part))
            .map(|candidate| {
                let order = catalog.stated.order_about(candidate);
                testimony::candidate(candidate, order, is_answered.contains(&candidate.key), now_ms)
            })
            .collect();
        let zone = &self.shown.authority.zone;
        let name = Meaning::Service(key.clone(), part.clone()).full_name(zone).unwrap_or_default();
        if candidates.is_empty() && *part != Part::Whole && *part != Part::Direct {
            return Err(Problem::not_found(format!("service `{key}` has nothing that `{name}` could stand for")));
        }
        Ok(api::Explanation {
            name,
            cluster: key.cluster.to_string(),
            service: key.service.to_string(),
            index: catalog.service_index(key),
            readiness: readiness_word(catalog.view.readiness).to_owned(),
            link: service.and_then(|service| service.link.as_ref()).map(convert::link),
            candidates,
            refused: convert::refused(&explained.refusals),
            stopped: explained.stopped.iter().map(testimony::stopped).collect(),
            has_ecs: self.has_ecs(&key.cluster, catalog),
            ecs: catalog.stated.services.get(key).map(|record| convert::ecs_service(record)),
        })
    }
}

/// Nobody has that name.
fn unknown(meaning: &Meaning, text: &str, catalog: &Catalog) -> Problem {
    match meaning {
        Meaning::Service(key, Part::Whole | Part::Direct) => unknown_service(key, catalog),
        Meaning::Service(key, _) if catalog.service(key).is_some() => {
            Problem::not_found(format!("service `{key}` has nothing called `{}`", shown(text, 120)))
        }
        Meaning::Service(key, _) => unknown_service(key, catalog),
        Meaning::Bare(name) => {
            let known = catalog.view.services.keys().map(|key| key.service.as_str());
            Problem::not_found(format!("no service is called `{name}`{}", nearest(name.as_str(), known)))
        }
        _ => Problem::not_found(format!("nothing is called `{}`", shown(text, 120))),
    }
}

/// There is no such service; what may have been meant.
pub(super) fn unknown_service(key: &ServiceKey, catalog: &Catalog) -> Problem {
    if catalog.explained.contains_key(key) {
        let detail = format!("service `{key}` has nothing that may be answered: ask /api/explain/{key} why");
        return Problem::not_found(detail);
    }
    if !catalog.view.clusters.contains(&key.cluster) {
        let known = catalog.view.clusters.iter().map(Label::as_str);
        let nearest = nearest(key.cluster.as_str(), known);
        return Problem::not_found(format!("no cluster is called `{}`{nearest}", key.cluster));
    }
    let known = catalog.view.services.keys().filter(|k| k.cluster == key.cluster).map(|k| k.service.as_str());
    let nearest = nearest(key.service.as_str(), known);
    Problem::not_found(format!("cluster `{}` has no service `{}`{nearest}", key.cluster, key.service))
}

/// `; did you mean ...`, when one of the known names is like it.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let likeness = |known: &'a str| (strsim::jaro_winkler(name, known), known);
    let best = known.into_iter().take(COMPARED_MAX).map(likeness).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((likeness, known)) if likeness >= LIKENESS_MIN => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}
