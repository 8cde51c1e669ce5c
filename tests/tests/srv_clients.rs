//! Programs that take their targets from DNS by themselves: HAProxy and Prometheus follow two tasks on one node.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Context;

use portolan_tests::container::Container;
use portolan_tests::janitor::{self, Kind};
use portolan_tests::namespace::resolver_args;
use portolan_tests::programs::Program;
use portolan_tests::site::{CLUSTER, Dev, NODE_DNS};
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal};
use portolan_tests::{documented, needs, report};

/// Whose configurations are tested.
const PAGE: &str = "docs/dns.md";

/// Where HAProxy takes connections, and Prometheus questions.
const FRONTEND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const PROMETHEUS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// What stands around the blocks of the page. `FOLDER` is the scene's.
const HAPROXY: &str = "
global
  stats socket FOLDER/socket
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend in
  bind 127.0.0.1:8080
  default_backend elasticsearch
backend by_address
  server-template es 2 direct.elasticsearch.production.ecs.internal:9200 resolvers node resolve-prefer ipv4 init-addr none
";

const PROMETHEUS_YML: &str = "
global:
  scrape_interval: 200ms
scrape_configs:
- job_name: addresses
  dns_sd_configs:
  - names: [direct.elasticsearch.production.ecs.internal]
    type: A
    port: 9200
    refresh_interval: 10ms
";

/// Two tasks of `elasticsearch` on one node, on ports of Docker's choice.
struct Scene {
    tasks: Vec<Container>,
    folder: PathBuf,
    dev: Dev,
}

impl Scene {
    fn start() -> anyhow::Result<Self> {
        let dev = Dev::start(&[])?;
        let tasks = vec![dev.lab.engine.run_elasticsearch(CLUSTER)?, dev.lab.engine.run_elasticsearch(CLUSTER)?];
        eventually_equal(PATIENCE, &Some(2), || Some(dev.node().node_srv("elasticsearch").ok()?.len()))?;
        Ok(Scene { tasks, folder: janitor::folder(&janitor::unique("srv"), Kind::Folder)?, dev })
    }

    /// A file with the scene's folder in it.
    fn configuration(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let file = self.folder.join(name);
        std::fs::write(&file, text.replace("FOLDER", &self.folder.to_string_lossy()))?;
        Ok(file.to_string_lossy().into_owned())
    }

    fn ports(&self) -> anyhow::Result<BTreeSet<String>> {
        self.tasks.iter().map(|task| Ok(task.port(9200)?.to_string())).collect()
    }

    /// The first task dies, another comes.
    fn replace_one(&mut self) -> anyhow::Result<()> {
        let new = self.dev.lab.engine.run_elasticsearch(CLUSTER)?;
        std::mem::replace(&mut self.tasks[0], new).remove()
    }
}

/// How many lookups are waited for.
fn lookups() -> anyhow::Result<u64> {
    std::env::var("LOOKUPS").map_or(Ok(2000), |text| text.parse().context("LOOKUPS is a number"))
}

#[test]
fn haproxy_has_a_server_for_each_task_of_one_node() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "dig", "haproxy");
    let mut scene = Scene::start()?;
    // A question goes every 5 ms for each of two names, and counts as timed out when its answer takes over 100 ms.
    let often = "resolvers node\n  timeout resolve 5ms\n  timeout retry 100ms\n";
    let documented = documented::block(PAGE, "haproxy")?.replace("resolvers node\n  n", &format!("{often}  n"));
    let file = scene.configuration("haproxy.cfg", &format!("{HAPROXY}{documented}"))?;
    let _haproxy = Program::start_file(scene.dev.node(), "haproxy", &["-db", "-f", &file])?;
    let socket = scene.folder.join("socket");
    let follows = |scene: &Scene| -> anyhow::Result<()> {
        let expected = scene.ports()?.iter().map(|port| format!("{}:{port}", scene.dev.node().address)).collect();
        eventually_equal(PATIENCE, &Ok(expected), || {
            servers(&socket, "elasticsearch").map_err(|error| format!("{error:#}"))
        })?;
        let names: BTreeSet<String> = scene.tasks.iter().map(|task| task.host_name().to_owned()).collect();
        assert_eq!(scene.dev.node().names_behind(FRONTEND, 10)?, names, "who answers through HAProxy");
        Ok(())
    };
    follows(&scene)?;
    let one = BTreeSet::from([format!("{}:9200", scene.dev.node().address)]);
    eventually_equal(PATIENCE, &Some(one), || servers(&socket, "by_address").ok())?;
    for _ in 0..3 {
        scene.replace_one()?;
        follows(&scene)?;
    }
    let wanted = lookups()?;
    eventually(PATIENCE * 3, || match counter(&socket, "valid") {
        Ok(count) if count >= wanted => Ok(()),
        other => Err(other),
    })?;
    let (valid, late) = (counter(&socket, "valid")?, counter(&socket, "timeout")?);
    report::say(&format!("HAProxy: {valid} lookups, {late} over 100 ms"));
    assert!(late * 1000 <= valid, "{late} of {valid} took over 100 ms");
    for trouble in ["any_err", "nx", "refused", "other", "invalid", "too_big", "truncated"] {
        assert_eq!(counter(&socket, trouble)?, 0, "{trouble}");
    }
    Ok(())
}

/// The servers of a backend that have an address.
fn servers(socket: &Path, backend: &str) -> anyhow::Result<BTreeSet<String>> {
    let state = say(socket, &format!("show servers state {backend}"))?;
    let heads = state.lines().find_map(|line| line.strip_prefix("# ")).context("no heads")?;
    let column = |name| heads.split(' ').position(|head| head == name).with_context(|| format!("no column {name}"));
    let (address, port) = (column("srv_addr")?, column("srv_port")?);
    let rows = state.lines().filter(|line| line.contains(&format!(" {backend} ")));
    let places = rows.map(|row| row.split(' ').collect::<Vec<_>>()).filter(|row| row[address] != "-");
    Ok(places.map(|row| format!("{}:{}", row[address], row[port])).collect())
}

/// What HAProxy counted of its questions.
fn counter(socket: &Path, name: &str) -> anyhow::Result<u64> {
    let counters = say(socket, "show resolvers node")?;
    let found = counters.lines().filter_map(|line| line.trim().split_once(':'));
    let mut found = found.filter(|(counter, _)| *counter == name);
    found.next().with_context(|| format!("no {name} in {counters}"))?.1.trim().parse().context(counters)
}

fn say(socket: &Path, command: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket).context("connect to HAProxy")?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn prometheus_scrapes_each_task_of_one_node() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "dig", "prometheus");
    let mut scene = Scene::start()?;
    let documented = documented::block(PAGE, "prometheus")?.replace("refresh_interval: 5s", "refresh_interval: 10ms");
    let text = format!("{PROMETHEUS_YML}{documented}");
    let config = format!("--config.file={}", scene.configuration("prometheus.yml", &text)?);
    let data = format!("--storage.tsdb.path={}/data", scene.folder.display());
    let resolv_conf = scene.configuration("resolv.conf", &format!("nameserver {}\n", NODE_DNS.ip()))?;
    let mut args = resolver_args("prometheus", Path::new(&resolv_conf));
    args.extend([config, data, format!("--web.listen-address={PROMETHEUS}")]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let _prometheus = Program::start_file(scene.dev.node(), "unshare", &args)?;
    follows(&scene)?;
    for _ in 0..3 {
        scene.replace_one()?;
        follows(&scene)?;
    }
    let wanted = lookups()?;
    let counted = |name: &str| -> anyhow::Result<f64> {
        let metrics = scene.dev.node().fetch(PROMETHEUS, "/metrics")?.body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no {name}"))?.parse().context("a number")
    };
    eventually(PATIENCE * 3, || match counted("prometheus_sd_dns_lookups_total") {
        Ok(count) if count >= wanted as f64 => Ok(()),
        other => Err(other),
    })?;
    let slow = counted("prometheus_sd_refresh_duration_seconds{mechanism=\"dns\",quantile=\"0.99\"}");
    let (all, failed) =
        (counted("prometheus_sd_dns_lookups_total")?, counted("prometheus_sd_dns_lookup_failures_total")?);
    report::say(&format!("Prometheus: {all} lookups, {failed} failed, {slow:?}"));
    assert!(failed == 0.0, "{failed} of {all} failed");
    Ok(())
}

/// Prometheus has one target for each task, by its address name, and one for the address; it connected to the former.
fn follows(scene: &Scene) -> anyhow::Result<()> {
    let by_srv =
        scene.ports()?.into_iter().map(|port| format!("http://ip-10-77-0-11.addr.ecs.internal:{port}/metrics"));
    let expected: BTreeSet<String> =
        by_srv.chain([format!("http://{}:9200/metrics", scene.dev.node().address)]).collect();
    eventually(PATIENCE, || {
        let answer = scene.dev.node().fetch(PROMETHEUS, "/api/v1/targets?state=active")?.json()?;
        let targets = answer["data"]["activeTargets"].as_array().context("no targets")?;
        let urls: BTreeSet<String> =
            targets.iter().filter_map(|target| target["scrapeUrl"].as_str().map(str::to_owned)).collect();
        anyhow::ensure!(urls == expected, "targets are {urls:?}, not {expected:?}");
        // The stand-in has no metrics, and says so.
        let of_tasks = targets.iter().filter(|target| target["labels"]["job"] == "elasticsearch");
        for target in of_tasks {
            let said = target["lastError"].as_str().unwrap_or_default();
            anyhow::ensure!(said.contains("404"), "{}: {said:?}", target["scrapeUrl"]);
        }
        Ok(())
    })
}
