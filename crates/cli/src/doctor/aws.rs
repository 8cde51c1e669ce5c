//! Each IAM action that the registry reads ECS by, tried on one cluster. It reads alone: no queue is asked, since a message
//! that is received is hidden from the registry.

use portolan_registry::ecs::api::{Answer, Aws, CallError, Desired};

use super::Check;

/// Such an instance, task definition, task or service may not exist: that it is not found proves the right to look.
const NO_INSTANCE: &str = "i-00000000000000000";
const NO_DEFINITION: &str = "portolan-doctor:1";
const NO_ID: &str = "00000000000000000000000000000000";

/// One check for each action that is missing or could not be tried; one for all when none is.
pub(super) async fn actions(aws: &dyn Aws, cluster: &str) -> Vec<Check> {
    let found = match aws.describe_clusters(vec![cluster.to_owned()]).await {
        Ok(described) => described.items.into_iter().next(),
        // Without a region, a network, or credentials every other call would say the same.
        Err(error @ (CallError::Failed { .. } | CallError::Denied { .. })) => return vec![refused(error)],
        Err(CallError::NotFound { .. } | CallError::Throttled { .. }) => None,
    };
    let Some(arn) = found.map(|cluster| cluster.cluster_arn) else {
        let fix = "see its name and region: `aws ecs list-clusters`";
        return vec![Check::failed("ECS cluster", format!("`{cluster}` is not there, or too much is asked"), fix)];
    };
    let checks = each(aws, &arn).await;
    if checks.is_empty() { vec![Check::ok("IAM", format!("every action is allowed on {arn}"))] } else { checks }
}

async fn each(aws: &dyn Aws, cluster: &str) -> Vec<Check> {
    let name = || cluster.to_owned();
    let made_up = |kind: &str| vec![format!("{}/{NO_ID}", cluster.replacen(":cluster/", &format!(":{kind}/"), 1))];
    let mut checks = Vec::new();
    checks.extend(tried(aws.list_tasks(name(), Desired::Running, None)).await);
    checks.extend(tried(aws.describe_tasks(name(), made_up("task"))).await);
    checks.extend(tried(aws.list_container_instances(name(), None)).await);
    checks.extend(tried(aws.describe_container_instances(name(), made_up("container-instance"))).await);
    checks.extend(tried(aws.list_services(name(), None)).await);
    checks.extend(tried(aws.describe_services(name(), made_up("service"))).await);
    checks.extend(tried(aws.describe_task_definition(NO_DEFINITION.to_owned())).await);
    checks.extend(tried(aws.describe_instances(vec![NO_INSTANCE.to_owned()])).await);
    checks
}

async fn tried<T>(answer: Answer<'_, T>) -> Option<Check> {
    match answer.await {
        Ok(_) | Err(CallError::NotFound { .. }) => None,
        Err(error) => Some(refused(error)),
    }
}

fn refused(error: CallError) -> Check {
    match error {
        CallError::Denied { action, message } => {
            Check::failed(action, message, format!("allow `{action}` to the registry's role, or give it credentials"))
        }
        CallError::Throttled { action, .. } => {
            Check::warning(action, "throttled, so not known", "ask again: this account's rate is used up")
        }
        CallError::NotFound { action, message } | CallError::Failed { action, message } => {
            Check::failed(action, message, "see `aws.region`, and the way from here to AWS")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use portolan_registry::ecs::api::{
        Cluster, ContainerInstance, Described, Ec2Instance, Message, Page, Service, Task, TaskDefinition,
    };

    use super::*;
    use crate::doctor::Outcome;

    const CLUSTER: &str = "arn:aws:ecs:eu-central-1:1:cluster/prod";

    /// AWS with nothing in it but one cluster, and one error.
    #[derive(Debug)]
    struct Account(Option<CallError>);

    impl Account {
        fn say<T: Send + 'static>(&self, action: &str, found: Result<T, CallError>) -> Answer<'_, T> {
            let error = self.0.clone().filter(|error| error.to_string().starts_with(action));
            async move { error.map_or(found, Err) }.boxed()
        }

        fn none<T: Send + 'static>(&self, action: &str, asked: &[String], kind: &str) -> Answer<'_, Described<T>> {
            assert_eq!(asked, [format!("arn:aws:ecs:eu-central-1:1:{kind}/prod/{NO_ID}")]);
            self.say(action, Ok(Described { items: Vec::new(), failures: Vec::new() }))
        }
    }

    impl Aws for Account {
        fn describe_clusters(&self, clusters: Vec<String>) -> Answer<'_, Described<Cluster>> {
            let found = Cluster { cluster_arn: CLUSTER.into(), cluster_name: "prod".into(), status: "ACTIVE".into() };
            let items = if clusters == ["prod"] { vec![found] } else { Vec::new() };
            self.say("ecs:DescribeClusters", Ok(Described { items, failures: Vec::new() }))
        }
        fn list_tasks(&self, cluster: String, _: Desired, _: Option<String>) -> Answer<'_, Page> {
            assert_eq!(cluster, CLUSTER);
            self.say("ecs:ListTasks", Ok(Page::default()))
        }
        fn describe_tasks(&self, _: String, arns: Vec<String>) -> Answer<'_, Described<Task>> {
            self.none("ecs:DescribeTasks", &arns, "task")
        }
        fn list_container_instances(&self, _: String, _: Option<String>) -> Answer<'_, Page> {
            self.say("ecs:ListContainerInstances", Ok(Page::default()))
        }
        fn describe_container_instances(
            &self,
            _: String,
            arns: Vec<String>,
        ) -> Answer<'_, Described<ContainerInstance>> {
            self.none("ecs:DescribeContainerInstances", &arns, "container-instance")
        }
        fn list_services(&self, _: String, _: Option<String>) -> Answer<'_, Page> {
            self.say("ecs:ListServices", Ok(Page::default()))
        }
        fn describe_services(&self, _: String, arns: Vec<String>) -> Answer<'_, Described<Service>> {
            self.none("ecs:DescribeServices", &arns, "service")
        }
        fn describe_task_definition(&self, _: String) -> Answer<'_, TaskDefinition> {
            let action = "ecs:DescribeTaskDefinition";
            self.say(action, Err(CallError::NotFound { action, message: "none".into() }))
        }
        fn describe_instances(&self, _: Vec<String>) -> Answer<'_, Vec<Ec2Instance>> {
            self.say("ec2:DescribeInstances", Ok(Vec::new()))
        }
        fn receive_messages(&self, _: String) -> Answer<'_, Vec<Message>> {
            panic!("the doctor takes no messages")
        }
        fn delete_messages(&self, _: String, _: Vec<String>) -> Answer<'_, ()> {
            panic!("the doctor deletes nothing")
        }
    }

    async fn check(error: Option<CallError>, cluster: &str, expected: &[(&str, Outcome)]) {
        let checks = actions(&Account(error), cluster).await;
        let found: Vec<_> = checks.iter().map(|check| (check.check, check.outcome)).collect();
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn every_action_is_tried_and_the_missing_one_named() {
        check(None, "prod", &[("IAM", Outcome::Ok)]).await;
        check(None, "test", &[("ECS cluster", Outcome::Failed)]).await;
        for action in [
            "ecs:DescribeClusters",
            "ecs:ListTasks",
            "ecs:DescribeTasks",
            "ecs:ListContainerInstances",
            "ecs:DescribeContainerInstances",
            "ecs:ListServices",
            "ecs:DescribeServices",
            "ecs:DescribeTaskDefinition",
            "ec2:DescribeInstances",
        ] {
            let denied = CallError::Denied { action, message: "no".into() };
            check(Some(denied), "prod", &[(action, Outcome::Failed)]).await;
        }
        let action = "ecs:ListServices";
        let throttled = CallError::Throttled { action, retry_after: Some(Duration::from_secs(1)) };
        check(Some(throttled), "prod", &[(action, Outcome::Warning)]).await;
        let failed = CallError::Failed { action, message: "no way".into() };
        check(Some(failed), "prod", &[(action, Outcome::Failed)]).await;
    }
}
