//! What a service is called: the first of the names that its container offers (DESIGN section 3).

use crate::evidence::{ContainerReport, PortReport};
use crate::name::{Label, ServiceKey};

/// The service that `port` of `container` belongs to: label `portolan.service`; Registrator's `SERVICE_<port>_NAME`, then
/// `SERVICE_NAME`; the ECS service, where ECS has told it; Compose's service; the task definition family; the container's
/// own name. `None`: it offers none.
pub fn service_of(container: &ContainerReport, port: &PortReport, ecs_service: Option<&Label>) -> Option<ServiceKey> {
    let candidates = &container.candidates;
    let service = candidates
        .label
        .as_ref()
        .or(port.registrator_name.as_ref())
        .or(candidates.registrator.as_ref())
        .or(ecs_service)
        .or(candidates.compose.as_ref())
        .or(candidates.family.as_ref())
        .or(candidates.container.as_ref())?;
    Some(ServiceKey { cluster: container.cluster.clone(), service: service.clone() })
}
