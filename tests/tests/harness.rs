//! The harness itself: if these fail, no other end-to-end test means anything.

use std::net::SocketAddr;

use portolan_tests::container::EcsTask;
use portolan_tests::lab::Lab;
use portolan_tests::namespace::Network;
use portolan_tests::wait::{PATIENCE, eventually};
use portolan_tests::{image, needs, programs};

#[test]
fn a_container_is_reached_by_its_published_port_from_another_node() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let other = lab.another_node()?;
    let elasticsearch = lab.engine.run_elasticsearch("production")?;
    let addr = SocketAddr::new(lab.node.addr(), elasticsearch.port(9200)?);
    let answer = eventually(PATIENCE, || other.fetch(addr, "/"))?.json()?;
    assert_eq!(answer["name"], elasticsearch.host_name());
    assert_eq!(lab.engine.run_once(&[], &["get", &format!("http://{addr}/health")])?, r#"{"status":"green"}"#);
    assert_eq!(elasticsearch.inspect("{{index .Config.Labels \"com.amazonaws.ecs.cluster\"}}")?, "production");
    other.unplug()?;
    assert!(other.fetch(addr, "/").is_err(), "an unplugged node must not reach anything");
    Ok(())
}

#[test]
fn an_engine_that_stalls_goes_on_and_one_that_stops_starts_again() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let waiting = lab.engine.run_task(&EcsTask::new("production", "worker"), &[], &["wait"])?;
    lab.engine.stall()?;
    lab.engine.resume()?;
    assert_eq!(waiting.inspect("{{.State.Running}}")?, "true");
    waiting.kill()?;
    lab.engine.stop()?;
    assert!(lab.engine.docker(&["ps"]).is_err(), "a stopped engine must not answer");
    lab.engine.start_again()?;
    assert_eq!(waiting.inspect("{{.State.Status}}")?, "exited");
    Ok(())
}

#[test]
fn the_stand_in_resolves_by_the_container_s_resolver() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "dnsmasq");
    let lab = Lab::start()?;
    let resolver = lab.network.node("dns")?;
    let listen = format!("--listen-address={}", resolver.address);
    let args =
        ["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--bind-interfaces", &listen];
    let records = ["--pid-file", "--host-record=elasticsearch.production.ecs.internal,198.18.0.7"];
    let _dnsmasq = programs::Program::start_file(&resolver, "dnsmasq", &[&args[..], &records].concat())?;
    eventually(PATIENCE, || resolver.run("dig", &["+tries=1", "+time=1", &format!("@{}", resolver.address), "x"]))?;
    let options = [format!("--dns={}", resolver.address), "--dns-search=production.ecs.internal".to_owned()];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    assert_eq!(lab.engine.run_once(&options, &["resolve", "elasticsearch"])?, "198.18.0.7");
    lab.engine.docker(&["network", "create", "user"])?;
    let options = [&options[..], &["--network=user"]].concat();
    assert_eq!(lab.engine.run_once(&options, &["resolve", "elasticsearch"])?, "198.18.0.7");
    assert!(lab.engine.run_once(&options, &["resolve", "kibana"]).is_err());
    Ok(())
}

#[test]
fn programs_are_started_watched_killed_and_started_again() -> anyhow::Result<()> {
    needs!("ip", "nsenter");
    let network = Network::new()?;
    let node = network.node("a")?;
    let standin = image::standin()?.to_string_lossy().into_owned();
    let mut program = programs::Program::start_file(&node, &standin, &["say", "tcp", "127.0.0.1", "9", "hello"])?;
    assert!(program.wait_for_line("onnection refused").is_ok());
    let addr = SocketAddr::new(node.addr(), 9200);
    let mut program = programs::Program::start_file(&node, &standin, &["elasticsearch"])?;
    eventually(PATIENCE, || node.fetch(addr, "/"))?;
    program.kill()?;
    assert!(node.fetch(addr, "/").is_err());
    program.start_again()?;
    eventually(PATIENCE, || node.fetch(addr, "/"))?;
    assert_eq!(node.fetch(addr, "/health/fail")?.status, 200);
    assert_eq!(node.fetch(addr, "/health")?.status, 503);
    Ok(())
}

#[test]
fn a_program_of_ours_says_where_it_listens_and_ends_when_asked() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start()?;
    let data = format!("--data-dir={}", lab.engine.folder().join("sidecar").display());
    let socket = format!("--docker-socket={}", lab.engine.socket().display());
    let args = [&socket, &data, "--sidecar-admin=127.0.0.1:0"];
    let mut sidecar = programs::Program::start(&lab.node, "portolan-sidecar", &args)?;
    let admin = sidecar.listening("admin")?;
    assert_eq!(lab.node.fetch(admin, "/healthz")?.status, 200);
    assert_eq!(sidecar.terminate()?, Some(0));
    Ok(())
}
