//! ECS on the wire: awsJson1_1.

use portolan_registry::ecs::api::{Described, Page};
use serde_json::{Value, json};

use super::reply::Reply;
use super::request::{Request, Service};
use crate::double::actions::{Asked, Filter, Refusal};
use crate::double::shapes::{self, Shape};
use crate::double::{Double, State};

/// Answers one call.
pub(super) fn answer(aws: &Double, request: &Request) -> Reply {
    let Some(action) = action(&request.operation) else {
        return Reply::unknown(Service::Ecs, &request.operation);
    };
    let verdict = aws.with(|state| state.judge_json(action, |state| perform(state, action, request)));
    Reply::json(Service::Ecs, verdict)
}

/// The operations that the double knows, as IAM names them.
fn action(operation: &str) -> Option<&'static str> {
    const ACTIONS: [&str; 12] = [
        "ecs:DescribeClusters",
        "ecs:DescribeContainerInstances",
        "ecs:DescribeServices",
        "ecs:DescribeTaskDefinition",
        "ecs:DescribeTasks",
        "ecs:ListClusters",
        "ecs:ListContainerInstances",
        "ecs:ListServices",
        "ecs:ListTasks",
        "ecs:StopTask",
        "ecs:UpdateContainerInstancesState",
        "ecs:UpdateService",
    ];
    ACTIONS.into_iter().find(|action| action.strip_prefix("ecs:") == Some(operation))
}

fn perform(state: &mut State, action: &str, request: &Request) -> Result<Value, Refusal> {
    let cluster = request.text("cluster");
    let asked = Asked {
        token: request.maybe("nextToken"),
        results_max: request.json["maxResults"].as_u64().and_then(|max| max.try_into().ok()),
    };
    Ok(match action {
        "ecs:ListClusters" => page("clusterArns", state.list_clusters(&asked)?),
        "ecs:ListTasks" => page("taskArns", state.list_tasks(cluster, &filter(request, "desiredStatus"), &asked)?),
        "ecs:ListContainerInstances" => {
            let found = state.list_container_instances(cluster, &filter(request, "status"), &asked)?;
            page("containerInstanceArns", found)
        }
        "ecs:ListServices" => page("serviceArns", state.list_services(cluster, &asked)?),
        "ecs:DescribeClusters" => {
            described("clusters", state.describe_clusters(&request.texts("clusters"))?, shapes::cluster)
        }
        "ecs:DescribeTasks" => {
            let has_tags = request.texts("include").iter().any(|included| included == "TAGS");
            described("tasks", state.describe_tasks(cluster, &request.texts("tasks"))?, |task| {
                let mut said = shapes::task(task, Shape::Api);
                if !has_tags {
                    said["tags"] = json!([]);
                }
                said
            })
        }
        "ecs:DescribeContainerInstances" => {
            let found = state.describe_container_instances(cluster, &request.texts("containerInstances"))?;
            described("containerInstances", found, |instance| shapes::instance(instance, Shape::Api))
        }
        "ecs:DescribeServices" => {
            let found = state.describe_services(cluster, &request.texts("services"))?;
            described("services", found, |service| shapes::service(service))
        }
        "ecs:DescribeTaskDefinition" => {
            let found = state.describe_task_definition(request.text("taskDefinition"))?;
            json!({"taskDefinition": shapes::definition(&found), "tags": []})
        }
        _ => change(state, action, request)?,
    })
}

/// The calls that change something.
fn change(state: &mut State, action: &str, request: &Request) -> Result<Value, Refusal> {
    let cluster = request.text("cluster");
    Ok(match action {
        "ecs:StopTask" => {
            let task = state.stop_task(cluster, request.text("task"), request.text("reason"))?;
            json!({"task": shapes::task(&task, Shape::Api)})
        }
        "ecs:UpdateContainerInstancesState" => {
            let names = request.texts("containerInstances");
            let found = state.update_container_instances_state((cluster, &names), request.text("status"))?;
            described("containerInstances", found, |instance| shapes::instance(instance, Shape::Api))
        }
        _ => {
            let desired_count = request.json["desiredCount"].as_u64().and_then(|count| count.try_into().ok());
            let definition = request.maybe("taskDefinition");
            let name = (cluster, request.text("service"));
            let service = state.update_service(name, desired_count, definition.as_deref())?;
            json!({"service": shapes::service(&service)})
        }
    })
}

fn filter(request: &Request, status: &str) -> Filter {
    Filter {
        status: request.maybe(status),
        instance: request.maybe("containerInstance"),
        family: request.maybe("family"),
        service: request.maybe("serviceName"),
        started_by: request.maybe("startedBy"),
        launch_type: request.maybe("launchType"),
    }
}

fn page(name: &str, page: Page) -> Value {
    match page.next {
        Some(next) => json!({name: page.arns, "nextToken": next}),
        None => json!({name: page.arns}),
    }
}

fn described<T>(name: &str, described: Described<T>, shape: impl Fn(&T) -> Value) -> Value {
    let failures = described.failures.iter().map(|(arn, reason)| json!({"arn": arn, "reason": reason}));
    json!({name: described.items.iter().map(shape).collect::<Value>(), "failures": failures.collect::<Value>()})
}
