//! Every name of the zone, asked of the registry and of the node, by dig and kdig.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Context;

use portolan_tests::container::{Container, EcsTask};
use portolan_tests::dig::Dug;
use portolan_tests::needs;
use portolan_tests::site::{CLUSTER, Dev, NODE_DNS, REGISTRY_DNS};
use portolan_tests::surfaces::{is_virtual, located, usable};
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal};

const ELASTICSEARCH: &str = "elasticsearch.production.ecs.internal";

/// Two tasks of `elasticsearch`, whose port 9200 is called `http` and lies on host ports of Docker's choice.
struct Scene {
    tasks: [(EcsTask, Container); 2],
    dev: Dev,
}

impl Scene {
    fn start() -> anyhow::Result<Self> {
        let dev = Dev::start(&[])?;
        let run = || -> anyhow::Result<(EcsTask, Container)> {
            let task = EcsTask::new(CLUSTER, "elasticsearch");
            let options = ["-p", "0:9200", "--label=portolan.port.9200=http"];
            let container = dev.lab.engine.run_task(&task, &options, &["elasticsearch"])?;
            Ok((task, container))
        };
        let scene = Scene { tasks: [run()?, run()?], dev };
        for server in [REGISTRY_DNS, NODE_DNS] {
            eventually_equal(PATIENCE, &Some(scene.endpoints()?), || {
                scene.dev.node().srv(server, "elasticsearch").ok()
            })
            .with_context(|| format!("SRV of both tasks at {server}"))?;
        }
        Ok(scene)
    }

    /// Where Docker says that both tasks are.
    fn endpoints(&self) -> anyhow::Result<BTreeSet<String>> {
        self.tasks.iter().map(|(_, container)| self.endpoint(container)).collect()
    }

    fn endpoint(&self, container: &Container) -> anyhow::Result<String> {
        Ok(format!("{}:{}", self.dev.node().address, container.port(9200)?))
    }

    fn ask(&self, server: SocketAddr, question: &str) -> anyhow::Result<Dug> {
        self.dev.node().dig(server, question).with_context(|| format!("{question} at {server}"))
    }
}

#[test]
fn every_name_answers_what_docker_says() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "dig", "kdig");
    let scene = Scene::start()?;
    srv_names_give_both_host_ports(&scene)?;
    addresses_are_real_at_the_registry_and_virtual_on_the_node(&scene)?;
    one_task_and_one_container_have_names(&scene)?;
    nodes_and_addresses_have_names(&scene)?;
    the_zone_speaks_for_itself(&scene)?;
    the_api_says_the_same(&scene)?;
    kdig_agrees(&scene)
}

fn srv_names_give_both_host_ports(scene: &Scene) -> anyhow::Result<()> {
    let endpoints = scene.endpoints()?;
    let names = [
        ELASTICSEARCH.to_owned(),
        format!("_9200._tcp.{ELASTICSEARCH}"),
        format!("_http._tcp.{ELASTICSEARCH}"),
        "_HTTP._Tcp.ElasticSearch.PRODUCTION.Ecs.Internal.".to_owned(),
        format!("elasticsearch.{ELASTICSEARCH}"),
    ];
    for server in [REGISTRY_DNS, NODE_DNS] {
        for (name, transport) in names.iter().flat_map(|name| [(name, "+notcp"), (name, "+tcp")]) {
            let dug = scene.ask(server, &format!("{name} SRV {transport}"))?;
            assert_eq!(located(&dug)?, endpoints, "{name} SRV {transport} at {server}: {}", dug.text);
            let targets: Vec<String> =
                dug.data("SRV").iter().filter_map(|srv| Some(srv.rsplit(' ').next()?.to_lowercase())).collect();
            assert!(
                targets.iter().all(|target| target == "ip-10-77-0-11.addr.ecs.internal."),
                "SRV targets point to addr names: {targets:?}"
            );
            assert!(dug.flags.contains(&"aa".to_owned()), "an answer of the zone's own: {}", dug.text);
            let ttls: BTreeSet<u32> =
                dug.answer.iter().filter_map(|record| record.split(' ').nth(1)?.parse().ok()).collect();
            assert_eq!(ttls, BTreeSet::from([1]), "TTL is 1 s by default: {}", dug.text);
        }
        let absent = scene.ask(server, &format!("_9300._tcp.{ELASTICSEARCH} SRV"))?;
        assert!(absent.answer.is_empty() && absent.status != "SERVFAIL", "a port that nobody has: {}", absent.text);
        let udp = scene.ask(server, &format!("_9200._udp.{ELASTICSEARCH} SRV"))?;
        assert!(udp.answer.is_empty() && udp.status != "SERVFAIL", "a protocol that nobody speaks: {}", udp.text);
    }
    Ok(())
}

fn addresses_are_real_at_the_registry_and_virtual_on_the_node(scene: &Scene) -> anyhow::Result<()> {
    let node = scene.dev.node().address.to_string();
    for (name, transport) in
        [(ELASTICSEARCH, "+notcp"), (ELASTICSEARCH, "+tcp"), ("ELASTICsearch.production.ECS.internal", "+notcp")]
    {
        let dug = scene.ask(REGISTRY_DNS, &format!("{name} A {transport}"))?;
        assert_eq!(dug.data("A"), [node.as_str()], "one record for two tasks of one node: {}", dug.text);
        let dug = scene.ask(NODE_DNS, &format!("{name} A {transport}"))?;
        let addresses = dug.data("A");
        assert!(addresses.len() == 1 && is_virtual(addresses[0].parse()?), "one virtual address: {}", dug.text);
    }
    let full = scene.ask(NODE_DNS, &format!("{ELASTICSEARCH} A"))?.data("A");
    let bare = scene.ask(NODE_DNS, "elasticsearch A")?;
    assert_eq!(bare.data("A"), full, "the bare name is the node's cluster's service: {}", bare.text);
    let bare = scene.ask(REGISTRY_DNS, "elasticsearch A")?;
    assert!(bare.answer.is_empty(), "bare names are for nodes only: {}", bare.text);
    for server in [REGISTRY_DNS, NODE_DNS] {
        let dug = scene.ask(server, &format!("direct.{ELASTICSEARCH} A"))?;
        assert_eq!(dug.data("A"), [node.as_str()], "direct is never virtual, at {server}: {}", dug.text);
        is_no_data(&scene.ask(server, &format!("{ELASTICSEARCH} AAAA"))?);
        is_no_data(&scene.ask(server, &format!("{ELASTICSEARCH} TXT"))?);
        is_no_data(&scene.ask(server, &format!("direct.{ELASTICSEARCH} AAAA"))?);
    }
    Ok(())
}

fn one_task_and_one_container_have_names(scene: &Scene) -> anyhow::Result<()> {
    let node = scene.dev.node().address.to_string();
    for server in [REGISTRY_DNS, NODE_DNS] {
        for (task, container) in &scene.tasks {
            let own = BTreeSet::from([scene.endpoint(container)?]);
            for id in [&task.task_id[..12], &task.task_id, &task.task_id.to_uppercase()] {
                let dug = scene.ask(server, &format!("{id}.{ELASTICSEARCH} SRV"))?;
                assert_eq!(located(&dug)?, own, "task {id} at {server}: {}", dug.text);
                let dug = scene.ask(server, &format!("{id}.{ELASTICSEARCH} A"))?;
                assert_eq!(dug.data("A"), [node.as_str()], "task {id} at {server}: {}", dug.text);
            }
        }
        let dug = scene.ask(server, &format!("elasticsearch.{ELASTICSEARCH} A"))?;
        assert_eq!(dug.data("A"), [node.as_str()], "the container's name at {server}: {}", dug.text);
        is_name_error(&scene.ask(server, &format!("000000000000.{ELASTICSEARCH} A"))?);
        is_name_error(&scene.ask(server, &format!("sidecar.{ELASTICSEARCH} A"))?);
    }
    Ok(())
}

fn nodes_and_addresses_have_names(scene: &Scene) -> anyhow::Result<()> {
    let node = scene.dev.node().address.to_string();
    for server in [REGISTRY_DNS, NODE_DNS] {
        let check = |question: &str, kind: &str, expected: &str| -> anyhow::Result<()> {
            let dug = scene.ask(server, &format!("{question} {kind}"))?;
            assert_eq!(dug.data(kind), [expected], "{question} {kind} at {server}: {}", dug.text);
            Ok(())
        };
        check("a.node.production.ecs.internal", "A", &node)?;
        check("A.Node.Production.Ecs.Internal", "A", &node)?;
        check("ip-10-77-0-11.addr.ecs.internal", "A", &node)?;
        check("ip-10-0-3-7.addr.ecs.internal", "A", "10.0.3.7")?;
        check("ip6-20010db8000000000000000000000007.addr.ecs.internal", "AAAA", "2001:db8::7")?;
        is_no_data(&scene.ask(server, "ip-10-0-3-7.addr.ecs.internal AAAA")?);
        is_no_data(&scene.ask(server, "a.node.production.ecs.internal AAAA")?);
        for wrong in ["ip-10-0-3.addr", "ip-10-0-3-256.addr", "ip-010-0-3-7.addr", "ip6-2001.addr", "b.node.production"]
        {
            is_name_error(&scene.ask(server, &format!("{wrong}.ecs.internal A"))?);
        }
        let reverse = scene.ask(server, "11.0.77.10.in-addr.arpa PTR")?;
        assert!(!reverse.data("PTR").is_empty(), "a registered address has a name at {server}: {}", reverse.text);
        for name in reverse.data("PTR") {
            assert!(name.ends_with(".ecs.internal."), "{name} at {server}");
            let back = scene.ask(REGISTRY_DNS, &format!("{name} A"))?;
            assert_eq!(back.data("A"), [node.as_str()], "{name} leads back to the address: {}", back.text);
        }
    }
    Ok(())
}

fn the_zone_speaks_for_itself(scene: &Scene) -> anyhow::Result<()> {
    for server in [REGISTRY_DNS, NODE_DNS] {
        for transport in ["+notcp", "+tcp"] {
            let soa = scene.ask(server, &format!("ecs.internal SOA {transport}"))?;
            assert_eq!(soa.data("SOA").len(), 1, "SOA of the apex at {server}: {}", soa.text);
            let ns = scene.ask(server, &format!("ecs.internal NS {transport}"))?;
            assert!(!ns.data("NS").is_empty(), "NS of the apex at {server}: {}", ns.text);
            is_name_error(&scene.ask(server, &format!("nothing.production.ecs.internal A {transport}"))?);
            is_name_error(&scene.ask(server, &format!("_9200._tcp.nothing.production.ecs.internal SRV {transport}"))?);
        }
        is_no_data(&scene.ask(server, "ecs.internal A")?);
        is_no_data(&scene.ask(server, "production.ecs.internal A")?);
        is_name_error(&scene.ask(server, "elasticsearch.staging.ecs.internal A")?);
    }
    let outside = scene.ask(REGISTRY_DNS, "www.example.com A")?;
    assert!(outside.answer.is_empty(), "the registry speaks for its zone alone: {}", outside.text);
    Ok(())
}

fn the_api_says_the_same(scene: &Scene) -> anyhow::Result<()> {
    let service = scene.dev.node().service("elasticsearch")?;
    assert_eq!(usable(&service)?, scene.endpoints()?, "GET /api/services/production/elasticsearch: {service:#}");
    let address = scene.dev.node().virtual_address("elasticsearch")?.to_string();
    assert_eq!(
        service["link"]["address"],
        address.as_str(),
        "the API and the node say one virtual address: {service:#}"
    );
    let absent = scene.dev.node().service("nothing");
    assert!(absent.is_err_and(|error| error.to_string().contains("404")), "an unknown service is 404");
    Ok(())
}

fn kdig_agrees(scene: &Scene) -> anyhow::Result<()> {
    let name = format!("_http._tcp.{ELASTICSEARCH}");
    for (server, transport) in [REGISTRY_DNS, NODE_DNS].iter().flat_map(|server| [(server, "+notcp"), (server, "+tcp")])
    {
        let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
        let answer = scene.dev.node().run("kdig", &[&at, "-p", &port, transport, "+short", &name, "SRV"])?;
        let by_kdig: BTreeSet<String> = answer.lines().map(str::to_owned).collect();
        let by_dig = scene.ask(*server, &format!("{name} SRV"))?.data("SRV").into_iter().collect();
        assert_eq!(by_kdig, by_dig, "kdig {transport} at {server}");
        let edns =
            scene.dev.node().run("kdig", &[&at, "-p", &port, transport, "+edns", "+bufsize=512", &name, "SRV"])?;
        assert!(edns.contains("NOERROR") && !edns.to_lowercase().contains("malformed"), "kdig with EDNS: {edns}");
    }
    Ok(())
}

/// What containers are called that no ECS agent labelled, or that say it themselves: options of `docker run`, the service
/// and its primary container port.
const CALLED: [(&[&str], &str, u16); 9] = [
    (&["--name=web"], "web", 9200),
    (&["--name=My_Web.1"], "my-web-1", 9200),
    (&["--label=com.docker.compose.service=api", "--label=com.docker.compose.project=shop"], "api", 9200),
    (&["--label=portolan.service=Search", "--label=com.docker.compose.service=other"], "search", 9200),
    (&["--env=SERVICE_NAME=registrator"], "registrator", 9200),
    (&["--label=SERVICE_9200_NAME=of-port", "--env=SERVICE_NAME=not-this"], "of-port", 9200),
    (&["--label=portolan.service=two-ports", "-p", "0:9300", "--label=portolan.check=none"], "two-ports", 9200),
    (
        &[
            "--label=portolan.service=named",
            "-p",
            "0:9100",
            "--label=portolan.port.9200=primary",
            "--label=portolan.check=none",
        ],
        "named",
        9200,
    ),
    (&["--label=portolan.service=only", "-p", "0:9300", "--label=portolan.port.9300=ignore"], "only", 9200),
];

#[test]
fn containers_are_called_as_their_labels_say() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "dig");
    let dev = Dev::start(&[])?;
    let (engine, node) = (&dev.lab.engine, dev.node());
    let run = |(options, service, port): (&[&str], &'static str, u16)| -> anyhow::Result<(String, String)> {
        let container = engine.run(&[&["-p", "0:9200"], options].concat(), &["elasticsearch"])?;
        Ok((service.to_owned(), format!("{}:{}", node.address, container.port(port)?)))
    };
    let mut expected = CALLED.into_iter().map(run).collect::<anyhow::Result<Vec<_>>>()?;

    // A container in the network of another, as with ECS's pause containers: the ports lie on the other one.
    let pause = engine.run(&["-p", "0:9200", "--label=portolan.ignore=true"], &["wait"])?;
    let network = format!("--network=container:{}", pause.id);
    engine.run(&["--name=joined", &network], &["elasticsearch"])?;
    expected.push(("joined".to_owned(), format!("{}:{}", node.address, pause.port(9200)?)));
    engine.run(&["--name=on-host", "--network=host", "--expose=9201", "-e", "PORT=9201"], &["elasticsearch"])?;
    expected.push(("on-host".to_owned(), format!("{}:9201", node.address)));
    engine.run(&["--name=ignored", "-p", "0:9200", "--label=portolan.ignore=true"], &["elasticsearch"])?;
    engine.run(&["--name=unpublished"], &["elasticsearch"])?;
    for (service, place) in &expected {
        for server in [REGISTRY_DNS, NODE_DNS] {
            let places = || node.srv(server, service).map_err(|error| format!("{error:#}"));
            eventually_equal(PATIENCE, &Ok(BTreeSet::from([place.clone()])), places)
                .with_context(|| format!("{service} at {server}"))?;
        }
    }
    for service in ["ignored", "unpublished", "other", "not-this"] {
        let dug = node.dig(REGISTRY_DNS, &format!("{service}.production.ecs.internal SRV"))?;
        assert!(dug.answer.is_empty(), "{service} has no endpoint: {}", dug.text);
    }
    udp_ports_are_endpoints_too(&dev)?;
    links_are_given_where_ports_differ(&dev)
}

fn udp_ports_are_endpoints_too(dev: &Dev) -> anyhow::Result<()> {
    dev.lab.engine.run(&["--name=syslog", "-p", "5514:514/udp"], &["udp", "514"])?;
    for server in [REGISTRY_DNS, NODE_DNS] {
        let places = || -> Result<_, String> {
            let dug = dev.node().dig(server, "_514._udp.syslog.production.ecs.internal SRV");
            dug.and_then(|dug| located(&dug)).map_err(|error| format!("{error:#}"))
        };
        eventually_equal(PATIENCE, &Ok(BTreeSet::from([format!("{}:5514", dev.node().address)])), places)?;
    }
    Ok(())
}

/// A service whose host port is its container port needs no link, unless its label asks for one.
fn links_are_given_where_ports_differ(dev: &Dev) -> anyhow::Result<()> {
    let node = dev.node();
    dev.lab.engine.run(&["--name=fixed", "-p", "9400:9400", "-e", "PORT=9400"], &["elasticsearch"])?;
    dev.lab.engine.run(
        &["--name=wants", "-p", "9500:9500", "-e", "PORT=9500", "--label=portolan.link=vip"],
        &["elasticsearch"],
    )?;
    let other = ["--name=other-port", "-p", "0:9200", "--label=portolan.link.port.80=9200"];
    dev.lab.engine.run(&other, &["elasticsearch"])?;
    let dynamic = ["--name=no-link", "-p", "0:9200", "--label=portolan.link=direct"];
    dev.lab.engine.run(&dynamic, &["elasticsearch"])?;
    for service in ["fixed", "no-link"] {
        let addresses =
            || node.dig(NODE_DNS, &format!("{service}.production.ecs.internal A")).map(|dug| dug.data("A")).ok();
        eventually_equal(PATIENCE, &Some(vec![node.address.to_string()]), addresses)
            .with_context(|| format!("{service} is direct"))?;
    }
    for (service, port) in [("wants", 9500), ("other-port", 80)] {
        let address = eventually(PATIENCE, || node.virtual_address(service)).with_context(|| service.to_owned())?;
        eventually(PATIENCE, || node.names_behind((address, port).into(), 1))
            .with_context(|| format!("the link of {service} on port {port}"))?;
    }
    Ok(())
}

/// NXDOMAIN with the SOA, whose last field is the negative TTL of 1 s (RFC 2308 section 3).
fn is_name_error(dug: &Dug) {
    assert_eq!(dug.status, "NXDOMAIN", "{}", dug.text);
    assert!(dug.answer.is_empty(), "{}", dug.text);
    has_soa(dug);
}

/// NOERROR without an answer, with the SOA.
fn is_no_data(dug: &Dug) {
    assert_eq!(dug.status, "NOERROR", "{}", dug.text);
    assert!(dug.answer.is_empty(), "{}", dug.text);
    has_soa(dug);
}

fn has_soa(dug: &Dug) {
    assert_eq!(dug.authority.len(), 1, "one SOA in the authority section: {}", dug.text);
    let fields: Vec<&str> = dug.authority[0].split(' ').collect();
    assert_eq!((fields.first(), fields.get(3)), (Some(&"ecs.internal."), Some(&"SOA")), "{}", dug.text);
    assert_eq!((fields.get(1), fields.last()), (Some(&"1"), Some(&"1")), "the negative TTL is 1 s: {}", dug.text);
}
