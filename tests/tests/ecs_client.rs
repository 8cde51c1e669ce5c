//! The registry's own client gets the same from the double's wire as the double answers in process, so a test may use either.

use std::fmt::Debug;
use std::mem::discriminant;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context;
use portolan_registry::ecs::api::{Answer, Aws, CallError, Described, Desired, Page};
use portolan_registry::ecs::aws::client;

use portolan_tests::double::{Definition, Double, Fault, LaunchType, Server, When};
use portolan_tests::parts;

/// Both ways to ask one double.
struct Ways {
    aws: Double,
    wire: Arc<dyn Aws>,
    queue_url: String,
    _server: Server,
}

impl Ways {
    fn open(seed: u64) -> anyhow::Result<Self> {
        let aws = Double::new(seed);
        let server = Server::start(&aws)?;
        let wire = client(Some("eu-central-1".into()), Some(server.url()));
        let queue_url = server.queue_url("events");
        Ok(Ways { aws, wire, queue_url, _server: server })
    }

    /// The answer, once both ways gave it.
    async fn same<T: PartialEq + Debug>(&self, ask: impl Fn(&dyn Aws) -> Answer<'_, T>) -> anyhow::Result<T> {
        let (wire, process) = (ask(&*self.wire).await?, ask(&self.aws).await?);
        assert_eq!(wire, process, "the wire and the process");
        Ok(wire)
    }

    /// What is listed, once both ways gave it in equal pages.
    async fn listed(&self, ask: impl Fn(&dyn Aws, Option<String>) -> Answer<'_, Page>) -> anyhow::Result<Vec<String>> {
        let (mut arns, mut wire_token, mut process_token) = (Vec::new(), None, None);
        loop {
            let (wire, process) = (ask(&*self.wire, wire_token).await?, ask(&self.aws, process_token).await?);
            assert_eq!(wire.arns, process.arns);
            assert_eq!(wire.next.is_some(), process.next.is_some());
            arns.extend(wire.arns);
            (wire_token, process_token) = (wire.next, process.next);
            if wire_token.is_none() {
                return Ok(arns);
            }
        }
    }
}

/// The SDK finds credentials in the environment alone, and a process cannot change its own without unsafe code: the test
/// is run again in one of its own, with some. Says whether this is that one.
fn has_credentials(test: &str) -> anyhow::Result<bool> {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some_and(|id| id == "AKIDTEST") {
        return Ok(true);
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", test]).envs([("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    let said = parts::run(command.env_remove("AWS_SESSION_TOKEN").env_remove("AWS_PROFILE"))?;
    anyhow::ensure!(said.contains("1 passed"), "{said}");
    Ok(false)
}

fn whole<T>(described: Described<T>) -> Vec<T> {
    assert_eq!(described.failures, []);
    described.items
}

fn populate(aws: &Double) -> (String, String) {
    let cluster = aws.cluster("prod");
    cluster.instance_in("eu-central-1b", &["10.0.4.7", "10.0.4.8", "2001:db8::7"]);
    cluster.instance("10.0.3.7").terminate();
    cluster.external_instance();
    let web = Definition::bridge("web").port(80).named("http").range("5000-5003").label("b", "1").label("a", "2");
    let web = aws.define(web.variable("SERVICE_NAME", "shop").variable("SECRET", "x").container("side").port(81).udp());
    let service = cluster.service("web", &web, 3);
    service.tasks()[0].crash(1);
    let api = aws.define(Definition::awsvpc("api").port(8080).speaks("grpc").checked());
    let fargate = cluster.fargate("api", &api, 2);
    fargate.redeploy();
    let agent = aws.define(Definition::host("agent").port(8125).udp());
    cluster.run_on(LaunchType::External, &agent).stop("by hand");
    (web.said.task_definition_arn.clone(), service.arn)
}

#[tokio::test]
async fn every_call_brings_the_same_either_way() -> anyhow::Result<()> {
    if !has_credentials("every_call_brings_the_same_either_way")? {
        return Ok(());
    }
    let ways = Ways::open(1)?;
    let (definition, service) = populate(&ways.aws);
    ways.aws.pages_of(2..=2);
    let prod = || "prod".to_owned();
    let described = ways.same(|aws| aws.describe_clusters(vec![prod(), "none".into()])).await?;
    assert_eq!((described.items.len(), described.failures.len()), (1, 1));
    for (desired, count) in [(Desired::Running, 5), (Desired::Stopped, 4)] {
        let tasks = ways.listed(|aws, token| aws.list_tasks(prod(), desired, token)).await?;
        assert_eq!(tasks.len(), count, "{desired:?}");
        let tasks = whole(ways.same(|aws| aws.describe_tasks(prod(), tasks.clone())).await?);
        assert!(tasks.iter().all(|task| task.started_at_ms > Some(0) && task.version > 1));
    }
    let gone = vec!["arn:aws:ecs:eu-central-1:123456789012:task/prod/0".to_owned()];
    assert_eq!(ways.same(|aws| aws.describe_tasks(prod(), gone.clone())).await?.failures.len(), 1);
    let instances = ways.listed(|aws, token| aws.list_container_instances(prod(), token)).await?;
    let instances = whole(ways.same(|aws| aws.describe_container_instances(prod(), instances.clone())).await?);
    let mut ids: Vec<String> = instances.into_iter().map(|instance| instance.ec2_instance_id).collect();
    ids.push("i-0aaaaaaaaaaaaaaaa".into());
    let machines = ways.same(|aws| aws.describe_instances(ids.clone())).await?;
    assert_eq!(machines[0].addresses, ["10.0.4.7", "10.0.4.8", "2001:db8::7"]);
    assert_eq!(ways.listed(|aws, token| aws.list_services(prod(), token)).await?.len(), 2);
    let services = whole(ways.same(|aws| aws.describe_services(prod(), vec![service.clone()])).await?);
    assert_eq!(services[0].deployments[0].failed_tasks, 1);
    let described = ways.same(|aws| aws.describe_task_definition(definition.clone())).await?;
    assert_eq!(described.container_definitions[0].environment, [("SERVICE_NAME".to_owned(), "shop".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn messages_come_and_go_either_way() -> anyhow::Result<()> {
    if !has_credentials("messages_come_and_go_either_way")? {
        return Ok(());
    }
    let ways = Ways::open(2)?;
    let queue = ways.aws.queue("events");
    populate(&ways.aws);
    let sent = queue.counts().visible;
    let mut received = 0;
    let both: [&dyn Aws; 2] = [&*ways.wire, &ways.aws];
    for aws in both.into_iter().cycle() {
        if queue.counts().visible == 0 {
            break;
        }
        let messages = aws.receive_messages(ways.queue_url.clone()).await?;
        assert!(messages.iter().all(|message| message.receive_count == 1 && message.body.contains("detail-type")));
        received += messages.len();
        let receipts = messages.into_iter().map(|message| message.receipt_handle).collect();
        aws.delete_messages(ways.queue_url.clone(), receipts).await?;
    }
    assert!(sent > 20 && received == sent && queue.counts().hidden == 0, "{received} of {sent}");
    Ok(())
}

#[tokio::test]
async fn each_trouble_is_the_same_error_either_way() -> anyhow::Result<()> {
    if !has_credentials("each_trouble_is_the_same_error_either_way")? {
        return Ok(());
    }
    let ways = Ways::open(3)?;
    populate(&ways.aws);
    let faults =
        [Fault::Throttled, Fault::ServerError, Fault::Expired, Fault::Unreachable, Fault::Cut, Fault::PageFails];
    for fault in faults {
        ways.aws.fault(fault, When::Always);
        // A token of nobody's: only a page after the first one fails.
        let token = || (fault == Fault::PageFails).then(|| "706167657c307c".to_owned());
        same_error(&ways, |aws| aws.list_tasks("prod".into(), Desired::Running, token())).await?;
        if fault != Fault::PageFails {
            same_error(&ways, |aws| aws.describe_instances(vec!["i-0".into()])).await?;
            same_error(&ways, |aws| aws.describe_services("prod".into(), vec!["web".into()])).await?;
        }
        ways.aws.heal();
    }
    for action in ["ecs:ListTasks", "ec2:DescribeInstances", "sqs:ReceiveMessage"] {
        ways.aws.deny(action);
    }
    let denied = same_error(&ways, |aws| aws.list_tasks("prod".into(), Desired::Running, None)).await?;
    assert!(matches!(denied, CallError::Denied { action: "ecs:ListTasks", .. }));
    same_error(&ways, |aws| aws.describe_instances(vec!["i-0".into()])).await?;
    same_error(&ways, |aws| aws.receive_messages(ways.queue_url.clone())).await?;
    ways.aws.heal();
    let missing = same_error(&ways, |aws| aws.list_tasks("none".into(), Desired::Running, None)).await?;
    assert!(matches!(missing, CallError::NotFound { .. }));
    same_error(&ways, |aws| aws.describe_task_definition("none".into())).await?;
    same_error(&ways, |aws| aws.receive_messages(ways.queue_url.clone())).await?;
    Ok(())
}

/// The wire's error, which is of the same kind and of the same action as the process's.
async fn same_error<T: Debug>(ways: &Ways, ask: impl Fn(&dyn Aws) -> Answer<'_, T>) -> anyhow::Result<CallError> {
    let wire = ask(&*ways.wire).await.err().context("the wire gives no error")?;
    let process = ask(&ways.aws).await.err().context("the process gives no error")?;
    assert_eq!(discriminant(&wire), discriminant(&process), "{wire:?}, {process:?}");
    let action = |error: &CallError| match error {
        CallError::Throttled { action, .. }
        | CallError::Denied { action, .. }
        | CallError::NotFound { action, .. }
        | CallError::Failed { action, .. } => *action,
    };
    assert_eq!(action(&wire), action(&process));
    Ok(wire)
}
