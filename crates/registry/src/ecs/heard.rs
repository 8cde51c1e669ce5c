//! What describe calls brought, into the ledger.
//!
//! One item that cannot be read costs nothing but itself: what was known of it stands.

use portolan_core::name::Label;
use tracing::debug;

use super::api::{ContainerInstance, Described, Task};
use super::caller::Caller;
use super::facts::{InstanceFacts, TaskFacts};
use super::knowledge::Voice;
use super::ledger::Ledger;

/// Takes in what was said of instances. Which ARNs AWS spoke of, as of something that is there.
pub(super) fn hear_instances(
    ledger: &Ledger,
    caller: &Caller,
    (cluster, described): (&Label, &Described<ContainerInstance>),
) -> Vec<String> {
    let now_ms = caller.clock.now().unix_ms;
    let read = described.items.iter().filter_map(|item| match InstanceFacts::read(item) {
        Ok(facts) => Some(facts),
        Err(error) => {
            debug!(cluster = %cluster, "an instance of cluster `{cluster}` cannot be read: {error}");
            None
        }
    });
    let read: Vec<_> = read.collect();
    ledger.change(|inner| {
        let Some(known) = inner.clusters.get_mut(cluster) else { return };
        read.into_iter().for_each(|facts| known.hear_instance(facts, Voice::Answer, now_ms));
    });
    spoken_of(described, |item| &item.container_instance_arn)
}

/// The same of tasks.
pub(super) fn hear_tasks(
    ledger: &Ledger,
    caller: &Caller,
    (cluster, described): (&Label, &Described<Task>),
) -> Vec<String> {
    let now_ms = caller.clock.now().unix_ms;
    let read = described.items.iter().filter_map(|item| match TaskFacts::read(item, now_ms) {
        Ok(facts) => Some(facts),
        Err(error) => {
            debug!(cluster = %cluster, "a task of cluster `{cluster}` cannot be read: {error}");
            None
        }
    });
    let read: Vec<_> = read.collect();
    ledger.change(|inner| {
        let Some((known, definitions)) = inner.cluster(cluster) else { return };
        read.into_iter().for_each(|facts| known.hear_task(facts, Voice::Answer, (definitions, now_ms)));
    });
    spoken_of(described, |item| &item.task_arn)
}

/// What was found, and what could not be told for another reason than that it is not there.
fn spoken_of<T>(described: &Described<T>, arn: impl Fn(&T) -> &String) -> Vec<String> {
    let failed = described.failures.iter().filter(|(_, reason)| !reason.eq_ignore_ascii_case("MISSING"));
    described.items.iter().map(|item| arn(item).clone()).chain(failed.map(|(arn, _)| arn.clone())).collect()
}
