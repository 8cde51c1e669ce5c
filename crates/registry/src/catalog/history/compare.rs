//! Whether a catalog is what the model expects, and whether two catalogs are the same.

use std::collections::BTreeMap;

use portolan_core::endpoint::{EndpointKey, State};
use portolan_core::name::ServiceKey;

use super::super::{Candidate, Catalog};
use super::names::{Expected, Services};

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
        answers(service, endpoints, waits, catalog)?;
        explains(service, endpoints, waits, catalog)?;
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

/// Everything but the indexes, and since when witnesses say what they say: that is of the commits that were seen.
pub(super) fn same(catalog: &Catalog, rebuilt: &Catalog) -> Result<(), String> {
    let (one, other) = (without_indexes(catalog), without_indexes(rebuilt));
    if one == other { Ok(()) } else { Err(format!("{one:#?}\nand anew\n{other:#?}")) }
}

fn without_indexes(catalog: &Catalog) -> impl PartialEq + std::fmt::Debug + use<> {
    let services: Vec<_> =
        catalog.view.services.values().map(|s| (s.key.clone(), s.link.clone(), s.endpoints.clone())).collect();
    let explained = catalog.explained.values().map(|explained| {
        let mut explained = (**explained).clone();
        explained.candidates.iter_mut().for_each(|candidate| candidate.since_ms = 0);
        explained
    });
    let explained: Vec<_> = explained.collect();
    (services, explained, catalog.nodes.clone(), catalog.view.nodes.clone(), catalog.needs.clone())
}
