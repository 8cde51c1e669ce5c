//! Who a container is: its cluster, its task, and every name it may be called by. The registry chooses among them.

use portolan_core::evidence::NameCandidates;
use portolan_core::name::{Label, cluster_label, container_label, service_label};
use portolan_core::refusal::Refusal;

use crate::docker::facts::Facts;

/// The name of ECS's own containers in a task: nobody can write a tilde into a task definition.
const PAUSE: &str = "~internal~ecs~pause";
/// An ARN is far shorter.
const ARN_OCTETS_MAX: usize = 512;

/// Who a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster: Label,
    pub(super) candidates: NameCandidates,
    pub(super) name: Label,
    pub(super) task_arn: Option<String>,
    pub(super) task_id: Option<String>,
    pub(super) is_refused: bool,
}

/// Whether it only holds the network of an ECS task.
pub(super) fn is_pause(facts: &Facts) -> bool {
    facts.origin.container.as_deref().is_some_and(|name| name.starts_with(PAUSE))
}

pub(super) fn identify(facts: &Facts, node_cluster: &Label, refusals: &mut Vec<Refusal>) -> Identity {
    let (origin, declared) = (&facts.origin, &facts.declaration);
    let mut named = Named { refusals, is_refused: declared.is_refused };
    let cluster = named.take("label `com.amazonaws.ecs.cluster`", origin.cluster.as_deref(), cluster_label);
    // Another cluster than the one that was meant would be the wrong answer to somebody.
    named.is_refused |= origin.cluster.is_some() && cluster.is_none();
    let family =
        named.take("label `com.amazonaws.ecs.task-definition-family`", origin.family.as_deref(), service_label);
    let compose = named.take("label `com.docker.compose.service`", origin.compose_service.as_deref(), service_label);
    let (task_arn, task_id) = named.task(origin.task_arn.as_deref());
    let is_named = declared.service.is_some() || declared.registrator.is_some() || task_arn.is_some();
    named.is_refused |= !is_named && compose.is_none() && origin.compose_service.is_some();
    // Docker's name is nobody's wish where something stronger exists: then it is refused silently.
    let needs_docker_name = !is_named && compose.is_none() && family.is_none();
    let container = if needs_docker_name {
        let container = named.take("container name", Some(&facts.name), service_label);
        named.is_refused |= container.is_none();
        container
    } else {
        service_label(&facts.name).ok()
    };
    let candidates = NameCandidates {
        label: declared.service.clone(),
        registrator: declared.registrator.clone(),
        compose,
        family,
        container,
    };
    let is_refused = named.is_refused;
    Identity {
        cluster: cluster.unwrap_or_else(|| node_cluster.clone()),
        name: name(facts),
        candidates,
        task_arn,
        task_id,
        is_refused,
    }
}

/// The container's name within its task, else Compose's service, else Docker's name, else the beginning of its id.
fn name(facts: &Facts) -> Label {
    let names = [facts.origin.container.as_deref(), facts.origin.compose_service.as_deref(), Some(&facts.name)];
    let mut labels = names.into_iter().flatten().filter_map(|name| container_label(name).ok());
    let by_id = || Label::parse(facts.id.get(..12).unwrap_or("container")).unwrap_or(Label::fixed("container"));
    labels.next().unwrap_or_else(by_id)
}

struct Named<'a> {
    refusals: &'a mut Vec<Refusal>,
    is_refused: bool,
}

impl Named<'_> {
    fn take<E: std::fmt::Display>(
        &mut self,
        field: &str,
        text: Option<&str>,
        parse: impl Fn(&str) -> Result<Label, E>,
    ) -> Option<Label> {
        match parse(text?) {
            Ok(label) => Some(label),
            Err(error) => {
                self.refusals.push(Refusal::new(field, error.to_string()));
                None
            }
        }
    }

    /// The task's ARN and its id, which is what follows the last slash.
    fn task(&mut self, arn: Option<&str>) -> (Option<String>, Option<String>) {
        let Some(arn) = arn else { return (None, None) };
        let id = arn.rsplit('/').next().and_then(|id| Label::parse(id).ok());
        match id {
            Some(id) if arn.len() <= ARN_OCTETS_MAX && arn.bytes().all(|b| b.is_ascii_graphic()) => {
                (Some(arn.to_owned()), Some(id.to_string()))
            }
            Some(_) | None => {
                let reason = "is not the ARN of a task: it ends in no task id";
                self.refusals.push(Refusal::new("label `com.amazonaws.ecs.task-arn`", reason));
                (None, None)
            }
        }
    }
}
