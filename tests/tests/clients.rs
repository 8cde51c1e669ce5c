//! How containers and the host come to ask, and to connect: by bare name, by full name, and by a name of the world outside.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::Context;

use portolan_tests::lab::Lab;
use portolan_tests::needs;
use portolan_tests::programs::Program;
use portolan_tests::site::{CLUSTER, Dev, REGISTRY_DNS, start_dnsmasq, start_outside_resolver};
use portolan_tests::surfaces::is_virtual;
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal};

const FULL: &str = "elasticsearch.production.ecs.internal";
/// Bare names must work without a search list of the machine's.
const ASK_THE_NODE: [&str; 2] = ["--dns=169.254.53.53", "--dns-search=."];

struct Scene {
    /// The host names of the two Elasticsearch tasks, by which they name themselves.
    instances: BTreeSet<String>,
    dev: Dev,
    _outside: Program,
}

impl Scene {
    fn start() -> anyhow::Result<Self> {
        let lab = Lab::start()?;
        let records = ["--host-record=www.example.com,192.0.2.7", "--host-record=quay,192.0.2.8"];
        let (outside, resolver) = start_outside_resolver(&lab, &records)?;
        let dev = Dev::start_in(lab, &[&format!("--upstreams={resolver}")])?;
        let tasks = [dev.lab.engine.run_elasticsearch(CLUSTER)?, dev.lab.engine.run_elasticsearch(CLUSTER)?];
        let instances: BTreeSet<String> = tasks.iter().map(|task| task.host_name().to_owned()).collect();
        eventually_equal(PATIENCE, &Some(2), || {
            dev.node().srv(REGISTRY_DNS, "elasticsearch").ok().map(|set| set.len())
        })?;
        eventually(PATIENCE, || dev.node().virtual_address("elasticsearch"))?;
        Ok(Scene { instances, dev, _outside: outside })
    }

    fn run(&self, options: &[&str], args: &[&str]) -> anyhow::Result<String> {
        self.dev.lab.engine.run_once(options, args)
    }

    /// `GET http://NAME:9200/` in a container names one of the instances.
    fn connects(&self, options: &[&str], name: &str) -> anyhow::Result<()> {
        let url = format!("http://{name}:9200/");
        let body = self.run(options, &["get", &url]).with_context(|| format!("{url} with {options:?}"))?;
        let body: serde_json::Value = serde_json::from_str(&body)?;
        let instance = body["name"].as_str().context("the answer names no instance")?;
        assert!(self.instances.contains(instance), "{url} with {options:?} reached {instance}");
        Ok(())
    }
}

#[test]
fn containers_ask_and_connect_by_name() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "dig", "dnsmasq");
    let scene = Scene::start()?;
    let address = scene.dev.node().virtual_address("elasticsearch")?.to_string();
    scene.dev.lab.engine.docker(&["network", "create", "user"])?;
    for network in ["--network=bridge", "--network=user"] {
        let options = [&ASK_THE_NODE[..], &[network]].concat();
        let check = |name: &str, expected: &str| -> anyhow::Result<()> {
            let found =
                scene.run(&options, &["resolve", name]).with_context(|| format!("resolve {name}, {network}"))?;
            assert_eq!(found, expected, "{name} from {network}");
            Ok(())
        };
        check("elasticsearch", &address)?;
        check("ElasticSearch", &address)?;
        check(FULL, &address)?;
        check("www.example.com", "192.0.2.7")?;
        let absent = scene.run(&options, &["resolve", "nothing.production.ecs.internal"]);
        assert!(absent.is_err(), "an unknown service has no address from {network}: {absent:?}");
        scene.connects(&options, "elasticsearch")?;
        scene.connects(&options, FULL)?;
    }
    let options = ["--dns=169.254.53.53", "--dns-search=production.ecs.internal"];
    scene.connects(&options, "elasticsearch").context("with a search list")?;
    from_the_host_s_network(&scene, &address)?;
    a_bare_name_is_of_the_asking_container_s_cluster(&scene, &address)
}

/// The host's resolver forwards the zone to the node's DNS, and everything on the host's network asks it.
fn from_the_host_s_network(scene: &Scene, address: &str) -> anyhow::Result<()> {
    let node = scene.dev.node();
    let _resolver = start_dnsmasq(node, Ipv4Addr::LOCALHOST, &["--server=/ecs.internal/169.254.53.53"])?;
    let resolv_conf = scene.dev.lab.engine.folder().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n")?;
    let mount = format!("--volume={}:/etc/resolv.conf:ro", resolv_conf.display());
    let options = ["--network=host", &mount];
    assert_eq!(scene.run(&options, &["resolve", FULL])?, address, "from a container of the host's network");
    scene.connects(&options, FULL)?;
    let standin = portolan_tests::image::standin()?.to_string_lossy().into_owned();
    let mut command = node.command_with_resolver(&standin, &resolv_conf);
    let body = portolan_tests::parts::run(command.args(["get", &format!("http://{FULL}:9200/")]))?;
    assert!(scene.instances.iter().any(|instance| body.contains(instance)), "from a process of the host: {body}");
    Ok(())
}

fn a_bare_name_is_of_the_asking_container_s_cluster(scene: &Scene, production: &str) -> anyhow::Result<()> {
    let engine = &scene.dev.lab.engine;
    let staging = engine.run_elasticsearch("staging")?;
    eventually(PATIENCE, || {
        let dug = scene.dev.node().dig(REGISTRY_DNS, "elasticsearch.staging.ecs.internal SRV")?;
        anyhow::ensure!(dug.data("SRV").len() == 1, "{}", dug.text);
        Ok(())
    })?;
    let in_staging = [&ASK_THE_NODE[..], &["--label=com.amazonaws.ecs.cluster=staging"]].concat();
    let client = engine.run(&in_staging, &["wait"])?;
    // The node must have heard of the client before it knows the client's cluster.
    let bare = eventually(PATIENCE, || match client.exec(&["resolve", "elasticsearch"]) {
        Ok(address) if address != production => Ok(address),
        other => Err(other),
    })
    .context("a container of cluster staging asks for the bare name")?;
    assert!(is_virtual(bare.parse()?), "{bare}");
    assert_eq!(client.exec(&["resolve", "elasticsearch.staging.ecs.internal"])?, bare);
    let body = client.exec(&["get", "http://elasticsearch:9200/"])?;
    assert!(body.contains(staging.host_name()), "{body}");
    Ok(())
}
