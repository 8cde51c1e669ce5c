//! Labels of a hostile or mistaken hand: each is refused with its reason where a person looks, and harms nobody else.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use anyhow::Context;

use portolan_tests::container::EcsTask;
use portolan_tests::site::{CLUSTER, REGISTRY_HTTP, Site};
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal};
use portolan_tests::{image, needs, parts, programs};

/// What is written, which field is named in the refusal, and whether the whole container is kept out.
struct Case {
    option: Vec<u8>,
    field: &'static str,
    keeps_out: bool,
}

fn cases() -> Vec<Case> {
    let container = |option: Vec<u8>, field| Case { option, field, keeps_out: true };
    let label = |option: &str, field| Case { option: option.as_bytes().to_vec(), field, keeps_out: false };
    let service = |value: &[u8]| container([b"--label=portolan.service=", value].concat(), "portolan.service");
    vec![
        service(&[b'x'; 65536]),
        service("größe\u{7}\u{1b}[2J\nname".as_bytes()),
        service(b"caf\xff\xfe"),
        service(b".."),
        service(b"\"><script>alert(1)</script>"),
        service(b"'; DROP TABLE services"),
        service(b"node"),
        container(format!("--env=SERVICE_NAME={}", "y".repeat(65536)).into_bytes(), "SERVICE_NAME"),
        label("--label=portolan.port.65536=http", "portolan.port.65536"),
        label("--label=portolan.port.-1=http", "portolan.port.-1"),
        label("--label=portolan.port.9200=\u{1b}]0;title\u{7}", "portolan.port.9200"),
        label("--label=portolan.weight=65536", "portolan.weight"),
        label("--label=portolan.check=<script>", "portolan.check"),
        label("--label=portolan.link.port.80=99999", "portolan.link.port.80"),
        label(&format!("--label=portolan.tags={}", "z".repeat(65536)), "portolan.tags"),
    ]
}

struct Scene {
    site: Site,
    /// The family of each case's container.
    families: Vec<String>,
}

impl Scene {
    fn start() -> anyhow::Result<Self> {
        let site = Site::start()?;
        let mut families = Vec::new();
        for (number, case) in cases().into_iter().enumerate() {
            let family = format!("case-{number}");
            let mut command = site.lab.engine.command();
            command.args(["run", "--detach"]).args(EcsTask::new(CLUSTER, &family).options()).args(["-p", "0:9200"]);
            command.arg(OsString::from_vec(case.option)).args([image::STANDIN, "elasticsearch"]);
            parts::run(&mut command).with_context(|| format!("start {family}"))?;
            families.push(family);
        }
        Ok(Scene { site, families })
    }

    /// What a program of ours prints on both streams, whatever its exit status.
    fn prints(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let mut command = self.site.node().command(&programs::path(program)?.to_string_lossy());
        let output = command.args(args).env("NO_COLOR", "1").output()?;
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).with_context(|| format!("{program} {args:?} prints broken UTF-8"))
    }
}

#[test]
fn hostile_labels_are_refused_with_their_reason_and_harm_nobody() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    let node = scene.site.node();
    let good = scene.site.lab.engine.run_elasticsearch(CLUSTER)?;
    let place = format!("{}:{}", node.address, good.port(9200)?);
    for server in [portolan_tests::site::REGISTRY_DNS, portolan_tests::site::NODE_DNS] {
        eventually_equal(PATIENCE, &Some(vec![place.clone()]), || {
            node.srv(server, "elasticsearch").ok().map(|places| places.into_iter().collect())
        })
        .with_context(|| format!("a good container beside hostile ones, at {server}"))?;
    }
    let address = eventually(PATIENCE, || node.virtual_address("elasticsearch"))?;
    assert!(node.names_behind((address, 9200).into(), 4)?.contains(good.host_name()));

    let socket = format!("--docker-socket={}", scene.site.lab.engine.socket().display());
    let inspected = scene.prints("portolan-sidecar", &["inspect", &socket])?;
    is_harmless("inspect", &inspected);
    is_harmless("the log", &scene.site.sidecar.log());
    for (case, family) in cases().iter().zip(&scene.families) {
        let count = node.usable(family).map_or(0, |places| places.len());
        if case.keeps_out {
            assert_eq!(count, 0, "{family} ({}) is kept out", case.field);
        } else {
            eventually_equal(PATIENCE, &1, || node.usable(family).map_or(0, |places| places.len()))
                .with_context(|| format!("{family} ({}) loses its label and nothing else", case.field))?;
        }
        assert!(inspected.contains(case.field), "inspect names {} of {family}:\n{inspected}", case.field);
        let log = scene.site.sidecar.log();
        let line = log.lines().find(|line| line.contains(case.field));
        let line = line.with_context(|| format!("the log names {} of {family}", case.field))?;
        assert!(line.contains("WARN") || line.contains("INFO"), "a person sees it: {line}");
        assert!(line.len() < 2048, "the log line of {family} is cut: {} bytes", line.len());
        let explained = scene.prints("portolan", &["explain", &format!("{family}.{CLUSTER}.ecs.internal")])?;
        is_harmless("explain", &explained);
        assert!(explained.contains(case.field), "explain {family} names {}:\n{explained}", case.field);
    }
    names_are_names(&scene)
}

/// Nothing that a terminal would obey.
fn is_harmless(what: &str, text: &str) {
    let harmful = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(harmful, None, "{what} holds a control character: {text:?}");
    let longest = text.lines().map(str::len).max().unwrap_or(0);
    assert!(longest < 4096, "{what} has a line of {longest} bytes");
}

/// Every name that the API lists could stand in DNS as it is.
fn names_are_names(scene: &Scene) -> anyhow::Result<()> {
    let listed = scene.site.node().fetch(REGISTRY_HTTP, "/api/services")?;
    is_harmless("the list of services", &listed.body.replace(",\"", ",\n\""));
    let listed = listed.json()?;
    let services = listed["services"].as_array().context("no services")?;
    assert!(services.len() > cases().iter().filter(|case| !case.keeps_out).count(), "{listed:#}");
    for name in services.iter().filter_map(|service| service["service"].as_str()) {
        let is_label = (1..=63).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !name.starts_with('-')
            && !name.ends_with('-');
        assert!(is_label, "{name:?} is no label");
    }
    Ok(())
}
