//! The Docker witness against a real engine: what it publishes is what runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use portolan_core::evidence::{Health, Phase};
use portolan_core::name::Label;
use portolan_sidecar::inspect::{Format, render};
use portolan_sidecar::registration::{Connection, LocalState};
use portolan_tests::container::{Container, EcsTask};
use portolan_tests::lab::Lab;
use portolan_tests::wait::{PATIENCE, eventually, throughout};
use portolan_tests::{needs, programs};

use witness::{Witness, newest, pid_of, socket_without_events};

#[path = "docker_witness/witness.rs"]
mod witness;

#[test]
fn follows_a_task_from_its_start_to_its_end() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let before = lab.engine.run_elasticsearch("arn:aws:ecs:eu-central-1:123456789012:cluster/Production")?;
    let witness = Witness::start(&lab)?;
    let state = witness.reader.load();
    let report = newest(&state, &before).context("what ran before is there once the state is complete")?;
    let port = &report.ports[0];
    assert_eq!((report.cluster.as_str(), report.name.as_str()), ("production", "elasticsearch"));
    assert_eq!(report.candidates.family, Some(Label::fixed("elasticsearch")));
    assert_eq!((port.container_port, port.host_port), (9200, before.port(9200)?));
    assert_eq!((port.addresses.as_slice(), port.is_dynamic), (&[lab.node.addr()][..], true));
    assert_eq!(port.health, Health::Passing, "{report:?}");
    assert_eq!(report.refusals, []);
    assert!(state.docker.notices.is_empty(), "processes are visible here: {:?}", state.docker.notices);
    let address: IpAddr = before.address()?.parse()?;
    assert_eq!(state.clients.get(&address), Some(&Label::fixed("production")));
    assert!(matches!(&state.docker.connection, Connection::Up { api_version } if api_version == "1.41"));

    let after = lab.engine.run_elasticsearch("production")?;
    witness.until_health(&after, Health::Passing)?;
    after.docker(&["kill", "-s", "HUP"])?;
    after.docker(&["kill", "-s", "USR1"])?;
    throughout(Duration::from_millis(300), || {
        let state = witness.reader.load();
        anyhow::ensure!(newest(&state, &after).is_some_and(|report| report.phase == Phase::Running), "{state:?}");
        Ok(())
    })?;
    after.docker(&["pause"])?;
    witness.until_phase(&after, &Phase::Paused)?;
    after.docker(&["unpause"])?;
    witness.until_phase(&after, &Phase::Running)?;
    after.kill()?;
    witness.until_died(&after, 137)?;
    // The stand-in goes on until it is killed: stopping shows for as long as that lasts.
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| before.stop(2));
        witness.until_phase(&before, &Phase::Stopping)?;
        stop.join().map_err(|_| anyhow::anyhow!("docker stop panicked"))?
    })?;
    witness.until_died(&before, 137)?;
    witness.until(|state| state.clients.is_empty().then_some(()))?;
    Ok(())
}

#[test]
fn a_restart_is_another_run_and_a_removal_is_an_end() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let witness = Witness::start(&lab)?;
    let container = lab.engine.run_elasticsearch("production")?;
    witness.until_health(&container, Health::Passing)?;
    let first = witness.until_report(&container, |report| Some(report.run))?;
    container.docker(&["restart", "-t", "0"])?;
    let second = witness.until_report(&container, |report| {
        let is_up = report.run > first && report.phase == Phase::Running;
        (is_up && report.ports.first()?.health == Health::Passing).then(|| report.ports[0].host_port)
    })?;
    assert_eq!(second, container.port(9200)?);
    let state = witness.reader.load();
    let earlier = state.reports.iter().find(|report| report.id == container.id && report.run == first);
    assert!(matches!(earlier.context("the first run is remembered")?.phase, Phase::Died(_)));
    container.remove()?;
    witness.until_died(&container, 137)
}

#[test]
fn takes_docker_s_health_check_and_its_own() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let witness = Witness::start(&lab)?;
    let health = ["--health-cmd=get http://127.0.0.1:9200/health", "--health-interval=200ms", "--health-retries=1"];
    let options = [&health[..], &["-p", "0:9200"]].concat();
    let by_docker = lab.engine.run_task(&EcsTask::new("production", "docker"), &options, &["elasticsearch"])?;
    let options = ["-p", "0:9200", "--label=portolan.check=http:/health", "--label=portolan.check.interval=250ms"];
    let by_us = lab.engine.run_task(&EcsTask::new("production", "ours"), &options, &["elasticsearch"])?;
    for container in [&by_docker, &by_us] {
        witness.until_health(container, Health::Passing).context("healthy")?;
        let addr = std::net::SocketAddr::new(lab.node.addr(), container.port(9200)?);
        lab.node.fetch(addr, "/health/fail")?;
        witness.until_health(container, Health::Failing).context("unhealthy")?;
        lab.node.fetch(addr, "/health/pass")?;
        witness.until_health(container, Health::Passing).context("healthy again")?;
    }
    Ok(())
}

#[test]
fn a_port_passes_when_it_listens_inside_not_when_docker_proxy_does() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let witness = Witness::start(&lab)?;
    // Publishes port 9999, where nothing will ever listen.
    let deaf = lab.engine.run(&["-p", "0:9999", "-p", "0:9200"], &["elasticsearch"])?;
    witness.until_health(&deaf, Health::Passing)?;
    let addr = std::net::SocketAddr::new(lab.node.addr(), deaf.port(9999)?);
    lab.node.inside(|| std::net::TcpStream::connect(addr))?.ok();
    let report = witness.until_report(&deaf, |report| Some(report.clone()))?;
    let health: BTreeMap<u16, Health> = report.ports.iter().map(|port| (port.container_port, port.health)).collect();
    assert_eq!(health, BTreeMap::from([(9200, Health::Passing), (9999, Health::Starting)]));
    Ok(())
}

#[test]
fn finds_ports_behind_every_network_mode() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let witness = Witness::start(&lab)?;
    let mut pause = EcsTask::new("production", "search");
    pause.container = "~internal~ecs~pause".into();
    let pause = lab.engine.run_task(&pause, &["-p", "0:9200"], &["wait"])?;
    let joined = format!("--network=container:{}", pause.id);
    let app = lab.engine.run_task(&EcsTask::new("production", "search"), &[&joined], &["elasticsearch"])?;
    witness.until_health(&app, Health::Passing)?;
    let port = witness.until_report(&app, |report| Some(report.ports[0].clone()))?;
    assert_eq!((port.container_port, port.host_port), (9200, pause.port(9200)?));
    assert!(witness.reader.load().reports.iter().all(|report| report.id != pause.id));
    assert!(witness.reader.load().left_out.iter().any(|left_out| left_out.id == pause.id));

    let host = ["--network=host", "--expose=9200", "--label=portolan.port.9300=transport"];
    let host = lab.engine.run(&host, &["elasticsearch"])?;
    witness.until_health(&host, Health::Passing)?;
    let ports = witness.until_report(&host, |report| Some(report.ports.clone()))?;
    assert_eq!((ports[0].container_port, ports[0].host_port, ports[0].is_dynamic), (9200, 9200, false));
    assert_eq!((ports[1].host_port, ports[1].name.clone()), (9300, Some(Label::fixed("transport"))));

    let loopback = lab.engine.run(&["-p", "127.0.0.1:0:9200", "-p", "[::]:0:9201"], &["elasticsearch"])?;
    let report = witness.until_report(&loopback, |report| Some(report.clone()))?;
    assert!(report.ports.is_empty());
    let fields: Vec<&str> = report.refusals.iter().map(|refusal| refusal.field.as_str()).collect();
    assert_eq!(fields, ["port 9200/tcp", "port 9201/tcp"], "{:?}", report.refusals);
    Ok(())
}

#[test]
fn fifty_starts_and_stops_at_once_end_exact() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let witness = Witness::start(&lab)?;
    let engine = &lab.engine;
    let kept: Vec<Container> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..50)
            .map(|number| {
                scope.spawn(move || -> anyhow::Result<Option<Container>> {
                    let container = engine.run_elasticsearch("production")?;
                    if number % 2 == 0 {
                        return Ok(Some(container));
                    }
                    container.remove()?;
                    Ok(None)
                })
            })
            .collect();
        let joined = runs.into_iter().map(|run| run.join().map_err(|_| anyhow::anyhow!("a run panicked"))?);
        joined.filter_map(Result::transpose).collect::<anyhow::Result<_>>()
    })?;
    let expected: BTreeMap<String, u16> =
        kept.iter().map(|c| Ok((c.id.clone(), c.port(9200)?))).collect::<anyhow::Result<_>>()?;
    witness.until(|state| {
        let running = state.reports.iter().filter(|report| report.phase == Phase::Running);
        let passing = running.map(|report| match report.ports.as_slice() {
            [port] if port.health == Health::Passing => (report.id.clone(), port.host_port),
            _ => (report.id.clone(), 0),
        });
        (passing.collect::<BTreeMap<_, _>>() == expected).then_some(())
    })
}

#[test]
fn a_lost_or_stalled_engine_removes_nothing_and_is_caught_up_with() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start_with(&["--live-restore"])?;
    let witness = Witness::start(&lab)?;
    let kept = lab.engine.run_elasticsearch("production")?;
    let dies = lab.engine.run_elasticsearch("production")?;
    for container in [&kept, &dies] {
        witness.until_health(container, Health::Passing)?;
    }
    lab.engine.stop()?;
    witness.until(|state| matches!(state.docker.connection, Connection::Down { .. }).then_some(()))?;
    let state = witness.reader.load();
    for container in [&kept, &dies] {
        assert_eq!(newest(&state, container).context("nothing is removed")?.phase, Phase::Running);
    }
    lab.engine.start_again()?;
    witness.until(|state| matches!(state.docker.connection, Connection::Up { .. }).then_some(()))?;
    witness.until_phase(&kept, &Phase::Running)?;
    lab.engine.stall()?;
    // The pidfd tells it although the engine is deaf.
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid_of(&dies)?)?).context("a process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    witness.until_report(&dies, |report| matches!(report.phase, Phase::Died(_)).then_some(()))?;
    // A list every ten seconds, which may take ten.
    let is_down = |state: &LocalState| matches!(state.docker.connection, Connection::Down { .. }).then_some(());
    witness.until_within(PATIENCE + Duration::from_secs(10), is_down)?;
    assert_eq!(newest(&witness.reader.load(), &kept).context("kept")?.phase, Phase::Running);
    lab.engine.resume()?;
    witness.until(|state| matches!(state.docker.connection, Connection::Up { .. }).then_some(()))?;
    let fresh = lab.engine.run_elasticsearch("production")?;
    witness.until_health(&fresh, Health::Passing)?;
    Ok(())
}

#[test]
fn hostile_labels_cost_their_own_container_at_most() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let witness = Witness::start(&lab)?;
    let long = format!("--label=portolan.service={}", "x".repeat(65_536));
    let hostile = [
        (vec![long.as_str()], true),
        (vec!["--label=portolan.service=<script>alert(1)</script>"], true),
        (vec!["--label=portolan.service=.."], true),
        (vec!["--label=portolan.service=a\u{1b}[2Jb"], true),
        (vec!["--label=portolan.port.70000=http"], false),
        (vec!["--label=portolan.meta.x=\u{202e}\u{7}"], false),
        (vec!["--env=SERVICE_9200_CHECK_SCRIPT=rm -rf /"], false),
    ];
    for (options, is_refused) in &hostile {
        let container = lab.engine.run(&[options, &["-p", "0:9200"][..]].concat(), &["elasticsearch"])?;
        let report = witness.until_report(&container, |report| Some(report.clone()))?;
        assert_eq!(report.is_refused, *is_refused, "{:?}", report.refusals);
        assert_eq!(report.refusals.len(), 1, "{:?}", report.refusals);
    }
    let good = lab.engine.run(&["-p", "0:9200", "--label=portolan.service=good"], &["elasticsearch"])?;
    witness.until_health(&good, Health::Passing)?;
    let state: Arc<LocalState> = witness.reader.load();
    let text = render(&state, Format::Text);
    assert!(text.contains("good.local  running") && text.matches("REFUSED").count() == 4, "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    let json: serde_json::Value = serde_json::from_str(&render(&state, Format::Json))?;
    assert_eq!(json["reports"].as_array().map(Vec::len), Some(8));
    Ok(())
}

#[test]
fn the_list_heals_what_events_did_not_tell() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let before = lab.engine.run_elasticsearch("production")?;
    let witness = Witness::start_on(&lab, socket_without_events(&lab)?)?;
    let first = witness.until_report(&before, |report| Some(report.run))?;
    before.docker(&["restart", "-t", "0"])?;
    let fresh = lab.engine.run_elasticsearch("production")?;
    witness.until_health(&fresh, Health::Passing)?;
    let second = witness.until_report(&before, |report| (report.run > first).then(|| report.ports[0].host_port))?;
    assert_eq!(second, before.port(9200)?);
    Ok(())
}

#[test]
fn addresses_follow_networks_and_udp_ports_follow_their_container() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let witness = Witness::start(&lab)?;
    let options = ["-p", "0:5353/udp", "--env=SERVICE_5353_NAME=_names._udp", "--env=SERVICE_TAGS=a,b"];
    let container = lab.engine.run(&options, &["udp", "5353"])?;
    witness.until_health(&container, Health::Passing)?;
    let report = witness.until_report(&container, |report| Some(report.clone()))?;
    assert_eq!(report.ports[0].registrator_name, Some(Label::fixed("names")));
    assert_eq!(report.tags, ["a", "b"]);
    lab.engine.docker(&["network", "create", "user"])?;
    lab.engine.docker(&["network", "connect", "user", &container.id])?;
    witness.until(|state| (state.clients.len() == 2).then_some(()))?;
    lab.engine.docker(&["network", "disconnect", "user", &container.id])?;
    witness.until(|state| (state.clients.len() == 1).then_some(()))
}

#[test]
fn inspect_says_what_is_registered_and_what_is_lost_without_host_processes() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let web = ["-p", "0:9200", "--name=web", "--label=portolan.servcie=x", "--label=portolan.check=docker"];
    let web = lab.engine.run(&web, &["elasticsearch"])?;
    eventually(PATIENCE, || lab.node.fetch(std::net::SocketAddr::new(lab.node.addr(), web.port(9200)?), "/"))?;
    let socket = format!("--docker-socket={}", lab.engine.socket().display());
    let program = programs::path("portolan-sidecar")?;
    let inspect = [&program.to_string_lossy(), "inspect", &socket, "--cluster=lab", "--log-level=warn"];
    let text = lab.node.run(inspect[0], &inspect[1..])?;
    let port = web.port(9200)?;
    for expected in [
        "web.lab  running".to_owned(),
        format!("port 9200/tcp at 10.77.0.11:{port}, chosen by Docker, passing"),
        "refused label `portolan.servcie`: is not a label of Portolan; did you mean `portolan.service`?".to_owned(),
        "refused check of port 9200/tcp: `docker` needs a HEALTHCHECK".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected} in {text}");
    }
    assert!(!text.contains("note:"), "{text}");
    // In a pid namespace of its own, Docker's process numbers are nobody's or somebody else's.
    let hidden = [&["--pid", "--fork", "--mount-proc"], &inspect[..]].concat();
    let text = lab.node.run("unshare", &hidden)?;
    assert!(text.contains("note: the processes of 1 containers cannot be seen"), "{text}");
    assert!(text.contains("chosen by Docker, passing"), "{text}");
    Ok(())
}
