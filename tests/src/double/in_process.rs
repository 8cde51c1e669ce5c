//! The calls of the registry, answered without a socket. A test with paused time runs hours of faults in this way.

use std::pin::pin;
use std::time::Duration;

use portolan_registry::ecs::api::{
    Answer, Aws, CallError, Cluster, ContainerInstance, Described, Desired, Ec2Instance, MESSAGES_MAX, Message, Page,
    Service, Task, TaskDefinition,
};
use tokio::time::{Instant, sleep, timeout_at};

use super::actions::{Asked, Filter, Refusal, Verdict};
use super::queue::Receive;
use super::{Double, State};

/// How long ReceiveMessage waits, as the registry asks for.
const LONG_POLL: Duration = Duration::from_secs(20);

/// When the registry's client gives up a call that is not answered, and one that the server holds back.
const PATIENCE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(30)];

impl Double {
    fn ask<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, Refusal> + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(async move {
            let verdict = self.with(|state| state.judge(action, work));
            finish(action, verdict).await
        })
    }

    /// ReceiveMessage: waits until there is something, at most `wait`. The wait belongs to one call.
    pub async fn receive(&self, url: &str, request: Receive, wait: Duration) -> Verdict<Vec<Message>> {
        let deadline = Instant::now() + wait;
        let mut verdict = self.with(|state| state.judge("sqs:ReceiveMessage", |state| state.receive_now(url, request)));
        while matches!(&verdict.result, Ok(messages) if messages.is_empty()) && Instant::now() < deadline {
            // It listens before it looks once more: what comes in between is not missed.
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            verdict.result = self.with(|state| state.receive_now(url, request));
            if matches!(&verdict.result, Ok(messages) if messages.is_empty()) {
                let next = self.next_message(url).map_or(deadline, |next| next.min(deadline));
                timeout_at(next, changed).await.ok();
                verdict.result = self.with(|state| state.receive_now(url, request));
            }
        }
        verdict
    }

    /// When something may come into the queue by itself. Never now, so that nobody looks in a circle.
    fn next_message(&self, url: &str) -> Option<Instant> {
        let now_ms = self.now_ms();
        let next_ms = self.with(|state| {
            let visible_ms = state.queue(url).ok().and_then(|queue| queue.next_ms());
            visible_ms.into_iter().chain(state.world.next_ms()).min()
        })?;
        Some(Instant::now() + Duration::from_millis(next_ms.saturating_sub(now_ms).max(1)))
    }
}

async fn finish<T>(action: &'static str, verdict: Verdict<T>) -> Result<T, CallError> {
    let failed = |message: &str| CallError::Failed { action, message: message.to_owned() };
    let patience = PATIENCE[usize::from(action == "sqs:ReceiveMessage")];
    let is_silent = matches!(verdict.result, Err(Refusal::Silent));
    let takes = if is_silent { Duration::MAX } else { verdict.delay + verdict.spread };
    if takes > patience {
        sleep(patience).await;
        return Err(failed("no answer in time"));
    }
    if !takes.is_zero() {
        sleep(takes).await;
    }
    match verdict.result {
        Ok(_) if verdict.is_cut => Err(failed("the body ended early")),
        Ok(answer) => Ok(answer),
        Err(refusal) => Err(call_error(action, &refusal)),
    }
}

fn call_error(action: &'static str, refusal: &Refusal) -> CallError {
    let message = refusal.to_string();
    match refusal {
        Refusal::Throttled => CallError::Throttled { action, retry_after: None },
        Refusal::Denied(_) | Refusal::Expired => CallError::Denied { action, message },
        Refusal::NotFound { .. } => CallError::NotFound { action, message },
        Refusal::Invalid { .. } | Refusal::Broken | Refusal::Unreachable | Refusal::Silent => {
            CallError::Failed { action, message }
        }
    }
}

fn said<T, U>(described: Described<T>, said: impl Fn(&T) -> U) -> Described<U> {
    Described { items: described.items.iter().map(said).collect(), failures: described.failures }
}

/// As the registry's client asks: AWS's own default is the size of a page.
fn asked(token: Option<String>) -> Asked {
    Asked { token, results_max: None }
}

/// The client asks nobody about nothing.
fn of_nothing<T: Send + 'static>() -> Answer<'static, Described<T>> {
    Box::pin(async { Ok(Described { items: Vec::new(), failures: Vec::new() }) })
}

/// What the client keeps of a task definition.
fn kept(definition: &TaskDefinition) -> TaskDefinition {
    let mut kept = definition.clone();
    for container in &mut kept.container_definitions {
        container.environment.retain(|(name, _)| name.starts_with("SERVICE_"));
        container.docker_labels.sort();
    }
    kept
}

impl Aws for Double {
    fn describe_clusters(&self, clusters: Vec<String>) -> Answer<'_, Described<Cluster>> {
        if clusters.is_empty() {
            return of_nothing();
        }
        self.ask("ecs:DescribeClusters", move |state| state.describe_clusters(&clusters))
    }

    fn list_tasks(&self, cluster: String, desired: Desired, token: Option<String>) -> Answer<'_, Page> {
        let status = match desired {
            Desired::Running => "RUNNING",
            Desired::Stopped => "STOPPED",
        };
        let filter = Filter { status: Some(status.to_owned()), ..Filter::default() };
        self.ask("ecs:ListTasks", move |state| state.list_tasks(&cluster, &filter, &asked(token)))
    }

    fn describe_tasks(&self, cluster: String, arns: Vec<String>) -> Answer<'_, Described<Task>> {
        if arns.is_empty() {
            return of_nothing();
        }
        self.ask("ecs:DescribeTasks", move |state| {
            Ok(said(state.describe_tasks(&cluster, &arns)?, |task| task.said.clone()))
        })
    }

    fn list_container_instances(&self, cluster: String, token: Option<String>) -> Answer<'_, Page> {
        self.ask("ecs:ListContainerInstances", move |state| {
            state.list_container_instances(&cluster, &Filter::default(), &asked(token))
        })
    }

    fn describe_container_instances(
        &self,
        cluster: String,
        arns: Vec<String>,
    ) -> Answer<'_, Described<ContainerInstance>> {
        if arns.is_empty() {
            return of_nothing();
        }
        self.ask("ecs:DescribeContainerInstances", move |state| {
            Ok(said(state.describe_container_instances(&cluster, &arns)?, |instance| instance.said.clone()))
        })
    }

    fn list_services(&self, cluster: String, token: Option<String>) -> Answer<'_, Page> {
        self.ask("ecs:ListServices", move |state| state.list_services(&cluster, &asked(token)))
    }

    fn describe_services(&self, cluster: String, arns: Vec<String>) -> Answer<'_, Described<Service>> {
        if arns.is_empty() {
            return of_nothing();
        }
        self.ask("ecs:DescribeServices", move |state| {
            Ok(said(state.describe_services(&cluster, &arns)?, |service| service.said.clone()))
        })
    }

    fn describe_task_definition(&self, arn: String) -> Answer<'_, TaskDefinition> {
        self.ask("ecs:DescribeTaskDefinition", move |state| Ok(kept(&state.describe_task_definition(&arn)?.said)))
    }

    fn describe_instances(&self, ids: Vec<String>) -> Answer<'_, Vec<Ec2Instance>> {
        self.ask("ec2:DescribeInstances", move |state| {
            let (machines, _) = state.filter_instances(&ids, &Asked::default())?;
            Ok(machines.iter().map(|machine| (**machine).clone()).collect())
        })
    }

    fn receive_messages(&self, queue_url: String) -> Answer<'_, Vec<Message>> {
        let request = Receive { messages_max: MESSAGES_MAX, visibility_ms: None, is_shuffled: false };
        Box::pin(async move {
            let verdict = self.receive(&queue_url, request, LONG_POLL).await;
            finish("sqs:ReceiveMessage", verdict).await
        })
    }

    fn delete_messages(&self, queue_url: String, receipts: Vec<String>) -> Answer<'_, ()> {
        let entries: Vec<(String, String)> =
            receipts.into_iter().enumerate().map(|(number, receipt)| (number.to_string(), receipt)).collect();
        self.ask("sqs:DeleteMessage", move |state| {
            let deleted = state.delete_messages(&queue_url, &entries)?;
            match deleted.iter().find(|one| !one.is_valid) {
                None => Ok(()),
                Some(one) => Err(Refusal::Invalid {
                    code: "ReceiptHandleIsInvalid",
                    message: format!("The input receipt handle {} is not a valid receipt handle.", one.id),
                }),
            }
        })
    }
}
