//! Silences that have lasted ten minutes.

use portolan_core::name::{NodeKey, ServiceKey};

use super::limits::{Cause, Look, Stakes};
use crate::catalog::NodeStatus;

/// How long a silence may last before it counts, milliseconds.
pub(super) const SILENCE_MAX_MS: u64 = 600_000;

/// A deadline that passes now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) node: NodeKey,
    /// Services whose endpoints on the node are kept all the same.
    pub(super) held: Vec<ServiceKey>,
}

/// The deadlines that pass now, as far as limits allow: in full, but for some services, or for none.
pub(super) fn due(look: &mut Look<'_>) -> Vec<Passage> {
    let (catalog, now_ms) = (look.catalog, look.now_ms);
    let nodes = catalog.nodes.values().filter(|node| is_due(node, now_ms));
    nodes.filter_map(|status| pass(status, look)).collect()
}

/// Silent for long enough, and not yet passed in full.
fn is_due(node: &NodeStatus, now_ms: u64) -> bool {
    node.silence.as_ref().is_some_and(|silence| {
        let is_passed = silence.passage.as_ref().is_some_and(|passage| passage.held.is_empty());
        !is_passed && now_ms.saturating_sub(silence.since_ms) >= SILENCE_MAX_MS
    })
}

/// What another witness speaks for is held as well, so that it is weighed when that one falls silent, too.
fn pass(status: &NodeStatus, look: &mut Look<'_>) -> Option<Passage> {
    let mut held = look.vouched(&status.key);
    let mut removed = Stakes::new();
    let may_remove = look.may_remove_on(&status.key);
    for (service, count) in look.stakes(&status.key, &Cause::Silence) {
        if may_remove && look.may_remove(&service, count) && !held.contains(&service) {
            removed.insert(service, count);
        } else {
            held.insert(service);
        }
    }
    let held: Vec<ServiceKey> = held.into_iter().collect();
    let passage = status.silence.as_ref().and_then(|silence| silence.passage.as_ref());
    if passage.is_some_and(|passage| passage.held == held) {
        return None;
    }
    look.remove(&status.key, Cause::Silence, removed);
    Some(Passage { node: status.key.clone(), held })
}
