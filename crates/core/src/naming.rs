//! What a service is called: the first of the names that its container offers (DESIGN section 3).

use serde::{Deserialize, Serialize};

use crate::evidence::{ContainerReport, PortReport};
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
        }
    }
}

/// The name that `container` goes by, at a port with `own_name` (Registrator's `SERVICE_<port>_NAME`), and what chose it.
/// `None`: it offers none.
pub fn choose<'a>(
    container: &'a ContainerReport,
    own_name: Option<&'a Label>,
    ecs_service: Option<&'a Label>,
) -> Option<(NameSource, &'a Label)> {
    let candidates = &container.candidates;
    let offered = [
        (NameSource::Label, candidates.label.as_ref()),
        (NameSource::RegistratorPort, own_name),
        (NameSource::Registrator, candidates.registrator.as_ref()),
        (NameSource::EcsService, ecs_service),
        (NameSource::Compose, candidates.compose.as_ref()),
        (NameSource::Family, candidates.family.as_ref()),
        (NameSource::Container, candidates.container.as_ref()),
    ];
    offered.into_iter().find_map(|(source, label)| Some((source, label?)))
}

/// The service that `port` of `container` belongs to. `None`: the container offers no name.
pub fn service_of(container: &ContainerReport, port: &PortReport, ecs_service: Option<&Label>) -> Option<ServiceKey> {
    let (_, service) = choose(container, port.registrator_name.as_ref(), ecs_service)?;
    Some(ServiceKey { cluster: container.cluster.clone(), service: service.clone() })
}
