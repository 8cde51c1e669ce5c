//! Plane `ebpf` from the label to the connection: no byte passes through the sidecar, and nothing else changes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use serde_json::Value;

use portolan_tests::asking::{Asking, Scale};
use portolan_tests::cgroup::KernelPath;
use portolan_tests::container::{Container, EcsTask};
use portolan_tests::dockerd::Engine;
use portolan_tests::lab::Lab;
use portolan_tests::namespace::Namespace;
use portolan_tests::programs::{self, Program};
use portolan_tests::site::{ADMIN, CLUSTER, REGISTRY_GRPC, Site, start_sidecar};
use portolan_tests::surfaces::name_behind;
use portolan_tests::wait::{PATIENCE, eventually};
use portolan_tests::wire::Wire;
use portolan_tests::{needs, report};

const REPLACEMENTS: usize = 20;

/// The tasks run on the first node, the clients on the second. What ends first stands first.
struct Scene {
    sidecar: Program,
    _wire: Wire,
    site: Site,
    engine: Arc<Engine>,
    node: Arc<Namespace>,
    own: KernelPath,
    _own_of_a: KernelPath,
}

impl Scene {
    fn start() -> anyhow::Result<Self> {
        let (own, own_of_a) = (KernelPath::new()?, KernelPath::new()?);
        let args = own_of_a.args();
        let site = Site::start_in(Lab::start()?, &args.each_ref().map(String::as_str))?;
        let node = site.lab.another_node()?;
        let engine = Engine::start(&node)?;
        let wire = Wire::lay(&node, site.node(), REGISTRY_GRPC)?;
        let args = own.args();
        let mut sidecar = start_sidecar(&node, &engine.socket(), &["--node=b", &args[0], &args[1]])?;
        sidecar.listening("node-dns")?;
        Ok(Scene { sidecar, _wire: wire, site, engine, node, own, _own_of_a: own_of_a })
    }

    /// A task of a service whose label asks for the kernel path, or not.
    fn task(&self, service: &str, plane: &[&str]) -> anyhow::Result<Container> {
        let options = [&["-p", "0:9200"], plane].concat();
        self.site.lab.engine.run_task(&EcsTask::new(CLUSTER, service), &options, &["elasticsearch"])
    }

    fn link(&self, service: &str) -> anyhow::Result<SocketAddr> {
        let address = eventually(PATIENCE, || self.node.virtual_address(service))?;
        Ok(SocketAddr::from((address, 9200)))
    }

    /// Who answers over so many connections that the kernel may lead.
    fn names(&self, link: SocketAddr, times: u32) -> anyhow::Result<BTreeSet<String>> {
        self.node.inside(|| {
            self.own.cgroup.take_this_thread()?;
            (0..times).map(|_| name_behind(link)).collect()
        })?
    }

    /// What the sidecar of the second node says of the service's link.
    fn shown(&self, service: &str) -> anyhow::Result<Value> {
        let links = self.node.fetch(ADMIN, "/api/links")?.json()?;
        let found = links.as_array().into_iter().flatten().find(|link| link["service"] == service);
        found.cloned().with_context(|| format!("no link of {service} in {links}"))
    }

    fn is_led_to(&self, service: &str, endpoints: usize) -> anyhow::Result<()> {
        eventually(PATIENCE, || match self.shown(service) {
            Ok(link) if link["led_endpoints"] == endpoints => Ok(()),
            other => Err(other),
        })
        .with_context(|| format!("the kernel leads {service} to {endpoints} endpoints"))
    }
}

const EBPF: [&str; 2] = ["--label", "portolan.link.plane=ebpf"];

#[test]
fn a_label_takes_a_service_past_the_relay() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig", "clang");
    let mut scene = Scene::start()?;
    let led = scene.task("led", &EBPF)?;
    let carried = scene.task("carried", &[])?;
    let (link, other) = (scene.link("led")?, scene.link("carried")?);
    // The first connection makes the sidecar follow the service.
    eventually(PATIENCE, || scene.names(link, 1))?;
    eventually(PATIENCE, || scene.names(other, 1))?;
    scene.is_led_to("led", 1)?;
    let before = scene.shown("led")?;
    assert_eq!(scene.names(link, 10)?, BTreeSet::from([led.host_name().to_owned()]));
    let container = scene.engine.run(&[], &["wait"])?;
    let name = container.inside(|| {
        scene.own.cgroup.take_this_thread()?;
        name_behind(link)
    })??;
    assert_eq!(name, led.host_name(), "from a container");
    let after = scene.shown("led")?;
    assert_eq!((&after["plane"], &after["plane_reason"]), (&"ebpf".into(), &Value::Null), "{after}");
    assert_eq!((&after["total"], &after["bytes"]), (&before["total"], &before["bytes"]), "nothing is relayed");
    assert_eq!(after["led_total"].as_u64(), before["led_total"].as_u64().map(|total| total + 11), "{after}");
    assert_eq!(scene.names(other, 1)?, BTreeSet::from([carried.host_name().to_owned()]));
    let other = scene.shown("carried")?;
    assert_eq!((&other["plane"], &other["led_total"]), (&"proxy".into(), &0.into()), "{other}");
    // On the node of the endpoint itself the relay goes there.
    eventually(PATIENCE, || scene.site.node().names_behind(link, 1))?;

    scene.sidecar.kill()?;
    assert_eq!(scene.names(link, 10)?, BTreeSet::from([led.host_name().to_owned()]), "while nobody is there");
    scene.sidecar.start_again()?;
    eventually(PATIENCE, || scene.shown("led"))?;
    scene.is_led_to("led", 1)?;
    assert_eq!(scene.names(link, 10)?, BTreeSet::from([led.host_name().to_owned()]));
    assert_eq!(scene.shown("led")?["total"], 0, "the new one relayed nothing either");

    scene.sidecar.kill()?;
    let cleanup = ["--cleanup", &scene.own.args()[1]];
    scene.node.run(&programs::path("portolan-sidecar")?.to_string_lossy(), &cleanup)?;
    assert!(!scene.own.pins().exists(), "pins are left");
    // Without rules or programs the address is nobody's.
    assert!(scene.names(link, 1).is_err());
    Ok(())
}

#[test]
fn replacements_of_a_led_service_are_not_noticed() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig", "clang");
    let scene = Scene::start()?;
    let mut old = scene.task("led", &EBPF)?;
    let link = scene.link("led")?;
    eventually(PATIENCE, || scene.names(link, 1))?;
    scene.is_led_to("led", 1)?;
    let relayed = scene.shown("led")?["total"].clone();
    let scale = Scale::from_environment(REPLACEMENTS)?;
    let asking = Asking::new(link, scale);
    let led = |ask: fn(&Asking) -> anyhow::Result<()>| -> anyhow::Result<()> {
        scene.node.inside(|| {
            scene.own.cgroup.take_this_thread()?;
            ask(&asking)
        })?
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let ending = asking.ending();
        let clients = [Asking::anew, Asking::again].map(|ask| scope.spawn(move || led(ask)));
        let replaced = (0..scale.replacements).try_for_each(|number| {
            asking.reached(scale.requests_before(number)).with_context(|| format!("before replacement {number}"))?;
            let new = scene.task("led", &EBPF)?;
            scene.is_led_to("led", 2).with_context(|| format!("replacement {number}"))?;
            std::mem::replace(&mut old, new).remove_after_stop()?;
            scene.is_led_to("led", 1)
        });
        drop(ending);
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        replaced
    })?;
    let (answers, cut) = (asking.answers(), asking.cut());
    report::say(&format!(
        "{} replacements, {answers} requests led by the kernel, none failed; {cut} times a task was killed under a kept \
         connection",
        scale.replacements
    ));
    assert!(cut <= scale.replacements as u64, "{cut} requests were cut by {} replacements", scale.replacements);
    let shown = scene.shown("led")?;
    assert_eq!(shown["total"], relayed, "{shown}");
    Ok(())
}
