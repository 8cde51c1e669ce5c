//! What an operator's id means: a node by its name, a task or a container by its id, or by enough of it.

use std::collections::BTreeSet;

use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::refusal::shown;
use portolan_runtime::http::Problem;

use super::super::names::nearest;
use super::super::nodes::called;
use super::super::services::label;
use crate::catalog::Catalog;
use crate::intake::statement::{Order, Target};

/// As much of an id as people and Docker show; fewer characters are too easily another one's.
const PREFIX_CHARACTERS_MIN: usize = 12;
/// How many ids an error names.
const NAMED_MAX: usize = 5;

/// The node that is called so: NODE, NODE.CLUSTER, or a host name.
pub(super) fn node(id: &str, catalog: &Catalog) -> Result<NodeKey, Problem> {
    let (name, cluster) = node_name(id)?;
    called(catalog, &name, cluster.as_ref())
}

/// The drained node that is called so, also when it is a node no more.
pub(super) fn drained_node(id: &str, catalog: &Catalog) -> Result<NodeKey, Problem> {
    let (name, cluster) = node_name(id)?;
    let nodes = catalog.stated.orders.keys().filter_map(|target| match target {
        Target::Node(key) => Some(key),
        Target::Task(_) | Target::Container(_) | Target::Service(_) => None,
    });
    let is_meant = |key: &&NodeKey| key.node == name && cluster.as_ref().is_none_or(|cluster| &key.cluster == cluster);
    match nodes.filter(is_meant).collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).clone()),
        // By its host name, or with an error that tells the nearest.
        [] => called(catalog, &name, cluster.as_ref()),
        several => {
            let keys = several.iter().take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(Problem::bad_field("id", format!("several drained nodes are called `{name}`; say which: {keys}")))
        }
    }
}

fn node_name(id: &str) -> Result<(Label, Option<Label>), Problem> {
    match id.split_once('.') {
        Some((name, cluster)) => Ok((label("id", name)?, Some(label("id", cluster)?))),
        None => Ok((label("id", id)?, None)),
    }
}

/// The service of that name, if it has a link.
pub(super) fn link(cluster: &str, service: &str, catalog: &Catalog) -> Result<Target, Problem> {
    let key = ServiceKey { cluster: label("cluster", cluster)?, service: label("service", service)? };
    let known = catalog.view.service(&key).ok_or_else(|| {
        let nearest = nearest(service, catalog.view.services.keys().map(|key| key.service.as_str()));
        Problem::not_found(format!("there is no service `{key}`{nearest}"))
    })?;
    let detail = || format!("`{key}` has no link: its name answers its endpoints' addresses already");
    known.link.is_some().then(|| Target::Service(key.clone())).ok_or_else(|| Problem::not_found(detail()))
}

/// The task or the container whose id begins so, of all that the catalog knows.
pub(super) fn run(id: &str, catalog: &Catalog) -> Result<Target, Problem> {
    let candidates = catalog.explained.values().flat_map(|explained| &explained.candidates);
    let of_candidates = candidates.flat_map(|candidate| {
        let task = candidate.task_id.as_deref().map(Run::Task);
        task.into_iter().chain([Run::Container(&candidate.key.container_id)])
    });
    let tasks = catalog.stated.ecs.values().flat_map(|report| &report.tasks);
    let all = of_candidates.chain(tasks.map(|task| Run::Task(&task.id)));
    chosen(short(id), &all.filter(|run| is_id(run.id())).collect())
}

/// The task or the container of an order whose id begins so.
pub(super) fn ordered_run(id: &str, order: Order, catalog: &Catalog) -> Result<Target, Problem> {
    let orders = catalog.stated.orders.iter().filter(|(_, record)| record.order == order);
    let runs = orders.filter_map(|(target, _)| match target {
        Target::Task(id) => Some(Run::Task(id.as_str())),
        Target::Container(id) => Some(Run::Container(id.as_str())),
        Target::Node(_) | Target::Service(_) => None,
    });
    chosen(short(id), &runs.collect())
}

/// An ARN counts by what follows its last slash.
fn short(id: &str) -> &str {
    if id.starts_with("arn:") { id.rsplit('/').next().unwrap_or(id) } else { id }
}

/// The id of a task or of a container. In this order, so that a task goes before its own container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Run<'a> {
    Task(&'a str),
    Container(&'a str),
}

impl<'a> Run<'a> {
    fn id(self) -> &'a str {
        match self {
            Run::Task(id) | Run::Container(id) => id,
        }
    }

    fn target(self) -> Target {
        match self {
            Run::Task(id) => Target::Task(id.to_owned()),
            Run::Container(id) => Target::Container(id.to_owned()),
        }
    }
}

/// Whether an order can be about it: ids come from reports, which may say anything. Those of declared endpoints are made here.
fn is_id(id: &str) -> bool {
    id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn chosen(id: &str, known: &BTreeSet<Run<'_>>) -> Result<Target, Problem> {
    let id = id.to_ascii_lowercase();
    if let Some(exact) = known.iter().find(|run| run.id() == id) {
        return Ok(exact.target());
    }
    let is_enough = id.len() >= PREFIX_CHARACTERS_MIN;
    let found: Vec<_> = known.iter().filter(|run| is_enough && run.id().starts_with(&id)).collect();
    match found.as_slice() {
        [one] => Ok(one.target()),
        [] if !is_enough => {
            let detail = format!(
                "`{}` is too little of an id: at least {PREFIX_CHARACTERS_MIN} characters of a task's or a container's",
                shown(&id, 80)
            );
            Err(Problem::not_found(detail))
        }
        [] => {
            let nearest = nearest(&id, known.iter().map(|run| run.id()));
            Err(Problem::not_found(format!("no task or container has the id `{}`{nearest}", shown(&id, 80))))
        }
        several => {
            let ids = several.iter().take(NAMED_MAX).map(|run| run.id()).collect::<Vec<_>>().join(", ");
            Err(Problem::bad_field("id", format!("several ids begin with `{}`; say which: {ids}", shown(&id, 80))))
        }
    }
}
