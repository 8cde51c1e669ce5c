//! What a service is called: the first of the names that its container offers (DESIGN section 3).

use serde::{Deserialize, Serialize};

use crate::evidence::{ContainerReport, NameCandidates, PortReport};
use crate::name::{Label, ServiceKey};

/// By what a service's name was chosen, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// Label `portolan.service`.
    Label,
    /// Registrator's `SERVICE_<port>_NAME`.
    RegistratorPort,
    /// Registrator's `SERVICE_NAME`.
    Registrator,
    /// The ECS service, where ECS has told it.
    EcsService,
    /// Compose's service label.
    Compose,
    /// The task definition family.
    Family,
    /// The container's name.
    Container,
    /// An operator declared it, outside ECS; no container ever comes by this.
    External,
}

impl NameSource {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            NameSource::Label => "label `portolan.service`",
            NameSource::RegistratorPort => "`SERVICE_<port>_NAME`",
            NameSource::Registrator => "`SERVICE_NAME`",
            NameSource::EcsService => "the ECS service",
            NameSource::Compose => "the Compose service",
            NameSource::Family => "the task definition family",
            NameSource::Container => "the container's name",
            NameSource::External => "an operator's declaration",
        }
    }
}

/// The name that labels give, at a port with `own_name` (Registrator's `SERVICE_<port>_NAME`).
pub fn by_label<'a>(candidates: &'a NameCandidates, own_name: Option<&'a Label>) -> Option<(NameSource, &'a Label)> {
    first([
        (NameSource::Label, candidates.label.as_ref()),
        (NameSource::RegistratorPort, own_name),
        (NameSource::Registrator, candidates.registrator.as_ref()),
    ])
}

/// The name of a container by where it comes from, which counts when neither its labels nor ECS give it one.
pub fn by_origin(candidates: &NameCandidates) -> Option<(NameSource, &Label)> {
    first([
        (NameSource::Compose, candidates.compose.as_ref()),
        (NameSource::Family, candidates.family.as_ref()),
        (NameSource::Container, candidates.container.as_ref()),
    ])
}

fn first(offered: [(NameSource, Option<&Label>); 3]) -> Option<(NameSource, &Label)> {
    offered.into_iter().find_map(|(source, label)| Some((source, label?)))
}

/// The name that a container goes by, at a port with `own_name`, and what chose it. `None`: it offers none.
pub fn choose<'a>(
    candidates: &'a NameCandidates,
    own_name: Option<&'a Label>,
    ecs_service: Option<&'a Label>,
) -> Option<(NameSource, &'a Label)> {
    let by_ecs = || ecs_service.map(|service| (NameSource::EcsService, service));
    by_label(candidates, own_name).or_else(by_ecs).or_else(|| by_origin(candidates))
}

/// The service that `port` of `container` belongs to. `None`: the container offers no name.
pub fn service_of(container: &ContainerReport, port: &PortReport, ecs_service: Option<&Label>) -> Option<ServiceKey> {
    let (_, service) = choose(&container.candidates, port.registrator_name.as_ref(), ecs_service)?;
    Some(ServiceKey { cluster: container.cluster.clone(), service: service.clone() })
}
