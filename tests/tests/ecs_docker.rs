//! The double's tasks as real containers: Docker shows what an ECS agent would have made, and ECS says what Docker does.

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::Value;

use portolan_registry::ecs::api;
use portolan_tests::double::{Definition, Docker, Double, Events, LaunchType, Server, ServiceWish, Task};
use portolan_tests::lab::Lab;
use portolan_tests::namespace::GATEWAY;
use portolan_tests::needs;
use portolan_tests::wait::{PATIENCE, eventually};

fn elasticsearch() -> Definition {
    Definition::bridge("elasticsearch").port(9200).named("http").label("portolan.tags", "a").plays(&["elasticsearch"])
}

/// The host port of a container's first binding.
fn host_port(task: &api::Task, container: usize) -> Option<u16> {
    task.containers[container].network_bindings.first()?.host_port
}

/// `lastStatus` and `desiredStatus` of every event of a task.
fn told(events: &Events, task: &Task) -> Vec<String> {
    let bodies = events.drain().into_iter().filter_map(|message| serde_json::from_str::<Value>(&message.body).ok());
    let of_task = bodies.filter(|event| event["detail"]["taskArn"] == task.arn.as_str());
    let text = |event: &Value, name: &str| event["detail"][name].as_str().unwrap_or_default().to_owned();
    of_task.map(|event| format!("{} {}", text(&event, "lastStatus"), text(&event, "desiredStatus"))).collect()
}

#[test]
fn a_service_s_tasks_really_run_crash_and_stop() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let aws = Double::new(1);
    let (events, docker, cluster) = (aws.queue("events"), Docker::new(&aws), aws.cluster("prod"));
    let node = docker.join(&cluster, &lab.engine);
    let service = cluster.service("search", &aws.define(elasticsearch()), 2);
    docker.settle()?;
    let tasks = service.tasks();
    for task in &tasks {
        let (now, container) = (task.now(), docker.container(task, "elasticsearch")?);
        assert_eq!((now.last_status.as_str(), &now.container_instance_arn), ("RUNNING", &Some(node.arn.clone())));
        assert_eq!(now.containers[0].runtime_id.as_ref(), Some(&container.id));
        assert_eq!(host_port(&now, 0), Some(container.port(9200)?));
        assert_eq!(container.inspect("{{index .Config.Labels \"com.amazonaws.ecs.task-arn\"}}")?, task.arn);
        assert_eq!(container.inspect("{{index .Config.Labels \"portolan.tags\"}}")?, "a");
        assert!(container.inspect("{{.Name}}")?.starts_with("/ecs-elasticsearch-1-elasticsearch-"));
        let addr = SocketAddr::new(lab.node.addr(), container.port(9200)?);
        eventually(PATIENCE, || lab.node.fetch(addr, "/"))?;
    }

    docker.container(&tasks[0], "elasticsearch")?.kill()?;
    docker.settle()?;
    let crashed = tasks[0].now();
    assert_eq!((crashed.last_status.as_str(), crashed.containers[0].exit_code), ("STOPPED", Some(137)));
    assert_eq!(crashed.stop_code.as_deref(), Some("EssentialContainerExited"));
    assert_eq!(service.now().said.running_count, 2, "another one took its place");

    events.drain();
    let both = service.tasks();
    service.scale(1);
    let stopping = both.into_iter().find(|task| task.now().desired_status == "STOPPED");
    let stopping = stopping.context("one is to stop")?;
    let container = docker.container(&stopping, "elasticsearch")?;
    assert_eq!(container.inspect("{{.State.Running}}")?, "true", "ECS says it first");
    assert_eq!(told(&events, &stopping), ["RUNNING STOPPED"]);
    docker.settle()?;
    assert_eq!(container.inspect("{{.State.Running}}")?, "false");
    assert_eq!(told(&events, &stopping), ["STOPPING STOPPED", "STOPPED STOPPED"]);
    assert_eq!(stopping.now().containers[0].exit_code, Some(137), "the stand-in waits for SIGKILL");
    Ok(())
}

#[test]
fn networks_of_every_mode_are_held_as_the_agent_holds_them() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let aws = Double::new(2);
    let (docker, cluster) = (Docker::new(&aws), aws.cluster("prod"));
    docker.join(&cluster, &lab.engine);
    let own = Definition::awsvpc("own").port(9200).plays(&["elasticsearch"]).container("side");
    let own = cluster.run(&aws.define(own));
    let range = cluster.run(&aws.define(Definition::bridge("range").range("5000-5002")));
    let host = Definition::host("host").port(9300).variable("PORT", "9300").plays(&["elasticsearch"]);
    let host = cluster.run(&aws.define(host));
    let connected = ServiceWish { is_connected: true, launch_type: LaunchType::Ec2, ..ServiceWish::default() };
    let connected = cluster.service_as("connected", (&aws.define(elasticsearch()), 1), connected).tasks().remove(0);
    docker.settle()?;

    let now = own.now();
    let address = now.containers[0].network_interfaces[0].private_ipv4_address.clone();
    let pause = docker.container(&own, "~internal~ecs~pause")?;
    assert_eq!(address, Some(pause.address()?));
    assert!(now.attachments[0].details.contains(&("privateIPv4Address".into(), pause.address()?)));
    assert_eq!((now.containers.len(), now.containers[0].network_bindings.len()), (2, 0));
    let addr = SocketAddr::new(pause.address()?.parse()?, 9200);
    eventually(PATIENCE, || lab.node.fetch(addr, "/"))?;

    let bindings = &range.now().containers[0].network_bindings;
    assert_eq!(bindings[0].container_port_range.as_deref(), Some("5000-5002"));
    assert_eq!(bindings[0].host_port_range.as_deref(), Some("20000-20002"));
    assert_eq!(docker.container(&range, "range")?.port(5002)?, 20002);

    assert_eq!(host_port(&host.now(), 0), Some(9300));
    eventually(PATIENCE, || lab.node.fetch(SocketAddr::new(lab.node.addr(), 9300), "/"))?;

    let now = connected.now();
    let pause = docker.container(&connected, "~internal~ecs~pause-elasticsearch")?;
    assert_eq!(host_port(&now, 0), Some(pause.port(9200)?));
    assert!(now.containers.iter().any(|container| container.name.starts_with("ecs-service-connect-")));
    let addr = SocketAddr::new(lab.node.addr(), pause.port(9200)?);
    eventually(PATIENCE, || lab.node.fetch(addr, "/"))?;

    let server = Server::start_in(&aws, lab.network.outside())?;
    assert_eq!(server.addr.ip(), GATEWAY);
    let answer = lab.node.inside(|| portolan_tests::http::fetch(server.addr, "/"))??;
    assert_eq!(answer.status, 404, "reached from a node: {answer:?}");
    Ok(())
}
