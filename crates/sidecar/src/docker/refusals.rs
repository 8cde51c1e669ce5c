//! Tells the log what was refused of a container, once per run: a person who wrote a wrong label looks there first.

use std::collections::BTreeSet;

use portolan_core::endpoint::Run;
use portolan_core::evidence::ContainerReport;
use portolan_core::refusal::Refusal;
use portolan_runtime::published::Reader;
use tracing::warn;

use crate::registration::LocalState;

/// What was told: container, run, refusal. It holds only what still stands, so it is as bounded as the reports.
type Told = BTreeSet<(String, Run, Refusal)>;

/// Warns of every new refusal, for ever.
pub(crate) async fn tell(mut local: Reader<LocalState>) {
    let mut told = Told::new();
    loop {
        for (container, refusal) in news(&mut told, &local.load().reports) {
            let Refusal { field, reason } = refusal;
            let (id, name) = (&container.id, &container.name);
            let outcome = if container.is_refused { "it is kept out of every answer" } else { "the rest of it counts" };
            warn!(container = %id, "container `{name}`: {field} was refused: {reason}; {outcome}");
        }
        if !local.changed().await {
            return;
        }
    }
}

/// What `reports` refuse that was not told, and from now on counts as told.
fn news<'a>(told: &mut Told, reports: &'a [ContainerReport]) -> Vec<(&'a ContainerReport, &'a Refusal)> {
    let key = |container: &ContainerReport, refusal: &Refusal| (container.id.clone(), container.run, refusal.clone());
    let all = reports.iter().flat_map(|container| container.refusals.iter().map(move |refusal| (container, refusal)));
    let before = std::mem::replace(told, all.clone().map(|(container, refusal)| key(container, refusal)).collect());
    all.filter(|(container, refusal)| !before.contains(&key(container, refusal))).collect()
}
