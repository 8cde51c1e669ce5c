//! Lookups: one call at a time for what tasks and events make one want to know: task definitions, addresses of instances,
//! instances and services that something happened to, tasks by which containers are to be named.
//!
//! What was not answered is wanted again later; the ledger says when.

use std::sync::Arc;
use std::time::Duration;

use portolan_core::name::Label;
use portolan_runtime::published::Reader;
use tokio::time::sleep;
use tracing::debug;

use super::action::Action;
use super::api::{CallError, DESCRIBE_MAX, DESCRIBE_SERVICES_MAX, Ec2Instance};
use super::caller::Caller;
use super::facts::{read_addresses, read_az};
use super::heard::{hear_instances, hear_tasks};
use super::knowledge::Knowledge;
use super::ledger::{Inner, Ledger};
use super::machine::Power;
use super::unnamed::Unnamed;
use crate::catalog::Catalog;

/// How often is looked for what is due by now.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Something to ask.
#[derive(Debug)]
enum Question {
    Tasks(Label, Vec<String>),
    Definition(String),
    /// Machines, of whichever cluster.
    Machines(Vec<Label>),
    Instances(Label, Vec<String>),
    Services(Label, Vec<String>),
}

/// The job. `names`: by cluster, what AWS knows it by.
pub(super) async fn answer_questions(
    ledger: Arc<Ledger>,
    caller: Arc<Caller>,
    names: Vec<(Label, String)>,
    mut catalog: Reader<Catalog>,
) {
    let name_of = |cluster: &Label| {
        let named = names.iter().find(|(label, _)| label == cluster);
        named.map(|(_, name)| name.clone()).unwrap_or_default()
    };
    let mut unnamed = Unnamed::new(names.iter().map(|(label, _)| label.clone()).collect());
    // Nobody who reports many tasks keeps everything else from being asked.
    let mut is_their_turn = true;
    loop {
        let now_ms = caller.clock.now().unix_ms;
        let of_tasks = |(cluster, ids)| Question::Tasks(cluster, ids);
        let known = catalog.load();
        let question = match is_their_turn {
            true => unnamed.next(&known, now_ms).map(of_tasks).or_else(|| ledger.look(|inner| next(inner, now_ms))),
            false => ledger.look(|inner| next(inner, now_ms)).or_else(|| unnamed.next(&known, now_ms).map(of_tasks)),
        };
        is_their_turn = !matches!(question, Some(Question::Tasks(..)));
        match question {
            // Cancel-safe, and what is missed here is found at the next look.
            None => tokio::select! {
                () = ledger.is_wanted() => {}
                Some(_) = catalog.wait_for(|catalog| unnamed.has_new(catalog)) => {}
                () = sleep(LOOK_EVERY) => {}
            },
            Some(Question::Tasks(cluster, ids)) => {
                ask_tasks(&ledger, &caller, (&cluster, name_of(&cluster), ids)).await;
            }
            Some(Question::Definition(arn)) => ask_definition(&ledger, &caller, &arn).await,
            Some(Question::Machines(ids)) => ask_machines(&ledger, &caller, ids).await,
            Some(Question::Instances(cluster, arns)) => {
                ask_instances(&ledger, &caller, (&cluster, name_of(&cluster), arns)).await;
            }
            Some(Question::Services(cluster, arns)) => {
                ask_services(&ledger, &caller, (&cluster, name_of(&cluster), arns)).await;
            }
        }
    }
}

/// What names and addresses depend on comes first.
fn next(inner: &mut Inner, now_ms: u64) -> Option<Question> {
    for (cluster, known) in &mut inner.clusters {
        let arns = known.wanted_instances(DESCRIBE_MAX);
        if !arns.is_empty() {
            return Some(Question::Instances(cluster.clone(), arns));
        }
    }
    if let Some(arn) = inner.definitions.next(now_ms) {
        return Some(Question::Definition(arn));
    }
    let mut machines = Vec::new();
    for known in inner.clusters.values_mut() {
        machines.extend(known.due_machines(DESCRIBE_MAX - machines.len(), now_ms));
    }
    if !machines.is_empty() {
        return Some(Question::Machines(machines));
    }
    inner.clusters.iter_mut().find_map(|(cluster, known)| {
        let arns = known.wanted_services(DESCRIBE_SERVICES_MAX);
        (!arns.is_empty()).then(|| Question::Services(cluster.clone(), arns))
    })
}

async fn ask_tasks(ledger: &Ledger, caller: &Caller, (cluster, name, ids): (&Label, String, Vec<String>)) {
    let asked = ids.clone();
    match caller.call(Action::DescribeTasks, |aws| aws.describe_tasks(name, asked)).await {
        Ok(described) => {
            hear_tasks(ledger, caller, (cluster, &described));
            ledger.change(|inner| {
                let known = inner.clusters.get_mut(cluster);
                known.into_iter().for_each(|known| ids.iter().for_each(|id| known.hurry(id)));
            });
        }
        // They are asked about again.
        Err(error) => debug!(cluster = %cluster, "tasks of cluster `{cluster}` are not known yet: {error}"),
    }
}

async fn ask_definition(ledger: &Ledger, caller: &Caller, arn: &str) {
    let answer = caller.call(Action::DescribeTaskDefinition, |aws| aws.describe_task_definition(arn.to_owned())).await;
    let now_ms = caller.clock.now().unix_ms;
    ledger.change(|inner| {
        let is_news = match &answer {
            Ok(definition) => {
                inner.definitions.learn(arn, definition);
                true
            }
            Err(error) => inner.definitions.miss(arn, error, now_ms),
        };
        if !is_news {
            return;
        }
        for known in inner.clusters.values_mut() {
            known.learn_definition(arn, &mut inner.definitions, now_ms);
        }
    });
}

async fn ask_machines(ledger: &Ledger, caller: &Caller, ids: Vec<Label>) {
    let asked_ms = caller.clock.now().unix_ms;
    let texts: Vec<String> = ids.iter().map(Label::to_string).collect();
    let answer = caller.call(Action::DescribeInstances, |aws| aws.describe_instances(texts)).await;
    let now_ms = caller.clock.now().unix_ms;
    let found = match answer {
        Ok(found) => found,
        Err(CallError::Denied { .. }) => {
            for_all(ledger, |known| {
                ids.iter().for_each(|id| known.hear_machine(id, now_ms, super::machine::Machine::refused))
            });
            return;
        }
        // They are due again in a minute.
        Err(error) => return debug!("instances are not known yet: {error}"),
    };
    for_all(ledger, |known| {
        for id in &ids {
            let instance = found.iter().find(|instance| instance.instance_id == id.as_str());
            let answer = instance.and_then(|instance| {
                Some((Power::read(&instance.state)?, read(instance), read_az(instance.availability_zone.as_deref())))
            });
            // A state that this version does not know says nothing.
            if instance.is_none() || answer.is_some() {
                known.hear_machine(id, now_ms, |machine| machine.answered(answer, asked_ms));
            }
        }
    });
}

fn read(instance: &Ec2Instance) -> Vec<std::net::IpAddr> {
    read_addresses(instance.addresses.iter().map(String::as_str))
}

fn for_all(ledger: &Ledger, change: impl Fn(&mut Knowledge)) {
    ledger.change(|inner| inner.clusters.values_mut().for_each(change));
}

async fn ask_instances(ledger: &Ledger, caller: &Caller, (cluster, name, arns): (&Label, String, Vec<String>)) {
    let answer =
        caller.call(Action::DescribeContainerInstances, |aws| aws.describe_container_instances(name, arns)).await;
    match answer {
        Ok(described) => drop(hear_instances(ledger, caller, (cluster, &described))),
        // The next listing has them.
        Err(error) => debug!(cluster = %cluster, "instances of cluster `{cluster}` are not known yet: {error}"),
    }
}

async fn ask_services(ledger: &Ledger, caller: &Caller, (cluster, name, arns): (&Label, String, Vec<String>)) {
    let answer = caller.call(Action::DescribeServices, |aws| aws.describe_services(name, arns)).await;
    let now_ms = caller.clock.now().unix_ms;
    match answer {
        Ok(described) => drop(ledger.change(|inner| {
            let Some(known) = inner.clusters.get_mut(cluster) else { return };
            described.items.iter().for_each(|service| known.hear_service(service, now_ms));
        })),
        // The next listing has them.
        Err(error) => debug!(cluster = %cluster, "services of cluster `{cluster}` are not known yet: {error}"),
    }
}
