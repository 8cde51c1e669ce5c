//! A registry that may not ask AWS everything: it goes on with the rest, names what is missing and what is lost by it, and
//! heals by itself once the right is there. Real programs, a real container, and the double, which denies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use portolan_tests::double::{Definition, Service, Task};
use portolan_tests::needs;
use portolan_tests::programs::Program;
use portolan_tests::site::ecs::EcsLab;
use portolan_tests::site::{NODE_DNS, REGISTRY_DNS, REGISTRY_HTTP};
use portolan_tests::surfaces::{full_name, located};
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal, now};

/// A service whose tasks' family is another word.
const SERVICE: &str = "search";
/// A service on an instance that has no sidecar, at this address.
const STRAY: &str = "stray";
const STRAY_ADDRESS: &str = "10.77.0.99";
/// How long a right may take to show once it is granted: a denied action is left alone for half a minute, an instance for a
/// minute, and an empty queue answers after 20 s.
const HEALED_WITHIN: Duration = Duration::from_secs(150);

/// An action, what is lost without it, and what is there with it.
struct Right {
    action: &'static str,
    lost: fn(&Scene) -> anyhow::Result<()>,
    there: fn(&Scene) -> anyhow::Result<()>,
}

const MACHINES: Right = Right { action: "ec2:DescribeInstances", lost: address_is_lost, there: address_is_there };
const DEFINITIONS: Right = Right { action: "ecs:DescribeTaskDefinition", lost: name_is_lost, there: name_is_there };
const EVENTS: Right = Right { action: "sqs:ReceiveMessage", lost: events_are_lost, there: events_are_there };
const COUNTS: Right = Right { action: "ecs:DescribeServices", lost: counts_are_lost, there: counts_are_there };

struct Scene {
    registry: Program,
    _sidecar: Program,
    service: Service,
    stray: Task,
    lab: EcsLab,
}

impl Scene {
    /// Everything runs before the registry is first started, with these actions denied.
    fn start(seed: u64, denied: &[Right]) -> anyhow::Result<Self> {
        let lab = EcsLab::start(seed)?;
        denied.iter().for_each(|right| lab.aws.deny(right.action));
        let definition = Definition::bridge("elasticsearch").port(9200).named("http").plays(&["elasticsearch"]);
        let service = lab.cluster.service(SERVICE, &lab.aws.define(definition), 2);
        lab.docker.settle()?;
        let elsewhere = lab.cluster.instance(STRAY_ADDRESS);
        let stray = lab.cluster.run(&lab.aws.define(Definition::bridge(STRAY).port(80)));
        while stray.now().last_status != "RUNNING" {
            stray.step();
        }
        // Nothing else is placed there.
        elsewhere.connect_agent(false);
        let registry = lab.start_registry()?;
        let sidecar = lab.start_sidecar()?;
        Ok(Scene { registry, _sidecar: sidecar, service, stray, lab })
    }

    fn json(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.lab.node().fetch(REGISTRY_HTTP, path)?;
        anyhow::ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
        answer.json()
    }

    /// What the registry says is denied, and what is lost by it.
    fn denied(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let status = self.json("/api/status")?;
        let denied = status["aws"]["denied"].as_array().context("no list of what is denied")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(denied.iter().map(|one| (text(&one["action"]), text(&one["without"]))).collect())
    }

    /// The actions that `portolan doctor` names: those that its own credentials may not, and those that the registry may not.
    fn doctored(&self) -> anyhow::Result<[BTreeSet<String>; 2]> {
        let output = self.lab.doctor()?;
        let report: Value = serde_json::from_slice(&output.stdout).context("read what the doctor says")?;
        let checks = report["checks"].as_array().context("no checks")?;
        let named = |check: &Value, field: &str| {
            let words = check[field].as_str().unwrap_or_default().split(['`', ' ']);
            words.filter(|word| is_action(word)).map(str::to_owned).collect::<Vec<_>>()
        };
        let own = checks.iter().filter(|check| check["outcome"] == "failed").flat_map(|check| named(check, "check"));
        let registry = checks.iter().filter(|check| check["check"] == "registry's rights");
        Ok([own.collect(), registry.flat_map(|check| named(check, "found")).collect()])
    }

    /// How often the log says so of an action.
    fn logged(&self, action: &str, words: &str) -> usize {
        self.registry.log().matches(&format!("`{action}` is {words}")).count()
    }

    fn srv(&self, name: &str) -> anyhow::Result<BTreeSet<String>> {
        located(&self.lab.node().dig(REGISTRY_DNS, &format!("{name} SRV"))?)
    }

    fn place(&self, task: &Task) -> anyhow::Result<String> {
        let container = self.lab.docker.container(task, "elasticsearch")?;
        Ok(format!("{}:{}", self.lab.node().address, container.port(9200)?))
    }

    fn places(&self) -> anyhow::Result<BTreeSet<String>> {
        self.service.tasks().iter().map(|task| self.place(task)).collect()
    }

    /// Tasks of the node that has a sidecar go by their service, and by no other name.
    fn is_named_properly(&self) -> anyhow::Result<()> {
        let places = self.places()?;
        for server in [REGISTRY_DNS, NODE_DNS] {
            let look = || self.lab.node().srv(server, SERVICE).map_err(|error| format!("{error:#}"));
            eventually_equal(PATIENCE, &Ok(places.clone()), look).with_context(|| format!("by {server}"))?;
        }
        let family = self.lab.node().dig(REGISTRY_DNS, &format!("{} SRV", full_name("elasticsearch")))?;
        anyhow::ensure!(family.status == "NXDOMAIN", "{}", family.text);
        Ok(())
    }
}

fn is_action(word: &str) -> bool {
    ["ecs:", "ec2:", "sqs:"].iter().any(|service| word.starts_with(service))
}

fn address_is_lost(scene: &Scene) -> anyhow::Result<()> {
    let nodes = scene.json("/api/nodes")?;
    let nodes = nodes["nodes"].as_array().context("no nodes")?;
    let is_stray = |node: &&Value| node["sidecar"] == "none";
    let stray = nodes.iter().find(is_stray).with_context(|| format!("no node without a sidecar in {nodes:#?}"))?;
    anyhow::ensure!(stray["addresses"] == serde_json::json!([]), "{stray}");
    Ok(())
}

fn address_is_there(scene: &Scene) -> anyhow::Result<()> {
    let port = scene.stray.now().containers[0].network_bindings[0].host_port.context("no host port")?;
    let found = scene.srv(&full_name(STRAY))?;
    anyhow::ensure!(found == [format!("{STRAY_ADDRESS}:{port}")].into(), "{found:?}");
    Ok(())
}

fn name_is_lost(scene: &Scene) -> anyhow::Result<()> {
    let by_number = scene.srv(&format!("_9200._tcp.{}", full_name(SERVICE)))?;
    anyhow::ensure!(by_number == scene.places()?, "{by_number:?}");
    let by_name = scene.lab.node().dig(REGISTRY_DNS, &format!("_http._tcp.{} SRV", full_name(SERVICE)))?;
    anyhow::ensure!(by_name.data("SRV").is_empty(), "{}", by_name.text);
    Ok(())
}

fn name_is_there(scene: &Scene) -> anyhow::Result<()> {
    let found = scene.srv(&format!("_http._tcp.{}", full_name(SERVICE)))?;
    anyhow::ensure!(found == scene.places()?, "{found:?}");
    Ok(())
}

fn applied(scene: &Scene) -> anyhow::Result<u64> {
    scene.json("/api/status")?["aws"]["queue"]["applied"].as_u64().context("no number of events")
}

fn events_are_lost(scene: &Scene) -> anyhow::Result<()> {
    anyhow::ensure!(applied(scene)? == 0, "events were applied");
    Ok(())
}

fn events_are_there(scene: &Scene) -> anyhow::Result<()> {
    anyhow::ensure!(applied(scene)? > 0, "no event was applied");
    Ok(())
}

fn desired(scene: &Scene) -> anyhow::Result<Option<u64>> {
    Ok(scene.lab.node().service(SERVICE)?["ecs"]["desired"].as_u64())
}

fn counts_are_lost(scene: &Scene) -> anyhow::Result<()> {
    anyhow::ensure!(desired(scene)?.is_none(), "the count is known");
    Ok(())
}

fn counts_are_there(scene: &Scene) -> anyhow::Result<()> {
    anyhow::ensure!(desired(scene)? == Some(2), "the count is not known");
    Ok(())
}

/// Starts a registry without these rights, and gives them to it.
fn play(seed: u64, denied: &[Right]) -> anyhow::Result<()> {
    let scene = Scene::start(seed, denied)?;
    let actions: BTreeSet<String> = denied.iter().map(|right| right.action.to_owned()).collect();
    let shown = || scene.denied().map(|denied| denied.into_keys().collect::<BTreeSet<_>>());
    scene.is_named_properly().context("without the rights")?;
    eventually_equal(PATIENCE, &Some(actions.clone()), || shown().ok()).context("what is denied")?;
    for right in denied {
        eventually(PATIENCE, || (right.lost)(&scene)).with_context(|| format!("lost without {}", right.action))?;
    }
    is_told(&scene, &actions)?;
    a_change_is_still_seen(&scene)?;

    scene.lab.aws.heal();
    let healed = now();
    for right in denied {
        let there = eventually(HEALED_WITHIN, || (right.there)(&scene));
        there.with_context(|| format!("there with {}, after {:.0?}", right.action, healed.elapsed()))?;
    }
    eventually_equal(HEALED_WITHIN, &Some(BTreeSet::new()), || shown().ok()).context("nothing is denied any more")?;
    portolan_tests::report::say(&format!("{actions:?} healed after {:.0?}", healed.elapsed()));
    is_told(&scene, &BTreeSet::new())?;
    for action in &actions {
        assert_eq!((scene.logged(action, "denied: "), scene.logged(action, "allowed now")), (1, 1), "{action}");
    }
    scene.is_named_properly().context("with the rights")
}

/// The command line names exactly these actions, with what is lost by each.
fn is_told(scene: &Scene, actions: &BTreeSet<String>) -> anyhow::Result<()> {
    let output = scene.lab.portolan(&["status"])?;
    let text = String::from_utf8(output.stdout)?;
    let told: BTreeSet<&str> = text.lines().filter(|line| line.contains(" is denied: ")).map(str::trim).collect();
    let denied = scene.denied()?;
    let expected: BTreeSet<String> =
        denied.iter().map(|(action, without)| format!("{action} is denied: {without}")).collect();
    assert!(told.iter().all(|line| expected.iter().any(|expected| line.ends_with(expected.as_str()))), "{text}");
    assert_eq!(told.len(), actions.len(), "{text}");
    assert!(denied.values().all(|without| !without.is_empty()), "{denied:?}");
    // The doctor receives no message, which would then be hidden from the registry.
    let tried = actions.iter().filter(|action| !action.starts_with("sqs:")).cloned().collect();
    assert_eq!(scene.doctored()?, [tried, actions.clone()]);
    Ok(())
}

/// By whatever the registry may still ask, a task that ECS stops leaves the answers, and one of a family that nobody heard of
/// goes by its service.
fn a_change_is_still_seen(scene: &Scene) -> anyhow::Result<()> {
    scene.service.tasks()[0].stop("by hand");
    let definition = Definition::bridge("new-family").container("elasticsearch").port(9200).plays(&["elasticsearch"]);
    let new = scene.lab.cluster.service("new", &scene.lab.aws.define(definition), 1);
    scene.lab.docker.settle()?;
    scene.is_named_properly().context("after a task was replaced")?;
    let expected: BTreeSet<String> = [scene.place(&new.tasks()[0])?].into();
    let look = || scene.srv(&full_name("new")).map_err(|error| format!("{error:#}"));
    eventually_equal(PATIENCE, &Ok(expected), look).context("a new service")?;
    new.scale(0);
    scene.lab.docker.settle()
}

#[test]
fn without_describing_machines_addresses_are_lost() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    play(1, &[MACHINES])
}

#[test]
fn without_describing_task_definitions_names_of_ports_are_lost() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    play(2, &[DEFINITIONS])
}

#[test]
fn without_receiving_messages_events_are_lost() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    play(3, &[EVENTS])
}

#[test]
fn without_describing_services_counts_are_lost() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    play(4, &[COUNTS])
}

#[test]
fn without_any_of_these_rights_the_rest_goes_on() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    play(5, &[MACHINES, DEFINITIONS, EVENTS, COUNTS])
}
