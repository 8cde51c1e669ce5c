//! The name of a container whose labels give it none: the ECS service, else where it comes from (DESIGN section 3).
//!
//! Such a name may depend on what ECS said at that moment, so it is stored before anybody sees it and then kept while the
//! container lives. Where ECS is no witness it depends on the container alone; it is shown at once and stored meanwhile, so
//! that a witness that comes later renames nothing. A container that was never shown may be named late.

use portolan_core::evidence::{ContainerReport, Phase};
use portolan_core::name::Label;
use portolan_core::naming::{NameSource, by_origin};

use super::join::{Claimant, Join, Joined};
use super::naming::Told;
use crate::store::evidence::NameRecord;
use crate::store::key;

/// The name of a container below its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// It goes by this.
    Shown(NameRecord),
    /// It goes by this, which should be stored.
    ShownToKeep(NameRecord),
    /// It will go by this once that is stored.
    Decided(NameRecord),
    /// ECS has not told of its task. The name it takes when that lasts too long, if there is one.
    Waits(Option<NameRecord>),
    /// It offers none.
    Nameless,
    /// Its id is none that a name can be kept under.
    Unkeepable,
}

/// The name of the container that somebody tells of.
///
/// `shown` is the name that it was seen under and that is not stored yet.
pub(super) fn give(told: &Told<'_>, shown: Option<&NameRecord>, join: &Join<'_>) -> Given {
    let Told { container, claimant, joined, .. } = told;
    if let Some(record) = join.names.get(container.id.as_str()) {
        return Given::Shown((*record).clone());
    }
    if let (Some(record), Claimant::Sidecar) = (shown, claimant) {
        return Given::ShownToKeep(record.clone());
    }
    let origin = by_origin(&container.candidates).map(|(source, name)| NameRecord {
        source,
        name: name.clone(),
        ecs_service: None,
    });
    let is_used = join.is_used(&container.cluster);
    let decided = match (container.task_arn.is_some() && is_used, joined.task) {
        (false, _) => origin,
        (true, Some((_, task))) => match &task.service {
            Some(service) => Some(of_service(&service.name, service.label.clone())),
            None => origin,
        },
        (true, None) => match by_family(container, join) {
            Some(record) => Some(record),
            None => return Given::Waits(origin),
        },
    };
    let Some(record) = decided else { return Given::Nameless };
    // What ECS alone tells of has its task by construction, which never changes its service; what has ended lives no more.
    let is_settled = *claimant != Claimant::Sidecar || matches!(container.phase, Phase::Died(_));
    match (container.task_arn.is_some() && !is_settled, key::is_id(&container.id), is_used) {
        (false, _, _) | (true, false, false) => Given::Shown(record),
        (true, true, false) => Given::ShownToKeep(record),
        (true, true, true) => Given::Decided(record),
        (true, false, true) => Given::Unkeepable,
    }
}

/// Whether the name may change with what is known of the family.
pub(super) fn depends_on_family(container: &ContainerReport, joined: Joined<'_>, join: &Join<'_>) -> bool {
    let is_kept = join.names.contains_key(container.id.as_str());
    container.task_arn.is_some() && joined.task.is_none() && !is_kept && join.is_used(&container.cluster)
}

/// The service that all tasks of its family belong to, as far as anybody saw.
fn by_family(container: &ContainerReport, join: &Join<'_>) -> Option<NameRecord> {
    let service = join.only_service(&container.cluster, container.candidates.family.as_ref()?)?;
    Some(of_service(service, Label::sanitise(service).ok()?))
}

fn of_service(name: &str, label: Label) -> NameRecord {
    NameRecord { source: NameSource::EcsService, name: label, ecs_service: Some(name.to_owned()) }
}
