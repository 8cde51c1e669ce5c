//! Whether a catalog is what the model expects, and whether two catalogs are the same.

use std::collections::BTreeMap;
use std::fmt::Debug;

use portolan_core::endpoint::{EndpointKey, State};
use portolan_core::name::{NodeKey, ServiceKey};
use portolan_core::view::{EndpointSet, Link};

use super::super::needs::NameNeeds;
use super::super::{Candidate, Catalog, Explained, NodeStatus};
use super::names::{Expected, Services};
use crate::store::evidence::NameRecord;

/// What is said of an endpoint: its state, and whether its name is another's.
type Said<'a> = BTreeMap<&'a EndpointKey, (State, bool)>;

pub(super) fn compare(expected: &Services, catalog: &Catalog) -> Result<(), String> {
    let known: Vec<&ServiceKey> = catalog.view.services.keys().collect();
    let wanted: Vec<&ServiceKey> = expected.known.keys().collect();
    if known != wanted {
        return Err(format!("known are {known:?}, and should be {wanted:?}"));
    }
    for (service, endpoints) in &expected.known {
        let waits = |key: &EndpointKey| expected.waiting.contains(key);
        answers(service, endpoints, waits, catalog)
            .and_then(|()| explains(service, endpoints, waits, catalog))
            .map_err(|wrong| format!("{wrong}\n{:#?}", catalog.explained.get(service)))?;
    }
    Ok(())
}

/// The view holds what is not gone and not refused. What is in no answer may be there as starting, or not at all.
fn answers(
    service: &ServiceKey,
    expected: &[Expected],
    waits: impl Fn(&EndpointKey) -> bool,
    catalog: &Catalog,
) -> Result<(), String> {
    let endpoints = catalog.service(service).and_then(|service| service.known_endpoints().cloned()).unwrap_or_default();
    let mut found: BTreeMap<&EndpointKey, State> = endpoints.iter().map(|e| (&e.key, e.state)).collect();
    for one in expected {
        let state = found.remove(&one.key);
        let is_right = match one.state {
            _ if one.is_refused => state.is_none(),
            None => state.is_none_or(|state| state == State::Starting),
            Some(State::Gone) => state.is_none(),
            wanted => state == wanted,
        };
        if !is_right {
            return Err(format!("{service} answers {} as {state:?}, expected {:?}", short(&one.key), shown(one)));
        }
    }
    found.retain(|key, state| !(waits(key) && *state == State::Starting));
    match found.first_key_value() {
        Some((key, state)) => Err(format!("{service} answers {} as {state:?}, of which nobody speaks", short(key))),
        None => Ok(()),
    }
}

/// Every candidate stands where the model puts it.
fn explains(
    service: &ServiceKey,
    expected: &[Expected],
    waits: impl Fn(&EndpointKey) -> bool,
    catalog: &Catalog,
) -> Result<(), String> {
    let candidates: &[Candidate] = catalog.explained.get(service).map_or(&[], |explained| &explained.candidates);
    let mut found: Said<'_> = candidates.iter().map(|c| (&c.key, (c.decision.state, c.is_refused))).collect();
    for one in expected {
        let said = found.remove(&one.key);
        let is_right = match (one.state, said) {
            (Some(State::Gone) | None, None) => true,
            (None, Some((state, _))) => matches!(state, State::Gone | State::Starting),
            (Some(State::Gone), Some((state, _))) => state == State::Gone,
            (Some(wanted), Some((state, is_refused))) => state == wanted && is_refused == one.is_refused,
            (Some(_), None) => false,
        };
        if !is_right {
            return Err(format!("{service} explains {} by {said:?}, expected {:?}", short(&one.key), shown(one)));
        }
    }
    found.retain(|key, (state, _)| !(waits(key) && *state == State::Starting) && *state != State::Gone);
    match found.first_key_value() {
        Some((key, said)) => Err(format!("{service} explains {} by {said:?}, of which nobody speaks", short(key))),
        None => Ok(()),
    }
}

fn shown(expected: &Expected) -> String {
    let state = expected.state.map_or("no answer".to_owned(), |state| format!("{state:?}"));
    if expected.is_refused { format!("{state}, refused") } else { state }
}

fn short(key: &EndpointKey) -> String {
    let id = key.container_id.trim_start_matches('0');
    format!("container `{id}` run {} port {} on {}", key.run.0, key.container_port, key.node.node)
}

/// Whether they agree in everything but indexes and times: those are of the commits that were seen.
pub(super) fn same(catalog: &Catalog, rebuilt: &Catalog) -> Result<(), String> {
    equal("services", services(catalog), services(rebuilt))?;
    equal("explanations", explanations(catalog), explanations(rebuilt))?;
    equal("nodes", nodes(catalog), nodes(rebuilt))?;
    equal("nodes of the view", &catalog.view.nodes, &rebuilt.view.nodes)?;
    equal("reverse names", &catalog.view.reverse, &rebuilt.view.reverse)?;
    // Clusters that once had something are known until the next start.
    equal(
        "clusters",
        &rebuilt.view.clusters,
        &rebuilt.view.clusters.clone().intersection(catalog.view.clusters.clone()),
    )?;
    equal("needs", &catalog.needs, &rebuilt.needs)?;
    equal("names to give", names(catalog), names(rebuilt))?;
    equal("names to forget", &catalog.stale_names, &rebuilt.stale_names)?;
    equal("what is held back", &catalog.doubted, &rebuilt.doubted)
}

fn equal<T: PartialEq + Debug>(what: &str, one: T, other: T) -> Result<(), String> {
    if one == other { Ok(()) } else { Err(format!("{what} differ:\n{one:?}\n{other:?}")) }
}

fn services(catalog: &Catalog) -> Vec<(&ServiceKey, &Option<Link>, &EndpointSet)> {
    catalog.view.services.values().map(|service| (&service.key, &service.link, &service.endpoints)).collect()
}

fn explanations(catalog: &Catalog) -> Vec<Explained> {
    let mut explanations: Vec<Explained> = catalog.explained.values().map(|one| (**one).clone()).collect();
    for candidate in explanations.iter_mut().flat_map(|explained| &mut explained.candidates) {
        (candidate.since, candidate.since_ms) = Default::default();
    }
    explanations
}

fn nodes(catalog: &Catalog) -> Vec<NodeStatus> {
    catalog.nodes.values().map(|node| NodeStatus { reported_at_ms: 0, ..(**node).clone() }).collect()
}

/// A name for a container: of which node, its id, and whether it waits until the name may be given.
type Named<'a> = (&'a NodeKey, &'a String, &'a NameRecord, bool);

/// Names to be given, and those that wait; not since when.
fn names(catalog: &Catalog) -> Vec<Named<'_>> {
    catalog.name_needs.iter().flat_map(|(node, needs)| names_of(node, needs)).collect()
}

fn names_of<'a>(node: &'a NodeKey, needs: &'a NameNeeds) -> impl Iterator<Item = Named<'a>> {
    let given = needs.given.iter().map(move |(id, record)| (node, id, record, false));
    given.chain(needs.waiting.iter().map(move |(id, _, record)| (node, id, record, true)))
}
