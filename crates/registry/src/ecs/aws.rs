//! The calls of [`Aws`] over the AWS SDK: one request each, as AWS answers it or as it refuses.
//!
//! Nothing is asked before the first call: region and credentials are found then, the standard way (environment, profile,
//! ECS container credentials, instance metadata). It never retries and never pages: the source does, which counts its calls.
//! An answer that lacks the list it was asked for is a failed call, never an empty list: an empty one removes tasks.

mod answers;
mod connect;
mod ec2;
mod refused;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use aws_sdk_ecs::types::DesiredStatus;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName};
use futures_util::FutureExt;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use self::connect::{Asked, Clients};
use self::refused::Action;
use super::api::{
    Answer, Aws, CallError, Cluster, ContainerInstance, Described, Desired, Ec2Instance, MESSAGES_MAX, Message, Page,
    Service, Task, TaskDefinition,
};

/// How long SQS holds a ReceiveMessage that has nothing to say; its longest.
const RECEIVE_WAIT_SECONDS: i32 = 20;

/// AWS in `region`, else in the one that the environment, the profile or the instance says. `endpoint` is asked instead
/// of every service's own, such as a double's.
pub fn client(region: Option<String>, endpoint: Option<String>) -> Arc<dyn Aws> {
    Arc::new(Sdk::new(Asked { region, endpoint, ..Asked::default() }))
}

/// The SDK's clients, made at the first call and kept.
struct Sdk {
    asked: Asked,
    clients: OnceCell<Clients>,
}

impl Sdk {
    fn new(asked: Asked) -> Self {
        Sdk { asked, clients: OnceCell::new() }
    }

    /// The clients. What fails here fails this call alone: the next one tries again.
    async fn clients(&self, action: Action) -> Result<&Clients, CallError> {
        let connected = self.clients.get_or_try_init(|| connect::connect(&self.asked));
        match timeout(self.asked.timeouts.call, connected).await {
            Ok(Ok(clients)) => Ok(clients),
            Ok(Err(reason)) => Err(action.failed(&reason)),
            Err(_) => Err(action.failed("region and settings were not found in time")),
        }
    }

    async fn ecs(&self, action: Action) -> Result<&aws_sdk_ecs::Client, CallError> {
        Ok(&self.clients(action).await?.ecs)
    }
}

impl fmt::Debug for Sdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sdk").field("region", &self.asked.region).field("endpoint", &self.asked.endpoint).finish()
    }
}

impl Aws for Sdk {
    fn describe_clusters(&self, clusters: Vec<String>) -> Answer<'_, Described<Cluster>> {
        const ACTION: Action = Action("ecs:DescribeClusters");
        async move {
            if clusters.is_empty() {
                return Ok(answers::nothing());
            }
            let call = self.ecs(ACTION).await?.describe_clusters().set_clusters(Some(clusters));
            let answer = call.send().await.map_err(|error| ACTION.refused(&error))?;
            let items = ACTION.present("clusters", answer.clusters)?;
            Ok(answers::described(items, answers::cluster, answer.failures))
        }
        .boxed()
    }

    fn list_tasks(&self, cluster: String, desired: Desired, token: Option<String>) -> Answer<'_, Page> {
        const ACTION: Action = Action("ecs:ListTasks");
        async move {
            let status = match desired {
                Desired::Running => DesiredStatus::Running,
                Desired::Stopped => DesiredStatus::Stopped,
            };
            let call = self.ecs(ACTION).await?.list_tasks();
            let call = call.cluster(cluster).desired_status(status).set_next_token(token);
            let answer = call.send().await.map_err(|error| ACTION.refused(&error))?;
            Ok(answers::page(ACTION.present("taskArns", answer.task_arns)?, answer.next_token))
        }
        .boxed()
    }

    fn describe_tasks(&self, cluster: String, arns: Vec<String>) -> Answer<'_, Described<Task>> {
        const ACTION: Action = Action("ecs:DescribeTasks");
        async move {
            if arns.is_empty() {
                return Ok(answers::nothing());
            }
            let call = self.ecs(ACTION).await?.describe_tasks().cluster(cluster).set_tasks(Some(arns));
            let answer = call.send().await.map_err(|error| ACTION.refused(&error))?;
            let items = ACTION.present("tasks", answer.tasks)?;
            Ok(answers::described(items, answers::task, answer.failures))
        }
        .boxed()
    }

    fn list_container_instances(&self, cluster: String, token: Option<String>) -> Answer<'_, Page> {
        const ACTION: Action = Action("ecs:ListContainerInstances");
        async move {
            let call = self.ecs(ACTION).await?.list_container_instances().cluster(cluster).set_next_token(token);
            let answer = call.send().await.map_err(|error| ACTION.refused(&error))?;
            let arns = ACTION.present("containerInstanceArns", answer.container_instance_arns)?;
            Ok(answers::page(arns, answer.next_token))
        }
        .boxed()
    }

    fn describe_container_instances(
        &self,
        cluster: String,
        arns: Vec<String>,
    ) -> Answer<'_, Described<ContainerInstance>> {
        const ACTION: Action = Action("ecs:DescribeContainerInstances");
        async move {
            if arns.is_empty() {
                return Ok(answers::nothing());
            }
            let call = self.ecs(ACTION).await?.describe_container_instances();
            let call = call.cluster(cluster).set_container_instances(Some(arns));
            let answer = call.send().await.map_err(|error| ACTION.refused(&error))?;
            let items = ACTION.present("containerInstances", answer.container_instances)?;
            Ok(answers::described(items, answers::container_instance, answer.failures))
        }
        .boxed()
    }

    fn list_services(&self, cluster: String, token: Option<String>) -> Answer<'_, Page> {
        const ACTION: Action = Action("ecs:ListServices");
        async move {
            let call = self.ecs(ACTION).await?.list_services().cluster(cluster).set_next_token(token);
            let answer = call.send().await.map_err(|error| ACTION.refused(&error))?;
            Ok(answers::page(ACTION.present("serviceArns", answer.service_arns)?, answer.next_token))
        }
        .boxed()
    }

    fn describe_services(&self, cluster: String, arns: Vec<String>) -> Answer<'_, Described<Service>> {
        const ACTION: Action = Action("ecs:DescribeServices");
        async move {
            if arns.is_empty() {
                return Ok(answers::nothing());
            }
            let call = self.ecs(ACTION).await?.describe_services().cluster(cluster).set_services(Some(arns));
            let answer = call.send().await.map_err(|error| ACTION.refused(&error))?;
            let items = ACTION.present("services", answer.services)?;
            Ok(answers::described(items, answers::service, answer.failures))
        }
        .boxed()
    }

    fn describe_task_definition(&self, arn: String) -> Answer<'_, TaskDefinition> {
        const ACTION: Action = Action("ecs:DescribeTaskDefinition");
        async move {
            let call = self.ecs(ACTION).await?.describe_task_definition().task_definition(arn);
            let answer = call.send().await.map_err(|error| ACTION.refused(&error))?;
            ACTION.present("taskDefinition", answer.task_definition.and_then(answers::task_definition))
        }
        .boxed()
    }

    fn describe_instances(&self, ids: Vec<String>) -> Answer<'_, Vec<Ec2Instance>> {
        const ACTION: Action = Action("ec2:DescribeInstances");
        async move {
            let ids = ec2::known_by_their_form(ids);
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            self.clients(ACTION).await?.ec2.invoke(ids).await.map_err(|error| ACTION.refused(&error))
        }
        .boxed()
    }

    fn receive_messages(&self, queue_url: String) -> Answer<'_, Vec<Message>> {
        const ACTION: Action = Action("sqs:ReceiveMessage");
        async move {
            let call = self.clients(ACTION).await?.sqs.receive_message().queue_url(queue_url);
            let call = call.max_number_of_messages(i32::try_from(MESSAGES_MAX).unwrap_or(1));
            let call = call.wait_time_seconds(RECEIVE_WAIT_SECONDS);
            let call = call.message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
            let call = call.customize().config_override(connect::patient(&self.asked.timeouts));
            let answer = call.send().await.map_err(|error| ACTION.refused(&error))?;
            Ok(answer.messages.unwrap_or_default().into_iter().filter_map(answers::message).collect())
        }
        .boxed()
    }

    fn delete_messages(&self, queue_url: String, receipts: Vec<String>) -> Answer<'_, ()> {
        const ACTION: Action = Action("sqs:DeleteMessage");
        async move {
            if receipts.is_empty() {
                return Ok(());
            }
            let entry = |(place, receipt): (usize, String)| {
                DeleteMessageBatchRequestEntry::builder().id(place.to_string()).receipt_handle(receipt).build()
            };
            let entries: Result<Vec<_>, _> = receipts.into_iter().enumerate().map(entry).collect();
            let entries = entries.map_err(|error| ACTION.failed(&error.to_string()))?;
            let call = self.clients(ACTION).await?.sqs.delete_message_batch();
            let answer = call.queue_url(queue_url).set_entries(Some(entries)).send().await;
            match answer.map_err(|error| ACTION.refused(&error))?.failed.first() {
                Some(first) => Err(ACTION.failed(&format!("some messages were not deleted: {}", first.code))),
                None => Ok(()),
            }
        }
        .boxed()
    }
}
