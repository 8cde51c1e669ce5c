//! The ECS double is AWS to those who know AWS: its own command line, and boto3 with AWS's own models of every answer.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use portolan_tests::double::{Bucket, Cluster, Definition, Double, Fault, LaunchType, Server, Service, When};
use portolan_tests::{http, needs, parts};

const WITNESS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ecs_double/witness.py");
const TROUBLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ecs_double/troubles.py");

/// A cluster with two services, one of them on Fargate, and a machine elsewhere.
struct Scene {
    aws: Double,
    server: Server,
    cluster: Cluster,
    web: Service,
}

impl Scene {
    fn start(seed: u64) -> anyhow::Result<Self> {
        let aws = Double::new(seed);
        let cluster = aws.cluster("prod");
        cluster.instance("10.0.3.7");
        cluster.instance_in("eu-central-1b", &["10.0.4.7", "10.0.4.8", "2001:db8::7"]);
        cluster.external_instance();
        let web = aws.define(Definition::bridge("web").port(80).named("http").range("5000-5003").label("a", "b"));
        let web = cluster.service("web", &web, 3);
        let api = aws.define(Definition::awsvpc("api").port(8080).named("grpc").speaks("grpc").checked());
        cluster.fargate("api", &api, 2);
        Ok(Scene { server: Server::start(&aws)?, aws, cluster, web })
    }

    /// A program that finds credentials, and nothing of the machine's own settings.
    fn command(&self, program: &str) -> Command {
        let mut command = parts::command(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        let settings = [
            ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_MAX_ATTEMPTS", "1"),
            // Version 1 has no `--no-cli-pager`.
            ("AWS_PAGER", ""),
            ("NO_PROXY", "127.0.0.1"),
        ];
        command.envs(settings);
        command
    }

    fn aws(&self, args: &str) -> anyhow::Result<Output> {
        self.aws_with(args, &[])
    }

    fn aws_with(&self, args: &str, settings: &[(&str, &str)]) -> anyhow::Result<Output> {
        let mut command = self.command("aws");
        command.args(["--endpoint-url", &self.server.url(), "--output", "json"]).args(args.split(' '));
        command.envs(settings.iter().copied()).output().context("run aws")
    }

    /// What the command line prints.
    fn read(&self, args: &str) -> anyhow::Result<Value> {
        let output = self.aws(args)?;
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(output.status.success(), "aws {args}: {error}");
        serde_json::from_str(&out).with_context(|| format!("aws {args}: {out}"))
    }

    /// What the command line says when it fails.
    fn fails(&self, args: &str) -> anyhow::Result<String> {
        let output = self.aws(args)?;
        anyhow::ensure!(!output.status.success(), "aws {args} did not fail");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn sorted(arns: &Value) -> Vec<String> {
    let mut arns: Vec<String> = arns.as_array().into_iter().flatten().map(Value::to_string).collect();
    arns.sort();
    arns
}

#[test]
fn the_command_line_reads_all_of_it() -> anyhow::Result<()> {
    needs!(anyone: "aws");
    let scene = Scene::start(1)?;
    scene.aws.pages_of(1..=2);
    let task = scene.web.tasks()[0].clone();
    let listed = scene.read("ecs list-tasks --cluster prod --launch-type EC2")?;
    let own: Value = scene.web.tasks().iter().map(|task| json!(task.arn)).collect();
    assert_eq!(sorted(&listed["taskArns"]), sorted(&own));
    let described = scene.read(&format!("ecs describe-tasks --cluster prod --tasks {} nothing", task.arn))?;
    let said = &described["tasks"][0];
    assert_eq!((&said["lastStatus"], &said["version"]), (&json!("RUNNING"), &json!(task.now().version)));
    let bindings = &said["containers"][0]["networkBindings"];
    assert_eq!(bindings[0]["hostPort"], json!(task.now().containers[0].network_bindings[0].host_port));
    assert_eq!((&bindings[2]["containerPortRange"], bindings[2].get("hostPort")), (&json!("5000-5003"), None));
    assert_eq!(described["failures"][0]["reason"], "MISSING");
    let instances = scene.read("ecs list-container-instances --cluster prod")?;
    assert_eq!(sorted(&instances["containerInstanceArns"]).len(), 3);
    let services = scene.read("ecs describe-services --cluster prod --services web api")?;
    assert_eq!(services["services"][0]["runningCount"], 3);
    let definition = scene.read("ecs describe-task-definition --task-definition web:1")?;
    assert_eq!(definition["taskDefinition"]["containerDefinitions"][0]["dockerLabels"]["a"], "b");
    let second = scene.read("ec2 describe-instances --query Reservations[].Instances[].NetworkInterfaces")?.to_string();
    assert!(["10.0.3.7", "10.0.4.8", "2001:db8::7"].iter().all(|address| second.contains(address)), "{second}");
    assert_eq!(scene.read("sts get-caller-identity")?["Account"], "123456789012");
    scene.read(&format!("ecs stop-task --cluster prod --task {} --reason by-hand", task.arn))?;
    assert_eq!(task.now().stopped_reason.as_deref(), Some("by-hand"));
    assert_eq!(scene.aws.count("ecs:StopTask"), 1);
    Ok(())
}

#[test]
fn the_command_line_receives_and_deletes_events() -> anyhow::Result<()> {
    needs!(anyone: "aws");
    let scene = Scene::start(2)?;
    let queue = scene.aws.queue("events");
    let url = scene.server.queue_url("events");
    scene.web.tasks()[0].set_health("UNHEALTHY");
    let received = scene.read(&format!("sqs receive-message --queue-url {url} --attribute-names All"))?;
    let message = &received["Messages"][0];
    let event: Value = serde_json::from_str(message["Body"].as_str().context("a body")?)?;
    assert_eq!(
        (&event["detail-type"], &event["detail"]["healthStatus"]),
        (&json!("ECS Task State Change"), &json!("UNHEALTHY"))
    );
    assert_eq!(message["Attributes"]["ApproximateReceiveCount"], "1");
    let receipt = message["ReceiptHandle"].as_str().context("a receipt")?;
    let attributes = scene.read(&format!("sqs get-queue-attributes --queue-url {url} --attribute-names All"))?;
    assert_eq!(attributes["Attributes"]["ApproximateNumberOfMessagesNotVisible"], "1");
    let deleted = scene.aws(&format!("sqs delete-message --queue-url {url} --receipt-handle {receipt}"))?;
    assert!(deleted.status.success(), "{deleted:?}");
    assert_eq!(queue.counts().hidden, 0);
    let missing = scene.fails(&format!("sqs receive-message --queue-url {url}x"))?;
    assert!(missing.contains("NonExistentQueue"), "{missing}");
    Ok(())
}

#[test]
fn the_command_line_names_troubles_as_in_aws() -> anyhow::Result<()> {
    needs!(anyone: "aws");
    let scene = Scene::start(3)?;
    let list = "ecs list-tasks --cluster prod";
    scene.aws.fault_of("ecs:ListTasks", Fault::Throttled, When::Next(1));
    let throttled = scene.fails(list)?;
    assert!(throttled.contains("(ThrottlingException)") && throttled.contains("Rate exceeded"), "{throttled}");
    scene.aws.deny("ecs:ListTasks");
    scene.aws.deny("ec2:DescribeInstances");
    let denied = scene.fails(list)?;
    assert!(denied.contains("(AccessDeniedException)") && denied.contains("ecs:ListTasks on resource"), "{denied}");
    let denied = scene.fails("ec2 describe-instances")?;
    assert!(denied.contains("(UnauthorizedOperation)"), "{denied}");
    Ok(())
}

#[test]
fn boto3_names_each_trouble_as_in_aws() -> anyhow::Result<()> {
    needs!(anyone: "python-boto3");
    let scene = Scene::start(6)?;
    scene.aws.queue("events");
    for (action, fault) in [
        ("ecs:ListTasks", Fault::Throttled),
        ("ecs:ListServices", Fault::ServerError),
        ("ecs:ListContainerInstances", Fault::Expired),
        ("ecs:ListClusters", Fault::Unreachable),
        ("ecs:DescribeClusters", Fault::Silent),
        ("sts:GetCallerIdentity", Fault::Throttled),
    ] {
        scene.aws.fault_of(action, fault, When::Always);
    }
    scene.aws.fault_of("ec2:DescribeInstances", Fault::Throttled, When::Nth(1));
    scene.aws.fault_of("ecs:DescribeServices", Fault::Dribble, When::Always);
    scene.aws.misbehave(|misbehaviour| misbehaviour.slow_max = Duration::from_millis(500));
    scene.aws.deny("sqs:ReceiveMessage");
    let mut command = scene.command("python-boto3");
    command.args([TROUBLES, &scene.server.url(), &scene.server.queue_url("events")]);
    let read: Value = serde_json::from_str(&parts::run(&mut command)?)?;
    let expected = json!({
        "list_tasks": "ThrottlingException",
        "list_services": "ServerException",
        "list_container_instances": "ExpiredTokenException",
        "list_clusters": "ConnectionClosedError",
        "describe_clusters": "ReadTimeoutError",
        "describe_services": "no error",
        "describe_tasks": "ClusterNotFoundException",
        "get_caller_identity": "Throttling",
        "describe_instances": "RequestLimitExceeded",
        "describe_instances again": "InvalidInstanceID.NotFound",
        "receive_message": "AccessDenied",
        "receive_message elsewhere": "AWS.SimpleQueueService.NonExistentQueue",
    });
    assert_eq!(read, expected);
    Ok(())
}

#[test]
fn a_cut_answer_ends_before_its_length() -> anyhow::Result<()> {
    let scene = Scene::start(7)?;
    let ask = || {
        let target = "X-Amz-Target: AmazonEC2ContainerServiceV20141113.ListTasks";
        let signed = "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/ecs/aws4_request";
        http::request(scene.server.addr, "POST /", &[target, signed], r#"{"cluster":"prod"}"#)
    };
    let whole = ask()?;
    assert_eq!((whole.status, whole.header("content-length")), (200, Some(whole.body.len().to_string().as_str())));
    scene.aws.fault(Fault::Cut, When::Always);
    let cut = ask()?;
    assert_eq!((cut.status, cut.header("content-length")), (200, whole.header("content-length")));
    assert_eq!(cut.body, whole.body[..whole.body.len() / 2]);
    Ok(())
}

#[test]
fn a_client_gets_through_a_rate_that_is_used_up() -> anyhow::Result<()> {
    needs!(anyone: "aws");
    let scene = Scene::start(4)?;
    scene.aws.limit(Bucket::ClusterResourceRead, 1.0, 2.0);
    let settings = [("AWS_MAX_ATTEMPTS", "8"), ("AWS_RETRY_MODE", "standard")];
    for _ in 0..2 {
        let output = scene.aws_with("ecs list-tasks --cluster prod --page-size 2", &settings)?;
        assert!(output.status.success(), "{output:?}");
    }
    // Three pages each, and at least one that came too early.
    assert!(scene.aws.count("ecs:ListTasks") > 6, "{:?}", scene.aws.calls());
    assert!(scene.aws.busiest(Duration::from_secs(1)) >= 2);
    Ok(())
}

#[test]
fn boto3_reads_all_of_it_in_the_shapes_of_aws_s_models() -> anyhow::Result<()> {
    needs!(anyone: "python-boto3");
    let scene = Scene::start(5)?;
    scene.aws.queue("events");
    let definition = scene.web.now().definition.clone();
    let external = scene.aws.define(Definition::host("agent").port(8125).udp());
    scene.cluster.run_on(LaunchType::External, &external);
    let task = scene.cluster.run(&definition);
    task.change(|task| task.tags.push(("team".into(), "search".into())));
    scene.web.tasks()[0].crash(1);
    let witness = || {
        let mut command = scene.command("python-boto3");
        parts::run(command.args([WITNESS, &scene.server.url(), "prod", &scene.server.queue_url("events")]))
    };
    let read: Value = serde_json::from_str(&witness()?)?;
    assert_eq!((read["tasks"].as_array().map(Vec::len), &read["failures"]), (Some(7), &json!(["MISSING"])));
    assert!(read["tasks"].as_array().is_some_and(|all| all.contains(&json!([task.arn, "RUNNING", 3]))), "{read}");
    assert_eq!(read["definitions"], json!({"agent": [null], "api": ["grpc"], "web": ["http", null]}));
    assert_eq!(read["services"], json!([["api", 2], ["web", 3]]));
    assert_eq!((read["machines"].as_array().map(Vec::len), &read["account"]), (Some(3), &json!("123456789012")));
    let mut addresses: Vec<_> = read["addresses"].as_object().context("addresses")?.values().collect();
    addresses.sort_by_key(|address| address.to_string());
    assert_eq!(addresses, ["10.0.3.7", "10.0.4.7"]);
    assert!(read["events"]["ECS Task State Change"].as_u64() > Some(6), "{read}");
    // The witness sees what AWS's models do not have.
    scene.aws.fault(Fault::UnknownFields, When::Always);
    let complaint = witness().map_or_else(|error| error.to_string(), |_| "none".to_owned());
    assert!(complaint.contains("DescribeTasks.tasks[].somethingNew is unknown"), "{complaint}");
    Ok(())
}
