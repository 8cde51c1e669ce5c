//! Slips of the pen, and worse: each is refused with what is wrong with it, and nothing changes.

use anyhow::Context;
use serde_json::{Value, json};

use portolan_tests::command::Ran;
use portolan_tests::container::Container;
use portolan_tests::http::{self, Answer};
use portolan_tests::needs;
use portolan_tests::site::{CLUSTER, REGISTRY_HTTP, Site};
use portolan_tests::wait::{PATIENCE, eventually};

/// Everything that an operator's word could have changed.
fn state(site: &Site) -> anyhow::Result<Vec<Value>> {
    let paths = ["/api/drain", "/api/external", "/api/services", "/api/nodes", "/api/events"];
    let read = |path: &str| -> anyhow::Result<Value> {
        let mut answer = site.node().fetch(REGISTRY_HTTP, path)?.json()?;
        // How long ago a node was heard is another at each look.
        if let Some(nodes) = answer["nodes"].as_array_mut() {
            nodes.iter_mut().for_each(|node| *node = json!([node["node"], node["sidecar"]]));
        }
        Ok(answer)
    };
    paths.into_iter().map(read).collect()
}

/// The site, with a task and a declared service.
fn start() -> anyhow::Result<(Site, Container)> {
    let site = Site::start()?;
    let task = site.lab.engine.run_elasticsearch(CLUSTER)?;
    eventually(PATIENCE, || site.node().virtual_address("elasticsearch"))?;
    site.node().portolan(&["external", "set", "db.production", "10.77.0.200:5432"])?.done()?;
    let is_answered = || match site.node().registry_srv("db")? {
        found if found.len() == 1 => Ok(()),
        found => anyhow::bail!("{found:?}"),
    };
    eventually(PATIENCE, is_answered)?;
    Ok((site, task))
}

/// It says what is wrong, on standard error, in characters that do nothing to a terminal.
fn is_refused(ran: &Ran, what: &str) {
    assert!(matches!(ran.code, Some(1 | 2)), "{what}: {ran:?}");
    assert!(ran.error.starts_with("portolan: ") || ran.code == Some(2), "{what}: {ran:?}");
    let is_harmful =
        |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!ran.error.contains(is_harmful) && ran.error.len() < 2_000, "{what}: {ran:?}");
    assert!(!ran.error.contains("no such path"), "{what} is told of the API's paths: {ran:?}");
}

#[test]
fn absurd_ids_are_refused_and_change_nothing() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let (site, task) = start()?;
    let before = state(&site)?;
    let long = "f".repeat(70_000);
    let (short, unlike) = (&task.id[..11], format!("{}0", &task.id[..12]));
    let ids = [
        "",
        " ",
        ".",
        "..",
        "../../api/external",
        "a/b",
        "%2e%2e",
        "%00",
        "\u{1b}[2J",
        "\u{202e}gnp",
        "größe",
        "'; DROP TABLE nodes",
        "<script>",
        "*",
        "external",
        "external.production",
        "a.b.c.d",
        "a.nowhere",
        "i-0123456789abcdef0",
        "0123456789ab",
        "arn:aws:ecs:eu-central-1:123456789012:task/production/",
        "arn:aws:ecs:eu-central-1:123456789012:service/production/elasticsearch",
        "elasticsearch",
        &long,
        short,
        &unlike,
    ];
    for id in ids {
        let shown: String = id.chars().take(40).collect();
        for command in [
            &["drain", id, "--reason", "x"][..],
            &["drain", id, "--undo"],
            &["evict", id, "--reason", "x"],
            &["evict", id, "--undo"],
            &["external", "delete", id],
        ] {
            let ran = site.node().portolan(command)?;
            is_refused(&ran, &format!("{} {shown:?}", command[0]));
        }
    }
    for reason in ["", " \n\t"] {
        let ran = site.node().portolan(&["evict", &task.id, "--reason", reason])?;
        assert!(ran.error.contains("`reason`: say why"), "{ran:?}");
    }
    assert_eq!(state(&site)?, before);
    // A reason may be anything: it is made harmless where it is shown.
    site.node().portolan(&["drain", "a", "--reason", "\u{1b}]0;title\u{7}\u{202e}<b>"])?.done()?;
    for command in [&["drain"][..], &["explain", "elasticsearch"], &["-o", "json", "drain"]] {
        let shown = site.node().portolan(command)?.done()?;
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
        assert!(shown.contains("title"), "{shown:?}");
    }
    Ok(())
}

/// Addresses that nothing may lead to, and texts that are no host at all.
const HOSTS: [&str; 30] = [
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.53.53",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b::127.0.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "224.0.0.1",
    "255.255.255.255",
    "ff02::1",
    "198.18.0.1",
    "198.18.255.255",
    "64:ff9b::198.18.0.1",
    "2130706433",
    "0x7f000001",
    "127.0.0.0x1",
    "127.1",
    "localhost",
    "db.localhost.",
    "elasticsearch.production.ecs.internal",
];

#[test]
fn addresses_that_nothing_may_lead_to_are_refused_by_their_field() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let (site, _task) = start()?;
    let before = state(&site)?;
    for host in HOSTS {
        // The second of two, on a name that is free and on one that is declared already.
        for service in ["cache", "db"] {
            let body = json!({"endpoints": [{"host": "10.77.0.201", "port": 1}, {"host": host, "port": 80}]});
            let answer = put(&site, service, &body.to_string())?;
            let problem = answer.json()?;
            assert_eq!((answer.status, &problem["field"]), (400, &"endpoints[1].host".into()), "{host}: {problem}");
            assert!(!problem["detail"].as_str().unwrap_or_default().is_empty(), "{host}");
        }
        let place = if host.contains(':') { format!("[{host}]:80") } else { format!("{host}:80") };
        let ran = site.node().portolan(&["external", "set", "cache.production", &place])?;
        is_refused(&ran, host);
        assert!(ran.error.contains("endpoints[0].host"), "{host}: {ran:?}");
    }
    assert_eq!(state(&site)?, before);
    Ok(())
}

#[test]
fn declarations_that_cannot_be_meant_are_refused_by_their_field() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let (site, _task) = start()?;
    let before = state(&site)?;
    let one = |more: Value| {
        let mut endpoint = json!({"host": "10.77.0.201", "port": 1});
        endpoint.as_object_mut().into_iter().for_each(|map| map.extend(more.as_object().cloned().unwrap_or_default()));
        json!({ "endpoints": [endpoint] })
    };
    let with = |field: &str, value: Value| {
        let mut body = one(json!({}));
        body[field] = value;
        body
    };
    let many = json!({"endpoints": (0..101).map(|port| json!({"host": "h", "port": port + 1})).collect::<Vec<_>>()});
    let rows = [
        (json!({}), "endpoints"),
        (json!({"endpoints": []}), "endpoints"),
        (json!({"endpoints": {"host": "h"}}), "endpoints"),
        (many, "endpoints"),
        (json!({"endpoints": [{"host": "h", "port": 1}, {"host": "H.", "port": 1}]}), "endpoints[1]"),
        (json!({"endpoints": ["10.77.0.201:1"]}), "endpoints[0]"),
        (one(json!({"host": 7})), "endpoints[0].host"),
        (one(json!({"port": 0})), "endpoints[0].port"),
        (one(json!({"port": 65536})), "endpoints[0].port"),
        (one(json!({"port": -1})), "endpoints[0].port"),
        (one(json!({"port": "80"})), "endpoints[0].port"),
        (one(json!({"port": 1e300})), "endpoints[0].port"),
        (one(json!({"protocol": "sctp"})), "endpoints[0].protocol"),
        (one(json!({"weight": 65536})), "endpoints[0].weight"),
        (one(json!({"port_name": "a b"})), "endpoints[0].port_name"),
        (one(json!({"az": "x".repeat(70_000)})), "endpoints[0].az"),
        (one(json!({"prot": 1})), "endpoints[0].prot"),
        (with("check", json!({"tcp": false})), "check.tcp"),
        (with("check", json!({"http": "/"})), "check.tcp"),
        (with("check", json!({"tcp": true, "interval": "1ms"})), "check.interval"),
        (with("check", json!({"tcp": true, "interval": "99999999999999999999s"})), "check.interval"),
        (with("tags", json!(["a\u{1b}[2J"])), "tags[0]"),
        (with("meta", json!({"k": 7})), "meta.k"),
        (with("since", json!("2020-01-01T00:00:00Z")), "since"),
    ];
    for (body, field) in rows {
        for service in ["cache", "db"] {
            let answer = put(&site, service, &body.to_string())?;
            let problem = answer.json()?;
            let shown: String = body.to_string().chars().take(100).collect();
            assert_eq!((answer.status, &problem["field"]), (400, &field.into()), "{shown}: {problem}");
        }
    }
    names_that_no_service_has(&site, &one(json!({})).to_string())?;
    let too_long = format!("{{\"endpoints\": [{}]}}", " ".repeat(2 << 20));
    // It may hang up before it has read all of that.
    if let Ok(answer) = put(&site, "cache", &too_long) {
        assert_eq!(answer.status, 413, "{}", answer.body);
    }
    let deep = format!("{{\"endpoints\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(put(&site, "cache", &deep)?.json()?["field"], "body");
    assert_eq!(state(&site)?, before);
    Ok(())
}

fn names_that_no_service_has(site: &Site, good: &str) -> anyhow::Result<()> {
    for (path, field) in [
        ("production/node", "service"),
        ("production/direct%20", "service"),
        ("production/%00", "service"),
        ("production/_", "service"),
        ("addr/db", "cluster"),
        ("pro.duction/db", "cluster"),
        (&format!("production/{}", "x".repeat(64)), "service"),
    ] {
        let answer = put_at(site, &format!("/api/external/{path}"), good)?;
        let problem = answer.json()?;
        assert_eq!((answer.status, &problem["field"]), (400, &field.into()), "{path}: {problem}");
    }
    Ok(())
}

fn put(site: &Site, service: &str, body: &str) -> anyhow::Result<Answer> {
    put_at(site, &format!("/api/external/{CLUSTER}/{service}"), body)
}

fn put_at(site: &Site, path: &str, body: &str) -> anyhow::Result<Answer> {
    let headers = ["Content-Type: application/json"];
    let answer = site.node().inside(|| http::request(REGISTRY_HTTP, &format!("PUT {path}"), &headers, body))?;
    answer.with_context(|| format!("PUT {path}"))
}
