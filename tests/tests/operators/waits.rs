//! `portolan wait`: returns when it is so, and says why it will not be.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use portolan_registry::clock::Clock;
use portolan_tests::command::Ran;
use portolan_tests::container::EcsTask;
use portolan_tests::double::{Definition, Docker, Double, Events, Server, Task};
use portolan_tests::janitor::{self, Kind};
use portolan_tests::lab::Lab;
use portolan_tests::namespace::Namespace;
use portolan_tests::programs::{self, Program};
use portolan_tests::site::{ADMIN, CLUSTER, REGISTRY_HTTP, Site, is_ready, start_sidecar};
use portolan_tests::wait::{PATIENCE, eventually, now};
use portolan_tests::{needs, report};

/// Milliseconds by contract; seconds on a machine that runs other tests, too.
const SOON: Duration = Duration::from_secs(6);

/// A wait under way.
struct Waiting {
    child: Child,
    began: Instant,
}

impl Waiting {
    fn start(node: &Namespace, args: &[&str]) -> anyhow::Result<Self> {
        let mut command = node.portolan_command(&[&["-o", "json", "wait"], args].concat())?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Waiting { child: command.spawn()?, began: now() })
    }

    /// It must go on, else what it told.
    fn goes_on(mut self) -> anyhow::Result<Self> {
        if self.child.try_wait()?.is_some() {
            let (ran, took) = self.end()?;
            anyhow::bail!("the wait ended after {took:?}: {ran:?}");
        }
        Ok(self)
    }

    /// What came of it, and how long it took.
    fn end(self) -> anyhow::Result<(Ran, Duration)> {
        let output = self.child.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ran = Ran { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) };
        Ok((ran, self.began.elapsed()))
    }
}

fn outcome(ran: &Ran) -> anyhow::Result<Value> {
    serde_json::from_str(&ran.out).with_context(|| format!("{ran:?}"))
}

#[test]
fn a_wait_returns_when_as_many_are_usable() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let site = Site::start()?;
    let node = site.node();
    let waiting = Waiting::start(node, &["elasticsearch.production", "--usable", "2", "--timeout", "60s"])?;
    let first = site.lab.engine.run_elasticsearch(CLUSTER)?;
    eventually(PATIENCE, || node.usable("elasticsearch").and_then(|usable| are(usable.len(), 1)))?;
    let waiting = waiting.goes_on().context("one is not two")?;
    let late = ["-p", "0:9200", "-e", "START_DELAY_MS=1500"];
    let second = site.lab.engine.run_task(&EcsTask::new(CLUSTER, "elasticsearch"), &late, &["elasticsearch"])?;
    let place = format!("{}:{}", node.address, second.port(9200)?);
    eventually(PATIENCE, || match node.usable("elasticsearch")? {
        usable if usable.contains(&place) => Ok(()),
        usable => anyhow::bail!("{usable:?}"),
    })?;
    let usable = now();
    let (ran, _) = waiting.end()?;
    assert!(usable.elapsed() < SOON, "it returned {:?} later", usable.elapsed());
    assert_eq!((ran.code, &outcome(&ran)?["outcome"]), (Some(0), &"usable".into()), "{ran:?}");
    // What is drained or fails does not count.
    let drained = node.portolan(&["drain", first.host_name()])?;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    let ran = node.portolan(&["wait", "elasticsearch", "--usable", "2", "--timeout", "1s"])?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("1 of 2 usable, 1 draining") && ran.out.contains("the time is over"), "{}", ran.out);
    Ok(())
}

fn are(count: usize, expected: usize) -> anyhow::Result<()> {
    anyhow::ensure!(count == expected, "{count} are usable");
    Ok(())
}

#[test]
fn a_wait_tells_the_exit_codes_of_those_that_died() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let site = Site::start()?;
    let (node, engine) = (site.node(), &site.lab.engine);
    let waiting = Waiting::start(node, &["web.production", "--usable", "3", "--timeout", "12s"])?;
    let web = || engine.run_task(&EcsTask::new(CLUSTER, "web"), &["-p", "0:9200"], &["elasticsearch"]);
    let (crashes, killed) = (web()?, web()?);
    eventually(PATIENCE, || node.usable("web").and_then(|usable| are(usable.len(), 2)))?;
    // Its answer is lost with it.
    node.fetch(SocketAddr::new(node.addr(), crashes.port(9200)?), "/quit").ok();
    killed.kill()?;
    // And one that ends before anybody could look at it.
    let at_once = engine.run_task(&EcsTask::new(CLUSTER, "web"), &["-p", "0:9200"], &["exit", "78"])?;
    let (ran, took) = waiting.end()?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(took >= Duration::from_secs(12) && took < Duration::from_secs(12) + SOON, "it took {took:?}");
    let outcome = outcome(&ran)?;
    assert_eq!(outcome["outcome"], "timeout");
    for (container, code) in [(&crashes, 3), (&killed, 137), (&at_once, 78)] {
        let ended = outcome["ended"].as_array().context("none ended")?;
        let run = ended.iter().find(|run| run["container_id"] == container.id.as_str());
        let run = run.with_context(|| format!("{code} is not told: {outcome:#}"))?;
        assert_eq!((&run["exit_code"], &run["node"]), (&code.into(), &"a".into()), "{run}");
    }
    // Whoever asks a moment too late, as a pipeline does, is told of them, too.
    let ran = node.portolan(&["wait", "web.production", "--usable", "1", "--timeout", "0s"])?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for said in ["0 of 1 usable", "exit code 3", "exit code 137", "exit code 78"] {
        assert!(ran.out.contains(said), "no {said:?} in {}", ran.out);
    }
    Ok(())
}

/// A registry that asks the double, and a sidecar on a container instance.
struct WithEcs {
    lab: Lab,
    _registry: Program,
    _sidecar: Program,
    _server: Server,
    _events: Events,
    aws: Double,
    docker: Docker,
}

impl WithEcs {
    fn start() -> anyhow::Result<Self> {
        let lab = Lab::start()?;
        // Its times are told beside ours.
        let aws = Double::with_clock(1, Clock::system());
        let (events, docker) = (aws.queue("events"), Docker::new(&aws));
        let server = Server::start_in(&aws, lab.network.outside())?;
        let instance = docker.join(&aws.cluster(CLUSTER), &lab.engine);
        let data = janitor::folder(&janitor::unique("registry"), Kind::Folder)?;
        let registry = programs::path("portolan-registry")?.to_string_lossy().into_owned();
        let (data, endpoint) = (format!("--data-dir={}", data.display()), format!("--aws-endpoint={}", server.url()));
        let (clusters, queue) =
            (format!("--aws-clusters={CLUSTER}"), format!("--aws-queue={}", server.queue_url("events")));
        let args = [
            "AWS_ACCESS_KEY_ID=AKIDTEST",
            "AWS_SECRET_ACCESS_KEY=secret",
            "AWS_CONFIG_FILE=/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
            "AWS_EC2_METADATA_DISABLED=true",
            &registry,
            &data,
            &endpoint,
            &clusters,
            &queue,
            "--aws-region=eu-central-1",
            "--log-format=text",
        ];
        let mut registry = Program::start_file(&lab.node, "env", &args)?;
        registry.listening("grpc")?;
        let node = format!("--node={}", instance.id());
        let sidecar = start_sidecar(&lab.node, &lab.engine.socket(), &[&node])?;
        is_ready(&lab.node, REGISTRY_HTTP)?;
        is_ready(&lab.node, ADMIN)?;
        Ok(WithEcs { lab, _registry: registry, _sidecar: sidecar, _server: server, _events: events, aws, docker })
    }

    fn node(&self) -> &Arc<Namespace> {
        &self.lab.node
    }
}

#[test]
fn a_wait_for_an_ecs_service_tells_why_its_deployment_failed() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = WithEcs::start()?;
    let good = Definition::bridge("web").port(9200).plays(&["elasticsearch"]);
    let service = scene.aws.cluster(CLUSTER).service("web", &scene.aws.define(good), 2);
    let waiting = Waiting::start(scene.node(), &["web.production", "--timeout", "60s"])?;
    scene.docker.settle()?;
    let (ran, took) = waiting.end()?;
    report::say(&format!("two tasks of an ECS service were usable after {took:.1?}"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(outcome(&ran)?["wanted"], 2, "as many as ECS should run");

    let waiting = Waiting::start(scene.node(), &["web.production", "--usable", "3", "--timeout", "60s"])?;
    let bad = Definition::bridge("web").port(9200).plays(&["exit", "78"]);
    service.deploy(&scene.aws.define(bad));
    let crashing = service.tasks().into_iter().find(|task| task.now().task_definition_arn.ends_with(":2"));
    let crashing = crashing.context("a task of the new definition")?;
    scene.docker.start(&crashing)?;
    crash_is_seen(&scene, &crashing)?;
    let waiting = waiting.goes_on().context("ECS may try again")?;
    service.fail_deployment();
    let (ran, took) = waiting.end()?;
    report::say(&format!("the deployment's failure was told after {took:.1?}"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let outcome = outcome(&ran)?;
    assert_eq!(outcome["outcome"], "failed", "{outcome:#}");
    assert!(outcome["deployment"]["reason"].as_str().unwrap_or_default().contains("circuit breaker"), "{outcome:#}");
    let stopped = outcome["stopped"].as_array().context("none stopped")?;
    let task = stopped.iter().find(|task| task["task_id"] == crashing.id());
    let task = task.with_context(|| format!("{} is not told: {outcome:#}", crashing.id()))?;
    assert_eq!(task["code"], "EssentialContainerExited");
    assert_eq!(task["containers"][0]["exit_code"], 78);
    let text = scene.node().portolan(&["wait", "web.production", "--usable", "3", "--timeout", "0s"])?;
    assert_eq!(text.code, Some(1), "{text:?}");
    for said in ["FAILED: ECS deployment circuit breaker", "EssentialContainerExited", "exit code 78"] {
        assert!(text.out.contains(said), "no {said:?} in {}", text.out);
    }
    Ok(())
}

/// The container of a task really ended, ECS is told, and tells it.
fn crash_is_seen(scene: &WithEcs, task: &Task) -> anyhow::Result<()> {
    let container = scene.docker.container(task, "web")?;
    eventually(PATIENCE, || match container.inspect("{{.State.Running}}")?.as_str() {
        "false" => Ok(()),
        other => anyhow::bail!("running: {other}"),
    })?;
    task.crash(78);
    scene.docker.stop(task)?;
    let is_told = || {
        let why = scene.node().portolan(&["-o", "json", "explain", "web.production"])?.json()?;
        let stopped = why["stopped"].as_array().context("none stopped")?;
        anyhow::ensure!(stopped.iter().any(|stopped| stopped["task_id"] == task.id()), "{why}");
        Ok(())
    };
    eventually(PATIENCE, is_told).context("what ECS says")
}
